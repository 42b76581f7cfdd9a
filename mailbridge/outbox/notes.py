"""Small facts that outlive a restart, kept by name beside the outbox's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

Run = Callable[..., sqlite3.Cursor]
"""Runs one statement on the outbox."""


class Notes:
    """Facts of one *kind*, by name: in `meta`, under `<kind> <name>`."""

    def __init__(self, run: Run, kind: str) -> None:
        self._run: Final = run
        self._kind: Final = kind

    def get(self, name: str) -> str | None:
        """Return what is kept under *name*, or None."""
        row = self._run("SELECT value FROM meta WHERE key = ?", self._key(name)).fetchone()
        return str(row[0]) if row else None

    def all(self) -> dict[str, str]:
        """Return everything that is kept, by name."""
        start = self._key("")
        rows = self._run(
            "SELECT key, value FROM meta WHERE substr(key, 1, ?) = ? ORDER BY key",
            *(len(start), start),
        )
        return {str(key)[len(start) :]: str(value) for key, value in rows}

    def put(self, name: str, value: str) -> None:
        """Keep *value* under *name*; inside a transaction."""
        self._run("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", self._key(name), value)

    def forget(self, name: str) -> None:
        """Keep nothing under *name*; inside a transaction."""
        self._run("DELETE FROM meta WHERE key = ?", self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._kind} {name}"
