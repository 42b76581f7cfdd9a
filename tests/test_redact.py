"""What an event said is taken away; that there was one, where and of what hash, stays provable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailbridge import config
from mailbridge.cli import main
from mailbridge.errors import MalformedEvent, NotPermitted
from mailbridge.event import SignedEvent, read_event, redacted
from mailbridge.journal import Journal
from mailbridge.reader import Events, Keys
from mailbridge.relay import Relay
from mailbridge.signing import sign_fields
from mailbridge.testing import RelayForTests
from tests.conftest import NOON
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, upload
from tests.feeds import TAG, Source
from tests.test_export import OTHER, exported, imported, trusting

SECRET = b"a-private-address"


def secret_event(source: Source, number: int) -> SignedEvent:
    event = source.signed(number, feed=source.head.link(TAG), data={"says": SECRET.decode()})
    source.head = source.head.after(event)
    return event


def taken_away(source: Source, event: SignedEvent, reason: str = "") -> SignedEvent:
    fields = redacted(event, reason=reason, time="2026-11-20T13:00:00+00:00")
    return read_event(sign_fields(fields, source.key)[0])


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayForTests]:
    """A relay that takes what the source of these tests emits."""
    with RelayForTests(trusting(tmp_path / "relay")) as relay:
        yield relay


def read(url: str, state: Path) -> list[SignedEvent]:
    with Events(url, Keys(url, state=state), since="start", timeout=10, follow=False) as events:
        return list(events)


def all_bytes(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in state.glob("journal.db*"))


def test_a_source_takes_back_what_it_said_and_its_feed_is_whole_all_the_same(
    relay: RelayForTests, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = source.event(1), secret_event(source, 2), source.event(3)
    relay.send(first, second, third)

    relay.send(taken_away(source, second, "a private address"))

    events = read(relay.url, relay.state)
    assert [event.hash for event in events] == [first.hash, second.hash, third.hash]
    assert [event.redacted is None for event in events] == [True, False, True]
    assert events[1].data == {}
    assert events[1].redacted
    assert events[1].redacted.reason == "a private address"
    assert main(["verify", relay.url, "--state", str(relay.state)]) == 0
    assert main(["tail", relay.url, "--state", str(relay.state), "--from", "start", *_three()]) == 0
    assert "taken away: a private address" in capsys.readouterr().out


def _three() -> list[str]:
    return ["--count", "3", "--timeout", "10"]


def test_who_only_acts_is_not_given_what_tells_nothing(
    relay: RelayForTests, source: Source
) -> None:
    first, second, third = source.event(1), secret_event(source, 2), source.event(3)
    relay.send(first, second, third, taken_away(source, second))

    events = relay.listen(since="start")

    assert [next(events).uuid, next(events).uuid] == [first.uuid, third.uuid]


def test_nothing_of_it_is_left_in_the_file(relay: RelayForTests, source: Source) -> None:
    second = secret_event(source, 1)
    relay.send(second, source.event(2))
    assert SECRET in all_bytes(relay.state)

    relay.send(taken_away(source, second))

    assert SECRET not in all_bytes(relay.state)


def test_what_was_taken_away_does_not_come_back(relay: RelayForTests, source: Source) -> None:
    second = secret_event(source, 1)
    relay.send(second, taken_away(source, second))

    relay.send(second, taken_away(source, second))

    [event] = read(relay.url, relay.state)
    assert event.redacted


def test_a_relay_that_never_had_it_takes_the_feed_with_what_stands_in_its_place(
    relay: RelayForTests, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = source.event(1), secret_event(source, 2), source.event(3)
    relay.send(first, second, third, taken_away(source, second))

    lines = exported(relay.url, tmp_path / "events.export")

    assert SECRET not in b"".join(lines)
    state = trusting(tmp_path / "b")
    assert main(["verify", str(tmp_path / "events.export"), "--state", str(state)]) == 0
    status, said = imported(lines, state, capsys)
    assert (status, "3 events were new" in said) == (0, True)
    url = (state / "journal.db").as_uri()
    assert main(["verify", url, "--state", str(state)]) == 0
    assert [event.redacted is None for event in read(url, state)] == [True, False, True]


def test_a_peer_does_as_the_source_says(
    relay: RelayForTests, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbridge.relay.peer.EVERY", 0.05)
    second = secret_event(source, 1)
    relay.send(second)
    state = trusting(tmp_path / "peer")
    free = "tcp://127.0.0.1:0"
    settings = config.Relay(submit=free, publish=free, read=free, peer=(relay.url,))
    with Relay(state, settings) as peer:
        url = peer.endpoints.read
        while len(read(url, state)) < 1:
            pass

        relay.send(taken_away(source, second))

        while not read(url, state)[0].redacted:
            pass
        assert SECRET not in all_bytes(state)


@pytest.mark.parametrize("signer", [OTHER, "relay.nobody.example.org"])
def test_nobody_else_takes_it_away(relay: RelayForTests, source: Source, signer: str) -> None:
    second = secret_event(source, 1)
    relay.send(second)

    with pytest.raises(NotPermitted, match=r"no key for mailbridge\.lists\.example\.org"):
        relay.send(taken_away(Source(signer), second))

    [event] = read(relay.url, relay.state)
    assert not event.redacted


def test_what_has_no_feed_its_relay_alone_takes_away(relay: RelayForTests, source: Source) -> None:
    event = relay.emit("org.example.job-done", {"says": SECRET.decode()}, feed=False)
    for wrong in (event, source.signed(9, time=event.time)):
        with pytest.raises(NotPermitted, match="refused"):
            relay.send(taken_away(source, wrong))

    words = ["--state", str(relay.state), "--submit", relay.submit]
    assert main(["redact", event.uuid, *words]) == 0

    [left] = read(relay.url, relay.state)
    assert left.redacted
    assert SECRET not in all_bytes(relay.state)


def test_what_stands_in_its_place_says_nothing_else(source: Source) -> None:
    second = secret_event(source, 1)
    fields = redacted(second, reason="", time="2026-11-20T13:00:00+00:00")

    for wrong in ({"data": {"says": 1}}, {"author": "x"}, {"redacted": {"hash": "x", "time": ""}}):
        with pytest.raises(MalformedEvent):
            read_event(sign_fields(fields | wrong, source.key)[0])


def test_a_link_that_names_another_hash_is_found_out(
    relay: RelayForTests, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its hash is claimed; that of the event behind it proves it."""
    first, second, third = source.event(1), secret_event(source, 2), source.event(3)
    other = source.signed(9, feed=second.feed)
    path = tmp_path / "j.db"
    fields = redacted(other, reason="", time="2026-11-20T13:00:00+00:00")
    wrong = read_event(sign_fields(fields, source.key)[0])
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        for event in (first, wrong, third):
            batch.append(event, event.raw)

    assert main(["verify", path.as_uri(), "--state", str(relay.state)]) == 65

    assert "number 3" in capsys.readouterr().out


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [False, True])
def test_redact_takes_away_what_our_bridge_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, running: bool
) -> None:
    maildir, state = make_maildir(tmp_path / "Maildir"), tmp_path / "state"
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK)
    with Daemon(*words) as daemon:
        ready = daemon.ready()
        put(maildir, upload(1), "1.host")
        [event] = read_events(ready["read"], state, 1)
        redact = ["redact", event.uuid, "--reason", "asked to", "--state", str(state)]
        if running:
            assert main([*redact, "--submit", ready["submit"]]) == 0
        assert daemon.stop() == 0
    if not running:
        assert main(redact) == 0
    assert "everywhere" in capsys.readouterr().err

    url = (state / "journal.db").as_uri()
    [left] = read(url, state)
    assert left.redacted
    assert left.redacted.reason == "asked to"
    assert [e for e in left.signatures if e == event.feed.entity] if event.feed else False
    assert b"News number 1" not in b"".join(path.read_bytes() for path in state.glob("*.db*"))
    assert main(redact) == 2
    assert main(["audit", "--state", str(state)]) == 0
    # Its mail does not make it again, and a new feed does not tell it again.
    assert main(["ingest", str(maildir / "new" / "1.host"), "--state", str(state)]) == 0
    with Daemon(*words, "--new-epoch") as daemon:
        url = daemon.ready()["read"]
        put(maildir, upload(2), "2.host")
        events = read_events(url, state, 1)
        assert [event.data["source_name"] for event in events] == ["package2"]
        assert daemon.stop() == 0
    assert main(["audit", "--state", str(state)]) == 0


def test_redact_takes_away_what_others_said_here_alone(
    relay: RelayForTests, source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = secret_event(source, 1)
    relay.send(second, source.event(2))

    status = main(["redact", second.uuid, "--state", str(relay.state), "--submit", relay.submit])

    assert status == 0
    assert "alone: its source is another" in capsys.readouterr().err
    assert [bool(event.redacted) for event in read(relay.url, relay.state)] == [True, False]
    assert main(["verify", relay.url, "--state", str(relay.state)]) == 0
    # Who does not know the relay's key believes nothing of it.
    stranger = trusting(tmp_path / "stranger")
    assert main(["verify", relay.url, "--keys", str(stranger / "keys" / "trusted")]) == 77
    lines = exported(relay.url, tmp_path / "events.export")
    assert imported(lines, trusting(tmp_path / "b"), capsys)[0] == 77


def test_an_event_that_is_not_there_is_told(relay: RelayForTests) -> None:
    uuid = "7a9d2c86-4b53-5e0f-9a41-000000000000"

    assert main(["redact", uuid, "--state", str(relay.state)]) == 2
    assert main(["redact", uuid, "--reason", "two\nlines", "--state", str(relay.state)]) == 2
