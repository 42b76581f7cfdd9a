"""Laniakea rejected an upload."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail, strip_list_prefixes
from mailbridge.payloads import REASON, Clip, Event, PackageUploadRejected

FAMILY = Family.LANIAKEA
PAYLOADS = (PackageUploadRejected,)
ATTESTED = "rendered from the sender's templates"

_SUBJECT: Final = re.compile(r"(?P<upload>\S+) REJECTED")
_OPENING: Final = "Unfortunately, your upload was rejected:\n"


def recognise(mail: Mail, site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the rejection's event."""
    if mail.header("X-Laniakea-Event") != "package-rejected":
        return None
    told = _SUBJECT.fullmatch(strip_list_prefixes(mail.subject))
    if not told:
        raise MalformedMail(f"a rejected upload with the subject {mail.subject[:80]!r}")
    clip = Clip()
    stem = told["upload"].removesuffix(".changes")
    reason = clip.text(_reason(mail.ended_lines), REASON)
    repo = site.repo or mail.header("X-Laniakea-Repo") or archive.lower()
    payload = PackageUploadRejected(
        repo=clip.word(repo),
        upload_name=clip.word(stem),
        reason=reason,
        source_name=clip.word(mail.header("X-Laniakea-Package") or stem.partition("_")[0]),
        truncated=clip.truncated,
    )
    known = {
        "upload_name": stem,
        "source": payload.source_name,
        "reason": reason,
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=known)]


def _reason(text: str) -> str:
    """Return what stands between the opening and the last rule."""
    _, opening, told = text.partition(_OPENING)
    if not opening:
        raise MalformedMail("a rejected upload, and no reason: the mail is cut off")
    lines = told.split("\n")
    end = max((n for n, line in enumerate(lines) if line.rstrip() == "==="), default=len(lines))
    return "\n".join(lines[:end]).strip()
