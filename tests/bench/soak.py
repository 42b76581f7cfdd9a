"""
Bridge, relay and reader, each killed again and again while mail comes, for as long as one likes.

Not part of the gate, which has a short one (tests/test_soak.py).
`python -m tests.bench.soak --minutes 10 --seed 1` delivers 20,000 made-up mails with all that goes
wrong with mail, kills the three at random (SIGKILL), and holds against each other in the end what
the mails were to become, what the relay has, and what the reader has handled: none is missing, and
twice is only what a reader had in hand when it was killed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

from tests.apart import Apart
from tests.daemons import Daemon
from tests.trial import looking

MAILS_A_MINUTE = 2_000
BETWEEN = 4.0
"""Seconds from a start to the next kill, on average."""
TICK = 0.02
FAULTS = ("duplicate", "truncated", "latin1", "forged", "redelivered", "wrapped", "resent")
"""(Without those of 26 MB, which would fill the disk, and those that only a keyring finds out.)"""
PATIENCE = 300.0
"""Seconds for what is left when all mail has come and nobody is killed any more."""


class Figures(NamedTuple):
    """What came of it."""

    mails: int
    events: int
    kills: dict[str, int]
    aside: int
    """Mails that were in hand at three deaths, so that an operator had to have them tried again."""
    repeated: int
    """Events that a reader was given again, because it was killed over them."""
    seconds: float
    """From the first mail until the reader had all."""
    lag: float
    """Seconds that a mail's news took to a reader's hand, at most."""

    def lines(self) -> Iterator[str]:
        """Yield them as a table."""
        yield f"mails delivered     {self.mails:>9}"
        yield f"events handled      {self.events:>9}"
        for name, count in self.kills.items():
            yield f"kills of the {name:<6} {count:>9}"
        yield f"starts              {sum(self.kills.values()) + len(self.kills):>9}"
        yield f"put aside           {self.aside:>9}"
        yield f"repeated            {self.repeated:>9}"
        yield f"duration            {self.seconds:>9.1f} s"
        yield f"mails a second      {self.mails / self.seconds:>9.1f}"
        yield f"lag, at most        {self.lag:>9.1f} s"


class Victim:
    """A service that is killed at moments that nobody foresees, and started again at once."""

    def __init__(self, start: Callable[[], Daemon], moments: random.Random, between: float) -> None:
        """Start it; from then on *between* seconds pass until its end, on average."""
        self._start: Final = start
        self._moments: Final = moments
        self._between: Final = between
        self.kills = 0
        self._life = ExitStack()
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()

    def turn(self) -> None:
        """Kill it and start it again, if it is time."""
        if time.monotonic() < self._kill_at:
            return
        status = self.daemon.kill()
        # (Who ended before, by himself, has found something wrong.)
        assert status == -9, self.daemon.said
        assert "Traceback" not in self.daemon.said, self.daemon.said
        self._life.close()
        self.kills += 1
        self._begin()

    def end(self) -> None:
        """End it as systemd would."""
        assert self.daemon.stop() == 0, self.daemon.said

    def _begin(self) -> None:
        self.daemon = self._life.enter_context(self._start())
        self._kill_at = time.monotonic() + self._moments.expovariate(1 / self._between)


class Reader:
    """What a reader handled, one life after the other: each writes what it prints to its file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory: Final = directory
        self._file: BinaryIO | None = None
        self._rest = b""
        self.lives: Final[list[list[str]]] = []
        self.handled: Final[set[str]] = set()

    def start(self, url: str, state: Path) -> Daemon:
        """Begin another life."""
        path = self._directory / f"{len(self.lives):06}.jsonl"
        cursor = self._directory / "cursor"
        words = ("tail", url, "--json", "--from", "start", "--cursor-file", cursor)
        daemon = Daemon(*words, "--state", state, stdout=path)
        if self._file:
            self.look()
            self._file.close()
        self._file = path.open("rb")
        # (A line that a kill has cut is nothing that anybody handled.)
        self._rest = b""
        self.lives.append([])
        return daemon

    def look(self) -> int:
        """Look what it has handled since, and return how much that is by now."""
        if self._file:
            *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
            found = [json.loads(line)["uuid"] for line in lines]
            self.lives[-1] += found
            self.handled.update(found)
        return len(self.handled)

    def close(self) -> None:
        """Look no more."""
        if self._file:
            self._file.close()

    def in_order(self) -> tuple[list[str], int]:
        """Return what was handled, and how much of it again, because it was in hand at a death."""
        found: list[str] = []
        repeated = 0
        for life in self.lives:
            again = bool(found and life and life[0] == found[-1])
            repeated += again
            found += life[again:]
        return found, repeated


class Lag:
    """How long news are on their way, looked at again and again."""

    def __init__(self) -> None:
        self._since: Final[list[float]] = []
        self.longest = 0.0

    def look(self, told: int, handled: int) -> None:
        """Note that so many news were *told* by mails, and so many *handled*, in their order."""
        now = time.monotonic()
        self._since.extend([now] * (told - len(self._since)))
        if handled < len(self._since):
            self.longest = max(self.longest, now - self._since[handled])


def soak(
    directory: Path, *, seconds: float, mails: int, seed: int, between: float = BETWEEN
) -> Figures:
    """
    Have it go on for *seconds* on *directory*; each is killed every *between* seconds or so.

    Raises `AssertionError` where anything is missing, doubled or not as it was told.
    """
    moments = random.Random(seed)  # noqa: S311 - reproducible on purpose
    trial = Apart(directory, faults=FAULTS, seed=seed)
    with trial.relaying() as relay:
        trial.introduce()
        assert relay.stop() == 0, relay.said
    reader, lag = Reader(directory / "reader"), Lag()
    starts = {
        "bridge": trial.bridge,
        "relay": trial.begin_relay,
        "reader": lambda: reader.start(trial.bound["read"], trial.relay),
    }
    with ExitStack() as stack:
        stack.callback(reader.close)
        victims = {
            name: stack.enter_context(Victim(start, moments, between))
            for name, start in starts.items()
        }
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            trial.deliver(max(0, int(mails * passed / seconds) - trial.files))
            lag.look(len(trial.news), reader.look())
            for victim in victims.values():
                victim.turn()
            time.sleep(TICK)
        trial.deliver(max(0, mails - trial.files))
        trial.last_one()
        last = time.monotonic() + PATIENCE
        while (there := trial.verdicts()) < trial.files:
            lag.look(len(trial.news), reader.look())
            assert time.monotonic() < last, f"{there} of {trial.files} mails in time"
            time.sleep(TICK)
        trial.try_again()
        while (handled := reader.look()) < len(trial.news):
            lag.look(len(trial.news), handled)
            assert time.monotonic() < last, f"{handled} of {len(trial.news)} events in time"
            time.sleep(TICK)
        took = time.monotonic() - begun
        for name in ("bridge", "relay"):
            victims[name].end()
    trial.judge(trial.relay)
    found, repeated = reader.in_order()
    assert found == shown(trial.relay), "the reader has handled something else than the relay has"
    kills = {name: victim.kills for name, victim in victims.items()}
    aside = trial.tried_again
    return Figures(trial.files, len(found), kills, aside, repeated, took, lag.longest)


def shown(relay: Path) -> list[str]:
    """Return the uuids that a *relay* shows to readers, in its order."""
    with looking(relay / "journal.db") as journal:
        rows = journal.execute("SELECT uuid FROM event WHERE visible ORDER BY pos")
        return [uuid for (uuid,) in rows]


def main(words: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--mails", type=int, help="how many (default: 2000 a minute)")
    parser.add_argument("--seed", type=int, default=1, help="of the mails and of the kills")
    given = parser.parse_args(words)
    mails = given.mails or round(MAILS_A_MINUTE * given.minutes)
    with tempfile.TemporaryDirectory() as directory:
        figures = soak(Path(directory), seconds=60 * given.minutes, mails=mails, seed=given.seed)
    sys.stdout.writelines(f"{line}\n" for line in figures.lines())


if __name__ == "__main__":
    main()
