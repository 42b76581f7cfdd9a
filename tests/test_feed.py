"""Feeds: numbers and links that prove completeness."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.errors import MalformedEvent
from mailbridge.event import SignedEvent, canonical, read_event
from mailbridge.feed import Fit, Head, Hole, feed_id, fit, is_feed_id, read_head, read_hole

FEED = "mailbridge.lists.example.org/20261120T120000Z"


def event(tag: str, **link: Any) -> SignedEvent:
    return read_event(
        canonical(
            {
                "tag": tag,
                "uuid": "11111111-2222-5333-8444-555555555555",
                "format": "1.0",
                "time": "2026-11-20T12:00:00+00:00",
                "data": {},
                "signatures": {},
                "feed": {"id": FEED, **link},
            }
        )
    )


def following(head: Head, tag: str) -> SignedEvent:
    link = head.link(tag)
    return event(tag, seq=link.seq, prev=link.prev, tag_seq=link.tag_seq)


def test_a_feed_is_named_after_its_entity_and_the_second_its_outbox_was_made(
    noon: datetime,
) -> None:
    assert feed_id("mailbridge.lists.example.org", noon) == FEED
    assert is_feed_id(FEED)


@pytest.mark.parametrize(
    "text", ["", "a", "a/", "/20261120T120000Z", "a/2026", f"{FEED}/x", "a b/x"]
)
def test_what_is_no_feed_id_is_none(text: str) -> None:
    assert not is_feed_id(text)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12))
def test_events_that_follow_each_other_count_themselves_and_their_tag(tags: list[str]) -> None:
    head = Head(feed=FEED)
    for tag in tags:
        after = following(head, tag)
        assert fit(head, after) is Fit.NEXT
        head = head.after(after)

    assert head.seq == len(tags)
    assert head.tags == {tag: tags.count(tag) for tag in set(tags)}


def test_a_missing_event_is_a_gap() -> None:
    head = Head(feed=FEED)
    first = following(head, "a")
    second = following(head.after(first), "a")

    assert fit(head, second) is Fit.GAP


def test_a_taken_number_is_behind() -> None:
    first = following(Head(feed=FEED), "a")

    assert fit(Head(feed=FEED).after(first), first) is Fit.BEHIND


@pytest.mark.parametrize("changed", [{"prev": "x"}, {"prev": None}, {"tag_seq": 1}, {"tag_seq": 3}])
def test_another_predecessor_or_another_count_of_its_tag_is_a_fork(
    changed: dict[str, Any],
) -> None:
    head = Head(feed=FEED)
    head = head.after(following(head, "a"))
    link = head.link("a")
    right = {"seq": link.seq, "prev": link.prev, "tag_seq": link.tag_seq}

    assert fit(head, event("a", **right)) is Fit.NEXT
    assert fit(head, event("a", **{**right, **changed})) is Fit.FORK


def test_a_later_epoch_names_the_last_known_head_of_the_one_before() -> None:
    first = event("a", seq=1, prev="hash of the old head", tag_seq=1)

    assert fit(Head(feed=FEED), first) is Fit.NEXT
    assert fit(Head(feed=FEED, hash="hash of the old head"), first) is Fit.NEXT
    assert fit(Head(feed=FEED, hash="another"), first) is Fit.FORK
    assert fit(Head(feed=FEED), event("a", seq=1, prev=None, tag_seq=2)) is Fit.FORK


@pytest.mark.parametrize(("counted", "fits"), [(1, False), (2, True), (4, True), (5, False)])
def test_behind_a_hole_a_tag_counts_what_may_have_been_missing_of_it(
    counted: int, *, fits: bool
) -> None:
    head = Head(feed=FEED)
    head = head.after(following(head, "a"))

    beyond = head.beyond(Hole(feed=FEED, first=2, last=3, hash="h3"))
    after = event("a", seq=4, prev="h3", tag_seq=counted)

    assert fit(beyond, after) is (Fit.NEXT if fits else Fit.FORK)
    assert fit(beyond, event("a", seq=4, prev="x", tag_seq=2)) is Fit.FORK


def test_what_is_missing_is_counted_once() -> None:
    head = Head(feed=FEED).beyond(Hole(feed=FEED, first=1, last=2, hash="h2"))
    assert head.unknown == 2

    head = head.after(event("a", seq=3, prev="h2", tag_seq=2))
    assert (head.unknown, head.tags) == (1, {"a": 2})
    assert fit(head, event("b", seq=4, prev=head.hash, tag_seq=3)) is Fit.FORK
    head = head.after(event("b", seq=4, prev=head.hash, tag_seq=2))
    assert head.unknown == 0


def test_a_hole_reads_back() -> None:
    hole = Hole(feed=FEED, first=2, last=3, hash="h", time="2026-11-20T12:00:00+00:00")

    assert read_hole({"hole": msgspec.to_builtins(hole)}) == hole
    for changed in ({"first": 0}, {"last": 1}, {"feed": "x"}, {"hash": None}):
        with pytest.raises(MalformedEvent, match="no hole"):
            read_hole({"hole": {**msgspec.to_builtins(hole), **changed}})


def test_an_event_of_another_feed_has_no_place() -> None:
    first = following(Head(feed=FEED), "a")

    with pytest.raises(MalformedEvent, match="does not belong"):
        fit(Head(feed=FEED.replace("2026", "2027")), first)


def test_a_head_reads_back() -> None:
    head = Head(feed=FEED, seq=3, hash="h", tags={"a": 3}, time="2026-11-20T12:00:00+00:00")
    fields = {
        "feed": FEED,
        "seq": 3,
        "hash": "h",
        "tags": {"a": 3},
        "time": "2026-11-20T12:00:00+00:00",
    }

    assert read_head({"head": fields}) == head


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"head": None},
        {"head": {"seq": 1}},
        {"head": {"feed": "x"}},
        {"head": {"feed": FEED, "seq": -1}},
        {"head": {"feed": FEED, "tags": {"a": "1"}}},
    ],
)
def test_what_is_no_head_is_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvent):
        read_head(fields)
