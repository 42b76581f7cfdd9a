"""The events that the bridge itself gives, of whatever kind the mail was that made it speak."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from mailbridge import kinds
from mailbridge.payloads import Payload


class EventConfirmed(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """
    News that is out already came again, backed by more than before: `provenance` tells by what.

    It goes out wherever the event does that it confirms.
    """

    NAME = "event-confirmed"
    DEFAULT = "on"

    confirms: str
    """The uuid of the event that is confirmed."""
    of: str
    """Its tag."""


class _Fault(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """Something about a source that no mail tells: these facts are all of `data`."""

    DEFAULT = "on"
    OF_A_MAIL: ClassVar[bool] = False

    source: str
    """Name of the configured source."""
    archive: str | None = None
    """The distribution it speaks of, where the configuration says so."""


class SourceSilent(_Fault, frozen=True, kw_only=True, omit_defaults=True):
    """A source has said nothing for longer than it should; told once for each silence."""

    NAME = "source-silent"

    since: str
    """ISO 8601 UTC: when its last mail arrived, or when it was first expected."""
    expected: str
    """How long it may say nothing, as the configuration has it: `24h`."""


class SourceHeard(_Fault, frozen=True, kw_only=True, omit_defaults=True):
    """A source that was told to be silent speaks again."""

    NAME = "source-heard"

    since: str
    """Since when it had been silent, as `source-silent` told."""


class ListGap(_Fault, frozen=True, kw_only=True, omit_defaults=True):
    """Mails that a list numbered did not come; at most one of these an hour for each list."""

    NAME = "list-gap"

    list_id: str
    first: int = msgspec.field(name="from")
    """The first number that is missing."""
    last: int = msgspec.field(name="to")
    """The last one."""
    missing: int
    """How many of these are: the others came."""


class NextKey(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """The last event of a feed: its source signs with another key and name from now on."""

    NAME = "next-key"
    DEFAULT = "on"
    OF_A_MAIL: ClassVar[bool] = False

    entity: str
    """The name it signs under from now on."""
    key: str
    """That key's public half: ed25519, unpadded base64."""


PAYLOADS: Final = (EventConfirmed, SourceSilent, SourceHeard, ListGap, NextKey)


def payloads() -> dict[str, type[Payload]]:
    """Return every payload that some kind of mail, or the bridge itself, can give, by its name."""
    return kinds.payloads() | {payload.NAME: payload for payload in PAYLOADS}


def summary(payload: type[Payload]) -> str:
    """Return in a line when the bridge gives an event with this payload."""
    return " ".join((payload.__doc__ or "").partition("\n\n")[0].split())
