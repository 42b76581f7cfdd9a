"""A journal's file, beside its relay or without one, that answers as a relay would."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from mailbridge.errors import NeedsOperator, RelayGone
from mailbridge.event import parse_json
from mailbridge.journal import Reading
from mailbridge.wire.read import GRACE, Answer, Refused, Stopped

LOOK_EVERY: Final = 0.25
"""Seconds between two looks at a file that has nothing new: SQLite tells nobody."""

_PAGE_BYTES: Final = 4 * 1024 * 1024
_FORKS: Final = 8


class JournalAsker:
    """Answers from the journal *path*.  Raises `NeedsOperator` where there is none."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise NeedsOperator(f"{path}: no such journal")
        self._path: Final = path
        # (Opened in the thread that asks first: SQLite wants one thread.)
        self._journal: Reading | None = None
        self._stop: Final = threading.Event()

    def ask(
        self,
        op: str,
        fields: Mapping[str, Any],
        *,
        wait: float = 0.0,
        grace: float = GRACE,  # noqa: ARG002 - a file answers at once,
        proofs: Sequence[bytes] = (),  # noqa: ARG002 - and serves nobody else
    ) -> Answer:
        """Return the answer to *op*, for a new event after at most *wait* seconds."""
        if self._stop.is_set():
            raise Stopped
        if self._journal is None:
            self._journal = Reading(self._path)
        journal = self._journal
        if op == "read":
            return self._read(journal, fields, time.monotonic() + wait)
        if op == "at":
            when = datetime.fromisoformat(fields["time"])
            return Answer({"cursor": self._cursor(journal, journal.at(when))}, [])
        if op == "feed":
            try:
                links = journal.links(fields["feed"], fields["after"], fields["limit"], _PAGE_BYTES)
            except RelayGone as error:
                raise Refused("pruned", str(error)) from error
            holes = [parse_json(hole.note) for hole in links.holes]
            return Answer({**links.told(), "holes": holes}, links.frames())
        if op == "feeds":
            feeds = {
                feed: {
                    "seq": state.head.seq,
                    "hash": state.head.hash,
                    "head": parse_json(state.note) if state.note else None,
                }
                for feed, state in journal.feeds().items()
            }
            forks = journal.evidence(_FORKS)
            return Answer({"feeds": feeds, "forks": list(forks)}, list(forks.values()))
        raise Refused("bad-request", f"{self._path}: a file cannot answer {op!r}")

    def expect(self, op: str, fields: Mapping[str, Any]) -> None:
        """Do nothing: a file answers at once."""

    def pause(self, seconds: float) -> None:
        """Do nothing for *seconds*.  Raises `Stopped`."""
        if self._stop.wait(seconds):
            raise Stopped

    def stop(self) -> None:
        """Make a waiting `ask` raise `Stopped`, and every later one."""
        self._stop.set()

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()

    def _read(self, journal: Reading, fields: Mapping[str, Any], deadline: float) -> Answer:
        after = self._after(journal, fields["after"])
        while True:
            # (The head first: what comes in between is then found by the next look.)
            head = journal.head()
            try:
                rows, more = journal.page(after, fields["tags"], fields["limit"], _PAGE_BYTES)
            except RelayGone as error:
                raise Refused("pruned", str(error)) from error
            left = deadline - time.monotonic()
            if rows or left <= 0:
                break
            while journal.head() == head and left > 0:
                self.pause(min(LOOK_EVERY, left))
                left = deadline - time.monotonic()
        header = {
            "cursors": [self._cursor(journal, pos) for pos, _ in rows],
            "head": self._cursor(journal, head),
            "more": more,
        }
        return Answer(header, [raw for _, raw in rows])

    def _after(self, journal: Reading, cursor: str | None) -> int:
        if cursor is None:
            return journal.horizon()
        name, _, pos = cursor.partition("-")
        if name != journal.id or int(pos) > journal.head():
            raise Refused("wrong-journal", f"{self._path}: {cursor} is from another journal")
        if int(pos) < journal.horizon():
            raise Refused("pruned", f"{self._path}: what came behind {cursor} was pruned")
        return int(pos)

    def _cursor(self, journal: Reading, pos: int) -> str:
        return f"{journal.id}-{pos}"
