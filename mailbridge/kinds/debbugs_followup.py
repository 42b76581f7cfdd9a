"""debbugs passes on what somebody wrote to a bug: `followup N`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge import debbugs
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import BugCommented, Clip, Event

FAMILY: Final = Family.DEBBUGS
PAYLOADS: Final = (BugCommented,)
ATTESTED: Final = "real mails"

# In the bytes: a body is worth no parser here, and the answer is a hint.
_PATCH: Final = re.compile(
    rb"^(?:--- \S.*\r?\n\+\+\+ \S|diff --git a/|Content-Type:\s*text/x-(?:diff|patch)\b)",
    re.MULTILINE | re.IGNORECASE,
)


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | None:
    """Return the comment, or None.  Raises `MalformedMail` where the bug has no number."""
    notice = debbugs.notice(mail)
    if notice is None or not (
        notice.kind == "followup"
        # Debbugs says "report" too for what somebody wrote to a bug's submitter: address U.
        or (notice.kind == "report" and debbugs.address_used(mail) == "U")
    ):
        return None
    clip = Clip()
    author = debbugs.author(mail)
    name = clip.word(author.name) if author.name else None
    replied = debbugs.message_ids(mail.header("In-Reply-To"))
    title = clip.line(debbugs.title(mail, notice.bug))
    packages = clip.words(debbugs.packages(mail, notice))
    payload = BugCommented(
        tracker=debbugs.TRACKER,
        bug=notice.bug,
        title=title,
        package=packages,
        source=clip.words(debbugs.sources(mail, notice)),
        tags=clip.words(debbugs.tags(mail, notice)),
        actor_name=name,
        actor_email=author.address if site.addresses else None,
        in_reply_to=clip.word(replied[0]) if replied else None,
        has_patch=_PATCH.search(mail.raw, mail.body) is not None or None,
        url=notice.url,
        truncated=clip.truncated,
    )
    identity = {
        "tracker": debbugs.TRACKER,
        "bug": notice.bug,
        "title": title,
        "packages": sorted(packages),
        "severity": None,
        "version": None,
        "message_id": debbugs.written_as(mail),
    }
    return [Event(payload=payload, identity=identity, author=name)]
