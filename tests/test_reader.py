"""Reading: every event once, none missing, from any place on; relays that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbridge import alisten, keyring
from mailbridge.errors import (
    BadProof,
    NeedsOperator,
    NotPermitted,
    StorageFailed,
    TryAgain,
    UnknownOrigin,
    UsageError,
)
from mailbridge.event import SignedEvent, VerifiedEvent
from mailbridge.journal import Journal
from mailbridge.reader import KnownRelays, listen, open_events
from mailbridge.reader import events as events_of
from mailbridge.reader.keys import Introduction
from mailbridge.reader.place import parse
from mailbridge.signing import SigningKey
from mailbridge.testing import RelayForTests, mailbridge_relay
from mailbridge.wire.read import Refused
from tests.conftest import NOON
from tests.feeds import Source

relay = mailbridge_relay

CLOSED = "_lk.mailbridge.bug-closed"
REPORTED = "_lk.mailbridge.bug-reported"
UPLOAD = "_lk.mailbridge.package-upload-accepted"


def write(path: Path, events: Sequence[SignedEvent], *, now: datetime = NOON) -> str:
    """Add *events* to the journal *path* and return its URL."""
    with Journal.open(path) as journal, journal.batch(now) as batch:
        for event in events:
            batch.append(event, event.raw)
    return path.as_uri()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with the keys of the sources that tests make."""
    directory = tmp_path / "trusted"
    for entity in ("mailbridge.lists.example.org", "mailbridge.other.example.org"):
        keyring.write_public(directory / f"{entity}.key", Source(entity).key.verify_key)
    return directory


def numbers(events: Sequence[SignedEvent]) -> list[int]:
    return [event.data["number"] for event in events]


def read(url: str, count: int, keys: Path, **options: Any) -> list[int]:
    options = {"since": "start", "timeout": 20, **options}
    events = listen(url, keys=keys, **options)
    return numbers(list(islice(events, count)))


def all_of(url: str, keys: Path, **options: Any) -> list[int]:
    """What a reader gets that ends when there is nothing more."""
    options = {"since": "start", "follow": False, **options}
    with open_events(url, keys=keys, **options) as events:
        return numbers(list(events))


# -- places ----------------------------------------------------------------------------------------


def test_reading_begins_where_it_is_told(tmp_path: Path, keys: Path) -> None:
    source = Source()
    path = tmp_path / "journal.db"
    for hour in range(4):
        write(path, source.events(1), now=NOON + timedelta(hours=hour))
    url = path.as_uri()
    with Journal.open(path, readonly=True) as journal:
        cursor = f"{journal.id}-3"

    assert read(url, 4, keys, since="start") == [1, 2, 3, 4]
    assert read(url, 1, keys, since=cursor) == [4]
    assert read(url, 3, keys, since=NOON + timedelta(minutes=30)) == [2, 3, 4]
    assert read(url, 2, keys, since="2026-11-20T14:00Z") == [3, 4]
    assert all_of(url, keys, since="now") == []


def test_a_place_is_a_word_a_cursor_an_age_or_a_time() -> None:
    def now() -> datetime:
        return NOON

    assert parse("start", now) == "start"
    assert parse("0123abcd-17", now) == "0123abcd-17"
    assert parse("2h", now) == NOON - timedelta(hours=2)
    assert parse("2026-11-20T10:00Z", now) == datetime(2026, 11, 20, 10, tzinfo=UTC)
    # (Tests live in a zone 5:45 ahead of UTC.)
    assert parse("2026-11-20 15:45", now) == datetime(2026, 11, 20, 10, tzinfo=UTC)
    for text in ("", "yesterday", "0123abcd", "-2h", "2026-13-01"):
        with pytest.raises(UsageError, match="no place to begin"):
            parse(text, now)


def test_a_url_that_names_no_place_to_read_is_a_usage_error(keys: Path) -> None:
    with pytest.raises(UsageError, match="expected tcp"):
        read("http://example.org", 1, keys)


def test_a_journal_that_is_not_there_is_named(tmp_path: Path, keys: Path) -> None:
    with pytest.raises(NeedsOperator, match="no such journal"):
        read((tmp_path / "none.db").as_uri(), 1, keys)


def test_a_cursor_of_another_journal_is_refused_and_not_skipped(tmp_path: Path, keys: Path) -> None:
    url = write(tmp_path / "journal.db", Source().events(2))

    with pytest.raises(Refused, match="another journal"):
        read(url, 1, keys, since="00000000-1")


# -- every event once ------------------------------------------------------------------------------


def test_a_reader_of_some_tags_gets_those_alone(tmp_path: Path, keys: Path) -> None:
    source = Source()
    tags = [CLOSED, UPLOAD, REPORTED, UPLOAD, CLOSED]
    url = write(tmp_path / "j.db", [source.event(n, tag) for n, tag in enumerate(tags, 1)])

    assert all_of(url, keys, tags=["*.bug-*"]) == [1, 3, 5]
    assert all_of(url, keys, tags=[UPLOAD]) == [2, 4]
    assert all_of(url, keys, tags=["*"]) == [1, 2, 3, 4, 5]


@pytest.mark.fault(60)
def test_an_event_counts_as_handled_when_the_next_is_asked_for(tmp_path: Path, keys: Path) -> None:
    url = write(tmp_path / "j.db", Source().events(5))
    cursor = tmp_path / "cursor"

    # The third was taken in hand, and whoever did so came to grief.
    assert read(url, 3, keys, cursor_file=cursor) == [1, 2, 3]
    assert read(url, 3, keys, cursor_file=cursor) == [3, 4, 5]


def test_a_reader_that_says_so_has_handled_the_last_one(tmp_path: Path, keys: Path) -> None:
    url = write(tmp_path / "j.db", Source().events(5))
    cursor = tmp_path / "cursor"

    with open_events(url, keys=keys, since="start", cursor_file=cursor) as events:
        next(events)
        next(events)
        events.handled()

    assert all_of(url, keys, cursor_file=cursor) == [3, 4, 5]


def test_a_reader_that_began_now_goes_on_from_there(tmp_path: Path, keys: Path) -> None:
    source = Source()
    path, cursor = tmp_path / "j.db", tmp_path / "cursor"
    url = write(path, source.events(2))
    assert all_of(url, keys, since="now", cursor_file=cursor) == []

    write(path, source.events(2))

    assert all_of(url, keys, since="now", cursor_file=cursor) == [3, 4]


def test_a_cursor_file_of_other_tags_is_refused(tmp_path: Path, keys: Path) -> None:
    url = write(tmp_path / "j.db", Source().events(2))
    cursor = tmp_path / "cursor"
    assert all_of(url, keys, cursor_file=cursor) == [1, 2]

    with pytest.raises(NeedsOperator, match="cursor file of its own"):
        all_of(url, keys, tags=[UPLOAD], cursor_file=cursor)


@pytest.mark.parametrize("text", ["", "{}", '{"version":2}', "\x00", "[1]", "ä"])
def test_a_file_that_is_no_cursor_file_is_refused_and_kept(
    tmp_path: Path, keys: Path, text: str
) -> None:
    url = write(tmp_path / "j.db", Source().events(2))
    cursor = tmp_path / "cursor"
    cursor.write_text(text)

    with pytest.raises(NeedsOperator, match="cursor"):
        all_of(url, keys, cursor_file=cursor)
    assert cursor.read_text() == text


@pytest.mark.parametrize("piece", [b"{", b"\x00" * 300, b"{}\n[1]\n", b"\xff\n"])
def test_of_a_cursor_file_the_last_whole_line_counts(
    tmp_path: Path, keys: Path, piece: bytes
) -> None:
    """A crash came in the middle of a line, or a power cut left what was there before."""
    url = write(tmp_path / "j.db", Source().events(3))
    cursor = tmp_path / "cursor"
    assert read(url, 3, keys, cursor_file=cursor) == [1, 2, 3]
    # (How far it is, and the signed event that proves it to a relay.)
    assert cursor.read_bytes().count(b"\n") == 2
    with cursor.open("ab") as file:
        file.write(piece)

    assert all_of(url, keys, cursor_file=cursor) == [3]
    assert [path.name for path in tmp_path.glob("*cursor*")] == ["cursor"]


@pytest.mark.fault(60)
def test_a_reader_that_is_killed_has_remembered_what_it_handled(tmp_path: Path, keys: Path) -> None:
    url = write(tmp_path / "j.db", Source().events(5))
    cursor = tmp_path / "cursor"
    killed = """
import os, signal, sys
from mailbridge import listen
for event in listen(sys.argv[1], keys=sys.argv[2], cursor_file=sys.argv[3], since="start"):
    if event.data["number"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", killed, url, keys, cursor], check=False)

    assert all_of(url, keys, cursor_file=cursor) == [4, 5]


def test_a_new_cursor_file_is_on_the_disk_with_its_name(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut takes it, and who began "now" misses what came in between."""
    url = write(tmp_path / "j.db", Source().events(1))
    (tmp_path / "there").mkdir()
    synced = set()
    really = os.fsync

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        really(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    assert all_of(url, keys, since="now", cursor_file=tmp_path / "there" / "cursor") == []

    assert (tmp_path / "there").stat().st_ino in synced


def test_a_cursor_that_cannot_be_stored_ends_the_reading(tmp_path: Path, keys: Path) -> None:
    url = write(tmp_path / "j.db", Source().events(2))

    with pytest.raises(StorageFailed, match="cannot be written"):
        all_of(url, keys, cursor_file=tmp_path / "missing" / "cursor")


def test_on_another_journal_a_reader_goes_on_from_its_feed_positions(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A relay was set up anew, and the source sent it all it has."""
    events = Source().events(5)
    cursor = tmp_path / "cursor"
    assert all_of(write(tmp_path / "a.db", events[:3]), keys, cursor_file=cursor) == [1, 2, 3]

    assert all_of(write(tmp_path / "b.db", events), keys, cursor_file=cursor) == [4, 5]
    assert "going on from what is known of its feeds" in caplog.text


@pytest.mark.parametrize("wanted", [(), (CLOSED,)])
def test_a_restored_relay_that_was_filled_in_another_order_hides_nothing(
    tmp_path: Path, keys: Path, wanted: tuple[str, ...]
) -> None:
    """What it puts behind the reader's cursor `read` does not give any more."""
    one, two = Source(), Source("mailbridge.other.example.org")
    first, again = one.event(1), one.event(2)
    others = [two.event(11), two.event(12), two.event(13, UPLOAD), two.event(14)]
    path, cursor = tmp_path / "j.db", tmp_path / "cursor"
    url = write(path, [first])
    backup = path.read_bytes()
    write(path, [again, others[0]])
    assert all_of(url, keys, tags=wanted, cursor_file=cursor) == [1, 2, 11]

    path.write_bytes(backup)
    write(path, [others[0], others[1], again])
    write(path, others[2:])

    rest = [12, 14] if wanted else [12, 13, 14]
    with open_events(url, keys=keys, tags=wanted, cursor_file=cursor, follow=False) as events:
        assert next(events).data["number"] == 12
    # (It was not handled: nothing counts as read that was not given and asked beyond.)
    assert all_of(url, keys, tags=wanted, cursor_file=cursor) == rest
    assert all_of(url, keys, tags=wanted, cursor_file=cursor) == []


def test_what_is_behind_the_cursor_is_found_when_it_is_quiet(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_of, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(events_of, "WAIT", 0.05)
    one, two = Source(), Source("mailbridge.other.example.org")
    first, again = one.event(1), one.event(2)
    others = [two.event(11), two.event(12)]
    path, cursor = tmp_path / "j.db", tmp_path / "cursor"
    url = write(path, [first])
    backup = path.read_bytes()
    write(path, [again, others[0]])
    assert len(all_of(url, keys, cursor_file=cursor)) == 3

    path.write_bytes(backup)
    write(path, [*others, again])

    assert read(url, 1, keys, cursor_file=cursor) == [12]


def test_where_pruning_took_what_was_not_read_yet_the_first_missing_number_is_named(
    tmp_path: Path, keys: Path
) -> None:
    source, path, cursor = Source(), tmp_path / "j.db", tmp_path / "cursor"
    url = write(path, source.events(2))
    assert all_of(url, keys, cursor_file=cursor) == [1, 2]
    write(path, source.events(3))
    write(path, source.events(2), now=NOON + timedelta(days=400))
    with Journal.open(path) as journal:
        journal.prune(NOON + timedelta(days=365))

    with pytest.raises(BadProof, match=r"number 3 is missing.*pruned"):
        all_of(url, keys, cursor_file=cursor)


def test_a_pruned_journal_is_read_from_where_it_begins(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, path = Source(), tmp_path / "j.db"
    url = write(path, source.events(3))
    write(path, source.events(2), now=NOON + timedelta(days=400))
    with Journal.open(path) as journal:
        journal.prune(NOON + timedelta(days=365))

    assert all_of(url, keys) == [4, 5]
    assert "begins at number 4 here" in caplog.text


# -- proof -----------------------------------------------------------------------------------------


def test_a_hidden_double_is_no_hole(tmp_path: Path, keys: Path) -> None:
    """Two bridges see the same mail: readers get one event, and both feeds stay whole."""
    one, two = Source(), Source("mailbridge.other.example.org")
    events = [
        one.event(1),
        two.event(101, uuid_of=1),
        two.event(102, uuid_of=2),
        one.event(2),
        one.event(3, UPLOAD),
        two.event(103, UPLOAD),
        one.event(4),
    ]
    url = write(tmp_path / "j.db", events)

    assert all_of(url, keys) == [1, 102, 3, 103, 4]
    assert all_of(url, keys, tags=["*.bug-*"]) == [1, 102, 4]
    assert all_of(url, keys, tags=[UPLOAD]) == [3, 103]


tags = st.sampled_from([CLOSED, REPORTED, UPLOAD])


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), tags, st.integers(1, 30)), min_size=1, max_size=25),
    st.sampled_from([(), ("*.bug-*",), (UPLOAD,), (CLOSED, UPLOAD)]),
    st.integers(0, 24),
)
def test_whatever_two_sources_say_a_reader_gets_all_that_is_shown_and_can_prove_it(
    tmp_path_factory: pytest.TempPathFactory,
    said: list[tuple[bool, str, int]],
    wanted: tuple[str, ...],
    broken_off: int,
) -> None:
    place = tmp_path_factory.mktemp("said")
    sources = Source(), Source("mailbridge.other.example.org")
    for source in sources:
        keyring.write_public(place / f"{source.key.entity}.key", source.key.verify_key)
    # (Within one feed an outbox never says the same twice.)
    events = [
        sources[which].event(number, tag, uuid_of=about)
        for number, (which, tag, about) in enumerate(dict.fromkeys(said))
    ]
    url = write(place / "j.db", events)
    with Journal.open(place / "j.db", readonly=True) as journal:
        shown = [raw for _, raw in journal.read(0, wanted)]
    expected = [event.data["number"] for event in events if event.raw in shown]

    got = read(url, min(broken_off, len(expected)), place, tags=wanted, cursor_file=place / "c")
    # (The last one was not handled; with none read, nothing is remembered.)
    rest = expected[max(len(got) - 1, 0) :]
    assert got == expected[: len(got)]
    assert all_of(url, place, tags=wanted, cursor_file=place / "c") == rest


# -- relays ----------------------------------------------------------------------------------------


def test_a_relay_gives_what_was_emitted_verified(relay: RelayForTests) -> None:
    relay.emit(CLOSED, {"bug": 900001})

    event = next(relay.listen(since="start"))

    assert isinstance(event, VerifiedEvent)
    assert (event.tag, event.data) == (CLOSED, {"bug": 900001})


def test_what_comes_while_a_reader_waits_is_given_at_once(relay: RelayForTests) -> None:
    relay.emit(CLOSED, {"bug": 1})
    events = relay.listen(since="start")
    next(events)

    threading.Timer(0.1, lambda: relay.emit(CLOSED, {"bug": 2})).start()

    assert next(events).data == {"bug": 2}


def test_an_event_of_lighthouses_own_clients_needs_no_feed(
    relay: RelayForTests,
) -> None:
    relay.emit("org.example.job-done", {"job": 1}, feed=False)

    assert next(relay.listen(since="start")).feed is None


def test_a_relay_that_comes_back_is_read_on_and_its_absence_is_one_line(
    relay: RelayForTests, caplog: pytest.LogCaptureFixture
) -> None:
    relay.emit(CLOSED, {"bug": 1})
    events = relay.listen(since="start")
    next(events)

    def restart() -> None:
        relay.stop()
        relay.start()
        relay.emit(CLOSED, {"bug": 2})

    with caplog.at_level(logging.WARNING, "mailbridge.reader.patience"):
        restarting = threading.Thread(target=restart)
        restarting.start()
        assert next(events).data == {"bug": 2}
        restarting.join()

    lines = [r.getMessage() for r in caplog.records if r.name == "mailbridge.reader.patience"]
    assert len(lines) <= 2  # it went, it came
    assert all(relay.url in line for line in lines)


def test_a_relay_that_is_never_there_is_tried_until_time_is_up(tmp_path: Path) -> None:
    events = listen("tcp://127.0.0.1:9", state=tmp_path, timeout=0.3)

    with pytest.raises(TryAgain):
        next(events)


def test_a_reader_that_waits_can_be_stopped_from_elsewhere(relay: RelayForTests) -> None:
    relay.emit(CLOSED, {"bug": 1})
    with open_events(relay.url, state=relay.state, since="start") as events:
        next(events)
        threading.Timer(0.1, events.stop).start()

        assert next(events, None) is None
        assert next(events, None) is None


def test_a_journal_is_followed_while_its_relay_writes_it(relay: RelayForTests) -> None:
    relay.emit(CLOSED, {"bug": 1})
    url = (relay.state / "journal.db").as_uri()
    events = listen(url, state=relay.state, since="start", timeout=20)
    next(events)

    threading.Timer(0.1, lambda: relay.emit(CLOSED, {"bug": 2})).start()

    assert next(events).data == {"bug": 2}


def test_the_asynchronous_twin_gives_the_same(relay: RelayForTests) -> None:
    sent = [relay.emit(CLOSED, {"bug": bug}) for bug in range(3)]

    async def first_three() -> list[str]:
        got = []
        events = alisten(relay.url, state=relay.state, since="start")
        async for event in events:
            got.append(event.uuid)
            if len(got) == 3:
                break
        await events.aclose()  # type: ignore[attr-defined]  # an async generator
        return got

    assert asyncio.run(first_three()) == [event.uuid for event in sent]


@pytest.mark.parametrize("through_a_file", [False, True])
def test_cancelling_the_asynchronous_twin_ends_it_while_it_waits(
    relay: RelayForTests, *, through_a_file: bool
) -> None:
    url = relay.url
    if through_a_file:
        url = (relay.state / "journal.db").as_uri()

    async def wait_in_vain() -> None:
        async for _ in alisten(url, state=relay.state):
            raise AssertionError("nothing was emitted")

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_in_vain(), 0.2)

    before = threading.active_count()
    asyncio.run(cancelled())
    assert threading.active_count() == before


@pytest.mark.parametrize("killed", [False, True])
def test_a_reader_that_was_started_again_proves_to_a_restored_relay_what_it_lost(
    relay: RelayForTests, tmp_path: Path, *, killed: bool
) -> None:
    """Its word alone stops nothing: the signed events that it holds are in its cursor file."""
    relay.emit(CLOSED, {"bug": 1})
    relay.stop()
    backup = (relay.state / "journal.db").read_bytes()
    relay.start()
    sent = [relay.emit(CLOSED, {"bug": bug}) for bug in (2, 3)]
    reading: dict[str, Any] = {"state": relay.state, "cursor_file": tmp_path / "cursor"}
    events = open_events(relay.url, since="start", timeout=20, **reading)
    assert [next(events).data["bug"] for _ in range(3)] == [1, 2, 3]
    events.handled()
    if killed:
        there = (tmp_path / "cursor").read_bytes()
        events.close()
        (tmp_path / "cursor").write_bytes(there + b'{"feed":"torn')
    else:
        events.close()
    relay.stop()
    (relay.state / "journal.db").write_bytes(backup)
    relay.start()

    assert next(relay.listen(since="start")).data == {"bug": 1}
    with pytest.raises(BadProof, match="is not served"):
        next(listen(relay.url, timeout=20, **reading))
    with pytest.raises(BadProof, match="is not served"):
        next(relay.listen(since="start"))

    relay.send(*sent)
    assert [event.data["bug"] for event in islice(relay.listen(since="start"), 3)] == [1, 2, 3]


def test_a_reader_from_the_start_that_was_started_again_still_misses_nothing_of_new_feeds(
    tmp_path: Path, keys: Path
) -> None:
    """A feed of which it was shown nothing yet, and then its third event, is followed back."""
    one, two = Source(), Source("mailbridge.other.example.org")
    path, cursor = tmp_path / "j.db", tmp_path / "cursor"
    assert all_of(write(path, one.events(2)), keys, cursor_file=cursor) == [1, 2]
    url = write(path, [two.event(number) for number in (101, 102, 103)])
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE event SET pos = pos - 10 WHERE pos IN (3, 4)")
        db.commit()

    assert all_of(url, keys, cursor_file=cursor) == [101, 102, 103]


def test_a_feed_that_a_relay_shows_nothing_of_is_fetched_when_it_is_quiet(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_of, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(events_of, "WAIT", 0.05)
    one, two = Source(), Source("mailbridge.other.example.org")
    path = tmp_path / "j.db"
    url = write(path, [*one.events(2), two.event(101), two.event(102)])
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE event SET visible = 0 WHERE pos > 2")
        db.commit()

    assert read(url, 4, keys) == [1, 2, 101, 102]


# -- whose key -------------------------------------------------------------------------------------


def said_yes(asked: list[Introduction]) -> Any:
    def confirm(met: Introduction) -> bool:
        asked.append(met)
        return True

    return confirm


def test_without_a_key_nothing_is_shown_and_one_line_says_what_to_do(
    relay: RelayForTests, tmp_path: Path
) -> None:
    relay.emit(CLOSED, {})
    events = relay.listen(since="start", state=tmp_path / "stranger")

    with pytest.raises(UnknownOrigin) as caught:
        next(events)

    assert relay.fingerprint in str(caught.value)
    assert "--pin" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_vouches_for_the_relay_and_so_for_its_sources(
    relay: RelayForTests, tmp_path: Path
) -> None:
    relay.emit(CLOSED, {"bug": 1})
    stranger: dict[str, Any] = {"since": "start", "state": tmp_path / "stranger"}

    events = relay.listen(pin=relay.fingerprint, **stranger)
    assert next(events).data == {"bug": 1}
    with pytest.raises(NotPermitted, match="somebody in between"):
        next(relay.listen(pin="SHA256:other", **stranger))
    assert not (tmp_path / "stranger").exists()


def test_the_fingerprint_of_a_source_vouches_for_that_source_alone(tmp_path: Path) -> None:
    with RelayForTests(tmp_path / "relay", ["mailbridge.a", "mailbridge.b"]) as relay:
        relay.emit(CLOSED, {"bug": 1})
        relay.emit(CLOSED, {"bug": 2}, entity="mailbridge.b")
        pin = relay.sources["mailbridge.a"].key.verify_key.fingerprint
        events = relay.listen(since="start", state=tmp_path / "stranger", pin=pin)

        assert next(events).data == {"bug": 1}
        with pytest.raises(UnknownOrigin, match=r"mailbridge\.b"):
            next(events)


def test_a_relay_is_met_once_and_known_from_then_on(relay: RelayForTests, tmp_path: Path) -> None:
    relay.emit(CLOSED, {"bug": 1})
    asked: list[Introduction] = []

    for _ in range(2):
        with open_events(
            relay.url, state=tmp_path, since="start", confirm=said_yes(asked)
        ) as events:
            assert next(events).data == {"bug": 1}

    assert [met.relay.fingerprint for met in asked] == [relay.fingerprint]


def test_a_person_who_says_no_sees_nothing(relay: RelayForTests, tmp_path: Path) -> None:
    relay.emit(CLOSED, {})

    with (
        open_events(relay.url, state=tmp_path, since="start", confirm=lambda _: False) as events,
        pytest.raises(UnknownOrigin),
    ):
        next(events)
    assert not (tmp_path / "known_relays").exists()


def known(relay: RelayForTests, path: Path, *sources: str) -> None:
    key = keyring.load(relay.state, "relay")
    assert key
    keys = {entity: relay.sources[entity].key.verify_key for entity in sources}
    KnownRelays(path).add(Introduction(relay.url, key.verify_key, keys))


def test_a_new_source_of_a_relay_that_is_known_needs_no_question(tmp_path: Path) -> None:
    with RelayForTests(tmp_path / "relay", ["mailbridge.a", "mailbridge.b"]) as relay:
        known(relay, tmp_path / "known_relays", "mailbridge.a")
        relay.emit(CLOSED, {"bug": 1}, entity="mailbridge.b")

        assert next(relay.listen(since="start", state=tmp_path)).data == {"bug": 1}

    assert "mailbridge.b" in (tmp_path / "known_relays").read_text()


def test_a_relay_with_another_key_than_before_is_not_believed(tmp_path: Path) -> None:
    with RelayForTests(tmp_path / "relay", ["mailbridge.a"]) as relay:
        other = SigningKey.generate("relay.example.org").verify_key
        KnownRelays(tmp_path / "known_relays").add(Introduction(relay.url, other, {}))
        relay.emit(CLOSED, {})

        with pytest.raises(NotPermitted, match="another key than before"):
            next(relay.listen(since="start", state=tmp_path))


def test_a_source_with_another_key_than_before_is_not_believed(tmp_path: Path) -> None:
    with RelayForTests(tmp_path / "relay", ["mailbridge.a", "mailbridge.b"]) as relay:
        path = tmp_path / "known_relays"
        known(relay, path)
        key = keyring.load(relay.state, "relay")
        assert key
        wrong = SigningKey.generate("mailbridge.a").verify_key
        KnownRelays(path).add(Introduction(relay.url, key.verify_key, {"mailbridge.a": wrong}))
        relay.emit(CLOSED, {}, entity="mailbridge.b")

        with pytest.raises(NotPermitted, match=r"another key than before for mailbridge\.a"):
            next(relay.listen(since="start", state=tmp_path))


def test_with_a_directory_of_keys_those_count_and_no_others(
    relay: RelayForTests, tmp_path: Path
) -> None:
    relay.emit(CLOSED, {})
    own, _ = keyring.state_dirs(relay.state)
    (tmp_path / "empty").mkdir()

    assert next(relay.listen(since="start", keys=own)).tag == CLOSED
    with pytest.raises(UnknownOrigin, match="key trust"):
        next(relay.listen(since="start", keys=tmp_path / "empty"))
    with pytest.raises(NotPermitted, match="no such directory"):
        next(relay.listen(since="start", keys=tmp_path / "missing"))


def test_unverified_events_pass_only_where_that_is_wanted_and_are_of_another_type(
    relay: RelayForTests, tmp_path: Path
) -> None:
    relay.emit(CLOSED, {"bug": 1})

    with open_events(relay.url, state=tmp_path, since="start", unverified=True) as events:
        event = next(events)

    assert event.data == {"bug": 1}
    assert not isinstance(event, VerifiedEvent)
