"""
The kinds of mail we understand: one module each, found by itself, no list to keep.

A kind module has a docstring whose first line says what it is, and

    FAMILY = Family.DAK                  whose mail it looks at
    PAYLOADS = (PackageUploadAccepted,)  what it can give
    ATTESTED = "real mails"              or "rendered from the sender's templates",
                                         or "documentation only"
    def recognise(mail, site, archive):  its events; NoEvent: mine, but nothing comes of it;
                                         None: not mine.  Raises MalformedMail: mine, and broken.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Literal

import msgspec

from mailbridge.errors import MalformedMail
from mailbridge.family import NONE, Family, NoEvent, archive_of, family, told_by
from mailbridge.mail import Mail
from mailbridge.payloads import WORD, Clip, Event, Payload


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator's configuration says to a recogniser."""

    archive: str | None = None
    repo: str | None = None
    pool_url: str | None = None
    addresses: bool = False
    """Whether the addresses of people who write bug mail may go into events."""
    rules: tuple[Kind, ...] = ()
    """The site's own kinds, asked about mail that no family claims."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail becomes, and why."""

    outcome: Literal["events", "ignored", "quarantined"]
    family: str | None = None
    kind: str | None = None
    code: str | None = None
    """What is counted where no event comes of it, as `no-kind`."""
    reason: str | None = None
    """The same for a person."""
    archive: str | None = None
    events: tuple[Event, ...] = ()


Answer = Sequence[Event] | NoEvent | None


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One module of this package, or one rule of a site, as a value."""

    name: str
    summary: str
    family: Family
    payloads: tuple[type[Payload], ...]
    attested: str
    recognise: Callable[[Mail, Site, str], Answer]
    archive: str | None = None
    """What its mails speak of whatever the source says; a site's own kind may have one."""


@cache
def kinds() -> tuple[Kind, ...]:
    """Return every kind, by name."""
    return tuple(map(_kind, _modules()))


@cache
def of_family(family: Family) -> tuple[Kind, ...]:
    """Return the kinds of *family*, by name: their modules are called after it, and no others."""
    # (So whoever looks at one mail loads what that mail needs.)
    first = family.value.replace("-", "_")
    return tuple(
        _kind(name) for name in _modules() if name == first or name.startswith(f"{first}_")
    )


@cache
def _modules() -> tuple[str, ...]:
    return tuple(sorted(info.name for info in pkgutil.iter_modules(__path__)))


@cache
def _kind(name: str) -> Kind:
    module = importlib.import_module(f"{__name__}.{name}")
    return Kind(
        name=name.replace("_", "-"),
        summary=(module.__doc__ or "").strip().partition("\n")[0],
        family=module.FAMILY,
        payloads=module.PAYLOADS,
        attested=module.ATTESTED,
        recognise=module.recognise,
    )


@cache
def payloads() -> dict[str, type[Payload]]:
    """Return every payload that some kind can give, by its event's name."""
    return {payload.NAME: payload for kind in kinds() for payload in kind.payloads}


def recognise(mail: Mail, site: Site, *, known: Sequence[Kind] | None = None) -> Outcome:
    """
    Return what *mail* becomes, every kind considered switched on: all, or those in *known*.

    Never raises: what a kind cannot read is quarantined, and so is what we stumble over.
    """
    sender: str | None = None
    try:
        found = family(mail)
        if found is NONE and site.rules:
            sender = Family.SITE.value
            return _by_rule(mail, site) or Outcome(
                outcome="ignored",
                code=NONE.code,
                reason=f"{NONE.words}; no rule of yours claims it",
            )
        if isinstance(found, NoEvent):
            return Outcome(outcome="ignored", code=found.code, reason=found.words)
        sender = found.value
        archive = Clip().word(site.archive or archive_of(mail, found))
        asked = of_family(found) if known is None else known
        claimed = _claimed(mail, site, archive, found, asked)
        return msgspec.structs.replace(claimed, family=sender, archive=archive)
    # The one broad except: a bug of ours must cost one mail its event, visibly, never the service
    # its life, and the mail is kept to be tried again after the mend.
    except Exception as error:  # noqa: BLE001
        words = Clip().line(f"{type(error).__name__}: {error}", WORD)
        return Outcome(
            outcome="quarantined", family=sender, code="bug", reason=f"a bug of ours: {words}"
        )


_Claim = tuple[Kind, Sequence[Event] | NoEvent | MalformedMail]


def _claims(mail: Mail, site: Site, asked: Iterable[tuple[Kind, str]]) -> list[_Claim]:
    """Return who of *asked*, each with its archive, claims *mail*, and how."""
    claims: list[_Claim] = []
    for kind, archive in asked:
        try:
            answer = kind.recognise(mail, site, archive)
        except MalformedMail as error:
            claims.append((kind, error))
        else:
            if answer is not None:
                claims.append((kind, answer))
    return claims


def _by_rule(mail: Mail, site: Site) -> Outcome | None:
    """Return what a rule of the site makes of *mail*; None if it is none's."""
    otherwise = site.archive or archive_of(mail, Family.SITE)
    archives = {rule.name: Clip().word(rule.archive or otherwise) for rule in site.rules}
    claims = _claims(mail, site, ((rule, archives[rule.name]) for rule in site.rules))
    if not claims:
        return None
    names = " and ".join(rule.name for rule, _ in claims)
    if len(claims) > 1:
        # It is kept: who makes one of them stricter can have it tried again.
        reason = f"rules {names} both claim it: make one of them stricter"
        told = Outcome(
            outcome="quarantined", kind=claims[0][0].name, code="ambiguous", reason=reason
        )
    else:
        told = _told(*claims[0])
    archive = archives[claims[0][0].name]
    return msgspec.structs.replace(told, family=Family.SITE.value, archive=archive)


def _claimed(
    mail: Mail, site: Site, archive: str, sender: Family, known: Sequence[Kind]
) -> Outcome:
    claims = _claims(mail, site, ((kind, archive) for kind in known if kind.family is sender))
    if not claims:
        says = Clip().line(told_by(mail), WORD)
        reason = f"mail of {sender.value} that nothing is made of; it says {says!r}"
        return Outcome(outcome="ignored", code="no-kind", reason=reason)
    if len(claims) > 1:
        raise AssertionError(f"{' and '.join(kind.name for kind, _ in claims)} claim one mail")
    return _told(*claims[0])


def _told(kind: Kind, claim: Sequence[Event] | NoEvent | MalformedMail) -> Outcome:
    if isinstance(claim, MalformedMail):
        reason = Clip().line(str(claim))
        return Outcome(outcome="quarantined", kind=kind.name, code="malformed", reason=reason)
    if isinstance(claim, NoEvent):
        return Outcome(outcome="ignored", kind=kind.name, code=claim.code, reason=claim.words)
    if not claim:
        raise AssertionError(f"{kind.name} claims a mail, and says nothing of it")
    return Outcome(outcome="events", kind=kind.name, events=tuple(claim))
