"""The relay: how many events a second it verifies, signs, makes durable, and acknowledges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import zmq

from mailbridge.bench import bare
from mailbridge.bench.backfill import bench_key
from mailbridge.bench.figure import Figure, rate, seconds
from mailbridge.config import Relay as Settings
from mailbridge.errors import RelayGone
from mailbridge.relay import Relay

ANYWHERE = "tcp://127.0.0.1:0"
PATIENCE_MS = 30_000


def measure_relay(events: Sequence[bytes], directory: Path) -> Figure:
    """Return how many of *events*, a feed from its first, a relay in *directory* takes a second."""
    key = bench_key()
    settings = Settings(submit=ANYWHERE, publish=ANYWHERE, read=ANYWHERE)
    answers: list[bytes] = []
    with (
        Relay(directory / "relay", settings, own={key.entity: key.verify_key}) as relay,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(relay.endpoints.submit)
        took = seconds(lambda: answers.extend(bare.in_flight(dealer, events)))
    for answer in answers:
        told = json.loads(answer)
        if told["status"] != "stored":
            raise RelayGone(f"the relay did not take event {told.get('seq')}: {told}")
    signatures = bare.signed(events)
    journal = directory / "bare-relay.db"
    return rate(
        "relay, acknowledged",
        "events/s",
        n=len(events),
        took=took,
        bare={
            "ZeroMQ, to and fro": seconds(lambda: bare.carried(events)),
            "verify": seconds(lambda: bare.verified(events, signatures)),
            "json, ed25519": seconds(lambda: bare.signed(events)),
            "SQLite, fsync": seconds(lambda: bare.stored(journal, events, batch=bare.WINDOW)),
        },
    )
