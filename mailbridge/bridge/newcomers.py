"""
Which files of a Maildir have no verdict yet.

A folder of a million takes seconds to look through, and each mail that a reader moves there changes
it.  So a large `cur/` is looked through a part at a time, while mail is taken in, and not again
before twenty times as long has passed: a mail that comes costs the same whatever lies there.
"""

from __future__ import annotations

import bisect
import itertools
import math
import os
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailbridge import maildir
from mailbridge.maildir import Found
from mailbridge.outbox import Outbox

SLICE: Final = 10_000
"""Files of a `cur/` that one look looks at."""

PAUSE: Final = 20.0
"""How many times as long as a look through a `cur/` took passes before the next."""

LONG: Final = 0.01
"""Seconds of a processor that such a look may take without a pause behind it."""

REMEMBERED: Final = 2_000
"""Files of a folder that are known to be done without the outbox being asked."""

_PAGE: Final = 500
_SHELVES: Final = 1024


class Newcomers:
    """Looks through the folders of the Maildir *path*, and asks *outbox* what it knows."""

    def __init__(self, path: Path, outbox: Outbox, *, subfolders: bool) -> None:
        self._folders: Final = maildir.Folders(path, subfolders=subfolders)
        self._outbox: Final = outbox
        self._begun: Final[dict[Path, Iterator[Found]]] = {}
        """Folders that are looked through, and what of them was not looked at."""
        self._spent: Final[dict[Path, float]] = {}
        self._done: Final[dict[Path, set[tuple[bytes, int]]]] = {}
        """What had its verdict when we looked last; so mail that comes costs what it costs."""
        self._found: Final[dict[Path, set[tuple[bytes, int]]]] = {}
        """The same of a look that is not at its end."""
        self._later: Final[dict[Path, float]] = {}
        """When (monotonic) a folder may be looked through again."""

    def doubt(self) -> None:
        """Have every folder looked through again, whether it changed or not."""
        self._done.clear()
        self._folders.doubt()

    def begin_anew(self) -> None:
        """Forget what was begun, and what may wait."""
        for kept in (self._begun, self._later, self._done, self._found, self._spent):
            kept.clear()
        self._folders.doubt()

    def due(self) -> float:
        """Return when (monotonic) there is something to look at that no watch will tell."""
        return -math.inf if self._begun else min(self._later.values(), default=math.inf)

    def look(self, place: int, *, whole: bool) -> Iterator[tuple[Found, bool]]:
        """
        Yield what lies in the folders that changed, and whether it has its verdict in *place*.

        Of a `cur/`, unless the *whole* of it is wanted, at most `SLICE` files; `due` tells then
        that there are more.  Raises as `maildir.scan_folder`.
        """
        now = time.monotonic()
        for folder in self._folders.changed():
            if folder in self._begun or now < self._later.get(folder, -math.inf):
                # (What it became meanwhile the next look through it will see.)
                self._folders.doubt(folder)
            else:
                self._begun[folder] = maildir.scan_folder(folder)
        for folder in [folder for folder, when in self._later.items() if when <= now]:
            del self._later[folder]
        for folder in list(self._begun):
            most = None if whole or folder.name == "new" else SLICE
            yield from self._some(folder, place, most)

    def _some(self, folder: Path, place: int, most: int | None) -> Iterator[tuple[Found, bool]]:
        # (Of a processor: a machine that is busy makes no folder large.)
        began = time.thread_time()
        files = itertools.islice(self._begun[folder], most)
        count = 0
        while page := list(itertools.islice(files, _PAGE)):
            count += len(page)
            keys = [(os.fsencode(found.base), found.inode) for found in page]
            done = self._known(folder, place, keys)
            yield from ((found, key in done) for found, key in zip(page, keys, strict=True))
        spent = self._spent.pop(folder, 0.0) + time.thread_time() - began
        if most is not None and count == most:
            self._spent[folder] = spent
            return
        del self._begun[folder]
        self._done[folder] = self._found.pop(folder, set())
        if folder.name == "cur" and spent > LONG:
            self._later[folder] = time.monotonic() + PAUSE * spent

    def _known(
        self, folder: Path, place: int, keys: list[tuple[bytes, int]]
    ) -> set[tuple[bytes, int]]:
        """Return those of *keys* that have their verdict."""
        before = self._done.get(folder, set())
        unsure = [key for key in keys if key not in before]
        done = before.intersection(keys)
        if unsure:
            done |= self._outbox.known_files(place, unsure)
        found = self._found.setdefault(folder, set())
        if len(found) + len(done) <= REMEMBERED:
            found |= done
        return done


class Crowd:
    """
    Files by base name and inode, each in eight bytes.

    Of so many a million it takes one for another with a chance of one in ten million million.
    """

    def __init__(self) -> None:
        self._shelves: Final = [array("Q") for _ in range(_SHELVES)]
        self._sorted = True
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, file: tuple[bytes, int]) -> None:
        """Add the *file* (base name, inode)."""
        mark = _mark(file)
        self._shelves[mark % _SHELVES].append(mark)
        self._count += 1
        self._sorted = False

    def __contains__(self, file: object) -> bool:
        if not self._sorted:
            for shelf in self._shelves:
                shelf[:] = array("Q", sorted(shelf))
            self._sorted = True
        mark = _mark(file)
        shelf = self._shelves[mark % _SHELVES]
        at = bisect.bisect_left(shelf, mark)
        return at < len(shelf) and shelf[at] == mark


def _mark(file: object) -> int:
    return hash(file) & 0xFFFF_FFFF_FFFF_FFFF
