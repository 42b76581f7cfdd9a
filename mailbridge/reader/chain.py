"""
Is that all of it?  Feeds as a reader follows them: numbers, links and counts (wire.md, The feed).

Pure: events come in, `BadProof` comes out.  Fetching what is missing is `events`' work.

Of a feed we know two places: the *anchor*, up to which every link was seen from where we began, and
the newest event that was shown.  Who reads all tags has them at one place.  Who reads some tags
jumps: `tag_seq` tells that no event of a tag was left out, and only where it does not the links
since the anchor are fetched.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from mailbridge.errors import BadProof
from mailbridge.event import FeedLink, VerifiedEvent

MAX_SHOWN: Final = 2_000
"""Events shown since the anchor whose hashes are kept; then the links between them are fetched."""


class Place(msgspec.Struct, forbid_unknown_fields=True):
    """A number of a feed with the hash that stands there, and the counts of tags known there."""

    seq: int
    hash: str | None
    tags: dict[str, int]


class Position(msgspec.Struct, forbid_unknown_fields=True):
    """How far a reader has a feed.  Kept in cursor files."""

    anchor: Place
    newest: Place
    whole: bool = False
    """Followed from number 1 on: a tag not seen yet has count 0."""
    holes: list[tuple[int, int]] = []
    """First and last numbers of what a relay said that nobody has: it may come late."""


class Step(Enum):
    """What an event means to who follows its feed."""

    NEXT = "next"
    SEEN = "seen"
    """We have its number already."""
    HOLE = "hole"
    """Something lies in between: the links from the anchor on must be fetched."""
    UNKNOWN = "unknown"
    """The first event that we see of its feed."""
    LATE = "late"
    """It was said to be missing, and we went on without it."""


class Chain:
    """All feeds that one reader follows."""

    def __init__(self, positions: dict[str, Position] | None = None, *, filtered: bool) -> None:
        self.positions: Final = positions or {}
        self._filtered: Final = filtered
        self._shown: Final[dict[str, dict[int, str]]] = {}

    def step(self, event: VerifiedEvent, link: FeedLink) -> Step:
        """Say what *event* with its *link* is to us.  Raises `BadProof` for a fork."""
        at = self.positions.get(link.id)
        if at is None:
            return Step.UNKNOWN
        newest = at.newest
        if any(first <= link.seq <= last for first, last in at.holes):
            return Step.LATE
        if link.seq <= newest.seq:
            known = newest.hash if link.seq == newest.seq else self._shown_at(link)
            if known not in (None, event.hash):
                raise _fork(link, "two events have it")
            return Step.SEEN
        counted = newest.tags.get(event.tag, 0 if at.whole else None)
        fits = counted is not None and link.tag_seq == counted + 1
        if link.seq == newest.seq + 1:
            seamless = at.anchor.seq == newest.seq
            _check(link, event, newest.hash, counted if seamless else None)
            return Step.NEXT if seamless or fits else Step.HOLE
        if self._filtered and fits and len(self._shown.get(link.id, ())) < MAX_SHOWN:
            return Step.NEXT
        return Step.HOLE

    def begin(self, event: VerifiedEvent, link: FeedLink) -> None:
        """Take *event* as the place from which its feed is followed."""
        place = Place(seq=link.seq, hash=event.hash, tags={event.tag: link.tag_seq})
        self._put(link.id, place, whole=link.seq == 1)

    def begin_at_nothing(self, feed: str) -> None:
        """Follow *feed* from before its number 1."""
        self._put(feed, Place(seq=0, hash=None, tags={}), whole=True)

    def advance(self, event: VerifiedEvent, link: FeedLink) -> None:
        """Take *event*, which `step` called the next, as shown."""
        at = self.positions[link.id]
        tags = {**at.newest.tags, event.tag: link.tag_seq}
        newest = Place(seq=link.seq, hash=event.hash, tags=tags)
        if at.anchor.seq == link.seq - 1:
            self._put(link.id, newest, whole=at.whole)
        else:
            shown = self._shown.setdefault(link.id, {})
            shown[link.seq] = event.hash
            if len(shown) > MAX_SHOWN + 1:
                # (Who cannot fetch links goes on, and must not grow by it.)
                del shown[next(iter(shown))]
            self.positions[link.id] = Position(
                anchor=at.anchor, newest=newest, whole=at.whole, holes=at.holes
            )

    def skip(self, feed: str, last: int, hashed: str | None) -> None:
        """
        Go on behind number *last* of *feed*, with the hash *hashed*.

        What is missing may have had any tag: each is counted anew.
        """
        at = self.positions[feed]
        first = at.anchor.seq + 1
        anchor = Place(seq=last, hash=hashed, tags={})
        newest = anchor if last >= at.newest.seq else at.newest
        holes = [*at.holes, (first, last)]
        self.positions[feed] = Position(anchor=anchor, newest=newest, holes=holes)
        if newest is anchor:
            self._shown.pop(feed, None)

    def fill_late(self, link: FeedLink) -> None:
        """Take the event with this *link*, which `step` called late, as shown."""
        at = self.positions[link.id]
        holes = []
        for first, last in at.holes:
            if first <= link.seq <= last:
                holes += [(first, link.seq - 1), (link.seq + 1, last)]
            else:
                holes.append((first, last))
        at.holes = [(first, last) for first, last in holes if first <= last]

    def fill(self, event: VerifiedEvent, feed: str) -> None:
        """
        Take *event*, fetched, as the link behind the anchor of *feed*.

        Raises `BadProof` where it is not.
        """
        link = event.feed
        at = self.positions[feed]
        wanted = at.anchor.seq + 1
        if link is None or link.id != feed or link.seq != wanted:
            got = f"{link.id} number {link.seq}" if link else "an event without a feed"
            raise BadProof(
                f"feed {feed}: number {wanted} is missing: {got[:200]} came in its place"
            )
        counted = at.anchor.tags.get(event.tag, 0 if at.whole else None)
        _check(link, event, at.anchor.hash, counted)
        if self._shown_at(link) not in (None, event.hash):
            raise _fork(link, "two events have it")
        anchor = Place(
            seq=link.seq, hash=event.hash, tags={**at.anchor.tags, event.tag: link.tag_seq}
        )
        if anchor.seq >= at.newest.seq:
            if anchor.seq == at.newest.seq and anchor.hash != at.newest.hash:
                raise _fork(link, "two events have it")
            self._put(feed, anchor, whole=at.whole)
        else:
            self.positions[feed] = Position(
                anchor=anchor, newest=at.newest, whole=at.whole, holes=at.holes
            )

    def _put(self, feed: str, place: Place, *, whole: bool) -> None:
        before = self.positions.get(feed)
        holes = before.holes if before else []
        self.positions[feed] = Position(anchor=place, newest=place, whole=whole, holes=holes)
        self._shown.pop(feed, None)

    def _shown_at(self, link: FeedLink) -> str | None:
        return self._shown.get(link.id, {}).get(link.seq)


def _check(link: FeedLink, event: VerifiedEvent, before: str | None, counted: int | None) -> None:
    # (Before number 1 we know nothing: a later epoch names the head of an earlier one.)
    if before is not None and link.prev != before:
        raise _fork(link, "it names another event as the one before")
    if counted is not None and link.tag_seq != counted + 1:
        told = f"it counts itself as {event.tag} number {link.tag_seq}, after {counted}"
        raise _fork(link, told)


def _fork(link: FeedLink, what: str) -> BadProof:
    return BadProof(
        f"feed {link.id[:200]}: number {link.seq}: {what}; its source contradicts itself,"
        " or its key is in two hands; keep the evidence and ask its operator"
    )
