"""Is what lies in the journal still what was journaled?  Asked of events before they are needed."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from mailbridge.errors import MalformedEvent
from mailbridge.event import read_event
from mailbridge.inspection import Looked, checksum, is_sound
from mailbridge.journal.file import File


class _Row(NamedTuple):
    pos: int
    tag: str
    uuid: str
    hash: str
    link: tuple[str | None, int | None]
    """Its feed and number."""
    raw: bytes
    sum: int | None


class Inspector:
    """Looks at the events of a journal, from the first to the last, as `inspection` asks."""

    def __init__(self, file: File) -> None:
        self._file: Final = file

    def look(self, after: int, limit: int) -> Looked:
        """Look at *limit* events behind position *after*.  A sound one gets its checksum noted."""
        found = self._file.run(
            "SELECT pos, tag.name, uuid, event.hash, feed.id, event.seq, bytes, sum FROM event"
            " JOIN tag ON tag.key = event.tag LEFT JOIN feed ON feed.key = event.feed"
            " WHERE pos > ? AND bytes NOT NULL ORDER BY pos LIMIT ?",
            (after, limit),
        ).fetchall()
        wrong, noted = [], []
        for pos, tag, uuid, hashed, feed, seq, raw, stored in found:
            row = _Row(pos, tag, uuid, hashed, (feed, seq), raw, stored)
            if why := _wrong(row):
                wrong.append(f"{self._file.path}: the event at position {pos} is damaged: {why}")
            elif stored is None:
                noted.append((checksum(raw, hashed), pos))
        if noted:
            self._note(noted)
        return Looked(found[-1][0] if found else None, wrong)

    def _note(self, sums: list[tuple[int, int]]) -> None:
        with self._file.told():
            self._file.db.execute("BEGIN IMMEDIATE")
            try:
                self._file.db.executemany("UPDATE event SET sum = ? WHERE pos = ?", sums)
                self._file.db.execute("COMMIT")
            except sqlite3.Error:
                if self._file.db.in_transaction:
                    self._file.db.execute("ROLLBACK")
                raise


def _wrong(row: _Row) -> str | None:
    if not is_sound(row.raw, row.hash, row.sum):
        return "its bytes are not those that were stored"
    try:
        event = read_event(row.raw)
    except MalformedEvent as error:
        return f"it is no event ({error})"
    link = (event.feed.id, event.feed.seq) if event.feed else (None, None)
    if (event.hash, event.tag, event.uuid.lower(), link) != (row.hash, row.tag, row.uuid, row.link):
        return "it is not what its row says"
    return None
