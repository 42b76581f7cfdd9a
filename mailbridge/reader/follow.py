"""
What a reader believes: events whose source signed them, in feeds that prove to be whole.

Where a feed has a hole the links in between are fetched.  A relay shows only the first of two
events that say the same, so a hidden double is no fault; a missing event is one, and so is a
double of something that nobody was given.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from fnmatch import fnmatchcase
from typing import Final

from mailbridge.errors import (
    BadInput,
    BadProof,
    BadSignature,
    MalformedEvent,
    UnknownOrigin,
)
from mailbridge.event import FeedLink, SignedEvent, VerifiedEvent, read_event
from mailbridge.feed import Hole, read_hole
from mailbridge.reader.chain import Chain, Position, Step
from mailbridge.reader.forks import forks
from mailbridge.reader.heads import Told, read_feeds
from mailbridge.reader.keys import Keys
from mailbridge.reader.patience import Patience
from mailbridge.signing import UNPROVED, Proved, proved, verify
from mailbridge.wire.read import Answer, Refused

LIMIT: Final = 500
"""Events asked for at once."""
PROOFS: Final = 16
"""Events that go along with a question at most."""

_log = logging.getLogger(__name__)


class Follow:
    """The feeds of one relay as one reader of *tags* (none: all) follows them."""

    def __init__(
        self,
        relay: Patience,
        keys: Keys,
        chain: Chain,
        *,
        tags: Sequence[str],
        unverified: bool,
    ) -> None:
        self._relay: Final = relay
        self._keys: Final = keys
        self._chain: Final = chain
        self._tags: Final = tags
        self._unverified: Final = unverified
        self.newest: Final[dict[str, bytes]] = {}
        """The signed events that stand at our newest places: our proof of what we hold."""
        self.positions: Final = chain.positions
        self.from_start = False
        """Whether all that ever was is wanted, also of feeds that we meet in their middle."""
        self.due: Final[deque[SignedEvent]] = deque()
        """Found while links were fetched, to be given before anything else is asked."""
        self.alarms: Final[list[str]] = []
        """What a person should hear of the relay, though nothing is lost by it."""
        self._filling: Final[dict[str, int]] = {}
        """The feeds of which links are fetched, with the number that is being judged."""
        self._pruned: Final[set[str]] = set()
        """Feeds of which the relay has nothing left."""
        self._proved: AbstractSet[Proved] = UNPROVED
        """Signatures of the events at hand that were checked."""
        self._kept: Final[set[str]] = set()
        """Hashes of events that are due though the relay shows them to nobody."""

    # -- what we hold ------------------------------------------------------------------------------

    def have(self) -> dict[str, list[object]]:
        """Return the newest number and hash of each feed."""
        return {feed: [at.newest.seq, at.newest.hash] for feed, at in self.positions.items()}

    def proofs(self, feeds: Sequence[str]) -> list[bytes]:
        """Return the signed events behind what `have` says of *feeds* (none: of some)."""
        wanted = feeds or list(self.newest)
        return [self.newest[feed] for feed in wanted if feed in self.newest][:PROOFS]

    # -- events as they are read -------------------------------------------------------------------

    def foresee(self, raws: Sequence[bytes]) -> list[SignedEvent | None]:
        """
        Return what each of *raws*, which `examined` will be asked about, is read as, if it can be.

        Signatures of many are checked by the way, by more than one processor.
        """
        found: list[SignedEvent | None] = []
        for raw in raws:
            try:
                found.append(read_event(raw))
            except MalformedEvent:
                # (Who comes to it says so, behind what comes before.)
                found.append(None)
        self._proved = proved([event for event in found if event], self._keys.current())
        return found

    def examined(
        self, raw: bytes, cursor: str, event: SignedEvent | None = None
    ) -> SignedEvent | None:
        """
        Return the event in *raw*, read as *event*, if it is to be shown, None if we had it.

        Raises `MalformedEvent`, `BadProof`, `BadSignature`, `UnknownOrigin`, `BadInput`.
        """
        try:
            event = self._vouched(raw, event)
        except MalformedEvent as error:
            raise MalformedEvent(f"{self._relay.url}: at {cursor[:60]}: {error}") from error
        if not self._wants(event.tag):
            raise BadInput(f"{self._relay.url}: gives {event.tag}, which was not asked for")
        if not isinstance(event, VerifiedEvent) or event.feed is None:
            return event
        return event if self._follows(event, event.feed) else None

    def _wants(self, tag: str) -> bool:
        return not self._tags or any(fnmatchcase(tag, pattern) for pattern in self._tags)

    def _vouched(self, raw: bytes, event: SignedEvent | None = None) -> SignedEvent:
        event = event or read_event(raw)
        try:
            try:
                return self._keys.vouch(event, self._proved)
            except UnknownOrigin as error:
                if self._unverified:
                    return event
                missing = error
            self._relay.until_done(lambda: self._keys.learn(self._relay.asks, missing))
            return self._keys.vouch(event)
        except BadSignature as error:
            if event.feed is None:
                raise
            raise BadProof(
                f"feed {event.feed.id[:200]}: number {event.feed.seq} was altered: {error}"
            ) from error

    def _follows(self, event: VerifiedEvent, link: FeedLink) -> bool:
        """Take *event* as the next of its feed; False where it is not new to us."""
        step = self._chain.step(event, link)
        if step is Step.SEEN:
            return False
        if step is Step.LATE:
            self._chain.fill_late(link)
            _log.warning("feed %s: number %d, which was missing, came late", link.id, link.seq)
            return True
        if step is Step.UNKNOWN:
            if not self.from_start or link.seq == 1 or not self._reach_back(link):
                self._chain.begin(event, link)
                self.newest[link.id] = event.raw
                return True
            step = self._chain.step(event, link)
        elif step is Step.HOLE:
            self.fill_hole(link.id, link.seq - 1)
            step = self._chain.step(event, link)
        if step is not Step.NEXT:
            raise BadProof(f"feed {link.id}: number {link.seq} does not fit what came before")
        self._chain.advance(event, link)
        self.newest[link.id] = event.raw
        return True

    # -- links in between --------------------------------------------------------------------------

    def catch_up(self, told: Told) -> None:
        """Fetch what there is of a feed that `read` had nothing of for us.  Raises `BadProof`."""
        if told.feed not in self.positions:
            known = told.feed.partition("/")[0] in self._keys.current()
            wanted = self.from_start and not self._tags and known and told.seq > 0
            if not wanted or told.feed in self._pruned:
                return
        elif not self._is_behind(told, self.positions[told.feed]):
            return
        self.fill_hole(told.feed, told.seq)

    def _is_behind(self, told: Told, at: Position) -> bool:
        if told.seq <= at.newest.seq:
            return False
        counts = told.signed.tags if told.signed else {}
        return not self._tags or any(
            self._wants(tag)
            and (at.whole or tag in at.newest.tags)
            and count > at.newest.tags.get(tag, 0)
            for tag, count in counts.items()
        )

    def fill_hole(self, feed: str, last: int) -> None:
        """
        Fetch the links from the anchor of *feed* up to number *last*.  Raises `BadProof`.

        What others see of them and we were not shown is due now: a relay that was restored, and
        filled again in another order, has put it behind our cursor.
        """
        known = feed in self.positions
        if not known:
            self._chain.begin_at_nothing(feed)
        try:
            self._fill_to(feed, last)
        except Refused as refused:
            if refused.code == "pruned" and not known:
                # (All of it is older than what we were given.)
                self._pruned.add(feed)
                del self.positions[feed]
                return
            wanted = self.positions[feed].anchor.seq + 1
            raise BadProof(
                f"feed {feed}: number {wanted} is missing and cannot be had: {refused}"
            ) from refused

    def told(self) -> list[Told]:
        """Ask the relay of its feeds; who contradicts himself there is an alarm, once."""
        answer = self._relay.ask("feeds", {})
        for line in forks(answer, self._keys.current(), self._relay):
            if line not in self.alarms:
                self._alarm(line)
        return read_feeds(answer.header, self._keys.current())

    def finish(self, told: Sequence[Told]) -> None:
        """
        Check all feeds to the end that the relay *told* before it was read to its end.

        What readers are not shown is included.  Raises `BadProof`.
        """
        for each in told:
            try:
                if each.feed not in self.positions:
                    self._chain.begin_at_nothing(each.feed)
                self._fill_to(each.feed, each.seq)
            except Refused as refused:
                if refused.code != "pruned":
                    raise
                # (None of it was shown, so it is older than all that was.)
                _log.warning("feed %s: not checked: %s", each.feed, refused)
                continue
            at = self.positions[each.feed].anchor
            if at.seq == each.seq and at.hash != each.hash:
                raise BadProof(f"feed {each.feed}: number {each.seq} has another hash than is told")
        for event in self.due:
            if event.feed and event.hash not in self._kept:
                raise BadProof(
                    f"feed {event.feed.id}: number {event.feed.seq} is missing: it is said to be"
                    " shown to readers, and was not"
                )

    def _reach_back(self, link: FeedLink) -> bool:
        """Follow a feed that begins above 1 here from its number 1 on; False: that is pruned."""
        self._chain.begin_at_nothing(link.id)
        try:
            self._fill_to(link.id, link.seq - 1)
        except Refused as refused:
            if refused.code != "pruned":
                raise
            _log.warning("feed %s begins at number %d here: %s", link.id, link.seq, refused)
            return False
        return True

    def _fill_to(self, feed: str, last: int) -> None:
        given = self.positions[feed].newest.tags
        try:
            while (have := self.positions[feed].anchor.seq) < last:
                answer = self._relay.ask("feed", {"feed": feed, "after": have, "limit": LIMIT})
                self._take_links(feed, last, given, answer)
                if self.positions[feed].anchor.seq == have:
                    raise BadProof(
                        f"feed {feed}: number {have + 1} is missing: {self._relay.url} shows number"
                        f" {last + 1} and cannot give what comes before"
                    )
        finally:
            self._filling.pop(feed, None)

    def _take_links(self, feed: str, last: int, given: Mapping[str, int], answer: Answer) -> None:
        """Follow *feed* by the links in *answer*; what is not *given* yet of them is due."""
        shown = answer.header.get("shown")
        links, twins = _taken_apart(answer)
        holes = self._holes(feed, answer)
        for raw in links:
            event = self._link(raw, feed)
            link = event.feed
            if link is None:
                break
            self._skip(feed, min(link.seq - 1, last), holes)
            if link.seq > last:
                return
            self._chain.fill(event, feed)
            self._filling[feed] = link.seq
            if self.positions[feed].newest.seq == link.seq:
                self.newest[feed] = raw
            if link.tag_seq <= given.get(event.tag, 0) or not self._wants(event.tag):
                continue
            if isinstance(shown, list) and link.seq in shown:
                self.due.append(event)
            elif not self._is_double(event, link, twins):
                self._kept.add(event.hash)
                self.due.append(event)

    def _holes(self, feed: str, answer: Answer) -> list[Hole]:
        """Return what the relay says of *feed* that it has not and nobody could give it."""
        told = answer.header.get("holes")
        holes = []
        for note in told if isinstance(told, list) else []:
            try:
                hole = read_hole(note if isinstance(note, dict) else {})
                self._keys.check_relay(note)
            except BadInput as error:
                raise BadProof(f"feed {feed}: what is said to be missing: {error}") from error
            if hole.feed == feed:
                holes.append(hole)
        return holes

    def _skip(self, feed: str, last: int, holes: Sequence[Hole]) -> None:
        """Go on behind what is missing of *feed* up to number *last*, if the relay admits that."""
        wanted = self.positions[feed].anchor.seq + 1
        hole = next((hole for hole in holes if hole.first <= wanted <= hole.last), None)
        if hole is None or last < wanted:
            return
        # (Its first ones may have come since; its hash is that of its last one.)
        end = min(last, hole.last)
        self._chain.skip(feed, end, hole.hash if end == hole.last else None)
        self._alarm(
            f"feed {feed}: numbers {wanted} to {end} are missing: {self._relay.url} says that"
            " nobody has them"
        )

    def _link(self, raw: bytes, feed: str) -> VerifiedEvent:
        wanted = self.positions[feed].anchor.seq + 1
        try:
            event = self._vouched(raw)
        except MalformedEvent as error:
            raise BadProof(f"feed {feed}: number {wanted} is missing: {error}") from error
        if not isinstance(event, VerifiedEvent):
            raise BadProof(f"feed {feed}: number {wanted}: nobody we know signed it")
        return event

    # -- doubles -----------------------------------------------------------------------------------

    def _is_double(self, event: VerifiedEvent, link: FeedLink, twins: dict[int, bytes]) -> bool:
        """
        Say whether *event*, which readers are not shown, says what we were given before.

        If the relay cannot show that, somebody should hear of it, and the event be given.
        """
        raw = twins.get(link.seq)
        if raw == b"":
            _log.warning(
                "feed %s: number %d: what said the same before was pruned; it is given",
                *(link.id, link.seq),
            )
            return False
        if raw is not None and self._was_given(raw, event):
            return True
        self._alarm(
            f"feed {link.id}: number {link.seq} is kept from readers, and {self._relay.url} cannot"
            " show what said the same before; it is given"
        )
        return False

    def _was_given(self, raw: bytes, event: VerifiedEvent) -> bool:
        try:
            twin = verify(read_event(raw), self._keys.current())
        except (MalformedEvent, BadSignature, UnknownOrigin) as error:
            _log.debug("no twin of %s: %s", event.uuid, error)
            return False
        same = (twin.tag, twin.uuid.lower()) == (event.tag, event.uuid.lower())
        # (Without a feed nothing proves that it was ever given.)
        if not same or twin.feed is None or twin.hash == event.hash:
            return False
        if twin.feed.id not in self.positions and not self.from_start:
            # Nothing of its feed came since we began: it is from before.
            return True
        if not self._passed(twin, twin.feed) and twin.feed.id not in self._filling:
            # A relay that was restored and filled in another order has it behind our cursor.
            self.fill_hole(twin.feed.id, twin.feed.seq)
        return self._passed(twin, twin.feed)

    def _passed(self, event: VerifiedEvent, link: FeedLink) -> bool:
        at = self.positions.get(link.id)
        # (Two that are hidden, each behind the other, would else be given by nobody.)
        if at is None or link.seq >= self._filling.get(link.id, math.inf):
            return False
        known = [
            place.tags[event.tag] for place in (at.newest, at.anchor) if event.tag in place.tags
        ]
        if known or at.whole:
            return link.tag_seq <= max(known, default=0)
        return link.seq <= at.newest.seq

    def _alarm(self, line: str) -> None:
        _log.error("%s", line)
        self.alarms.append(line)


def _taken_apart(answer: Answer) -> tuple[list[bytes], dict[int, bytes]]:
    """Return the links in the answer to `feed`, and by number what was shown in their place."""
    told = answer.header.get("twins")
    seqs = [seq for seq in told if type(seq) is int] if isinstance(told, list) else []
    begin = max(len(answer.frames) - len(seqs), 0)
    return answer.frames[:begin], dict(zip(seqs, answer.frames[begin:], strict=False))
