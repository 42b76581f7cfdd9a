"""Canaries: that the way of a mail is free is known because something goes it, and says nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

import msgspec
import pytest
import zmq

from mailbridge import config, keyring
from mailbridge.bridge.canary import DIRECTORY, HEADER, Canaries, Way, new_nonce, write_way
from mailbridge.bridge.submit import RelayTarget
from mailbridge.event import canonical
from mailbridge.health.state import CANARY
from mailbridge.outbox import Outbox
from mailbridge.relay import Relay
from mailbridge.signing import SigningKey, sign_note
from mailbridge.wire.read import Asker
from mailbridge.wire.sockets import make_context, submitter
from tests.conftest import NOON
from tests.daemons import (
    ANY_PORT,
    LOOPBACK,
    PATIENCE,
    Daemon,
    make_maildir,
    put,
    read_events,
    upload,
)
from tests.services import opened

LOCAL: Final = config.Relay(submit=ANY_PORT, publish=ANY_PORT, read=ANY_PORT)


@pytest.fixture
def outbox(tmp_path: Path, signer: SigningKey) -> Outbox:
    return Outbox(tmp_path / "outbox.db", signer, now=NOON)


@pytest.fixture
def canaries(tmp_path: Path, outbox: Outbox) -> Canaries:
    make_maildir(tmp_path / "Maildir")
    return Canaries(tmp_path, tmp_path / "Maildir", outbox)


class Parrot:
    """A target that gives back what it is given, or not."""

    def __init__(self, name: str = "relay", *, answers: bool = True) -> None:
        self.name, self.answers, self.given = name, answers, list[str]()

    def canary(self, nonce: str) -> bool:
        self.given.append(nonce)
        return self.answers

    def echoed(self) -> list[str]:
        given, self.given = self.given, []
        return given if self.answers else []


def _spooled(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "Maildir" / "new").iterdir())


# -- those that the bridge sends -------------------------------------------------------------------


def test_one_is_delivered_each_minute(canaries: Canaries, tmp_path: Path) -> None:
    assert canaries.send(1000.0) == 1000.0 + CANARY
    assert canaries.send(1001.0) == 1000.0 + CANARY
    (name,) = _spooled(tmp_path)
    assert canaries.send(1000.0 + CANARY) == 1000.0 + 2 * CANARY
    assert len(_spooled(tmp_path)) == 2
    assert canaries.own(name)


def test_what_came_back_and_when_is_known(canaries: Canaries, tmp_path: Path) -> None:
    canaries.send(time.monotonic())
    (name,) = _spooled(tmp_path)
    assert (canaries.last, canaries.through) == (None, {})
    assert canaries.own(name)
    assert canaries.last
    assert canaries.last.took >= 0
    canaries.pass_on([Parrot("a"), Parrot("b", answers=False)])  # type: ignore[list-item]  # enough of one

    assert canaries.through.keys() == {"a"}


def test_one_of_a_life_before_this_is_known_for_a_canary_and_tells_nothing(
    canaries: Canaries, tmp_path: Path, outbox: Outbox
) -> None:
    canaries.send(time.monotonic())
    (name,) = _spooled(tmp_path)
    later = Canaries(tmp_path, tmp_path / "Maildir", outbox)

    assert later.own(name)
    assert later.last is None
    assert not later.own("1700000000.M1P2R3.lists.example.org")
    assert not later.own("1700000000.canary-.x")


# -- test mails ------------------------------------------------------------------------------------


def _test_mail(nonce: str, *, before: str = "Received: from x\n") -> bytes:
    return f"{before}{HEADER}: {nonce}\nSubject: test\n\nx\n".encode()


def test_a_test_mail_is_known_by_what_its_sender_laid_down_and_he_is_told(
    canaries: Canaries, tmp_path: Path
) -> None:
    nonce = new_nonce()
    (tmp_path / DIRECTORY).mkdir()
    path = tmp_path / DIRECTORY / nonce
    write_way(path, Way(sent=1.0))
    assert canaries.is_test(_test_mail(nonce), Path("/m/new/1"))
    canaries.pass_on([Parrot(), Parrot("lighthouse", answers=False)])  # type: ignore[list-item]  # enough of one

    way = msgspec.json.decode(path.read_bytes(), type=Way)
    assert (way.file, way.targets, list(way.received)) == ("/m/new/1", 1, ["relay"])
    assert way.arrived
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [nonce]


@pytest.mark.parametrize(
    "raw",
    [
        _test_mail("0" * 32),
        _test_mail("../../../etc/passwd"),
        b"Subject: x\n\n" + _test_mail("0" * 32),
        f"{HEADER}:\n".encode(),
    ],
)
def test_whoever_writes_such_a_header_without_it_sends_a_mail_as_all_others(
    canaries: Canaries, raw: bytes
) -> None:
    assert not canaries.is_test(raw, Path("/m/new/1"))


# -- the relay -------------------------------------------------------------------------------------


@pytest.fixture
def trusting(tmp_path: Path, signer: SigningKey) -> Path:
    state = tmp_path / "relay"
    keyring.write_public(state / "keys" / "trusted" / "bridge.key", signer.verify_key)
    return state


def _ask(relay: Relay, body: bytes) -> dict[str, object]:
    context = make_context()
    socket = submitter(context, relay.endpoints.submit)
    socket.send_multipart([body, b"canary"])
    assert socket.poll(int(PATIENCE * 1000))
    answer: dict[str, object] = json.loads(socket.recv())
    socket.close()
    context.term()
    return answer


def test_a_relay_answers_once_its_journal_has_it_and_tells_readers_who_ask_for_feeds(
    trusting: Path, outbox: Outbox
) -> None:
    with Relay(trusting, LOCAL) as relay:
        answer = _ask(relay, outbox.signed_canary("n1"))
        # A feed is there from its first head or event on.
        context = make_context()
        target = RelayTarget(context, relay.endpoints.submit, outbox)
        while not target.settled:
            target.turn(time.monotonic())
            target.sockets[0].poll(100)
        target.canary("n2")
        while not (echoed := target.echoed()):
            target.turn(time.monotonic())
            target.sockets[0].poll(100)
        target.close()
        context.term()
        with Asker(relay.endpoints.read) as asker:
            told = asker.ask("feeds", {}).header["feeds"][outbox.feed]["canary"]

    assert answer == {"status": "canary", "feed": outbox.feed, "nonce": "n1"}
    assert echoed == ["n2"]
    assert told["canary"]["nonce"] == "n2"
    assert set(told["signatures"]) == {outbox.feed.partition("/")[0]}


def test_a_stranger_s_canary_and_a_broken_one_are_answered_and_kept_nowhere(
    trusting: Path, outbox: Outbox, signer: SigningKey
) -> None:
    stranger = SigningKey.generate("mailbridge.elsewhere.example.org")
    note = {"feed": f"{stranger.entity}/20261120T120000Z", "nonce": "n", "time": "x"}
    with Relay(trusting, LOCAL) as relay:
        held = _ask(relay, sign_note({"canary": note}, stranger))
        claimed = _ask(relay, sign_note({"canary": {**note, "feed": outbox.feed}}, stranger))
        altered = _ask(relay, outbox.signed_canary("n1").replace(b'"n1"', b'"n2"'))
        wrong = [
            _ask(relay, body)
            for body in (
                b"",
                b"7",
                canonical({"canary": 7}),
                canonical({"canary": {**note, "feed": "x"}}),
                sign_note({"canary": {**note, "feed": signer.entity}}, signer),
            )
        ]

    assert held["status"] == "held"
    for answer in (claimed, altered, *wrong):
        assert (answer["status"], "nonce" in answer) == ("canary", False)
    journal = opened(trusting / "journal.db")
    assert journal.execute("SELECT count(*) FROM meta WHERE name LIKE 'canary%'").fetchone() == (0,)
    journal.close()


def test_a_relay_that_was_not_heard_of_yet_gets_no_heap_of_canaries(outbox: Outbox) -> None:
    context = make_context()
    server = context.socket(zmq.ROUTER)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    target = RelayTarget(context, f"tcp://127.0.0.1:{port}", outbox)
    for number in range(5):
        assert target.canary(f"n{number}")
    target.turn(time.monotonic())
    assert server.poll(int(PATIENCE * 1000))
    first = server.recv_multipart()

    assert first[2] == b"head"
    assert not server.poll(0)
    target.close()
    server.close()
    context.term()


# -- the service -----------------------------------------------------------------------------------


def test_a_canary_goes_all_the_way_and_is_nobody_s_news(tmp_path: Path) -> None:
    maildir, state = make_maildir(tmp_path / "Maildir"), tmp_path / "state"
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK, "--existing", "emit")
    with Daemon(*words) as daemon:
        read = daemon.ready()["read"]
        put(maildir, upload(1), "1.a")
        with Asker(read) as asker:
            feeds: dict[str, dict[str, object]] = {}
            while not any("canary" in feed for feed in feeds.values()):
                feeds = asker.ask("feeds", {}).header["feeds"]
        (event,) = read_events(read, state, 1)
        assert daemon.stop() == 0

    assert event.tag == "_lk.mailbridge.package-upload-accepted"
    assert len(daemon.said.splitlines()) == 2, daemon.said
    assert list((state / "Maildir" / "new").iterdir()) == []
    outbox = opened(state / "outbox.db")
    assert outbox.execute("SELECT sum(n) FROM count").fetchone() == (1,)
    assert outbox.execute("SELECT count(*) FROM event").fetchone() == (1,)
    outbox.close()
