"""`status`: every part, live while it runs, and what was left where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailbridge.cli import main
from mailbridge.health import Live
from tests.daemons import LOOPBACK, Daemon, chat, make_maildir, put, read_events, upload
from tests.test_health import BRIDGE, RELAY

Status = Callable[..., Any]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def status(state: Path, capsys: pytest.CaptureFixture[str]) -> Status:
    def asked(*words: str) -> Any:
        assert main(["status", "--state", str(state), *words]) == 0
        out = capsys.readouterr().out
        return json.loads(out) if words else out

    return asked


def _until(status: Status, wanted: Callable[[Any], object]) -> Any:
    while not wanted(told := status("--json")):
        pass
    return told


def test_a_gateway_that_runs_is_told_part_by_part(
    tmp_path: Path, state: Path, status: Status
) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    mails = [upload(1), upload(2), upload(2), chat(1), upload(3).replace(b"X-DAK:", b"X-D\0:", 1)]
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK, "--existing", "emit")
    with Daemon(*words) as daemon:
        read = daemon.ready()["read"]
        for number, raw in enumerate(mails):
            put(maildir, raw, f"{number}.a")
        read_events(read, state, 2)
        told = _until(
            status,
            lambda told: (
                told["outbox"]["sources"].get("Maildir", {}).get("seen") == len(mails)
                and told["bridge"]["canary"]
                and told["bridge"]["targets"][0]["canary"]
                and told["relay"]["submissions"].get("stored") == 2
            ),
        )
        words_told = status()
        assert daemon.stop() == 0

    seen = told["outbox"]["sources"]["Maildir"]
    assert seen.pop("seen") == len(mails) == sum(seen.values())
    assert told["running"]
    assert told["bridge"]["runs"]
    assert told["relay"]["runs"]
    assert told["bridge"]["watch"] == "inotify"
    assert {place["path"] for place in told["bridge"]["places"]} == {
        str(maildir),
        str(state / "Maildir"),
    }
    assert told["outbox"]["unacknowledged"] == {"relay": 0}
    assert told["relay"]["read"] == read
    for line in (
        "source   Maildir: 5 mails seen = ",
        f"maildir  {maildir}: no mail waits",
        "target   relay: 0 not acknowledged",
        "         all received",
        "         a canary came back ",
        "watches by inotify",
    ):
        assert line in words_told, words_told


def test_what_a_relay_does_not_take_is_told_with_its_age(
    tmp_path: Path, state: Path, status: Status
) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    words = ("bridge", "--maildir", maildir, "--state", state, "--existing", "emit")
    with Daemon(*words, "--submit", "tcp://127.0.0.1:9") as daemon:
        daemon.ready()
        put(maildir, upload(1), "1.a")
        told = _until(status, lambda told: told["bridge"]["targets"][0]["oldest"])
        daemon.says("does not answer")
        _until(status, lambda told: told["bridge"]["targets"][0]["trouble"])
        assert daemon.stop() == 0
    (target,) = told["bridge"]["targets"]

    assert (target["name"], target["waiting"]) == ("tcp://127.0.0.1:9", 1)
    assert "outbox   1 events in " in status()


def test_the_units_own_relay_beside_the_state_is_told_too(state: Path, status: Status) -> None:
    beside = state.with_name("state-relay")
    with Daemon("relay", "--state", beside, *LOOPBACK) as daemon:
        daemon.ready()
        told = _until(status, lambda told: told["relay"])
        assert daemon.stop() == 0

    assert told["relay"]["runs"]
    assert told["journal"]["path"] == str(beside / "journal.db")
    assert not told["running"]


def test_alarms_and_what_was_left_behind_are_told_in_words(state: Path, status: Status) -> None:
    with Daemon("run", "--state", state, *LOOPBACK) as daemon:
        daemon.ready()
        assert daemon.stop() == 0
    Live(state, "bridge").tell(BRIDGE)
    Live(state, "relay").tell(RELAY)
    told = status()

    for line in (
        "bridge   hangs: it said nothing for ",
        "ALARM    silence from changes",
        "expects  changes: silent since ",
        "list     changes.lists.example.org: number 43, 1 may come late, 7 never came",
        "ALARM    mailbridge.lists.example.org/20261120T120000Z is not served",
        "readers  2 wait for news; submitted since its start: 1 held, 9 stored",
        "target   lighthouse tcp://127.0.0.1:5571",
    ):
        assert line in told, told
    # (A path of a stranger's choice.)
    assert 'maildir  /var/mail/"x"\\y\\n: 4 mails wait' in told


def test_a_state_in_which_nothing_ran_is_told_so(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--state", str(state)]) == 78
    assert "nothing has run here yet" in capsys.readouterr().err
