"""dak, or a member of the archive's team, rejected an upload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mailbridge import dak
from mailbridge.changes import source_url
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import REASON, Clip, Event, PackageUploadRejected

FAMILY = Family.DAK
PAYLOADS = (PackageUploadRejected,)
ATTESTED = "real mails"

_AUTOMATIC: Final = {"automatic": True, "manual": False}
# The stable team's rejections, until 2012.
_GIVEN: Final = "The reason given for rejection was:\n"


def recognise(mail: Mail, site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the rejection's event."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "reject":
        return None
    stem = dak.upload_name(mail, notice)
    if stem is None:
        raise MalformedMail("a rejected upload that is not named")
    where = dak.suites(mail, notice) or dak.Suites()
    if where.is_embargoed:
        return NoEvent(*dak.EMBARGOED)
    clip = Clip()
    source = dak.source_name(mail) or stem.partition("_")[0]
    version = mail.header("Debian-Version")
    suites = clip.words(where.meant)
    reason = clip.text(_reason(mail.ended_lines, notice), REASON)
    payload = PackageUploadRejected(
        repo=site.repo or archive.lower(),
        upload_name=clip.word(stem),
        reason=reason,
        automatic=_AUTOMATIC.get((mail.header("X-DAK-Rejection") or "").lower()),
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
        "reason": reason,
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=known)]


def _reason(text: str, notice: dak.Notice) -> str:
    reason = dak.before_the_rule(text)
    if notice.told.get("suites"):
        _, given, reason = reason.partition(_GIVEN)
        if not given:
            raise MalformedMail("an upload rejected from a suite, and no reason in the mail")
        reason = reason.rpartition("Please see:")[0] or reason
    return reason.strip()
