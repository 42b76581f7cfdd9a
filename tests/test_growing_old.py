"""Years pass: what a bridge keeps, gives up, backs up, takes back; through the programs that do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import signal
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from mailbridge import changes
from mailbridge.bridge.backup import back_up
from mailbridge.bridge.deliver import Gateway, Settings
from mailbridge.bridge.places import Place
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.submit import HELD
from mailbridge.bridge.upkeep import BREATH, EVERY, Upkeep
from mailbridge.cli import main
from mailbridge.config import Config, Source
from mailbridge.event import VerifiedEvent, read_event
from mailbridge.outbox import Outbox
from mailbridge.outbox.ageing import Old
from mailbridge.signing import SigningKey
from tests.conftest import NOON
from tests.daemons import (
    LOOPBACK,
    PATIENCE,
    Daemon,
    chat,
    make_maildir,
    put,
    read_events,
    report,
    said_by,
    upload,
)
from tests.services import opened
from tests.test_bridge import Talk, came

DAY = timedelta(days=1)
CUT = b"X-D\0:"
"""In place of `X-DAK:`, it makes of an upload's mail one that should have been understood."""


@pytest.fixture
def outbox(tmp_path: Path, signer: SigningKey) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db", signer, now=NOON) as opened:
        yield opened


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gateway(outbox: Outbox, quarantine: Quarantine, clock: Clock) -> Gateway:
    return Gateway(outbox, quarantine, Settings(), clock=clock)


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return make_maildir(tmp_path / "Maildir")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def bad(n: int) -> bytes:
    return upload(n).replace(b"X-DAK:", CUT, 1)


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> list[dict[str, Any]]:
    """Return what a command prints as JSON; it must end well."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def until(there: Callable[[], bool], state: Path) -> None:
    """Wait until something is *there*, which somebody else writes to *state*."""
    written = threading.Event()

    class Writing(FileSystemEventHandler):
        def on_modified(self, event: FileSystemEvent) -> None:  # noqa: ARG002
            written.set()

    observer = Observer()
    observer.schedule(Writing(), str(state))
    observer.start()
    try:
        while not there():
            assert written.wait(PATIENCE), "nothing is written"
            written.clear()
    finally:
        observer.stop()
        observer.join()


def received(state: Path, seq: int) -> None:
    """Wait until somebody has acknowledged everything up to *seq*, and the outbox knows it."""

    def is_known() -> bool:
        with contextlib.closing(opened(state / "outbox.db")) as db:
            return bool(db.execute("SELECT max(acked) FROM target").fetchone() == (seq,))

    until(is_known, state)


def horizon(state: Path) -> int:
    with contextlib.closing(opened(state / "outbox.db")) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'horizon'").fetchone()
        return int(row[0]) if row else 0


def trusted(state: Path, relay: Path, *, tags: str) -> None:
    """Make a bridge's state, and let the relay with the state *relay* take *tags* from it."""
    assert main(["quarantine", "list", "--state", str(state)]) == 0
    [key] = (state / "keys").glob("mailbridge.*.key")
    assert main(["key", "trust", str(key), "--state", str(relay), "--tags", tags]) == 0


# -- what is received ------------------------------------------------------------------------------


def test_a_relay_is_told_what_is_not_kept_any_more_and_goes_on_when_somebody_gave_it(
    outbox: Outbox, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.deliver([came(upload(n)) for n in range(6)])
    hashes = [event.hash for event in outbox.all()]
    outbox.acknowledge("another", 4)
    outbox.ageing.compact(NOON + DAY)
    talk = Talk(outbox)
    try:
        talk.turn(answered=False)
        talk.relay.hears()
        talk.relay.knows(1, hashes[0])
        talk.turn()
        assert "wants what we do not have: events 2 to 4 of" in talk.target.status()
        assert talk.relay.hears_nothing()

        # A minute later it lacks it still, and then somebody imported it there.
        for seq in (1, 4):
            talk.turn(HELD, answered=False)
            assert talk.relay.hears()[0] == b"head"
            talk.relay.knows(seq, hashes[seq - 1])
            talk.turn()
        assert talk.relay.hears_events(2) == [5, 6]

        # It forgets again.
        feed = outbox.feed
        talk.relay.says(status="gap", feed=feed, seq=5, want=3)
        talk.turn()
        assert "events 3 to 4 of" in talk.target.status()
    finally:
        talk.close()
    assert caplog.text.count("a relay that has them, or an export of one") == 2


def test_a_relay_that_went_on_behind_what_is_not_kept_gets_the_rest(
    outbox: Outbox, gateway: Gateway
) -> None:
    gateway.deliver([came(upload(n)) for n in range(6)])
    hashes = [event.hash for event in outbox.all()]
    outbox.acknowledge("another", 4)
    outbox.ageing.compact(NOON + DAY)
    talk = Talk(outbox)
    try:
        talk.turn(answered=False)
        talk.relay.hears()
        feeds = {outbox.feed: [5, hashes[4]]}
        talk.relay.says(status="head", feed=outbox.feed, seq=1, hash=hashes[0], feeds=feeds)
        talk.turn()
        assert talk.relay.hears_events(1) == [6]
    finally:
        talk.close()


def test_the_rounds_of_a_bridge_are_many_small_steps(
    outbox: Outbox, gateway: Gateway, quarantine: Quarantine, clock: Clock
) -> None:
    for first in range(0, 500, 100):
        gateway.deliver([came(upload(n)) for n in range(first, first + 100)])
    outbox.acknowledge("relay", 500)
    upkeep = Upkeep(outbox, quarantine, (), Config(keep_sent="7d"), clock=clock)

    def round_() -> list[int]:
        """Return how far it was compacted after each step."""
        now, seen = EVERY * 10, [0]
        while (due := upkeep.turn(now)) < now + EVERY:
            assert due == now + BREATH
            seen.append(outbox.horizon())
            now = due
        upkeep._due = 0
        return seen

    assert set(round_()) == {0}
    clock.now += 8 * DAY
    assert upkeep.due() == Old(events=500, mails=500, files=0)
    steps = round_()
    assert [step for at, step in enumerate(steps) if step not in steps[:at]] == [0, 200, 400, 500]
    assert upkeep.due() == Old(0, 0, 0)
    assert [outcome.verdict.code for outcome in gateway.deliver([came(upload(7))])] == ["same-news"]


def test_it_is_told_for_whom_events_are_kept_that_nobody_sends_to(
    outbox: Outbox,
    gateway: Gateway,
    quarantine: Quarantine,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway.deliver([came(upload(n)) for n in range(3)])
    outbox.acknowledge("tcp://old:5581", 1)
    outbox.acknowledge("relay", 3)
    upkeep = Upkeep(outbox, quarantine, (), Config(keep_sent="7d"), clock=clock)
    upkeep.sends_to(["relay"])

    upkeep.everything()
    assert "outbox forget" not in caplog.text
    clock.now += 8 * DAY
    for _ in range(2):
        upkeep.everything()
    assert caplog.text.count("'mailbridge outbox forget tcp://old:5581'") == 1
    assert outbox.horizon() == 1

    outbox.forget_target("tcp://old:5581")
    upkeep.everything()
    assert outbox.horizon() == 3


@pytest.mark.parametrize("place", range(1, 7))
def test_killed_at_any_step_of_a_prune_nothing_is_forgotten_that_must_not_be(
    maildir: Path, state: Path, tmp_path: Path, place: int
) -> None:
    config = tmp_path / "mailbridge.toml"
    config.write_text('keep_sent = "0s"\nquarantine_keep = "0s"\n')
    for n, raw in enumerate((upload(1), bad(2), chat(3))):
        put(maildir, raw, f"{n}.x")
    ingest = ("ingest", "--maildir", str(maildir), "--state", str(state))
    assert main(["-c", str(config), *ingest]) == 0
    with contextlib.closing(sqlite3.connect(state / "outbox.db")) as db, db:
        db.execute("INSERT INTO target VALUES ('relay', 1)")

    prune = ("-c", config, "prune", "--state", state)
    with Daemon(*prune, fail_at=f"outbox-commit:{place}") as killed:
        assert killed.wait() in (0, -signal.SIGKILL)
    assert main([str(word) for word in prune]) == 0

    assert horizon(state) == 1
    assert list((state / "quarantine").iterdir()) == []
    assert main(["-c", str(config), *ingest]) == 0
    with contextlib.closing(opened(state / "outbox.db")) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone() == (1,)


def test_the_work_for_a_mail_does_not_grow_with_what_was_done_before(
    maildir: Path, outbox: Outbox, gateway: Gateway, clock: Clock
) -> None:
    """Each statement finds its rows by an index, or what it looks through is small for ever."""
    said: set[str] = set()
    outbox._db.set_trace_callback(said.add)
    place = Place(maildir, (Source(name="s", existing="emit"),), outbox, gateway)
    for n, raw in enumerate((upload(1), upload(1) + b"\n", report(2), bad(3), chat(4))):
        put(maildir, raw, f"{n}.x")
    place.look(started=0)
    place.work(stopping=lambda: False)
    gateway.deliver([came(upload(1)), came(chat(4))])
    outbox.acknowledge("relay", 1)
    outbox.signed_head()
    outbox.after(1, 10)
    outbox.made(2)
    clock.now += 8 * DAY
    before = clock.now - DAY
    for chore in (outbox.ageing.compact, outbox.ageing.forget_mails, outbox.ageing.forget_files):
        chore(before)
    for mail in outbox.quarantined():
        outbox.is_quarantined(mail.sha256)
    outbox._db.set_trace_callback(None)

    growing = ("event", "former", "mail", "file", "backing", "stood_in")
    plans = {
        statement: [row[3] for row in outbox.run(f"EXPLAIN QUERY PLAN {statement}")]
        for statement in said
        if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")
        and not statement.endswith("ORDER BY seq DESC LIMIT 1")
    }
    assert len(plans) > 25
    scanned = {
        statement: step
        for statement, steps in plans.items()
        for step in steps
        if re.match(rf"SCAN ({'|'.join(growing)})\b(?!.*USING (COVERING )?INDEX file_gone)", step)
    }
    assert scanned == {}


def test_files_that_are_long_gone_are_forgotten_and_no_others(
    maildir: Path, outbox: Outbox, gateway: Gateway, quarantine: Quarantine
) -> None:
    paths = [put(maildir, upload(n), f"{n}.x") for n in range(3)]
    place = Place(maildir, (Source(name="s", existing="emit"),), outbox, gateway)
    place.look(started=0)
    place.work(stopping=lambda: False)
    clock = Clock()
    clock.now = datetime.now(UTC)
    upkeep = Upkeep(outbox, quarantine, (place,), Config(keep_sent="7d"), clock=clock)

    for path in paths[:2]:
        path.unlink()
    assert upkeep.everything().files == 0
    clock.now += 8 * DAY
    put(maildir, upload(1), "1.x")
    assert upkeep.due().files == 2
    assert upkeep.everything().files == 2

    # The one that stayed is known; an empty Maildir, perhaps not mounted, has lost nothing.
    place.doubt()
    place.look(started=0)
    assert place.backlog == 1
    paths[2].unlink()
    (maildir / "new" / "1.x").unlink()
    for _ in range(2):
        clock.now += 8 * DAY
        assert upkeep.everything().files == 0


def test_a_bridge_makes_its_outbox_small_and_the_feed_stays_proved(
    maildir: Path, state: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mailbridge.toml"
    config.write_text('keep_sent = "0s"\n')
    words = ("-c", config, "run", "--maildir", maildir, "--existing", "emit", "--state", state)
    for n in range(3):
        put(maildir, upload(n), f"{n}.x")
    with Daemon(*words, *LOOPBACK) as first:
        read_events(first.ready()["read"], state, 3)
        received(state, 3)
        assert first.stop() == 0
    with Daemon(*words, *LOOPBACK) as second:
        read = second.ready()["read"]
        until(lambda: horizon(state) == 3, state)
        # The same news by another list, and one more.
        put(maildir, upload(1).replace(b"devel-changes.lists", b"other.lists"), "again.x")
        put(maildir, upload(3), "3.x")
        events = read_events(read, state, 4)
        assert second.stop() == 0

    assert said_by(events) == [f"upload package{n}" for n in range(4)]
    assert main(["verify", f"file://{state}/journal.db", "--state", str(state)]) == 0
    with contextlib.closing(opened(state / "outbox.db")) as db:
        kept = [(seq, len(raw) > 0) for seq, raw in db.execute("SELECT seq, raw FROM event")]
    assert kept[2:] == [(3, False), (4, True)]


def test_prune_says_what_would_go_and_lets_it_go(
    maildir: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mailbridge.toml"
    config.write_text('keep_sent = "365d"\n')
    for n in range(3):
        put(maildir, upload(n), f"{n}.x")
    words = ("--maildir", maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    with Daemon("-c", config, "run", *words) as daemon:
        read_events(daemon.ready()["read"], state, 3)
        received(state, 3)
        assert daemon.stop() == 0
    prune = ("prune", "--state", state, "--json")

    [kept] = told(capsys, "-c", config, *prune)
    config.write_text('keep_sent = "0s"\n')
    [would] = told(capsys, "-c", config, *prune, "--dry-run")
    before = horizon(state)
    [did] = told(capsys, "-c", config, *prune)
    [rest] = told(capsys, "-c", config, *prune, "--dry-run")

    assert [one["events"] for one in (kept, would, did, rest)] == [0, 3, 3, 0]
    assert [one["mails"] for one in (kept, would, did, rest)] == [0, 3, 3, 0]
    assert would["journal"] == did["journal"] == rest["freed"] == 0
    assert (before, horizon(state)) == (0, 3)
    assert main(["prune", "--state", str(tmp_path / "elsewhere")]) == 78


def test_prune_gives_back_the_room_of_a_file_of_the_first_version(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mail.eml").write_bytes(upload(1))
    assert main(["ingest", str(tmp_path / "mail.eml"), "--state", str(state)]) == 0
    path = state / "outbox.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum=NONE")
        db.execute("VACUUM")
        db.execute("CREATE TABLE ballast AS SELECT zeroblob(1000000)")
        db.execute("DROP TABLE ballast")

    [did] = told(capsys, "prune", "--state", state, "--json")

    assert did["freed"] > 900_000
    assert path.stat().st_size < 400_000


# -- the quarantine --------------------------------------------------------------------------------


def taken(quarantine: Quarantine, outbox: Outbox) -> list[str]:
    """Return the reasons' codes of what is in quarantine; files and entries agree."""
    entries = outbox.quarantined()
    files = {path.stem for path in quarantine._path.glob("*.eml")}
    assert files == {entry.sha256 for entry in entries}
    return [entry.code for entry in entries]


def test_what_is_too_old_for_the_quarantine_leaves_it_and_is_told_once(
    outbox: Outbox,
    gateway: Gateway,
    quarantine: Quarantine,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway.deliver([came(bad(1))])
    clock.now += 60 * DAY
    gateway.deliver([came(bad(2)), came(upload(3))])
    upkeep = Upkeep(outbox, quarantine, (), Config(quarantine_keep="90d"), clock=clock)
    upkeep.everything()
    assert len(taken(quarantine, outbox)) == 2

    clock.now += 31 * DAY
    assert upkeep.expiring() == 1
    with caplog.at_level(logging.WARNING):
        upkeep.everything()
        upkeep.everything()

    assert len(taken(quarantine, outbox)) == 1
    [line] = [text for text in caplog.messages if "expired" in text]
    assert "code=malformed" in line
    assert f"sha256={hashlib.sha256(bad(1)).hexdigest()}" in line
    assert "longer than 90d in quarantine" in line
    counts = {(verdict, code): n for _, verdict, code, n in outbox.counts()}
    assert counts == {("events", ""): 1, ("quarantined", "malformed"): 1, ("ignored", "expired"): 1}


def test_a_quarantine_that_is_too_large_loses_its_oldest_at_once(
    outbox: Outbox, gateway: Gateway, quarantine: Quarantine, clock: Clock
) -> None:
    upkeep = Upkeep(outbox, quarantine, (), Config(quarantine_max="10K"), clock=clock)
    now = 1.0
    while upkeep.turn(now) < EVERY:
        now += BREATH
    for n in range(12):
        clock.now += DAY
        gateway.deliver([came(bad(n))])
        upkeep.turn(now)

    kept = outbox.quarantined()
    assert quarantine.size <= 10 << 10
    assert sum(path.stat().st_size for path in quarantine._path.iterdir()) == quarantine.size
    assert 2 < len(taken(quarantine, outbox)) < 12
    assert [entry.taken for entry in kept] == [clock.now - n * DAY for n in range(len(kept))][::-1]


def test_a_mail_that_an_older_version_could_not_take_becomes_an_event_after_an_upgrade(
    tmp_path: Path,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mail.eml").write_bytes(upload(1))
    with monkeypatch.context() as older:
        older.setattr(changes, "MAX_FILES", 0)
        assert main(["ingest", str(tmp_path / "mail.eml"), "--state", str(state)]) == 0
        # Trying again, as long as nothing has changed, counts nothing twice.
        for _ in range(2):
            assert main(["quarantine", "retry", "--all", "--state", str(state)]) == 65
        assert counted(capsys, state) == {"quarantined": 1}
    assert main(["quarantine", "retry", "--all", "--state", str(state)]) == 0

    assert counted(capsys, state) == {"events": 1}
    assert list((state / "quarantine").iterdir()) == []
    assert main(["quarantine", "retry", "--state", str(state)]) == 2


def counted(capsys: pytest.CaptureFixture[str], state: Path) -> dict[str, int]:
    [status] = told(capsys, "status", "--json", "--state", state)
    found: dict[str, int] = {}
    for one in status["outbox"]["mails"]:
        found[one["verdict"]] = found.get(one["verdict"], 0) + one["count"]
    return found


def test_of_a_mail_that_was_too_large_the_whole_is_found_where_it_lies(
    maildir: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mailbridge.toml"
    config.write_text('max_mail = "300K"\n')
    large = upload(1).replace(b"   * News", b"   * " + b"large " * 60_000 + b"\n   * News")
    put(maildir, large, "1.x")
    words = ("run", "--maildir", maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    with Daemon("-c", config, *words) as daemon:
        daemon.says("quarantined code=too-large")
        assert daemon.stop() == 0
    (maildir / "new" / "1.x").rename(maildir / "cur" / "1.x:2,S")
    retry = ("quarantine", "retry", "--all", "--state", str(state))

    assert main(["-c", str(config), *retry]) == 65
    assert "raise max_mail" in capsys.readouterr().out
    config.write_text('max_mail = "1M"\n')
    assert main(["-c", str(config), *retry]) == 0

    assert counted(capsys, state) == {"events": 1}
    assert (maildir / "cur" / "1.x:2,S").read_bytes() == large


def test_drop_gives_up_what_is_named_and_leaves_the_original(
    maildir: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    originals = [put(maildir, bad(n), f"{n}.x") for n in range(3)]
    assert main(["ingest", "--maildir", str(maildir), "--state", str(state)]) == 0
    notes = told(capsys, "quarantine", "list", "--json", "--state", state)

    assert main(["quarantine", "drop", "--state", str(state)]) == 2
    assert main(["quarantine", "drop", notes[0]["sha256"], "--state", str(state)]) == 0
    assert counted(capsys, state) == {"quarantined": 2, "ignored": 1}
    assert main(["quarantine", "drop", "--all", "--state", str(state)]) == 0

    assert counted(capsys, state) == {"ignored": 3}
    assert list((state / "quarantine").iterdir()) == []
    assert all(path.exists() for path in originals)


def test_a_copy_that_is_gone_stops_no_other(
    maildir: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(2):
        put(maildir, bad(n), f"{n}.x")
    assert main(["ingest", "--maildir", str(maildir), "--state", str(state)]) == 0
    lost, other = sorted((state / "quarantine").glob("*.eml"))
    lost.unlink()
    other.write_bytes(upload(9))

    assert main(["quarantine", "retry", "--all", "--state", str(state)]) == 65
    assert "'drop' gives it up" in capsys.readouterr().out
    assert counted(capsys, state) == {"events": 1, "quarantined": 1}


# -- an event that nobody takes --------------------------------------------------------------------


def test_an_event_that_a_relay_holds_is_dropped_and_the_feed_flows(
    maildir: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "relay"
    config = tmp_path / "mailbridge.toml"
    bridge = ("-c", config, "bridge", "--maildir", maildir, "--existing", "emit", "--state", state)
    ask = ("-c", str(config), "outbox")
    for n, raw in enumerate((upload(1), report(2), upload(3), upload(4))):
        put(maildir, raw, f"{n}.x")
    trusted(state, there, tags="*.package-*")
    with Daemon("relay", "--state", there, *LOOPBACK) as relay:
        ports = relay.ready()
        config.write_text(f'[submit]\nto = ["{ports["submit"]}"]\n')
        with Daemon(*bridge) as second:
            second.says(r"will not have our events yet: .*bug-reported")
            waiting = told(capsys, *ask, "list", "--json", "--state", state)
            assert main([*ask, "drop", "2", "--state", str(state)]) == 75
            assert "another mailbridge runs on this state" in capsys.readouterr().err
            assert second.stop() == 0

        assert [(one["seq"], one["target"]) for one in waiting] == [
            (seq, ports["submit"]) for seq in (2, 3, 4)
        ]
        assert waiting[0]["tag"].endswith("bug-reported")
        assert 0 <= waiting[0]["age"] < PATIENCE
        assert main([*ask, "drop", "1", "--state", str(state)]) == 78
        assert main([*ask, "drop", "9", "--state", str(state)]) == 78
        assert main([*ask, "drop", "2", "--state", str(state)]) == 0
        assert waiting[0]["uuid"] in capsys.readouterr().out

        # Its mail comes again, and makes nothing.
        put(maildir, report(2).replace(b"bugs-dist", b"bugs-too"), "again.x")
        with Daemon(*bridge) as third:
            third.ready()
            events = read_events(ports["read"], there, 3)
            until(lambda: not told(capsys, *ask, "list", "--json", "--state", state), state)
            assert third.stop() == 0
        assert relay.stop() == 0

    assert said_by(events) == ["upload package1", "upload package3", "upload package4"]
    assert [event.uuid for event in events[1:]] == [one["uuid"] for one in waiting[1:]]
    assert [event.feed.seq for event in events if event.feed] == [1, 2, 3]


def test_killed_while_it_drops_an_event_the_outbox_is_as_it_was(
    maildir: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(3):
        put(maildir, upload(n), f"{n}.x")
    assert main(["ingest", "--maildir", str(maildir), "--state", str(state)]) == 0
    waiting = told(capsys, "outbox", "list", "--json", "--state", state)
    drop = ("outbox", "drop", "1", "--offline", "--state", state)

    with Daemon(*drop, fail_at="outbox-commit:2") as killed:
        assert killed.wait() == -signal.SIGKILL
    assert [one["uuid"] for one in told(capsys, "outbox", "list", "--json", "--state", state)] == [
        one["uuid"] for one in waiting
    ]
    with Daemon(*drop, fail_at="outbox-committed:2") as killed:
        assert killed.wait() == -signal.SIGKILL
    left = told(capsys, "outbox", "list", "--json", "--state", state)
    assert [(one["seq"], one["uuid"]) for one in left] == [
        (1, waiting[1]["uuid"]),
        (2, waiting[2]["uuid"]),
    ]


def test_while_a_relay_does_not_answer_only_a_word_drops_an_event(
    tmp_path: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mail.eml").write_bytes(upload(1))
    assert main(["ingest", str(tmp_path / "mail.eml"), "--state", str(state)]) == 0
    config = tmp_path / "mailbridge.toml"
    config.write_text('[submit]\nto = ["tcp://127.0.0.1:1"]\n')
    drop = ("-c", str(config), "outbox", "drop", "1", "--state", str(state))

    assert main(list(drop)) == 75
    assert "--offline is your word" in capsys.readouterr().err
    assert main([*drop, "--offline"]) == 0
    assert told(capsys, "outbox", "list", "--json", "--state", state) == []
    assert main(["outbox", "list", "--state", str(tmp_path / "elsewhere")]) == 78


def test_a_relay_that_is_gone_for_good_is_waited_for_no_more(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mail.eml").write_bytes(upload(1))
    assert main(["ingest", str(tmp_path / "mail.eml"), "--state", str(state)]) == 0
    with contextlib.closing(sqlite3.connect(state / "outbox.db")) as db, db:
        db.execute("INSERT INTO target VALUES ('tcp://old:5581', 0), ('tcp://new:5581', 1)")

    assert len(told(capsys, "outbox", "list", "--json", "--state", state)) == 1
    assert main(["outbox", "forget", "tcp://old", "--state", str(state)]) == 2
    assert main(["outbox", "forget", "tcp://old:5581", "--state", str(state)]) == 0
    assert told(capsys, "outbox", "list", "--json", "--state", state) == []


# -- backups ---------------------------------------------------------------------------------------


def restore(backup: Path, state: Path, *names: str) -> None:
    """Put parts of a backup back, as the README tells."""
    for name in names:
        for old in state.glob(f"{name}*"):
            old.unlink()
        os.link(backup / name, state / name)


@pytest.mark.fault(39)
def test_a_restored_outbox_sends_nothing_until_a_new_epoch_and_then_nothing_twice(
    maildir: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "relay"
    trusted(state, there, tags="*")
    with Daemon("relay", "--state", there, *LOOPBACK) as relay:
        ports = relay.ready()
        words = ("bridge", "--maildir", maildir, "--existing", "emit", "--state", state)
        bridge = (*words, "--submit", ports["submit"])
        put(maildir, upload(1), "1.x")
        put(maildir, upload(2), "2.x")
        with Daemon(*bridge) as second:
            read_events(ports["read"], there, 2)
            assert main(["backup", str(tmp_path / "backups"), "--state", str(state)]) == 0
            put(maildir, upload(3), "3.x")
            put(maildir, upload(4), "4.x")
            before = read_events(ports["read"], there, 4)
            assert second.stop() == 0
        line = capsys.readouterr().out.splitlines()[-1]
        [backup] = (tmp_path / "backups").iterdir()
        assert line.startswith(f"{backup}: outbox up to 2 of ")
        assert line.endswith("; verified")

        restore(backup, state, "outbox.db")
        put(maildir, upload(5), "5.x")
        with Daemon(*bridge) as third:
            assert third.wait() == 78
        assert "is the backup of " in third.said
        assert "start once with --new-epoch" in third.said
        with Daemon(*bridge, "--new-epoch") as fourth:
            fourth.ready()
            events = read_events(ports["read"], there, 5)
            assert fourth.stop() == 0
        with Daemon(*bridge) as fifth:
            fifth.ready()
            assert fifth.stop() == 0
        assert relay.stop() == 0

    assert said_by(events) == [f"upload package{n}" for n in range(1, 6)]
    assert [event.hash for event in events[:4]] == [event.hash for event in before]
    assert len({event.uuid for event in events}) == 5
    [link] = [event.feed for event in events[4:]]
    assert link is not None
    assert (link.seq, link.prev) == (1, before[3].hash)


@pytest.mark.fault(113)
def test_where_outbox_and_journal_are_restored_nothing_is_numbered_a_second_time(
    maildir: Path, state: Path, tmp_path: Path
) -> None:
    words = ("run", "--maildir", maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    cursor = tmp_path / "cursor"

    def reader(read: str, count: int) -> int:
        tail = ("tail", read, "--state", state, "--from", "start", "--count", str(count))
        with Daemon(*tail, "--cursor-file", cursor, "--timeout", "20") as tailing:
            return tailing.wait()

    put(maildir, upload(1), "1.x")
    with Daemon(*words) as first:
        read = first.ready()["read"]
        read_events(read, state, 1)
        assert main(["backup", str(tmp_path / "b.tar.gz"), "--state", str(state)]) == 0
        put(maildir, upload(2), "2.x")
        assert reader(read, 2) == 0
        assert first.stop() == 0
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    [backup] = (tmp_path / "unpacked").iterdir()
    restore(backup, state, "outbox.db", "journal.db")

    with Daemon(*words) as second:
        assert second.wait() == 78
    assert "is the backup of " in second.said
    with Daemon(*words, "--new-epoch") as third:
        events: list[VerifiedEvent] = read_events(third.ready()["read"], state, 2)
        assert third.stop() == 0

    # The feed that readers know beyond the backup is never numbered on.
    assert said_by(events) == ["upload package1", "upload package2"]
    feeds = [event.feed.id for event in events if event.feed]
    assert len(set(feeds)) == 2
    assert max(feeds) == feeds[1]


def test_a_backup_has_all_of_the_state_and_is_its_owners_alone(
    maildir: Path, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, raw in enumerate((upload(1), bad(2), chat(3))):
        put(maildir, raw, f"{n}.x")
    words = ("run", "--maildir", maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    with Daemon(*words) as daemon:
        read_events(daemon.ready()["read"], state, 1)
        daemon.says("quarantined code=malformed")
        (state / "policy.toml").write_text('"debexpo.example.org" = ["org.example.*"]\n')
        for _ in range(2):
            assert main(["backup", str(tmp_path / "to" / "there"), "--state", str(state)]) == 0
        assert daemon.stop() == 0

    backup, _ = sorted((tmp_path / "to" / "there").iterdir())
    assert "journal with 1 events" in capsys.readouterr().out
    names = {str(path.relative_to(backup)) for path in backup.rglob("*") if path.is_file()}
    kept = {
        str(path.relative_to(state))
        for name in ("keys", "quarantine")
        for path in (state / name).rglob("*")
        if path.is_file()
    }
    assert names == {"outbox.db", "journal.db", "policy.toml", *kept}
    assert len([name for name in kept if name.endswith(".key_secret")]) == 2
    assert len([name for name in kept if name.endswith(".eml")]) == 1
    for path in (backup, *backup.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    with contextlib.closing(sqlite3.connect(backup / "outbox.db")) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)


@pytest.mark.parametrize("where", ["copied:2", "backup-copied"])
def test_a_backup_that_is_killed_is_none_and_cleared_away_later(
    state: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "mail.eml").write_bytes(upload(1))
    with Daemon("run", "--state", state, *LOOPBACK) as daemon:
        daemon.ready()
        assert daemon.stop() == 0
    to = tmp_path / "b"
    with Daemon("backup", to, "--state", state, fail_at=where) as killed:
        assert killed.wait() == -signal.SIGKILL
    [left] = to.iterdir()
    assert left.name.startswith(".mailbridge-")
    os.utime(left, (0, 0))

    assert main(["backup", str(to), "--state", str(state)]) == 0
    [made] = to.iterdir()
    assert (made / "outbox.db").exists()


def test_a_backup_while_events_are_made_is_one_moment_of_them(
    state: Path, tmp_path: Path, signer: SigningKey
) -> None:
    state.mkdir()
    made = threading.Event()

    def work() -> None:
        with Outbox(state / "outbox.db", signer, now=NOON) as outbox:
            gateway = Gateway(outbox, Quarantine(state / "quarantine"), Settings())
            for n in range(300):
                gateway.deliver([came(upload(n))])
                made.set()

    working = threading.Thread(target=work)
    working.start()
    assert made.wait(PATIENCE)
    backups = []
    while working.is_alive():
        backups.append(back_up(state, tmp_path / "b").path)
    working.join()

    for path in backups:
        with contextlib.closing(sqlite3.connect(path / "outbox.db")) as db:
            events = [read_event(raw) for (raw,) in db.execute("SELECT raw FROM event")]
            mails = db.execute("SELECT count(*) FROM mail").fetchone()
        links = [event.feed for event in events if event.feed]
        assert [link.seq for link in links] == list(range(1, len(links) + 1))
        assert [link.prev for link in links[1:]] == [event.hash for event in events[:-1]]
        assert mails == (len(events),)


def test_a_backup_that_cannot_be_made_leaves_nothing_half(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(tmp_path / "b"), "--state", str(state)]) == 78
    (tmp_path / "mail.eml").write_bytes(upload(1))
    assert main(["ingest", str(tmp_path / "mail.eml"), "--state", str(state)]) == 0
    (tmp_path / "file").write_text("")
    assert main(["backup", str(tmp_path / "file" / "b"), "--state", str(state)]) == 74
    damaged = bytearray((state / "outbox.db").read_bytes())
    damaged[4096 * 2 : 4096 * 6] = b"\xff" * 4096 * 4
    (state / "outbox.db").write_bytes(damaged)

    capsys.readouterr()

    assert main(["backup", str(tmp_path / "b"), "--state", str(state)]) == 78
    assert list((tmp_path / "b").iterdir()) == []
    assert f"{state}/outbox.db: damaged" in capsys.readouterr().err


# -- what the operator asked of a Maildir ----------------------------------------------------------


def sourced(tmp_path: Path, maildir: Path, **settings: str) -> Path:
    config = tmp_path / "mailbridge.toml"
    lines = [f'{key} = "{value}"' for key, value in settings.items()]
    config.write_text(
        "\n".join(['[[source]]\nname = "s"\nexisting = "emit"', f'maildir = "{maildir}"', *lines])
    )
    return config


def test_a_service_deletes_mail_at_its_age_and_what_it_could_not_understand_never(
    maildir: Path, state: Path, tmp_path: Path
) -> None:
    config = sourced(tmp_path, maildir, after="delete:30d")
    words = ("-c", config, "run", "--state", state, *LOOPBACK)
    for n, raw in enumerate((upload(1), chat(2), bad(3))):
        put(maildir, raw, f"{n}.x")
    with Daemon(*words) as first:
        read_events(first.ready()["read"], state, 1)
        first.says("quarantined")
        assert first.stop() == 0
    assert len(list((maildir / "new").iterdir())) == 3

    # A month passes, and a mail that was there long before is delivered by another machine.
    with contextlib.closing(sqlite3.connect(state / "outbox.db")) as db, db:
        db.execute("UPDATE file SET done = done - 31 * 86400")
    late = put(maildir, upload(4), "4.x")
    os.utime(late, (0, 0))
    with Daemon(*words) as second:
        read_events(second.ready()["read"], state, 2)
        assert second.stop() == 0

    assert sorted(path.name for path in (maildir / "new").iterdir()) == ["2.x", "4.x"]


def test_what_is_too_fast_for_its_source_waits_in_the_maildir_and_is_not_numbered(
    maildir: Path, state: Path, tmp_path: Path
) -> None:
    config = sourced(tmp_path, maildir, rate="1/d", after="seen")
    for n in range(5):
        put(maildir, upload(n), f"{n}.x")
    with Daemon("-c", config, "run", "--state", state, *LOOPBACK) as daemon:
        assert "files wait in" in daemon.says("^ready ").string
        [event] = read_events(daemon.ready()["read"], state, 1)
        # Others are not held up by it.
        assert main(["ingest", "-", "--state", str(state)]) in (0, 75)
        assert daemon.stop() == 0

    assert said_by([event]) == ["upload package0"]
    assert len(list((maildir / "new").iterdir())) == 4
    with contextlib.closing(opened(state / "outbox.db")) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone() == (1,)

    config.write_text(config.read_text().replace("1/d", "1000/s"))
    with Daemon("-c", config, "run", "--state", state, *LOOPBACK) as daemon:
        events = read_events(daemon.ready()["read"], state, 5)
        assert daemon.stop() == 0
    assert said_by(events) == [f"upload package{n}" for n in range(5)]
