"""What can be asked of a journal, by the relay that writes it or by anybody beside it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from mailbridge.errors import RelayGone
from mailbridge.feed import Head
from mailbridge.inspection import is_sound
from mailbridge.journal.file import Damaged, File

# With more matching tags than this one walk over all events is cheaper than a merge.
_MERGED_TAGS: Final = 64


class FeedState(NamedTuple):
    """How far the journal has a feed, and the newest signed head that its source gave."""

    head: Head
    note: bytes | None


class Link(NamedTuple):
    """One number of a feed."""

    seq: int
    raw: bytes
    shown: bool
    """Whether `Reading.page` gives it."""
    twin: bytes | None
    """What that gives in its place, because it said the same first; empty where it was pruned."""


class Missing(NamedTuple):
    """Numbers of a feed that are not here; its first ones may have come late."""

    first: int
    last: int
    hash: str
    """Of number *last*."""
    note: bytes
    """What our relay signed about it."""


class Links(NamedTuple):
    """Some links of a feed, as the answer to `feed` tells them (wire.md, Read)."""

    links: list[Link]
    more: bool
    holes: list[Missing]
    """What is missing among them, or before them."""

    def told(self) -> dict[str, object]:
        """Return what the answer's header says of them."""
        return {
            "seqs": [link.seq for link in self.links],
            "shown": [link.seq for link in self.links if link.shown],
            "twins": [link.seq for link in self.links if link.twin is not None],
            "holes": [msgspec.Raw(hole.note) for hole in self.holes],
            "more": self.more,
        }

    def frames(self) -> list[bytes]:
        """Return the events, and behind them the twins of those that readers are not shown."""
        twins = [link.twin for link in self.links if link.twin is not None]
        return [*(link.raw for link in self.links), *twins]


class Reading:
    """A journal to read."""

    def __init__(self, path: Path, *, readonly: bool = True) -> None:
        self._file: Final = File(path, readonly=readonly)
        self.id: Final = str(self._file.one("SELECT value FROM meta WHERE name = 'id'"))
        """Names this journal in cursors; another one has another id."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def head(self) -> int:
        """Return the position of the newest event, 0 if there is none."""
        return int(self._file.one("SELECT coalesce(max(pos), 0) FROM event"))

    def horizon(self) -> int:
        """Return the position up to which events were pruned: reading begins after it."""
        return int(self._file.one("SELECT value FROM meta WHERE name = 'horizon'"))

    def remembered(self, kind: str) -> dict[str, str]:
        """Return what `Batch.remember` was told of each of a *kind*."""
        rows = self._file.run(
            "SELECT substr(name, ?), value FROM meta WHERE substr(name, 1, ?) = ? ORDER BY name",
            (len(kind) + 2, len(kind) + 1, f"{kind} "),
        )
        return dict(rows.fetchall())

    def published(self) -> int:
        """Return the position up to which events went out on PUB; maybe a little more did."""
        return int(self._file.one("SELECT value FROM meta WHERE name = 'published'"))

    def read(
        self, after: int, patterns: Sequence[str] = (), limit: int = 500, max_bytes: int = 1 << 22
    ) -> list[tuple[int, bytes]]:
        """Return what `page` does, without saying whether there is more."""
        return self.page(after, patterns, limit, max_bytes)[0]

    def page(
        self, after: int, patterns: Sequence[str] = (), limit: int = 500, max_bytes: int = 1 << 22
    ) -> tuple[list[tuple[int, bytes]], bool]:
        """
        Return the events behind position *after* with their positions, and whether there are more.

        Only the first of a (tag, uuid), and only tags that fit one of the *patterns* (`*` as in
        file names; none: all).  At most *limit*, and *max_bytes* in sum, but one at least.

        Raises `RelayGone` where events behind *after* were pruned, `Damaged` at one that the disk
        has altered: what comes before that is given first.
        """
        with self._file.told():
            rows: list[tuple[int, bytes]] = []
            size = 0
            for pos, raw, hashed, stored in self._rows(after, patterns, limit + 1):
                if raw is None:
                    raise RelayGone(
                        f"{self._file.path}: events behind position {after} were pruned"
                    )
                if not is_sound(raw, hashed, stored):
                    if rows:
                        return rows, True
                    raise Damaged(self._file.path, pos)
                size += len(raw)
                if rows and (len(rows) == limit or size > max_bytes):
                    return rows, True
                rows.append((pos, raw))
            return rows, False

    def links(self, feed: str, after: int, limit: int, max_bytes: int) -> Links:
        """
        Return the links of *feed* numbered above *after*: every one, also what `page` hides.

        At most *limit*, and *max_bytes* in sum, but one at least.  Raises `RelayGone` or `Damaged`.
        """
        links: list[Link] = []
        size = 0
        found = self._file.run(
            "SELECT pos, seq, bytes, hash, sum, visible, CASE WHEN visible THEN NULL ELSE (SELECT"
            " coalesce(bytes, x'') FROM event AS first WHERE first.uuid = event.uuid"
            " AND first.tag = event.tag AND first.visible) END FROM event"
            " WHERE feed = (SELECT key FROM feed WHERE id = ?) AND seq > ? ORDER BY seq LIMIT ?",
            (feed, after, limit + 1),
        )
        for pos, seq, raw, hashed, stored, shown, twin in found:
            if raw is None:
                raise RelayGone(
                    f"{self._file.path}: events behind number {after} of {feed} were pruned"
                )
            if not is_sound(raw, hashed, stored):
                if not links:
                    raise Damaged(self._file.path, pos)
                more = True
                break
            size += len(raw) + len(twin or b"")
            more = bool(links) and (len(links) == limit or size > max_bytes)
            if more:
                break
            links.append(Link(seq, raw, bool(shown), twin))
        else:
            more = False
        end = links[-1].seq if links else after
        holes = [hole for hole in self.holes(feed) if after < hole.last and hole.first <= end]
        return Links(links, more, holes)

    def numbered(self, feed: str, after: int, limit: int) -> list[tuple[int, str, str, str]]:
        """Return number, uuid, tag and hash of *feed*'s events above *after*, pruned ones too."""
        return self._file.run(
            "SELECT seq, uuid, name, hash FROM event JOIN tag ON tag.key = event.tag"
            " WHERE feed = (SELECT key FROM feed WHERE id = ?) AND seq > ? ORDER BY seq LIMIT ?",
            (feed, after, limit),
        ).fetchall()

    def kept_from(self, feed: str, after: int) -> int | None:
        """Return the first number of *feed* above *after* that was not pruned; None for none."""
        found = self._file.one(
            "SELECT seq FROM event WHERE feed = (SELECT key FROM feed WHERE id = ?) AND seq > ?"
            " AND bytes NOT NULL ORDER BY seq LIMIT 1",
            (feed, after),
        )
        return None if found is None else int(found)

    def saying(self, uuid: str) -> list[bytes]:
        """Return the stored bytes of all events with this *uuid*, in order; pruned ones not."""
        rows = self._file.run(
            "SELECT bytes FROM event WHERE uuid = ? AND bytes NOT NULL ORDER BY pos",
            (uuid.lower(),),
        )
        return [raw for (raw,) in rows]

    def holes(self, feed: str) -> list[Missing]:
        """Return what is missing of *feed*, in order."""
        rows = self._file.run(
            "SELECT first, last, hash, note FROM hole"
            " WHERE feed = (SELECT key FROM feed WHERE id = ?) ORDER BY first",
            (feed,),
        )
        return [Missing(*row) for row in rows]

    def at(self, when: datetime) -> int:
        """Return the position behind which everything came at *when* or later."""
        low, high, wanted = 0, self.head(), milliseconds(when)
        # `time` never decreases, so halving finds it without an index of its own.
        while low < high:
            middle = (low + high) // 2
            found = self._file.run("SELECT pos, time FROM event WHERE pos > ? LIMIT 1", (middle,))
            pos, time = found.fetchone()
            if time < wanted:
                low = pos
            else:
                high = middle
        return low

    def frames(self, after: int, limit: int) -> list[tuple[int, str, bytes | None]]:
        """
        Return position, tag and bytes of what readers see behind *after*, pruned ones not.

        None instead of bytes that the disk has altered.
        """
        found = self._file.run(
            "SELECT pos, name, bytes, hash, sum FROM event JOIN tag ON tag.key = event.tag"
            " WHERE pos > ? AND visible AND bytes NOT NULL ORDER BY pos LIMIT ?",
            (after, limit),
        )
        return [
            (pos, name, raw if is_sound(raw, hashed, stored) else None)
            for pos, name, raw, hashed, stored in found
        ]

    def of_feed(self, feed: str, after: int) -> set[int]:
        """Return the positions behind *after* of the events of *feed*."""
        rows = self._file.run(
            "SELECT pos FROM event WHERE feed = (SELECT key FROM feed WHERE id = ?) AND pos > ?",
            (feed, after),
        )
        return {pos for (pos,) in rows}

    def feeds(self) -> dict[str, FeedState]:
        """Return how far every feed has come."""
        rows = self._file.run("SELECT id, seq, hash, tags, note FROM feed ORDER BY id")
        return {
            feed: FeedState(
                Head(feed=feed, seq=seq, hash=fingerprint, tags=msgspec.json.decode(tags)), note
            )
            for feed, seq, fingerprint, tags, note in rows
        }

    def hash_at(self, feed: str, seq: int) -> str | None:
        """Return the hash of number *seq* of *feed*, or None."""
        row = self._file.run(
            "SELECT hash FROM event WHERE feed = (SELECT key FROM feed WHERE id = ?) AND seq = ?",
            (feed, seq),
        ).fetchone()
        return row[0] if row else None

    def forks(self, feed: str) -> list[tuple[int, bytes]]:
        """Return the evidence that *feed* forked: numbers and signed bytes."""
        return self._file.run(
            "SELECT seq, bytes FROM fork WHERE feed = ? ORDER BY seq, hash", (feed,)
        ).fetchall()

    def evidence(self, limit: int) -> dict[str, bytes]:
        """Return of at most *limit* feeds that forked the first signed bytes that prove it."""
        rows = self._file.run(
            "SELECT feed, min(seq), bytes FROM fork GROUP BY feed ORDER BY feed LIMIT ?", (limit,)
        )
        return {feed: raw for feed, _, raw in rows}

    def has(self, uuids: Iterable[str]) -> list[str]:
        """Return those of *uuids* that readers can see, or could before they were pruned."""
        known = "SELECT 1 FROM event WHERE uuid = ? AND visible"
        return [text for text in uuids if self._file.run(known, (text.lower(),)).fetchone()]

    def uuids(self, entity: str, after: int, limit: int) -> tuple[list[str], int | None]:
        """
        Return uuids of the events in all feeds of *entity*, and what to pass as *after* next.

        None: that was all.  Begin with *after* 0.
        """
        found: list[str] = []
        # One number names a feed (by key) and a place in it.
        start, seq = divmod(after, 1 << 32)
        feeds = self._file.run(
            "SELECT key FROM feed WHERE key >= ? AND substr(id, 1, ?) = ? ORDER BY key",
            (start, len(entity) + 1, entity + "/"),
        ).fetchall()
        for (key,) in feeds:
            rows = self._file.run(
                "SELECT seq, uuid FROM event WHERE feed = ? AND seq > ? ORDER BY seq LIMIT ?",
                (key, seq if key == start else 0, limit - len(found)),
            ).fetchall()
            found += [text for _, text in rows]
            if rows and len(found) == limit:
                return found, (key << 32) + int(rows[-1][0])
        return found, None

    def _rows(
        self, after: int, patterns: Sequence[str], limit: int
    ) -> Iterable[tuple[int, bytes | None, str, int | None]]:
        select = "SELECT pos, bytes, hash, sum FROM event"
        everything = f"{select} WHERE pos > ? AND visible ORDER BY pos LIMIT ?"
        if not patterns or "*" in patterns:
            return self._file.db.execute(everything, (after, limit))
        named = self._file.db.execute("SELECT key, name FROM tag").fetchall()
        keys = [key for key, name in named if any(fnmatchcase(name, p) for p in patterns)]
        if len(keys) == len(named):
            return self._file.db.execute(everything, (after, limit))
        if len(keys) > _MERGED_TAGS:
            marks = ",".join(map(str, keys))
            return self._file.db.execute(
                f"{select} WHERE pos > ? AND visible AND +tag IN ({marks}) ORDER BY pos LIMIT ?",
                (after, limit),
            )
        of_tag = f"{select} WHERE tag = ? AND pos > ? AND visible ORDER BY pos LIMIT ?"
        return heapq.merge(*(self._file.db.execute(of_tag, (key, after, limit)) for key in keys))


def milliseconds(when: datetime) -> int:
    """Return *when* as the journal's `time` counts it."""
    return int(when.timestamp() * 1000)
