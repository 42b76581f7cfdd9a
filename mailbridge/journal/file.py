"""The journal's file: its form, opened, locked and closed; SQLite's errors in our words."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from mailbridge import database
from mailbridge.database import Form
from mailbridge.errors import MailbridgeError, NeedsOperator, StorageFailed, TryAgain

_APPLICATION: Final = 0x6D626A31
"""Tells our file from other SQLite files: `mbj1`."""

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE tag (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE feed (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL, hash TEXT,
    tags TEXT NOT NULL, note BLOB);

-- `time` is when it came, in milliseconds, and never decreases.  `bytes` is NULL once pruned:
-- number, hash and uuid stay, so that nothing pruned can come in a second time.
CREATE TABLE event (
    pos INTEGER PRIMARY KEY, time INTEGER NOT NULL, tag INTEGER NOT NULL, uuid TEXT NOT NULL,
    hash TEXT NOT NULL, feed INTEGER, seq INTEGER, visible INTEGER NOT NULL, bytes BLOB);
CREATE UNIQUE INDEX event_link ON event (feed, seq) WHERE feed IS NOT NULL;
CREATE UNIQUE INDEX event_first ON event (uuid, tag) WHERE visible;
CREATE INDEX event_tag ON event (tag, pos) WHERE visible;

-- Two signed truths for one number: proof that a feed forked, kept and never served.
CREATE TABLE fork (
    feed TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL, time INTEGER NOT NULL,
    bytes BLOB NOT NULL, PRIMARY KEY (feed, seq, hash)) WITHOUT ROWID;
"""

# Numbers of a feed that nobody had when what comes behind them was taken: they may come late.
# `hash` is that of number `last`; `note` is what we signed about all of it.
_HOLES: Final = """
CREATE TABLE hole (
    feed INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, hash TEXT NOT NULL,
    note BLOB NOT NULL, PRIMARY KEY (feed, first)) WITHOUT ROWID;
"""

# What `inspection.checksum` says of bytes and hash; of what was stored before, a round notes it.
_SUMS: Final = """
ALTER TABLE event ADD COLUMN sum INTEGER;
"""

FORM: Final = Form(_TABLES, (_HOLES, _SUMS))
"""The journal's."""

SCHEMA: Final = FORM.version

MOST_LOG: Final = 32 * 1024 * 1024
"""Bytes that the write-ahead log may have while nobody holds it up: twice what a batch may be."""

# FULL: an answer "stored" must outlive a power cut.  NORMAL would take acknowledged events back.
# (auto_vacuum counts for a file that is empty still.)
_PRAGMAS: Final = (
    "auto_vacuum=INCREMENTAL",
    "journal_mode=WAL",
    "synchronous=FULL",
    # (4 MB: a checkpoint of more holds up the events of a tenth of a second.)
    "wal_autocheckpoint=1000",
    # A reader that took its time made the log grow; once it is gone that room is given back.
    f"journal_size_limit={MOST_LOG}",
    "cache_size=-16000",
)
_BUSY_SECONDS: Final = 30


class Damaged(NeedsOperator):
    """Raised instead of an event that the disk has altered."""

    def __init__(self, path: Path, pos: int) -> None:
        super().__init__(
            f"{path}: the event at position {pos} is damaged on the disk; restore a backup, or move"
            " the journal away and the sources send again what they have"
        )


Meanwhile = Callable[[Callable[[], bool]], None]
"""What is done while the disk works; it is given what tells whether that is done."""


class File:
    """An open journal file.  One process may write it, many may read."""

    def __init__(self, path: Path, *, readonly: bool) -> None:
        self.path: Final = path
        self._failed = False
        self._committer: ThreadPoolExecutor | None = None
        self._lock = -1 if readonly else _lock(path.with_suffix(".lock"), path)
        try:
            with self.told():
                self.db: Final = _open(path, readonly=readonly)
                self._prepare(readonly=readonly)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it, and let another process write."""
        if self._committer:
            self._committer.shutdown()
            self._committer = None
        if hasattr(self, "db"):
            self._close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _close(self) -> None:
        other = None
        if self._failed:
            # Whoever closes as the last one writes and syncs; but a kernel tells a failed write
            # once, and may take the page for written after that.  So through a file opened anew.
            with contextlib.suppress(sqlite3.Error):
                other = sqlite3.connect(self.path)
                other.execute("SELECT count(*) FROM sqlite_master")
        self.db.close()
        if other:
            other.close()

    def size(self) -> int:
        """Return how many bytes the file has, without its log."""
        with self.told():
            count, page = (
                int(self.db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "page_size")
            )
            return count * page

    def give_back(self) -> None:
        """Give what holds nothing back to the disk; a file of our first versions is rebuilt."""
        with self.told():
            if int(self.db.execute("PRAGMA auto_vacuum").fetchone()[0]):
                # (`execute` would stop at the first page: a row without a column ends it.)
                self.db.executescript("PRAGMA incremental_vacuum")
            elif int(self.db.execute("PRAGMA freelist_count").fetchone()[0]):
                self.db.execute("PRAGMA auto_vacuum=INCREMENTAL")
                self.db.execute("VACUUM")
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def empty_log(self) -> None:
        """Leave nothing in the log, if no reader is in the way: then the next one does it."""
        with self.told():
            self.db.execute("PRAGMA busy_timeout=0")
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.db.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")

    def commit(self, meanwhile: Meanwhile | None = None) -> None:
        """
        Have the transaction on the disk when this returns; *meanwhile* is called before that.

        Raises `StorageFailed` where it is not there, and what *meanwhile* raises.
        """
        if meanwhile is None:
            self.run("COMMIT")
            return
        if self._committer is None:
            self._committer = ThreadPoolExecutor(1, "commit")
        done = self._committer.submit(self.run, "COMMIT")
        try:
            meanwhile(done.done)
        finally:
            done.result()

    def run(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Run *sql*.  Raises `StorageFailed`, `NeedsOperator` or `TryAgain`."""
        with self.told():
            return self.db.execute(sql, values)

    def one(self, sql: str, values: tuple[object, ...] = ()) -> Any:  # noqa: ANN401 - SQLite's
        """Return the one value that *sql* gives; None for no row."""
        with self.told():
            row = self.db.execute(sql, values).fetchone()
            return row[0] if row else None

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raise SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            wrong = self._explained(error)
            self._failed = isinstance(wrong, StorageFailed)
            raise wrong from error

    def _prepare(self, *, readonly: bool) -> None:
        version = int(self.one("PRAGMA user_version"))
        if version > SCHEMA:
            raise NeedsOperator(
                f"{self.path}: written by a newer mailbridge (schema {version}, this one knows"
                f" {SCHEMA}); upgrade this program"
            )
        empty = version == 0 and not self.one("SELECT count(*) FROM sqlite_master")
        if not empty and self.one("PRAGMA application_id") != _APPLICATION:
            raise NeedsOperator(f"{self.path}: is no journal of a relay")
        if readonly:
            if empty:
                raise NeedsOperator(f"{self.path}: is empty; no relay has begun it")
            if version < SCHEMA:
                raise TryAgain(f"{self.path}: is older than this program; its relay mends that")
            return
        for pragma in _PRAGMAS:
            self.db.execute(f"PRAGMA {pragma}")
        database.settle(self.db)
        if empty:
            self._create()
        else:
            self._check()
            if version < SCHEMA:
                self._renew()

    def _check(self) -> None:
        with self.told():
            if found := database.damage(self.db, self.path):
                raise self._damaged(found)

    def _renew(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        database.bring_up(self.db, self.path, FORM)
        self.db.execute("COMMIT")

    def _create(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        database.bring_up(self.db, self.path, FORM)
        values = (("id", secrets.token_hex(4)), ("horizon", 0), ("published", 0))
        self.db.executemany("INSERT INTO meta VALUES (?, ?)", values)
        self.db.execute(f"PRAGMA application_id = {_APPLICATION}")
        self.db.execute("COMMIT")

    def _explained(self, error: sqlite3.Error) -> MailbridgeError:
        # The low byte is the primary code, the rest tells more of it.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._damaged(str(error))
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return TryAgain(f"{self.path}: kept busy by another process for {_BUSY_SECONDS} s")
        return StorageFailed(f"{self.path}: {error}; what was acknowledged is safe")

    def _damaged(self, found: str) -> NeedsOperator:
        words = found.splitlines()[-1][:200] if found else "?"
        return NeedsOperator(
            f"{self.path}: damaged ({words}); restore a backup, or move it away and the sources"
            " send again what they have"
        )


def become_copy(path: Path) -> None:
    """
    Give the copy *path* of a journal an id of its own.

    The journal goes on without it: its later cursors must not be taken for places in the copy.
    """
    with contextlib.closing(database.connect(path)) as db:
        db.execute("UPDATE meta SET value = ? WHERE name = 'id'", (secrets.token_hex(4),))
        db.execute("PRAGMA journal_mode=DELETE")


def _open(path: Path, *, readonly: bool) -> sqlite3.Connection:
    if readonly:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        # On a medium that cannot be written SQLite opens no WAL; if there is none, none is needed.
        wal = path.with_name(path.name + "-wal")
        if not os.access(path.parent, os.W_OK) and not wal.exists():
            uri += "&immutable=1"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    database.make(path)
    # A relay opens it in one thread, so that errors come there, and uses it in another.
    return sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _lock(lock: Path, path: Path) -> int:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed(f"{lock}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise TryAgain(
            f"{path}: another relay runs on this state; stop it, or give another --state"
        ) from error
    return descriptor
