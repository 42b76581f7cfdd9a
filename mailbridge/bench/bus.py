"""A relay and its readers: the feed that goes in is what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mailbridge.bench.backfill import bench_key
from mailbridge.bench.feed import Feed
from mailbridge.bench.figure import Figure
from mailbridge.bench.reading import measure_read
from mailbridge.bench.served import served
from mailbridge.bench.throughput import measure_relay


def measure_bus(samples: Sequence[bytes], directory: Path, *, n: int) -> Iterator[Figure]:
    """Yield what a relay in *directory* does with *n* events that say what *samples* say."""
    key = bench_key()
    feed = Feed(key, samples)
    with served(directory / "relay", key.verify_key) as relay:
        yield from measure_relay(feed, key.verify_key, relay, n, directory)
        yield from measure_read(key, relay.read, directory)
