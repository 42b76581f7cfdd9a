"""The archive changed a package's section or priority, because a bug asked for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge import dak
from mailbridge.changes import numbers, source_url
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, Event, Payload


class PackageOverrideChanged(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """The archive changed what it says of a package: its section, its priority."""

    NAME = "package-override-changed"

    source_name: str
    bug: int
    summary: str


FAMILY = Family.DAK
PAYLOADS = (PackageOverrideChanged,)
ATTESTED = "rendered from the sender's templates"

_PACKAGE: Final = re.compile(r"Concerning package (\S+?)\.\.\.")


def recognise(mail: Mail, _site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the change's event."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "override":
        return None
    bug = numbers([notice.told.get("bug") or ""])
    lines = _lines(mail.ended_lines)
    concerned = next((found[1] for line in lines if (found := _PACKAGE.match(line))), None)
    source = dak.source_name(mail) or concerned
    if not bug or not lines or source is None:
        raise MalformedMail("a changed override that does not tell what changed, or of what")
    clip = Clip()
    summary = clip.line("; ".join(line.rstrip(".") for line in lines))
    payload = PackageOverrideChanged(
        source_name=clip.word(source),
        bug=bug[0],
        summary=summary,
        url=source_url(source, archive),
        truncated=clip.truncated,
    )
    known = {
        "source": source,
        "bug": bug[0],
        "summary": summary,
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=known)]


def _lines(text: str) -> list[str]:
    """Return what stands between the opening and the thanks."""
    _, opening, after = text.partition("changes were made to the overrides...")
    told = after.partition("\nThank you for")[0] if opening else ""
    return [line.strip() for line in told.split("\n") if line.strip()][:20]
