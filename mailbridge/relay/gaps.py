"""
Events that came before what precedes them: they wait for it, and not for ever.

What a Lighthouse publishes comes once, and what we did not hear of a feed nobody says again; but
its source, or another relay, may give it to us.  If nobody does, the feed goes on behind a hole
that is marked as one (`feed.Hole`).  Kept in memory: a crash makes the hole a little larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from mailbridge.event import SignedEvent

WAIT: Final = 120.0
"""Seconds that an event waits for the one before: two of the heads by which a source wakes up."""

MOST: Final = 2_000
MOST_BYTES: Final = 16 * 1024 * 1024
"""What may wait at once; beyond that the feed with most of it is not waited for any longer."""


class _Gap:
    """What waits of one feed."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.events: Final[dict[int, SignedEvent]] = {}


class Gaps:
    """All that waits."""

    def __init__(self) -> None:
        self._by_feed: Final[dict[str, _Gap]] = {}
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._by_feed))

    def wait(self, event: SignedEvent, now: float) -> None:
        """Keep *event*, which has a feed, until what comes before it is there."""
        if event.feed is None:
            return
        gap = self._by_feed.setdefault(event.feed.id, _Gap(now + WAIT))
        if event.feed.seq not in gap.events:
            gap.events[event.feed.seq] = event
            self._bytes += len(event.raw)
            self._count += 1
        if self._count > MOST or self._bytes > MOST_BYTES:
            fullest = max(self._by_feed.values(), key=lambda gap: len(gap.events))
            fullest.until = -math.inf

    def next_of(self, feed: str, seq: int, now: float) -> SignedEvent | None:
        """
        Return the event of *feed* behind number *seq*, or the first one if its time is over.

        It waits no longer then, and neither does what is numbered up to *seq*.
        """
        gap = self._by_feed.get(feed)
        if gap is None:
            return None
        for old in [number for number in gap.events if number <= seq]:
            self._drop(gap, old)
        first = min(gap.events, default=None)
        if first is not None and first != seq + 1 and now < gap.until:
            return None
        if first is not None and first != seq + 1:
            # (What is missing behind this one may have been said only just now.)
            gap.until = now + WAIT
        event = None if first is None else self._drop(gap, first)
        if not gap.events:
            del self._by_feed[feed]
        return event

    def next_deadline(self) -> float:
        """Return when the time of some event is over; infinity for never."""
        return min((gap.until for gap in self._by_feed.values()), default=math.inf)

    def _drop(self, gap: _Gap, seq: int) -> SignedEvent:
        event = gap.events.pop(seq)
        self._bytes -= len(event.raw)
        self._count -= 1
        return event
