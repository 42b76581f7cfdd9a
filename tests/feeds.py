"""A source with a feed of its own, for tests of whoever takes, keeps or reads events."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from mailbridge.event import SignedEvent, read_event
from mailbridge.feed import Head
from mailbridge.signing import SigningKey, sign_fields, sign_note

EPOCH: Final = "20261120T120000Z"
TIME: Final = "2026-11-20T12:00:00+00:00"
TAG: Final = "_lk.mailbridge.bug-closed"


class Source:
    """Signs events, each linked to the one before."""

    def __init__(self, entity: str = "mailbridge.lists.example.org", epoch: str = EPOCH) -> None:
        seed = uuid.uuid5(uuid.NAMESPACE_DNS, entity).bytes * 2
        self.key: Final = SigningKey(entity, seed)
        self.head = Head(feed=f"{entity}/{epoch}")

    def event(self, number: int, tag: str = TAG, *, uuid_of: int | None = None) -> SignedEvent:
        """Return the next event of the feed; *uuid_of*: it says what that other number says."""
        event = self.signed(number, tag, feed=self.head.link(tag), uuid_of=uuid_of)
        self.head = self.head.after(event)
        return event

    def events(self, count: int, tag: str = TAG) -> list[SignedEvent]:
        """Return the next *count* events of the feed, of which no uuid was used before."""
        begin = self.head.seq
        return [self.event(begin + number, tag) for number in range(1, count + 1)]

    def signed(
        self, number: int, tag: str = TAG, *, feed: object = None, **changed: Any
    ) -> SignedEvent:
        """Return an event as it is told to be; without *feed* as Lighthouse's clients make it."""
        said = changed.pop("uuid_of", None) or number
        fields = {
            "id": tag,
            "tag": tag,
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, str(said))),
            "format": "1.0",
            "time": TIME,
            "data": {"number": number},
            **changed,
        }
        if feed is not None:
            fields["feed"] = msgspec.to_builtins(feed)
        return read_event(sign_fields(fields, self.key)[0])

    def signed_head(self, time: str = TIME, **changed: Any) -> bytes:
        """Return the head as a bridge gives it every minute."""
        head = {**msgspec.to_builtins(self.head), "time": time, **changed}
        return sign_note({"head": head}, self.key)
