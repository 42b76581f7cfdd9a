"""A state that is not what it was: restored, deleted, damaged.  Found out before it does harm."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from mailbridge.errors import MailbridgeError
from mailbridge.reader import open_events
from tests.daemons import LOOPBACK, PATIENCE, Daemon
from tests.trial import Trial, looking

NEW_EPOCH: Final = "start once with --new-epoch"


class Life(Trial):
    """A trial in which a service lives again and again."""

    def live(self, mails: int = 4, **how: Any) -> None:
        """Take *mails* in, give them to readers, and end well."""
        self.deliver(mails)
        self.last_one()
        with self.run(**how) as daemon:
            assert self.arrive_or_die(daemon), daemon.said
            assert daemon.stop() == 0, daemon.said

    def refuse(self, words: str, *, mails: int = 2) -> str:
        """Start with new mail there; it must end with 78 and *words*, and have sent nothing."""
        before = self.sent()
        self.deliver(mails)
        with self.run() as daemon:
            assert daemon.wait() == 78, daemon.said
        assert re.search(words, daemon.said.splitlines()[-1]), daemon.said
        assert "Traceback" not in daemon.said
        assert self.sent() == before
        return daemon.said

    def begin_anew(self) -> None:
        """Do as the words say, and hold all of it to the oracle: old feed and new."""
        self.last_one()
        with Daemon("run", *self.words, *LOOPBACK, "--new-epoch") as daemon:
            assert self.arrive_or_die(daemon), daemon.said
            assert daemon.stop() == 0, daemon.said
        self.judge()

    def sent(self) -> list[tuple[int, str]]:
        """Return what the relay has."""
        if not (self.state / "journal.db").exists():
            return []
        with looking(self.state / "journal.db") as journal:
            return journal.execute("SELECT pos, hash FROM event ORDER BY pos").fetchall()


def restored(life: Life, directory: Path) -> None:
    """Put the outbox back as it was three mails ago."""
    shutil.copy(life.state / "outbox.db", directory / "backup")
    life.live(3)
    shutil.copy(directory / "backup", life.state / "outbox.db")


def deleted(life: Life, _: Path) -> None:
    """Delete the outbox."""
    for path in life.state.glob("outbox.db*"):
        path.unlink()


def without_log(life: Life, _: Path) -> None:
    """Delete what was not checkpointed when it was killed."""
    life.deliver(3)
    life.last_one()
    with life.run() as daemon:
        life.arrive(daemon.ready()["read"], life.state)
        daemon.kill()
    for name in ("outbox.db-wal", "outbox.db-shm"):
        (life.state / name).unlink()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(restored, marks=pytest.mark.fault(39)),
        pytest.param(deleted, marks=pytest.mark.fault(40)),
        pytest.param(without_log, marks=pytest.mark.fault(42)),
    ],
)
def test_an_outbox_that_is_behind_its_relay_sends_nothing_until_a_new_epoch(
    tmp_path: Path, harm: Callable[[Life, Path], None]
) -> None:
    life = Life(tmp_path)
    life.live()
    harm(life, tmp_path)
    life.refuse(NEW_EPOCH)
    life.refuse(NEW_EPOCH, mails=0)
    life.begin_anew()


@pytest.mark.fault(42)
def test_a_journal_whose_log_was_deleted_gets_everything_again(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.deliver(6)
    life.last_one()
    with life.run() as daemon:
        life.arrive(daemon.ready()["read"], life.state)
        daemon.kill()
    for name in ("journal.db-wal", "journal.db-shm"):
        (life.state / name).unlink()
    life.recover()


@pytest.mark.fault(113)
def test_a_snapshot_of_all_of_the_state_is_found_out_by_whoever_read_meanwhile(
    tmp_path: Path,
) -> None:
    life = Life(tmp_path, faults=())
    life.live()
    shutil.copytree(life.state, tmp_path / "snapshot")
    life.live()
    cursor = tmp_path / "cursor"
    _read(f"file://{life.state}/journal.db", life, cursor)
    shutil.rmtree(life.state)
    shutil.copytree(tmp_path / "snapshot", life.state)
    # What is there as mail is emitted again: with the numbers, and not with the hashes, of before.
    life.deliver(2)
    with life.run() as daemon:
        url = daemon.ready()["read"]
        assert life.arrive_or_die(daemon)
        with pytest.raises(MailbridgeError, match=r"restored|another|holds"):
            _read(url, life, cursor)
        daemon.says("is not served any more: a reader holds its number")
        life.last_one()
        assert daemon.wait() == 78, daemon.said
    assert re.search(f"a reader .*{NEW_EPOCH}", daemon.said.splitlines()[-1]), daemon.said
    before = life.sent()
    with life.run() as daemon:
        daemon.ready()
        with pytest.raises(MailbridgeError):
            _read(daemon.ready()["read"], life, cursor)
        assert daemon.wait() == 78
    assert life.sent() == before


def _read(url: str, life: Life, cursor: Path) -> None:
    with open_events(
        url, since="start", state=life.state, cursor_file=cursor, follow=False, timeout=PATIENCE
    ) as events:
        for _ in events:
            events.handled()
