"""Feeds of which a reader holds more, or other events, than the relay: an old backup came back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final, NamedTuple

_log = logging.getLogger(__name__)


class Claim(NamedTuple):
    """A number of a feed and the hash that a reader has verified there."""

    seq: int
    hash: str


class Claims:
    """
    The feeds that are not served, each with what a reader holds.

    If the source sends again up to there, and it is the same, the feed is served on.  Kept in
    memory only: after a restart readers say so again, if it is still so.
    """

    def __init__(self) -> None:
        self._by_feed: Final[dict[str, Claim]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._by_feed))

    def get(self, feed: str) -> Claim | None:
        """Return what a reader holds of *feed* against us, or None."""
        return self._by_feed.get(feed)

    def add(self, feed: str, claim: Claim, there: int) -> None:
        """Stop serving *feed*, which we have up to number *there*."""
        if feed not in self._by_feed:
            _log.error(
                "feed %s is not served any more: a reader holds its number %d as %s, this journal"
                " goes to %d and does not agree; was an old backup restored?",
                feed,
                claim.seq,
                claim.hash,
                there,
            )
        if claim.seq >= self._by_feed.get(feed, claim).seq:
            self._by_feed[feed] = claim

    def met(self, feed: str, seq: int) -> None:
        """Serve *feed* again if number *seq*, now journaled and no fork, is what a reader holds."""
        if feed in self._by_feed and self._by_feed[feed].seq == seq:
            del self._by_feed[feed]
            _log.warning("feed %s is served again: its source sent what was missing", feed)
