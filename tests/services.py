"""A whole service on a Maildir of its own, and the oracle that every fault must leave content."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from mailbridge.errors import TryAgain
from mailbridge.event import VerifiedEvent
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, said_by, upload

# Runs before mailbridge in its process, and can be told to do something to the watch of its loop.
OBSERVED: Final = """
import signal
from mailbridge.maildir import watch
made = []
start = watch.Watch.start
def started(self):
    start(self)
    made.append(self)
watch.Watch.start = started
def harm(*_):
    observer = made[-1]._observer
    {harm}
signal.signal(signal.SIGUSR1, harm)
"""


class Service:
    """`mailbridge run` on a Maildir, mails delivered to it, and what they must become."""

    def __init__(self, directory: Path, *words: str | Path, after: str = "seen") -> None:
        self.maildir: Final = make_maildir(directory / "Maildir")
        self.state: Final = directory / "state"
        self.words: Final = (
            *("run", "--maildir", self.maildir, "--existing", "emit", "--after", after),
            *("--state", self.state, *LOOPBACK, *words),
        )
        self.expected: Final[list[str]] = []
        self.files = 0
        """How many files a verdict must be recorded of."""
        self._number = 0

    @contextlib.contextmanager
    def running(self, *, preamble: str = "", fail_at: str = "") -> Iterator[Daemon]:
        """Run it until the block ends, then end it as systemd would."""
        with Daemon(*self.words, preamble=preamble, fail_at=fail_at) as daemon:
            self.read = daemon.ready()["read"]
            yield daemon
            assert daemon.stop() == 0, daemon.said

    def mail(self) -> bytes:
        """Return the next upload's mail, and expect its event."""
        self._number += 1
        self.files += 1
        self.expected.append(f"upload package{self._number}")
        return upload(self._number)

    def deliver(self, *, by: str = "rename", name: str = "") -> Path:
        """Deliver one more upload."""
        raw = self.mail()
        return put(self.maildir, raw, name or f"{self._number}.a.host", by=by)

    def arrived(self) -> list[VerifiedEvent]:
        """Wait until a reader has all that is expected, and nothing else, and return it."""
        events = read_events(self.read, self.state, len(self.expected))
        assert Counter(said_by(events)) == Counter(self.expected)
        links = [event.feed for event in events if event.feed]
        assert [link.seq for link in links] == list(range(1, len(events) + 1))
        assert [link.prev for link in links[1:]] == [event.hash for event in events[:-1]]
        return events

    def check(self) -> None:
        """
        Hold what is there against what was delivered: each event once, each file one verdict.

        Asked of a service that runs; what is on its disk is asked read-only.
        """
        self.arrived()
        with pytest.raises(TryAgain):
            read_events(self.read, self.state, len(self.expected) + 1, timeout=0.3)
        with contextlib.closing(opened(self.state / "outbox.db")) as outbox:
            verdicts = dict(outbox.execute("SELECT verdict, sum(n) FROM count GROUP BY verdict"))
            assert verdicts.get("events", 0) == len(self.expected), verdicts
            assert sum(verdicts.values()) == self.files, verdicts
            assert list(outbox.execute("PRAGMA quick_check")) == [("ok",)]


def opened(path: Path) -> sqlite3.Connection:
    """Open a database that somebody else writes to, to look and no more."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)


def names(folder: Path) -> set[str]:
    """Return what lies in *folder*."""
    return {path.name for path in folder.iterdir()}


def numbered(mails: Iterable[bytes], maildir: Path, *, ending: str) -> None:
    """Deliver *mails* by rename, as fast as the disk can."""
    for number, raw in enumerate(mails, 1):
        held = maildir / "tmp" / f"{number:06}.{ending}"
        held.write_bytes(raw)
        held.rename(maildir / "new" / held.name)
