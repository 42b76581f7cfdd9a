"""Back-fill: old mail into an outbox, with everything on: quarantine, counts, full fsync."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mailbridge.bench import bare
from mailbridge.bench.figure import Figure, rate, seconds
from mailbridge.bridge.deliver import BATCH, Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.config import Source
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey

ENTITY = "mailbridge.bench.example.org"


def measure_backfill(mails: Sequence[bytes], directory: Path) -> tuple[Figure, list[bytes]]:
    """Return how many *mails* a second come into an outbox in *directory*; and its events."""
    source = Source(name="bench", maildir=str(directory))
    now = datetime.now(UTC)
    deliveries = [Delivery(raw, (source,), now, backfill=True) for raw in mails]
    outcomes: list[Outcome] = []
    with Outbox(directory / "outbox.db", bench_key(), now=now) as outbox:
        quarantine = Quarantine(directory / "quarantine")
        gateway = Gateway(
            outbox, quarantine, Settings(accept_test=True, origin="bench.example.org")
        )
        took = seconds(lambda: outcomes.extend(gateway.deliver(deliveries)))
        events = [event.raw for event in outbox.all()]
    # A mail of no interest needs its headers only; an event is signed and stored.
    read = [
        raw
        for raw, outcome in zip(mails, outcomes, strict=True)
        if outcome.verdict.verdict in ("events", "quarantined")
        or outcome.verdict.code == "same-news"
    ]
    paragraphs: list[str] = []
    stored = directory / "bare.db"
    # (Two commits a batch: a mail's attempt must be on the disk before it is read.)
    in_a_batch = max(1, BATCH * len(events) // len(mails))
    return rate(
        "back-fill",
        "mails/s",
        n=len(mails),
        took=took,
        bare={
            "email: headers": seconds(lambda: bare.headers(mails)),
            "mail-parser": seconds(lambda: paragraphs.extend(bare.bodies(read))),
            "python-debian": seconds(lambda: bare.changes(paragraphs)),
            "json, ed25519": seconds(lambda: bare.signed(events)),
            "SQLite, fsync": seconds(
                lambda: bare.stored(stored, events, batch=in_a_batch, commits=2)
            ),
        },
    ), events


def bench_key() -> SigningKey:
    """Return a key that signs nothing but figures."""
    return SigningKey(ENTITY, bytes(range(32)))
