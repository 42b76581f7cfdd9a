"""A Bugzilla tells of a bug: reported, commented on, changed, closed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail, person
from mailbridge.payloads import (
    BugChanged,
    BugClosed,
    BugCommented,
    BugReported,
    Change,
    Clip,
    Event,
)

FAMILY = Family.BUGZILLA
PAYLOADS = (BugReported, BugCommented, BugChanged, BugClosed)
ATTESTED = "real mails"

TRACKER: Final = "bugzilla"
CLOSED: Final = frozenset(("RESOLVED", "CLOSED", "VERIFIED"))
PERSONS: Final = frozenset(("cc", "assignee", "reporter", "qa contact", "flags"))
"""Fields that hold addresses."""
COLUMN: Final = 28
"""How wide the columns of the table of changes are."""
MAX_CHANGES: Final = 50
MAX_LINES: Final = 1_000
WORDS: Final = 160

DEPENDS: Final = NoEvent(
    "dependency", "another bug changed, that this one waits for; it has mails of its own"
)
OTHER: Final = NoEvent("request", "Bugzilla's requests and reminders to its users")
PRIVATE: Final = NoEvent("private", "a bug that only some may see")

_SUBJECT: Final = re.compile(
    # (GCC's puts the component before the number.)
    r"(?:\[[^\]]*\] ){0,5}?\[Bug (?:[^\]/]{1,60}/)?(?P<bug>\d{1,9})\] ?"
    r"(?P<new>New: |\[New\] )?(?P<title>.*)"
)
_SECURE: Final = re.compile(r"(?i)\(Secure bug\b")
_URL: Final = re.compile(r"https?://[A-Za-z0-9.-]{1,200}(?::\d{1,5})?/[!-~]{0,80}")
# (More dashes, and other words, before 2009.)
_COMMENT: Final = re.compile(
    r"(?m)^(?:-{3,9} )?(?:Comment #\d+ from|Additional Comments? [Ff]rom) (\S.{0,250}?)"
    r"(?: -{3,9}| - |$)"
)
_DEPENDS: Final = re.compile(r"(?m)^Bug \d{1,9} (?:depends on|blocks) bug \d{1,9}, which changed")
_CHANGED: Final = re.compile(r"(?m)^(\S.{0,250}) changed:[ \t]*$")
_HEADING: Final = re.compile(r" *What +\|Removed +\|Added")


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return what happened to the bug: one event, or two where a comment came with changes."""
    kind = mail.header("X-Bugzilla-Type") or ""
    if kind not in ("new", "changed"):
        return OTHER
    subject = _SUBJECT.fullmatch(mail.subject)
    if subject is None:
        raise MalformedMail(f"a bug with the subject {mail.subject[:80]!r}")
    if _SECURE.match(subject["title"]) or mail.content_type == "multipart/encrypted":
        return PRIVATE
    clip = Clip()
    told = _told(mail, int(subject["bug"]), subject["title"], clip, site)
    known = {
        "tracker": TRACKER,
        "url": told["url"],
        "bug": told["bug"],
        "title": told["title"],
        "product": told["product"],
        "component": told["component"],
        "status": told["status"],
        "resolution": told["resolution"],
        "message_id": mail.message_id,
    }
    author = told["actor_name"]
    if kind == "new":
        severity, version = (mail.header(f"X-Bugzilla-{key}") for key in ("Severity", "Version"))
        payload = BugReported(
            severity=clip.word(severity) if severity else None,
            version=clip.word(version) if version else None,
            reportbug=False,
            **told,
            truncated=clip.truncated,
        )
        identity = known | {"severity": payload.severity, "version": payload.version}
        return [Event(payload=payload, identity=identity, author=author)]
    heading = mail.ended_lines.partition("|Removed")[0]
    if _DEPENDS.search(heading) and not _COMMENT.search(heading):
        return DEPENDS
    events = []
    changes = _changes(mail.ended_lines, clip, site)
    if any(_closes(change) for change in changes):
        closed = BugClosed(via="tracker", done_by=author, **told, truncated=clip.truncated)
        events.append(Event(payload=closed, identity=known, author=author))
    elif changes:
        changed = BugChanged(changes=changes, **told, truncated=clip.truncated)
        listed = [[c.action, c.old or "", c.new or ""] for c in changes]
        events.append(Event(payload=changed, identity=known | {"changes": listed}, author=author))
    if _COMMENT.search(mail.ended_lines):
        commented = BugCommented(**told, truncated=clip.truncated)
        events.append(Event(payload=commented, identity=known, author=author))
    if not events:
        raise MalformedMail("a bug with neither a change nor a comment that we can read")
    return events


def _told(mail: Mail, bug: int, title: str, clip: Clip, site: Site) -> dict[str, Any]:
    def header(name: str) -> str | None:
        value = mail.header(f"X-Bugzilla-{name}")
        return clip.word(value) if value else None

    base = header("URL") or ""
    component = header("Component")
    packages = [component] if component else []
    named = _COMMENT.search(mail.ended_lines) or _CHANGED.search(mail.ended_lines)
    who = person(named[1] if named else "")
    # Some write the address in parentheses: `Jane Doe (jane@example.org) changed:`.
    name = (who.name or "").partition(" (")[0]
    name = "" if "@" in name else name
    return {
        "tracker": TRACKER,
        "bug": bug,
        "title": clip.line(title),
        "package": packages,
        "source": [],
        "tags": clip.words(re.split(r"[,\s]+", mail.header("X-Bugzilla-Keywords") or "")),
        "actor_name": clip.word(name) or None,
        "actor_email": person(mail.header("X-Bugzilla-Who") or "").address
        if site.addresses
        else None,
        "product": header("Product"),
        "component": component,
        "status": header("Status"),
        "resolution": header("Resolution"),
        "url": f"{base.rstrip('/')}/show_bug.cgi?id={bug}" if _URL.fullmatch(base) else None,
    }


def _closes(change: Change) -> bool:
    return change.action == "status" and change.new in CLOSED and change.old not in CLOSED


def _changes(text: str, clip: Clip, site: Site) -> list[Change]:
    """Return the rows of the table of changes, put together again where they were wrapped."""
    # Comments stand below it, and may hold one like it.
    comment = _COMMENT.search(text)
    lines = iter(text[: comment.start() if comment else None].splitlines())
    if not any(_HEADING.fullmatch(line.rstrip()) for line in lines):
        return []
    rows: list[list[str]] = []
    last = ["", "", ""]
    for line in islice(lines, MAX_LINES):
        cells = [cell.strip() for cell in line.split("|", 2)]
        if len(cells) == 3:  # noqa: PLR2004
            if cells[0] and rows and not any(cells[1:]):
                # The name of a field was wrapped.
                rows[-1][0] = f"{rows[-1][0]} {cells[0]}"
            elif cells[0]:
                rows.append(cells)
            elif rows:
                # A word longer than its column is cut; between others a blank went away.
                rows[-1] = [
                    f"{row}{'' if len(above) == COLUMN else ' '}{cell}".strip()
                    for row, above, cell in zip(rows[-1], last, cells, strict=True)
                ]
            last = cells
        elif rows or line.strip("-\r "):
            break
    else:
        raise MalformedMail("a bug's changes, and nothing below them: the mail is cut off")
    return clip.items((_change(row, clip, site) for row in rows), MAX_CHANGES)


def _change(row: list[str], clip: Clip, site: Site) -> Change:
    action = row[0].lower()
    if not site.addresses and (action in PERSONS or "@" in row[1] + row[2]):
        return Change(action=clip.word(action))
    old, new = (clip.line(text, WORDS) if text.strip("-") else None for text in row[1:])
    return Change(action=clip.word(action), old=old, new=new)
