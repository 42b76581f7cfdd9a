"""Debian's release team will remove a package from testing, unless bugs are fixed by a date."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Final

from mailbridge.changes import numbers, source_url
from mailbridge.errors import MalformedMail
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, Event, Payload


class PackageAutoremovalScheduled(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """A package will be removed from a suite on a date, for bugs of its own or of others."""

    NAME = "package-autoremoval-scheduled"

    source_name: str
    source_version: str
    suite: str
    date: str
    """As `2024-09-30`."""
    bugs: list[int]
    """Its own, and those of packages that it needs."""


FAMILY = Family.AUTOREMOVAL
PAYLOADS = (PackageAutoremovalScheduled,)
ATTESTED = "documentation only"

_MARKED: Final = re.compile(
    r"(?m)^(?P<source>[a-z0-9][a-z0-9.+-]{1,200}) (?P<version>[0-9][A-Za-z0-9.+:~-]{0,200})"
    r" is marked for autoremoval from (?P<suite>[a-z][a-z0-9-]*) on (?P<date>\d{4}-\d\d-\d\d)\b"
)
_BUG: Final = re.compile(r"(?m)^[ \t]{0,8}(\d{1,9}): ")


def recognise(mail: Mail, _site: Site, archive: str) -> Sequence[Event] | None:
    """Return the removal's event.  The same mail comes again and again; it is one event."""
    told = _MARKED.search(mail.ended_lines)
    if told is None:
        raise MalformedMail("an autoremoval that does not say of what and when")
    try:
        when = date.fromisoformat(told["date"])
    except ValueError as error:
        raise MalformedMail(f"an autoremoval on {told['date']}") from error
    clip = Clip()
    bugs = numbers(_BUG.findall(mail.ended_lines, told.end()))
    payload = PackageAutoremovalScheduled(
        source_name=told["source"],
        source_version=told["version"],
        suite=clip.word(told["suite"]),
        date=when.isoformat(),
        bugs=clip.items(bugs),
        url=source_url(told["source"], archive),
        truncated=clip.truncated,
    )
    known = {
        "source": payload.source_name,
        "version": payload.source_version,
        "suite": payload.suite,
        "date": payload.date,
        "bugs": sorted(bugs),
    }
    return [Event(payload=payload, identity=known)]
