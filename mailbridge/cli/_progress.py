"""How far a long piece of work is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final, TextIO

EVERY: Final = 10.0
"""Seconds between two lines, where standard error is no terminal."""

_MINUTE: Final = 60
_HOUR: Final = 3600


class Lines:
    """A line of how far we are, on *stream*, at most each `EVERY` seconds of *clock*."""

    def __init__(
        self,
        total: Callable[[], int],
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*total* is all there is to do, in bytes; 0 if nobody knows.  Asked once, if at all."""
        self._total: Final = total
        self._all: int | None = None
        self._stream: Final = stream or sys.stderr
        self._clock: Final = clock
        self._began: Final = clock()
        self._told = self._began
        self._mails = 0
        self._bytes = 0

    def taken(self, size: int) -> None:
        """Count a mail of *size* bytes as done."""
        self._mails += 1
        self._bytes += size
        now = self._clock()
        if now - self._told >= EVERY:
            self._told = now
            print(self._line(now - self._began), file=self._stream, flush=True)

    def _line(self, seconds: float) -> str:
        if self._all is None:
            self._all = self._total()
        words = f"{self._mails:,} mails, {self._mails / seconds:,.0f} a second"
        if self._all > self._bytes > 0:
            left = seconds * (self._all / self._bytes - 1)
            words += f", {100 * self._bytes // self._all} %, about {about(left)} left"
        return words


def about(seconds: float) -> str:
    """
    Return *seconds* as a person says them.

    >>> about(41.2), about(90), about(7300)
    ('41 s', '2 min', '2.0 h')
    """
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


@contextlib.contextmanager
def progress(
    doing: str, total: Callable[[], int], *, printing: bool = False
) -> Iterator[Callable[[int], None]]:
    """
    Give what to call with the size of each mail that is done; how far we are is on standard error.

    *total* says how many bytes there are, 0 if nobody knows.  Where we are *printing* to the very
    terminal that a bar would be on, there is none, nor a line.
    """
    if not sys.stderr.isatty():
        yield Lines(total).taken
        return
    if printing and sys.stdout.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[mails]:,} mails, {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
    )
    began, mails = time.monotonic(), 0
    # (What is printed goes to standard output, and not through the bar to standard error.)
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task(doing, total=total() or None, mails=0, rate=0.0)

        def taken(size: int) -> None:
            nonlocal mails
            mails += 1
            rate = mails / max(time.monotonic() - began, 0.001)
            bar.update(task, advance=size, mails=mails, rate=rate)

        yield taken
