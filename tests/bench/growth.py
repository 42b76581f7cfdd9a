"""
What a mail costs with a thousand, and with a million behind it; how long a start takes then, and
how much memory.

Not part of the gate.  `python -m tests.bench.growth [DIRECTORY [SIZE ...]]` fills an outbox, a
journal and a Maildir up to each size in turn, starts `mailbridge run` on them, and delivers mails;
a million needs 8 GB below DIRECTORY and a quarter of an hour.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mailbridge import keyring, traffic
from mailbridge.bench.backfill import bench_key
from mailbridge.event import read_event
from mailbridge.journal import Journal
from mailbridge.outbox import Outbox, Verdict

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MAILS = 300
"""Delivered at once, to see what one costs."""
ALONE = 30
"""Delivered one after the other, each when the one before is through."""
MEGABYTE = 1024 * 1024
TAG = "_lk.mailbridge-test.package-upload-accepted"
TEXT = "Changes that somebody made, told at some length, as an upload does. " * 12
PAGE = 20_000
TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """What was measured with so many mails behind."""

    size: int
    ready: float
    """Seconds from the start until it says that it is ready."""
    through: float
    """Seconds from the start until a mail that came meanwhile is through."""
    memory: int
    """Bytes, at most."""
    burst: float
    """Milliseconds of a processor's time for a mail, of many that came at once."""
    alone: float
    """The same, of mails that came one by one."""


class State:
    """An outbox, a journal and a Maildir that grow together."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "state"
        self.maildir = directory / "lists"
        for folder in ("tmp", "new", "cur"):
            (self.maildir / folder).mkdir(parents=True)
        self.key = bench_key()
        keyring.write_pair(self.directory / "keys", self.key)
        self.config = directory / "mailbridge.toml"
        self.config.write_text(
            f"entity = '{self.key.entity}'\nstate = '{self.directory}'\n"
            f"[[source]]\nname = 'lists'\nmaildir = '{self.maildir}'\nafter = 'seen'\n"
        )
        self.size = 0
        self.delivered = 0

    def grow(self, size: int) -> None:
        """Fill it with mails, their files and their events up to *size*."""
        now = datetime.now(UTC)
        place = os.fsencode(self.maildir.resolve())
        with (
            Outbox(self.directory / "outbox.db", self.key, now=now) as outbox,
            Journal.open(self.directory / "journal.db") as journal,
        ):
            # (Only while it is filled.  What is measured has its fsyncs.)
            for pragma in ("synchronous=OFF", "cache_size=-200000"):
                outbox.run(f"PRAGMA {pragma}")
                journal._file.run(f"PRAGMA {pragma}")
            number = outbox.place(place)
            if number is None:
                with outbox.transaction():
                    number = outbox.add_place(place, now=now)
            while self.size < size:
                some = range(self.size, min(self.size + PAGE, size))
                self._emit(outbox, number, some, now)
                with journal.batch(now) as batch:
                    for stored in outbox.after(batch.head(outbox.feed).seq, 2 * PAGE):
                        batch.append(read_event(stored.raw), stored.raw)
                self.size = some.stop

    def _emit(self, outbox: Outbox, place: int, some: range, now: datetime) -> None:
        done = Verdict("events")
        with outbox.transaction():
            mails = [hashlib.sha256(b"%d" % number).digest() for number in some]
            for number, mail in zip(some, mails, strict=True):
                outbox.emit(_fields(number, now), mail=mail, backfill=False)
            outbox.decide_all(((mail, "lists", done) for mail in mails), now=now)
            outbox.files_done(place, (self._file(number) for number in some), done, now=now)
            outbox.tally("lists", done, len(some))

    def _file(self, number: int) -> tuple[bytes, int]:
        base = f"{1_600_000_000 + number}.M{number}P7.mx.example.org"
        with (self.maildir / "cur" / f"{base}:2,S").open("xb") as file:
            return base.encode(), os.fstat(file.fileno()).st_ino

    @contextlib.contextmanager
    def running(self) -> Iterator[Daemon]:
        """Give `mailbridge run` on it, ready."""
        daemon = Daemon(self)
        try:
            yield daemon
        finally:
            daemon.stop()

    def deliver(self, mails: Iterator[bytes], count: int) -> None:
        """Deliver *count* of *mails*."""
        for raw in itertools.islice(mails, count):
            traffic.deliver(raw, self.maildir, self.delivered)
            self.delivered += 1

    @contextlib.contextmanager
    def looking(self, name: str) -> Iterator[sqlite3.Connection]:
        """Open a database to look and no more."""
        path = self.directory / name
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            yield db


class Daemon:
    """`mailbridge run`, started just now and ready."""

    def __init__(self, state: State) -> None:
        self._state = state
        words = ["-c", str(state.config), "run", "--accept-test"]
        words += [w for to in ("submit", "publish", "read") for w in (f"--{to}", ANYWHERE)]
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mailbridge", *words],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.began = began
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("ready "):
                break
        else:
            raise AssertionError("it ended before it was ready")
        self.ready = time.perf_counter() - began
        # (What it logs goes into a pipe that holds more than that.)

    def cpu(self) -> float:
        """Return the seconds of a processor that it took, and its workers."""
        found = 0.0
        for pid in (self._process.pid, *self._children()):
            with contextlib.suppress(FileNotFoundError):
                told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                found += (int(told[11]) + int(told[12])) / TICKS
        return found

    def _children(self) -> list[int]:
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def memory(self) -> int:
        """Return how many bytes it had at most."""
        told = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", told)
        assert found
        return int(found[1]) * 1024

    def wait_until_through(self, mails: int) -> None:
        """Return once *mails* have verdicts, and their events are acknowledged."""
        with self._state.looking("outbox.db") as outbox:
            while True:
                (done,) = outbox.execute("SELECT sum(n) FROM count").fetchone()
                (newest,) = outbox.execute("SELECT max(seq) FROM event").fetchone()
                acked = outbox.execute("SELECT acked FROM target").fetchone()
                if done >= mails and acked and acked[0] >= newest:
                    return
                if self._process.poll() is not None:
                    raise AssertionError("it ended")
                time.sleep(0.005)

    def settle(self) -> None:
        """Return once it is done with what it does at a start, in the background."""
        cpu, quiet = self.cpu(), 0
        while quiet < 4:
            time.sleep(0.5)
            before, cpu = cpu, self.cpu()
            quiet = quiet + 1 if cpu - before < 0.05 else 0

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate()


ANYWHERE = "tcp://127.0.0.1:0"


def _fields(number: int, now: datetime) -> dict[str, object]:
    digest = hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()
    uuid = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"
    return {
        "id": TAG,
        "tag": TAG,
        "uuid": uuid,
        "format": "1.0",
        "time": now.isoformat(timespec="milliseconds"),
        "data": {
            "source_name": f"package{number}",
            "changes": TEXT,
            "provenance": {"sent_by": {"how": "none"}, "signed_by": {"status": "unchecked"}},
        },
    }


def measured(state: State, mails: Iterator[bytes]) -> Cost:
    """Return what a mail costs on *state* as it is."""
    behind = state.size + state.delivered
    state.deliver(mails, 1)
    with state.running() as daemon:
        daemon.wait_until_through(behind + 1)
        through = time.perf_counter() - daemon.began
        daemon.settle()
        cpu = daemon.cpu()
        state.deliver(mails, MAILS)
        daemon.wait_until_through(behind + 1 + MAILS)
        burst = (daemon.cpu() - cpu) / MAILS
        cpu = daemon.cpu()
        for number in range(1, ALONE + 1):
            state.deliver(mails, 1)
            daemon.wait_until_through(behind + 1 + MAILS + number)
        alone = (daemon.cpu() - cpu) / ALONE
        return Cost(state.size, daemon.ready, through, daemon.memory(), 1000 * burst, 1000 * alone)


def main(*words: str) -> None:
    """Print the table, a line as soon as it is known."""
    sizes = [int(word) for word in words[1:]] or SIZES
    directory = Path(tempfile.mkdtemp(prefix="growth-", dir=words[0] if words else None))
    mails = (post.raw for post in traffic.mails(1, mix={"uploads": 1, "bugs": 1}))
    _say(f"{'behind':>9} {'ready':>7} {'first':>7} {'memory':>8} {'at once':>9} {'alone':>9}  fill")
    try:
        state = State(directory)
        for size in sizes:
            began = time.perf_counter()
            state.grow(size)
            filled = time.perf_counter() - began
            cost = measured(state, mails)
            _say(
                f"{cost.size:>9,} {cost.ready:>5.2f} s {cost.through:>5.2f} s"
                f" {cost.memory / MEGABYTE:>5.0f} MB {cost.burst:>6.2f} ms {cost.alone:>6.2f} ms"
                f"  {filled:.0f} s"
            )
    finally:
        shutil.rmtree(directory)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
