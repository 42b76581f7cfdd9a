"""
Events as they come, verified and followed: one iterator over what a relay or a journal gives.

It asks for what comes after its cursor, waits there, and goes on where it was when the relay comes
back.  Where a feed has a hole it fetches the links in between: a relay shows only the first of two
events that say the same, so a hidden double is no fault, and a missing one is.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

from mailbridge.errors import (
    BadInput,
    BadProof,
    BadSignature,
    MalformedEvent,
    TryAgain,
    UnknownOrigin,
    UsageError,
)
from mailbridge.event import FeedLink, SignedEvent, VerifiedEvent, read_event
from mailbridge.reader.chain import Chain, Step
from mailbridge.reader.heads import Told, Withheld, read_feeds
from mailbridge.reader.keys import Keys
from mailbridge.reader.local import JournalAsker
from mailbridge.reader.place import CursorFile, Start
from mailbridge.signing import verify
from mailbridge.wire.read import GRACE, Answer, Asker, Asks, Refused, Silence, Stopped

WAIT: Final = 30.0
"""Seconds that a question waits at the relay for something new."""
LIMIT: Final = 500
"""Events asked for at once."""

HEADS_EVERY: Final = 60.0
"""Seconds of quiet after which the sources' signed heads are looked at."""
PROOFS: Final = 16
"""Events that go along with a question at most."""
BUSY: Final = 1.0
"""Seconds after which a relay that is busy is asked again."""

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


def asks_of(url: str) -> Asks:
    """Return what answers for *url*: `tcp://…`, `ipc://…` or `file:///…/journal.db`."""
    if url.startswith(("tcp://", "ipc://")):
        return Asker(url)
    if url.startswith("file:///"):
        return JournalAsker(Path(unquote(urlsplit(url).path)))
    raise UsageError(f"{url[:200]!r}: expected tcp://HOST:PORT or file:///PATH/journal.db")


class Events(Iterator[SignedEvent]):
    """
    The events of *url* whose tags fit one of *tags* (none: all), from *since* on.

    Each is a `VerifiedEvent`, but for those of unknown origin where *unverified* lets them pass.
    What *cursor_file* remembers goes before *since*; it is written when an event was `handled`,
    which asking for the next one implies.

    Iterating raises `UnknownOrigin`, `BadProof` for what a feed does not prove, `Refused` where the
    relay cannot go on from here, `TryAgain` when *timeout* seconds are over, `StorageFailed`.
    A relay that is away is waited for.  Without *follow* it is not (`TryAgain`), and the iteration
    ends where nothing more is there yet.
    """

    def __init__(  # noqa: PLR0913 - the options of `tail`, one by one
        self,
        url: str,
        keys: Keys,
        *,
        tags: Sequence[str] = (),
        since: Start = "now",
        cursor_file: Path | None = None,
        timeout: float | None = None,
        unverified: bool = False,
        follow: bool = True,
    ) -> None:
        self._url: Final = url
        self._keys: Final = keys
        self._tags: Final = () if "*" in tags else tuple(tags)
        self._since: Final = since
        self._unverified: Final = unverified
        self._follow: Final = follow
        self._deadline: Final = None if timeout is None else time.monotonic() + timeout
        self._file: Final = CursorFile(cursor_file, self._tags) if cursor_file else None
        there = self._file.load() if self._file else None
        self._chain: Final = Chain(there.feeds if there else None, filtered=bool(self._tags))
        self._cursor = there.cursor if there else None
        self._from_start = there is None and since == "start"
        self._begun = there is not None
        self._unstored = False
        self._away = True  # until something was answered: the first question does not wait
        self._told_away = False
        self._met = False
        self._more = True
        self._page: Final[deque[tuple[str, bytes]]] = deque()
        self._due: Final[deque[SignedEvent]] = deque()
        """To be given before anything else is asked; then we are behind `_reached`."""
        self._reached = self._cursor
        self._newest: Final[dict[str, bytes]] = {}
        self._contradicted = False
        self._closed = False
        self._withheld: Final = Withheld()
        self._looked = time.monotonic()
        self._asks: Final = asks_of(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def answered(self) -> bool:
        """Whether the relay was there when it was last asked."""
        return not self._away

    @property
    def cursor(self) -> str | None:
        """Behind what was given last; None before the first."""
        return self._cursor

    def __next__(self) -> SignedEvent:
        self.handled()
        while not self._closed:
            if self._due:
                event = self._due.popleft()
                if not self._due:
                    self._cursor = self._reached
                self._unstored = True
                return event
            try:
                if not self._page:
                    if not (self._more or self._follow):
                        break
                    self._fetch()
                    continue
                cursor, raw = self._page[0]
                found = self._examined(raw, cursor)
            except Stopped:
                break
            self._page.popleft()
            self._reached = cursor
            self._unstored = True
            if found is not None:
                self._due.append(found)
            if not self._due:
                self._cursor = cursor
        raise StopIteration

    def handled(self) -> None:
        """Remember that the event given last needs not be given again."""
        if self._due:
            # (Our places in the feeds are behind these already.)
            return
        if self._unstored and self._file:
            self._file.store(self._cursor, self._chain.positions)
        self._unstored = False

    def finish(self) -> list[Told]:
        """
        Check all feeds to the end that the relay tells, what readers are not shown included.

        Return what it tells.  Raises `BadProof`.
        """
        told = read_feeds(self._ask("feeds", {}).header, self._keys.current())
        for each in told:
            try:
                if each.feed not in self._chain.positions:
                    self._chain.begin_at_nothing(each.feed)
                self._fill_to(each.feed, each.seq)
            except Refused as refused:
                if refused.code != "pruned":
                    raise
                # (None of it was shown, so it is older than all that was.)
                _log.warning("feed %s: not checked: %s", each.feed, refused)
                continue
            at = self._chain.positions[each.feed].anchor
            if at.seq == each.seq and at.hash != each.hash:
                raise BadProof(f"feed {each.feed}: number {each.seq} has another hash than is told")
        return told

    def stop(self) -> None:
        """End the iteration, also one that waits.  Any thread may call it."""
        self._asks.stop()

    def close(self) -> None:
        """Give everything back.  What was not `handled` is given again by the next reader."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._file:
                self._file.close()
        finally:
            self._asks.close()

    # -- asking ------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        if not self._met:
            self._patiently(lambda: self._keys.meet(self._asks))
            self._met = True
        if not self._begun:
            self._begin()
        if self._file and not self._more:
            self.handled()
            self._file.settle()
        fields = {
            "after": self._cursor,
            "tags": list(self._tags),
            "limit": LIMIT,
            "have": {
                feed: [at.newest.seq, at.newest.hash] for feed, at in self._chain.positions.items()
            },
        }
        # (A stranger could silence a feed with a number he made up: so the event goes along.)
        proofs = list(self._newest.values())[:PROOFS] if self._contradicted else []
        try:
            answer = self._ask("read", fields, wait=0.0 if self._more else WAIT, proofs=proofs)
        except Refused as refused:
            self._go_on_after(refused)
            return
        self._page.extend(zip(self._cursors(answer), answer.frames, strict=True))
        more = answer.header.get("more") is True
        # (Who does not follow must see for himself that nothing more is there.)
        self._more = more or (bool(answer.frames) and not self._follow)
        if not answer.frames:
            # (Nothing up to there was for us: the next question need not look at it again.)
            self._move(answer.header.get("head"))
            self._look_at_heads()

    def _look_at_heads(self) -> None:
        """Tell quiet from withheld, once in a while.  Raises `BadProof`."""
        if not self._follow or time.monotonic() - self._looked < HEADS_EVERY:
            return
        told = read_feeds(self._ask("feeds", {}).header, self._keys.current())
        for line in self._withheld.look(told):
            _log.warning("%s: %s", self._url, line)
        self._looked = time.monotonic()
        for each in told:
            if self._behind(each):
                self._fill_hole(each.feed, each.seq)

    def _behind(self, told: Told) -> bool:
        """Say whether there is something of a feed that `read` had nothing of for us."""
        at = self._chain.positions.get(told.feed)
        if at is None or told.seq <= at.newest.seq:
            return False
        counts = told.signed.tags if told.signed else {}
        return not self._tags or any(
            self._wants(tag)
            and (at.whole or tag in at.newest.tags)
            and count > at.newest.tags.get(tag, 0)
            for tag, count in counts.items()
        )

    def _begin(self) -> None:
        if self._since == "now":
            head = self._ask("read", {"after": None, "tags": [], "limit": 1}).header.get("head")
            self._move(head)
        elif isinstance(self._since, datetime):
            self._move(self._ask("at", {"time": self._since.isoformat()}).header.get("cursor"))
        elif self._since != "start":
            self._cursor = self._since
        self._begun = True
        if self._file:
            # A reader that ends before the first event goes on from here, not from another "now".
            self._file.store(self._cursor, self._chain.positions)

    def _move(self, cursor: object) -> None:
        if not isinstance(cursor, str):
            raise BadInput(f"{self._url}: an answer without a cursor; is that a relay?")
        if cursor != self._cursor:
            self._cursor = self._reached = cursor
            self._unstored = True

    def _cursors(self, answer: Answer) -> list[str]:
        cursors = answer.header.get("cursors")
        if (
            not isinstance(cursors, list)
            or len(cursors) != len(answer.frames)
            or not all(isinstance(cursor, str) for cursor in cursors)
        ):
            raise BadInput(f"{self._url}: an answer without its cursors; is that a relay?")
        return cursors

    def _go_on_after(self, refused: Refused) -> None:
        """Begin again at the journal's beginning where feed positions tell what we have."""
        if refused.code == "contradicted":
            if self._newest and not self._contradicted:
                self._contradicted = True
                return
            raise BadProof(f"{refused}; nothing is read until its operator has mended it")
        if refused.code not in ("wrong-journal", "pruned") or not self._chain.positions:
            raise refused
        if self._cursor is None:
            raise refused
        _log.warning("%s; going on from what is known of its feeds", refused)
        self._cursor = None
        self._from_start = True
        self._more = True

    def _ask(
        self,
        op: str,
        fields: Mapping[str, object],
        *,
        wait: float = 0.0,
        proofs: Sequence[bytes] = (),
    ) -> Answer:
        def once() -> Answer:
            left = self._left()
            patience = 0.0 if self._away else min(wait, left)
            grace = min(GRACE, max(left - patience, 0.05))
            return self._asks.ask(op, fields, wait=patience, grace=grace, proofs=proofs)

        return self._patiently(once)

    def _patiently(self, act: Callable[[], _T]) -> _T:
        """Return what *act* returns, once the relay answers."""
        while True:
            self._left()
            try:
                done = act()
            except Silence as silence:
                self._away = True
                self._left()
                if not self._follow:
                    raise
                if not self._told_away:
                    _log.warning("%s; trying on", silence)
                    self._told_away = True
            except Refused as refused:
                if refused.code != "busy":
                    raise
                _log.warning("%s", refused)
                self._asks.pause(min(BUSY, self._left()))
            else:
                if self._told_away:
                    _log.warning("%s answers again", self._url)
                self._away = self._told_away = False
                return done

    def _left(self) -> float:
        if self._deadline is None:
            return float("inf")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TryAgain(f"{self._url}: not enough events in the time given")
        return left

    # -- believing ---------------------------------------------------------------------------------

    def _examined(self, raw: bytes, cursor: str) -> SignedEvent | None:
        """Return the event in *raw* if it is to be shown, None if we had it."""
        try:
            event = self._vouched(raw)
        except MalformedEvent as error:
            raise MalformedEvent(f"{self._url}: at {cursor[:60]}: {error}") from error
        if not self._wants(event.tag):
            raise BadInput(f"{self._url}: gives {event.tag}, which was not asked for")
        if not isinstance(event, VerifiedEvent) or event.feed is None:
            return event
        return event if self._follows(event, event.feed) else None

    def _wants(self, tag: str) -> bool:
        return not self._tags or any(fnmatchcase(tag, pattern) for pattern in self._tags)

    def _vouched(self, raw: bytes) -> SignedEvent:
        event = read_event(raw)
        try:
            try:
                return verify(event, self._keys.current())
            except UnknownOrigin as error:
                if self._unverified:
                    return event
                missing = error
            self._patiently(lambda: self._keys.learn(self._asks, missing))
            return verify(event, self._keys.current())
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
        if step is Step.UNKNOWN:
            if not self._from_start or link.seq == 1 or not self._reach_back(link):
                self._chain.begin(event, link)
                return True
            step = self._chain.step(event, link)
        elif step is Step.HOLE:
            self._fill_hole(link.id, link.seq - 1)
            step = self._chain.step(event, link)
        if step is not Step.NEXT:
            raise BadProof(f"feed {link.id}: number {link.seq} does not fit what came before")
        self._chain.advance(event, link)
        self._newest[link.id] = event.raw
        return True

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

    def _fill_hole(self, feed: str, last: int) -> None:
        """Do what `_fill_to` does.  Raises `BadProof`, also where the relay refuses."""
        try:
            self._fill_to(feed, last)
        except Refused as refused:
            wanted = self._chain.positions[feed].anchor.seq + 1
            raise BadProof(
                f"feed {feed}: number {wanted} is missing and cannot be had: {refused}"
            ) from refused

    def _fill_to(self, feed: str, last: int) -> None:
        """
        Fetch the links from the anchor up to number *last*.  Raises `BadProof`, `Refused`.

        What others see of them and we were not shown is due now: a relay that was restored, and
        filled again in another order, has put it behind our cursor.
        """
        given = self._chain.positions[feed].newest.tags
        while (have := self._chain.positions[feed].anchor.seq) < last:
            answer = self._ask("feed", {"feed": feed, "after": have, "limit": LIMIT})
            shown = answer.header.get("shown")
            for raw in answer.frames:
                try:
                    link = self._vouched(raw)
                except MalformedEvent as error:
                    wanted = self._chain.positions[feed].anchor.seq + 1
                    raise BadProof(f"feed {feed}: number {wanted} is missing: {error}") from error
                if not isinstance(link, VerifiedEvent):
                    raise BadProof(f"feed {feed}: number {have + 1}: nobody we know signed it")
                if link.feed is not None and link.feed.seq > last:
                    break
                self._chain.fill(link, feed)
                if (
                    isinstance(shown, list)
                    and link.feed is not None
                    and link.feed.seq in shown
                    and link.feed.tag_seq > given.get(link.tag, 0)
                    and self._wants(link.tag)
                ):
                    self._due.append(link)
            if self._chain.positions[feed].anchor.seq == have:
                raise BadProof(
                    f"feed {feed}: number {have + 1} is missing: {self._url} shows number"
                    f" {last + 1} and cannot give what comes before"
                )
