"""debbugs tells what it made of commands to control@: `Processed: ...`, the transcript."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from mailbridge import debbugs
from mailbridge.errors import MalformedMail
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail, person, strip_list_prefixes
from mailbridge.payloads import Clip, Event, Payload
from mailbridge.transcripts import FAILED, VERBS, clauses

BUGS: Final = 100
CHANGES: Final = 50
"""How many are named in an event; their totals tell the rest.  One real mail touched 484."""
NUMBERS: Final = 500
"""How many a line may name."""
LINES: Final = 20_000
LINE: Final = 4_000
"""More than that nobody honest sends; what is beyond is cut off."""
MOST: Final = 100_000
"""As many times a result is taken for a bug; each may be about all bugs of a long row."""


class BugChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one command for one bug."""

    bug: int
    action: str
    """severity, title, tags-added, tags-removed, found-added, closed, reopened, merged, ..."""
    ok: bool
    """False: debbugs could not do it."""
    old: str | None = None
    new: str | None = None


class BugsChanged(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody sent commands that changed bugs."""

    NAME = "bugs-changed"
    DEFAULT = "on"

    tracker: str
    title: str
    """Subject of the mail with the commands."""
    package: list[str]
    source: list[str]
    """Source packages.  (The configured source's name is `mail_source` in these events.)"""
    commands: int
    errors: int
    bugs: list[int]
    bugs_total: int
    changes: list[BugChange]
    changes_total: int
    actor_name: str | None = None
    actor_email: str | None = None


FAMILY: Final = Family.DEBBUGS
PAYLOADS: Final = (BugsChanged,)
ATTESTED: Final = "real mails"

_SUBJECT: Final = re.compile(
    r"Processed(?: \(with (?P<errors>[0-9]{1,6}) errors?\))?: ?(?P<title>.*)", re.IGNORECASE
)


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | None:
    """Return what changed, or None.  A transcript has no bug's number in its header."""
    notice = debbugs.notice(mail)
    if notice is None or notice.kind != "transcript":
        return None
    clip = Clip()
    own = _OWN_ID.match(mail.message_id)
    read = _read(mail.ended_lines, own["bug"] if own else None)
    clip.truncated = read.is_cut
    subject = strip_list_prefixes(mail.subject)
    told = _SUBJECT.fullmatch(subject)
    # Debbugs answers whoever sent the commands.
    who = person(mail.header("To") or "")
    name = clip.word(who.name) if who.name else None
    done = clip.items(read.changes, CHANGES)
    bugs = clip.items(read.bugs, BUGS)
    title = clip.line(told["title"] if told else subject)
    payload = BugsChanged(
        tracker=debbugs.TRACKER,
        title=title,
        package=clip.words(debbugs.packages(mail, notice)),
        source=clip.words(debbugs.sources(mail, notice)),
        commands=read.commands,
        errors=int(told["errors"] or 0) if told else 0,
        bugs=bugs,
        bugs_total=len(read.bugs),
        changes=[_shown(change, site, clip) for change in done],
        changes_total=len(read.changes),
        actor_name=name,
        actor_email=who.address if site.addresses else None,
        truncated=clip.truncated,
    )
    identity = {
        "tracker": debbugs.TRACKER,
        "title": title,
        "bugs": sorted(bugs),
        "changes": [[c.bug, c.action, c.ok, clip.line(c.old), clip.line(c.new)] for c in done],
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=identity, author=name)]


# Who these name writes mail, and their addresses stay at home.
_PERSONAL: Final = frozenset(("owner", "submitter", "forwarded", "unforwarded"))


class _Change(NamedTuple):
    bug: int
    action: str
    ok: bool = True
    old: str = ""
    new: str = ""


def _shown(change: _Change, site: Site, clip: Clip) -> BugChange:
    def text(value: str) -> str | None:
        if change.action in _PERSONAL:
            value = debbugs.somebody(value, addresses=site.addresses) or ""
        return clip.line(value) or None

    return BugChange(
        bug=change.bug,
        action=change.action,
        ok=change.ok,
        old=text(change.old),
        new=text(change.new),
    )


# -- reading ---------------------------------------------------------------------------------------

_BEGIN: Final = re.compile(r"Processing (?:control )?commands\b.*:")
_END: Final = re.compile(
    r"(?:End of message, s|S)topping processing here\.|-- ?|Please contact me.*"
)
_CONTEXT: Final = re.compile(r"Bug ?#(?P<bug>[0-9]{1,9})(?:: | [{\[])", re.IGNORECASE)
_STOP: Final = re.compile(r"(?i)(?:stop|quit|thank(?:s| you)?|kthxbye)[.!\s]*|--.*")
_OF_BUG: Final = re.compile(
    r"(?P<verb>[a-z]+)\s+#?(?P<bug>-[1-9][0-9]{0,3}|[1-9][0-9]{0,8})\b", re.IGNORECASE
)
# `-1` is the bug that somebody wrote to, and afterwards, as all below it, what a clone made of one.
_BESIDE: Final = re.compile(r"(?<!\S)-[1-9][0-9]{0,3}(?!\S)")
_OWN_ID: Final = re.compile(r"handler\.s\.[A-Z](?P<bug>[1-9][0-9]{0,8})\.")
_ALONE: Final = re.compile(r"[0-9]{1,9}")

_LIST: Final = re.compile(r",? and |, ")
_RANGE: Final = re.compile(r"(?P<first>[0-9]{1,9})-(?P<last>[0-9]{1,9})")


class _Read:
    """What is read of a transcript so far."""

    def __init__(self, own: str | None) -> None:
        self.commands = 0
        self.changes: list[_Change] = []
        self._bugs: dict[int, None] = {}
        self._beside: dict[str, int] = {"-1": int(own)} if own else {}
        self._command = ""
        self._of_command: set[_Change] = set()
        self._taken = 0
        self.is_cut = False

    @property
    def bugs(self) -> list[int]:
        return list(self._bugs)

    def begin(self, command: str) -> None:
        """Another command begins."""
        self._command = command
        self._of_command.clear()

    @property
    def own(self) -> list[int]:
        """The bug that the command names."""
        found = _OF_BUG.match(self._command)
        if found and found["bug"].startswith("-"):
            return [self._beside[found["bug"]]] if found["bug"] in self._beside else []
        return [int(found["bug"])] if found else []

    @property
    def is_merging(self) -> bool:
        """Whether the command merges bugs: debbugs names each again before it changes that one."""
        found = _OF_BUG.match(self._command)
        return found is not None and found["verb"].lower() in ("merge", "forcemerge")

    def name(self, bug: int) -> None:
        """Debbugs names a bug that the command is about."""
        found = _OF_BUG.match(self._command)
        if found and found["bug"].startswith("-"):
            self._beside.setdefault(found["bug"], bug)
        self.touch(bug)

    @property
    def is_full(self) -> bool:
        return self._taken >= MOST

    def add(self, change: _Change) -> None:
        self._taken += 1
        self.is_cut |= self.is_full
        # What debbugs does to merged bugs it tells once for each of them, below all their names.
        if self.is_full or change in self._of_command:
            return
        self._of_command.add(change)
        self.changes.append(change)
        self.touch(change.bug)
        if change.action in ("merged", "cloned"):
            for bug in islice(_numbers(change.new), NUMBERS):
                self.touch(bug)
        if change.action == "cloned":
            names = _BESIDE.findall(self._command.partition(" ")[2].lstrip().partition(" ")[2])
            self._beside |= zip(names, _numbers(change.new), strict=False)

    def touch(self, bug: int) -> None:
        self._bugs.setdefault(bug)


def _read(text: str, own: str | None) -> _Read:
    read = _Read(own)
    lines = text.split("\n", LINES)
    read.is_cut = len(lines) > LINES
    begin = _begin(lines)
    command = ""
    group: dict[int, None] = {}
    is_open = failed = False
    for long in lines[begin + 1 : LINES]:
        line = long[:LINE].strip()
        if read.is_full:
            break
        if long.startswith(">"):
            # The echo of what somebody wrote: a command, or anything that looks like a result.
            command = line[1:].strip()
            read.commands += _is_command(long[1:])
            group, is_open, failed = {}, False, False
            read.begin(command)
        elif _END.fullmatch(line):
            break
        elif context := _CONTEXT.match(line):
            # Bugs in a row share what follows: they are merged.
            group = group if is_open and not read.is_merging else {}
            group[int(context["bug"])] = None
            is_open = True
            read.name(int(context["bug"]))
        elif line:
            is_open = False
            for change in _changes(line, command, group or read.own):
                read.add(change)
            if not failed and FAILED.fullmatch(line):
                failed = True
                for change in _failures(
                    command, read.own if read.is_merging else group or read.own
                ):
                    read.add(change)
    return read


def _begin(lines: Sequence[str]) -> int:
    for number, line in enumerate(lines):
        if _BEGIN.fullmatch(line.strip()):
            return number
    raise MalformedMail("a transcript that does not say of which commands")


def _is_command(echo: str) -> bool:
    text = echo.strip()
    # (What stands indented belongs to a usercategory.)
    is_own = not echo.startswith("  ") and not text.startswith(("#", "*"))
    return bool(text) and is_own and not _STOP.fullmatch(text)


def _changes(line: str, command: str, bugs: Collection[int]) -> Iterator[_Change]:
    for action, fields in clauses(line.removesuffix("."), command):
        named = fields.get("bug")
        for bug in [int(named)] if named else bugs:
            old, new = fields.get("old", ""), fields.get("new", "")
            yield _Change(bug, action, old=_plain(action, old), new=_plain(action, new))


def _failures(command: str, bugs: Collection[int]) -> Iterator[_Change]:
    action = VERBS.get((command.split() or [""])[0].lower())
    if action:
        for bug in bugs:
            yield _Change(bug, action, ok=False)


_LISTS: Final = ("tags-", "found-", "fixed-", "blocked-by-", "affects-", "cloned", "merged")


def _plain(action: str, value: str) -> str:
    """Return an English list as a plain one: `a, b, and c` as `a, b, c`."""
    if action.startswith("merged"):
        return ", ".join(value.split())
    return ", ".join(_LIST.split(value)) if action.startswith(_LISTS) else value


def _numbers(text: str) -> Iterator[int]:
    """Yield the bugs in `5, 7-9`."""
    for word in text.split(", "):
        if found := _RANGE.fullmatch(word):
            first, last = int(found["first"]), int(found["last"])
            # No clone makes more; a stranger's range could be long.
            yield from range(first, min(last, first + BUGS) + 1)
        elif _ALONE.fullmatch(word):
            yield int(word)
