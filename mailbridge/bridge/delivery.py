"""Mails as they came, whom they concern, and what each of these says of one: no more than that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from mailbridge.bridge.compose import Examined, examine
from mailbridge.bridge.concern import concerned
from mailbridge.bridge.prove import Prover
from mailbridge.config import Source
from mailbridge.mail import MAX_MAIL
from mailbridge.outbox import FileKey, Verdict
from mailbridge.rules import NONE as NO_RULES
from mailbridge.rules import Rules


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every mail."""

    origin: str | None = None
    """The name of this host, where events shall tell it."""
    addresses: bool = False
    accept_test: bool = False
    max_mail: int = MAX_MAIL
    changes_cap: int | None = None
    stand_in: bool = False
    """Some source speaks in Laniakea's name."""
    rules: Rules = NO_RULES


class Delivery(NamedTuple):
    """One mail as it came."""

    raw: bytes
    sources: tuple[Source, ...]
    """Who is asked about it; `asked` tells which of them."""
    received: datetime
    file: FileKey | None = None
    where: str | None = None
    """Its file, for a person."""
    backfill: bool = False
    again: bool = False
    """Look at it again, even if nothing came of it before."""
    confirm: bool = False
    """Look at it again even if its events are out: what backs them may be more than it was."""


class Outcome(NamedTuple):
    """What became of a delivery."""

    verdict: Verdict
    uuids: tuple[str, ...] = ()
    """Of the events it says, whether this or an earlier delivery made them."""
    sources: tuple[Source, ...] = ()
    """Whose mail it was."""


def asked(mail: Delivery) -> tuple[Source, ...]:
    """Return the sources of a delivery that it concerns (see `concerned`)."""
    return concerned(mail.raw, mail.sources)


def route(sources: Sequence[Source]) -> str:
    """Return the name under which the outbox knows *sources* together."""
    return ",".join(source.name for source in sources)


def examined(
    mail: Delivery, sources: Sequence[Source], settings: Settings, prover: Prover | None
) -> list[Examined]:
    """Return what *mail* becomes by each of *sources*.  Never raises for what is in a mail."""
    return [
        examine(
            mail.raw,
            source,
            received=mail.received,
            accept_test=settings.accept_test,
            backfill=mail.backfill,
            addresses=settings.addresses,
            max_mail=settings.max_mail,
            changes_cap=settings.changes_cap,
            prover=prover,
            rules=settings.rules,
        )
        for source in sources
    ]
