"""Is what lies in the outbox still what we signed?  Asked of each row before it is needed."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple
from uuid import UUID

from mailbridge.errors import BadSignature, MalformedEvent, NeedsOperator
from mailbridge.event import read_event
from mailbridge.inspection import Looked, is_sound
from mailbridge.outbox.rows import Rows
from mailbridge.signing import KEY_ID, VerifyKey


class _Row(NamedTuple):
    seq: int
    uuid: bytes
    tag: str
    hash: str
    raw: bytes
    sum: int | None


class Inspector:
    """Looks at the events of an outbox, from the first to the last, as `inspection` asks."""

    def __init__(self, rows: Rows, key: VerifyKey) -> None:
        self._rows: Final = rows
        self._key: Final = key
        self._counts: Counter[str] = Counter()

    def check_pages(self) -> None:
        """Return if the file is whole, as far as there is time to look; else `NeedsOperator`."""
        if found := self._rows.damage():
            raise NeedsOperator(
                f"{self._rows.path}: damaged ({found}); restore it, then --new-epoch"
            )

    def check_newest(self) -> None:
        """
        Return if the newest event is sound, to which the next will be linked.

        Raises `NeedsOperator`.  Of the other events `look` finds out in time.
        """
        newest = self._rows.run("SELECT seq, raw, hash, sum FROM event ORDER BY seq DESC LIMIT 1")
        for seq, raw, hashed, stored in newest.fetchall():
            if raw:
                self.demand(seq, raw, hashed, stored)

    def demand(self, seq: int, raw: bytes, hashed: str, stored: int | None) -> None:
        """Return if *raw* is sound (`is_sound`); else raise `NeedsOperator`."""
        # What the disk altered must not get out under our name.
        if not is_sound(raw, hashed, stored):
            raise NeedsOperator(
                f"{self._rows.path}: event {seq} is damaged on the disk, nothing is sent;"
                " restore a backup, or start once with --new-epoch"
            )

    def look(self, after: int, limit: int) -> Looked:
        """Look at *limit* events behind number *after*; behind the last one at the counts."""
        if not after:
            self._counts.clear()
        before = self._rows.run("SELECT hash FROM event WHERE seq = ?", after).fetchone()
        prev = before[0] if before else None
        found = self._rows.run(
            "SELECT seq, uuid, tag, hash, raw, sum FROM event WHERE seq > ? ORDER BY seq LIMIT ?",
            *(after, limit),
        ).fetchall()
        wrong = []
        for row in map(_Row._make, found):
            self._counts[row.tag] += 1
            if row.raw and (why := self._wrong(row, prev)):
                wrong.append(f"{self._rows.path}: event {row.seq} is damaged: {why}")
            prev = row.hash
        if found:
            return Looked(found[-1][0], wrong)
        return Looked(None, self._miscounted())

    def _wrong(self, row: _Row, prev: str | None) -> str | None:
        if not is_sound(row.raw, row.hash, row.sum):
            return "its bytes are not those that were stored"
        try:
            event = read_event(row.raw)
            self._key.check(event.preimage, event.signatures[self._key.entity][KEY_ID])
        except (MalformedEvent, BadSignature, KeyError) as error:
            return f"it is not what we signed ({error})"
        link = event.feed
        if (event.hash, event.tag, UUID(event.uuid).bytes) != (row.hash, row.tag, row.uuid):
            return "it is not what its row says"
        if link is None or link.seq != row.seq or prev not in (None, link.prev):
            return "it does not follow the one before"
        return None if link.tag_seq == self._counts[row.tag] else "its tag was counted otherwise"

    def _miscounted(self) -> list[str]:
        counts = dict(self._rows.run("SELECT tag, n FROM tag"))
        # (Nobody else's events came meanwhile: of those the counts here know nothing yet.)
        if sum(counts.values()) != self._counts.total() or counts == self._counts:
            return []
        return [f"{self._rows.path}: the events are not as many of each tag as is noted"]
