"""The outbox's file in use: statements, transactions, and the words that it keeps by name."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mailbridge import failpoint
from mailbridge.outbox.file import Told, connect


class Rows:
    """An open outbox, whatever its rows say.  One thread uses it."""

    def __init__(self, path: Path | None) -> None:
        self.path: Final = path
        self._told: Final = Told(path)
        self._db: Final = connect(path)

    def close(self) -> None:
        """Close it.  What is committed stays."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the only right to write until the end, then commit to the disk; or undo it all."""
        with self._told:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                failpoint.reached("outbox-commit")
                self._db.execute("COMMIT")
                failpoint.reached("outbox-committed")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

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
