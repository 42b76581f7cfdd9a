"""Silence is a fault: what is told of sources that say nothing, and of numbers that never came."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import pytest

from mailbridge.bridge import own
from mailbridge.bridge.attention import Attention, Heard
from mailbridge.bridge.gaps import GRACE, QUIET, Series
from mailbridge.config import Source
from mailbridge.event import read_event
from mailbridge.numbering import ListNumber
from mailbridge.outbox import Outbox
from mailbridge.payloads import schema
from mailbridge.signing import SigningKey
from tests.conftest import NOON
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, upload
from tests.services import opened

HOUR: Final = 3600
LIST: Final = "changes.lists.example.org"
CHANGES: Final = Source(
    name="changes", maildir="/x", lists=(LIST,), expect_every="1h", archive="PureOS"
)
QUIET_ONE: Final = Source(name="quiet", maildir="/y")


def _nobody(_name: str) -> bool:
    return False


class Watcher:
    """An outbox on the disk, what is attentive on it, and a clock that a test turns."""

    def __init__(self, path: Path, signer: SigningKey, *sources: Source) -> None:
        self.path, self.signer, self.sources = path, signer, sources
        self.seconds = 0.0
        self.outbox = Outbox(path, signer, now=NOON)
        self.start()

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def start(self) -> None:
        self.attention = Attention(
            self.sources, self.outbox, origin="mx", now=self.now, clock=self.seconds
        )

    def restart(self, *, after: float = 0) -> None:
        self.outbox.close()
        self.seconds += after
        self.outbox = Outbox(self.path, self.signer, now=NOON)
        self.start()

    def turn(
        self, seconds: float = 0, *, waits: Callable[[str], bool] = _nobody
    ) -> list[dict[str, Any]]:
        """Let *seconds* pass, and return the data of the events that come of it."""
        before = self.outbox.head().seq
        self.seconds += seconds
        self.attention.turn(now=self.now, clock=self.seconds, waits=waits)
        return self._since(before)

    def mail(
        self,
        number: int | None = None,
        *,
        source: Source = CHANGES,
        stands: bool = True,
        live: bool = True,
        arrived: float | None = None,
    ) -> list[dict[str, Any]]:
        """Take a mail in, and return the data of the events that come of its coming."""
        before = self.outbox.head().seq
        at = NOON + timedelta(seconds=self.seconds if arrived is None else arrived)
        told = ListNumber(LIST, number) if number else None
        with self.outbox.transaction():
            self.attention.heard(
                [Heard(source, stands, told, at, live)], now=self.now, clock=self.seconds
            )
        return self._since(before)

    def _since(self, seq: int) -> list[dict[str, Any]]:
        events = [read_event(one.raw) for one in self.outbox.after(seq, 100)]
        for event in events:
            payload = own.payloads()[event.tag.rpartition(".")[2]]
            jsonschema.validate(event.data, schema(payload))
            assert event.tag == f"_lk.mailbridge.{payload.NAME}"
        return [{"is": event.tag.rpartition(".")[2], **event.data} for event in events]


@pytest.fixture
def watcher(tmp_path: Path, signer: SigningKey) -> Watcher:
    return Watcher(tmp_path / "outbox.db", signer, CHANGES, QUIET_ONE)


# -- silence ---------------------------------------------------------------------------------------

SILENT: Final = {
    "is": "source-silent",
    "source": "changes",
    "archive": "PureOS",
    "since": "2026-11-20T12:00:00+00:00",
    "expected": "1h",
}


def test_a_source_that_falls_silent_is_told_once_and_is_an_alarm_until_it_speaks(
    watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    assert watcher.turn(HOUR) == []
    assert watcher.turn(1) == [SILENT]
    assert watcher.turn(HOUR) == []
    assert watcher.attention.alarms() == ["silence from changes"]
    assert caplog.text.count("no mail by source 'changes'") == 1
    caplog.set_level(logging.INFO)

    (heard,) = watcher.mail()

    assert heard == {
        "is": "source-heard",
        "source": "changes",
        "archive": "PureOS",
        "since": SILENT["since"],
    }
    assert watcher.attention.alarms() == []
    assert "source 'changes' speaks again" in caplog.text
    assert [told["is"] for told in watcher.turn(HOUR + 2)] == ["source-silent"]


def test_a_silence_goes_on_over_a_restart_and_is_not_told_again(watcher: Watcher) -> None:
    watcher.turn(HOUR + 1)
    watcher.restart(after=HOUR)

    assert watcher.attention.alarms() == ["silence from changes"]
    assert watcher.turn(HOUR) == []
    assert [told["is"] for told in watcher.mail()] == ["source-heard"]


def test_restarts_do_not_hide_a_silence(watcher: Watcher) -> None:
    watcher.mail()
    for _ in range(3):
        watcher.restart(after=HOUR / 2)
    assert watcher.turn(1) == [SILENT]


def test_nothing_is_said_of_a_source_whose_mail_waits_for_us(watcher: Watcher) -> None:
    """We were away for days: its mail is in the Maildir, and the next look takes it in."""
    watcher.restart(after=100 * HOUR)

    assert watcher.turn(waits=lambda name: name == "changes") == []
    watcher.mail(arrived=99.5 * HOUR)
    assert watcher.turn(1) == []


def test_mail_that_is_older_than_the_last_is_no_sign_of_life(watcher: Watcher) -> None:
    watcher.turn(HOUR + 1)

    assert watcher.mail(arrived=-5 * HOUR) == []
    assert watcher.attention.alarms() == ["silence from changes"]


def test_mail_that_waited_with_us_while_its_source_fell_silent_does_not_end_the_silence(
    watcher: Watcher,
) -> None:
    watcher.turn(3 * HOUR)

    assert watcher.mail(arrived=HOUR) == []
    assert watcher.attention.alarms() == ["silence from changes"]
    (heard,) = watcher.mail()
    assert heard["since"] == "2026-11-20T13:00:00+00:00"


@pytest.mark.parametrize("how", [{"stands": False}, {"live": False}, {"source": QUIET_ONE}])
def test_nobody_else_speaks_for_a_source(watcher: Watcher, how: dict[str, Any]) -> None:
    """Neither a stranger's mail that nothing backs, nor an operator's back-fill."""
    watcher.turn(HOUR + 1)

    assert watcher.mail(**how) == []
    assert watcher.attention.alarms() == ["silence from changes"]


@pytest.mark.fault(27)
@pytest.mark.parametrize("jump", [HOUR * 5, -HOUR * 5])
def test_a_clock_that_is_set_silences_nobody(watcher: Watcher, jump: float) -> None:
    watcher.mail()
    now = NOON + timedelta(seconds=jump)
    watcher.attention.turn(now=now, clock=60, waits=_nobody)

    assert watcher.attention.alarms() == []


def test_a_source_of_another_namespace_is_told_silent_there(
    tmp_path: Path, signer: SigningKey
) -> None:
    mine = msgspec.structs.replace(CHANGES, namespace="org.example.mailbridge")
    outbox = Outbox(tmp_path / "outbox.db", signer, now=NOON)
    attention = Attention([mine], outbox, origin=None, now=NOON, clock=0)
    attention.turn(now=NOON + timedelta(hours=2), clock=2 * HOUR, waits=_nobody)

    (event,) = (read_event(one.raw) for one in outbox.after(0, 9))
    assert event.tag == "org.example.mailbridge.source-silent"


# -- numbers ---------------------------------------------------------------------------------------


def test_a_mail_of_a_list_that_never_came_is_told_by_its_number(
    watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (7, 8, 10, 12):
        watcher.mail(number)
    late = watcher.turn(GRACE, waits=lambda name: name != "changes")

    assert [told for told in late if told["is"] == "list-gap"] == [
        {
            "is": "list-gap",
            "source": "changes",
            "archive": "PureOS",
            "list_id": LIST,
            "from": 9,
            "to": 11,
            "missing": 2,
        }
    ]
    assert f"list {LIST}: 2 mail(s) of those numbered 9 to 11 did not come" in caplog.text
    assert watcher.attention.series()[LIST].told == 2


def _gaps(told: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(one["from"], one["to"]) for one in told if one["is"] == "list-gap"]


def test_numbers_are_known_over_a_restart(watcher: Watcher) -> None:
    watcher.mail(7)
    watcher.restart()
    watcher.mail(9)
    watcher.restart(after=GRACE)
    assert _gaps(watcher.turn()) == [(8, 8)]
    watcher.restart(after=10 * GRACE)
    assert _gaps(watcher.turn()) == []


def test_a_gap_that_was_told_just_before_a_crash_is_told_then_and_not_again(
    watcher: Watcher,
) -> None:
    watcher.mail(7)
    watcher.mail(9)
    watcher.restart(after=GRACE)
    assert _gaps(watcher.turn()) == [(8, 8)]
    watcher.restart()

    assert _gaps(watcher.turn(QUIET)) == []


@pytest.mark.parametrize("how", [{"stands": False}, {"live": False}])
def test_a_number_that_nothing_backs_moves_nothing(watcher: Watcher, how: dict[str, Any]) -> None:
    watcher.mail(7)
    watcher.mail(9, **how)

    assert watcher.attention.series()[LIST].high == 7


def test_what_an_operator_brings_in_is_missing_no_more(watcher: Watcher) -> None:
    watcher.mail(7)
    watcher.mail(9)
    watcher.mail(8, live=False)

    assert _gaps(watcher.turn(GRACE)) == []


def test_the_same_by_another_process_counts_too(watcher: Watcher, signer: SigningKey) -> None:
    watcher.mail(7)
    watcher.mail(9)
    other = Watcher(watcher.path, signer, CHANGES)
    other.mail(8, live=False)

    assert _gaps(watcher.turn(GRACE)) == []


def test_a_list_that_no_source_names_is_not_counted(tmp_path: Path, signer: SigningKey) -> None:
    """What a mail filter leaves of a list is not all of it."""
    watcher = Watcher(tmp_path / "outbox.db", signer, QUIET_ONE)
    watcher.mail(7, source=QUIET_ONE)

    assert watcher.attention.series() == {}


def test_a_flood_of_numbers_is_one_event_an_hour(watcher: Watcher) -> None:
    told = []
    for number in range(1, 400, 3):
        watcher.mail(number)
        told += _gaps(watcher.turn(60))
    hours = 400 / 3 / 60

    assert 1 <= len(told) <= hours + 1


# -- the service -----------------------------------------------------------------------------------


def test_a_running_bridge_tells_of_a_silent_source_and_keeps_the_numbers_of_its_list(
    tmp_path: Path,
) -> None:
    maildir, state = make_maildir(tmp_path / "Maildir"), tmp_path / "state"
    settings = tmp_path / "mailbridge.toml"
    settings.write_text(
        f"""
        state = "{state}"
        [[source]]
        name = "changes"
        maildir = "{maildir}"
        lists = ["devel-changes.lists.example.org"]
        expect_every = "1s"
        """
    )
    number = b"X-Mailing-List: <devel-changes@lists.example.org> archive/latest/"

    with Daemon("-c", settings, "run", *LOOPBACK) as daemon:
        read = daemon.ready()["read"]
        daemon.says("no mail by source 'changes' since")
        put(maildir, number + b"41\n" + upload(1), "1.a")
        put(maildir, number + b"43\n" + upload(2), "2.a")
        events = read_events(read, state, 4)
        assert daemon.stop() == 0

    told = [event.tag.rpartition(".")[2] for event in events]
    assert told[0] == "source-silent"
    assert told.count("source-heard") == 1
    assert told.count("package-upload-accepted") == 2
    outbox = opened(state / "outbox.db")
    (kept,) = outbox.execute("SELECT value FROM meta WHERE key LIKE 'numbers %'").fetchone()
    outbox.close()
    series = msgspec.json.decode(kept, type=Series)
    assert (series.high, series.waiting) == (43, 1)


def test_each_fact_of_a_mail_is_one_line_that_can_be_found_by_its_message_id(
    tmp_path: Path,
) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    cut_off = upload(2).partition(b"Files:")[0]
    words = ("--maildir", maildir, "--state", tmp_path / "state", "--existing", "emit")
    with Daemon("run", *words, *LOOPBACK) as daemon:
        daemon.ready()
        put(maildir, upload(1), "1.a")
        put(maildir, cut_off, "2.a")
        daemon.says(r"events tag=\S+ uuid=\S+ mail=<upload-1@archive\.example\.org>$")
        daemon.says(r"quarantined code=\S+ source=Maildir sha256=\S+ mail=<upload-2@\S+> reason=")
        assert daemon.stop() == 0

    assert len(daemon.said.splitlines()) == 3, daemon.said
