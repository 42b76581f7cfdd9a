"""Reading: how many events a second one reader has out of a relay's journal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailbridge import keyring
from mailbridge.bench import bare
from mailbridge.bench.feed import signed_parts
from mailbridge.bench.figure import ROUNDS, Figure, Round, rate, seconds
from mailbridge.errors import RelayGone
from mailbridge.reader import open_events
from mailbridge.reader.follow import LIMIT
from mailbridge.signing import SigningKey
from mailbridge.wire.read import Asker

_LEAST: Final = 100_000
"""Events a second, where nobody looks into them."""
_VERIFIED: Final = 0.8
"""Of what bare verification allows."""


def measure_read(key: SigningKey, url: str, directory: Path) -> Iterator[Figure]:
    """
    Yield how many events a second a reader of *url* has, as stored, and verified.

    All of them are of *key*.
    """
    keys = directory / "keys-of-sources"
    keyring.write_public(keys / f"{key.entity}{keyring.PUBLIC}", key.verify_key)
    events = list(_stored(url))
    signed, signatures = signed_parts(events, key)
    plain: list[Round] = []
    verified: list[Round] = []
    numbers = itertools.count()
    for _ in range(ROUNDS):
        took = seconds(lambda: _count(_stored(url), len(events)))
        path = directory / f"bare-read-{next(numbers)}.db"
        bare.stored(path, events, batch=len(events))
        parts = {
            "SQLite": seconds(lambda: bare.paged(path, LIMIT)),  # noqa: B023 - called at once
            "ZeroMQ": seconds(lambda: bare.streamed(events, LIMIT)),
        }
        plain.append(Round(len(events), took, parts))
        took = seconds(lambda: _verified(url, keys, directory, len(events)))
        alone = seconds(lambda: bare.verified(signed, signatures))
        verified.append(Round(len(events), took, {"verify": alone}))
    yield rate("read, as stored", "events/s", plain, limit=math.inf, least=_LEAST)
    yield rate("read, verified", "events/s", verified, limit=1 / _VERIFIED)


def _stored(url: str) -> Iterator[bytes]:
    """Yield all events of *url* as they are stored; nobody looks into them."""
    cursor = None
    with Asker(url) as relay:
        while True:
            asked: dict[str, object] = {"after": cursor, "tags": [], "limit": LIMIT, "packed": True}
            answer = relay.ask("read", asked)
            cursor = answer.header["cursors"][-1]
            more = answer.header["more"] is True
            if more:
                relay.expect("read", {**asked, "after": cursor})
            yield from answer.frames
            if not more:
                return


def _verified(url: str, keys: Path, directory: Path, expected: int) -> None:
    with open_events(
        url, since="start", keys=keys, state=directory / "reader", follow=False
    ) as events:
        _count(events, expected)


def _count(events: Iterator[object], expected: int) -> None:
    if (found := sum(1 for _ in events)) != expected:
        raise RelayGone(f"{found} events were read, of {expected}")
