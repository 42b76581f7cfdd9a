"""Work for two processors: what comes of it is what comes of it in a row."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from mailbridge import keyring
from mailbridge.abreast import FEW, abreast
from mailbridge.errors import BadProof, BadSignature
from mailbridge.event import SignedEvent, canonical, digest, read_event
from mailbridge.journal import Journal
from mailbridge.reader import open_events
from mailbridge.relay import JOURNAL
from mailbridge.signing import proved, unpadded, verify
from mailbridge.testing import RelayForTests
from tests.conftest import NOON
from tests.feeds import TAG, Source


def altered(event: SignedEvent) -> SignedEvent:
    """Return *event* as somebody would like it to be, with its signature."""
    return read_event(canonical({**json.loads(event.raw), "data": {"number": -1}}))


def test_results_come_in_the_order_of_what_was_asked() -> None:
    for count in (0, 1, FEW, 100):
        assert abreast(str, range(count)) == [str(number) for number in range(count)]


def test_two_threads_take_part_where_there_are_two_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    both = threading.Barrier(2, timeout=20)

    threads = set(abreast(lambda _: both.wait() >= 0 and threading.get_ident(), range(FEW)))

    assert len(threads) == 2


def test_what_fails_is_raised_whoever_met_it() -> None:
    def no_seven(number: int) -> int:
        if number == 7:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="7"):
        abreast(no_seven, range(100))
    assert abreast(no_seven, range(7)) == list(range(7))


def test_only_signatures_that_fit_are_known_to() -> None:
    source, other = Source(), Source("mailbridge.other.example.org")
    events = [*source.events(FEW), altered(source.event(99)), other.event(1)]
    trusted = {source.key.entity: source.key.verify_key}

    known = proved(events, trusted)

    assert {one.hash for one in known} == {event.hash for event in events[:FEW]}
    for event in events[:FEW]:
        assert verify(event, trusted, known=known).hash == event.hash
    with pytest.raises(BadSignature):
        verify(events[FEW], trusted, known=known)


def test_a_known_signature_is_of_its_own_bytes_and_key_alone() -> None:
    source, other = Source(), Source("mailbridge.other.example.org")
    events = source.events(FEW)
    known = proved(events, {source.key.entity: source.key.verify_key})
    fields = json.loads(events[0].raw)
    theirs = {other.key.entity: {"ed25519:0": unpadded(bytes(64))}}
    stolen = {other.key.entity: fields["signatures"][source.key.entity]}

    for signatures in (theirs, stolen):
        event = read_event(canonical({**fields, "feed": None, "signatures": signatures}))
        with pytest.raises(BadSignature):
            verify(event, {other.key.entity: other.key.verify_key}, known=known)


def test_of_what_was_taken_away_the_signature_is_always_checked() -> None:
    source = Source()
    events = source.events(FEW)
    trusted = {source.key.entity: source.key.verify_key}
    known = proved(events, trusted)
    told = json.loads(events[0].raw)
    told["data"] = {}
    told["redacted"] = {"hash": events[0].hash, "time": told["time"], "reason": ""}
    forged = read_event(canonical(told))
    assert forged.hash == events[0].hash != digest(forged.preimage)

    with pytest.raises(BadSignature):
        verify(forged, trusted, known=known)


def test_many_pages_come_in_order_each_event_once(tmp_path: Path) -> None:
    relay = RelayForTests(tmp_path)
    (source,) = relay.sources.values()
    with Journal.open(tmp_path / JOURNAL) as journal, journal.batch(NOON) as batch:
        for number in range(1_203):
            event = source.event(TAG, {"number": number})
            batch.append(event, event.raw)

    with (
        relay,
        open_events(relay.url, since="start", state=relay.state, follow=False) as events,
    ):
        found = [event.data["number"] for event in events]

    assert found == list(range(1_203))


def test_among_many_the_altered_one_is_met_behind_those_before_it(tmp_path: Path) -> None:
    source = Source()
    keyring.write_public(tmp_path / "keys" / "source.key", source.key.verify_key)
    events = source.events(40)
    with Journal.open(tmp_path / "journal.db") as journal, journal.batch(NOON) as batch:
        for event in events:
            told = altered(event).raw if event is events[30] else event.raw
            batch.append(event, told)
    url = (tmp_path / "journal.db").as_uri()
    found: list[int] = []

    with (
        open_events(url, since="start", keys=tmp_path / "keys", follow=False) as read,
        pytest.raises(BadProof, match="number 31 was altered"),
    ):
        found.extend(event.data["number"] for event in read)

    assert found == list(range(1, 31))
