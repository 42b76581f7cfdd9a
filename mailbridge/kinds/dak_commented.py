"""A member of the archive's team wrote to the uploader about an upload that waits in NEW."""

from __future__ import annotations

from collections.abc import Sequence

from mailbridge import dak
from mailbridge.changes import source_url
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import REASON, Clip, Event, Payload


class PackageUploadCommented(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asks the uploader about an upload.  (Private correspondence: off by default.)"""

    NAME = "package-upload-commented"

    upload_name: str
    reason: str
    """What was written."""


FAMILY = Family.DAK
PAYLOADS = (PackageUploadCommented,)
ATTESTED = "rendered from the sender's templates"


def recognise(mail: Mail, _site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the comment's event."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "comment":
        return None
    stem = dak.upload_name(mail, notice)
    if stem is None:
        raise MalformedMail("a comment on an upload that is not named")
    clip = Clip()
    reason = clip.text(dak.before_the_rule(mail.ended_lines), REASON)
    payload = PackageUploadCommented(
        upload_name=clip.word(stem),
        reason=reason,
        url=source_url(dak.source_name(mail) or stem.partition("_")[0], archive),
        truncated=clip.truncated,
    )
    known = {"upload_name": stem, "reason": reason, "message_id": mail.message_id}
    return [Event(payload=payload, identity=known)]
