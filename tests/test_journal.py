"""What the journal keeps, hides and refuses."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.errors import NeedsOperator, RelayGone, StorageFailed, TryAgain
from mailbridge.event import SignedEvent, parse_json
from mailbridge.feed import Fit, Hole, fit, read_head
from mailbridge.journal import Journal
from mailbridge.journal.file import MOST_LOG
from tests.conftest import NOON
from tests.feeds import TAG, Source

UPLOAD = "_lk.mailbridge.package-upload-accepted"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as journal:
        yield journal


@pytest.fixture
def source() -> Source:
    return Source()


def put(journal: Journal, *events: SignedEvent, now: datetime = NOON) -> list[bool]:
    with journal.batch(now) as batch:
        return [batch.append(event, event.raw) for event in events]


def bytes_of(rows: list[tuple[int, bytes]]) -> list[bytes]:
    return [raw for _, raw in rows]


def test_what_was_put_in_comes_out_in_order_byte_for_byte(journal: Journal, source: Source) -> None:
    events = source.events(5)

    put(journal, *events)

    assert bytes_of(journal.read(0)) == [event.raw for event in events]
    assert [pos for pos, _ in journal.read(3)] == [4, 5]


def test_readers_see_only_the_first_event_of_a_tag_and_uuid(
    journal: Journal, source: Source
) -> None:
    first, again, other_tag = source.event(1), source.event(2, uuid_of=1), source.event(3, UPLOAD)

    seen = put(journal, first, again, other_tag)

    assert seen == [True, False, True]
    assert bytes_of(journal.read(0)) == [first.raw, other_tag.raw]


def test_a_uuid_is_known_however_it_is_written_and_whenever_it_came(
    journal: Journal, source: Source
) -> None:
    event = source.event(1)
    shouted = source.signed(2, uuid=event.uuid.upper())

    put(journal, event)

    assert put(journal, shouted) == [False]
    assert journal.has([event.uuid.upper(), "7a9d2c86-4b53-5e0f-9a41-000000000000"]) == [
        event.uuid.upper()
    ]


def test_every_link_of_a_feed_is_kept_also_those_that_readers_do_not_see(
    journal: Journal, source: Source
) -> None:
    events = [source.event(1), source.event(2, uuid_of=1), source.event(3)]
    put(journal, *events)

    links, more, holes = journal.links(source.head.feed, 0, 10, 1 << 20)

    assert [(link.seq, link.raw) for link in links] == [
        (event.feed.seq, event.raw) for event in events if event.feed
    ]
    assert [(link.shown, link.twin) for link in links] == [
        (True, None),
        (False, events[0].raw),
        (True, None),
    ]
    assert not more
    assert not holes
    assert journal.hash_at(source.head.feed, 2) == events[1].hash


def test_a_reopened_journal_goes_on_where_it_was(tmp_path: Path, source: Source) -> None:
    with Journal.open(tmp_path / "journal.db") as journal:
        put(journal, *source.events(3))
        name = journal.id

    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.id == name
        assert journal.heads()[source.head.feed].head == source.head
        put(journal, source.event(4))
        assert [pos for pos, _ in journal.read(0)] == [1, 2, 3, 4]


def test_a_batch_that_fails_leaves_nothing_behind(journal: Journal, source: Source) -> None:
    events = source.events(2)

    with pytest.raises(AttributeError):
        put(journal, *events, None)  # type: ignore[arg-type]  # fails in the middle of the batch

    assert journal.read(0) == []
    assert journal.feeds() == {}
    assert put(journal, *events) == [True, True]


def test_within_a_batch_later_events_see_earlier_ones(journal: Journal, source: Source) -> None:
    event = source.event(1)

    with journal.batch(NOON) as batch:
        batch.append(event, event.raw)

        assert batch.head(source.head.feed) == source.head
        assert batch.hash_at(source.head.feed, 1) == event.hash
        assert batch.first(event) == event.hash


@pytest.mark.parametrize(
    ("patterns", "numbers"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["*"], [1, 2, 3, 4, 5, 6]),
        (["_lk.mailbridge.*"], [1, 2, 4, 5]),
        (["*.bug-closed", "org.*"], [1, 3, 4, 6]),
        (["*.package-upload-accepted"], [2, 5]),
        (["*.Bug-closed"], []),
        (["*.bug-c[k-m]osed"], [1, 4]),
        (["*.bug-c[!k-m]osed"], []),
    ],
)
def test_patterns_choose_tags_as_file_names_are_chosen(
    journal: Journal, source: Source, patterns: list[str], numbers: list[int]
) -> None:
    tags = [TAG, UPLOAD, "org.example.bench"] * 2
    put(journal, *(source.event(number, tag) for number, tag in enumerate(tags, 1)))

    assert [pos for pos, _ in journal.read(0, patterns)] == numbers


def test_many_tags_are_read_as_well_as_few(journal: Journal, source: Source) -> None:
    put(journal, *(source.event(number, f"org.a{number % 100}.x") for number in range(1, 301)))
    put(journal, source.event(301, "com.example.y"))

    assert [pos for pos, _ in journal.read(0, ["org.*"])] == list(range(1, 301))


@given(
    tags=st.lists(st.sampled_from([TAG, UPLOAD, "org.example.x"]), max_size=30),
    limit=st.integers(1, 7),
    max_bytes=st.integers(0, 2000),
    patterns=st.sampled_from([[], ["_lk.*"], ["*.x", "*closed"]]),
)
def test_pages_of_any_size_put_together_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    tags: list[str],
    limit: int,
    max_bytes: int,
    patterns: list[str],
) -> None:
    source = Source()
    with Journal.open(tmp_path_factory.mktemp("state") / "journal.db") as journal:
        put(journal, *(source.event(number, tag) for number, tag in enumerate(tags, 1)))
        whole = journal.read(0, patterns, 100, 1 << 20)

        read: list[tuple[int, bytes]] = []
        more = True
        while more:
            page, more = journal.page(read[-1][0] if read else 0, patterns, limit, max_bytes)
            assert len(page) <= limit
            assert len(page) == 1 or sum(len(raw) for _, raw in page) <= max_bytes
            read += page

        assert read == whole


def test_a_time_finds_the_place_behind_which_everything_is_later(
    journal: Journal, source: Source
) -> None:
    for number in range(1, 6):
        put(journal, source.event(number), now=NOON + timedelta(minutes=number))

    assert journal.at(NOON) == 0
    assert journal.at(NOON + timedelta(minutes=3)) == 2
    assert journal.at(NOON + timedelta(minutes=3, seconds=1)) == 3
    assert journal.at(NOON + timedelta(days=1)) == 5


def test_a_clock_that_is_set_back_disorders_nothing(journal: Journal, source: Source) -> None:
    put(journal, source.event(1), now=NOON)
    put(journal, source.event(2), now=NOON - timedelta(hours=1))

    assert journal.at(NOON) == 0
    assert journal.at(NOON + timedelta(seconds=1)) == 2


def test_what_is_pruned_is_told_never_skipped_and_never_comes_in_again(
    journal: Journal, source: Source
) -> None:
    events = source.events(4)
    put(journal, *events[:2], now=NOON)
    put(journal, *events[2:], now=NOON + timedelta(days=1))

    assert journal.prune(NOON + timedelta(hours=1)) == 2
    assert journal.prune(NOON + timedelta(hours=1)) == 0

    assert journal.horizon() == 2
    assert bytes_of(journal.read(2)) == [event.raw for event in events[2:]]
    with pytest.raises(RelayGone, match="pruned"):
        journal.read(1)
    with pytest.raises(RelayGone, match="pruned"):
        journal.links(source.head.feed, 0, 10, 1 << 20)
    assert journal.hash_at(source.head.feed, 1) == events[0].hash
    assert journal.has([events[0].uuid]) == [events[0].uuid]


def test_the_room_of_what_was_pruned_is_taken_by_what_comes(tmp_path: Path, source: Source) -> None:
    """A year's events come and go, ten times over."""
    path = tmp_path / "journal.db"
    sizes = []
    with Journal.open(path) as journal:
        for month in range(10):
            now = NOON + timedelta(days=30 * month)
            put_bulky(journal, source, 40, now=now)
            while journal.prune(now - timedelta(days=45)):
                pass
            sizes.append(path.stat().st_size)

    assert max(sizes[4:]) < 1.2 * sizes[3]


@pytest.mark.parametrize("first_version", [False, True])
def test_the_room_of_what_was_pruned_is_given_back(
    tmp_path: Path, source: Source, *, first_version: bool
) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        put_bulky(journal, source, 40)
    if first_version:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA auto_vacuum=NONE")
            db.execute("VACUUM")
    with Journal.open(path) as journal:
        journal.prune(NOON + timedelta(days=1))

        given_back = journal.give_back()

        assert given_back > 40 * BULK * 0.9
        assert path.stat().st_size < 200_000
        assert journal.hash_at(source.head.feed, 40) == source.head.hash
        put(journal, source.event(41))
        assert len(journal.read(40)) == 1


def test_a_reader_that_takes_its_time_does_not_leave_a_large_log(
    tmp_path: Path, source: Source
) -> None:
    path = tmp_path / "journal.db"
    log = path.with_name("journal.db-wal")
    with Journal.open(path) as journal:
        put(journal, source.event(0))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as slow:
            slow.execute("BEGIN")
            slow.execute("SELECT count(*) FROM event").fetchall()
            put_bulky(journal, source, 700)
            grown = log.stat().st_size
        for _ in range(3):
            put_bulky(journal, source, 1)

        assert grown > MOST_LOG
        assert log.stat().st_size <= MOST_LOG


BULK = 64 * 1024


def put_bulky(journal: Journal, source: Source, count: int, *, now: datetime = NOON) -> None:
    """Put events whose stored bytes need much room."""
    for event in source.events(count):
        with journal.batch(now) as batch:
            batch.append(event, event.raw + b" " * BULK)


def test_the_uuids_of_a_source_come_in_pages_over_all_its_feeds(journal: Journal) -> None:
    old, new = Source(), Source(epoch="20261121T120000Z")
    other = Source("mailbridge.lists.example.org-2")
    events = [*old.events(3), *new.events(2)]
    events[3:] = [new.signed(10, feed=new.head.link(TAG))]
    put(journal, *old.events(0), *events, *other.events(1))

    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page, after = journal.uuids("mailbridge.lists.example.org", after, 2)
        found += page

    assert found == [event.uuid for event in events]


def test_only_the_newest_head_of_a_feed_is_kept(journal: Journal, source: Source) -> None:
    early, late = source.signed_head(minute(1)), source.signed_head(minute(2))
    source.event(1)
    further = source.signed_head(minute(0))

    kept = []
    for raw in (early, late, early, further, late):
        with journal.batch(NOON) as batch:
            batch.note(read_head(parse_json(raw)), raw)
        kept.append(journal.feeds()[source.head.feed].note)

    assert kept == [early, late, late, further, further]


def test_evidence_of_a_fork_is_kept_once_and_never_served(journal: Journal, source: Source) -> None:
    event, other = source.event(1), source.signed(2)

    with journal.batch(NOON) as batch:
        batch.append(event, event.raw)
        for _ in range(2):
            batch.fork(source.head.feed, 1, other.hash, other.raw)

    assert journal.forks(source.head.feed) == [(1, other.raw)]
    assert bytes_of(journal.read(0)) == [event.raw]


# -- what is missing -------------------------------------------------------------------------------


def hole_before(journal: Journal, event: SignedEvent) -> Hole:
    """What is missing between the head of its feed here and *event*."""
    assert event.feed
    assert event.feed.prev
    state = journal.feeds().get(event.feed.id)
    first = state.head.seq + 1 if state else 1
    last = event.feed.seq - 1
    return Hole(feed=event.feed.id, first=first, last=last, hash=event.feed.prev)


def put_behind_hole(journal: Journal, event: SignedEvent, note: bytes = b"{}") -> None:
    with journal.batch(NOON) as batch:
        batch.skip(hole_before(journal, event), note)
        assert fit(batch.head(str(event.feed and event.feed.id)), event) is Fit.NEXT
        batch.append(event, event.raw)


def test_a_feed_goes_on_behind_a_hole_and_tells_of_it(journal: Journal, source: Source) -> None:
    events = [source.event(number, UPLOAD if number == 4 else TAG) for number in range(1, 8)]
    put(journal, events[0])

    put_behind_hole(journal, events[4], b'{"hole":1}')
    put(journal, *events[5:])

    links, more, holes = journal.links(source.head.feed, 0, 10, 1 << 20)
    assert [link.seq for link in links] == [1, 5, 6, 7]
    assert [(hole.first, hole.last, hole.note) for hole in holes] == [(2, 4, b'{"hole":1}')]
    assert not more
    assert journal.feeds()[source.head.feed].head.hash == source.head.hash
    assert journal.hash_at(source.head.feed, 3) is None


@pytest.mark.parametrize("reopened", [False, True])
def test_what_comes_late_fills_its_hole_from_the_front(
    tmp_path: Path, source: Source, *, reopened: bool
) -> None:
    events = [source.event(number, UPLOAD if number == 4 else TAG) for number in range(1, 8)]
    feed = source.head.feed
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal.open(tmp_path / "journal.db"))
        put(journal, events[0])
        put_behind_hole(journal, events[4])
        put(journal, *events[5:])
        for event in events[1:4]:
            if reopened:
                journal.close()
                journal = stack.enter_context(Journal.open(tmp_path / "journal.db"))
            with journal.batch(NOON) as batch:
                hole = batch.hole(feed)
                assert hole
                assert event.feed
                assert (hole.first, hole.last, hole.hash) == (event.feed.seq, 4, events[3].hash)
                batch.fill(event, event.feed, event.raw)

        assert journal.feeds()[feed].head == source.head
        assert journal.links(feed, 0, 10, 1 << 20).holes == []
        assert [link.seq for link in journal.links(feed, 0, 10, 1 << 20).links] == [*range(1, 8)]
        # (Who reads by cursor gets them behind what was there: late, and not never.)
        order = [1, 5, 6, 7, 2, 3, 4]
        assert bytes_of(journal.read(0)) == [events[seq - 1].raw for seq in order]


def test_a_batch_that_fails_leaves_no_hole_behind(journal: Journal, source: Source) -> None:
    events = source.events(3)

    def skip_and_fail() -> None:
        with journal.batch(NOON) as batch:
            batch.skip(hole_before(journal, events[2]), b"{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        skip_and_fail()

    assert journal.holes(source.head.feed) == []
    assert put(journal, *events) == [True] * 3


def test_what_is_remembered_is_told_by_its_kind(journal: Journal) -> None:
    for value in ("1", "2"):
        with journal.batch(NOON) as batch:
            batch.remember("peer", "tcp://a:1", value)
            batch.remember("upstream", "tcp://b:1", value)

    assert journal.remembered("peer") == {"tcp://a:1": "2"}
    assert journal.remembered("published") == {}


def test_a_journal_of_an_older_program_is_brought_up_to_date(
    tmp_path: Path, source: Source
) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        put(journal, *source.events(2))
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE hole")
        db.execute("ALTER TABLE event DROP COLUMN sum")
        db.execute("PRAGMA user_version = 1")

    with pytest.raises(TryAgain, match="older than this program"):
        Journal.open(path, readonly=True)
    with Journal.open(path) as journal:
        put(journal, source.event(3))
        assert journal.holes(source.head.feed) == []
    with Journal.open(path, readonly=True) as reader:
        assert len(reader.read(0)) == 3


# -- opening ---------------------------------------------------------------------------------------


def test_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db"):
        pass

    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600


def test_a_second_writer_is_refused_and_a_reader_sees_what_is_written(
    tmp_path: Path, journal: Journal, source: Source
) -> None:
    with pytest.raises(TryAgain, match="another relay runs on this state"):
        Journal.open(tmp_path / "journal.db")
    with Journal.open(tmp_path / "journal.db", readonly=True) as reader:
        event = source.event(1)
        put(journal, event)

        assert bytes_of(reader.read(0)) == [event.raw]
        assert reader.feeds()[source.head.feed].head == source.head


def test_a_journal_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")

    with pytest.raises(NeedsOperator, match=r"newer mailbridge \(schema 99") as refused:
        Journal.open(path)
    assert refused.value.exit_status == 78


@pytest.mark.parametrize("readonly", [False, True])
def test_another_database_is_no_journal(tmp_path: Path, *, readonly: bool) -> None:
    path = tmp_path / "outbox.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE event (x)")

    with pytest.raises(NeedsOperator, match="is no journal"):
        Journal.open(path, readonly=readonly)


@pytest.mark.parametrize("damage", ["head", "inner", "rest"])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, source: Source, damage: str) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        put(journal, *source.events(200))
    raw = bytearray(path.read_bytes())
    begin, length = {"head": (0, 100), "inner": (4096, 8192), "rest": (20480, len(raw))}[damage]
    raw[begin : begin + length] = b"\xff" * len(raw[begin : begin + length])
    path.write_bytes(raw)

    with pytest.raises(NeedsOperator, match=r"journal\.db: damaged \(.*\); restore") as refused:
        Journal.open(path)

    assert "\n" not in str(refused.value)
    assert refused.value.exit_status == 78


def test_a_missing_journal_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="unable to open"):
        Journal.open(tmp_path / "journal.db", readonly=True)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_fails_the_batch_and_loses_nothing_of_before(
    tmp_path: Path, source: Source
) -> None:
    path = tmp_path / "journal.db"
    before, after = source.events(2), source.events(200)
    with Journal.open(path) as journal:
        put(journal, *before)
        with no_file_beyond(200_000), pytest.raises(StorageFailed) as failed:
            put(journal, *after)

        assert failed.value.exit_status == 74
        assert len(journal.read(0)) == 2

    with Journal.open(path) as journal:
        assert all(put(journal, *after))
        assert len(journal.read(0)) == 202


@contextlib.contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The disk takes no byte beyond *size* of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def minute(number: int) -> str:
    return (NOON + timedelta(minutes=number)).isoformat()
