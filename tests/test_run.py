"""`mailbridge run` as a process: what it takes, what it says, how it ends."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from mailbridge import config
from mailbridge.cli import main
from mailbridge.keyring import ensure, write_public
from tests.daemons import (
    AS_ANYBODY,
    LOOPBACK,
    Daemon,
    chat,
    make_maildir,
    put,
    read_events,
    report,
    said_by,
    upload,
)
from tests.lighthouse import Lighthouse


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return make_maildir(tmp_path / "Maildir")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_a_mail_in_the_maildir_is_an_event_at_a_reader(maildir: Path, state: Path) -> None:
    with Daemon("run", "--maildir", maildir, "--state", state, *LOOPBACK) as daemon:
        ready = daemon.ready()
        put(maildir, upload(1), "1.renamed")
        put(maildir, report(2), "2.linked", by="link")
        put(maildir, upload(3), "3.flagged", by="cur")
        put(maildir, chat(4), "4.chat")

        events = read_events(ready["read"], state, 3)

        assert sorted(said_by(events)) == ["bug 2", "upload package1", "upload package3"]
        assert {e.feed.entity for e in events if e.feed} == {ready["key"]}
        assert daemon.stop() == 0
    assert sorted(path.name for path in (maildir / "new").iterdir()) == [
        "1.renamed",
        "2.linked",
        "4.chat",
    ]


def test_mail_that_was_there_before_is_taken_as_read(maildir: Path, state: Path) -> None:
    old = time.time() - 3600
    for n in range(3):
        path = put(maildir, upload(n), f"{n}.old", by=("rename", "link", "cur")[n])
        os.utime(path, (old, old))
    with Daemon("run", "--maildir", maildir, "--state", state, *LOOPBACK) as daemon:
        line = daemon.says("^ready ").string
        assert f"3 mails in {maildir} taken as read" in line
        assert f"mailbridge ingest --maildir {maildir}" in line
        assert f"mailbridge tail {daemon.ready()['read']}" in line
        assert f"anyone who can mail into {maildir} can make events" in line
        put(maildir, upload(9), "9.new")

        [event] = read_events(daemon.ready()["read"], state, 1)

        assert said_by([event]) == ["upload package9"]
        assert daemon.stop() == 0
    assert len(list(maildir.glob("*/*.old*"))) == 3


def test_a_second_start_goes_on_where_the_first_ended(maildir: Path, state: Path) -> None:
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK)
    with Daemon(*words) as first:
        ready = first.ready()
        put(maildir, upload(1), "1.a")
        read_events(ready["read"], state, 1)
        assert first.stop() == 0
    put(maildir, upload(2), "2.b")
    with Daemon(*words) as second:
        events = read_events(second.ready()["read"], state, 2)

    assert [event.feed.seq for event in events if event.feed] == [1, 2]
    assert second.ready()["key"] == ready["key"]


def test_what_comes_by_the_pipe_becomes_events_and_leaves_the_spool(state: Path) -> None:
    with Daemon("run", "--state", state, *LOOPBACK) as daemon:
        ready = daemon.ready()
        put(state / "Maildir", upload(1), "1.piped")
        read_events(ready["read"], state, 1)
        assert daemon.stop() == 0

    assert list((state / "Maildir").glob("*/*")) == []


def test_seen_moves_a_mail_to_cur_and_leaves_what_is_in_quarantine(
    maildir: Path, state: Path
) -> None:
    bad = upload(1).replace(b"Message-Id: ", b"X-DAK\0: x\nMessage-Id: ")
    words = ("--maildir", maildir, "--after", "seen", "--state", state, *LOOPBACK)
    with Daemon("run", *words) as daemon:
        ready = daemon.ready()
        put(maildir, bad, "0.bad")
        put(maildir, upload(2), "1.good")
        read_events(ready["read"], state, 1)
        assert daemon.stop() == 0

    assert [path.name for path in (maildir / "cur").iterdir()] == ["1.good:2,S"]
    assert [path.name for path in (maildir / "new").iterdir()] == ["0.bad"]
    [kept] = (state / "quarantine").glob("*.eml")
    assert kept.read_bytes() == bad
    assert kept.stat().st_mode & 0o777 == 0o600


def test_what_is_no_mail_is_said_once_and_stops_nothing(maildir: Path, state: Path) -> None:
    os.mkfifo(maildir / "new" / "1.fifo")
    (maildir / "new" / "2.link").symlink_to("/etc/hostname")
    (maildir / "new" / "3.directory").mkdir()
    with (maildir / "new" / "4.huge").open("wb") as huge:
        huge.write(upload(4))
        huge.truncate(200 * 1024 * 1024)
    words = ("--maildir", maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    with Daemon("run", *words) as daemon:
        ready = daemon.ready()
        put(maildir, upload(5), "5.good")
        assert said_by(read_events(ready["read"], state, 1)) == ["upload package5"]
        put(maildir, upload(6), "6.good")
        read_events(ready["read"], state, 2)
        memory = Path(f"/proc/{daemon.pid}/status").read_text()
        assert daemon.stop() == 0

    lines = [line for line in daemon.said.splitlines() if "WARNING" in line]
    assert [sum(word in line for line in lines) for word in ("1.fifo", "2.link", "4.huge")] == [
        1,
        1,
        1,
    ]
    peak = next(line for line in memory.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 150 * 1024
    [kept] = (state / "quarantine").glob("*.eml")
    assert kept.stat().st_size < 1024 * 1024


def test_a_second_daemon_on_one_state_ends_at_once(maildir: Path, state: Path) -> None:
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK)
    with Daemon(*words) as first:
        first.ready()
        with Daemon(*words) as second:
            assert second.wait() == 75
        assert "another mailbridge runs on this state" in second.said
        assert len(second.said.splitlines()) == 1
        assert first.stop() == 0


def test_a_port_in_use_is_one_line(tmp_path: Path, maildir: Path) -> None:
    words = ("run", "--maildir", maildir, "--state")
    with Daemon(*words, tmp_path / "one", *LOOPBACK) as first:
        taken = first.ready()["submit"]
        with Daemon(*words, tmp_path / "two", *LOOPBACK, "--submit", taken) as second:
            assert second.wait() == 75
        assert taken in second.said
        assert len(second.said.splitlines()) == 1


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_that_is_no_maildir_is_named(tmp_path: Path, state: Path, made: bool) -> None:  # noqa: FBT001
    wrong = tmp_path / "elsewhere"
    if made:
        wrong.mkdir()
    with Daemon("run", "--maildir", wrong, "--state", state, *LOOPBACK) as daemon:
        assert daemon.wait() == 78
    assert f"--maildir {wrong}: no Maildir" in daemon.said
    assert len(daemon.said.splitlines()) == 1


def test_an_outbox_without_its_key_is_left_alone(maildir: Path, state: Path) -> None:
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK)
    with Daemon(*words) as first:
        key = first.ready()["key"]
        assert first.stop() == 0
    (state / "keys" / f"{key}.key_secret").unlink()
    with Daemon(*words) as second:
        assert second.wait() == 78
    assert f"{key}.key_secret" in second.said


def test_an_outbox_of_another_entity_is_left_alone(maildir: Path, state: Path) -> None:
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK)
    with Daemon(*words, "--entity", "mailbridge.one.example.org") as first:
        assert first.ready()["key"] == "mailbridge.one.example.org"
        assert first.stop() == 0
    with Daemon(*words, "--entity", "mailbridge.two.example.org") as second:
        assert second.wait() == 78
    assert "mailbridge.one.example.org" in second.said


def test_a_lost_outbox_sends_nothing_until_a_new_epoch(maildir: Path, state: Path) -> None:
    words = ("run", "--maildir", maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    put(maildir, upload(1), "1.a")
    with Daemon(*words) as first:
        [before] = read_events(first.ready()["read"], state, 1)
        assert first.stop() == 0
    for path in state.glob("outbox.db*"):
        path.unlink()
    with Daemon(*words) as second:
        assert second.wait() == 78
    assert "--new-epoch" in second.said
    put(maildir, upload(2), "2.b")
    with Daemon(*words, "--new-epoch") as third:
        events = read_events(third.ready()["read"], state, 2)
        assert third.stop() == 0

    assert said_by(events) == ["upload package1", "upload package2"]
    assert events[0].hash == before.hash
    [link] = [event.feed for event in events[1:]]
    assert link is not None
    assert link.prev == before.hash
    assert (link.seq, link.tag_seq) == (1, 1)
    with Daemon(*words) as fourth:
        fourth.ready()
        assert fourth.stop() == 0


def test_an_unreadable_maildir_does_not_stop_the_others(tmp_path: Path, state: Path) -> None:
    shut, fine = make_maildir(tmp_path / "shut"), make_maildir(tmp_path / "fine")
    (shut / "new").chmod(0)
    words = ("--maildir", shut, "--maildir", fine, "--state", state, *LOOPBACK)
    with Daemon("run", *words, through=AS_ANYBODY) as daemon:
        ready = daemon.ready()
        put(fine, upload(1), "1.a")
        read_events(ready["read"], state, 1)
        assert f"{shut}: mail there waits" in daemon.said
        (shut / "new").chmod(0o700)


def test_every_file_has_one_verdict(maildir: Path, state: Path) -> None:
    put(maildir, chat(0), "0.old")
    os.utime(maildir / "new" / "0.old", (1, 1))
    with Daemon("run", "--maildir", maildir, "--state", state, *LOOPBACK) as daemon:
        ready = daemon.ready()
        for name, raw in (("1", upload(1)), ("2", upload(1)), ("3", chat(3)), ("4", report(4))):
            put(maildir, raw, f"{name}.x")
        read_events(ready["read"], state, 2)
        assert daemon.stop() == 0
    with sqlite3.connect(state / "outbox.db") as outbox:
        counts = dict(outbox.execute("SELECT verdict, sum(n) FROM count GROUP BY verdict"))
        files = outbox.execute("SELECT count(*) FROM file").fetchone()[0]
    outbox.close()

    assert counts == {"existing": 1, "events": 2, "duplicate": 1, "ignored": 1}
    assert files == 5


@pytest.mark.fault(107)
def test_systemd_is_told_when_mail_is_taken_and_when_it_ends(
    maildir: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        with Daemon("run", "--maildir", maildir, "--state", state, *LOOPBACK) as daemon:
            told = [systemd.recv(4096).decode() for _ in range(6)]
            assert told[0].startswith("READY=1\nSTATUS=no mail waits")
            assert told.count("WATCHDOG=1") > 2
            assert daemon.stop() == 0
            while told[-1] != "STOPPING=1":
                told.append(systemd.recv(4096).decode())


def test_the_bridge_alone_takes_mail_while_no_relay_answers(maildir: Path, state: Path) -> None:
    words = ("bridge", "--maildir", maildir, "--state", state)
    with Daemon(*words, "--submit", "tcp://127.0.0.1:9") as daemon:
        assert daemon.ready()["submit"] == "tcp://127.0.0.1:9"
        put(maildir, upload(1), "1.a")
        daemon.says("events tag=")
        assert daemon.stop() == 0


def test_a_bridge_that_is_not_told_where_sends_to_this_machines_relay(
    maildir: Path, state: Path
) -> None:
    with Daemon("bridge", "--maildir", maildir, "--state", state) as daemon:
        assert daemon.ready()["submit"] == config.SUBMIT
        assert daemon.stop() == 0


def test_options_of_a_maildir_without_one_are_refused(state: Path) -> None:
    with Daemon("run", "--after", "seen", "--state", state, *LOOPBACK) as daemon:
        assert daemon.wait() == 2
    assert "--maildir" in daemon.said


def test_status_tells_how_far_each_part_is(
    maildir: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Daemon("run", "--maildir", maildir, "--state", state, *LOOPBACK) as daemon:
        ready = daemon.ready()
        put(maildir, upload(1), "1.a")
        read_events(ready["read"], state, 1)
        assert main(["status", "--state", str(state), "--json"]) == 0
        running = json.loads(capsys.readouterr().out)
        assert daemon.stop() == 0
    assert main(["status", "--state", str(state)]) == 0
    stopped = capsys.readouterr().out

    assert running["running"] is True
    assert running["outbox"]["events"] == running["journal"]["events"] == 1
    assert running["outbox"]["unacknowledged"] == {"relay": 0}
    assert "no bridge runs" in stopped


def test_what_is_in_quarantine_is_listed_shown_and_tried_again(
    tmp_path: Path, state: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    bad = upload(1).replace(b"X-DAK:", b"X-D\0:", 1)
    (tmp_path / "bad.eml").write_bytes(bad)
    assert main(["ingest", str(tmp_path / "bad.eml"), "--state", str(state)]) == 0
    capsysbinary.readouterr()

    assert main(["quarantine", "list", "--json", "--state", str(state)]) == 0
    note = json.loads(capsysbinary.readouterr().out)
    assert note["code"] == "malformed"
    assert main(["quarantine", "show", note["sha256"][:8], "--state", str(state)]) == 0
    assert capsysbinary.readouterr().out == bad
    assert main(["quarantine", "retry", "--all", "--state", str(state)]) == 65

    # What a later version would make of it: here, the mail as it should have been.
    kept = state / "quarantine" / f"{note['sha256']}.eml"
    kept.write_bytes(upload(1))
    assert main(["quarantine", "retry", "--all", "--state", str(state)]) == 0
    assert list((state / "quarantine").iterdir()) == []
    assert main(["quarantine", "show", note["sha256"], "--state", str(state)]) == 2


def test_what_two_sources_have_in_quarantine_stays_until_both_are_done(
    tmp_path: Path, maildir: Path, state: Path
) -> None:
    (tmp_path / "bad.eml").write_bytes(bad := upload(1).replace(b"X-DAK:", b"X-D\0:", 1))
    put(maildir, bad, "1.bad")
    assert main(["ingest", str(tmp_path / "bad.eml"), "--state", str(state)]) == 0
    assert main(["ingest", "--maildir", str(maildir), "--state", str(state)]) == 0
    [kept] = (state / "quarantine").glob("*.eml")
    kept.write_bytes(upload(1))

    assert main(["quarantine", "retry", "--all", "--state", str(state)]) == 0
    assert list((state / "quarantine").iterdir()) == []


def test_a_bridge_emits_to_a_lighthouse_and_takes_the_echo_as_receipt(
    maildir: Path, state: Path
) -> None:
    key = ensure(state, "mailbridge", "mailbridge.example.org", qualified=lambda: None)
    write_public(state / "trusted" / f"{key.entity}.key", key.verify_key)
    words = ("bridge", "--maildir", maildir, "--state", state)
    with Lighthouse(state / "trusted") as lighthouse:
        sockets = f"{lighthouse.submit},{lighthouse.publish}"
        with Daemon(*words, "--lighthouse", sockets) as daemon:
            ready = daemon.ready()
            assert (ready["submit"], ready["publish"]) == (lighthouse.submit, lighthouse.publish)
            put(maildir, upload(1), "1.a")
            assert lighthouse.handled() == "published"
            assert daemon.stop() == 0
        [event] = lighthouse.published
    assert event["data"]["source_name"] == "package1"
    assert len(event["signatures"]) == 2


def test_told_to_end_in_the_middle_of_a_backlog_it_ends_soon_and_goes_on_later(
    maildir: Path, state: Path
) -> None:
    for n in range(400):
        put(maildir, upload(n), f"{n}.x")
    words = ("run", "--maildir", maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    with Daemon(*words) as first:
        first.says("events tag=")
        assert first.stop() == 0
    with Daemon(*words) as second:
        events = read_events(second.ready()["read"], state, 400)
        assert second.stop() == 0
    assert len(set(said_by(events))) == 400
