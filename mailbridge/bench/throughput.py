"""The relay: how many events a second it verifies, signs, makes durable, and acknowledges."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import zmq

from mailbridge.bench import bare
from mailbridge.bench.backfill import bench_key
from mailbridge.bench.figure import Figure, Round, chunks, rate, seconds
from mailbridge.config import Relay as Settings
from mailbridge.errors import RelayGone
from mailbridge.relay import Relay

ANYWHERE: Final = "tcp://127.0.0.1:0"
PATIENCE_MS: Final = 30_000
_LIMIT: Final = 2.5


def measure_relay(events: Sequence[bytes], directory: Path) -> Figure:
    """Return how many of *events*, a feed from its first, a relay in *directory* takes a second."""
    key = bench_key()
    settings = Settings(submit=ANYWHERE, publish=ANYWHERE, read=ANYWHERE)
    numbers = itertools.count()
    rounds: list[Round] = []
    with (
        Relay(directory / "relay", settings, own={key.entity: key.verify_key}) as relay,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(relay.endpoints.submit)
        for part in chunks(events):
            answers: list[bytes] = []
            try:
                took = seconds(lambda: answers.extend(bare.in_flight(dealer, part)))  # noqa: B023
            except zmq.Again as error:
                raise RelayGone(f"the relay did not answer in {PATIENCE_MS} ms") from error
            _check(answers)
            path = directory / f"bare-relay-{next(numbers)}.db"
            rounds.append(Round(len(part), took, _bare(part, path)))
    return rate("relay, acknowledged", "events/s", rounds, limit=_LIMIT)


def _check(answers: Sequence[bytes]) -> None:
    for answer in answers:
        told = json.loads(answer)
        if told["status"] != "stored":
            raise RelayGone(f"the relay did not take event {told.get('seq')}: {told}")


def _bare(events: Sequence[bytes], path: Path) -> dict[str, float]:
    # Read once; written to verify and sign it, and once more with our signature.
    told: list[object] = []
    reading = seconds(lambda: told.extend(bare.parsed(events)))
    signatures = bare.signed(events)
    return {
        "ZeroMQ, to and fro": seconds(lambda: bare.carried(events)),
        "json": reading + 2 * seconds(lambda: bare.canonical(told)),
        "verify": seconds(lambda: bare.verified(events, signatures)),
        "sign": seconds(lambda: bare.signed(events)),
        "SQLite, fsync": seconds(lambda: bare.stored(path, events, batch=bare.WINDOW)),
    }
