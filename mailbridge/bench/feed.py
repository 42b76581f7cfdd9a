"""A feed as long as a measurement needs, of events that say what others say."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from mailbridge.event import TEST_NAMESPACE, read_event
from mailbridge.feed import Head
from mailbridge.signing import KEY_ID, SigningKey, from_base64, sign_fields

_EPOCH: Final = "20240910T120000Z"


class Feed:
    """Events of *key*, each linked to the one before, that say in turn what *samples* say."""

    def __init__(self, key: SigningKey, samples: Sequence[bytes]) -> None:
        self._key: Final = key
        self._samples: Final[list[dict[str, Any]]] = [json.loads(raw) for raw in samples]
        self._turns: Final = itertools.cycle(self._samples)
        self._head = Head(feed=f"{key.entity}/{_EPOCH}")
        self._tags: Final[dict[str, int]] = {}

    def take(self, count: int) -> list[bytes]:
        """Return the next *count* events, signed."""
        return list(itertools.islice(self, count))

    def __iter__(self) -> Iterator[bytes]:
        """Yield the next events, without end."""
        while True:
            yield self._next()

    def _next(self) -> bytes:
        told = next(self._turns)
        seq = self._head.seq + 1
        tag = f"{TEST_NAMESPACE}.{told['tag'].rpartition('.')[2]}"
        counted = self._tags[tag] = self._tags.get(tag, 0) + 1
        link = {"id": self._head.feed, "seq": seq, "prev": self._head.hash, "tag_seq": counted}
        fields = {
            **{key: value for key, value in told.items() if key != "signatures"},
            "id": tag,
            "tag": tag,
            "uuid": str(uuid.UUID(int=seq, version=5)),
            "feed": link,
        }
        raw, hashed = sign_fields(fields, self._key)
        self._head = msgspec.structs.replace(self._head, seq=seq, hash=hashed)
        return raw


def signed_parts(events: Sequence[bytes], key: SigningKey) -> tuple[list[bytes], list[bytes]]:
    """Return the bytes that the signatures of *events* cover, and the signatures of *key*."""
    told = [read_event(raw) for raw in events]
    signatures = [from_base64(event.signatures[key.entity][KEY_ID]) for event in told]
    return [event.preimage for event in told], signatures
