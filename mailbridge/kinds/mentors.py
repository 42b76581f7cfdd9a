"""mentors.debian.net, or another debexpo: a package was uploaded, commented on, or removed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge.errors import MalformedMail
from mailbridge.family import Family, mentors_of
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import REASON, Clip, Event, Payload


class _Mentored(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """What every event about a package that looks for a sponsor tells."""

    source_name: str


class MentorsPackageUploaded(_Mentored, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody uploaded a package for which a sponsor is sought.  It is in no archive yet."""

    NAME = "mentors-package-uploaded"

    source_version: str
    distribution: str
    """For which it is meant."""
    dsc_url: str | None = None


class MentorsPackageCommented(_Mentored, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody commented on such a package.  The text itself stays there."""

    NAME = "mentors-package-commented"

    actor_name: str | None = None


class MentorsPackageRemoved(_Mentored, frozen=True, kw_only=True, omit_defaults=True):
    """Such a package was removed: it is in the archive now, or found no sponsor for long."""

    NAME = "mentors-package-removed"

    distribution: str
    reason: str


FAMILY = Family.MENTORS
PAYLOADS = (MentorsPackageUploaded, MentorsPackageCommented, MentorsPackageRemoved)
ATTESTED = "rendered from the sender's templates"

HEAD: Final = 20_000
"""How much of a mail is looked at, at either end: debexpo says it all around a comment's text."""

_SUBJECT: Final = re.compile(
    r"(?P<uploaded>[a-z0-9][a-z0-9.+-]+)_(?P<version>[0-9]\S*): ACCEPTED into (?P<into>\S+)"
    r"|New comment on package (?P<commented>[a-z0-9][a-z0-9.+-]+)"
    r"|(?P<removed>[a-z0-9][a-z0-9.+-]+) has been removed from (?P<out>\S+) on \S+"
)
_DSC: Final = re.compile(r"(?m)^[ \t]{0,8}(https?://[!-~]{4,280}\.dsc)[ \t]*$")
_PAGE: Final = r"(?m)^[ \t]{{0,8}}(?:Url: )?(https?://[A-Za-z0-9.:-]{{1,200}}/package/{}/?)[ \t]*$"
_SIGNATURE: Final = re.compile(r"\n-- ?\n(?P<site>[A-Za-z0-9.-]{1,250})[ \t]*\n*\Z")
_FROM: Final = re.compile(r"(?m)^From: (?P<who>.{1,300})$")
_REASON: Final = " for the following reason:\n"


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | None:
    """
    Return what happened to the package.

    Only of a mail that ends in the name of the site that its envelope names: of its own debexpo
    writes no header.  Raises `MalformedMail` as a removal has no reason.
    """
    site = mentors_of(mail)
    told = _SUBJECT.fullmatch(mail.subject)
    if told is None or site is None or not _is_signed_by(site, mail.text):
        return None
    payload = _payload(told, mail.text[:HEAD])
    facts = ("source_version", "distribution", "reason", "actor_name")
    identity = {
        "site": site,
        "name": payload.NAME,
        "source": payload.source_name,
        # The same version may be uploaded again, and removed again; who comments does it again.
        "message_id": mail.message_id,
    } | {fact: getattr(payload, fact, None) for fact in facts}
    author = payload.actor_name if isinstance(payload, MentorsPackageCommented) else None
    return [Event(payload=payload, identity=identity, author=author)]


def _is_signed_by(site: str, text: str) -> bool:
    found = _SIGNATURE.search(text[-HEAD:])
    return found is not None and found["site"].lower() == site


def _payload(told: re.Match[str], text: str) -> _Mentored:
    clip = Clip()
    source = told["uploaded"] or told["commented"] or told["removed"]
    page = re.search(_PAGE.format(re.escape(source)), text)
    url = page[1] if page else None
    name = clip.word(source)
    if told["commented"]:
        who = _FROM.search(text)
        return MentorsPackageCommented(
            source_name=name,
            actor_name=_name(who["who"], clip) if who else None,
            url=url,
            truncated=clip.truncated,
        )
    if told["removed"]:
        reason = _reason(text)
        if not reason:
            raise MalformedMail(f"mentors: {source[:80]!r} was removed, and for no reason")
        return MentorsPackageRemoved(
            source_name=name,
            distribution=clip.word(told["out"]),
            reason=clip.text(reason, REASON),
            truncated=clip.truncated,
        )
    dsc = _DSC.search(text)
    return MentorsPackageUploaded(
        source_name=name,
        source_version=clip.word(told["version"]),
        distribution=clip.word(told["into"]),
        dsc_url=dsc[1] if dsc else None,
        url=url,
        truncated=clip.truncated,
    )


def _reason(text: str) -> str:
    """Return what stands between debexpo's own words, which are followed by its thanks."""
    lines = text.partition(_REASON)[2].split("\n")
    end = next((n for n, line in enumerate(lines) if line in ("Thanks,", "-- ", "--")), len(lines))
    return "\n".join(lines[:end]).strip()


def _name(text: str, clip: Clip) -> str | None:
    """Return the name somebody gave to the site; some give their address."""
    return None if "@" in text else clip.word(text) or None
