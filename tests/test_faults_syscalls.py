"""Killed at a system call: every fsync, every seventh write of a database, every rename."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests import tracing
from tests.tracing import Call
from tests.trial import Trial, together

MAILS: Final = 6

CHAIN: Final = 8
"""So many deaths, one after the other, before all is put right and judged."""


@pytest.fixture(scope="module")
def census(tmp_path_factory: pytest.TempPathFactory) -> dict[Call, int]:
    """How often each system call is made on which file, from the making of a state to its end."""
    tracing.require()
    trial = Trial(tmp_path_factory.mktemp("census"))
    trace = trial.maildir.parent / "trace"
    names = "fsync,fdatasync,pwrite64,rename,link,unlink"
    with trial.run(through=tracing.count(names, trace)) as daemon:
        assert trial.trickle(daemon, MAILS)
        trial.arrive(daemon.ready()["read"], trial.state)
        assert daemon.stop() == 0
    return tracing.most(trace, trial.state)


@pytest.mark.needs_program("strace")
@pytest.mark.fault(30)
def test_killed_at_every_fsync(tmp_path: Path, census: dict[Call, int]) -> None:
    _die_at_each(tmp_path, list(_times(census, "fsync", "fdatasync")))


@pytest.mark.needs_program("strace")
@pytest.mark.fault(31)
def test_killed_at_every_seventh_write_of_a_database(
    tmp_path: Path, census: dict[Call, int]
) -> None:
    _die_at_each(tmp_path, list(_times(census, "pwrite64", every=7)))


@pytest.mark.needs_program("strace")
@pytest.mark.fault(32)
def test_killed_at_every_rename_link_and_unlink(tmp_path: Path, census: dict[Call, int]) -> None:
    _die_at_each(tmp_path, list(_times(census, "rename", "link", "unlink")))


def _times(census: dict[Call, int], *names: str, every: int = 1) -> Iterator[tuple[Call, int]]:
    """Yield each call and when: on the databases by file, on what has no lasting name together."""
    for call, most in census.items():
        if call.name in names:
            for when in range(every, most + 1, every):
                yield call, when


def _die_at_each(directory: Path, deaths: list[tuple[Call, int]]) -> None:
    # What is done while a state is made each alone; then many in one life of a state, so that
    # what one death left is what the next one meets.
    early = [(c, when) for c, when in deaths if when <= 2 or (c.file and "-wal" not in c.file)]
    late = sorted((d for d in deaths if d not in early), key=lambda death: death[1])
    # By turns soon and late: few mails are in hand at three deaths in a row, and put aside.
    soon, later = late[: len(late) // 2], late[len(late) // 2 :]
    late = [d for two in itertools.zip_longest(soon, later) for d in two if d]
    chains = [[death] for death in early]
    chains += [late[at : at + CHAIN] for at in range(0, len(late), CHAIN)]
    survived: list[str] = []
    together(
        [
            (
                " ".join(f"{c.name}:{c.file}:{when}" for c, when in chain),
                partial(_chain, directory / str(n), chain, survived),
            )
            for n, chain in enumerate(chains)
        ]
    )
    # (What a thread gets in one go is a matter of moments: it may make a call less than counted.)
    assert len(survived) < len(deaths) / 5, survived


def _chain(directory: Path, deaths: list[tuple[Call, int]], survived: list[str]) -> None:
    trial = Trial(directory)
    for call, when in deaths:
        through = tracing.kill(call, when, state=trial.state)
        with trial.run(through=through) as daemon:
            alive = trial.trickle(daemon, 2 * MAILS) and trial.arrive_or_die(daemon)
            if (daemon.stop() if alive else daemon.wait()) != -9:
                survived.append(f"{call.name} {call.file} {when}")
    trial.recover(put_aside=len(deaths) > 2)
