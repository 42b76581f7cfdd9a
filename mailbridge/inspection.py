"""
Stored rows are looked at again, a few at a time, round after round.

What a disk has altered without a word is found before somebody needs it: while a backup still has
it, or whoever was sent it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from mailbridge.errors import MalformedEvent, NeedsOperator, TryAgain
from mailbridge.event import hash_of

log = logging.getLogger("mailbridge.inspection")

ROWS: Final = 64
PAUSE: Final = 1.0
"""So many rows are looked at, and then none for so many seconds: a hundredth of a processor."""

EVERY: Final = 86400.0
"""Seconds from the end of one round to the next."""

TOLD: Final = 5
"""So many damaged rows are told one by one; more say nothing more."""


def checksum(raw: bytes, *words: str) -> int:
    """Return what is stored beside *raw* and *words*, to know them again: their CRC-32."""
    return zlib.crc32("\0".join(words).encode(), zlib.crc32(raw))


def is_sound(raw: bytes, hashed: str, stored: int | None) -> bool:
    """Say whether *raw* is what was stored with the hash *hashed* and the checksum *stored*."""
    if stored is not None:
        return stored == checksum(raw, hashed)
    # (Of before there were checksums: it costs ten times as much.)
    try:
        return hash_of(raw) == hashed
    except MalformedEvent:
        return False


class Looked(NamedTuple):
    """What came of one look."""

    last: int | None
    """The last row of it; None: there were no more."""
    wrong: list[str]
    """What is damaged, in a few words each."""


class Inspection:
    """The rounds over one database.  It lives in the thread that uses that."""

    def __init__(self, look: Callable[[int, int], Looked]) -> None:
        """*look* takes the row to go on behind (0: begin), and how many rows to look at."""
        self._look: Final = look
        self._at = 0
        self._due = 0.0
        self._found: list[str] = []
        self._known: list[str] = []

    def turn(self, now: float) -> float:
        """Look at some rows, if that is due (*now* is `time.monotonic()`); return when it is."""
        if now < self._due:
            return self._due
        self._due = now + PAUSE
        try:
            last, wrong = self._look(self._at, ROWS)
        except TryAgain:
            return self._due
        except NeedsOperator as error:
            # (Of the pages behind one that is no page nobody can tell where they begin.)
            last, wrong = None, [str(error)]
        for one in wrong:
            if len(self._found) < TOLD and one not in self._known:
                log.error("%s", one)
            self._found.append(one)
        if last is None:
            self._known, self._found = self._found[:TOLD], []
            self._at, self._due = 0, now + EVERY
        else:
            self._at = last
        return self._due

    def alarms(self) -> list[str]:
        """Return what the last round, or this one so far, found to be damaged."""
        return list(dict.fromkeys([*self._known, *self._found[:TOLD]]))
