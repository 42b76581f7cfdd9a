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
    read = _read(mail.ended_lines)
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
_OF_BUG: Final = re.compile(r"[a-z]+\s+#?(?P<bug>[1-9][0-9]{0,8})\b", re.IGNORECASE)
_ALONE: Final = re.compile(r"[0-9]{1,9}")

# What a command is about, to name what could not be done.
_VERBS: Final = {
    verb: action
    for action, verbs in {
        "affects": "affects",
        "archived": "archive",
        "blocked-by-added": "block",
        "blocked-by-removed": "unblock",
        "cloned": "clone",
        "closed": "close",
        "fixed-added": "fixed",
        "fixed-removed": "notfixed",
        "forwarded": "forwarded",
        "found-added": "found",
        "found-removed": "notfound",
        "merged": "merge forcemerge",
        "outlook": "outlook",
        "owner": "owner noowner",
        "reassigned": "reassign",
        "reopened": "reopen",
        "severity": "severity priority",
        "submitter": "submitter",
        "summary": "summary",
        "tags": "tag tags",
        "title": "retitle",
        "unarchived": "unarchive",
        "unforwarded": "notforwarded",
        "unmerged": "unmerge",
        "usertags": "usertag usertags",
    }.items()
    for verb in verbs.split()
}

# Since 2009 one verb for many: two such changes stand in one line, joined by "; ".
_CLAUSES: Final = tuple(
    (action, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for action, pattern in (
        ("tags-added", r"added tag\(s\) (?P<new>.+)|tags added: (?P<new2>.+)"),
        ("tags-removed", r"removed tag\(s\) (?P<old>.+)|tags removed: (?P<old2>.+)"),
        ("tags-set", r"tags set to: (?P<new>.*)"),
        ("found-added", r"(?:bug )?marked as found in versions? (?P<new>.+)"),
        ("found-removed", r"(?:bug )?no longer marked as found in versions? (?P<old>.+)"),
        ("fixed-added", r"(?:bug )?marked as fixed in versions? (?P<new>.+?)(?:, send any .*)?"),
        ("fixed-removed", r"(?:bug )?no longer marked as fixed in versions? (?P<old>.+)"),
        ("blocked-by-added", r"added blocking bug\(s\) of (?P<bug>\d{1,9}): (?P<new>.+)"),
        ("blocked-by-added", r"blocking bugs of (?P<bug>\d{1,9}) added: (?P<new>.+)"),
        ("blocked-by-removed", r"removed blocking bug\(s\) of (?P<bug>\d{1,9}): (?P<old>.+)"),
        ("blocked-by-removed", r"blocking bugs of (?P<bug>\d{1,9}) removed: (?P<old>.+)"),
        ("affects-added", r"added indication that (?P<bug>\d{1,9}) affects (?P<new>.+)"),
        ("affects-removed", r"removed indication that (?P<bug>\d{1,9}) affects (?P<old>.+)"),
        ("severity", r"severity set to [`'](?P<new>[^']*)'(?: from [`'](?P<old>[^']*)')?"),
        ("reassigned", r"bug reassigned from package [`'](?P<old>[^']*)' to [`'](?P<new>[^']*)'"),
        ("reassigned", r"bug assigned to package [`'](?P<new>[^']*)'"),
        ("closed", r"marked bug as done|bug closed, send any further explanations to .*"),
        ("reopened", r"bug reopened(?:,.*)?|did not alter (?:found|fixed) versions and reopened"),
        ("unmerged", r"disconnected #(?P<bug>\d{1,9}) from all other report\(s\)"),
        ("cloned", r"bug (?P<bug>\d{1,9}) cloned as bugs? (?P<new>[0-9, and-]+)"),
        ("merged", r"(?:forcibly )?merged (?P<bug>\d{1,9}) (?P<new>[0-9 ]+)"),
        ("forwarded", r"set bug forwarded-to-address to '(?P<new>.*)'"),
        ("forwarded", r"noted your statement that bug has been forwarded to (?P<new>.*)"),
        ("unforwarded", r"unset bug forwarded-to-address"),
        ("owner", r"owner recorded as (?P<new>.*)|owner changed from (?P<old>.*?) to (?P<new2>.*)"),
        ("owner", r"removed annotation that bug was owned by (?P<old>.*)"),
        ("submitter", r"set bug submitter to '(?P<new>.*)'"),
        ("submitter", r"changed bug submitter from (?P<old>.*?) to (?P<new>.*)"),
        ("title", r"set bug title to [`'](?P<new>.*)'"),
        ("summary", r"summary (?:recorded|replaced) .*|removed summary"),
        ("outlook", r"outlook (?:recorded|replaced) .*|removed outlook"),
        ("archived", r"archived (?P<bug>\d{1,9}) to archive/.*"),
        ("unarchived", r"unarchived bug (?P<bug>\d{1,9})"),
        ("usertags", r"usertags are now: (?P<new>.*)|there are now no usertags set"),
    )
)
_FAILED: Final = re.compile(
    r"(?:failed to .*|unable to merge bugs because:|unknown tags?(?:/s|\(s\)|s)?: .*"
    r"|bug (?:number )?\d{1,9} (?:not found|cannot be archived|does not exist).*"
    r"|\d{1,9} has not been archived previously.*|not altering archived bugs.*"
    r"|unable to alter .*)",
    re.IGNORECASE,
)
_CHANGED: Final = re.compile(
    r"changed bug (?P<what>title|submitter|forwarded-to-address) to [`']", re.IGNORECASE
)
_JOINED: Final = re.compile(r"(?i)added |removed |marked as |no longer ")
_LIST: Final = re.compile(r",? and |, ")
_RANGE: Final = re.compile(r"(?P<first>[0-9]{1,9})-(?P<last>[0-9]{1,9})")


class _Read:
    """What is read of a transcript so far."""

    def __init__(self) -> None:
        self.commands = 0
        self.changes: list[_Change] = []
        self._bugs: dict[int, None] = {}
        self._of_command: set[_Change] = set()
        self._taken = 0
        self.is_cut = False

    @property
    def bugs(self) -> list[int]:
        return list(self._bugs)

    def begin(self) -> None:
        """Another command begins."""
        self._of_command.clear()

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

    def touch(self, bug: int) -> None:
        self._bugs.setdefault(bug)


def _read(text: str) -> _Read:
    read = _Read()
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
            read.begin()
        elif _END.fullmatch(line):
            break
        elif context := _CONTEXT.match(line):
            # Bugs in a row share what follows: they are merged.
            group = group if is_open else {}
            group[int(context["bug"])] = None
            is_open = True
            read.touch(int(context["bug"]))
        elif line:
            is_open = False
            for change in _changes(line, command, group):
                read.add(change)
            if not failed and _FAILED.fullmatch(line):
                failed = True
                for change in _failures(command, group):
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


def _changes(line: str, command: str, group: Collection[int]) -> Iterator[_Change]:
    for action, fields in _clauses(line.removesuffix("."), command):
        named = fields.get("bug")
        for bug in [int(named)] if named else group or _of_command(command):
            old, new = fields.get("old", ""), fields.get("new", "")
            yield _Change(bug, action, old=_plain(action, old), new=_plain(action, new))


def _clauses(line: str, command: str) -> Iterator[tuple[str, dict[str, str]]]:
    if changed := _CHANGED.match(line):
        what = changed["what"].lower().replace("forwarded-to-address", "forwarded")
        new, old = _to_from(line[changed.end() :].removesuffix("'"), command)
        yield what, {"new": new, "old": old}
        return
    reopened = False
    for clause in line.split("; ") if _JOINED.match(line) else [line]:
        text = clause
        if _JOINED.match(text) and text.endswith(" and reopened"):
            text, reopened = text.removesuffix(" and reopened"), True
        for action, pattern in _CLAUSES:
            if found := pattern.fullmatch(text):
                told = found.groupdict("")
                yield action, {key: told.get(key) or told.get(f"{key}2", "") for key in _KEYS}
                break
    if reopened:
        yield "reopened", {}


_KEYS: Final = ("bug", "old", "new")


def _to_from(text: str, command: str) -> tuple[str, str]:
    """
    Return new and old of `new' from 'old`.

    Both may hold `' from '` themselves.  The command tells what the new one is; else the last one
    counts, since what a person types now is likelier to be odd than what was there.
    """
    wanted = command.split(None, 2)[2:]
    for quote in ("' from '", "' from `"):
        if wanted and text.startswith(wanted[0] + quote):
            return wanted[0], text[len(wanted[0]) + len(quote) :]
    for quote in ("' from '", "' from `"):
        new, found, old = text.rpartition(quote)
        if found:
            return new, old
    return text, ""


def _failures(command: str, group: Collection[int]) -> Iterator[_Change]:
    action = _VERBS.get((command.split() or [""])[0].lower())
    if action:
        for bug in group or _of_command(command):
            yield _Change(bug, action, ok=False)


def _of_command(command: str) -> list[int]:
    found = _OF_BUG.match(command)
    return [int(found["bug"])] if found else []


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
