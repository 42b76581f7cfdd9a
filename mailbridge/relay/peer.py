"""
Another relay of ours, asked for what we lack of feeds that we both take.

It is believed nothing: each event is judged by its source's signature and by our own policy, as if
its source had submitted it.  A page of a feed at a time, with pauses, and ever more seldom while it
does not answer.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from mailbridge.errors import BadInput
from mailbridge.event import canonical
from mailbridge.journal import Journal
from mailbridge.reader.heads import Told, read_feeds
from mailbridge.relay.read import redactions
from mailbridge.relay.submit import Answer
from mailbridge.signing import VerifyKey
from mailbridge.wire.read import Answer as Given
from mailbridge.wire.read import Inquiry, Refused
from mailbridge.wire.sockets import Context, Socket

EVERY: Final = 10.0
"""Seconds between two looks at how far a peer is."""

PATIENCE: Final = 15.0
"""Seconds that it has to answer."""

SELDOM: Final = 300.0
"""Seconds between two questions to one that does not answer, at most."""

PAUSE: Final = 0.25
"""Seconds between two pages: others have a claim to our time as well."""

LIMIT: Final = 500
"""Events of a page."""

HELD: Final = 60.0
"""Seconds after which a feed is asked for again whose key or policy did not let it in."""

REFUSED: Final = 3600.0
"""The same for one that contradicts what we have."""

_log = logging.getLogger(__name__)


class Takes(Protocol):
    """Where a peer's events and heads go: journaled, published and judged as all others."""

    def take(self, events: Sequence[bytes]) -> list[Answer]:
        """Return what became of each."""

    def take_head(self, head: bytes) -> None:
        """Keep what a source signed about how far it is."""


class _Want(NamedTuple):
    """A range of a feed that we lack."""

    feed: str
    after: int
    limit: int = LIMIT
    late: bool = False
    """What is marked as missing here already, not what is new."""


class Peer:
    """The relay whose read socket is *endpoint*."""

    kind: Final = "peer"

    def __init__(
        self,
        context: Context,
        endpoint: str,
        journal: Journal,
        keys: Callable[[], Mapping[str, VerifyKey]],
        takes: Takes,
    ) -> None:
        """Connect, now or as soon as somebody is there.  Raises `ConfigError`."""
        self.name: Final = endpoint
        self.is_up = False
        """Whether it answered when it was last asked."""
        self.was_heard = False
        self.events = 0
        """How many of its events were new to us."""
        self._journal: Final = journal
        self._keys: Final = keys
        self._takes: Final = takes
        self._inquiry: Final = Inquiry(context, endpoint, "relay.peer")
        self._wants: Final[deque[_Want]] = deque()
        self._asked: _Want | None = None
        self._deadline = math.inf
        """Until when the answer must be there; infinity: nothing is asked."""
        self._next = -math.inf
        self._failures = 0
        self._not_before: Final[dict[tuple[str, bool], float]] = {}
        """By feed, and whether what is missing of it is meant."""
        self._compared: Final[dict[str, str | None]] = {}

    @property
    def sockets(self) -> Sequence[Socket]:
        """What becomes readable when there is something to hear."""
        return (self._inquiry.socket,)

    def turn(self, now: float) -> float:
        """Take its answer, ask the next question, and return when the next turn is due."""
        try:
            answer = self._inquiry.answer()
            if answer is not None and self._deadline < math.inf:
                self._deadline = math.inf
                self._hear(answer, now)
        except Refused as refused:
            self._deadline = math.inf
            self._put_off(refused, now)
        except BadInput as error:
            self._fail(str(error), now)
        if now >= self._deadline:
            self._fail(f"{self.name} does not answer", now)
        if self._deadline == math.inf and now >= self._next:
            self._ask(now)
        return min(self._deadline, self._next) if self._deadline < math.inf else self._next

    def hurry(self, feed: str, now: float) -> None:
        """Look at once: something of *feed* is missing."""
        self._not_before.pop((feed, False), None)
        if not self._failures and not self._wants and self._deadline == math.inf:
            self._next = min(self._next, now + PAUSE)

    def close(self) -> None:
        """Close the socket at once."""
        self._inquiry.close()

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self._asked = self._wants.popleft() if self._wants else None
        if self._asked is None:
            sent = self._inquiry.ask("feeds", {})
        else:
            want = self._asked
            fields = {"feed": want.feed, "after": want.after, "limit": want.limit}
            sent = self._inquiry.ask("feed", fields)
        if sent:
            self._deadline = now + PATIENCE
        else:
            self._fail(f"{self.name} takes no question", now)

    def _fail(self, why: str, now: float) -> None:
        if self.is_up or not self._failures:
            _log.warning("%s; trying on", why)
        self.is_up = False
        self._failures += 1
        self._deadline = math.inf
        self._wants.clear()
        self._next = now + min(EVERY * 2 ** min(self._failures, 10), SELDOM)
        self._inquiry.renew()

    def _put_off(self, refused: Refused, now: float) -> None:
        begins = refused.header.get("begins")
        self._next = now + PAUSE
        if self._asked is None or self._asked.late or type(begins) is not int:
            _log.warning("%s", refused)
            if self._asked is not None:
                self._not_before[self._asked.feed, self._asked.late] = now + REFUSED
        elif begins > self._asked.after + 1:
            # (It has pruned what came before.)
            self._wants.appendleft(self._asked._replace(after=begins - 1))

    # -- answers -----------------------------------------------------------------------------------

    def _hear(self, answer: Given, now: float) -> None:
        if self._failures or not self.is_up:
            _log.info("%s answers", self.name)
        self.is_up, self.was_heard, self._failures = True, True, 0
        if self._asked is None:
            feeds = answer.header.get("feeds")
            told = read_feeds(answer.header, self._keys())
            self._wants.extend(self._lacking(told, feeds if isinstance(feeds, dict) else {}, now))
        else:
            self._take(self._asked, answer, now)
        self._next = now + (PAUSE if self._wants else EVERY)

    def _lacking(
        self, told: Sequence[Told], feeds: Mapping[str, Any], now: float
    ) -> Iterator[_Want]:
        for each in told:
            entry = feeds[each.feed]
            if each.feed.partition("/")[0] not in self._keys() or entry.get("contradicted"):
                continue
            if each.signed is not None:
                self._takes.take_head(canonical(entry["head"]))
            for want in (*self._wanted(each), *self._taken_away(each.feed, entry)):
                if now >= self._not_before.get((want.feed, want.late), -math.inf):
                    yield want

    def _wanted(self, told: Told) -> Iterator[_Want]:
        state = self._journal.heads().get(told.feed)
        have, hashed = (state.head.seq, state.head.hash) if state else (0, None)
        hole = self._journal.missing(told.feed)
        if hole and told.seq >= hole.first:
            limit = min(hole.last - hole.first + 1, LIMIT)
            yield _Want(told.feed, hole.first - 1, limit, late=True)
        if told.seq > have:
            yield _Want(told.feed, have)
        elif told.seq == have > 0 and told.hash not in (
            None,
            hashed,
            self._compared.get(told.feed),
        ):
            # The same number, and another event: that is evidence, and worth one question.
            self._compared[told.feed] = told.hash
            yield _Want(told.feed, have - 1, 1)

    def _taken_away(self, feed: str, entry: Mapping[str, Any]) -> Iterator[_Want]:
        """What their source took away there and is whole here: asked for, one by one."""
        told = entry.get("redacted")
        if isinstance(told, list) and told:
            ours = redactions(self._journal).get(feed, set())
            for seq in told:
                if type(seq) is int and seq not in ours and self._journal.hash_at(feed, seq):
                    yield _Want(feed, seq - 1, 1, late=True)

    def _take(self, want: _Want, answer: Given, now: float) -> None:
        told = answer.header.get("seqs")
        seqs = told if isinstance(told, list) else []
        if len(seqs) > len(answer.frames) or any(type(seq) is not int for seq in seqs):
            raise BadInput(f"{self.name}: an answer that does not hold together; is that a relay?")
        # (Behind the events come those that hide some of them from readers.)
        events = answer.frames[: min(len(seqs), want.limit)]
        state = self._journal.heads().get(want.feed)
        if events and seqs[0] > (state.head.seq if state else 0) + 1:
            # It lacks something itself.  What is behind that waits with us for its time.
            events = events[:1]
        answers = self._takes.take(events)
        statuses = {each.status for each in answers}
        self.events += sum(each.status == "stored" for each in answers)
        put_off = math.inf
        if not events or "gap" in statuses or "held" in statuses:
            put_off = HELD
        if "refused" in statuses:
            reason = next(each.reason for each in answers if each.status == "refused")
            _log.error("%s has a feed %s that cannot be taken: %s", self.name, want.feed, reason)
            put_off = REFUSED
        if put_off < math.inf:
            self._not_before[want.feed, want.late] = now + put_off
            return
        last = seqs[len(events) - 1]
        if answer.header.get("more") is True and last > want.after and not want.late:
            self._wants.appendleft(want._replace(after=last))
