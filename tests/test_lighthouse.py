"""Towards a Lighthouse: what comes out of it again is acknowledged, and little is said to it."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import socket
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import zmq

from mailbridge import config
from mailbridge.bridge.lighthouse import ECHO, PROBE_MAX, SETTLE, LighthouseTarget
from mailbridge.bridge.target import Target
from mailbridge.errors import ConfigError, NeedsOperator
from mailbridge.event import read_event
from mailbridge.keyring import write_public
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey, sign_fields, verify
from mailbridge.wire import sockets
from tests.conftest import NOON
from tests.lighthouse import ENTITY, GUARD, Lighthouse

TAG: Final = "_lk.mailbridge.bug-closed"
PREFIX: Final = "_lk.mailbridge."


def fields(number: int, tag: str = TAG) -> dict[str, Any]:
    return {
        "id": tag,
        "tag": tag,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        "format": "1.0",
        "time": "2026-11-20T12:00:00+00:00",
        "data": {"number": number, "title": "caf\u00e9 <&> \u2028"},
    }


class Bare:
    """A Lighthouse's two sockets, and nobody behind them."""

    def __init__(self, context: sockets.Context) -> None:
        self.router: Final = context.socket(zmq.ROUTER)
        self.xpub: Final = context.socket(zmq.XPUB)
        self.xpub.setsockopt(zmq.XPUB_VERBOSER, 1)
        for bound in (self.router, self.xpub):
            bound.bind("tcp://127.0.0.1:*")
        self.submit: Final = self.router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.publish: Final = self.xpub.getsockopt_string(zmq.LAST_ENDPOINT)

    def echo(self, raw: bytes) -> None:
        self.xpub.send_multipart([TAG.encode(), raw])

    def subscription(self) -> bytes:
        """Wait for what is wanted next: a byte (1: yes, 0: no longer) and a prefix."""
        assert self.xpub.poll(int(GUARD * 1000)), "nothing is wanted"
        return self.xpub.recv()

    def deafen(self) -> None:
        """Take no more submissions.  (libzmq's own thread closes the port, in its own time.)"""
        self.router.close(linger=0)
        port = int(self.submit.rpartition(":")[2])
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                socket.create_connection(("127.0.0.1", port), GUARD).close()


class Bridge:
    """An outbox and its target, in a time of their own."""

    def __init__(self, key: SigningKey, context: sockets.Context) -> None:
        self.outbox: Final = Outbox(None, key, now=NOON)
        self.now = 1000.0
        self.due = math.inf
        self._context: Final = context
        self.target: LighthouseTarget

    def write(self, *numbers: int, backfill: bool = False, tag: str = TAG) -> None:
        with self.outbox.transaction():
            for number in numbers:
                self.outbox.emit(fields(number, tag), mail=None, backfill=backfill)

    def connect(self, lighthouse: Lighthouse | Bare, *, rate: str = "2/s") -> None:
        """Start, and be where events may be submitted."""
        self.open(lighthouse, rate=rate)
        self.reconnect(lighthouse)

    def open(self, lighthouse: Lighthouse | Bare, *, rate: str = "2/s") -> None:
        """Start, and no more."""
        self.target = LighthouseTarget(
            self._context,
            config.Lighthouse(submit=lighthouse.submit, publish=lighthouse.publish, rate=rate),
            self.outbox,
        )

    def reconnect(self, lighthouse: Lighthouse | Bare) -> None:
        self.turn()
        while not self.target._line.is_up:
            self.hear()
        if isinstance(lighthouse, Bare):
            assert lighthouse.subscription() == b"\x01" + PREFIX.encode()
        else:
            lighthouse.subscribed(PREFIX)
        self.until_due()

    def turn(self) -> None:
        self.due = self.target.turn(self.now)

    def hear(self) -> None:
        """Wait for something to arrive, and take it."""
        poller = zmq.Poller()
        for one in self.target.sockets:
            poller.register(one, zmq.POLLIN)
        assert poller.poll(int(GUARD * 1000)), "nothing arrived"
        self.turn()

    def until_due(self) -> None:
        """Let the time pass until there is something to do."""
        if self.due < math.inf:
            self.now = max(self.now, self.due)

    def deliver(self, lighthouse: Lighthouse, count: int) -> None:
        """Submit, and hear, *count* events."""
        for _ in range(count):
            before = len(self.target._flights)
            self.submit(lighthouse)
            while len(self.target._flights) >= max(before, 1):
                self.hear()

    def submit(self, lighthouse: Lighthouse) -> str:
        """Submit what is due next, and return what became of it."""
        # (Connections come up in the real time, and each in its own.)
        assert self.target._line._submit.poll(int(GUARD * 1000), zmq.POLLOUT), "nobody takes it"
        self.submit_once()
        return lighthouse.handled()

    def submit_once(self) -> None:
        """Let the time pass until something is submitted."""
        before = self.tries
        self.turn()
        while all(before.get(uuid, 0) == tries for uuid, tries in self.tries.items()):
            assert self.due < math.inf, "nothing is due"
            self.until_due()
            before = self.tries
            self.turn()

    @property
    def tries(self) -> dict[str, int]:
        """How often each event that is not acknowledged was submitted."""
        return {uuid: flight.tries for uuid, flight in self.target._flights.items()}

    @property
    def acked(self) -> int:
        return self.outbox.acknowledged(self.target.name)


@pytest.fixture
def context() -> Iterator[sockets.Context]:
    context = sockets.make_context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def bare(context: sockets.Context) -> Iterator[Bare]:
    bare = Bare(context)
    yield bare
    bare.router.close(linger=0)
    bare.xpub.close(linger=0)


@pytest.fixture
def bridge(signer: SigningKey, context: sockets.Context) -> Iterator[Bridge]:
    bridge = Bridge(signer, context)
    yield bridge
    if hasattr(bridge, "target") and not bridge.target.sockets[0].closed:
        bridge.target.close()
    bridge.outbox.close()


@pytest.fixture
def trusted(tmp_path: Path, signer: SigningKey) -> Path:
    directory = tmp_path / "trusted"
    directory.mkdir()
    write_public(directory / f"{signer.entity}.key", signer.verify_key)
    return directory


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A directory of trusted keys in which ours is not."""
    directory = tmp_path / "strangers"
    directory.mkdir()
    other = SigningKey("somebody.example.org", bytes(32))
    write_public(directory / f"{other.entity}.key", other.verify_key)
    return directory


@pytest.fixture
def lighthouse(trusted: Path) -> Iterator[Lighthouse]:
    with Lighthouse(trusted) as lighthouse:
        yield lighthouse


def numbers(lighthouse: Lighthouse) -> list[int]:
    return [event["data"]["number"] for event in lighthouse.published]


@pytest.mark.fault(64)
def test_what_comes_out_again_is_acknowledged(bridge: Bridge, lighthouse: Lighthouse) -> None:
    bridge.write(1, 2, 3)
    bridge.connect(lighthouse)

    bridge.deliver(lighthouse, 3)

    assert (bridge.acked, bridge.due, bridge.target.status()) == (3, math.inf, "all received")
    assert numbers(lighthouse) == [1, 2, 3]


def test_it_is_a_target_as_the_loop_knows_them(bridge: Bridge, lighthouse: Lighthouse) -> None:
    bridge.connect(lighthouse)
    target: Target = bridge.target

    assert target.name == f"lighthouse {lighthouse.submit}"
    assert target.status() == "all received"
    target.close()
    assert all(socket.closed for socket in target.sockets)


def test_its_subscribers_can_verify_us(
    bridge: Bridge, lighthouse: Lighthouse, signer: SigningKey
) -> None:
    bridge.write(1)
    bridge.connect(lighthouse)
    bridge.deliver(lighthouse, 1)

    event = read_event(json.dumps(lighthouse.published[0]).encode())

    assert verify(event, {signer.entity: signer.verify_key}).hash == bridge.outbox.hash_of(1)
    assert set(event.signatures) == {signer.entity, ENTITY}


def test_nothing_but_events_is_ever_said_to_it(bridge: Bridge, lighthouse: Lighthouse) -> None:
    """No head, no question, no second frame, and above all no bare number."""
    bridge.write(1, 2)
    bridge.connect(lighthouse)
    bridge.deliver(lighthouse, 2)
    for _ in range(100):
        bridge.now += 60
        bridge.turn()
    bridge.write(3)
    bridge.deliver(lighthouse, 1)

    stored = [[event.raw] for event in bridge.outbox.after(0, 10)]
    assert lighthouse.submissions == stored
    assert all(set(json.loads(raw)) > set(fields(0)) for [raw] in stored)


def test_no_more_than_the_rate_is_submitted(bridge: Bridge, lighthouse: Lighthouse) -> None:
    bridge.write(*range(20))
    bridge.connect(lighthouse, rate="120/m")
    sent = []
    for _ in range(20):
        bridge.submit(lighthouse)
        sent.append(bridge.now)
        bridge.hear()

    assert all(later - earlier >= 0.5 for earlier, later in pairwise(sent))
    assert bridge.acked == 20


def test_a_pause_earns_no_burst(bridge: Bridge, lighthouse: Lighthouse) -> None:
    bridge.connect(lighthouse)
    bridge.now += 3600
    bridge.turn()
    bridge.write(1, 2, 3)

    bridge.submit(lighthouse)

    assert bridge.due == bridge.now + 0.5


def test_old_mail_is_passed_over(bridge: Bridge, lighthouse: Lighthouse) -> None:
    bridge.write(*range(1, 101), backfill=True)
    bridge.write(101)
    bridge.write(102, backfill=True)
    bridge.connect(lighthouse)

    bridge.deliver(lighthouse, 1)

    assert numbers(lighthouse) == [101]
    assert bridge.acked == 102


def test_a_lighthouse_that_comes_late_is_not_told_what_others_have_long_had(
    bridge: Bridge, lighthouse: Lighthouse
) -> None:
    bridge.write(1, 2, 3)
    bridge.outbox.acknowledge("tcp://relay.example.org:5581", 2)
    bridge.open(lighthouse)

    assert bridge.target._acked == 2


def test_a_backfill_of_years_does_not_hold_up_the_loop(
    bridge: Bridge, lighthouse: Lighthouse
) -> None:
    bridge.write(*range(3000), backfill=True)
    bridge.open(lighthouse)

    bridge.turn()
    assert 0 < bridge.acked < 3000
    while bridge.due <= bridge.now:
        bridge.turn()

    assert bridge.acked == 3000
    assert lighthouse.submissions == []


# -- listening


def test_nothing_is_submitted_before_we_listen(bridge: Bridge, lighthouse: Lighthouse) -> None:
    """What is published before the subscription arrives is not heard, and would go out again."""
    bridge.write(1)
    bridge.open(lighthouse)
    bridge.turn()
    while not bridge.target._line.is_up:
        assert set(bridge.tries.values()) == {0}
        bridge.hear()

    assert bridge.due == bridge.now + SETTLE
    bridge.now += SETTLE - 0.1
    bridge.turn()
    assert set(bridge.tries.values()) == {0}


def test_a_tag_of_another_namespace_is_listened_for_before_it_is_submitted(
    bridge: Bridge, lighthouse: Lighthouse
) -> None:
    bridge.connect(lighthouse)
    bridge.now += 100

    bridge.write(1, tag="org.example.mailbridge.bug-closed")
    bridge.turn()

    assert set(bridge.tries.values()) == {0}
    assert bridge.due == bridge.now + SETTLE
    lighthouse.subscribed("org.example.mailbridge.")
    bridge.deliver(lighthouse, 1)
    assert bridge.acked == 1


def test_a_lighthouse_that_is_not_there_gets_nothing(bridge: Bridge, trusted: Path) -> None:
    with Lighthouse(trusted) as gone:
        pass
    bridge.write(1)
    bridge.open(gone)

    bridge.turn()

    assert bridge.due == math.inf
    assert bridge.target.status() == f"lighthouse {gone.submit} is not there; 1 events wait"
    assert bridge.acked == 0


def test_one_that_publishes_no_longer_gets_nothing(bridge: Bridge, bare: Bare) -> None:
    bridge.connect(bare)
    bare.xpub.close(linger=0)
    while bridge.target._line.is_up:
        bridge.hear()
    bridge.now += 100

    bridge.write(1)
    bridge.turn()

    assert bridge.due == math.inf
    assert set(bridge.tries.values()) == {0}


def test_nothing_waits_in_a_queue_for_one_that_takes_nothing(bridge: Bridge, bare: Bare) -> None:
    """It would go out when it is back: before we listen, and several times."""
    bare.deafen()
    bridge.write(1)
    bridge.connect(bare)
    for _ in range(10):
        bridge.turn()
        bridge.until_due()

    assert set(bridge.tries.values()) == {0}
    assert bridge.target.status() == "1 events on the way"


def test_a_try_that_nobody_took_makes_the_next_no_later(bridge: Bridge, bare: Bare) -> None:
    """Who publishes and takes nothing yet is being started: it will soon."""
    bridge.write(1)
    bridge.connect(bare)
    bridge.submit_once()
    bare.deafen()
    line = bridge.target._line._submit
    while line.poll(0, zmq.POLLOUT):
        line.poll(10)
    for _ in range(30):
        bridge.turn()
        bridge.until_due()

    assert set(bridge.tries.values()) == {1}
    assert bridge.target.trouble
    assert bridge.now < 1000.0 + 4 * ECHO


@pytest.mark.parametrize("part", ["submit", "publish"])
def test_an_endpoint_that_is_none_is_named(
    bridge: Bridge, context: sockets.Context, part: str
) -> None:
    endpoints = {"submit": "tcp://127.0.0.1:5571", "publish": "tcp://127.0.0.1:5572"}

    with pytest.raises(ConfigError, match=f"lighthouse.{part}: 'nonsense'"):
        LighthouseTarget(
            context,
            msgspec.convert({**endpoints, part: "nonsense"}, config.Lighthouse),
            bridge.outbox,
        )


# -- what is not heard


@pytest.mark.fault(64)
def test_a_lighthouse_that_does_not_know_our_key_is_told_of_and_asked_again(
    bridge: Bridge, strangers: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It drops what it does not trust without a word, and reads its keys only once."""
    bridge.write(1, 2, 3)
    with Lighthouse(strangers) as lighthouse:
        bridge.connect(lighthouse)
        started = bridge.now
        assert [bridge.submit(lighthouse) for _ in range(3)] == ["dropped"] * 3
        assert bridge.now < started + ECHO

        for _ in range(5):
            assert bridge.submit(lighthouse) == "dropped"

        assert bridge.acked == 0
        assert bridge.now > started + ECHO
        raws = [event.raw for event in bridge.outbox.after(0, 3)]
        assert [frames[0] for frames in lighthouse.submissions] == (raws * 3)[:8]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "has it the key of mailbridge.lists.example.org" in errors[0].getMessage()
    assert "publishes none of our events; 3 wait" in bridge.target.status()


def test_into_silence_one_event_is_repeated_and_nothing_new_said(
    bridge: Bridge, strangers: Path
) -> None:
    """Perhaps it publishes all of it and only we do not hear: then rooms see each repetition."""
    bridge.write(1)
    with Lighthouse(strangers) as lighthouse:
        bridge.connect(lighthouse)
        bridge.submit(lighthouse)
        bridge.now += ECHO
        bridge.write(2, 3, 4)
        times = []
        for _ in range(8):
            bridge.submit(lighthouse)
            times.append(bridge.now)

        assert {frames[0] for frames in lighthouse.submissions} == {
            bridge.outbox.after(0, 1)[0].raw
        }
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert all(ECHO <= pause <= PROBE_MAX + SETTLE for pause in pauses)
        assert pauses[-1] >= PROBE_MAX


def test_before_it_is_repeated_we_say_again_what_we_want_to_hear(
    bridge: Bridge, bare: Bare
) -> None:
    bridge.write(1)
    bridge.connect(bare)
    bridge.submit_once()
    raw = bare.router.recv_multipart()[1]
    bridge.until_due()

    bridge.turn()

    assert bare.subscription() == b"\x00" + PREFIX.encode()
    assert bare.subscription() == b"\x01" + PREFIX.encode()
    assert bridge.due == bridge.now + SETTLE
    assert list(bridge.tries.values()) == [1]
    bridge.submit_once()
    assert bare.router.recv_multipart()[1] == raw


def test_started_anew_with_our_key_it_gets_everything(
    bridge: Bridge, strangers: Path, trusted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bridge.write(1, 2, 3)
    with Lighthouse(strangers) as before:
        bridge.connect(before)
        for _ in range(10):
            bridge.submit(before)
    bridge.hear()
    assert not bridge.target._line.is_up

    with Lighthouse(trusted, submit=before.submit, publish=before.publish) as after:
        back = bridge.now
        bridge.reconnect(after)
        bridge.deliver(after, 1)
        # It is not made to wait for what its former life had earned.
        assert bridge.now < back + ECHO
        bridge.deliver(after, 2)

        assert sorted(numbers(after)) == [1, 2, 3]
    assert bridge.acked == 3
    assert "publishes our events again" in caplog.text
    assert bridge.target.status() == "all received"


@pytest.mark.fault(64)
def test_one_that_is_lost_goes_out_again_and_those_behind_it_do_not(
    bridge: Bridge, lighthouse: Lighthouse
) -> None:
    bridge.write(1, 2, 3)
    lost = {1}
    lighthouse.lose = lambda event: event["data"]["number"] in lost
    bridge.connect(lighthouse)

    assert bridge.submit(lighthouse) == "lost"
    for _ in range(2):
        assert bridge.submit(lighthouse) == "published"
        bridge.hear()
    lost.clear()
    # Two and three need nothing more, but a feed is acknowledged up to a number.
    assert bridge.acked == 0
    assert bridge.target.status() == "1 events on the way"

    assert bridge.submit(lighthouse) == "published"
    bridge.hear()

    assert numbers(lighthouse) == [2, 3, 1]
    assert bridge.acked == 3


def test_a_bridge_started_again_goes_on_where_it_was(
    bridge: Bridge, lighthouse: Lighthouse
) -> None:
    bridge.write(1, 2)
    bridge.connect(lighthouse)
    bridge.deliver(lighthouse, 2)
    bridge.target.close()

    bridge.write(3)
    bridge.connect(lighthouse)
    bridge.deliver(lighthouse, 1)

    assert numbers(lighthouse) == [1, 2, 3]
    assert bridge.acked == 3


def test_killed_in_the_middle_of_a_publication_it_gets_the_event_again(
    bridge: Bridge, trusted: Path
) -> None:
    bridge.write(1, 2)
    with Lighthouse(trusted) as before:
        before.lose = lambda _: True
        bridge.connect(before)
        assert bridge.submit(before) == "lost"
    bridge.hear()

    with Lighthouse(trusted, submit=before.submit, publish=before.publish) as after:
        bridge.reconnect(after)
        bridge.deliver(after, 2)

        assert sorted(numbers(after)) == [1, 2]
    assert bridge.acked == 2


# -- what is no echo


@pytest.mark.fault(64)
def test_the_same_news_of_another_bridge_is_no_acknowledgement(
    bridge: Bridge, trusted: Path
) -> None:
    """Two bridges that read one list give one uuid; each has to get its own through."""
    other = SigningKey("mailbridge.elsewhere.example.org", bytes(range(32, 64)))
    write_public(trusted / f"{other.entity}.key", other.verify_key)
    bridge.write(1)
    with Lighthouse(trusted) as lighthouse:
        lighthouse.lose = lambda event: other.entity not in event["signatures"]
        bridge.connect(lighthouse)
        bridge.submit(lighthouse)

        lighthouse.say(json.loads(sign_fields(fields(1), other)[0]))
        bridge.hear()

    assert (bridge.acked, *bridge.tries.values()) == (0, 1)


@pytest.mark.fault(64)
def test_the_same_event_twice_is_acknowledged_once(bridge: Bridge, lighthouse: Lighthouse) -> None:
    bridge.write(1, 2)
    bridge.connect(lighthouse)
    bridge.deliver(lighthouse, 1)

    lighthouse.say(json.loads(bridge.outbox.after(0, 1)[0].raw))
    bridge.hear()

    assert bridge.acked == 1


def altered(event: dict[str, Any], how: str, signer: SigningKey) -> dict[str, Any]:
    match how:
        case "other content":
            event["data"]["number"] = 2
        case "our signature is another":
            event["signatures"][signer.entity]["ed25519:0"] = "A" * 86
        case "our signature is missing":
            del event["signatures"][signer.entity]
        case "no event":
            del event["uuid"]
    return event


@pytest.mark.fault(64)
@pytest.mark.parametrize(
    "how",
    ["other content", "our signature is another", "our signature is missing", "no event"],
)
def test_what_was_altered_on_the_way_is_no_acknowledgement(
    bridge: Bridge, bare: Bare, signer: SigningKey, how: str
) -> None:
    bridge.write(1)
    bridge.connect(bare)
    bridge.submit_once()
    raw = bare.router.recv_multipart()[1]

    bare.echo(json.dumps(altered(json.loads(raw), how, signer)).encode())
    bridge.hear()
    assert bridge.acked == 0

    bare.echo(raw)
    bridge.hear()
    assert bridge.acked == 1


# -- what would harm it


@pytest.mark.parametrize("text", ["5", "-0.1", "true", "null", '["tag"]', '{"tag": 1}', "{"])
def test_an_outbox_that_holds_no_event_there_stops_us_before_it_harms_the_lighthouse(
    bridge: Bridge, lighthouse: Lighthouse, text: str
) -> None:
    bridge.write(1)
    bridge.outbox._db.execute("UPDATE event SET raw = ?", (text.encode(),))

    with pytest.raises(NeedsOperator, match="event 1 is damaged"):
        bridge.connect(lighthouse)

    assert lighthouse.submissions == []


def test_a_bare_number_is_the_end_of_a_lighthouse(lighthouse: Lighthouse) -> None:
    """Not ours to mend: it is why the test above is there."""
    lighthouse.say(5)  # type: ignore[arg-type]

    assert isinstance(lighthouse.died, TypeError)
