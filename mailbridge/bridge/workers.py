"""
Processes that look at mails beside us, for a backlog: looking is nine tenths of what a mail costs.

A worker has no database, no signing key and nothing to write: it is shown mails, and says what
`examine` says of each.  One that dies over a mail takes its answer with it, and who waits for that
hears of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import IO, Final, NamedTuple

import msgspec

from mailbridge.bridge.compose import Examined
from mailbridge.bridge.delivery import Delivery
from mailbridge.config import Source

PATIENCE: Final = 60
"""Seconds after which a worker ends itself over what it was shown: nothing honest takes so long."""

_ENDED: Final = 5.0
"""Seconds that a worker has to end by itself."""

# (The path comes last: nothing beside us may stand in for the standard library.)
_PROGRAM: Final = (
    "import sys; sys.path.append(sys.argv[1]); from mailbridge.bridge.worker import main; main()"
)
# Ours alone: a worker's readiness, and its sleep, are no news to systemd.
_NOT_THEIRS: Final = frozenset(("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))


class Died(Exception):
    """Raised when a worker ended over the mails it was shown."""


class NoWorker(Exception):
    """Raised when no worker can be had: then we look ourselves."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker must know to say what we would say."""

    sources: tuple[Source, ...] = ()
    """Those whose keyrings and keys it needs."""
    addresses: bool
    accept_test: bool
    max_mail: int
    changes_cap: int | None


class Job(NamedTuple):
    """One mail to be looked at, for these sources."""

    mail: Delivery
    sources: tuple[Source, ...]


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """A `Job` as it travels."""

    raw: bytes
    received: datetime
    backfill: bool
    sources: tuple[int, ...]
    """Which of the sources of its question."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """Mails, and the sources that they came by."""

    sources: tuple[Source, ...]
    mails: tuple[Shown, ...]


Answer = list[list[Examined]]
"""Of each mail what each of its sources says."""


def stamp() -> bytes:
    """Return what tells this code, as it lies on the disk, from any older or newer."""
    found = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        told = path.stat()
        found.update(f"{path.relative_to(package)} {told.st_size} {told.st_mtime_ns}\n".encode())
    return found.digest()


def allowed() -> int:
    """Return how many processors we may use."""
    return len(os.sched_getaffinity(0))


class Workers:
    """*count* workers, started when they are first needed; threads of ours wait for them."""

    def __init__(self, setup: Setup, count: int) -> None:
        self.count: Final = count
        self._setup: Final = msgspec.msgpack.encode(setup)
        # A worker that starts after an upgrade would be of another version than we are.
        self._stamp: Final = stamp()
        self._questions: Final = queue.SimpleQueue[tuple[bytes, Future[Answer]] | None]()
        self._threads: list[threading.Thread] = []
        self._ready: list[threading.Event] = []
        self.running: Final[set[Worker]] = set()
        """The processes there are."""

    def submit(self, jobs: Sequence[Job]) -> Future[Answer]:
        """
        Have *jobs* looked at by one worker, in order.

        The future raises `Died` where it ended over them, `NoWorker` where none can be had.
        """
        self._start()
        answer = Future[Answer]()
        self._questions.put((_question(jobs), answer))
        return answer

    def ready(self) -> None:
        """Return when each of them is there, or cannot be had: what is asked now does not wait."""
        self._start()
        for ready in self._ready:
            ready.wait()

    def close(self) -> None:
        """End the workers, whatever they are doing.  They start again when they are needed."""
        with contextlib.suppress(queue.Empty):
            while item := self._questions.get_nowait():
                item[1].set_exception(NoWorker("closed"))
        for _ in self._threads:
            self._questions.put(None)
        for worker in list(self.running):
            worker.kill()
        for thread in self._threads:
            thread.join(_ENDED)
        self._threads = []

    def _start(self) -> None:
        if self._threads:
            return
        self._ready = [threading.Event() for _ in range(self.count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(ready,), name="worker", daemon=True)
            for ready in self._ready
        ]
        for thread in self._threads:
            thread.start()

    def _started(self) -> Worker:
        worker = Worker(self._setup, self._stamp)
        self.running.add(worker)
        return worker

    def _serve(self, ready: threading.Event) -> None:
        worker: Worker | None = None
        # (Whoever asks is told why, if there is none then, either.)
        with contextlib.suppress(NoWorker):
            worker = self._started()
        ready.set()
        while (item := self._questions.get()) is not None:
            question, answer = item
            try:
                worker = worker or self._started()
                answer.set_result(worker.ask(question))
            # (Whatever it is, it is raised where the answer is waited for.)
            except Exception as error:  # noqa: BLE001
                if worker is not None:
                    self.running.discard(worker)
                    worker.kill()
                worker = None
                answer.set_exception(error)
        if worker is not None:
            self.running.discard(worker)
            worker.kill()


class Worker:
    """One process.  What it says on standard error goes where our own words go."""

    def __init__(self, setup: bytes, expected: bytes) -> None:
        """Start it and wait until it is ready, and of our version.  Raises `NoWorker`."""
        where = str(Path(__file__).parents[2])
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_THEIRS}
        try:
            self._process: Final = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-P", "-c", _PROGRAM, where],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            if self._ask(setup) != expected:
                raise Died("what lies on the disk is another version than we are: restart us")
        except (Died, OSError) as error:
            if hasattr(self, "_process"):
                self.kill()
            raise NoWorker(str(error)) from error

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, question: bytes) -> Answer:
        """Return the answer to *question*.  Raises `Died`."""
        return _ANSWER.decode(self._ask(question))

    def kill(self) -> None:
        """End it, and wait until it has; its pipes are closed."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # (What was still to be written is nobody's any more.)
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, words: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise Died("it has no pipes")
        try:
            write(stdin, words)
            told = read(stdout)
        except (OSError, ValueError) as error:
            raise Died(f"a worker cannot be talked to: {error}") from error
        if told is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDED)
            raise Died(f"a worker ended with {self._process.returncode}")
        return told


def _question(jobs: Sequence[Job]) -> bytes:
    sources = list({source.name: source for job in jobs for source in job.sources}.values())
    numbers = {source.name: number for number, source in enumerate(sources)}
    mails = tuple(
        Shown(
            job.mail.raw,
            job.mail.received,
            job.mail.backfill,
            tuple(numbers[source.name] for source in job.sources),
        )
        for job in jobs
    )
    return msgspec.msgpack.encode(Question(tuple(sources), mails))


_ANSWER: Final = msgspec.msgpack.Decoder(Answer)
_LENGTH: Final = 4


def write(pipe: IO[bytes], words: bytes) -> None:
    """Write *words* such that `read` knows where they end."""
    pipe.write(len(words).to_bytes(_LENGTH, "big"))
    pipe.write(words)
    pipe.flush()


def read(pipe: IO[bytes]) -> bytes | None:
    """Return what `write` wrote; None where nobody writes any more."""
    size = pipe.read(_LENGTH)
    if len(size) < _LENGTH:
        return None
    wanted = int.from_bytes(size, "big")
    words = pipe.read(wanted)
    return words if len(words) == wanted else None
