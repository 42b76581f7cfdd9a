"""Back-fill: old mail into an outbox, with everything on: quarantine, counts, full fsync."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mailbridge.bench import bare
from mailbridge.bench.figure import Figure, Round, chunks, rate, seconds
from mailbridge.bridge.deliver import BATCH, Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.config import Source
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey


def measure_backfill(mails: Sequence[bytes], directory: Path) -> tuple[Figure, list[bytes]]:
    """Return how many *mails* a second come into an outbox in *directory*; and its events."""
    source = Source(name="bench", maildir=str(directory))
    now = datetime.now(UTC)
    numbers = itertools.count()
    rounds: list[Round] = []
    events: list[bytes] = []
    with Outbox(directory / "outbox.db", bench_key(), now=now) as outbox:
        quarantine = Quarantine(directory / "quarantine")
        gateway = Gateway(
            outbox, quarantine, Settings(accept_test=True, origin="bench.example.org")
        )
        for part in chunks(mails):
            deliveries = [Delivery(raw, (source,), now, backfill=True) for raw in part]
            outcomes: list[Outcome] = []
            took = seconds(lambda: outcomes.extend(gateway.deliver(deliveries)))  # noqa: B023
            new = [event.raw for event in outbox.after(len(events), len(part) + 1)]
            events += new
            path = directory / f"bare-{next(numbers)}.db"
            rounds.append(Round(len(part), took, _bare(part, outcomes, new, path)))
    return rate("back-fill", "mails/s", rounds), events


def _bare(
    mails: Sequence[bytes], outcomes: Sequence[Outcome], events: Sequence[bytes], path: Path
) -> dict[str, float]:
    # A mail of no interest needs its headers only; an event is written twice: to sign it, signed.
    read = [
        raw
        for raw, outcome in zip(mails, outcomes, strict=True)
        if (verdict := outcome.verdict).verdict in ("events", "quarantined")
        or verdict.code == "same-news"
    ]
    paragraphs: list[str] = []
    told = bare.parsed(events)
    # (Two commits a batch: a mail's attempt must be on the disk before it is read.)
    batch = max(1, BATCH * len(events) // len(mails))
    return {
        "email: headers": seconds(lambda: bare.headers(mails)),
        "mail-parser": seconds(lambda: paragraphs.extend(bare.bodies(read))),
        "python-debian": seconds(lambda: bare.changes(paragraphs)),
        "json": 2 * seconds(lambda: bare.canonical(told)),
        "sign": seconds(lambda: bare.signed(events)),
        "SQLite, fsync": seconds(lambda: bare.stored(path, events, batch=batch, commits=2)),
    }


def bench_key() -> SigningKey:
    """Return a key that signs nothing but figures."""
    return SigningKey("mailbridge.bench.example.org", bytes(range(32)))
