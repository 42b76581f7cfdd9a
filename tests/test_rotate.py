"""A new key: readers go on over it without a gap, and nothing is told twice."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from mailbridge.cli import main
from tests.daemons import LOOPBACK, Daemon, put, read_events, report, said_by, upload
from tests.services import Service

NEW: Final = "mailbridge.second.example.org"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def rotated(service: Service, *words: str, fail_at: str = "") -> int:
    command: tuple[str | Path, ...] = ("key", "rotate", NEW, "--state", service.state, *words)
    with Daemon(*command, fail_at=fail_at) as daemon:
        return daemon.wait()


@pytest.mark.parametrize("place", ["", "next-key-made", "next-key-named", "last-event-sent"])
def test_a_reader_goes_on_over_a_new_key_wherever_the_change_was_broken_off(
    service: Service, place: str
) -> None:
    with service.running():
        service.deliver()
        service.arrived()
    (key,) = service.state.glob("keys/mailbridge.*.key")
    assert main(["key", "trust", str(key), "--tags", "*", "--state", str(service.state)]) == 0
    # The relay of `run` is alone for a while: it must get the old feed's last event.
    with Daemon("relay", "--state", service.state, *LOOPBACK) as relay:
        bound = relay.ready()
        if place:
            assert rotated(service, "--submit", bound["submit"], fail_at=f"{place}:1") == -9
        assert rotated(service, "--submit", bound["submit"]) == 0
        assert relay.stop() == 0
    with Daemon(*service.words) as daemon:
        ready = daemon.ready()
        put(service.maildir, upload(1), "again.a")
        put(service.maildir, report(77), "new.a")
        events = read_events(ready["read"], service.state, 3)
        assert daemon.stop() == 0

    first, named, last = events
    assert ready["key"] == NEW
    assert said_by([first, last]) == ["upload package1", "bug 77"]
    assert named.tag == "_lk.mailbridge.next-key"
    assert named.data["entity"] == NEW
    assert [event.feed.seq for event in events if event.feed] == [1, 2, 1]
    assert last.feed
    assert last.feed.entity == NEW
    assert last.feed.prev == named.hash
    secrets = {path.name for path in (service.state / "keys").glob("mailbridge.*secret*")}
    assert secrets > {f"{NEW}.key_secret"}
    assert all(name.endswith(".retired") for name in secrets - {f"{NEW}.key_secret"})


def test_while_a_bridge_runs_its_key_stays(service: Service) -> None:
    with service.running():
        assert rotated(service) == 75
        service.deliver()
        service.check()


def test_without_its_relay_the_old_key_signs_on(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    with service.running() as daemon:
        old = daemon.ready()["key"]
        service.deliver()
        service.arrived()
    words = ["key", "rotate", NEW, "--state", str(service.state), "--submit", "tcp://127.0.0.1:9"]
    assert main([*words, "--timeout", "0.2"]) == 75
    assert "run this again" in capsys.readouterr().err
    assert main([word.replace("second", "third") for word in words]) == 78
    assert NEW in capsys.readouterr().err

    with service.running() as daemon:
        assert daemon.ready()["key"] == old
        # (The event that names the next key went out, and news go on behind it.)
        service.deliver()
        events = read_events(service.read, service.state, 3)
    assert [event.tag.rpartition(".")[2] for event in events] == [
        "package-upload-accepted",
        "next-key",
        "package-upload-accepted",
    ]


@pytest.mark.parametrize(
    ("words", "status"), [(["../x"], 2), ([NEW], 78)], ids=["a path", "no outbox"]
)
def test_what_cannot_be_rotated_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int
) -> None:
    assert main(["key", "rotate", *words, "--state", str(tmp_path / "none")]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
