"""Launchpad tells of a bug: reported, commented on, changed.  Private ones never leave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail, person
from mailbridge.payloads import (
    BugChanged,
    BugCommented,
    BugReported,
    Change,
    Clip,
    Event,
    Task,
)

FAMILY = Family.LAUNCHPAD
PAYLOADS = (BugReported, BugCommented, BugChanged)
ATTESTED = "real mails"

TRACKER: Final = "launchpad"
PRIVATE: Final = NoEvent("private", "a bug that is private, or does not say that it is public")
MAX_CHANGES: Final = 50
MAX_LINE: Final = 2_000
WORDS: Final = 160
"""What of a line that somebody else wrote is shown as a change."""

# (Of a comment that came by mail Launchpad keeps the subject, with all that stands before.)
_SUBJECT: Final = re.compile(
    r"(?:(?:\[[^\]]*\]|[A-Za-z]{2,4}:) ){0,8}?\[Bug (?P<bug>\d{1,9})\] ?(?P<new>\[NEW\] ?)?"
    r"(?:(?i:re): ?){0,5}(?P<title>.*)"
)
# What Launchpad says of such bugs above all else.
_BANNER: Final = re.compile(
    r"\s*\*\*\* This bug is a (?:duplicate of bug \d{1,9}|security vulnerability) \*\*\*\n"
    r"(?:[ \t]+https?://\S+\n)?"
)
_REPORTED: Final = ("Public bug reported:", "Public security bug reported:")
_MODIFIER: Final = re.compile(r"(.*) \([a-z0-9.+-]+\)")
_WAS: Final = re.compile(r"(?s) {0,20}([A-Z][A-Za-z ]{1,30}): (.*) => (.*)")
_KNOWN: Final = (
    ("changed", re.compile(r"Changed in: (.+)")),
    ("also-affects", re.compile(r"Also affects: (.+?)(?: via(?: .*)?)?$")),
    ("no-longer-affects", re.compile(r"No longer affects: (.+)")),
    ("tags-added", re.compile(r"Tags added: (.+)")),
    ("tags-removed", re.compile(r"Tags removed: (.+)")),
    ("title", re.compile(r"Summary changed:")),
    ("description", re.compile(r"Description changed:")),
    ("information-type", re.compile(r"Information type changed from (?P<old>.+) to (.+)")),
    ("attachment", re.compile(r'(?:Attachment|Patch) added: "(.*?)"?$')),
    ("duplicate-of", re.compile(r"This bug has been marked a duplicate of bug (\d+)")),
    ("no-duplicate", re.compile(r"This bug is no longer a duplicate of bug (\d+)")),
    ("other", re.compile(r"(.+)")),
)


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return what happened to the bug: one event, or two where a comment came with changes."""
    kind = mail.header("X-Launchpad-Notification-Type")
    if kind != "bug" and not (kind is None and mail.header("X-Launchpad-Bug") is not None):
        return None
    if not _is_public(mail):
        return PRIVATE
    subject = _SUBJECT.fullmatch(mail.subject)
    if subject is None:
        raise MalformedMail(f"a bug with the subject {mail.subject[:80]!r}")
    above, footer, _ = mail.ended_lines.rpartition("\n-- \n")
    # (What its footer follows is whole, and so is what an empty line does.)
    body = f"{above}\n\n" if footer else mail.ended_lines
    while banner := _BANNER.match(body):
        body = body[banner.end() :]
    is_new = bool(subject["new"]) or body.lstrip().startswith(_REPORTED)
    clip = Clip()
    told = _told(mail, int(subject["bug"]), subject["title"], clip, site)
    known = {
        "tracker": TRACKER,
        "bug": told["bug"],
        "title": told["title"],
        "packages": sorted(told["package"]),
        "message_id": mail.message_id,
    }
    if is_new:
        payload = BugReported(reportbug=False, **told, truncated=clip.truncated)
        return [Event(payload=payload, identity=known, author=told["actor_name"])]
    comment, _, _ = f"\n{body}".partition("\n** ")
    events = []
    if changes := _changes(body, told["tasks"] or [], clip, site):
        changed = BugChanged(changes=changes, **told, truncated=clip.truncated)
        identity = known | {
            "changes": [[c.action, c.target or "", c.old or "", c.new or ""] for c in changes]
        }
        events.append(Event(payload=changed, identity=identity, author=told["actor_name"]))
    if comment.strip():
        commented = BugCommented(**told, truncated=clip.truncated)
        events.append(Event(payload=commented, identity=known, author=told["actor_name"]))
    if not events:
        raise MalformedMail("a bug with neither a change nor a comment that we can read")
    return events


def _is_public(mail: Mail) -> bool:
    """Say whether the mail says that all may know; one that says nothing is not for all."""
    private = {value.lower() for value in mail.headers("X-Launchpad-Bug-Private")}
    kinds = [value.lower() for value in mail.headers("X-Launchpad-Bug-Information-Type")]
    return (
        bool(private or kinds)
        and private <= {"no"}
        and all(value.startswith("public") for value in kinds)
    )


def _told(mail: Mail, bug: int, title: str, clip: Clip, site: Site) -> dict[str, Any]:
    rows = [_row(value) for value in mail.headers("X-Launchpad-Bug")]
    packages = list(dict.fromkeys(row["sourcepackage"] for row in rows if "sourcepackage" in row))
    who = mail.header("X-Launchpad-Bug-Modifier") or mail.header("X-Launchpad-Bug-Reporter") or ""
    modifier = _MODIFIER.fullmatch(who)
    name = modifier[1] if modifier else person(mail.header("From") or "").name
    return {
        "tracker": TRACKER,
        "bug": bug,
        "title": clip.line(title),
        "package": clip.words(packages),
        "source": clip.words(packages),
        "tags": clip.words((mail.header("X-Launchpad-Bug-Tags") or "").split()),
        "actor_name": clip.word(name) if name else None,
        "tasks": clip.items(_task(row, clip, site) for row in rows) or None,
        "url": f"https://bugs.launchpad.net/bugs/{bug}",
    }


def _row(value: str) -> dict[str, str]:
    """Return what one header tells of a task: `product=hello; status=New; ...`."""
    pairs = (part.strip().partition("=") for part in value.split(";"))
    return {key: told for key, equals, told in pairs if equals}


def _task(row: dict[str, str], clip: Clip, site: Site) -> Task:
    places = ("product", "productseries", "distribution", "distroseries", "sourcepackage")
    assignee = row.get("assignee", "None")
    hidden = assignee == "None" or ("@" in assignee and not site.addresses)
    return Task(
        target=clip.word("/".join(row[key] for key in places if row.get(key, "None") != "None")),
        status=clip.word(row["status"]) if "status" in row else None,
        importance=clip.word(row["importance"]) if "importance" in row else None,
        assignee=None if hidden else clip.word(assignee),
    )


def _changes(body: str, tasks: Sequence[Task], clip: Clip, site: Site) -> list[Change]:
    """Return the changes that Launchpad lists, each behind two stars."""
    found: list[Change] = []
    for block in f"\n{body}".split("\n** ")[1:]:
        first, rest = _lines(block)
        action, told = next((name, m) for name, p in _KNOWN if (m := p.match(first.strip() or "?")))
        if action == "changed":
            rows = filter(None, (_WAS.fullmatch(line.rstrip()) for line in rest[: MAX_CHANGES + 1]))
            told_so = (
                _change(clip, site, row[1].strip().lower(), told[1], *row.groups()[1:])
                for row in rows
            )
            found.extend(change for change in told_so if _is_so(change, tasks))
        elif action == "title":
            was = next((line[2:] for line in rest if line.startswith("- ")), None)
            became = next((line[2:] for line in rest if line.startswith("+ ")), None)
            # (One without the other is half a change.)
            if was and became:
                found.append(_change(clip, site, action, None, was, became))
        elif "" in rest[:-1] or not body.endswith(block):
            # (The last one may have lost a line that it was wrapped into.)
            new = told[told.re.groups] if told.re.groups else None
            found.append(_change(clip, site, action, None, told.groupdict().get("old"), new))
        if len(found) > MAX_CHANGES:
            break
    return clip.items(found, MAX_CHANGES)


def _lines(block: str) -> tuple[str, list[str]]:
    """Return a change's first line, put together where it was wrapped, and those below it."""
    first, *rest = block.split("\n")
    while rest and rest[0] and not rest[0][0].isspace() and not first.endswith(":"):
        first = f"{first} {rest.pop(0)}"[: 2 * MAX_LINE]
        if len(first) > MAX_LINE:
            break
    return first, rest


def _is_so(change: Change, tasks: Sequence[Task]) -> bool:
    """Say whether the headers bear a change out: anybody can write its lines into a comment."""
    if change.action == "status":
        return change.new in {task.status for task in tasks}
    return change.action != "importance" or change.new in {task.importance for task in tasks}


def _change(  # noqa: PLR0913, PLR0917 - a row of what Launchpad lists
    clip: Clip, site: Site, action: str, target: str | None, old: str | None, new: str | None
) -> Change:
    def shown(text: str | None) -> str | None:
        hidden = text and "@" in text and action != "title" and not site.addresses
        return clip.line(text, WORDS) if text and not hidden else None

    return Change(
        action=clip.word(action),
        target=clip.word(target) if target else None,
        old=shown(old),
        new=shown(new),
    )
