"""The events that the bridge itself gives, of whatever kind the mail was that made it speak."""

from __future__ import annotations

from typing import Final

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


PAYLOADS: Final = (EventConfirmed,)


def payloads() -> dict[str, type[Payload]]:
    """Return every payload that some kind of mail, or the bridge itself, can give, by its name."""
    return kinds.payloads() | {payload.NAME: payload for payload in PAYLOADS}


def summary(payload: type[Payload]) -> str:
    """Return in a line when the bridge gives an event with this payload."""
    return " ".join((payload.__doc__ or "").partition("\n\n")[0].split())
