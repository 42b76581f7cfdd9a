"""While the disk works on events the relay reads what comes next, and forgets none of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mailbridge import config
from mailbridge.errors import StorageFailed
from mailbridge.event import SignedEvent, read_event
from mailbridge.journal import Journal, Meanwhile
from mailbridge.journal.file import File
from mailbridge.relay import JOURNAL, Relay
from mailbridge.wire import sockets
from tests.conftest import NOON
from tests.feeds import Source
from tests.test_journal import no_file_beyond
from tests.test_relay import Client

PATIENCE: Final = 30.0
"""Seconds after which a test gives up: no assertion of speed."""
AHEAD: Final = 64
"""What is read ahead at most."""
_run: Final = File.run
_commit: Final = File.commit


class Disk:
    """Holds a commit up until so much that came meanwhile was read, and somebody lets it go on."""

    def __init__(self) -> None:
        self.works = threading.Event()
        """A commit has begun."""
        self.has_read = threading.Event()
        self.is_done = threading.Event()
        self.is_done.set()
        self.wanted = 0

    def hold(self, *, until_read: int) -> None:
        """Take your time with the next commit: until so much was read while it lasts."""
        self.wanted = until_read
        self.is_done.clear()

    def commit(self, relay: Relay, file: File, meanwhile: Meanwhile | None) -> None:
        """Do in the relay's thread what it does, and look for news as long as they are wanted."""
        if meanwhile is None or self.is_done.is_set():
            return _commit(file, meanwhile)

        def insist(is_over: Callable[[], bool]) -> None:
            self.works.set()
            meanwhile(is_over)
            while len(relay._ahead) < self.wanted:
                assert relay._submit.poll(int(1000 * PATIENCE))
                meanwhile(is_over)
            self.has_read.set()

        return _commit(file, insist)

    def run(self, file: File, sql: str, values: tuple[object, ...] = ()) -> Any:
        if sql == "COMMIT":
            assert self.is_done.wait(PATIENCE)
        return _run(file, sql, values)


@pytest.fixture
def disk(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()

    def commit(file: File, meanwhile: Meanwhile | None = None) -> None:
        disk.commit(relay, file, meanwhile)

    def run(file: File, *words: Any) -> Any:
        return disk.run(file, *words)

    monkeypatch.setattr(File, "run", run)
    monkeypatch.setattr(File, "commit", commit)
    yield disk
    disk.is_done.set()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def relay(tmp_path: Path, source: Source) -> Iterator[Relay]:
    free = "tcp://127.0.0.1:0"
    bound = config.Relay(submit=free, publish=free, read=free)
    relay = Relay(tmp_path, bound, own={source.key.entity: source.key.verify_key}, now=lambda: NOON)
    with relay:
        yield relay


@pytest.fixture
def client(relay: Relay) -> Iterator[Client]:
    with sockets.make_context() as context:
        client = Client(relay.endpoints, context)
        yield client
        client.close()


def hashes(state: Path) -> list[str]:
    with Journal.open(state / JOURNAL, readonly=True) as journal:
        return [read_event(raw).hash for _, raw in journal.read(0)]


def put(journal: Journal, events: list[SignedEvent], meanwhile: Meanwhile | None = None) -> None:
    with journal.batch(NOON, meanwhile=meanwhile) as batch:
        for event in events:
            assert batch.append(event, event.raw)


def begin(disk: Disk, client: Client, raws: list[bytes], word: bytes = b"ack") -> None:
    """Have the relay write the first of *raws*, and read the others meanwhile, as many it may."""
    disk.hold(until_read=min(len(raws) - 1, AHEAD))
    client.send(raws[0], word)
    assert disk.works.wait(PATIENCE)
    for raw in raws[1:]:
        client.send(raw, word)
    assert disk.has_read.wait(PATIENCE)


def test_what_comes_while_the_disk_works_is_read_by_then_and_stored_in_order(
    disk: Disk, client: Client, source: Source, tmp_path: Path
) -> None:
    events = source.events(9)
    begin(disk, client, [event.raw for event in events])
    disk.is_done.set()

    answers = [client.answer() for _ in events]

    assert [answer["status"] for answer in answers] == ["stored"] * 9
    assert [answer["seq"] for answer in answers] == list(range(1, 10))
    assert hashes(tmp_path) == [event.hash for event in events]


def test_nothing_is_answered_for_before_it_is_on_the_disk(
    disk: Disk, client: Client, source: Source
) -> None:
    events = source.events(3)
    begin(disk, client, [event.raw for event in events])

    assert not client.submitter.poll(0)
    disk.is_done.set()
    assert [client.answer()["seq"] for _ in events] == [1, 2, 3]


def test_a_disk_that_takes_its_time_does_not_make_it_read_without_end(
    disk: Disk, client: Client, relay: Relay, source: Source
) -> None:
    events = source.events(AHEAD + 40)
    begin(disk, client, [event.raw for event in events])

    assert len(relay._ahead) == AHEAD
    disk.is_done.set()
    assert [client.answer()["status"] for _ in events] == ["stored"] * len(events)


@pytest.mark.parametrize("word", [b"ack", b""], ids=["acknowledged", "fire-and-forget"])
def test_told_to_stop_it_stores_what_it_has_read(
    disk: Disk, client: Client, relay: Relay, tmp_path: Path, word: bytes
) -> None:
    events = Source().events(5)
    begin(disk, client, [event.raw for event in events], word)
    stopping = threading.Thread(target=relay.stop)
    stopping.start()
    disk.is_done.set()
    stopping.join(PATIENCE)

    assert not stopping.is_alive()
    assert hashes(tmp_path) == [event.hash for event in events]


def test_a_duplicate_of_what_is_being_written_is_told_as_one(
    disk: Disk, client: Client, source: Source
) -> None:
    event = source.event(1)
    begin(disk, client, [event.raw, event.raw])
    disk.is_done.set()

    assert [client.answer()["status"] for _ in range(2)] == ["stored", "duplicate"]


def test_a_commit_that_fails_is_no_ones_success_whatever_was_read_meanwhile(
    tmp_path: Path, source: Source
) -> None:
    before, after = source.events(2), source.events(200)
    asked: list[bool] = []

    def meanwhile(is_over: Callable[[], bool]) -> None:
        asked.append(is_over())

    with Journal.open(tmp_path / "journal.db") as journal:
        put(journal, before, meanwhile)
        with no_file_beyond(200_000), pytest.raises(StorageFailed):
            put(journal, after, meanwhile)
        assert [pos for pos, _ in journal.read(0)] == [1, 2]
        put(journal, after, meanwhile)
        assert len(journal.read(0)) == 202

    assert len(asked) == 3


def test_a_bug_met_while_the_disk_works_leaves_what_it_writes_whole(
    tmp_path: Path, source: Source
) -> None:
    events = source.events(3)

    def stumble(_: Callable[[], bool]) -> None:
        raise RuntimeError("a bug")

    with Journal.open(tmp_path / "journal.db") as journal:
        with pytest.raises(RuntimeError, match="a bug"):
            put(journal, events[:1], stumble)
        # (It may be on the disk by then; whoever asks is told what is there.)
        assert journal.newest() == len(journal.read(0))
        put(journal, events[journal.newest() :])
        assert len(journal.read(0)) == 3
