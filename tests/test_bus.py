"""Whatever fails between bridge, relay and readers: nothing is lost, doubled or out of order."""

from __future__ import annotations

import contextlib
import random
import signal
import socket as unix
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import zmq

from mailbridge import config, keyring
from mailbridge.bridge import submit
from mailbridge.bridge.submit import HELD, RelayTarget
from mailbridge.event import SignedEvent, read_event
from mailbridge.journal import Journal
from mailbridge.outbox import Outbox
from mailbridge.reader import listen, open_events
from mailbridge.relay import JOURNAL, Relay
from mailbridge.signing import SigningKey
from mailbridge.testing import RelayForTests
from mailbridge.wire.sockets import (
    WINDOW,
    Context,
    bind,
    make_context,
    make_socket,
    submit_server,
    submitter,
)
from tests.conftest import NOON
from tests.daemons import LOOPBACK, Daemon
from tests.feeds import TAG, Source
from tests.test_crash import Mailing

ANY: Final = "tcp://127.0.0.1:0"
GUARD: Final = 60_000
"""Milliseconds after which a test gives up: no assertion of speed."""


# -- a bridge and a relay, each in a process of its own --------------------------------------------


class Apart:
    """A bridge that takes mail in, and a relay that comes, goes and hangs."""

    def __init__(self, place: Path) -> None:
        self.mailing: Final = Mailing(place / "Maildir")
        self.relay: Final = place / "relay"
        self._state: Final = place / "state"
        with Daemon("relay", "--state", self.relay, *LOOPBACK) as first:
            bound = first.ready()
            assert first.stop() == 0
        self._endpoints: Final = [
            f"--{name}={bound[name]}" for name in ("submit", "publish", "read")
        ]
        self._submit: Final = bound["submit"]
        self.read: Final = bound["read"]

    def start_bridge(self) -> Daemon:
        """Start the bridge, and let the relay know its key, as an operator does."""
        taking = ("--maildir", self.mailing.maildir, "--existing", "emit")
        bridge = Daemon("bridge", *taking, "--state", self._state, "--submit", self._submit)
        entity = bridge.ready()["key"]
        key = self._state / "keys" / f"{entity}.key"
        with Daemon("key", "trust", key, "--state", self.relay, "--tags", "_lk.*") as trust:
            assert trust.wait() == 0
        return bridge

    def start_relay(self) -> Daemon:
        return Daemon("relay", "--state", self.relay, *self._endpoints)

    def check(self) -> None:
        """Read what a reader gets: all that was delivered, once, in order."""
        self.mailing.check(self.read, self.relay)


@pytest.fixture
def apart(tmp_path: Path) -> Apart:
    return Apart(tmp_path)


@pytest.mark.fault(50)
def test_a_relay_that_is_away_at_the_start_gets_everything_when_it_comes(apart: Apart) -> None:
    apart.mailing.deliver(20)
    with apart.start_bridge() as bridge:
        bridge.says("does not answer; mail is taken in, events wait")
        apart.mailing.deliver(20)
        with apart.start_relay() as relay:
            relay.ready()
            apart.check()
            assert relay.stop() == 0
        assert bridge.stop() == 0


@pytest.mark.fault(51)
def test_a_relay_that_is_killed_twenty_times_has_everything_in_the_end(apart: Apart) -> None:
    moments = random.Random(20261121)  # noqa: S311 - a test's, and reproducible
    with apart.start_bridge() as bridge:
        for _ in range(20):
            apart.mailing.deliver(15)
            with apart.start_relay() as relay:
                relay.ready()
                with pytest.raises(TimeoutError):
                    relay.outlive(moments.uniform(0, 0.1))
                relay.kill()
        with apart.start_relay() as relay:
            relay.ready()
            apart.check()
            assert relay.stop() == 0
        assert bridge.stop() == 0


@pytest.mark.fault(52)
def test_a_relay_that_stands_still_for_a_while_goes_on_where_it_was(apart: Apart) -> None:
    with apart.start_bridge() as bridge, apart.start_relay() as relay:
        relay.ready()
        apart.mailing.deliver(10)
        apart.check()
        relay.signal(signal.SIGSTOP)
        apart.mailing.deliver(100)
        bridge.says("does not answer; mail is taken in, events wait")
        relay.signal(signal.SIGCONT)
        apart.check()
        assert relay.stop() == 0
        assert bridge.stop() == 0


# -- an outbox, sent by what sends it, to relays that a test makes ---------------------------------


def fill(outbox: Outbox, numbers: range, tag: str = TAG) -> None:
    with outbox.transaction():
        for number in numbers:
            fields = {
                "id": tag,
                "tag": tag,
                "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
                "format": "1.0",
                "time": NOON.isoformat(timespec="milliseconds"),
                "data": {"number": number},
            }
            assert outbox.emit(fields, mail=None, backfill=False)


@pytest.fixture
def context() -> Iterator[Context]:
    with make_context() as context:
        yield context


@pytest.fixture
def outbox(tmp_path: Path, signer: SigningKey) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db", signer, now=NOON) as outbox:
        yield outbox


class Sending:
    """A target that sends *outbox*; its clock may run ahead of ours."""

    def __init__(self, context: Context, endpoint: str, outbox: Outbox) -> None:
        self.target: Final = RelayTarget(context, endpoint, outbox, name="relay")
        self.ahead = 0.0

    def turn(self) -> None:
        due = self.target.turn(time.monotonic() + self.ahead) - self.ahead
        wait = min(max(due - time.monotonic(), 0.0), 0.05)
        self.target.sockets[0].poll(int(wait * 1000) + 1)

    def until(self, look: Callable[[], bool]) -> None:
        """Send until *look* says that it is so."""
        end = time.monotonic() + GUARD / 1000
        while not look():
            assert time.monotonic() < end, self.target.status()
            self.turn()

    def close(self) -> None:
        self.target.close()


def journaled(state: Path) -> list[SignedEvent]:
    """What a relay in *state* gives to readers, in its order."""
    with Journal.open(state / JOURNAL, readonly=True) as journal:
        return [read_event(raw) for _, raw in journal.read(0, limit=100_000, max_bytes=1 << 30)]


def is_whole(state: Path, outbox: Outbox, count: int) -> bool:
    """Say whether the relay in *state* has the first *count* events of *outbox*, once, in order."""
    events = journaled(state)
    return [event.hash for event in events] == [stored.hash for stored in outbox.after(0, count)]


@pytest.mark.fault(53)
def test_a_relay_that_takes_everything_and_never_answers_costs_no_memory(
    context: Context, outbox: Outbox, tmp_path: Path, signer: SigningKey
) -> None:
    fill(outbox, range(1, 10_001))
    mute = submit_server(context)
    endpoint = bind(mute, ANY, "test")
    sending = Sending(context, endpoint, outbox)
    sending.turn()
    peer, _, word = mute.recv_multipart()
    assert word == b"head"
    told = {"status": "head", "feed": outbox.feed, "seq": 0, "feeds": {}}
    mute.send_multipart([peer, msgspec.json.encode(told)])
    heard: set[bytes] = set()

    tracemalloc.start()
    for _ in range(200):
        # (By its clock three hours pass.)
        sending.ahead += 60.0
        sending.turn()
        while mute.poll(0):
            heard.add(mute.recv_multipart()[1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len([raw for raw in heard if b'"head":' not in raw]) <= WINDOW
    assert peak < 20 * 1024 * 1024
    assert "10000 events wait" in sending.target.status()
    assert outbox.acknowledged("relay") == 0
    sending.close()
    mute.close(linger=0)
    with relay_of(tmp_path / "relay", signer) as relay:
        sending = Sending(context, relay.endpoints.submit, outbox)
        sending.until(lambda: sending.target.settled)
        assert is_whole(tmp_path / "relay", outbox, 10_000)
        sending.close()


def relay_of(state: Path, *own: SigningKey) -> Relay:
    bound = config.Relay(submit=ANY, publish=ANY, read=ANY)
    return Relay(state, bound, own={key.entity: key.verify_key for key in own})


class Meddler:
    """Stands between a source and a relay, and plays tricks with every answer."""

    def __init__(self, context: Context, relay: str, *, seed: int) -> None:
        self._front: Final = submit_server(context)
        self.endpoint: Final = bind(self._front, ANY, "test")
        self._back: Final = submitter(context, relay)
        self._random: Final = random.Random(seed)  # noqa: S311 - a test's, and reproducible
        self._held: Final[list[bytes]] = []
        self._peer = b""
        self.lies = 0

    def pump(self) -> None:
        """Pass on what has come: submissions as they are, answers as it likes."""
        while self._front.poll(0):
            self._peer, *frames = self._front.recv_multipart()
            self._back.send_multipart(frames)
        while self._back.poll(0):
            self._held.append(self._back.recv())
        self._random.shuffle(self._held)
        for answer in self._held:
            for said in self._tricks(answer):
                self._front.send_multipart([self._peer, said])
        self._held.clear()

    def _tricks(self, raw: bytes) -> Iterator[bytes]:
        told = msgspec.json.decode(raw)
        if told["status"] == "head":
            yield raw
            return
        luck = self._random.random()
        if luck < 0.5:
            return
        if luck < 0.7:
            yield raw
        yield raw
        seq = told.get("seq") or 0
        for changed in (
            {"seq": seq + 40},
            {"hash": "A" * 43},
            {"feed": "mailbridge.other.example.org/20261120T120000Z", "seq": seq + 40},
            {"status": "applause"},
            {"seq": seq + 10**6},
        ):
            self.lies += 1
            yield msgspec.json.encode({**told, **changed})
        yield b"\xff"

    def close(self) -> None:
        self._front.close(linger=0)
        self._back.close(linger=0)


@pytest.mark.fault(54)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_becomes_of_the_answers_nothing_is_acknowledged_that_is_not_there(
    context: Context, outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(submit, "RESEND", 0.01)
    fill(outbox, range(1, 401))
    with relay_of(tmp_path / "relay", outbox._key) as relay:
        meddler = Meddler(context, relay.endpoints.submit, seed=seed)
        sending = Sending(context, meddler.endpoint, outbox)

        def everything_is_received() -> bool:
            meddler.pump()
            there = relay._journal.heads().get(outbox.feed)
            assert outbox.acknowledged("relay") <= (there.head.seq if there else 0)
            return sending.target.settled

        sending.until(everything_is_received)
        assert meddler.lies > 100
        assert is_whole(tmp_path / "relay", outbox, 400)
        sending.close()
        meddler.close()


@pytest.mark.fault(55)
def test_behind_an_event_that_is_held_nothing_is_sent_on_and_all_comes_in_order_later(
    context: Context, outbox: Outbox, tmp_path: Path, signer: SigningKey
) -> None:
    state = tmp_path / "relay"
    fill(outbox, range(1, 4))
    fill(outbox, range(4, 5), tag="_lk.mailbridge.package-removed")
    fill(outbox, range(5, 9))
    keyring.write_public(state / "keys" / "trusted" / "bridge.key", signer.verify_key)
    policy = state / "policy.toml"
    policy.write_text(f'"{signer.entity}" = ["{TAG}"]\n')
    with relay_of(state) as relay:
        sending = Sending(context, relay.endpoints.submit, outbox)

        sending.until(lambda: "holds our events off" in sending.target.status())
        assert "may not emit _lk.mailbridge.package-removed" in sending.target.status()

        def tried(times: int) -> bool:
            # (It may still have to hear what the try before came to.)
            sending.ahead += HELD + 1
            return relay.counts["held"] >= times

        for times in range(2, 5):
            sending.until(partial(tried, times))
            sending.until(lambda: "5 events wait" in sending.target.status())
            assert is_whole(state, outbox, 3)

        policy.write_text(f'"{signer.entity}" = ["_lk.mailbridge.*"]\n')

        def settled() -> bool:
            sending.ahead += HELD + 1
            return sending.target.settled

        sending.until(settled)
        assert is_whole(state, outbox, 8)
        sending.close()


# -- readers ---------------------------------------------------------------------------------------

MANY: Final = 20_000


@pytest.mark.fault(59)
def test_a_slow_reader_has_all_of_twenty_thousand_events_and_slows_nobody(
    context: Context, tmp_path: Path
) -> None:
    """Beside it one asks and asks and never fetches an answer."""
    source = Source()
    state = tmp_path / "relay"
    with relay_of(state, source.key) as relay:
        submit_to, _, read_from = relay.endpoints
        deaf = make_socket(context, zmq.DEALER)
        deaf.setsockopt(zmq.RCVHWM, 1)
        deaf.connect(read_from)
        sender = submitter(context, submit_to)
        reading = listen(read_from, since="start", keys=_keys(tmp_path, source.key), timeout=600)
        got: list[int] = []
        for batch in range(0, MANY, 1000):
            for event in source.events(1000):
                sender.send_multipart([event.raw, b"ack"])
            for _ in range(1000):
                assert sender.poll(GUARD), "the source waits for a reader"
                assert b'"stored"' in sender.recv()
            for n in range(4):
                with contextlib.suppress(zmq.Again):
                    question = {"id": n, "op": "read", "limit": 2000}
                    deaf.send(msgspec.json.encode(question), zmq.NOBLOCK)
            # (Ever further behind: it takes one in ten.)
            got += [event.data["number"] for event in islice(reading, 100)]
            assert len(got) == batch // 10 + 100
        got += [event.data["number"] for event in islice(reading, MANY - len(got))]
        reading.close()  # type: ignore[attr-defined]  # a generator
        sender.close(linger=0)
        deaf.close(linger=0)

    assert got == list(range(1, MANY + 1))


def _keys(place: Path, *keys: SigningKey) -> Path:
    for key in keys:
        keyring.write_public(place / "readers-keys" / f"{key.entity}.key", key.verify_key)
    return place / "readers-keys"


@pytest.mark.fault(60)
@pytest.mark.parametrize("seed", range(3))
def test_a_reader_that_comes_late_and_restarts_at_random_has_each_event_once(
    tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)  # noqa: S311 - a test's, and reproducible
    source = Source()
    cursor = tmp_path / "cursor"
    with RelayForTests(tmp_path / "relay", [source.key.entity]) as relay:
        emitter = relay.sources[source.key.entity]
        late = [emitter.event(TAG, {"number": n}) for n in range(1, 101)]
        relay.send(*late)
        emitting = threading.Thread(
            target=lambda: relay.send(*(emitter.event(TAG, {"number": n}) for n in range(101, 401)))
        )
        emitting.start()
        got: list[int] = []
        while len(got) < 400:
            options: dict[str, Any] = {
                "state": relay.state,
                "cursor_file": cursor,
                "timeout": GUARD,
            }
            with open_events(relay.url, since="start", **options) as events:
                taken = islice(events, min(moments.randrange(60), 400 - len(got)))
                got += [event.data["number"] for event in taken]
                # (Told that the last one is dealt with, or broken off right behind it.)
                if moments.random() < 0.5:
                    events.handled()
                elif got:
                    got.pop()
        emitting.join()

    assert got == list(range(1, 401))


# -- strangers in numbers --------------------------------------------------------------------------


@pytest.mark.fault(65)
def test_five_hundred_connections_that_say_nothing_or_half_of_it_keep_no_source_waiting(
    context: Context, tmp_path: Path
) -> None:
    source = Source()
    state = tmp_path / "relay"
    keyring.write_public(state / "keys" / "trusted" / "a.key", source.key.verify_key)
    keyring.allow(state / "policy.toml", source.key.entity, ["*"])
    with Daemon("relay", "--state", state, *LOOPBACK) as relay, contextlib.ExitStack() as flood:
        bound = relay.ready()
        for n in range(500):
            host, _, port = bound["submit" if n % 2 else "read"][6:].rpartition(":")
            stranger = flood.enter_context(unix.create_connection((host, int(port)), 60))
            # Nothing, the beginning of ZeroMQ's greeting, all of it, and no ZeroMQ at all.
            greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 32)
            stranger.sendall((b"", greeting[:7], greeting[:64], b"GET / HTTP/1.1\r\n\r\n")[n % 4])
        sender = submitter(context, bound["submit"])
        for event in source.events(50):
            sender.send_multipart([event.raw, b"ack"])
        for _ in range(50):
            assert sender.poll(GUARD), "the source waits for strangers"
            assert b'"stored"' in sender.recv()
        sender.close(linger=0)

        keys = state / "keys" / "trusted"
        reading = listen(bound["read"], since="start", keys=keys, timeout=60)
        assert [event.data["number"] for event in islice(reading, 50)] == list(range(1, 51))
        assert relay.stop() == 0
