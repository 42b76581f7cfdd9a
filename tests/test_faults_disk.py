"""A disk that is full, broken, or may not be touched: told in a line, and nothing is lost by it."""

from __future__ import annotations

import contextlib
import re
import resource
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests import tracing
from tests.daemons import Daemon
from tests.tracing import Call
from tests.trial import Trial, looking, together

MAILS: Final = 12
OUTBOX: Final = "outbox.db-wal"
JOURNAL: Final = "journal.db-wal"

WAITS: Final = "no mail is taken in until there is room"


@pytest.mark.needs_program("strace")
@pytest.mark.fault(33)
def test_no_space_at_a_write_is_waited_for_or_ends_us_and_what_was_not_committed_is_not_sent(
    tmp_path: Path,
) -> None:
    tracing.require()
    # While it is made, at the first look, within the first mails, within an acknowledgement; once,
    # and from then on.
    writes = [(OUTBOX, when) for when in (2, 40, 80, 85, 92, 97, "104+")]
    writes += [(JOURNAL, when) for when in (20, "33+")]
    together(
        [
            (f"{file}:{when}", partial(_broken, tmp_path / f"{file}-{when}", file, when))
            for file, when in writes
        ]
    )


def _broken(directory: Path, file: str, when: int | str) -> None:
    trial = Trial(directory)
    call = Call("pwrite64", file)
    with _failing(trial, call, "ENOSPC", when) as daemon:
        whole = trial.trickle(daemon, MAILS, unless=WAITS)
        assert not whole, f"nothing failed:\n{daemon.said}"
        status = daemon.wait() if daemon.ended or file == JOURNAL else daemon.stop()
    said = _complaint(daemon, status)
    assert "no room on the disk" in said or "disk is full" in said
    _nothing_was_sent_uncommitted(trial)
    trial.recover()


@pytest.mark.needs_program("strace")
@pytest.mark.fault(34)
def test_a_failed_fsync_ends_us_and_is_never_tried_again_on_the_file_as_it_was_opened(
    tmp_path: Path,
) -> None:
    tracing.require()
    syncs = [(OUTBOX, when) for when in (1, 2, 3, 4, 5, 6, 7, 9)]
    syncs += [(JOURNAL, when) for when in (1, 3, 4)]
    together(
        [
            (f"{file}:{when}", partial(_unsynced, tmp_path / f"{file}-{when}", file, when))
            for file, when in syncs
        ]
    )


def _unsynced(directory: Path, file: str, when: int) -> None:
    trial = Trial(directory)
    trace = directory / "trace"
    call = Call("fdatasync", file)
    with _failing(trial, call, "EIO", when, trace=trace) as daemon:
        trial.trickle(daemon, MAILS)
        status = daemon.wait()
    assert status == 74, daemon.said
    assert "disk I/O error" in _complaint(daemon, status)
    # (By number: SQLite opens the file anew under another while the failed one is still open.)
    fds = re.findall(r"fdatasync\((\d+)<[^>]*>\) += (0|-1 EIO)", trace.read_text())
    [failed] = [at for at, (_, result) in enumerate(fds) if result != "0"]
    assert fds[failed][0] not in [fd for fd, _ in fds[failed + 1 :]]
    _nothing_was_sent_uncommitted(trial)
    trial.recover()


@pytest.mark.needs_program("strace")
@pytest.mark.fault(35)
def test_no_descriptors_left_at_an_open_is_told_and_passes(tmp_path: Path) -> None:
    tracing.require()
    files = ("outbox.db", "journal.db", "keys", "Maildir", "journal.lock", "quarantine")
    opens = [(name, 1) for name in (*files, OUTBOX, JOURNAL, "policy.toml", "../Maildir/new")]
    opens += [("outbox.db", 2)]
    together(
        [
            (f"{name}:{when}", partial(_unopened, tmp_path / f"{n}", name, when))
            for n, (name, when) in enumerate(opens)
        ]
    )


def _unopened(directory: Path, name: str, when: int) -> None:
    trial = Trial(directory)
    with _failing(trial, Call("openat", name), "EMFILE", when) as daemon:
        if trial.trickle(daemon, MAILS):
            assert daemon.stop() == 0, daemon.said
        else:
            assert "mailbridge: " in _complaint(daemon, daemon.wait())
    assert "Traceback" not in daemon.said
    _nothing_was_sent_uncommitted(trial)
    trial.recover()


def _lowest_free(pid: int) -> int:
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return next(n for n in range(len(used) + 1) if n not in used)


@pytest.mark.fault(35)
def test_a_service_that_runs_out_of_descriptors_goes_on_when_there_are_some(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    with trial.run() as daemon:
        trial.trickle(daemon, 3)
        trial.arrive(daemon.ready()["read"], trial.state)
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        # (The lowest that is free is the one that the next open would get; a reader's connection
        # may still be about to free another.)
        lowest = -1
        while lowest != (lowest := _lowest_free(daemon.pid)):
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (lowest, limits[1]))
            with contextlib.suppress(TimeoutError):
                daemon.outlive(0.5)
        trial.deliver(3)
        daemon.says("mail there waits: .*Too many open files")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        trial.last_one()
        trial.arrive(daemon.ready()["read"], trial.state)
        assert daemon.stop() == 0, daemon.said
    trial.judge()


@pytest.mark.needs_program("strace")
@pytest.mark.fault(36)
def test_mail_that_may_not_be_moved_is_done_all_the_same_and_said_once(tmp_path: Path) -> None:
    tracing.require()
    trial = Trial(tmp_path)
    posts = trial.deliver(MAILS)
    names = sorted(path.name for path in (trial.maildir / "new").iterdir())
    through = tracing.inject(Call("rename"), "error=EACCES", "1+", state=trial.state)
    for name in names:
        through += ["-P", str(trial.maildir / "new" / name)]
    trial.last_one()
    with trial.run(through=through) as daemon:
        trial.arrive(daemon.ready()["read"], trial.state)
        assert daemon.stop() == 0
    denied = [line for line in daemon.said.splitlines() if "Permission denied" in line]
    moved = [path.name for path in (trial.maildir / "cur").iterdir()]
    assert len(denied) == len(set(denied)) > 0
    assert not {name for name in names if f"{name}:2,S" in moved}
    assert {name for name in names if any(name in line for line in denied)} < set(names)
    assert len(posts) == MAILS
    trial.recover()


def _failing(
    trial: Trial, call: Call, error: str, when: int | str, *, trace: Path | None = None
) -> Daemon:
    through = tracing.inject(call, f"error={error}", when, state=trial.state, trace=trace)
    return trial.run(through=through)


def _complaint(daemon: Daemon, status: int) -> str:
    """Return the one line that says what is wrong; where it ended of that, as a command ends."""
    assert "Traceback" not in daemon.said
    lines = daemon.said.splitlines()
    if status == 0:
        [line] = [line for line in lines if " ERROR " in line]
        return line
    assert status == 74, daemon.said
    assert lines[-1].startswith("mailbridge: "), daemon.said
    return lines[-1]


def _nothing_was_sent_uncommitted(trial: Trial) -> None:
    """What the relay holds is what the outbox holds, if maybe not all of it."""
    journal, outbox = trial.state / "journal.db", trial.state / "outbox.db"
    if not journal.exists() or not journal.stat().st_size:
        return
    with looking(outbox) as db:
        kept = dict(db.execute("SELECT seq, hash FROM event"))
    with looking(journal) as db:
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return
        sent = dict(db.execute("SELECT seq, hash FROM event"))
    assert sent.items() <= kept.items()
