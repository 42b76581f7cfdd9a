"""Latency: from the rename that delivers a mail to the verified event in a reader's hands."""

from __future__ import annotations

import itertools
import os
import queue
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from mailbridge import traffic
from mailbridge.bench import bare
from mailbridge.bench.figure import Figure, percentile, seconds
from mailbridge.errors import RelayGone
from mailbridge.reader import open_events

_WARM: Final = 5
"""First mails that are not counted: whatever is done once is done on them."""
_PATIENCE: Final = 30.0
_MEDIAN: Final = 2.0
_SLOWEST: Final = 4.0


def measure_latency(directory: Path, *, n: int) -> Iterator[Figure]:
    """Yield the median and the 99th percentile of *n* mails, one at a time, in milliseconds."""
    mails = list(itertools.islice(_with_fresh_news(), n + _WARM))
    arrivals: queue.Queue[tuple[float, bytes] | BaseException] = queue.Queue()
    took: list[float] = []
    events: list[bytes] = []
    with (
        traffic.Stage(parent=directory) as stage,
        open_events(stage.read, since="start", state=stage.state) as read,
    ):

        def collect() -> None:
            try:
                for event in read:
                    arrivals.put((time.perf_counter(), event.raw))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                arrivals.put(error)

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        try:
            for number, raw in enumerate(mails):
                began = _renamed(raw, stage.maildir, number)
                arrived = arrivals.get(timeout=_PATIENCE)
                if isinstance(arrived, BaseException):
                    raise arrived
                took.append(arrived[0] - began)
                events.append(arrived[1])
        except queue.Empty as error:
            raise RelayGone(f"no event in {_PATIENCE} s; {stage.last_words}") from error
        finally:
            read.stop()
            thread.join()
    counted = [1000 * value for value in took[_WARM:]]
    parts = _parts(mails[_WARM:], events[_WARM:], directory)
    alone = sum(parts.values())
    for name, value, limit in (
        ("latency, rename to reader", statistics.median(counted), _MEDIAN),
        ("latency, the slowest of 100", percentile(counted, 99), _SLOWEST),
    ):
        yield Figure(
            name=name,
            unit="ms",
            value=value,
            bare=alone,
            ratio=value / alone,
            floor=limit * alone,
            parts=parts,
            n=n,
        )


def _with_fresh_news() -> Iterator[bytes]:
    known: set[str] = set()
    for post in traffic.mails(1, mix={"uploads": 1, "bugs": 1}):
        if [news.key for news in post.news if news.key not in known]:
            known.update(news.key for news in post.news)
            yield post.raw


def _renamed(raw: bytes, maildir: Path, number: int) -> float:
    """Deliver *raw*, and return the time right before its rename."""
    name = f"{time.time_ns()}.{os.getpid()}_{number}.bench"
    written = maildir / "tmp" / name
    with written.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    began = time.perf_counter()
    written.rename(maildir / "new" / name)
    return began


def _parts(mails: Sequence[bytes], events: Sequence[bytes], directory: Path) -> dict[str, float]:
    """Return the milliseconds of the bare calls that one mail cannot do without, one at a time."""
    n = len(mails)
    paragraphs: list[str] = []
    told = bare.parsed(events)
    signatures = bare.signed(events)
    spent = {
        "email: headers": seconds(lambda: bare.headers(mails)),
        "mail-parser": seconds(lambda: paragraphs.extend(bare.bodies(mails))),
        "python-debian": seconds(lambda: bare.changes(paragraphs)),
        # Read by relay and reader; written twice by the bridge, twice by the relay, once at last.
        "json": 2 * seconds(lambda: bare.parsed(events))
        + 5 * seconds(lambda: bare.canonical(told)),
        "sign": 2 * seconds(lambda: bare.signed(events)),
        "verify": 2 * seconds(lambda: bare.verified(events, signatures)),
        # Bridge: the attempt, then the verdict with its events.  Relay: one.
        "SQLite, fsync": seconds(
            lambda: bare.stored(directory / "latency.db", events, batch=1, commits=3)
        ),
        # To the relay and to the reader, one way each.
        "ZeroMQ, to and fro": seconds(lambda: bare.carried(events, window=1)),
    }
    return {"watchdog": 1000 * _watched(directory)} | {
        call: 1000 * value / n for call, value in spent.items()
    }


def _watched(directory: Path, *, n: int = 50) -> float:
    """Return the median seconds from a rename to watchdog's handler."""
    told: queue.Queue[float] = queue.Queue()

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if str(event.src_path).endswith(".bench"):
                told.put(time.perf_counter())

    maildir = directory / "watched"
    for folder in ("tmp", "new"):
        (maildir / folder).mkdir(parents=True)
    observer = Observer()
    observer.schedule(Handler(), str(maildir / "new"))
    observer.start()
    took = []
    try:
        for number in range(n):
            began = _renamed(b"", maildir, number)
            took.append(told.get(timeout=_PATIENCE) - began)
            while not told.empty():
                told.get()
    finally:
        observer.stop()
        observer.join()
    return statistics.median(took)
