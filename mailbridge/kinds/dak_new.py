"""An upload waits in dak's NEW queue until somebody reviewed it."""

from __future__ import annotations

from collections.abc import Sequence

from mailbridge import dak
from mailbridge.changes import source_url
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, Event, PackageUploadQueuedNew

FAMILY = Family.DAK
PAYLOADS = (PackageUploadQueuedNew,)
ATTESTED = "rendered from the sender's templates"


def recognise(mail: Mail, site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the upload's event: headers and subject are all that this mail tells."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "new":
        return None
    stem = dak.upload_name(mail, notice)
    if stem is None:
        raise MalformedMail("an upload in NEW that is not named")
    where = dak.suites(mail, notice) or dak.Suites()
    if where.is_embargoed:
        return NoEvent(*dak.EMBARGOED)
    clip = Clip()
    source = dak.source_name(mail) or stem.partition("_")[0]
    version = mail.header("Debian-Version")
    suites = clip.words(where.meant)
    payload = PackageUploadQueuedNew(
        repo=site.repo or archive.lower(),
        upload_name=clip.word(stem),
        is_new=True,
        suite=suites[0] if suites else None,
        source_name=clip.word(source),
        source_version=clip.word(version) if version else None,
        architectures=clip.words((mail.header("Debian-Architecture") or "").split()) or None,
        url=source_url(source, archive),
        truncated=clip.truncated,
    )
    known = {
        "upload_name": stem,
        "source": source,
        "version": version,
        "suites": sorted(where.meant) or None,
        # One name may wait in NEW more than once: rejected there, and uploaded again.
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=known)]
