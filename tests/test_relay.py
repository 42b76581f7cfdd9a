"""The relay, asked through real sockets: what it takes, answers, publishes and gives to read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket as unix
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailbridge import config, keyring
from mailbridge.errors import ConfigError, StorageFailed, TryAgain
from mailbridge.event import SignedEvent, canonical, parse_json, read_event
from mailbridge.failpoint import VARIABLE
from mailbridge.journal import Journal
from mailbridge.relay import JOURNAL, Endpoints, Relay
from mailbridge.relay.publish import Publisher
from mailbridge.relay.read import WAITING_EACH
from mailbridge.signing import KEY_ID, sign_fields, sign_note, verify
from mailbridge.wire import sockets
from tests.conftest import NOON
from tests.feeds import TAG, Source
from tests.test_journal import no_file_beyond

GUARD: Final = 30_000
"""Milliseconds after which a test gives up: no assertion of speed."""

UPLOAD: Final = "_lk.mailbridge.package-upload-accepted"
FEED: Final = Source().head.feed
MENTORS: Final = "org.example.mentors.uploaded"


class Client:
    """A source, a reader and a subscriber of one relay."""

    def __init__(self, endpoints: Endpoints, context: sockets.Context) -> None:
        self.submitter: Final = sockets.submitter(context, endpoints.submit)
        self.asker: Final = sockets.asker(context, endpoints.read)
        self.subscriber: Final = sockets.subscriber(context, endpoints.publish)
        self._asked = 0

    def send(self, *frames: bytes) -> None:
        self.submitter.send_multipart(frames)

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(received(self.submitter)[0])
        return answer

    def submit(self, *events: SignedEvent) -> list[dict[str, Any]]:
        """Send *events* at once and return their answers."""
        for event in events:
            self.send(event.raw, b"ack")
        return [self.answer() for _ in events]

    def statuses(self, *events: SignedEvent) -> list[str]:
        return [answer["status"] for answer in self.submit(*events)]

    def head(self, raw: bytes) -> dict[str, Any]:
        self.send(raw, b"head")
        return self.answer()

    def ask(self, op: str = "read", *proofs: bytes, **words: Any) -> dict[str, Any]:
        """Ask a reader's question and return the header, with the frames under `events`."""
        self.wait_for(op, *proofs, **words)
        return self.told()

    def wait_for(self, op: str = "read", *proofs: bytes, **words: Any) -> None:
        self._asked += 1
        request = json.dumps({"id": self._asked, "op": op, **words}).encode()
        self.asker.send_multipart([request, *proofs])

    def told(self) -> dict[str, Any]:
        header, *events = received(self.asker)
        return {**json.loads(header), "events": events}

    def subscribed(self, source: Source, **changed: Any) -> None:
        """Wait until what is published arrives here: a subscription takes its time."""
        number = 10_000
        while True:
            number += 1
            self.submit(source.signed(number, "org.example.probe", **changed))
            if self.subscriber.poll(20):
                break
        marker = source.signed(number + 1, "org.example.marker", **changed)
        self.submit(marker)
        while received(self.subscriber)[0] != b"org.example.marker":
            pass

    def published(self, until: str) -> list[list[bytes]]:
        """Return what is published before the tag *until*."""
        messages = []
        while (message := received(self.subscriber))[0] != until.encode():
            messages.append(message)
        return messages

    def close(self) -> None:
        for socket in (self.submitter, self.asker, self.subscriber):
            socket.close()


def received(socket: sockets.Socket) -> list[bytes]:
    assert socket.poll(GUARD), "nothing came"
    return socket.recv_multipart()


@pytest.fixture
def context() -> Iterator[sockets.Context]:
    with sockets.make_context() as context:
        yield context


@pytest.fixture
def source() -> Source:
    """The embedded bridge: its key may emit anything but uploads in Laniakea's name."""
    return Source()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


Start = Callable[..., tuple[Relay, Client]]


@pytest.fixture
def start(state: Path, source: Source, context: sockets.Context) -> Iterator[Start]:
    """Start a relay on the state, with a client; all are stopped in the end."""
    started: list[tuple[Relay, Client]] = []

    def start(now: Callable[[], datetime] = lambda: NOON, **changed: str) -> tuple[Relay, Client]:
        free = "tcp://127.0.0.1:0"
        bound = config.Relay(submit=free, publish=free, read=free)
        bound = msgspec.structs.replace(bound, **changed)
        relay = Relay(state, bound, own={source.key.entity: source.key.verify_key}, now=now)
        relay.start()
        client = Client(relay.endpoints, context)
        started.append((relay, client))
        return relay, client

    yield start
    for relay, client in started:
        client.close()
        relay.stop()


@pytest.fixture
def client(start: Start) -> Client:
    return start()[1]


def trust(state: Path, source: Source, *tags: str) -> None:
    """What `mailbridge key trust FILE --tags …` does."""
    keyring.write_public(
        state / "keys" / "trusted" / f"{source.key.entity}.key", source.key.verify_key
    )
    if tags:
        keyring.allow(state / "policy.toml", source.key.entity, tags)


# -- submit ----------------------------------------------------------------------------------------


@pytest.mark.fault(58)
def test_events_of_a_feed_are_stored_once_and_answered_with_their_hash(
    client: Client, source: Source
) -> None:
    events = source.events(3)

    answers = client.submit(*events)
    again = client.submit(*events)

    assert [answer["status"] for answer in answers] == ["stored"] * 3
    assert [answer["status"] for answer in again] == ["duplicate"] * 3
    for event, answer in zip(events * 2, answers + again, strict=True):
        assert event.feed
        assert answer["uuid"] == event.uuid
        assert answer["hash"] == event.hash
        assert (answer["feed"], answer["seq"]) == (event.feed.id, event.feed.seq)
        assert answer["want"] is None
    assert len(client.ask()["events"]) == 3


def test_of_many_that_come_at_once_a_forged_one_is_refused_and_those_before_it_are_kept(
    client: Client, source: Source
) -> None:
    events = source.events(40)
    changed = canonical({**json.loads(events[25].raw), "data": {"number": -1}})
    raws = [changed if event is events[25] else event.raw for event in events]

    for raw in raws:
        client.send(raw, b"ack")
    answers = [client.answer() for _ in raws]

    statuses = [answer["status"] for answer in answers]
    assert statuses == ["stored"] * 25 + ["refused"] + ["gap"] * 14
    assert client.statuses(*events) == ["duplicate"] * 25 + ["stored"] * 15
    stored = [read_event(raw) for raw in client.ask()["events"]]
    assert [event.hash for event in stored] == [event.hash for event in events]
    # What the relay signed ahead is signed as well as any other.
    assert all(len(event.signatures) == 2 for event in stored)


def test_who_asks_for_it_gets_the_events_of_an_answer_in_one_frame(
    client: Client, source: Source
) -> None:
    events = source.events(3)
    client.submit(*events)

    plain = client.ask()
    packed = client.ask(packed=True)
    client.wait_for(packed=True, after=packed["cursors"][-1], wait=20)
    later = source.event(4)
    client.submit(later)

    assert packed["events"] == [b"".join(plain["events"])]
    assert packed["sizes"] == [len(raw) for raw in plain["events"]]
    assert packed["cursors"] == plain["cursors"]
    told = client.told()
    assert told["sizes"] == [len(raw) for raw in told["events"]]
    assert "sizes" not in client.ask(packed=True, after=told["cursors"][-1])


@pytest.mark.fault(58)
def test_a_number_too_far_ahead_is_told_what_is_wanted(client: Client, source: Source) -> None:
    events = source.events(5)

    unknown = client.submit(events[2])[0]
    client.submit(events[0])
    known = client.submit(events[4], events[3])

    assert (unknown["status"], unknown["want"]) == ("gap", 1)
    assert [(answer["status"], answer["want"]) for answer in known] == [("gap", 2)] * 2
    assert client.statuses(*events) == ["duplicate"] + ["stored"] * 4


@pytest.mark.fault(63)
def test_a_fork_is_refused_for_good_and_its_evidence_kept(
    start: Start, state: Path, source: Source
) -> None:
    relay, client = start()
    one, two = source.events(2)
    other_one = source.signed(7, feed=msgspec.structs.replace(link(one), prev=None))
    other_next = source.signed(
        8, feed=msgspec.structs.replace(source.head.link(TAG), prev=one.hash)
    )
    counted_wrong = source.signed(9, feed=msgspec.structs.replace(source.head.link(TAG), tag_seq=9))
    client.submit(one, two)

    answers = client.submit(other_one, other_next, counted_wrong)

    assert [answer["status"] for answer in answers] == ["refused"] * 3
    assert all(answer["reason"].startswith("fork: ") for answer in answers)
    assert client.statuses(source.event(3)) == ["stored"]
    relay.stop()
    with Journal.open(state / JOURNAL) as journal:
        assert journal.forks(source.head.feed) == [
            (1, other_one.raw),
            *sorted([(3, other_next.raw), (3, counted_wrong.raw)], key=by_hash),
        ]


def by_hash(row: tuple[int, bytes]) -> str:
    return read_event(row[1]).hash


def link(event: SignedEvent) -> Any:
    return event.feed


def test_a_later_epoch_begins_with_the_head_of_the_one_before(
    client: Client, source: Source
) -> None:
    client.submit(*source.events(2))
    later = Source(epoch="20261121T120000Z")
    later.head = msgspec.structs.replace(later.head, hash=source.head.hash)

    assert client.statuses(*(later.event(number) for number in (3, 4))) == ["stored"] * 2


def test_the_same_news_in_two_feeds_is_one_event_for_readers(
    client: Client, source: Source
) -> None:
    said_before = source.event(1)
    client.submit(said_before)
    later = Source(epoch="20261121T120000Z")

    assert client.statuses(later.event(1), later.event(2)) == ["stored"] * 2
    assert len(client.ask()["events"]) == 2
    told = client.ask("feed", feed=later.head.feed)
    assert (told["seqs"], told["shown"], told["twins"]) == ([1, 2], [2], [1])
    assert read_event(told["events"][2]).feed == link(said_before)


def test_a_key_nobody_trusts_is_held_and_taken_soon_after_it_is_trusted(
    start: Start, state: Path
) -> None:
    _, client = start()
    stranger = Source("debexpo.example.org")
    event = stranger.event(1, MENTORS)
    answer = client.submit(event)[0]
    assert (answer["status"], answer["hash"]) == ("held", event.hash)
    assert "key trust" in answer["reason"]

    trust(state, stranger)

    until(lambda: client.statuses(event)[0], "stored")


def test_a_key_that_is_trusted_no_more_is_held(start: Start, state: Path) -> None:
    stranger = Source("debexpo.example.org")
    trust(state, stranger)
    _, client = start()
    client.submit(stranger.event(1, MENTORS))

    (state / "keys" / "trusted" / "debexpo.example.org.key").unlink()

    def status() -> str:
        return client.statuses(stranger.event(2, MENTORS))[0]

    until(status, "held")


def test_a_policy_that_changes_counts_soon(start: Start, state: Path) -> None:
    """(How soon, the keyring's own tests tell, by a clock of theirs.)"""
    stranger = Source("debexpo.example.org")
    trust(state, stranger, "org.example.other.*")
    _, client = start()
    event = stranger.event(1, MENTORS)
    assert client.statuses(event) == ["held"]

    policy = state / "policy.toml"
    policy.write_text(f'"{stranger.key.entity}" = ["{MENTORS}"]\n')
    until(lambda: client.statuses(event)[0], "stored")

    policy.write_text(f'"{stranger.key.entity}" = []\n')
    until(lambda: client.statuses(stranger.event(2, MENTORS))[0], "held")


def until(look: Callable[[], str], wanted: str) -> None:
    """Wait until *look* gives what is *wanted*."""
    end = time.monotonic() + GUARD / 1000
    while look() != wanted:
        assert time.monotonic() < end


@pytest.mark.parametrize(
    ("lines", "tag", "status"),
    [
        ((), MENTORS, "stored"),
        ((), UPLOAD, "held"),
        ((), "_lk.mailbridge-test.bug-closed", "held"),
        ((MENTORS,), UPLOAD, "held"),
        (("_lk.mailbridge.*",), UPLOAD, "stored"),
        (("_lk.mailbridge.*",), MENTORS, "held"),
    ],
)
def test_a_key_emits_only_what_it_was_given(
    start: Start, state: Path, lines: tuple[str, ...], tag: str, status: str
) -> None:
    stranger = Source("debexpo.example.org")
    trust(state, stranger, *lines)
    _, client = start()

    assert client.statuses(stranger.event(1, tag)) == [status]


@pytest.mark.fault(58)
def test_a_feed_is_written_by_its_own_entity_alone(
    start: Start, state: Path, source: Source
) -> None:
    thief = Source("debexpo.example.org")
    trust(state, thief, "*")
    _, client = start()
    stolen = thief.signed(1, feed=source.head.link(TAG))

    assert client.statuses(stolen) == ["held"]


@pytest.mark.fault(58)
def test_what_only_the_relay_signed_comes_from_nobody(start: Start, state: Path) -> None:
    relay, client = start()
    secret = keyring.load(state, "relay")
    assert secret
    keyring.write_public(state / "keys" / "trusted" / "relay.key", secret.verify_key)
    captured, _ = sign_fields(
        {**parse_json(Source().signed(1, MENTORS).raw), "signatures": {}}, secret
    )

    client.send(captured, b"ack")

    assert client.answer()["status"] == "held"
    assert relay.counts["held"] == 1


@pytest.mark.fault(58)
def test_a_changed_byte_is_refused_for_good(client: Client, source: Source) -> None:
    event = source.event(1)

    client.send(event.raw.replace(b'"number":1', b'"number":2'), b"ack")

    answer = client.answer()
    assert answer["status"] == "refused"
    assert "signature" in answer["reason"]
    assert client.statuses(event) == ["stored"]


@pytest.mark.fault(56)
def test_an_event_beyond_256_kib_is_refused(client: Client, source: Source) -> None:
    large = source.signed(1, data={"text": "x" * 256 * 1024}, feed=source.head.link(TAG))

    answer = client.submit(large)[0]

    assert answer["status"] == "refused"
    assert "more than" in answer["reason"]


# -- Lighthouse's own clients ----------------------------------------------------------------------


def test_a_lighthouse_client_is_taken_as_it_is(client: Client, source: Source) -> None:
    client.subscribed(source)
    plain = source.signed(1, "_lk.spears.new-excuse", time="2026-11-20T14:00:00.123")

    client.send(plain.raw)
    client.submit(source.signed(2, "org.example.end"))

    assert not client.submitter.poll(0), "who does not ask gets no answer"
    [[tag, raw]] = client.published("org.example.end")
    assert tag == b"_lk.spears.new-excuse"
    assert json.loads(raw)["uuid"] == plain.uuid


def test_an_event_without_feed_that_comes_again_is_published_once(
    client: Client, source: Source
) -> None:
    client.subscribed(source)
    plain = source.signed(1)

    assert client.statuses(plain, plain) == ["stored", "duplicate"]
    client.send(plain.raw)
    client.submit(source.signed(2, "org.example.end"))

    assert len(client.published("org.example.end")) == 1


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"time": "2026-11-17T12:00:00+00:00"}, "older"),
        ({"time": "2026-11-23T12:00:00"}, "older"),
        ({"time": "yesterday"}, "ISO 8601"),
        ({"data": {"number": 2}, "uuid_of": 99}, "is here"),
    ],
)
def test_an_event_without_feed_must_be_young_and_its_uuid_its_own(
    client: Client, source: Source, changed: dict[str, Any], word: str
) -> None:
    client.submit(source.signed(99))

    answer = client.submit(source.signed(1, **changed))[0]

    assert answer["status"] == "refused"
    assert word in answer["reason"]


# -- publish ---------------------------------------------------------------------------------------


def test_subscribers_get_tag_and_json_with_both_signatures(start: Start, source: Source) -> None:
    relay, client = start()
    client.subscribed(source)
    event = source.event(1, UPLOAD)

    client.submit(event, source.event(2, "org.example.end"))

    [[tag, raw]] = client.published("org.example.end")
    assert tag == UPLOAD.encode()
    published = read_event(raw)
    assert published.preimage == event.preimage
    assert set(published.signatures) == {source.key.entity, relay.key.entity}
    verify(published, {source.key.entity: source.key.verify_key})
    relay.key.check(published.preimage, published.signatures[relay.key.entity][KEY_ID])


def test_what_is_published_is_what_readers_get_byte_for_byte(
    client: Client, source: Source
) -> None:
    client.subscribed(source)
    before = client.ask(limit=2000)["cursors"][-1]

    client.submit(source.event(1), source.event(2, uuid_of=1), source.event(3))
    client.submit(source.event(4, "org.example.end"))

    published = [raw for _, raw in client.published("org.example.end")]
    assert published == client.ask(after=before)["events"][:-1]
    assert len(published) == 2


# -- read ------------------------------------------------------------------------------------------


def test_reading_goes_on_behind_the_cursor(client: Client, source: Source) -> None:
    events = source.events(5)
    client.submit(*events)

    first = client.ask(limit=3)
    second = client.ask(after=first["cursors"][-1])

    assert [len(first["events"]), first["more"]] == [3, True]
    assert [len(second["events"]), second["more"]] == [2, False]
    assert second["cursors"][-1] == second["head"] == first["head"]
    assert [read_event(raw).hash for raw in first["events"] + second["events"]] == [
        event.hash for event in events
    ]
    assert client.ask(after=first["head"])["events"] == []


def test_a_reader_waits_for_what_is_not_there_yet(client: Client, source: Source) -> None:
    client.submit(source.event(1))
    head = client.ask()["head"]

    client.wait_for(after=head, wait=30, tags=["*.package-*"])
    client.submit(source.event(2), source.event(3, UPLOAD), source.event(4))

    answer = client.told()
    assert [read_event(raw).tag for raw in answer["events"]] == [UPLOAD]


def test_a_reader_who_waited_in_vain_is_told_so(client: Client) -> None:
    answer = client.ask(wait=0.05)

    assert answer["events"] == answer["cursors"] == []
    assert answer["more"] is False


def test_many_readers_wait_and_each_is_served(
    start: Start, source: Source, context: sockets.Context
) -> None:
    relay, client = start()
    readers = [Client(relay.endpoints, context) for _ in range(50)]
    for reader in readers:
        # The first answer tells that the second question is on its way to a relay that lives.
        reader.ask("keys")
        reader.wait_for(wait=30)

    client.submit(source.event(1))

    assert [len(reader.told()["events"]) for reader in readers] == [1] * 50
    for reader in readers:
        reader.close()


def test_one_peer_does_not_make_a_relay_remember_more_than_a_few_questions(
    client: Client, source: Source
) -> None:
    for _ in range(WAITING_EACH + 1):
        client.wait_for(wait=30)

    busy = client.told()
    client.submit(source.event(1))

    assert (busy["error"], busy["id"]) == ("busy", WAITING_EACH + 1)
    assert [len(client.told()["events"]) for _ in range(WAITING_EACH)] == [1] * WAITING_EACH


def test_a_pattern_that_no_tag_could_fit_is_not_even_prepared(
    client: Client, source: Source
) -> None:
    client.submit(source.event(1))

    refused = client.ask(tags=["x" * 201])

    assert (refused["error"], refused["events"]) == ("bad-request", [])
    assert client.ask(tags=["_lk.*"])["events"]


def test_an_answer_is_at_most_1_mib(client: Client, source: Source) -> None:
    big = [
        source.signed(number, f"org.example.big{number}", data={"text": "x" * 200_000})
        for number in range(1, 31)
    ]
    client.submit(*big)

    answer = client.ask(limit=1000)

    assert sum(map(len, answer["events"])) < 1024 * 1024
    assert len(answer["events"]) > 3
    assert answer["more"] is True


def test_cursors_of_another_journal_or_from_before_pruning_are_refused(
    start: Start, source: Source
) -> None:
    clock = [NOON]
    relay, client = start(now=lambda: clock[0], keep="1d")
    events = source.events(3)
    client.submit(*events)
    cursors = client.ask()["cursors"]
    relay.stop()
    client.close()
    clock[0] = NOON + timedelta(days=2)
    _, client = start(now=lambda: clock[0], keep="1d")
    client.submit(source.event(4))

    def pruned() -> str:
        return str(client.ask(after=cursors[0]).get("error"))

    until(pruned, "pruned")

    journal = cursors[0].partition("-")[0]
    errors = [
        client.ask(after=after).get("error")
        for after in (f"{journal}-3", f"{journal}-5", "00000000-1", "nonsense", f"{journal}-1e9", 7)
    ]
    assert errors == [
        None,
        "wrong-journal",
        "wrong-journal",
        "bad-request",
        "bad-request",
        "bad-request",
    ]
    assert len(client.ask()["events"]) == 1
    # (What was pruned is known all the same.)
    assert client.statuses(*events) == ["duplicate"] * 3


def test_the_other_questions(start: Start, source: Source) -> None:
    clock = [NOON]
    relay, client = start(now=lambda: clock[0])
    events = source.events(2)
    client.submit(events[0])
    clock[0] = NOON + timedelta(minutes=1)
    client.submit(events[1])
    head = source.signed_head()
    client.head(head)

    at = client.ask("at", time=(NOON + timedelta(seconds=1)).isoformat())
    has = client.ask("has", uuids=[events[0].uuid, "00000000-0000-0000-0000-000000000000"])
    keys = client.ask("keys")
    feeds = client.ask("feeds")["feeds"]
    feed = client.ask("feed", feed=source.head.feed, after=1)

    assert client.ask(after=at["cursor"])["events"] == feed["events"]
    assert feed["seqs"] == [2]
    assert has["uuids"] == [events[0].uuid]
    assert keys["relay"] == {relay.key.entity: relay.key.base64}
    assert keys["sources"] == {source.key.entity: source.key.verify_key.base64}
    assert feeds[source.head.feed] == {
        "seq": 2,
        "hash": events[1].hash,
        "tags": {TAG: 2},
        "head": json.loads(head),
    }


# -- heads, questions of a source ------------------------------------------------------------------


def test_a_head_is_answered_with_all_feeds_of_its_entity(client: Client, source: Source) -> None:
    fresh = client.head(source.signed_head())
    client.submit(*source.events(2))
    later = Source(epoch="20261121T120000Z")

    answer = client.head(later.signed_head())

    assert (fresh["status"], fresh["seq"], fresh["hash"]) == ("head", 0, None)
    assert (answer["feed"], answer["seq"], answer["hash"]) == (later.head.feed, 0, None)
    assert answer["feeds"][source.head.feed] == [2, source.head.hash]


def test_heads_never_go_to_readers_or_subscribers(client: Client, source: Source) -> None:
    client.subscribed(source)
    before = client.ask(limit=2000)["head"]

    client.head(source.signed_head())
    client.submit(source.event(1, "org.example.end"))

    assert client.published("org.example.end") == []
    assert len(client.ask(after=before)["events"]) == 1


def test_heads_of_strangers_and_forged_ones_are_not_kept(client: Client, source: Source) -> None:
    stranger = Source("debexpo.example.org")
    forged = source.signed_head().replace(b'"seq":0', b'"seq":9')
    foreign = sign_note({"head": msgspec.to_builtins(source.head)}, stranger.key)

    assert client.head(stranger.signed_head())["status"] == "held"
    assert client.head(forged)["status"] == "refused"
    assert client.head(foreign)["status"] == "refused"
    assert client.head(b"[]")["status"] == "refused"
    assert client.ask("feeds")["feeds"] == {}


def test_a_source_that_begins_a_new_epoch_learns_which_uuids_are_here(
    client: Client, source: Source
) -> None:
    events = source.events(3)
    client.submit(*events)

    found: list[str] = []
    after: int | None = 0
    while after is not None:
        asked = {"uuids": {"entity": source.key.entity, "after": after, "limit": 2}}
        client.send(json.dumps(asked).encode(), b"ask")
        answer = client.answer()
        found, after = found + answer["uuids"], answer["after"]

    assert found == [event.uuid for event in events]


# -- an old backup ---------------------------------------------------------------------------------


def restored(source: Source, count: int) -> tuple[SignedEvent, dict[str, Any]]:
    """What a reader holds of *source* that the relay lost: the signed event, and its words."""
    events = source.events(count)
    return events[-1], {"have": {source.head.feed: [events[-1].feed.seq, events[-1].hash]}}  # type: ignore[union-attr]  # of a feed


def test_a_feed_that_a_reader_contradicts_is_served_to_nobody(
    start: Start, source: Source, context: sockets.Context
) -> None:
    relay, client = start()
    client.submit(*source.events(2))
    other = Client(relay.endpoints, context)
    agreed = client.ask(have={source.head.feed: [2, source.head.hash], "x/y": [1, "z"]})
    fork = Source()
    fork.events(1)
    proof = fork.event(22)

    contradicted = client.ask("read", proof.raw, have={source.head.feed: [2, proof.hash]})

    assert len(agreed["events"]) == 2
    assert contradicted["error"] == "contradicted"
    assert contradicted["feeds"] == [source.head.feed]
    assert other.ask()["error"] == "contradicted"
    assert other.ask("feed", feed=source.head.feed)["error"] == "contradicted"
    assert other.ask("feeds")["feeds"][source.head.feed]["contradicted"] is True
    assert other.statuses(source.event(3)) == ["refused"]
    other.close()


def test_other_feeds_are_served_up_to_the_first_event_that_is_withheld(
    start: Start, state: Path, source: Source
) -> None:
    stranger = Source("debexpo.example.org")
    trust(state, stranger)
    _, client = start()
    client.submit(stranger.event(101, MENTORS), source.event(1), stranger.event(102, MENTORS))

    proof, words = restored(source, 1)
    client.ask("read", proof.raw, **words)

    first = client.ask()
    assert [len(first["events"]), first["more"]] == [1, True]
    assert client.ask(after=first["cursors"][0])["error"] == "contradicted"
    assert len(client.ask(tags=["org.example.*"])["events"]) == 2


def test_a_relay_behind_its_readers_serves_again_once_the_source_has_sent_the_rest(
    client: Client, source: Source
) -> None:
    events = source.events(3)
    client.submit(events[0])
    have = {source.head.feed: [3, events[2].hash]}

    behind = client.ask("read", events[2].raw, have=have)
    told = client.head(source.signed_head())
    client.submit(*events[1:])

    assert behind["error"] == "contradicted"
    assert told["claimed"] == [3, events[2].hash]
    assert len(client.ask(have=have)["events"]) == 3


@pytest.mark.fault(113)
def test_a_restored_source_is_stopped_where_its_readers_know_better(
    client: Client, source: Source
) -> None:
    """The whole state came back from an old snapshot, and the source numbers anew."""
    client.submit(source.event(1))
    old = Source()
    old.head = source.head
    proof, words = restored(source, 2)
    client.ask("read", proof.raw, **words)

    answers = client.submit(old.event(12), old.event(13))

    assert [answer["status"] for answer in answers] == ["stored", "refused"]
    assert client.ask()["error"] == "contradicted"


def test_nobody_silences_a_feed_without_the_signed_event(
    start: Start, source: Source, context: sockets.Context, caplog: pytest.LogCaptureFixture
) -> None:
    """Also on this host: whoever may ask could make a number up."""
    relay, client = start()
    events = source.events(2)
    other = Source("mailbridge.other.example.org").event(2)
    client.submit(events[0])
    honest = Client(relay.endpoints, context)
    feed = source.head.feed

    for proofs, held in (
        ((), "A" * 43),
        ((b"{}", events[1].raw), "A" * 43),
        ((events[0].raw, other.raw), events[1].hash),
        ((events[1].raw.replace(b'"number":2', b'"number":3'),), events[1].hash),
    ):
        assert client.ask("read", *proofs, have={feed: [2, held]})["error"] == "contradicted"
        assert len(honest.ask()["events"]) == 1

    # (He may say so as often as he likes, and fills no log with it.)
    assert caplog.text.count("without proof") == 1
    client.ask("read", b"", events[1].raw, have={feed: [2, events[1].hash]})
    assert honest.ask()["error"] == "contradicted"
    honest.close()


# -- strangers -------------------------------------------------------------------------------------

NONSENSE: Final = {
    "a bare number, which kills Lighthouse's receiver": b"5",
    "a question in vain": b'{"op":"nothing","id":[{}]}',
    "nothing": b"",
    "a word": b"null",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "doubled keys": b'{"tag":"a","tag":"b"}',
    "NaN": b'{"time":NaN}',
    "a number beyond all bounds": b'{"time":1e999}',
    "2^63": b'{"time":9223372036854775808}',
    "a lone surrogate": rb'{"id":"\ud800","op":"keys"}',
    "a lone surrogate among the signers": canonical(parse_json(Source().signed(1).raw)).replace(
        b'"mailbridge.lists.example.org":{"ed', b'"\\udc00":{"ed'
    ),
    "no UTF-8": b'{"tag":"\xff"}',
    "a mebibyte of brackets": b"{" * 1024 * 1024,
}


@pytest.mark.fault(58)
@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in NONSENSE.items()])
def test_nonsense_is_refused_counted_and_survived(
    start: Start, source: Source, body: bytes
) -> None:
    relay, client = start()

    for word in (b"ack", b"head", b"ask"):
        client.send(body, word)
        assert client.answer()["status"] == "refused"
    client.send(body)
    client.asker.send_multipart([body])
    assert client.told()["error"] == "bad-request"

    assert client.statuses(source.event(1)) == ["stored"]
    assert relay.counts == {"refused": 2, "stored": 1}


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    "changed",
    [
        {"feed": {"id": "no entity/x", "seq": 1, "prev": None, "tag_seq": 1}},
        {"feed": {"id": FEED, "seq": 0, "prev": None, "tag_seq": 1}},
        {"feed": {"id": FEED, "seq": -1, "prev": None, "tag_seq": 1}},
        {"feed": {"id": FEED, "seq": 1, "prev": 5, "tag_seq": 1}},
        {"feed": 5},
        {"data": []},
        {"uuid": "no"},
        {"format": "2.0"},
        {"signatures": {"a": {"ed25519:0": 5}}},
        {"signatures": []},
    ],
)
def test_what_is_signed_and_yet_no_event_is_refused(
    client: Client, source: Source, changed: dict[str, Any]
) -> None:
    fields = {**parse_json(source.signed(1).raw), **changed}
    raw = canonical(fields) if "signatures" in changed else sign_fields(fields, source.key)[0]

    client.send(raw, b"ack")

    assert client.answer()["status"] == "refused"


@pytest.mark.fault(58)
def test_a_signed_word_of_one_kind_is_not_taken_for_another(start: Start, source: Source) -> None:
    relay, client = start()
    event = source.event(1)
    head = source.signed_head()
    hole = {"feed": FEED, "first": 1, "last": 2, "hash": "x"}

    client.send(head, b"ack")
    assert client.answer()["status"] == "refused"
    for body in (event.raw, sign_note({"hole": hole}, source.key), sign_note({}, source.key)):
        assert client.head(body)["status"] == "refused"

    assert relay.counts == {"refused": 1}
    assert client.ask("feeds")["feeds"] == {}
    assert client.statuses(event) == ["stored"]


@pytest.mark.fault(58)
@pytest.mark.parametrize("feed", [True, False], ids=["of a feed", "of no feed"])
def test_a_captured_event_is_published_once_however_it_comes_again(
    start: Start, source: Source, *, feed: bool
) -> None:
    clock = [NOON]
    relay, client = start(now=lambda: clock[0], keep="1d")
    client.subscribed(source)
    event = source.event(1, UPLOAD) if feed else source.signed(1, UPLOAD)
    client.submit(event, source.signed(90, "org.example.end"))
    [[_, published]] = client.published("org.example.end")
    fields = parse_json(published)
    stranger = Source("debexpo.example.org").signed(1).signatures
    captured = [
        event.raw,
        published,
        canonical({**fields, "unsigned": {"seen": True}}),
        canonical({**fields, "signatures": {**fields["signatures"], **stranger}}),
        json.dumps(fields, indent=2).encode(),
    ]

    def again() -> list[str]:
        for raw in captured:
            client.send(raw, b"ack")
        return [client.answer()["status"] for _ in captured]

    assert again() == ["duplicate"] * 5
    client.submit(source.signed(91, "org.example.end"))
    assert client.published("org.example.end") == []
    relay.stop()
    client.close()
    clock[0] = NOON + timedelta(days=3)
    _, client = start(now=lambda: clock[0], keep="1d")
    until(lambda: str(len(client.ask()["events"])), "0")  # (All of it is pruned.)
    late = (clock[0] + timedelta(minutes=1)).isoformat()
    client.subscribed(Source(source.key.entity, "20261123T120000Z"), time=late)

    assert again() == ["duplicate"] * 5
    client.submit(source.signed(92, "org.example.end", time=late))
    assert client.published("org.example.end") == []


@pytest.mark.fault(58)
def test_a_message_of_any_number_of_frames_is_survived(client: Client, source: Source) -> None:
    client.send(b"")
    client.send(*[b"x"] * 100)
    client.send(source.event(1).raw, b"ack", *[b"x"] * 200)
    client.asker.send_multipart([b"{}"] * 300)

    assert client.answer()["status"] == "stored"
    assert client.told()["error"] == "bad-request"


@pytest.mark.fault(56)
def test_a_frame_beyond_1_mib_costs_its_sender_the_connection_and_nobody_else_anything(
    start: Start, source: Source, context: sockets.Context
) -> None:
    relay, client = start()
    glutton = Client(relay.endpoints, context)

    glutton.send(b"x" * (1024 * 1024 + 1), b"ack")

    assert client.statuses(source.event(1)) == ["stored"]
    assert glutton.statuses(source.event(2)) == ["stored"]
    assert relay.counts == {"stored": 2}
    glutton.close()


@pytest.mark.fault(58)
@given(
    frames=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"ack", b"head", b"ask"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(
                            [
                                "id",
                                "tag",
                                "uuid",
                                "op",
                                "have",
                                "after",
                                "head",
                                "uuids",
                                "feed",
                                "wait",
                            ]
                        ),
                        inner,
                        max_size=5,
                    )
                ),
                max_leaves=9,
            ).map(lambda value: json.dumps(value).encode()),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_stranger_sends_the_relay_lives_and_stores_nothing(
    client: Client, frames: list[bytes]
) -> None:
    client.send(*frames)
    client.asker.send_multipart(frames)

    for op, wanted in (("keys", "relay"), ("feeds", "feeds")):
        client.wait_for(op)
        while wanted not in (answer := client.told()):
            assert "error" in answer or "cursors" in answer or "relay" in answer
        assert answer.get("feeds", {}) == {}


# -- the service -----------------------------------------------------------------------------------


class Process:
    """`mailbridge relay` on ipc:// sockets in *state*, so that a restart is found again."""

    def __init__(self, state: Path, failpoint: str = "") -> None:
        self.endpoints: Final = Endpoints(
            *(f"ipc://{state}/{name}" for name in ("submit", "publish", "read"))
        )
        submit, publish, read = self.endpoints
        words = ["relay", "--state", str(state), "--submit", submit, "--publish", publish]
        environment = {**os.environ, VARIABLE: failpoint} if failpoint else None
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "mailbridge", *words, "--read", read],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stderr
        self.ready: Final = self._process.stderr.readline()

    def ended(self) -> int:
        return self._process.wait(GUARD / 1000)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self.ended()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def process(state: Path) -> Iterator[Callable[..., Process]]:
    """Run `mailbridge relay` as a process of its own; all are killed in the end."""
    started: list[Process] = []

    def run(failpoint: str = "") -> Process:
        started.append(Process(state, failpoint))
        return started[-1]

    yield run
    for relay in started:
        relay.close()


def test_the_command_says_where_it_listens_and_ends_on_sigterm(
    process: Callable[..., Process], state: Path, context: sockets.Context, source: Source
) -> None:
    trust(state, source, "*")
    relay = process()
    submit, publish, read = relay.endpoints
    words = relay.ready.split()
    client = Client(relay.endpoints, context)

    assert words[:4] == ["ready", f"submit={submit}", f"publish={publish}", f"read={read}"]
    assert words[4].removeprefix("key=") in client.ask("keys")["relay"]
    assert client.statuses(source.event(1)) == ["stored"]
    client.wait_for(after=client.ask()["head"], wait=30)
    assert relay.stop() == 0
    client.close()


@pytest.mark.fault(107)
def test_a_relay_that_does_its_rounds_says_so_to_systemd(
    process: Callable[..., Process], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(state.with_name("notify"))
    with contextlib.closing(unix.socket(unix.AF_UNIX, unix.SOCK_DGRAM)) as systemd:
        systemd.bind(address)
        systemd.settimeout(GUARD / 1000)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        relay = process()

        told = [systemd.recv(1000).partition(b"\n")[0] for _ in range(3)]
        stopped = relay.stop()

    assert told == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    assert stopped == 0


@pytest.mark.fault(107)
def test_a_relay_that_hangs_is_not_healthy(
    start: Start, state: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbridge.relay.STUCK_SECONDS", 0.2)
    monkeypatch.setattr("mailbridge.relay._PULSE_SECONDS", 0.01)
    relay, client = start()
    until(lambda: str(relay.healthy), "True")

    with contextlib.closing(sqlite3.connect(state / JOURNAL)) as db:
        # (What it waits for here could as well be a disk.)
        db.execute("BEGIN IMMEDIATE")
        client.send(source.event(1).raw, b"ack")
        until(lambda: str(relay.healthy), "False")

    until(lambda: str(relay.healthy), "True")
    assert client.answer()["status"] == "stored"


@pytest.mark.parametrize(
    "place", ["relay-received", "relay-stored", "relay-answered", "relay-published"]
)
def test_a_relay_killed_within_a_window_says_what_it_wants_and_gets_it(
    process: Callable[..., Process],
    state: Path,
    context: sockets.Context,
    source: Source,
    place: str,
) -> None:
    trust(state, source, "*")
    events = source.events(200)
    relay = process(f"{place}:3")
    client = Client(relay.endpoints, context)

    # One at a time at first, then many at once: it dies with some of them taken and some not.
    client.submit(events[0])
    client.submit(events[1])
    for event in events[2 : 2 + sockets.WINDOW]:
        client.send(event.raw, b"ack")
    assert relay.ended() == -signal.SIGKILL
    client.close()
    client = Client(process().endpoints, context)

    answer = client.submit(events[2 + sockets.WINDOW])[0]
    begin = answer["want"] if answer["status"] == "gap" else 2 + sockets.WINDOW + 1
    assert begin > 2, "what was acknowledged is there"
    statuses = client.statuses(*events[begin - 1 :])

    assert set(statuses) <= {"stored", "duplicate"}
    read = client.ask(limit=1000)
    assert [read_event(raw).hash for raw in read["events"]] == [event.hash for event in events]
    client.close()


def test_what_was_stored_and_not_published_is_published_after_a_restart(
    process: Callable[..., Process], state: Path, context: sockets.Context, source: Source
) -> None:
    trust(state, source, "*")
    relay = process("relay-stored:2")
    client = Client(relay.endpoints, context)
    client.submit(source.event(1))
    client.send(source.event(2, UPLOAD).raw, b"ack")
    assert relay.ended() == -signal.SIGKILL

    process()

    while (message := received(client.subscriber))[0] != UPLOAD.encode():
        pass
    assert read_event(message[1]).hash == source.head.hash
    client.close()


def test_after_a_crash_what_may_not_have_gone_out_goes_out_and_nothing_is_left_out(
    tmp_path: Path, context: sockets.Context, source: Source
) -> None:
    """How far it was goes to the disk with the next batch, to save an fsync."""
    out, heard = (sockets.make_socket(context, zmq.PAIR) for _ in range(2))
    out.bind("inproc://out")
    heard.connect("inproc://out")

    def published() -> list[int]:
        numbers = []
        while heard.poll(0):
            numbers.append(read_event(heard.recv_multipart()[1]).data["number"])
        return numbers

    with Journal.open(tmp_path / JOURNAL) as journal:
        publisher = Publisher(out, journal)
        for first in (1, 4, 7):
            events = [source.event(number) for number in range(first, first + 3)]
            with journal.batch(NOON) as batch:
                for event in events:
                    batch.append(event, event.raw)
                batch.published(publisher.position)
            if first < 7:
                publisher.publish([(event.tag.encode(), event.raw) for event in events])
        assert published() == [1, 2, 3, 4, 5, 6]
    # (Here it was killed.)
    with Journal.open(tmp_path / JOURNAL) as journal:
        publisher = Publisher(out, journal)
        assert publisher.is_behind
        publisher.publish_rest()
        assert published() == [7, 8, 9]
        assert not publisher.is_behind
    with Journal.open(tmp_path / JOURNAL) as journal:
        Publisher(out, journal).publish_rest()
        assert published() == [7, 8, 9]
    for one in (out, heard):
        one.close()


def test_a_full_disk_acknowledges_nothing_and_ends_the_relay(start: Start, source: Source) -> None:
    relay, client = start()
    client.submit(source.event(1))

    with no_file_beyond(200_000):
        for event in source.events(100):
            client.send(event.raw, b"ack")
        answered = 0
        while relay.failure is None and answered < 100:
            answered += bool(client.submitter.poll(50)) and len(client.answer()) > 0

    assert isinstance(relay.failure, StorageFailed)
    relay.stop()
    _, client = start()
    seqs = client.ask("feed", feed=source.head.feed, limit=1000)["seqs"]
    assert seqs == list(range(1, answered + 2))


def test_a_port_in_use_is_one_clear_line(start: Start, state: Path) -> None:
    relay, _ = start()
    other = Relay(state.with_name("other"), config.Relay(submit=relay.endpoints.submit))

    with pytest.raises(TryAgain, match=r"^submit: tcp://.* is in use"):
        other.start()
    with pytest.raises(TryAgain, match="another relay runs on this state"):
        Relay(state, config.Relay()).start()


@pytest.mark.parametrize("port", sorted(sockets.LIGHTHOUSE_PORTS))
def test_a_port_of_lighthouse_in_use_looks_like_one(context: sockets.Context, port: int) -> None:
    endpoint = f"tcp://127.0.0.1:{port}"
    with sockets.submit_server(context) as first, sockets.submit_server(context) as second:
        with contextlib.suppress(TryAgain):  # (Somebody else's is as good.)
            sockets.bind(first, endpoint, "submit")

        with pytest.raises(TryAgain, match=r"looks like a Lighthouse; use `bridge --lighthouse`"):
            sockets.bind(second, endpoint, "submit")


def test_an_ipc_socket_in_use_is_not_stolen(tmp_path: Path, context: sockets.Context) -> None:
    endpoint = f"ipc://{tmp_path}/socket"
    with sockets.submit_server(context) as first, sockets.submit_server(context) as second:
        sockets.bind(first, endpoint, "submit")

        with pytest.raises(TryAgain, match="in use"):
            sockets.bind(second, endpoint, "submit")


@pytest.mark.parametrize(
    "endpoint",
    [
        "localhost:5581",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "tcp://192.0.2.1:0",
        "ipc:///no/such/directory/socket",
        "http://127.0.0.1:5581",
        "",
    ],
)
def test_an_endpoint_that_cannot_be_bound_is_named_with_its_setting(
    state: Path, endpoint: str
) -> None:
    free = "tcp://127.0.0.1:0"
    relay = Relay(state, config.Relay(submit=free, publish=free, read=endpoint))

    with pytest.raises(ConfigError, match=r"^read: ") as refused:
        relay.start()

    assert "\n" not in str(refused.value)
