"""The outbox's file in use: statements, transactions, and the words that it keeps by name."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mailbridge import database, failpoint
from mailbridge.errors import MailbridgeError, ToldToEnd
from mailbridge.outbox.file import OutboxFailed, Told, connect, ready

BREATH_MS: Final = 500
"""Milliseconds for which SQLite waits for another process before we look up."""

PATIENCE: Final = 60.0
"""Seconds until we give up.  A back-fill beside us holds the right to write for milliseconds."""


class Rows:
    """An open outbox, whatever its rows say.  One thread uses it."""

    def __init__(self, path: Path | None) -> None:
        self.path: Final = path
        self._told: Final = Told(path)
        self._failed = False
        self.told_to_end: Callable[[], bool] = lambda: False
        """Asked while another process keeps us waiting."""
        self._db = connect(path)
        try:
            with self._told, self._watched():
                ready(self._db)
                self._db.execute(f"PRAGMA busy_timeout={BREATH_MS}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it.  What is committed stays."""
        if self._failed:
            with contextlib.suppress(MailbridgeError):
                self._reopen()
        self._db.close()

    def damage(self) -> str:
        """Return what is wrong with the file's pages, as far as there is time to look: or empty."""
        with self._told:
            return database.damage(self._db, self.path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the only right to write until the end, then commit to the disk; or undo it all."""
        if self._failed:
            self._reopen()
        with self._told, self._watched():
            self._begin()
            try:
                yield
                failpoint.reached("outbox-commit")
                self._db.execute("COMMIT")
                failpoint.reached("outbox-committed")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _begin(self) -> None:
        # (SQLite itself would wait with both ears shut: nobody could tell us to end.)
        waits_until = time.monotonic() + PATIENCE
        while True:
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not Told.busy(error) or time.monotonic() > waits_until:
                    raise
                failpoint.reached("outbox-busy")
                if self.told_to_end():
                    raise ToldToEnd(f"{self.path}: kept busy by another process") from error
            else:
                return

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OutboxFailed:
            self._failed = True
            raise
        except sqlite3.OperationalError as error:
            self._failed = Told.fatal(error)
            raise

    def _reopen(self) -> None:
        # A kernel tells a failed write once, and may then take the page for written: a second
        # fsync of the same file, as it was opened, would say that all is well.
        # (Closed last of the two: whoever closes a database as the last one writes to it.)
        with contextlib.closing(self._db):
            self._db = connect(self.path)
            with self._told:
                ready(self._db)
                self._db.execute(f"PRAGMA busy_timeout={BREATH_MS}")
        self._failed = False

    def _get(self, key: str) -> str | None:
        row = self.run("SELECT value FROM meta WHERE key = ?", key).fetchone()
        return str(row[0]) if row else None

    def _set(self, key: str, value: str) -> None:
        self.run("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", key, value)

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self.run(sql).fetchone()
        return row

    def run(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Run one statement.  Raises SQLite's errors in our words (`file.Told`)."""
        with self._told:
            return self._db.execute(sql, values)

    def run_all(self, sql: str, rows: Iterable[tuple[object, ...]]) -> sqlite3.Cursor:
        """Run one statement with each of *rows*, as `run` does."""
        with self._told:
            return self._db.executemany(sql, rows)
