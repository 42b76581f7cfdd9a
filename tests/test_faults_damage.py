"""Bytes that a disk altered without a word: no reader and no relay ever gets them as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from mailbridge.errors import NeedsOperator, RelayGone
from mailbridge.event import VerifiedEvent
from mailbridge.journal import Journal
from mailbridge.reader import listen
from tests.daemons import LOOPBACK, PATIENCE, Daemon
from tests.trial import Trial, looking

NOWHERE: Final = "tcp://127.0.0.1:9"
"""Nobody listens there."""

pytestmark = pytest.mark.fault(41)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path, faults=())


def unsent(trial: Trial) -> None:
    """Have events in the outbox that no relay has."""
    trial.deliver(8)
    trial.last_one()
    with Daemon("bridge", *trial.words, "--submit", NOWHERE) as bridge:
        assert bridge.counted(" events tag=", len(trial.news))
        assert bridge.stop() == 0


def sent(trial: Trial) -> None:
    """Have events in outbox and journal."""
    trial.deliver(8)
    trial.last_one()
    with trial.run() as daemon:
        trial.arrive(daemon.ready()["read"], trial.state)
        assert daemon.stop() == 0


def flip(path: Path, column: str, where: str) -> None:
    """Change a letter in the middle of what a row of *path* says, as a disk would: unasked."""
    with looking(path) as db:
        (raw,) = db.execute(f"SELECT {column} FROM event WHERE {where}").fetchone()  # noqa: S608 - ours
    whole = bytearray(path.read_bytes())
    # (A piece of it that is there once: whole in one page, and in no other row.)
    pieces = (raw[at : at + 24] for at in range(24, len(raw), 24))
    piece = next(piece for piece in pieces if whole.count(piece) == 1)
    whole[whole.index(piece) + 5] ^= 1
    path.write_bytes(whole)


def wreck(path: Path) -> None:
    """Overwrite a page of events, as a disk does that writes where it should not."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


# -- the outbox ------------------------------------------------------------------------------------


def test_an_event_that_was_damaged_before_it_was_sent_is_not_sent(trial: Trial) -> None:
    unsent(trial)
    flip(trial.state / "outbox.db", "raw", "seq = 4")
    with trial.run() as daemon:
        assert daemon.wait() == 78, daemon.said
    assert "event 4 is damaged on the disk, nothing is sent" in daemon.said.splitlines()[-1]
    with looking(trial.state / "journal.db") as journal:
        assert journal.execute("SELECT count(*) FROM event WHERE seq > 3").fetchone() == (0,)

    # The mend: a new epoch leaves it out and says so; its mail makes it again.
    with Daemon("run", *trial.words, *LOOPBACK, "--new-epoch") as daemon:
        daemon.says("event 4 was damaged on the disk and is in no feed any more; its mail")
        read = daemon.ready()["read"]
        ingest = ("ingest", "--maildir", trial.maildir, "--state", trial.state, "--as-new")
        with Daemon(*ingest, "--accept-test") as ingesting:
            assert ingesting.wait() == 0, ingesting.said
        trial.arrive(read, trial.state)
        assert daemon.stop() == 0
    trial.judge_events(trial.state)


def test_nothing_is_linked_to_a_newest_event_that_was_damaged(trial: Trial) -> None:
    unsent(trial)
    flip(trial.state / "outbox.db", "raw", "seq = (SELECT max(seq) FROM event)")
    trial.deliver(2)
    with Daemon("bridge", *trial.words, "--submit", NOWHERE) as bridge:
        assert bridge.wait() == 78, bridge.said
    assert "is damaged on the disk" in bridge.said.splitlines()[-1]


def test_an_event_that_was_damaged_after_it_was_sent_is_an_alarm(trial: Trial) -> None:
    sent(trial)
    flip(trial.state / "outbox.db", "raw", "seq = 4")
    with trial.run() as daemon:
        daemon.says("ERROR .*outbox.db: event 4 is damaged: its bytes are not those")
        trial.last_one()
        trial.arrive(daemon.ready()["read"], trial.state)
        assert daemon.stop() == 0
    trial.judge()


@pytest.mark.parametrize("name", ["outbox.db", "journal.db"])
def test_a_page_that_is_none_is_found_at_the_start(trial: Trial, name: str) -> None:
    sent(trial)
    wreck(trial.state / name)
    with trial.run() as daemon:
        assert daemon.wait() == 78, daemon.said
    assert f"{name}: damaged" in daemon.said.splitlines()[-1]
    assert "Traceback" not in daemon.said


# -- the journal -----------------------------------------------------------------------------------


def test_a_relay_gives_what_comes_before_a_damaged_event_and_then_says_what_is_wrong(
    trial: Trial,
) -> None:
    sent(trial)
    flip(trial.state / "journal.db", "bytes", "pos = 4")
    with trial.run() as daemon:
        url = daemon.ready()["read"]
        events = listen(url, state=trial.state, since="start", timeout=PATIENCE)
        got = [next(events) for _ in range(3)]
        with pytest.raises(RelayGone, match="damaged on this relay's disk"):
            next(events)
        daemon.says("ERROR .*journal.db: the event at position 4 is damaged")
        # (Whoever is past it goes on.)
        with _cursor(trial, 4) as later:
            assert next(later).feed
        assert daemon.stop() == 0
    assert [event.feed.seq for event in got if event.feed] == [1, 2, 3]
    events = listen((trial.state / "journal.db").as_uri(), state=trial.state, since="start")
    assert len([next(events) for _ in range(3)]) == 3
    with pytest.raises(NeedsOperator, match="position 4 is damaged"):
        next(events)


@contextmanager
def _cursor(trial: Trial, pos: int) -> Iterator[Iterator[VerifiedEvent]]:
    with looking(trial.state / "journal.db") as journal:
        (name,) = journal.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
    url = (trial.state / "journal.db").as_uri()
    events = listen(url, state=trial.state, since=f"{name}-{pos}", timeout=PATIENCE)
    with closing(events):  # type: ignore[type-var]  # it is a generator
        yield events


def test_a_journal_from_before_there_were_checksums_is_judged_by_hash_and_gets_them(
    trial: Trial,
) -> None:
    sent(trial)
    path = trial.state / "journal.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE event SET sum = NULL")
    flip(path, "bytes", "pos = 4")
    with Journal.open(path) as journal:
        assert len(journal.read(0)) == 3
        with pytest.raises(NeedsOperator, match="position 4 is damaged"):
            journal.read(3)
        looked = journal.inspector.look(0, 6)
        assert len(looked.wrong) == 1
        assert looked.last == 6
    with looking(path) as db:
        noted = db.execute("SELECT pos FROM event WHERE sum NOT NULL ORDER BY pos").fetchall()
    assert noted == [(1,), (2,), (3,), (5,), (6,)]
