"""
The file in which a running service says how it stands: `bridge.status.json` in its state, and
`relay.status.json`.

It is whole at any time, ours alone, and as old as its service is silent.  It is a hint: nothing is
decided by it but what a person is told.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from mailbridge.errors import BadInput
from mailbridge.health.facts import BridgeFacts, Facts, RelayFacts, read

log = logging.getLogger("mailbridge.health")

Part = Literal["bridge", "relay"]

EVERY: Final = 5.0
"""Seconds between two writings, at most."""

STUCK: Final = 60.0
"""A service that has said nothing for so many seconds hangs."""

MAX_FILE: Final = 16 * 1024 * 1024


def path_of(state: Path, part: Part) -> Path:
    """Return where *part* of *state* says how it stands."""
    return state / f"{part}.status.json"


class Live:
    """The one who writes it.  A disk that does not take it is logged, and no more."""

    def __init__(self, state: Path, part: Part) -> None:
        self._path: Final = path_of(state, part)
        self._failed = False

    def tell(self, facts: Facts) -> None:
        """Have *facts* stand there, instead of all before."""
        # (One process at a time has the right to be this part of this state.)
        begun = self._path.with_name(f".{self._path.name}.tmp")
        try:
            fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(facts))
            # (Not synced: after a crash nobody runs, and what is here is of no use.)
            begun.rename(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                begun.unlink()
            if not self._failed:
                log.warning("%s cannot be written: %s", self._path, error.strerror)
            self._failed = True
        else:
            self._failed = False

    def close(self) -> None:
        """Say no more: nobody runs here."""
        with contextlib.suppress(OSError):
            self._path.unlink()


class Told(NamedTuple):
    """What a service said last."""

    facts: Facts
    age: float
    """Seconds ago."""
    runs: bool
    """Its process is there."""

    @property
    def hangs(self) -> bool:
        """Whether it is there and says nothing."""
        return self.runs and self.age > STUCK


def told_by(state: Path, part: Part, *, now: float | None = None) -> Told | None:
    """Return what *part* said last, or None where it ended in good order or never ran."""
    path = path_of(state, part)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE)
        facts = read(BridgeFacts, raw) if part == "bridge" else read(RelayFacts, raw)
    except (OSError, BadInput):
        # (Of another version, or not for us to read: then nobody told us anything.)
        return None
    age = max(0.0, (time.time() if now is None else now) - facts.time)
    return Told(facts, age, _runs(*facts.process))


def version() -> str:
    """Return which version of us this is."""
    # (Not by importing `mailbridge`, which knows services that we do not.)
    return metadata.version("mailbridge")


def process() -> tuple[int, int]:
    """Return what tells this process from all others since the host was started."""
    return os.getpid(), _began(os.getpid())


def _runs(number: int, began: int) -> bool:
    try:
        return _began(number) == began
    except OSError:
        return False


def _began(number: int) -> int:
    # Field 22 of proc(5)'s stat; the name in field 2 may hold blanks.
    stat = Path(f"/proc/{number}/stat").read_text("ascii", "replace")
    return int(stat.rpartition(")")[2].split()[19])
