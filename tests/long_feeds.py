"""A feed as long as wanted, as a journal and as an export; and what a command over it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mailbridge import keyring
from mailbridge.event import SignedEvent, canonical
from mailbridge.journal import Journal
from tests.conftest import NOON
from tests.feeds import Source

_TEXT = "Changes that somebody made, told at some length, as an upload does. " * 12


# (`ru_maxrss` would be that of whoever started it, if he has more: it outlives `execve`.)
_MEASURED = """
import os, sys
from pathlib import Path
from mailbridge.cli import main
status = main(sys.argv[2:])
os.write(int(sys.argv[1]), Path("/proc/self/status").read_bytes())
sys.exit(status)
"""


class Made(NamedTuple):
    """Where it lies."""

    journal: Path
    export: Path
    keys: Path


class Cost(NamedTuple):
    """What a command took."""

    status: int
    seconds: float
    """Of a processor's time, which other programs do not change much."""
    peak: int
    """Bytes of memory that it had at most."""


def make(directory: Path, count: int, text: str = _TEXT) -> Made:
    """Make a feed of *count* events, of 1.3 kB each unless *text* is another, in both forms."""
    source = Source()
    made = Made(directory / "journal.db", directory / "events.export", directory / "keys")
    keyring.write_public(made.keys / f"{source.key.entity}.key", source.key.verify_key)
    with Journal.open(made.journal) as journal, made.export.open("wb") as file:
        file.write(canonical({"export": {"version": 1}}) + b"\n")
        events = _events(source, count, text)
        while some := list(islice(events, 2_000)):
            with journal.batch(NOON) as batch:
                for event in some:
                    batch.append(event, event.raw)
                    file.write(event.raw + b"\n")
        file.write(source.signed_head() + b"\n")
        place = [count, source.head.hash]
        end = {"end": {"events": count, "feeds": {source.head.feed: place}}}
        file.write(canonical(end) + b"\n")
    return made


def _events(source: Source, count: int, text: str) -> Iterator[SignedEvent]:
    for number in range(1, count + 1):
        link = source.head.link("_lk.mailbridge.bug-closed")
        data = {"number": number, "changes": text}
        event = source.signed(number, feed=link, data=data)
        source.head = source.head.after(event)
        yield event


def cost_of(*words: str | Path) -> Cost:
    """Run `mailbridge` with *words* in a process of its own, which says nothing, and measure it."""
    read, write = os.pipe()
    command = [sys.executable, "-c", _MEASURED, str(write), *map(str, words)]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[write]
    )
    os.close(write)
    with os.fdopen(read) as told:
        peak = int(told.read().partition("VmHWM:")[2].split()[0]) * 1024
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Cost(child.returncode, usage.ru_utime + usage.ru_stime, peak)
