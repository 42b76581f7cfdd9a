"""
How the outbox stays small: what is received is compacted, what is long done is forgotten.

Identity is kept for good: a uuid that was ever given is never given again.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from mailbridge.outbox.news import backing_told
from mailbridge.outbox.rows import Rows

CHUNK: Final = 200
"""Rows that one transaction changes at most: it holds up who takes mail in for milliseconds."""

MISSED: Final = 2_000
"""How many deliveries are noted as gone at once; the next look notes others."""

PAGE: Final = 5_000
"""Deliveries that are held against a look in one step."""

PAGES: Final = 256
"""Pages that are given back to the disk at once."""


class Old(NamedTuple):
    """What there is to do, or was done."""

    events: int
    """Received by all, to be known by uuid and hash alone."""
    mails: int
    """Verdicts on mails.  If such a mail comes again, its news are known by their uuid."""
    files: int
    """Deliveries whose file is long gone."""


class Ageing:
    """The chores.  Each call is one small transaction."""

    def __init__(self, rows: Rows) -> None:
        self._rows: Final = rows
        self._run: Final = rows.run

    def compact(self, before: datetime, *, limit: int = CHUNK) -> int:
        """
        Compact at most *limit* events that were made *before* and that every target has.

        Returns how many.  Number, uuid, tag, hash and what backs them stay.
        """
        with self._rows.transaction():
            last = self._compactable(before, limit)
            done = self._horizon()
            rows = self._run(
                "SELECT raw, how, signed, seq, uuid, tag, hash, backfill, made FROM event"
                " WHERE seq > ? AND seq <= ?",
                *(done, last),
            ).fetchall()
            # (SQLite does not join the pages of rows that become smaller; of new ones it does.)
            self._run("DELETE FROM event WHERE seq > ? AND seq <= ?", done, last)
            for raw, how, signed, *stays in rows:
                # (What was taken away tells it no more: then it stands here already.)
                told = backing_told(raw)
                backing = (told.how, int(told.is_signed)) if told else (how, signed)
                self._run(
                    "INSERT INTO event (raw, how, signed, seq, uuid, tag, hash, backfill, made)"
                    " VALUES (x'', ?, ?, ?, ?, ?, ?, ?, ?)",
                    *(*backing, *stays),
                )
            if rows:
                self._run("INSERT OR REPLACE INTO meta VALUES ('horizon', ?)", str(last))
        return len(rows)

    def forget_mails(self, before: datetime, *, limit: int = CHUNK) -> int:
        """Forget at most *limit* verdicts of *before*, but for the quarantine; return how many."""
        with self._rows.transaction():
            return self._run(
                "DELETE FROM mail WHERE (sha256, route) IN (SELECT sha256, route FROM mail"
                " WHERE verdict IN ('events', 'duplicate', 'ignored') AND taken <= ? LIMIT ?)",
                *(int(before.timestamp()), limit),
            ).rowcount

    def look(
        self, place: int, there: Container[tuple[bytes, int]], *, now: datetime, limit: int = MISSED
    ) -> Iterator[None]:
        """
        Note which deliveries of *place* a look *now* missed: *there* are the files (base, inode).

        A step at a time, each small.  At most *limit* at once.  A file counts as gone from the
        first look on that missed it, but for those taken as read at first sight: they become no
        more, and come back they are no news.
        """
        since = int(now.timestamp())
        last = (b"", -1)
        while limit > 0 and (rows := self._deliveries(place, last)):
            last = rows[-1][:2]
            changes = [
                (since if gone is None else None, base, inode)
                for base, inode, gone in rows
                if ((base, inode) in there) != (gone is None)
            ][:limit]
            limit -= len(changes)
            if changes:
                with self._rows.transaction():
                    for gone, *file in changes:
                        self._run(
                            "UPDATE file SET gone = ? WHERE place = ? AND base = ? AND inode = ?",
                            *(gone, place, *file),
                        )
            yield

    def _deliveries(
        self, place: int, after: tuple[bytes, int]
    ) -> list[tuple[bytes, int, int | None]]:
        return self._run(
            "SELECT base, inode, gone FROM file WHERE place = ? AND (base, inode) > (?, ?)"
            " AND verdict <> 'existing' ORDER BY base, inode LIMIT ?",
            *(place, *after, PAGE),
        ).fetchall()

    def forget_files(self, before: datetime, *, limit: int = CHUNK) -> int:
        """Forget at most *limit* deliveries whose file was gone *before*; return how many."""
        with self._rows.transaction():
            return self._run(
                "DELETE FROM file WHERE (place, base, inode) IN (SELECT place, base, inode FROM"
                " file WHERE gone <= ? LIMIT ?)",
                *(int(before.timestamp()), limit),
            ).rowcount

    def due(self, before: datetime) -> Old:
        """Return what is there to be done; it looks at every row, and changes nothing."""
        unix = int(before.timestamp())
        mails, files = (
            int(self._run(f"SELECT count(*) FROM {what}", unix).fetchone()[0])  # noqa: S608 - ours
            for what in (
                "mail WHERE verdict IN ('events', 'duplicate', 'ignored') AND taken <= ?",
                "file WHERE gone <= ?",
            )
        )
        return Old(self._compactable(before, -1) - self._horizon(), mails, files)

    def spare(self) -> int:
        """Return how many bytes of the file hold nothing."""
        free, size = (self._one(f"PRAGMA {name}") for name in ("freelist_count", "page_size"))
        return free * size

    def size(self) -> int:
        """Return how many bytes the file has, what holds nothing included."""
        return self._one("PRAGMA page_count") * self._one("PRAGMA page_size")

    def give_back(self, *, pages: int = PAGES) -> int:
        """Give at most *pages* pages that hold nothing back to the disk; return how many."""
        before = self._one("PRAGMA freelist_count")
        self._run(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return before - self._one("PRAGMA freelist_count")

    def rebuild(self) -> None:
        """Write the whole file anew, without what holds nothing.  It needs its size in room."""
        self._run("PRAGMA auto_vacuum=INCREMENTAL")
        self._run("VACUUM")
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def gives_back(self) -> bool:
        """Say whether `give_back` can do anything; not in a file of our first versions."""
        return self._one("PRAGMA auto_vacuum") != 0

    def _compactable(self, before: datetime, limit: int) -> int:
        """Return the number up to which events may be compacted, at most *limit* of them."""
        done = self._horizon()
        received = self._run("SELECT min(acked) FROM target").fetchone()[0] or 0
        row = self._run(
            "SELECT seq, made FROM event WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            *(done, received, limit),
        )
        for seq, made in row:
            if made >= before.timestamp():
                break
            done = int(seq)
        return done

    def _horizon(self) -> int:
        row = self._run("SELECT value FROM meta WHERE key = 'horizon'").fetchone()
        return int(row[0]) if row else 0

    def _one(self, sql: str) -> int:
        return int(self._run(sql).fetchone()[0])
