"""
Events as they come, verified and followed: one iterator over what a relay or a journal gives.

It asks for what comes after its cursor, waits there, and goes on where it was when the relay comes
back.  What it believes of the answers, `follow` decides.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from mailbridge.errors import BadInput, BadProof, UsageError
from mailbridge.event import SignedEvent
from mailbridge.reader.chain import Chain
from mailbridge.reader.follow import LIMIT, Follow
from mailbridge.reader.heads import LOOK_EVERY, Told, Withheld
from mailbridge.reader.keys import Keys
from mailbridge.reader.local import JournalAsker
from mailbridge.reader.patience import Patience
from mailbridge.reader.place import CursorFile, Start
from mailbridge.wire.read import Answer, Asker, Asks, Refused, Stopped

WAIT: Final = 30.0
"""Seconds that a question waits at the relay for something new."""

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

    From `start` on nothing is missing that the relay has not pruned: a feed that is met in its
    middle is followed back to its number 1.  From any other place on a feed is followed from its
    first event that comes.

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
        self._follow: Final = follow
        self._file: Final = CursorFile(cursor_file, self._tags) if cursor_file else None
        there = self._file.load() if self._file else None
        self._cursor = there.cursor if there else None
        self._begun = there is not None
        self._unstored = False
        self._met = False
        self._more = True
        self._page: Final[deque[tuple[str, bytes, SignedEvent | None]]] = deque()
        self._reached = self._cursor
        """Behind what was taken from the page; what is due then is to be given first."""
        self._contradicted: list[str] | None = None
        """The feeds of which the relay wants to see our proof."""
        self._closed = False
        self._withheld: Final = Withheld()
        self._looked = time.monotonic()
        self._told: list[Told] = []
        """What the relay told of its feeds when we looked last."""
        self._caught_up = self._quiet = False
        """We came to the end of what it had since then; the last answer was empty."""
        asks = asks_of(url)
        self._relay: Final = Patience(url, asks, timeout=timeout, follow=follow)
        self._feeds: Final = Follow(
            self._relay,
            keys,
            Chain(there.feeds if there else None, filtered=bool(self._tags)),
            tags=self._tags,
            unverified=unverified,
        )
        self._feeds.from_start = there.from_start if there else since == "start"
        self._feeds.newest.update(self._file.proofs if self._file else {})

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
        return self._relay.answered

    @property
    def cursor(self) -> str | None:
        """Behind what was given last; None before the first."""
        return self._cursor

    @property
    def alarms(self) -> Sequence[str]:
        """What the relay did that an honest one does not, though nothing was lost by it."""
        return self._feeds.alarms

    def __next__(self) -> SignedEvent:
        self.handled()
        due = self._feeds.due
        while not self._closed:
            if due:
                event = due.popleft()
                if not due:
                    self._cursor = self._reached
                self._unstored = True
                return event
            try:
                if not self._page:
                    if not (self._more or self._follow):
                        break
                    self._fetch()
                    continue
                cursor, raw, read = self._page[0]
                found = self._feeds.examined(raw, cursor, read)
            except Stopped:
                break
            self._page.popleft()
            self._reached = cursor
            self._unstored = True
            if found is not None:
                due.append(found)
            if not due:
                self._cursor = cursor
        raise StopIteration

    def handled(self) -> None:
        """Remember that the event given last needs not be given again."""
        if self._feeds.due:
            # (Our places in the feeds are behind these already.)
            return
        if self._unstored:
            self._store()
        self._unstored = False

    def tell(self) -> list[Told]:
        """Return what the relay tells of its feeds; iterating goes on where it ended."""
        self._more = True
        return self._feeds.told()

    def finish(self, told: Sequence[Told]) -> None:
        """
        Check all feeds to the end that the relay *told* before it was read to its end.

        What readers are not shown is included.  Raises `BadProof`.
        """
        self._feeds.finish(told)

    def stop(self) -> None:
        """End the iteration, also one that waits.  Any thread may call it."""
        self._relay.asks.stop()

    def close(self) -> None:
        """Give everything back.  What was not `handled` is given again by the next reader."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._file:
                self._file.close()
        finally:
            self._relay.asks.close()

    # -- asking ------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        if not self._met:
            self._relay.until_done(lambda: self._keys.meet(self._relay.asks))
            self._met = True
        if not self._begun:
            self._begin()
        if self._look_at_heads():
            return
        if self._file and not self._more:
            self.handled()
            self._file.settle()
        fields = {
            "after": self._cursor,
            "tags": list(self._tags),
            "limit": LIMIT,
            "have": self._feeds.have(),
            "packed": True,
        }
        # (A stranger could silence a feed with a number he made up: so the event goes along.)
        wanted = self._contradicted
        proofs = self._feeds.proofs(wanted) if wanted is not None else []
        wait = 0.0 if self._more else WAIT
        try:
            answer = self._relay.ask("read", fields, wait=wait, proofs=proofs)
        except Refused as refused:
            self._go_on_after(refused)
            return
        self._contradicted = None
        cursors = self._cursors(answer)
        more = answer.header.get("more") is True
        if more and cursors:
            # (While we look at these events the relay may look for the next ones.)
            self._relay.asks.expect("read", {**fields, "after": cursors[-1]})
        read = self._feeds.foresee(answer.frames)
        self._page.extend(zip(cursors, answer.frames, read, strict=True))
        # (Who does not follow must see for himself that nothing more is there.)
        self._more = more or (bool(answer.frames) and not self._follow)
        self._quiet = not answer.frames
        self._caught_up = self._caught_up or not more
        if self._quiet:
            # (Nothing up to there was for us: the next question need not look at it again.)
            self._move(answer.header.get("head"))

    def _look_at_heads(self) -> bool:
        """
        Tell quiet from withheld, once in a while.  True if that found something to give.

        Called where all that was read is done with.  Raises `BadProof`.
        """
        if not self._follow or time.monotonic() - self._looked < LOOK_EVERY:
            return False
        told = self._feeds.told()
        now = self._looked = time.monotonic()
        followed = {feed: at.newest.seq for feed, at in self._feeds.positions.items()}
        for line in self._withheld.look(told, now, followed):
            _log.warning("%s: %s", self._url, line)
        # (While others are never quiet, what it told before must have come by now.)
        expected = told if self._quiet else self._told if self._caught_up else []
        self._told, self._caught_up = told, False
        for each in expected:
            self._feeds.catch_up(each)
        return bool(self._feeds.due)

    def _begin(self) -> None:
        if self._since == "now":
            answer = self._relay.ask("read", {"after": None, "tags": [], "limit": 1})
            self._move(answer.header.get("head"))
        elif isinstance(self._since, datetime):
            answer = self._relay.ask("at", {"time": self._since.isoformat()})
            self._move(answer.header.get("cursor"))
        elif self._since != "start":
            self._cursor = self._since
        self._begun = True
        # A reader that ends before the first event goes on from here, not from another "now".
        self._store()

    def _store(self) -> None:
        if self._file:
            feeds = self._feeds
            self._file.store(
                self._cursor, feeds.positions, feeds.newest, from_start=feeds.from_start
            )

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
            told = refused.header.get("feeds")
            feeds = told if isinstance(told, list) else []
            feeds = [feed for feed in feeds if isinstance(feed, str)]
            if self._contradicted is None and self._feeds.proofs(feeds):
                self._contradicted = feeds
                return
            raise BadProof(f"{refused}; nothing is read until its operator has mended it")
        if refused.code not in ("wrong-journal", "pruned") or not self._feeds.positions:
            raise refused
        if self._cursor is None:
            raise refused
        _log.warning("%s; going on from what is known of its feeds", refused)
        self._cursor = None
        self._feeds.from_start = True
        self._more = True
