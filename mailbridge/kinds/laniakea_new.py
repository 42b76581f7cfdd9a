"""An upload waits in Laniakea's NEW queue until somebody reviewed it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail, strip_list_prefixes
from mailbridge.payloads import Clip, Event, PackageUploadQueuedNew

FAMILY = Family.LANIAKEA
PAYLOADS = (PackageUploadQueuedNew,)
ATTESTED = "rendered from the sender's templates"

# Its template forgets the suite, and leaves two blanks.
_SUBJECT: Final = re.compile(r"(?P<upload>\S+) for (?:(?P<suite>\S+) )?is NEW")


def recognise(mail: Mail, site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the upload's event."""
    if mail.header("X-Laniakea-Event") != "package-queued-new":
        return None
    told = _SUBJECT.fullmatch(strip_list_prefixes(mail.subject))
    if not told:
        raise MalformedMail(f"an upload in NEW with the subject {mail.subject[:80]!r}")
    clip = Clip()
    stem = told["upload"].removesuffix(".changes")
    source = mail.header("X-Laniakea-Package") or None
    repo = site.repo or mail.header("X-Laniakea-Repo") or archive.lower()
    payload = PackageUploadQueuedNew(
        repo=clip.word(repo),
        upload_name=clip.word(stem),
        is_new=True,
        suite=clip.word(told["suite"]) if told["suite"] else None,
        source_name=clip.word(source) if source else None,
        truncated=clip.truncated,
    )
    known = {
        "upload_name": stem,
        "source": source,
        "suites": [told["suite"]] if told["suite"] else None,
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=known)]
