"""
The journal: a relay's log of events, in the order it took them.  SQLite.

Every link of every feed is kept; readers see only the first event of a (tag, uuid).  What is stored
is what was published and what reads give, byte for byte.  One process writes, many may read.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from mailbridge import failpoint
from mailbridge.errors import MailbridgeError
from mailbridge.event import FeedLink, SignedEvent, is_redacted
from mailbridge.feed import Head, Hole
from mailbridge.inspection import checksum
from mailbridge.journal.file import SCHEMA, Damaged, File, Meanwhile, become_copy
from mailbridge.journal.inspect import Inspector
from mailbridge.journal.reading import FeedState, Link, Links, Missing, Reading, milliseconds

__all__ = [
    "REDACTED",
    "SCHEMA",
    "Batch",
    "Damaged",
    "FeedState",
    "Journal",
    "Link",
    "Links",
    "Meanwhile",
    "Missing",
    "Reading",
    "become_copy",
]

REDACTED: Final = "redacted"
"""What is `remembered` of this kind: feed and number of what its own source took away."""

_FORKS_KEPT: Final = 100
"""Of one feed: more would prove nothing more, and fill the disk."""

_KEEP_FORK: Final = (
    "INSERT OR IGNORE INTO fork SELECT ?, ?, ?, ?, ?"
    " WHERE (SELECT count(*) FROM fork WHERE feed = ?) < ?"
)
_STORED: Final = "SELECT pos, bytes FROM event WHERE uuid = ? AND hash = ? AND bytes NOT NULL"
_FIRST: Final = "SELECT hash FROM event WHERE uuid = ? AND tag = ? AND visible"


class _Memory:
    """What a writer need not ask the file for: heads, the keys of feeds and tags, the newest."""

    def __init__(self, journal: Reading, file: File) -> None:
        self.feeds: Final = journal.feeds()
        self.feed_keys: Final[dict[str, int]] = dict(file.run("SELECT id, key FROM feed"))
        self.tag_keys: Final[dict[str, int]] = dict(file.run("SELECT name, key FROM tag"))
        self.holes: Final = {feed: holes for feed in self.feeds if (holes := journal.holes(feed))}
        self.newest = journal.head()
        self.time = int(file.one("SELECT time FROM event WHERE pos = ?", (self.newest,)) or 0)


class Batch:
    """What is about to become durable together.  Later events see earlier ones."""

    def __init__(self, file: File, memory: _Memory, now: datetime) -> None:
        self._file: Final = file
        self._memory: Final = memory
        # A clock that was set back must not disorder what `at` searches.
        self._time: Final = max(milliseconds(now), memory.time)
        self._rows: Final[list[tuple[Any, ...]]] = []
        self._links: Final[dict[tuple[str, int], str]] = {}
        self._firsts: Final[dict[tuple[str, str], str]] = {}
        self._touched: Final[set[str]] = set()
        self._wiped = False

    def head(self, feed: str) -> Head:
        """Return how far *feed* has come; for one that is not known, its beginning."""
        state = self._memory.feeds.get(feed)
        return state.head if state else Head(feed=feed)

    def hash_at(self, feed: str, seq: int) -> str | None:
        """Return the hash of number *seq* of *feed*, or None."""
        if not 1 <= seq <= self.head(feed).seq:
            return None
        there = self._links.get((feed, seq))
        if there is None:
            there = self._file.one(
                "SELECT hash FROM event WHERE feed = ? AND seq = ?",
                (self._memory.feed_keys[feed], seq),
            )
        return there

    def hole(self, feed: str) -> Missing | None:
        """Return the first of what is missing of *feed*, or None where nothing is."""
        return next(iter(self._memory.holes.get(feed, ())), None)

    def skip(self, hole: Hole, note: bytes) -> None:
        """Go on behind *hole*, which begins behind the head of its feed; *note* tells of it."""
        state = self._state(hole.feed)
        self._put(hole.feed, FeedState(state.head.beyond(hole), state.note))
        missing = Missing(hole.first, hole.last, hole.hash, note)
        self._memory.holes.setdefault(hole.feed, []).append(missing)
        key = self._memory.feed_keys[hole.feed]
        self._file.run("INSERT INTO hole VALUES (?, ?, ?, ?, ?)", (key, *missing))

    def fill(self, event: SignedEvent, link: FeedLink, stored: bytes) -> bool:
        """
        Journal *event* as the bytes *stored* where it was missing; say whether readers will see it.

        The caller has made sure that it is the first that is missing of its feed, and fits there.
        """
        holes = self._memory.holes[link.id]
        hole = holes[0]
        key = self._memory.feed_keys[link.id]
        if hole.first == hole.last:
            del holes[0]
            self._file.run("DELETE FROM hole WHERE feed = ? AND first = ?", (key, hole.first))
        else:
            holes[0] = hole._replace(first=hole.first + 1)
            self._file.run(
                "UPDATE hole SET first = ? WHERE feed = ? AND first = ?",
                (hole.first + 1, key, hole.first),
            )
        head, note = self._memory.feeds[link.id]
        tags = {**head.tags, event.tag: max(link.tag_seq, head.tags.get(event.tag, 0))}
        self._put(link.id, FeedState(msgspec.structs.replace(head, tags=tags), note))
        return self._add(event, link, stored)

    def remember(self, kind: str, name: str, value: str) -> None:
        """Keep *value* for who asks what is `remembered` of this *kind*."""
        self._file.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"{kind} {name}", value))

    def first(self, event: SignedEvent) -> str | None:
        """Return the hash of the event that readers see for the (tag, uuid) of *event*, or None."""
        uuid = event.uuid.lower()
        there = self._firsts.get((uuid, event.tag))
        key = self._memory.tag_keys.get(event.tag)
        if there is None and key is not None:
            row = self._file.db.execute(_FIRST, (uuid, key)).fetchone()
            there = row[0] if row else None
        return there

    def append(self, event: SignedEvent, stored: bytes) -> bool:
        """
        Journal *event* as the bytes *stored*, and say whether readers will see it.

        The caller has made sure that it fits its feed (`feed.fit`).
        """
        if event.feed:
            state = self._state(event.feed.id)
            self._put(event.feed.id, FeedState(state.head.after(event), state.note))
        return self._add(event, event.feed, stored)

    def _add(self, event: SignedEvent, link: FeedLink | None, stored: bytes) -> bool:
        uuid = event.uuid.lower()
        visible = self.first(event) is None
        if visible:
            self._firsts[uuid, event.tag] = event.hash
        feed = seq = None
        if link:
            feed, seq = self._memory.feed_keys[link.id], link.seq
            self._links[link.id, seq] = event.hash
        tag = self._tag(event.tag)
        pos = self._memory.newest + len(self._rows) + 1
        row = (pos, self._time, tag, uuid, event.hash, feed, seq, int(visible), stored)
        self._rows.append((*row, checksum(stored, event.hash)))
        return visible

    def redact(self, event: SignedEvent, stored: bytes) -> bool:
        """
        Journal *stored*, the redaction *event*, in the place of what is here with its hash.

        False where nothing is left to take away.
        """
        if event.feed and event.feed.entity in event.signatures:
            # (Others are told of it: they may do the same.)
            self.remember(REDACTED, f"{event.feed.id} {event.feed.seq}", "")
        place = (event.uuid.lower(), event.hash)
        for at, row in enumerate(self._rows):
            if row[3:5] == place:
                if is_redacted(row[8]):
                    return False
                self._rows[at] = (*row[:8], stored, checksum(stored, event.hash))
                return True
        found = self._file.run(_STORED, place).fetchone()
        if found is None or is_redacted(found[1]):
            return False
        # (From now on; what is pruned need not be wiped out, and costs less.)
        self._file.run("PRAGMA secure_delete=ON")
        values = (stored, checksum(stored, event.hash), found[0])
        self._file.run("UPDATE event SET bytes = ?, sum = ? WHERE pos = ?", values)
        self._wiped = True
        return True

    def note(self, head: Head, raw: bytes) -> None:
        """Keep *raw*, the signed *head* of a feed, unless a newer one is there."""
        state = self._state(head.feed)
        if state.note is None or (head.seq, head.time or "") > _age(state.note):
            self._put(head.feed, FeedState(state.head, raw))

    def fork(self, feed: str, seq: int, claimed: str, raw: bytes) -> None:
        """Keep *raw*, by which the owner of *feed* signed *claimed*, and something else before."""
        values = (feed, seq, claimed, self._time, raw, feed, _FORKS_KEPT)
        self._file.run(_KEEP_FORK, values)

    def published(self, pos: int) -> None:
        """Remember that everything up to *pos* went out on PUB."""
        self._file.run("UPDATE meta SET value = ? WHERE name = 'published'", (pos,))

    def write(self) -> None:
        """Put it into the transaction.  `Journal.batch` calls this."""
        self._file.db.executemany("INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?)", self._rows)
        for feed in self._touched:
            head, note = self._memory.feeds[feed]
            tags = msgspec.json.encode(head.tags).decode()
            self._file.run(
                "UPDATE feed SET seq = ?, hash = ?, tags = ?, note = ? WHERE id = ?",
                (head.seq, head.hash, tags, note, feed),
            )

    def written(self) -> None:
        """Count it as the newest.  `Journal.batch` calls this once it is on the disk."""
        if self._rows:
            self._memory.newest += len(self._rows)
            self._memory.time = self._time
        if self._wiped:
            self._file.empty_log()

    def _state(self, feed: str) -> FeedState:
        state = self._memory.feeds.get(feed)
        if state is None:
            state = FeedState(Head(feed=feed), None)
            added = self._file.run(
                "INSERT INTO feed VALUES (NULL, ?, 0, NULL, '{}', NULL)", (feed,)
            )
            self._memory.feeds[feed] = state
            self._memory.feed_keys[feed] = int(added.lastrowid or 0)
        return state

    def _put(self, feed: str, state: FeedState) -> None:
        self._memory.feeds[feed] = state
        self._touched.add(feed)

    def _tag(self, name: str) -> int:
        key = self._memory.tag_keys.get(name)
        if key is None:
            added = self._file.run("INSERT INTO tag VALUES (NULL, ?)", (name,))
            key = self._memory.tag_keys[name] = int(added.lastrowid or 0)
        return key


class Journal(Reading):
    """A journal, to write and to read."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        super().__init__(path, readonly=readonly)
        self._memory = _Memory(self, self._file)
        self.inspector: Final = Inspector(self._file)
        """Finds what the disk has altered."""

    @classmethod
    def open(cls, path: Path, *, readonly: bool = False) -> Self:
        """
        Return the journal at *path*, made if it is missing and we may write.

        Raises `NeedsOperator` where it is damaged or newer than this program, `TryAgain` where
        another process writes it, `StorageFailed` where the disk does not do its part.
        """
        return cls(path, readonly=readonly)

    @contextlib.contextmanager
    def batch(self, now: datetime, *, meanwhile: Meanwhile | None = None) -> Iterator[Batch]:
        """
        Give a batch that is on the disk when the context ends, or not at all if it raises.

        *meanwhile* is called once the disk works on it, with what tells whether that is done; it
        must ask nothing of the journal but what is in memory.

        Raises `StorageFailed`: then nothing of it may be acknowledged.
        """
        batch = Batch(self._file, self._memory, now)
        try:
            with self._file.told():
                self._file.db.execute("BEGIN IMMEDIATE")
                yield batch
                batch.write()
                failpoint.reached("journal-commit")
                self._file.commit(meanwhile)
        except BaseException:
            self._roll_back()
            raise
        batch.written()

    def heads(self) -> dict[str, FeedState]:
        """Return how far every feed has come, from memory: for the one who writes."""
        return self._memory.feeds

    def missing(self, feed: str) -> Missing | None:
        """Return the first that is missing of *feed*, from memory: for the one who writes."""
        return next(iter(self._memory.holes.get(feed, ())), None)

    def newest(self) -> int:
        """Return the position of the newest event, from memory: for the one who writes."""
        return self._memory.newest

    def prune(self, before: datetime, *, limit: int = 1000) -> int:
        """
        Drop the bytes of at most *limit* events that came *before*; return how many went.

        Numbers, hashes and uuids stay.
        """
        start = self.horizon()
        end = min(self.at(before), start + limit)
        if end <= start:
            return 0
        try:
            with self._file.told():
                self._file.db.execute("BEGIN IMMEDIATE")
                gone = "UPDATE event SET bytes = NULL WHERE pos > ? AND pos <= ?"
                self._file.db.execute(gone, (start, end))
                horizon = "UPDATE meta SET value = ? WHERE name = 'horizon'"
                self._file.db.execute(horizon, (end,))
                self._file.db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return end - start

    def give_back(self) -> int:
        """
        Give the room of what was pruned back to the disk; return how many bytes.

        It holds up whoever waits for the journal.  A relay that runs needs none of it: what comes
        takes the room of what went.
        """
        before = self._file.size()
        self._file.give_back()
        return before - self._file.size()

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            # (A full disk has rolled back already.)
            self._file.db.execute("ROLLBACK")
        with contextlib.suppress(MailbridgeError, sqlite3.Error):
            # What the file cannot tell now it tells the next one who opens it.
            self._memory = _Memory(self, self._file)


def _age(note: bytes) -> tuple[int, str]:
    head = msgspec.json.decode(note)["head"]
    return head["seq"], head.get("time") or ""
