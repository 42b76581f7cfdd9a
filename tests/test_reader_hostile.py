"""Relays that lie, garble, withhold or hang: what a reader makes of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from mailbridge import keyring
from mailbridge.errors import BadInput, BadProof, MalformedEvent, UnknownOrigin
from mailbridge.event import SignedEvent, canonical, read_event
from mailbridge.reader import listen, open_events
from mailbridge.wire import read as wire_read
from mailbridge.wire.read import Refused
from tests.feeds import Source
from tests.hostile import Answers, Gives, HostileRelay, Request, header

CLOSED = "_lk.mailbridge.bug-closed"
UPLOAD = "_lk.mailbridge.package-upload-accepted"
FEED = "mailbridge.lists.example.org/20261120T120000Z"


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def keys(tmp_path: Path, source: Source) -> Path:
    directory = tmp_path / "trusted"
    keyring.write_public(directory / "a.key", source.key.verify_key)
    return directory


def read(answers: Answers, count: int, keys: Path | None, **options: Any) -> list[int]:
    options = {"since": "start", "timeout": 20, "keys": keys, **options}
    with HostileRelay(answers) as relay:
        events = listen(relay.url, **options)
        return [event.data["number"] for event in islice(events, count)]


def altered(event: SignedEvent, **changed: Any) -> SignedEvent:
    return read_event(canonical(json.loads(event.raw) | changed))


# -- events ----------------------------------------------------------------------------------------


def test_this_test_relay_is_believed_when_it_is_honest(source: Source, keys: Path) -> None:
    assert read(Gives(source.events(3)), 3, keys) == [1, 2, 3]


@pytest.mark.fault(62)
def test_an_altered_event_is_named(source: Source, keys: Path) -> None:
    one, two, three = source.events(3)
    shown = [one, altered(two, data={"number": 7}), three]

    with pytest.raises(BadProof, match=rf"feed {FEED}: number 2 was altered"):
        read(Gives(shown), 3, keys)


@pytest.mark.fault(62)
def test_a_withheld_event_is_named(source: Source, keys: Path) -> None:
    one, _, three = source.events(3)

    with pytest.raises(BadProof, match=rf"feed {FEED}: number 2 is missing"):
        read(Gives([one, three]), 3, keys)


@pytest.mark.fault(62)
def test_what_is_withheld_from_a_reader_of_some_tags_is_named(source: Source, keys: Path) -> None:
    one = source.event(1)
    source.event(2)
    upload = source.event(3, UPLOAD)
    four = source.event(4)

    with pytest.raises(BadProof, match="number 2 is missing"):
        read(Gives([one, four], links=[one, upload, four]), 3, keys, tags=[CLOSED])


@pytest.mark.fault(62)
def test_a_link_in_the_wrong_place_does_not_fill_a_hole(source: Source, keys: Path) -> None:
    one, two, three, four = source.events(4)

    with pytest.raises(BadProof, match=r"number 2 is missing: .* number 3 came"):
        read(Gives([one, four], links=[three, two]), 4, keys)


@pytest.mark.fault(62)
def test_an_altered_link_does_not_fill_a_hole(source: Source, keys: Path) -> None:
    one, two, three = source.events(3)

    with pytest.raises(BadProof, match="number 2 was altered"):
        read(Gives([one, three], links=[altered(two, data={})]), 3, keys)


def test_a_link_of_another_source_does_not_fill_a_hole(source: Source, keys: Path) -> None:
    one, _, three = source.events(3)
    other = Source("mailbridge.other.example.org").events(3)[1]

    def feed(request: Request) -> Sequence[bytes]:
        return [header(request), other.raw]

    gives = Gives([one, three])
    gives.feed = feed  # type: ignore[method-assign]
    with pytest.raises(UnknownOrigin):
        read(gives, 3, keys)


def test_endless_links_that_lead_nowhere_are_an_end(source: Source, keys: Path) -> None:
    one, _, three = source.events(3)
    gives = Gives([one, three])
    gives.feed = lambda request: [header(request, more=True)]  # type: ignore[method-assign]

    with pytest.raises(BadProof, match="number 2 is missing"):
        read(gives, 3, keys)


@pytest.mark.fault(63)
def test_a_fork_of_the_source_itself_is_named(source: Source, keys: Path) -> None:
    twin = Source()
    one = source.event(1)
    twin.event(1)
    two, other_two, other_three = source.event(2), twin.event(22), twin.event(23)

    with pytest.raises(BadProof, match="number 3: it names another event"):
        read(Gives([one, two, other_three]), 3, keys)
    with pytest.raises(BadProof, match="number 2: two events have it"):
        read(Gives([one, two, other_two]), 3, keys)


def test_a_tag_that_is_counted_wrongly_is_a_fork(source: Source, keys: Path) -> None:
    one = source.event(1)
    link = source.head.link(CLOSED)
    two = source.signed(
        2, feed={"id": link.id, "seq": 2, "prev": link.prev, "tag_seq": link.tag_seq + 1}
    )

    with pytest.raises(BadProof, match="number 2: it counts itself"):
        read(Gives([one, two]), 2, keys)


@pytest.mark.fault(63)
def test_a_fork_is_found_though_the_one_side_was_jumped_over(source: Source, keys: Path) -> None:
    """Both sides of a fork are signed; what was shown of the one is not in the other's chain."""
    twin = Source()
    one, _, three = source.event(1), source.event(2, UPLOAD), source.event(3)
    twin.event(1)
    others = [twin.event(22, UPLOAD), twin.event(23), twin.event(24), twin.event(25)]
    gives = Gives([one, three, others[-1]], links=[one, *others])

    with pytest.raises(BadProof, match="number 3: two events have it"):
        read(gives, 3, keys, tags=["*.bug-*"])


@pytest.mark.fault(62)
def test_events_again_and_out_of_order_are_not_given_twice(source: Source, keys: Path) -> None:
    one, two, three = source.events(3)

    assert read(Gives([one, two, one, two, two, three]), 3, keys) == [1, 2, 3]


def test_a_tag_that_was_not_asked_for_is_not_taken(source: Source, keys: Path) -> None:
    with pytest.raises(BadInput, match="not asked for"):
        read(Gives([source.event(1, UPLOAD)]), 1, keys, tags=["*.bug-*"])


@pytest.mark.parametrize("raw", [b"", b"7", b"{}", b"\xff", b'{"a":' * 9999, b'{"a":NaN}'])
def test_what_is_no_event_ends_the_reading(keys: Path, raw: bytes) -> None:
    def answers(request: Request) -> Sequence[bytes]:
        return [header(request, cursors=["0123abcd-1"], head="0123abcd-1", more=False), raw]

    with pytest.raises(MalformedEvent):
        read(answers, 1, keys)


# -- doubles ---------------------------------------------------------------------------------------


OTHER = "mailbridge.other.example.org"


@pytest.fixture
def both_keys(keys: Path) -> Path:
    keyring.write_public(keys / "b.key", Source(OTHER).key.verify_key)
    return keys


def test_a_double_of_what_was_given_is_hidden_rightly(source: Source, both_keys: Path) -> None:
    first, *_ = source.events(1)
    other = Source(OTHER)
    again, more = other.event(101, uuid_of=1), other.event(102)

    gives = Gives([first, more], links=[first, again, more])
    with HostileRelay(gives) as relay:
        events = open_events(relay.url, since="start", timeout=20, keys=both_keys)
        with events:
            assert [event.data["number"] for event in islice(events, 2)] == [1, 102]
            assert events.alarms == []


@pytest.mark.fault(62)
@pytest.mark.parametrize(
    "twin",
    ["none", "no event", "itself", "another uuid", "no feed", "altered", "a stranger's"],
)
def test_what_is_hidden_as_the_double_of_nothing_is_an_alarm_and_given(
    source: Source, both_keys: Path, caplog: pytest.LogCaptureFixture, twin: str
) -> None:
    """Else a relay could keep any event from its readers and say that they had it."""
    one, two, three = source.events(3)
    other = Source(OTHER)
    told = {
        "none": None,
        "no event": b"7",
        "itself": two.raw,
        "another uuid": other.event(9).raw,
        "no feed": other.signed(8, uuid_of=2).raw,
        "altered": altered(other.event(8, uuid_of=2), data={}).raw,
        "a stranger's": Source("mailbridge.third.example.org").event(8, uuid_of=2).raw,
    }[twin]
    gives = Gives([one, three], links=[one, two, three])
    gives.twin = lambda event: told if event is two else None  # type: ignore[method-assign]

    with HostileRelay(gives) as relay:
        events = open_events(relay.url, since="start", timeout=20, keys=both_keys)
        with events:
            assert [event.data["number"] for event in islice(events, 3)] == [1, 2, 3]
            [alarm] = events.alarms
    assert f"feed {FEED}: number 2 is kept from readers" in alarm
    assert alarm in caplog.text


@pytest.mark.fault(62)
def test_two_doubles_that_each_stand_for_the_other_are_given(
    source: Source, both_keys: Path
) -> None:
    """Both are signed and say the same, and a relay shows neither."""
    other = Source(OTHER)
    one, hidden, three = source.events(3)
    first, also_hidden, third = other.event(101), other.event(102, uuid_of=2), other.event(103)
    shown = [one, first, three, third]
    gives = Gives(shown, links=[one, hidden, three, first, also_hidden, third])
    twins = {hidden.hash: also_hidden.raw, also_hidden.hash: hidden.raw}
    gives.twin = lambda event: twins.get(event.hash)  # type: ignore[method-assign]

    with HostileRelay(gives) as relay:
        events = open_events(relay.url, since="start", timeout=20, keys=both_keys)
        with events:
            given = [event.data["number"] for event in islice(events, 5)]
            assert len(events.alarms) == 1
    assert sorted(given) == [1, 3, 101, 102, 103]


def test_a_double_of_what_was_pruned_is_given(
    source: Source, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = source.events(3)
    gives = Gives([one, three], links=[one, two, three])
    gives.twin = lambda event: b"" if event is two else None  # type: ignore[method-assign]

    assert read(gives, 3, keys) == [1, 2, 3]
    assert "was pruned; it is given" in caplog.text


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "frames"),
    [
        ({"cursors": ["0123abcd-1"] * 2}, [b"{}"]),
        ({}, [b"{}"]),
        ({"cursors": [1]}, [b"{}"]),
        ({"cursors": "x"}, [b"{}"]),
        ({"cursors": [], "head": None}, []),
        ({"cursors": [], "head": 5}, []),
        ({}, [b""] * 5000),
        ({}, [b"x" * 900_000] * 9),
    ],
)
def test_an_answer_that_does_not_hold_together_ends_the_reading(
    keys: Path, said: dict[str, Any], frames: list[bytes]
) -> None:
    with pytest.raises(BadInput, match="is that a relay"):
        read(lambda request: [header(request, **said), *frames], 1, keys)


@pytest.mark.parametrize("frame", [b"", b"7", b"[" * 99999, b'{"id":1,"id":1}'])
def test_an_answer_without_a_header_ends_the_reading(keys: Path, frame: bytes) -> None:
    with pytest.raises(BadInput, match="without a header"):
        read(lambda _: [frame], 1, keys)


def test_the_late_answer_to_another_question_is_not_taken_for_this_one(
    source: Source, keys: Path
) -> None:
    right, wrong = source.events(1), Source().events(3)
    honest = Gives(right)

    with HostileRelay(honest) as relay:

        def both(request: Request) -> Sequence[bytes] | None:
            late = dict(request, id="another")
            relay._socket.send_multipart([relay.peer, *(Gives(wrong)(late) or ())])
            return honest(request)

        relay.answer_with(both)
        events = listen(relay.url, keys=keys, since="start", timeout=20)
        assert next(events).data == {"number": 1}


def test_a_question_that_gets_no_answer_is_asked_again(
    source: Source, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbridge.reader.patience.GRACE", 0.1)
    gives, silences = Gives(source.events(1)), iter([None, None])

    assert read(lambda request: next(silences, gives(request)), 1, keys) == [1]


def test_a_relay_that_is_busy_is_asked_again(
    source: Source, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbridge.reader.patience.BUSY", 0.01)
    gives, refusals = Gives(source.events(1)), iter([1, 2])

    def answers(request: Request) -> Sequence[bytes] | None:
        if next(refusals, None):
            return [header(request, error="busy", reason="too many readers")]
        return gives(request)

    assert read(answers, 1, keys) == [1]


def test_a_relay_that_a_reader_contradicts_is_not_believed(keys: Path) -> None:
    def answers(request: Request) -> Sequence[bytes]:
        return [header(request, error="contradicted", reason=f"feed {FEED} is not served")]

    with pytest.raises(BadProof, match=f"feed {FEED} is not served"):
        read(answers, 1, keys)


def test_a_relay_that_a_reader_contradicts_is_shown_the_signed_event(
    source: Source, keys: Path
) -> None:
    """From elsewhere a number alone convinces no relay: any stranger can make one up."""
    events = source.events(2)
    gives = Gives(events)

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["have"].get(FEED, [0])[0] == 2:
            return [header(request, error="contradicted", reason=f"feed {FEED}")]
        return gives(request)

    with HostileRelay(answers) as relay:
        reading = listen(relay.url, keys=keys, since="start", timeout=20)
        with pytest.raises(BadProof):
            list(reading)

        assert relay.proofs[-2:] == [[], [events[1].raw]]


def test_a_refusal_is_told_in_the_relays_words_on_one_line(keys: Path) -> None:
    def answers(request: Request) -> Sequence[bytes]:
        return [header(request, error="x" * 999, reason="no\n\x1b[31mway" + "!" * 9999)]

    with pytest.raises(Refused) as caught:
        read(answers, 1, keys)
    assert len(str(caught.value)) < 700


def test_what_a_reader_holds_is_told_with_every_question(source: Source, keys: Path) -> None:
    events = source.events(2)

    with (
        HostileRelay(Gives(events)) as relay,
        open_events(relay.url, keys=keys, since="start") as reading,
    ):
        next(reading)
        next(reading)
        reading.stop()
        assert next(reading, None) is None
        with open_events(relay.url, keys=keys, since="now", timeout=20) as other:
            other._feeds.positions.update(reading._feeds.positions)
            other._fetch()

        assert relay.asked[-1]["have"] == {FEED: [2, events[1].hash]}


# -- keys ------------------------------------------------------------------------------------------


def test_keys_that_a_relay_did_not_sign_are_not_believed(source: Source, tmp_path: Path) -> None:
    """Else whoever sits in between could add a source of his own to the answer."""
    gives = Gives(source.events(1), sources=[source.key])

    def unsigned(request: Request) -> Sequence[bytes] | None:
        if request["op"] != "keys":
            return gives(request)
        told = json.loads(gives.keys(request)[0])
        del told["signatures"]
        return [canonical(told)]

    with pytest.raises(BadInput, match="cannot say who it is"):
        read(unsigned, 1, None, state=tmp_path, pin=gives.key.verify_key.fingerprint)


def test_signed_keys_of_an_earlier_answer_are_not_believed(source: Source, tmp_path: Path) -> None:
    gives = Gives(source.events(1), sources=[source.key])

    def replayed(request: Request) -> Sequence[bytes] | None:
        if request["op"] != "keys":
            return gives(request)
        old = json.loads(gives.keys(dict(request, id="earlier"))[0])
        return [canonical(old | {"id": request["id"]})]

    with pytest.raises(BadInput, match="does not fit"):
        read(replayed, 1, None, state=tmp_path, pin=gives.key.verify_key.fingerprint)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"relay": [], "sources": {}},
        {"relay": {}, "sources": {}},
        {"relay": {"a": "x"}, "sources": {}},
        {"relay": {"a": 1}, "sources": {}},
        {"relay": {"../a": "A" * 43}, "sources": {}},
    ],
    ids=str,
)
def test_odd_keys_of_a_relay_are_an_error_in_one_line(
    source: Source, tmp_path: Path, told: dict[str, Any]
) -> None:
    gives = Gives(source.events(1))

    def answers(request: Request) -> Sequence[bytes] | None:
        return [header(request, **told)] if request["op"] == "keys" else gives(request)

    with pytest.raises(BadInput, match="cannot say who it is"):
        read(answers, 1, None, state=tmp_path, pin="SHA256:x")


def test_a_relay_that_takes_connections_and_hangs_up_is_not_stormed(
    source: Source,
) -> None:
    with HostileRelay(Gives(source.events(1))) as relay, wire_read.Asker(relay.url) as asker:
        asker._failures = 9
        asker.stop()

        # (It would pause before it connects: a pause that can be stopped.)
        with pytest.raises(wire_read.Stopped):
            asker.ask("read", {})
        assert relay.asked == []


# -- heads -----------------------------------------------------------------------------------------


@pytest.mark.fault(61)
def test_a_relay_behind_what_its_source_signed_is_told_of_when_it_stays_so(
    source: Source, keys: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once is the way of things: the source may be sending still."""
    monkeypatch.setattr("mailbridge.reader.events.LOOK_EVERY", 0.0)
    events = source.events(3)
    signed = json.loads(source.signed_head())
    gives = Gives(events[:2])
    looked: list[int] = []

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["op"] == "feeds":
            looked.append(len(caplog.records))
            entry = {"seq": 2, "hash": events[1].hash, "head": signed}
            return [header(request, feeds={FEED: entry})]
        if request["wait"] and len(looked) == 3:
            gives.shown = events
        return gives(dict(request, wait=0))

    assert read(answers, 3, keys) == [1, 2, 3]
    assert looked == [0, 0, 1]
    assert "its source has 3 events, only 2 are shown" in caplog.text


@pytest.mark.parametrize("feeds", [None, [], {"x": {}}, {FEED: []}, {FEED: {"seq": "1"}}])
def test_feeds_that_are_none_end_the_reading(
    source: Source, keys: Path, monkeypatch: pytest.MonkeyPatch, feeds: object
) -> None:
    monkeypatch.setattr("mailbridge.reader.events.LOOK_EVERY", 0.0)
    gives = Gives(source.events(1))

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["op"] == "feeds":
            return [header(request, feeds=feeds)]
        return gives(dict(request, wait=0))

    with pytest.raises(BadInput, match="is that a relay"):
        read(answers, 2, keys)
