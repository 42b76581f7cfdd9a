"""Long rows of mails, looked at by several processes: nothing else changes, whoever dies."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from mailbridge.bridge import deliver, workers
from mailbridge.bridge.compose import Examined, examine
from mailbridge.bridge.deliver import Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.workers import Job, Setup, Workers
from mailbridge.config import Source
from mailbridge.mail import MAX_MAIL
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey
from tests.conftest import NOON
from tests.daemons import Daemon, chat, report, upload
from tests.services import Service, numbered

ROOT: Final = Path(__file__).parent.parent
FIXTURES: Final = ROOT / "fixtures"
SOURCE: Final = Source(name="changes", maildir="/nowhere", emit=("bug-commented",))
LISTS: Final = Source(name="lists", lists=("devel-changes.lists.example.org",))
DEADLY: Final = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.deadly_worker import main; main()"
)
# A hundred and twenty mails are a long row to this daemon.
SHORT_ROWS: Final = "from mailbridge.bridge import deliver, places\nplaces.LONG_ROW = 120\n"


@pytest.fixture
def pool() -> Iterator[Workers]:
    setup = Setup(
        sources=(SOURCE,), addresses=False, accept_test=False, max_mail=MAX_MAIL, changes_cap=None
    )
    made = Workers(setup, 2)
    yield made
    made.close()


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PROGRAM", DEADLY)


def gateway(outbox: Outbox, state: Path, pool: Workers | None) -> Gateway:
    quarantine = Quarantine(state / "quarantine")
    return Gateway(outbox, quarantine, Settings(), workers=pool, clock=lambda: NOON)


@contextlib.contextmanager
def opened(signer: SigningKey, path: Path | None = None) -> Iterator[Outbox]:
    with Outbox(path, signer, now=NOON) as outbox:
        yield outbox


def told(outbox: Outbox) -> list[bytes]:
    return [stored.raw for stored in outbox.all()]


def a_row() -> list[Delivery]:
    """Every mail of ours, some of them twice, by one source or by whom it concerns."""
    raws = [path.read_bytes() for path in sorted(FIXTURES.glob("*/*/mail.eml"))]
    mails = [Delivery(raw, (SOURCE,), NOON, backfill=True) for raw in (*raws, *raws[::7])]
    return [*mails, *(Delivery(raw, (LISTS, SOURCE), NOON) for raw in raws[::5])]


def deaths(notes: Path) -> int:
    return len(notes.read_text())


def test_what_workers_say_is_what_we_say(
    pool: Workers, signer: SigningKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(signer) as alone:
        expected = gateway(alone, tmp_path / "a", None).deliver(a_row())
        with opened(signer) as outbox:
            outcomes = gateway(outbox, tmp_path / "b", pool).deliver(a_row(), many=True)
            assert told(outbox) == told(alone)
            assert outbox.counts() == alone.counts()
            assert outbox.attempted() == {}

    assert outcomes == expected
    assert len(told_by(outcomes)) > 50
    kept = [sorted(path.name for path in (tmp_path / name).rglob("*.json")) for name in "ab"]
    assert kept[0] == kept[1]
    assert "without workers" not in caplog.text


def told_by(outcomes: list[Outcome]) -> set[str]:
    return {uuid for outcome in outcomes for uuid in outcome.uuids}


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*/mail.eml"))[::3], ids=str)
def test_all_that_is_said_of_a_mail_comes_over_a_pipe(path: Path) -> None:
    said = examine(path.read_bytes(), SOURCE, received=NOON, everything=True)

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=Examined) == said


@pytest.mark.usefixtures("deadly")
@pytest.mark.fault(49)
def test_a_mail_that_three_workers_die_of_is_put_aside_and_no_other_is_lost_or_doubled(
    pool: Workers, signer: SigningKey, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    poison = f"X-DAK: dak process-upload\nSubject: die {notes}\n\nx\n".encode()
    raws = [*map(upload, range(60)), poison, *map(report, range(60, 110)), *map(chat, range(9))]
    with opened(signer) as outbox:
        ours = gateway(outbox, tmp_path, pool)
        outcomes = ours.deliver([Delivery(raw, (SOURCE,), NOON) for raw in raws], many=True)

        assert deaths(notes) == deliver.ATTEMPTS
        assert outcomes[60].verdict[:2] == ("quarantined", "crashed")
        assert {one.verdict.verdict for one in outcomes if one.uuids} == {"events"}
        assert [stored.uuid for stored in outbox.all()] == [
            uuid for one in outcomes for uuid in one.uuids
        ]
        assert outbox.head().seq == 110
        assert outbox.attempted() == {}


@pytest.mark.fault(49)
def test_of_mails_over_which_we_may_have_died_one_at_a_time_counts_as_begun(
    pool: Workers, signer: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who kills us while workers start, or while we look at another, says nothing about a mail."""
    raws = [*map(upload, range(6))]
    with opened(signer, tmp_path / "outbox.db") as died:
        died.begin_attempts([hashlib.sha256(raw).digest() for raw in raws])
    with opened(signer, tmp_path / "outbox.db") as outbox:
        seen: list[tuple[int, int]] = []
        begin = outbox.begin_attempts

        def spied(mails: Iterable[bytes]) -> None:
            begin(mails)
            twice = [n for n in outbox.attempted().values() if n > 1]
            seen.append((len(twice), len(pool.running)))

        monkeypatch.setattr(outbox, "begin_attempts", spied)
        more = [*raws, *map(report, range(6, 60))]
        ours = gateway(outbox, tmp_path, pool)
        outcomes = ours.deliver([Delivery(raw, (SOURCE,), NOON) for raw in more], many=True)

        assert seen[:6] == [(1, pool.count)] * 6
        assert [one.verdict.verdict for one in outcomes] == ["events"] * 60
        assert outbox.attempted() == {}


@pytest.mark.usefixtures("deadly")
def test_deaths_of_workers_and_deaths_of_ours_are_counted_together(
    pool: Workers, signer: SigningKey, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    raw = f"X-DAK: x\nSubject: die {notes}\n\nx\n".encode()
    for _ in range(deliver.ATTEMPTS - 1):
        with opened(signer, tmp_path / "outbox.db") as died:
            died.begin_attempts([hashlib.sha256(raw).digest()])
    with opened(signer, tmp_path / "outbox.db") as outbox:
        ours = gateway(outbox, tmp_path, pool)
        (outcome,) = ours.deliver([Delivery(raw, (SOURCE,), NOON)], many=True)

    assert outcome.verdict.code == "crashed"
    assert deaths(notes) == 1


@pytest.mark.usefixtures("deadly")
def test_who_is_to_stop_does_not_wait_for_a_worker_that_hangs(
    pool: Workers, signer: SigningKey, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    hangs = Delivery(f"X-DAK: x\nSubject: hang {notes}\n\nx\n".encode(), (SOURCE,), NOON)
    mails = [hangs, *(Delivery(upload(n), (SOURCE,), NOON) for n in range(120))]
    with opened(signer) as outbox:
        ours = gateway(outbox, tmp_path, pool)

        assert ours.deliver(mails, many=True, stopping=notes.exists) == []
        assert outbox.attempted() == {}
        ours.rest()
        # (Nobody holds against them that they were begun.)
        assert len(ours.deliver(mails[1:], many=True)) == 120
        assert outbox.head().seq == 120


def test_where_no_worker_can_be_had_we_look_ourselves_and_say_so(
    pool: Workers,
    signer: SigningKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    mails = [Delivery(upload(n), (SOURCE,), NOON) for n in range(130)]
    with opened(signer) as outbox, caplog.at_level(logging.WARNING):
        outcomes = gateway(outbox, tmp_path, pool).deliver(mails, many=True)

        assert [one.verdict.verdict for one in outcomes] == ["events"] * 130
        assert outbox.head().seq == 130
    assert caplog.text.count("looked at without workers") == 1


def test_a_worker_whose_set_up_is_missing_counts_against_no_mail(
    signer: SigningKey, tmp_path: Path
) -> None:
    lost = Source(name="lost", maildir="/x", archive_keyring=str(tmp_path / "missing.gpg"))
    setup = Setup(
        sources=(lost,), addresses=False, accept_test=False, max_mail=MAX_MAIL, changes_cap=None
    )
    pool = Workers(setup, 1)
    with opened(signer) as outbox:
        ours = gateway(outbox, tmp_path, pool)
        (outcome,) = ours.deliver([Delivery(upload(1), (SOURCE,), NOON)], many=True)
        assert outbox.attempted() == {}
    pool.close()

    assert outcome.verdict.verdict == "events"


def test_a_worker_of_another_version_than_ours_is_not_asked(
    pool: Workers, signer: SigningKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vars(pool)["_stamp"] = b"what we were before somebody upgraded us"
    with opened(signer) as outbox:
        ours = gateway(outbox, tmp_path, pool)
        (outcome,) = ours.deliver([Delivery(upload(1), (SOURCE,), NOON)], many=True)

    assert outcome.verdict.verdict == "events"
    assert "restart us" in caplog.text


def test_a_worker_ends_when_we_do_and_not_when_the_service_is_told_to(pool: Workers) -> None:
    jobs = [Job(Delivery(upload(1), (SOURCE,), NOON), (SOURCE,))]
    pool.submit(jobs).result()
    pids = [worker.pid for worker in pool.running]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    assert len(pool.submit(jobs).result()) == 1
    assert set(pids) <= {worker.pid for worker in pool.running}
    pool.close()

    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert len(pool.submit(jobs).result()) == 1


def test_a_worker_whose_bridge_was_killed_ends_without_a_word(pool: Workers) -> None:
    command = [sys.executable, "-P", "-c", workers._PROGRAM, str(ROOT)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as worker:
        assert worker.stdin
        assert worker.stdout
        assert worker.stderr
        # (Nobody is there any more to hear that it is ready.)
        worker.stdout.close()
        workers.write(worker.stdin, vars(pool)["_setup"])
        said = worker.stderr.read()

    assert said == b""


@pytest.mark.parametrize("fail_at", ["committed:2", "attempted:3"])
def test_a_bridge_that_is_killed_in_a_backlog_loses_and_doubles_nothing(
    tmp_path: Path, fail_at: str
) -> None:
    service = Service(tmp_path)
    numbered((service.mail() for _ in range(250)), service.maildir, ending="a.host")
    with Daemon(*service.words, preamble=SHORT_ROWS, fail_at=fail_at) as daemon:
        assert daemon.wait() == -signal.SIGKILL
    with service.running(preamble=SHORT_ROWS):
        arrived = service.arrived()
        service.check()

    assert [event.data["source_name"] for event in arrived] == [
        f"package{n}" for n in range(1, 251)
    ]


@pytest.mark.fault(45)
def test_a_bridge_that_is_told_to_end_in_a_backlog_ends_and_goes_on_later(tmp_path: Path) -> None:
    service = Service(tmp_path)
    numbered((service.mail() for _ in range(400)), service.maildir, ending="a.host")
    with service.running(preamble=SHORT_ROWS) as daemon:
        daemon.says("package-upload-accepted")
    with service.running(preamble=SHORT_ROWS):
        service.check()
