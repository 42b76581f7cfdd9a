"""debbugs tells that a bug was passed on to its upstream: `forwarded N`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge import debbugs
from mailbridge.errors import MalformedMail
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail, person
from mailbridge.payloads import Bug, Clip, Event


class BugForwarded(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody passed a bug on to the upstream of its package."""

    NAME = "bug-forwarded"
    DEFAULT = "on"

    forwarded_to: str
    """An URL; of people only the name, or the host of their address, unless switched on."""


FAMILY: Final = Family.DEBBUGS
PAYLOADS: Final = (BugForwarded,)
ATTESTED: Final = "rendered from the sender's templates"

_MARKED: Final = re.compile(r"marked as forwarded(?: \((?P<title>.*)\))?", re.DOTALL)
_WHERE: Final = re.compile(
    r"^[^\S\n]*author\(s\) (?P<where>.*?)(?:\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL
)


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | None:
    """Return the forwarding, or None.  Raises `MalformedMail` where the bug has no number."""
    notice = debbugs.notice(mail)
    if notice is None or notice.kind != "forwarded":
        return None
    clip = Clip()
    subject = debbugs.title(mail, notice.bug)
    marked = _MARKED.fullmatch(subject)
    found = _WHERE.search(mail.ended_lines)
    if found is None:
        raise MalformedMail("a bug that was forwarded, and nothing that tells where to")
    where = clip.line(found["where"])
    # Debbugs answers whoever forwarded it.
    who = person(mail.header("To") or "")
    name = clip.word(who.name) if who.name else None
    payload = BugForwarded(
        tracker=debbugs.TRACKER,
        bug=notice.bug,
        title=clip.line((marked["title"] or "") if marked else subject),
        package=clip.words(debbugs.packages(mail, notice)),
        source=clip.words(debbugs.sources(mail, notice)),
        tags=clip.words(debbugs.tags(mail, notice)),
        actor_name=name,
        actor_email=who.address if site.addresses else None,
        forwarded_to=debbugs.somebody(where, addresses=site.addresses) or "",
        url=notice.url,
        truncated=clip.truncated,
    )
    referred = debbugs.message_ids(mail.header("References"))
    identity = {
        "tracker": debbugs.TRACKER,
        "bug": notice.bug,
        "forwarded_to": where,
        "message_id": referred[0] if referred else mail.message_id,
    }
    return [Event(payload=payload, identity=identity, author=name)]
