"""dak removed packages from a suite."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from mailbridge import dak
from mailbridge.changes import numbers
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import REASON, Clip, Event, Payload


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """One package that is gone."""

    name: str
    version: str
    architectures: list[str]
    is_source: bool


class PackageRemoved(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """Packages were removed from a suite, because a bug asked for it."""

    NAME = "package-removed"
    DEFAULT = "on"

    suites: list[str]
    removals: list[Removal]
    reason: str
    bug: int


FAMILY = Family.DAK
PAYLOADS = (PackageRemoved,)
ATTESTED = "rendered from the sender's templates"

RELATED: Final = NoEvent(
    "related-bugs", "closes the bugs of what was removed; the removal has a mail of its own"
)
MAX_REMOVALS: Final = 10_000

_FROM: Final = re.compile(r"package\(s\) have been removed from (?P<suites>.+):")


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the removal's event; nothing for the bugs that go with the package."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "remove":
        return None
    if mail.ended_lines.lstrip("\n").startswith("Version: "):
        return RELATED
    bug = numbers([notice.told.get("bug") or ""])
    table, reason = _halves(mail.ended_lines)
    rows = _rows(table)
    suites = dak.suites(mail, notice) or _suites(table)
    if not bug or not rows or not suites:
        raise MalformedMail("a removal that does not tell what, where from or why")
    clip = Clip()
    removals = [
        Removal(
            name=clip.word(name),
            version=clip.word(version),
            architectures=clip.words(architectures),
            is_source="source" in architectures,
        )
        for name, version, architectures in clip.items(rows)
    ]
    payload = PackageRemoved(
        suites=clip.words(suites.suites),
        removals=removals,
        reason=clip.text(reason, REASON),
        bug=bug[0],
        truncated=clip.truncated,
    )
    known = {
        "bug": bug[0],
        "suites": sorted(suites.suites),
        "removals": sorted([name, version, sorted(set(arch))] for name, version, arch in rows),
    }
    return [Event(payload=payload, identity=known)]


def _halves(text: str) -> tuple[list[str], str]:
    """Return the lines before the rule that says Reason, and the text between it and the next."""
    lines = text.split("\n")
    rules = [n for n, line in enumerate(lines) if line.startswith("-----")]
    start = next((n for n in rules if " Reason " in lines[n]), None)
    if start is None:
        # Cut off, perhaps in the middle of a row.
        return [], ""
    end = next((n for n in rules if n > start), len(lines))
    return lines[:start], "\n".join(lines[start + 1 : end])


def _suites(lines: Sequence[str]) -> dak.Suites | None:
    """Return the suites that are named above the table."""
    told = next((found for line in lines if (found := _FROM.fullmatch(line.rstrip()))), None)
    return dak.parse_suites(told["suites"]) if told else None


def _rows(lines: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Return the rows of the table: name, version, architectures."""
    found = []
    for line in lines:
        columns = [column.strip() for column in line.split("|")]
        if len(columns) == 3 and all(columns) and len(columns[0].split()) == 1:  # noqa: PLR2004
            found.append((columns[0], columns[1], columns[2].replace(",", " ").split()))
        if len(found) > MAX_REMOVALS:
            raise MalformedMail(f"more than {MAX_REMOVALS} packages removed")
    return found
