"""`mailbridge verify`: the first number that is wrong, wherever it is."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from mailbridge import keyring
from mailbridge.cli import main
from mailbridge.event import SignedEvent, canonical
from mailbridge.feed import read_head
from mailbridge.inspection import checksum
from mailbridge.journal import Journal
from mailbridge.testing import RelayForTests, mailbridge_relay
from tests.conftest import NOON
from tests.feeds import Source
from tests.hostile import Gives, HostileRelay, Request, header
from tests.long_feeds import cost_of, make

relay = mailbridge_relay

CLOSED = "_lk.mailbridge.bug-closed"
UPLOAD = "_lk.mailbridge.package-upload-accepted"
FEED = "mailbridge.lists.example.org/20261120T120000Z"
OTHER = "mailbridge.other.example.org"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "trusted"
    for entity in (Source().key.entity, OTHER):
        keyring.write_public(directory / f"{entity}.key", Source(entity).key.verify_key)
    return directory


def write(path: Path, events: Iterable[SignedEvent]) -> Path:
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        for event in events:
            batch.append(event, event.raw)
    return path


def verified(url: str, keys: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(["verify", url, "--keys", str(keys)])
    return status, capsys.readouterr().out


def test_a_journal_that_is_right_is_said_to_be(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = Source(), Source(OTHER)
    events = [*one.events(3), two.event(101, uuid_of=1), two.event(102), two.event(103, uuid_of=2)]
    url = write(tmp_path / "j.db", events).as_uri()

    status, out = verified(url, keys, capsys)

    assert status == 0
    assert f"feed {FEED}: whole up to number 3" in out
    assert f"feed {two.head.feed}: whole up to number 3" in out
    assert "4 events" in out


def _put(db: sqlite3.Connection, raw: bytes, sql: str = "") -> None:
    """Put *raw* in the place of event 3, as somebody does who knows the file."""
    (hashed,) = db.execute("SELECT hash FROM event WHERE pos = 3").fetchone()
    values = (raw, checksum(raw, hashed))
    db.execute(f"UPDATE event SET bytes = ?, sum = ?{sql} WHERE pos = 3", values)  # noqa: S608


def _alter(db: sqlite3.Connection) -> None:
    (raw,) = db.execute("SELECT bytes FROM event WHERE pos = 3").fetchone()
    _put(db, raw.replace(b'"number":3', b'"number":7'))


def _drop(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM event WHERE pos = 3")


def _swap(db: sqlite3.Connection) -> None:
    (raw,) = db.execute("SELECT bytes FROM event WHERE pos = 4").fetchone()
    _put(db, raw)


def _shorten(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM event WHERE pos >= 3")


def _hide(db: sqlite3.Connection) -> None:
    _put(db, b"x", ", visible = 0")


@pytest.mark.parametrize("harm", [_alter, _drop, _swap, _shorten, _hide])
def test_the_first_number_that_is_wrong_in_a_journal_is_named(
    tmp_path: Path,
    keys: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[sqlite3.Connection], None],
) -> None:
    path = write(tmp_path / "j.db", Source().events(5))
    with sqlite3.connect(path) as db:
        harm(db)
    db.close()

    status, out = verified(path.as_uri(), keys, capsys)

    assert status == 65
    assert f"feed {FEED}: number 3 " in out
    assert out.count("\n") == 1


def test_what_the_disk_has_altered_is_a_finding(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "j.db", Source().events(5))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE event SET bytes = X'78' WHERE pos = 3")
    db.close()

    status, out = verified(path.as_uri(), keys, capsys)

    assert status == 65
    assert "the event at position 3 is damaged" in out


def test_a_relay_is_verified_as_a_journal_is(
    relay: RelayForTests, capsys: pytest.CaptureFixture[str]
) -> None:
    for bug in range(3):
        relay.emit(CLOSED, {"bug": bug})
    relay.emit("org.example.job-done", {}, feed=False)

    assert main(["verify", relay.url, "--state", str(relay.state), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["events"]) == (True, 4)
    assert list(told["feeds"].values()) == [3]


def test_a_relay_that_hides_the_end_of_a_feed_is_found_out(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    events = source.events(3)
    gives = Gives(events[:2])
    signed = json.loads(source.signed_head())

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["op"] != "feeds":
            return gives(request)
        entry = {"seq": 3, "hash": events[2].hash, "head": signed}
        return [header(request, feeds={FEED: entry})]

    with HostileRelay(answers) as relay:
        status, out = verified(relay.url, keys, capsys)

    assert status == 65
    assert f"feed {FEED}: number 3 is missing" in out


@pytest.mark.fault(62)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_relay_that_keeps_an_event_from_readers_is_found_out(
    keys: Path, capsys: pytest.CaptureFixture[str], *, at_the_end: bool
) -> None:
    """It tells of it as a double, of something that it cannot show."""
    source = Source()
    events = source.events(3)
    hidden = 3 if at_the_end else 2
    gives = Gives([event for event in events if event is not events[hidden - 1]], links=events)

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["op"] != "feeds":
            return gives(request)
        return [header(request, feeds={FEED: {"seq": 3, "hash": source.head.hash}})]

    with HostileRelay(answers) as relay:
        status, out = verified(relay.url, keys, capsys)

    assert status == 65
    assert f"feed {FEED}: number {hidden} is kept from readers" in out


@pytest.mark.parametrize("comes", [False, True])
def test_what_a_source_signed_and_a_relay_never_shows_is_found_out(
    keys: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    comes: bool,
) -> None:
    """What is merely on its way there comes while it is asked again."""
    monkeypatch.setattr("mailbridge.reader.exported.LOOK_EVERY", 0.01)
    source = Source()
    events = source.events(3)
    signed = json.loads(source.signed_head())
    asked: list[Request] = []

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["op"] == "feeds":
            asked.append(request)
        shown = events[:3] if comes and len(asked) > 1 else events[:2]
        if request["op"] != "feeds":
            return Gives(shown)(request)
        entry = {"seq": len(shown), "hash": shown[-1].hash, "head": signed}
        return [header(request, feeds={FEED: entry})]

    with HostileRelay(answers) as relay:
        status, out = verified(relay.url, keys, capsys)

    assert status == (0 if comes else 65)
    found = "whole up to number 3" if comes else "number 3 is missing: its source signed that it"
    assert f"feed {FEED}: {found}" in out


def test_a_source_that_was_not_heard_of_for_long_is_told(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    path = write(tmp_path / "j.db", source.events(1))
    note = source.signed_head(time="2019-01-01T00:00:00+00:00")
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        batch.note(read_head(json.loads(note)), note)

    assert main(["verify", path.as_uri(), "--keys", str(keys)]) == 0

    told = capsys.readouterr()
    assert "whole up to number 1" in told.out
    assert "nothing was heard of its source since 2019-01-01" in told.err


def test_a_head_that_its_source_did_not_sign_so_is_found_out(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    gives = Gives(source.events(2))
    signed = json.loads(source.signed_head())
    signed["head"]["seq"] = 1

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["op"] != "feeds":
            return gives(request)
        entry = {"seq": 2, "hash": source.head.hash, "head": signed}
        return [header(request, feeds={FEED: entry})]

    with HostileRelay(answers) as relay:
        status, out = verified(relay.url, keys, capsys)

    assert status == 65
    assert "its head was altered" in out


@pytest.mark.fault(63)
@pytest.mark.parametrize("kind", ["event", "next", "head"])
def test_a_source_that_contradicts_itself_is_found_out_by_the_proof_that_is_kept(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    source, twin = Source(), Source()
    events = source.events(3)
    twin.events(2)
    other = twin.event(33)
    proof, seq = other.raw, 3
    if kind == "head":
        proof = twin.signed_head()
    elif kind == "next":
        proof, seq = twin.event(44).raw, 4
    path = write(tmp_path / "j.db", events)
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        batch.fork(FEED, seq, "x", proof)

    status, out = verified(path.as_uri(), keys, capsys)

    assert status == 65
    assert f"feed {FEED}: number {seq}: two events have it" in out


@pytest.mark.parametrize("kind", ["the same", "a stranger's", "altered", "another feed's", "none"])
def test_what_proves_nothing_is_no_finding(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Whoever keeps a relay could else accuse any source."""
    events = Source().events(3)
    proof = {
        "the same": events[1].raw,
        "a stranger's": Source("mailbridge.third.example.org").event(2).raw,
        "altered": events[1].raw.replace(b'"number":2', b'"number":7'),
        "another feed's": Source(OTHER).event(2).raw,
        "none": b"7",
    }[kind]
    path = write(tmp_path / "j.db", events)
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        batch.fork(FEED, 2, "x", proof)

    assert verified(path.as_uri(), keys, capsys)[0] == 0


@pytest.mark.fault(63)
def test_status_names_the_number_that_two_events_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "journal.db", Source().events(3))
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        batch.fork(FEED, 2, "x", b"{}")

    assert main(["status", "--state", str(tmp_path)]) == 0

    assert "two events have its number 2: the proof is kept" in capsys.readouterr().out


def test_a_relay_that_is_not_there_is_75(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailbridge.reader.patience.GRACE", 0.1)

    assert main(["verify", "tcp://127.0.0.1:9", "--keys", str(keys)]) == 75


def test_a_key_that_is_missing_is_77(tmp_path: Path) -> None:
    path = write(tmp_path / "j.db", Source().events(1))

    assert main(["verify", path.as_uri(), "--state", str(tmp_path / "none")]) == 77


# -- standard input --------------------------------------------------------------------------------


def lines(raws: Iterable[bytes], keys: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "mailbridge", "verify", "-", "--keys", str(keys), *words],
        input=b"".join(raw + b"\n" for raw in raws),
        capture_output=True,
        check=False,
        env=os.environ,
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode()


def test_lines_of_a_whole_feed_are_right(keys: Path) -> None:
    status, out = lines([event.raw for event in Source().events(4)], keys)

    assert status == 0
    assert "whole up to number 4" in out


def test_a_missing_line_is_named(keys: Path) -> None:
    one, _, three = Source().events(3)

    status, out = lines([one.raw, three.raw], keys)

    assert status == 65
    assert f"feed {FEED}: number 2 is missing" in out


def test_lines_of_some_tags_are_right_though_numbers_are_missing(keys: Path) -> None:
    source = Source()
    tags = [CLOSED, UPLOAD, CLOSED, UPLOAD, CLOSED]
    closed = [e.raw for n, tag in enumerate(tags, 1) if (e := source.event(n, tag)).tag == CLOSED]

    assert lines(closed, keys)[0] == 65
    assert lines(closed, keys, "--tag", CLOSED)[0] == 0
    status, out = lines([closed[0], closed[2]], keys, "--tag", CLOSED)
    assert status == 65
    assert f"before number 5 an event {CLOSED} is missing" in out


def test_however_long_a_feed_is_memory_stays_small(tmp_path: Path) -> None:
    made = make(tmp_path, 20_000, "short")

    for what in (made.export, made.journal.as_uri()):
        cost = cost_of("verify", what, "--keys", made.keys)

        assert cost.status == 0
        # (Half of it is Python and its libraries; a kilobyte an event would be seen.)
        assert cost.peak < 110 * 1024 * 1024


@pytest.mark.parametrize("line", [b"7", b"", b"x" * 3_000_000, b"\xff"])
def test_a_line_that_is_no_event_is_named(keys: Path, line: bytes) -> None:
    status, out = lines([Source().event(1).raw, line], keys)

    assert status == 65
    assert "line 2" in out


def test_an_altered_line_is_named(keys: Path) -> None:
    event = Source().event(1)

    status, out = lines([canonical(json.loads(event.raw) | {"data": {}})], keys)

    assert status == 65
    assert f"feed {FEED}: number 1 was altered" in out
