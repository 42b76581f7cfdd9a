"""
What one mail costs, measured in a process of its own, which may fall without harm to anybody.

A warm interpreter with all our imports done forks for each mail: what the fork needs beyond that is
what the mail needs.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from mailbridge.bridge.compose import Examined, examine
from mailbridge.config import Source
from mailbridge.errors import MalformedMail
from mailbridge.event import MAX_EVENT_BYTES, canonical
from mailbridge.mail import MAX_MAIL, read_mail
from tests.conftest import NOON

TREE: Final = Path(__file__).parent.parent
SOURCE: Final = Source(name="hostile", maildir="/nowhere")
MIB: Final = 1024 * 1024

CPU: Final = 20
"""Seconds of CPU after which a mail is taken to hang: a guard, at a desk none takes two."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a mail, and at what price."""

    ended: int = 0
    """0, or how the process ended; negative is a signal."""
    size: int = 0
    outcome: str = ""
    code: str | None = None
    kind: str | None = None
    reason: str | None = None
    events: int = 0
    largest: int = 0
    """Bytes of the largest event."""
    cpu: float = 0
    """Seconds.  For the eyes of people: no test asserts a speed."""
    memory: int = 0
    """Bytes beyond what the idle process has."""

    @property
    def allowed(self) -> int:
        """How many bytes a mail of this size may need."""
        return 8 * self.size + 50 * MIB


class Meter:
    """A process that examines mails, each in a fork of its own."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.costs"],
            cwd=TREE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def cost(self, mail: Path, *, max_mail: int = MAX_MAIL) -> Cost:
        """Examine the file *mail*, and return what that cost."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked
        assert answers
        asked.write(json.dumps([str(mail), max_mail]).encode() + b"\n")
        asked.flush()
        return msgspec.json.decode(answers.readline(), type=Cost)


def everything(raw: bytes, *, max_mail: int = MAX_MAIL) -> Examined:
    """Examine *raw* with all that can be switched on."""
    return examine(
        raw,
        SOURCE,
        received=NOON,
        everything=True,
        accept_test=True,
        addresses=True,
        max_mail=max_mail,
    )


def look_at_all(raw: bytes, *, max_mail: int = MAX_MAIL) -> None:
    """Ask *raw* for all that a mail can tell, whether a kind would or not."""
    try:
        read = read_mail(raw, limit=max_mail)
        told = [read.subject, read.message_id, read.list_id, str(read.date), str(read.received)]
        told += [value for name in read.names for value in read.headers(name)]
        told += [*read.texts, *(inner.text for inner in read.attached)]
        # (For these all is parsed again, by the book or not.)
        told += read.file_names if len(raw) < MIB else []
    except MalformedMail:
        return
    for text in told:
        # (No lone surrogate.)
        (text or "").encode()


def in_fork(work: Callable[[], bytes]) -> tuple[bytes, int]:
    """Return what *work* returns in a fork, and that one's exit status; negative is a signal."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.write(write, work())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        answer = told.read()
    _, status = os.waitpid(pid, 0)
    return answer, os.waitstatus_to_exitcode(status)


def _measure(mail: Path, max_mail: int) -> bytes:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    idle = _resident()
    raw = mail.read_bytes()
    # A guard for this machine, far above what is asserted.
    limit = _virtual() + 30 * len(raw) + 1024 * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    started = time.process_time()
    found = everything(raw, max_mail=max_mail)
    cpu = time.process_time() - started
    sizes = [len(canonical([event.data, event.author])) for event in found.emitted]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    look_at_all(raw, max_mail=max_mail)
    assert all(size <= MAX_EVENT_BYTES for size in sizes)
    return msgspec.json.encode(
        Cost(
            size=len(raw),
            outcome=found.outcome,
            code=found.code,
            kind=found.kind,
            reason=found.reason,
            events=len(found.events),
            largest=max(sizes, default=0),
            cpu=cpu,
            memory=peak - idle,
        )
    )


def _resident() -> int:
    return _pages()[1] * resource.getpagesize()


def _virtual() -> int:
    return _pages()[0] * resource.getpagesize()


def _pages() -> list[int]:
    return [int(word) for word in Path("/proc/self/statm").read_text("ascii").split()]


def _serve() -> None:
    logging.disable(logging.CRITICAL)
    # What is imported when it is first used, is.
    for mail in sorted((TREE / "fixtures").glob("*/*/mail.eml")):
        everything(mail.read_bytes())
    for line in sys.stdin.buffer:
        path, max_mail = json.loads(line)
        told, ended = in_fork(lambda: _measure(Path(path), max_mail))  # noqa: B023 - called at once
        answer = msgspec.json.encode(Cost(ended=ended)) if ended else told
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
