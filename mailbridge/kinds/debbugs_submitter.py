"""debbugs tells the old submitter of a bug that it has a new one: `submitter-changed N`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge import debbugs
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Bug, Clip, Event


class BugSubmitterChanged(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """A bug has another submitter.  Of people only the name, unless addresses are switched on."""

    NAME = "bug-submitter-changed"
    DEFAULT = "off"

    old_submitter: str | None = None
    new_submitter: str | None = None


FAMILY: Final = Family.DEBBUGS
PAYLOADS: Final = (BugSubmitterChanged,)
ATTESTED: Final = "rendered from the sender's templates"

_TITLE: Final = r"^#{}: (?P<title>.*)$"
_OLD: Final = re.compile(
    r"^The old submitter address for this report was\n(?P<who>.*)$", re.MULTILINE
)
_NEW: Final = re.compile(r"^The new submitter address is\n(?P<who>.*)$", re.MULTILINE)


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | None:
    """Return the change, or None.  Raises `MalformedMail` where the bug has no number."""
    notice = debbugs.notice(mail)
    if notice is None or notice.kind != "submitter-changed":
        return None
    clip = Clip()
    # The subject has that of the mail to control@.
    title = re.search(_TITLE.format(notice.bug), mail.ended_lines, re.MULTILINE)
    old, new = _OLD.search(mail.ended_lines), _NEW.search(mail.ended_lines)
    payload = BugSubmitterChanged(
        tracker=debbugs.TRACKER,
        bug=notice.bug,
        title=clip.line(title["title"] if title else ""),
        package=clip.words(debbugs.packages(mail, notice)),
        source=clip.words(debbugs.sources(mail, notice)),
        tags=clip.words(debbugs.tags(mail, notice)),
        old_submitter=_name(old, site, clip),
        new_submitter=_name(new, site, clip),
        url=notice.url,
        truncated=clip.truncated,
    )
    identity = {
        "tracker": debbugs.TRACKER,
        "bug": notice.bug,
        "new_submitter": clip.line(new["who"]) if new else None,
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=identity)]


def _name(found: re.Match[str] | None, site: Site, clip: Clip) -> str | None:
    told = debbugs.somebody(found["who"].rstrip(" ."), addresses=site.addresses) if found else None
    return clip.word(told) if told else None
