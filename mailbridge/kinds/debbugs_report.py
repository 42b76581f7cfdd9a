"""debbugs tells of a new bug: `report N`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge import debbugs
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail, person
from mailbridge.payloads import BugReported, Clip, Event

FAMILY: Final = Family.DEBBUGS
PAYLOADS: Final = (BugReported,)
ATTESTED: Final = "real mails"

SEVERITIES: Final = frozenset(
    ("critical", "grave", "serious", "important", "normal", "minor", "wishlist", "fixed")
)

# Usertags belong to an address.  Those of teams are names of namespaces, the rest is personal.
_TEAM: Final = re.compile(r"[^@\s]+@(?:lists|packages|qa|bugs|release|tracker)\.[a-z0-9.-]+")


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | None:
    """Return the report, or None.  Raises `MalformedMail` where the bug has no number."""
    notice = debbugs.notice(mail)
    # Debbugs says "report" too for what somebody wrote to a bug's submitter: address U.
    if notice is None or notice.kind != "report" or debbugs.address_used(mail) == "U":
        return None
    clip = Clip()
    author = debbugs.author(mail)
    told = debbugs.pseudo_headers(mail.ended_lines)
    version = debbugs.version(told.get("source-version") or told.get("version", ""))
    severity = told.get("severity") or told.get("priority", "")
    title = clip.line(debbugs.title(mail, notice.bug))
    packages = clip.words(debbugs.packages(mail, notice))
    name = clip.word(author.name) if author.name else None
    payload = BugReported(
        tracker=debbugs.TRACKER,
        bug=notice.bug,
        title=title,
        package=packages,
        source=clip.words(debbugs.sources(mail, notice)),
        tags=clip.words(debbugs.tags(mail, notice)),
        actor_name=name,
        actor_email=author.address if site.addresses else None,
        severity=severity if severity in SEVERITIES else None,
        version=clip.word(version.version) if version else None,
        owner=_owner(told.get("owner", ""), clip),
        reported_tags=clip.words(_split(told.get("tags") or told.get("keywords", ""))) or None,
        usertags=_usertags(told, site, clip),
        reportbug="reportbug" in (mail.header("X-Mailer") or "").lower()
        or mail.header("X-Reportbug-Version") is not None,
        url=notice.url,
        truncated=clip.truncated,
    )
    identity = {
        "tracker": debbugs.TRACKER,
        "bug": notice.bug,
        "title": title,
        "packages": sorted(packages),
        "severity": payload.severity,
        "version": payload.version,
        "message_id": debbugs.written_as(mail),
    }
    return [Event(payload=payload, identity=identity, author=name)]


def _owner(text: str, clip: Clip) -> str | None:
    name = person(text).name
    return clip.word(name) if name else None


def _usertags(told: dict[str, str], site: Site, clip: Clip) -> dict[str, list[str]] | None:
    user = told.get("user", "").partition(",")[0].strip()
    if not user or not (site.addresses or _TEAM.fullmatch(user)):
        return None
    tags = clip.words(_split(told.get("usertags", "")))
    return {clip.word(user): tags} if tags else None


def _split(text: str) -> list[str]:
    return text.replace(",", " ").split()
