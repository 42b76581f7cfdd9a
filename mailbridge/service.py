"""What every service needs of its surroundings: systemd's readiness, a stop signal, log lines."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import select
import signal
import socket
import sys
import time
import unicodedata
from types import FrameType, TracebackType
from typing import Final, Self

# What systemd takes as the priority of a line on standard error (sd-daemon(3)).
_PRIORITIES: Final = ((logging.ERROR, "<3>"), (logging.WARNING, "<4>"), (logging.INFO, "<6>"))
_DEBUG: Final = "<7>"

# Control, format (bidi overrides), surrogate, line and paragraph separators.
_UNSEEN: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def one_line(text: str) -> str:
    r"""
    Return *text* with all that could break a line or trick a terminal written as an escape.

    >>> one_line("a\nb \x1b[31m\u202e")
    'a\\x0ab \\x1b[31m\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        (f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{ord(c):04x}")  # noqa: PLR2004 - Latin-1
        if unicodedata.category(c) in _UNSEEN
        else c
        for c in text
    )


class _Line(logging.Formatter):
    """One record is one line, whatever a stranger's mail put into it."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__(
            "%(name)s: %(message)s" if journal else "%(asctime)s %(levelname)s %(message)s",
            datefmt="%H:%M:%S",
        )
        self._journal: Final = journal

    def format(self, record: logging.LogRecord) -> str:
        line = one_line(super().format(record))
        if not self._journal:
            return line
        for level, priority in _PRIORITIES:
            if record.levelno >= level:
                return priority + line
        return _DEBUG + line


def set_up_logging(*, verbose: bool = False) -> None:
    """Send log lines to standard error, in the form that the journal or a person expects."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(journal="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True
    )
    # mail-parser warns of every part that is no text, signatures included.
    logging.getLogger("mailparser").setLevel(logging.ERROR)


def notify(*facts: str) -> bool:
    """
    Tell systemd *facts*, as `READY=1` or `STATUS=…`.  False where nobody is there to be told.

    A supervisor that does not listen must not stop us, so a failure is logged and is no error.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        # An abstract socket: its name begins with NUL, not with "@".
        address = "\0" + address[1:]
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told:
        try:
            told.connect(address)
            told.sendall("\n".join(one_line(fact) for fact in facts).encode())
        except OSError as error:
            logging.getLogger(__name__).warning("systemd could not be told: %s", error)
            return False
    return True


def settle_in() -> None:
    """
    Have the collector of garbage leave alone what a service loaded to start: it stays anyway.

    Looking through it takes 20 ms each time, ten times what an event takes.  What was loaded before
    and is not needed any more, as after a reload, is given back first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def watchdog_seconds() -> float | None:
    """Return within how many seconds systemd wants to hear `WATCHDOG=1` again, None for never."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else None


_LOOK_UP: Final = 1.0
"""
Seconds that pass at most until a signal is noticed.

A process that was stopped may be given it, when it goes on, by way of another thread than that
which handles it: what this one waits in is not interrupted then.
"""


class HangUp:
    """
    SIGHUP as something to wait for: what a service reads is to be read again.

    On a terminal it means what it always did there, and *stop* is told: nobody is left to see us.
    """

    def __init__(self, stop: StopSignal) -> None:
        self._stop: Final = stop
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: object = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGHUP, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGHUP, self._before)  # type: ignore[arg-type]  # what signal() gave us
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Return what becomes readable when there is something to read again."""
        return self._read

    def came(self) -> bool:
        """Say whether it came since this was asked last; however often, it is once."""
        try:
            return bool(os.read(self._read, 4096))
        except BlockingIOError:
            return False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            self._stop.set()
            return
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")


class StopSignal:
    """
    SIGTERM and SIGINT as something to wait for; a context manager of the main thread.

    A pipe, not an Event: a handler that runs while the main thread is inside `Event.wait` would
    want the very lock that it holds.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what signal() gave us
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Return what becomes readable when it is time to stop."""
        return self._read

    def set(self) -> None:
        """Stop, as if a signal had come.  Any thread may call it while the context is open."""
        # (A full pipe has said it already.)
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def wait(self, seconds: float | None = None, *, hangup: HangUp | None = None) -> bool:
        """
        Wait at most *seconds* and say whether it is time to stop.

        A *hangup* that came ends the waiting, too; who gives it asks it.
        """
        fds = [self._read, *([hangup.fileno()] if hangup else [])]
        until = math.inf if seconds is None else time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            ready = select.select(fds, [], [], min(max(left, 0), _LOOK_UP))[0]
            if ready or left <= 0:
                return self._read in ready

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.set()
