"""The outbox as a file: its schema, how it is opened, what its errors mean, and who may send it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Final

from mailbridge import database
from mailbridge.database import Form
from mailbridge.errors import MailbridgeError, NeedsOperator, StorageFailed, TryAgain

# FULL, not NORMAL: with NORMAL a power cut takes back commits whose events a relay has already
# seen, their numbers are given again, and the feed is forked.
PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
)

_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The current feed.  A uuid is here once, and a former feed's uuids are in `former`.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, uuid BLOB NOT NULL UNIQUE, tag TEXT NOT NULL, hash TEXT NOT NULL,
    raw BLOB NOT NULL, backfill INTEGER NOT NULL, mail BLOB);
CREATE INDEX event_mail ON event (mail);
CREATE TABLE tag (tag TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE former (uuid BLOB PRIMARY KEY) WITHOUT ROWID;

-- By content, for the sources that were asked about it.
CREATE TABLE mail (
    sha256 BLOB NOT NULL, route TEXT NOT NULL, verdict TEXT NOT NULL, code TEXT NOT NULL,
    reason TEXT, taken INTEGER NOT NULL, PRIMARY KEY (sha256, route)) WITHOUT ROWID;
CREATE TABLE attempt (
    sha256 BLOB PRIMARY KEY, n INTEGER NOT NULL, life BLOB NOT NULL) WITHOUT ROWID;

-- By delivery: a file keeps its base name and inode while readers rename and flag it.
CREATE TABLE place (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, since INTEGER NOT NULL);
CREATE TABLE file (
    place INTEGER NOT NULL, base BLOB NOT NULL, inode INTEGER NOT NULL, verdict TEXT NOT NULL,
    done INTEGER NOT NULL, PRIMARY KEY (place, base, inode)) WITHOUT ROWID;
CREATE TABLE count (
    source TEXT NOT NULL, verdict TEXT NOT NULL, code TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (source, verdict, code)) WITHOUT ROWID;

CREATE TABLE target (name TEXT PRIMARY KEY, acked INTEGER NOT NULL) WITHOUT ROWID;
"""

_CONFIRMATIONS: Final = """
-- What backs news best, where their event does not tell it: they were confirmed, or it is gone.
CREATE TABLE backing (
    uuid BLOB PRIMARY KEY, tag TEXT NOT NULL, how TEXT NOT NULL, signed INTEGER NOT NULL)
    WITHOUT ROWID;

-- Uploads that went out under Laniakea's own tags, to know them again if its mails come back.
CREATE TABLE stood_in (
    repo TEXT NOT NULL, upload TEXT NOT NULL, suite TEXT NOT NULL, source TEXT NOT NULL,
    version TEXT NOT NULL, PRIMARY KEY (repo, upload, suite, source, version)) WITHOUT ROWID;
CREATE INDEX stood_in_source ON stood_in (repo, source, version);
"""

_AGES: Final = """
-- When an event was made (Unix time).  Compacted, it has no bytes and no mail, and what backs it
-- stands here instead: `how` is NULL where it says nothing of any mail.
ALTER TABLE event ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN how TEXT;
ALTER TABLE event ADD COLUMN signed INTEGER;
UPDATE event SET made =
    coalesce(CAST(strftime('%s', json_extract(CAST(raw AS TEXT), '$.time')) AS INTEGER), 0);
DROP INDEX event_mail;
CREATE INDEX event_mail ON event (mail) WHERE mail IS NOT NULL;

CREATE INDEX mail_age ON mail (verdict, taken);

-- Since when (Unix time) each look has missed the file.
ALTER TABLE file ADD COLUMN gone INTEGER;
CREATE INDEX file_gone ON file (place, gone) WHERE gone IS NOT NULL;
"""

_SUMS: Final = """
-- What `inspection.checksum` says of raw and hash; NULL for what was stored before.
ALTER TABLE event ADD COLUMN sum INTEGER;
"""

FORM: Final = Form(_TABLES, (_CONFIRMATIONS, _AGES, _SUMS))
"""The outbox's."""


class DiskFull(StorageFailed):
    """Raised when the disk has no room: the mails wait, and so can we."""


class OutboxFailed(StorageFailed):
    """Raised when the disk under the outbox fails: after that only a new start may trust it."""


class SenderLock:
    """The right to send this outbox's events: one process has it, and the kernel takes it back."""

    def __init__(self, state: Path) -> None:
        """Take it.  Raises `TryAgain` where another process has it, `StorageFailed` (disk)."""
        path = state / "outbox.lock"
        try:
            self._fd: Final = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}; can this user write there?") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise TryAgain(
                f"{state}: another mailbridge runs on this state; stop it, or give another --state"
            ) from error

    def release(self) -> None:
        """Give it back."""
        os.close(self._fd)


def entity_of(path: Path) -> str | None:
    """Return whose outbox *path* is; None where there is none (or it was never finished)."""
    if not path.exists():
        return None
    with Told(path), contextlib.closing(connect(path)) as db:
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            return None
        row = db.execute("SELECT value FROM meta WHERE key = 'entity'").fetchone()
        return str(row[0]) if row else None


def become_backup(path: Path, moment: str) -> None:
    """Let the copy *path* of an outbox say that it is one, of *moment* (ISO 8601), from now on."""
    with Told(path), contextlib.closing(connect(path)) as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('backup', ?)", (moment,))
        # (As one file: nothing beside it can get lost.)
        db.execute("PRAGMA journal_mode=DELETE")


def look_at(path: Path) -> tuple[str, int]:
    """Return the feed of the outbox *path* and its newest number, without its key."""
    with Told(path), contextlib.closing(connect(path)) as db:
        feed = db.execute("SELECT value FROM meta WHERE key = 'feed'").fetchone()
        newest = db.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
        return (str(feed[0]) if feed else "no feed"), int(newest[0])


def connect(path: Path | None) -> sqlite3.Connection:
    """Return a connection to *path*, made readable by us alone; None: one in memory."""
    if path is not None:
        return database.connect(path)
    return sqlite3.connect(":memory:", isolation_level=None)


def ready(db: sqlite3.Connection) -> None:
    """Set *db* to be durable, and have on the disk what it holds.  Raises SQLite's errors."""
    if not db.execute("PRAGMA page_count").fetchone()[0]:
        # (It counts for a file that is empty still; any other is written to by the question alone.)
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in PRAGMAS:
        db.execute(f"PRAGMA {pragma}")
    database.settle(db)


_DISK: Final = frozenset((sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN))
_BUSY: Final = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))


class Told:
    """
    Around what SQLite does: raises its errors as ours, of the disk, another process, damage.

    (Every statement runs in one; so it is no generator, and made once.)
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path | None) -> None:
        self._path: Final = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, sqlite3.DatabaseError) and (wrong := self._ours(error)):
            raise wrong from error

    @staticmethod
    def fatal(error: sqlite3.DatabaseError) -> bool:
        """Say whether after *error* nobody knows what the disk holds."""
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK

    @staticmethod
    def busy(error: sqlite3.DatabaseError) -> bool:
        """Say whether *error* is that another process is at it."""
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY

    def _ours(self, error: sqlite3.DatabaseError) -> MailbridgeError | None:
        # The low byte is the primary code, the rest tells more of it.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        path = self._path
        if code == sqlite3.SQLITE_FULL:
            return DiskFull(f"{path}: no room on the disk; mails wait in their Maildirs")
        if code in _DISK:
            return OutboxFailed(f"{path}: {error}; nothing is lost, mails wait in their Maildirs")
        if code in _BUSY:
            return TryAgain(f"{path}: kept busy by another process for a minute")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return NeedsOperator(f"{path}: damaged ({error}); restore it, then --new-epoch")
        return None
