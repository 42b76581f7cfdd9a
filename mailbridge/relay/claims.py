"""Feeds of which a reader holds more, or other events, than the relay: an old backup came back."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mailbridge.errors import BadSignature, MalformedEvent, UnknownOrigin
from mailbridge.event import read_event
from mailbridge.journal import Journal
from mailbridge.relay.gate import Gate
from mailbridge.signing import verify

SPEAK_EVERY: Final = 10.0
"""Seconds between two log lines that a stranger can cause."""

PROOFS: Final = 64
"""Signed events looked at for one question."""

_log = logging.getLogger(__name__)


class Claim(NamedTuple):
    """A number of a feed and the hash that a reader has verified there."""

    seq: int
    hash: str


Have = Mapping[str, tuple[int, str | None]]
"""What a reader says that it holds: of each feed the newest number, and the hash there."""


class Claims:
    """
    The feeds that are not served, each with what a reader holds.

    If the source sends again up to there, and it is the same, the feed is served on.  Kept in
    memory only: after a restart readers say so again, if it is still so.
    """

    def __init__(self, journal: Journal, gate: Gate) -> None:
        self._journal: Final = journal
        self._gate: Final = gate
        self._by_feed: Final[dict[str, Claim]] = {}
        self._silent_until = -math.inf
        """Whoever contradicts us without proof must not fill the log with it."""

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._by_feed))

    def get(self, feed: str) -> Claim | None:
        """Return what a reader holds of *feed* against us, or None."""
        return self._by_feed.get(feed)

    def compare(self, have: Have, proofs: Sequence[bytes], now: float) -> list[str]:
        """
        Return the feeds of which a reader says that it holds more, or something else.

        Those of them for which the signed event is among *proofs* are served to nobody from now
        on.  A word alone stops nothing, wherever it comes from: anybody could make a number up.
        """
        wrong = {
            feed: Claim(seq, held)
            for feed, (seq, held) in have.items()
            if held and self._contradicts(feed, seq, held)
        }
        if wrong:
            proved = set(map(self._signed, proofs[:PROOFS]))
            for feed, claim in wrong.items():
                if (feed, *claim) in proved:
                    self._add(feed, claim)
                elif now >= self._silent_until:
                    self._silent_until = now + SPEAK_EVERY
                    _log.warning(
                        "a reader contradicts feed %s at %d, without proof", feed, claim.seq
                    )
        return list(wrong)

    def met(self, feed: str, seq: int) -> None:
        """Serve *feed* again if number *seq*, now journaled and no fork, is what a reader holds."""
        if feed in self._by_feed and self._by_feed[feed].seq == seq:
            del self._by_feed[feed]
            _log.warning("feed %s is served again: its source sent what was missing", feed)

    def _contradicts(self, feed: str, seq: int, held: str) -> bool:
        state = self._journal.heads().get(feed)
        if state is None or seq < 1:
            return False
        # (What is missing here is known to be: nobody contradicts that.)
        return seq > state.head.seq or self._journal.hash_at(feed, seq) not in (None, held)

    def _signed(self, raw: bytes) -> tuple[str, int, str] | None:
        """Return the feed, number and hash that its own source signed in *raw*."""
        try:
            event = verify(read_event(raw), self._gate.keys())
        except (BadSignature, UnknownOrigin, MalformedEvent) as error:
            _log.debug("a reader's proof is none: %s", error)
            return None
        link = event.feed
        return (link.id, link.seq, event.hash) if link else None

    def _add(self, feed: str, claim: Claim) -> None:
        if feed not in self._by_feed:
            _log.error(
                "feed %s is not served any more: a reader holds its number %d as %s, this journal"
                " goes to %d and does not agree; was an old backup restored?",
                *(feed, claim.seq, claim.hash, self._journal.heads()[feed].head.seq),
            )
        if claim.seq >= self._by_feed.get(feed, claim).seq:
            self._by_feed[feed] = claim
