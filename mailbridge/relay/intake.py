"""
From what was submitted, heard or fetched to the journal, in batches, and from there to PUB.

What arrives together becomes durable together, in one transaction; only then it is answered for,
and then published.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from mailbridge import failpoint
from mailbridge.journal import Batch, Journal, Meanwhile
from mailbridge.relay.gaps import Gaps
from mailbridge.relay.publish import Publisher
from mailbridge.relay.submit import Answer, Read, Submissions

SPEAK_EVERY: Final = 10.0
"""Seconds between two log lines of one kind that a stranger can cause."""

_WORDS: Final = (b"head", b"canary", b"ask")
"""What a submission may be instead of an event."""

_log = logging.getLogger(__name__)

Frames = Sequence[bytes]


class Submission(NamedTuple):
    """What a source submitted, and what it asks for."""

    body: bytes
    word: bytes
    event: Read | None
    """As it is read, where it is an event."""


class Journaled(NamedTuple):
    """What came of a batch that is on the disk."""

    answers: list[bytes | None]
    """One for each submission; None where its source wants none."""
    publish: list[tuple[bytes, bytes]]


class Intake:
    """The one way into *journal*."""

    def __init__(
        self,
        journal: Journal,
        submissions: Submissions,
        publisher: Publisher,
        *,
        now: Callable[[], datetime],
        on_news: Callable[[], None],
    ) -> None:
        """*on_news* is called when readers have something new to read."""
        self._journal: Final = journal
        self._submissions: Final = submissions
        self._publisher: Final = publisher
        self._now: Final = now
        self._on_news: Final = on_news
        self._spoke: Final[dict[str, float]] = {}
        self.gaps: Final = Gaps()
        self.fresh: Final[set[str]] = set()
        """Feeds of which something was found missing since somebody looked here."""
        self.counts: Final[Counter[str]] = Counter()
        """How many events had which outcome."""

    def read(self, submissions: Sequence[Frames]) -> list[Submission]:
        """Return what sources submitted as it is read; the journal may be writing meanwhile."""
        told = [(*frames, b"", b"")[:2] for frames in submissions]
        read = iter(self._submissions.read([body for body, word in told if word not in _WORDS]))
        return [
            Submission(body, word, None if word in _WORDS else next(read)) for body, word in told
        ]

    def journal(
        self, submissions: Sequence[Submission], *, meanwhile: Meanwhile | None = None
    ) -> Journaled:
        """
        Make what sources submitted durable.  Nothing is published yet.

        *meanwhile* is called while the disk works (`Journal.batch`).
        """
        now = self._now()
        publish: list[tuple[bytes, bytes]] = []
        with self._journal.batch(now, meanwhile=meanwhile) as batch:
            answers = [
                self._answered(one.body, one.word, batch)
                if one.event is None
                else self._settled(one.event, one.word, batch, now, publish)
                for one in submissions
            ]
            self._finish(batch, now, publish)
        return Journaled(answers, publish)

    def publish(self, frames: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish *frames*, which are journaled, and wake who waits for them."""
        if frames:
            self._publisher.publish(frames)
            failpoint.reached("relay-published")
            self._on_news()

    def take(self, events: Sequence[bytes]) -> list[Answer]:
        """
        Journal and publish *events* that others had first; return what became of each.

        What comes before something that is missing waits for that, for a while.
        """
        now = self._now()
        publish: list[tuple[bytes, bytes]] = []
        with self._journal.batch(now) as batch:
            read = self._submissions.read(events)
            answers = [self._event(event, batch, now, publish, waits=True) for event in read]
            self._finish(batch, now, publish)
        self.publish(publish)
        return answers

    def take_head(self, head: bytes) -> None:
        """Keep what a source signed about how far it is, and gave to another relay."""
        with self._journal.batch(self._now()) as batch:
            self._submissions.head(head, batch)

    def remember(self, kind: str, name: str, value: str) -> None:
        """Keep *value* where `status` finds it."""
        with self._journal.batch(self._now()) as batch:
            batch.remember(kind, name, value)

    def _answered(self, body: bytes, word: bytes, batch: Batch) -> bytes:
        if word == b"head":
            return self._submissions.head(body, batch)
        if word == b"canary":
            return self._submissions.canary(body, batch)
        return self._submissions.question(body)

    def _settled(
        self,
        event: Read,
        word: bytes,
        batch: Batch,
        now: datetime,
        publish: list[tuple[bytes, bytes]],
    ) -> bytes | None:
        answer = self._event(event, batch, now, publish, waits=False)
        return msgspec.json.encode(answer) if word == b"ack" else None

    def _event(
        self,
        body: Read | bytes,
        batch: Batch,
        now: datetime,
        publish: list[tuple[bytes, bytes]],
        *,
        waits: bool,
    ) -> Answer:
        """Return what became of the event in *body*; add to *publish* what goes out."""
        taken = self._submissions.event(body, batch, now)
        if taken.publish:
            publish.append(taken.publish)
        link = taken.event.feed if taken.event else None
        if waits and taken.event and link and taken.answer.status == "gap":
            # (A source that submits is told where to go on from, and says it again.)
            self.gaps.wait(taken.event, time.monotonic())
            self.fresh.add(link.id)
        self._count(taken.answer)
        return taken.answer

    def _finish(self, batch: Batch, now: datetime, publish: list[tuple[bytes, bytes]]) -> None:
        """Take what waited and can wait no longer, or need not."""
        for feed in self.gaps:
            while event := self.gaps.next_of(feed, batch.head(feed).seq, time.monotonic()):
                self._submissions.skip_to(event, batch, now)
                self._event(event.raw, batch, now, publish, waits=False)
        if publish:
            # What went out before: so the mark reaches the disk without an fsync of its own.
            batch.published(self._publisher.position)

    def _count(self, answer: Answer) -> None:
        self.counts[answer.status] += 1
        facts = (answer.status, answer.uuid, answer.feed, answer.seq)
        if answer.status in ("stored", "duplicate"):
            _log.debug("%s uuid=%s feed=%s seq=%s", *facts)
            return
        # Whoever sends garbage must not fill the log with it.
        now = time.monotonic()
        if now - self._spoke.get(answer.status, -math.inf) >= SPEAK_EVERY:
            self._spoke[answer.status] = now
            _log.warning("%s uuid=%s feed=%s seq=%s: %s", *facts, answer.reason)
