"""
What our databases have in common: a form that has a version, and copies of one that is in use.

A database of an older form is copied beside itself, then brought up, in one transaction: a crash
leaves it as it was, or done.  SQLite's errors are raised as they are; who calls puts them in words.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge import failpoint
from mailbridge.errors import NeedsOperator, StorageFailed

log = logging.getLogger("mailbridge.database")

OURS_ALONE: Final = 0o600

CHECKED: Final = 64 * 1024 * 1024
"""Bytes of a file whose pages are all checked at a start: a GB would take a second.  Of a larger
one a damaged page is found when it is used, a damaged row by `inspection`."""


class Form(NamedTuple):
    """The tables of a database: those of version 1, and what each later version made of them."""

    tables: str
    steps: tuple[str, ...] = ()
    """The first leads from version 1 to 2.  What was released is never edited: add another."""

    @property
    def version(self) -> int:
        """The version that the last step leads to."""
        return 1 + len(self.steps)


def bring_up(db: sqlite3.Connection, path: Path | None, form: Form) -> int:
    """
    Bring *db*, the file *path* or in memory, to *form*, and return the version that it had.

    Inside a transaction.  What is there already (version 1 or more) is copied first, beside it, as
    `NAME.schema-N`.  Raises `NeedsOperator` where it is newer than *form*: nothing is changed then.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > form.version:
        raise NeedsOperator(
            f"{path}: made by a newer mailbridge (schema {version}, we know {form.version});"
            " use that one"
        )
    if version == form.version:
        return version
    if version and path:
        kept = path.with_name(f"{path.name}.schema-{version}")
        copy(path, kept)
        log.info("%s as it was is kept in %s", path, kept)
    for step in form.steps[version - 1 :] if version else (form.tables, *form.steps):
        for statement in _statements(step):
            db.execute(statement)
        failpoint.reached("migrated")
    db.execute(f"PRAGMA user_version={form.version}")
    return version


def copy(path: Path, to: Path) -> None:
    """
    Have a copy of the database *path*, as its last commit left it, in *to*, on the disk.

    Others may read and write it meanwhile.  *to* is ours alone, and there whole or not at all.
    Raises `StorageFailed` where *to* cannot be written.
    """
    begun = to.with_name(f"{to.name}.tmp")
    try:
        begun.unlink(missing_ok=True)
        with contextlib.closing(connect(path)) as old, contextlib.closing(connect(begun)) as new:
            old.backup(new)
        sync(begun)
        failpoint.reached("copied")
        begun.rename(to)
        sync(to.parent)
    except OSError as error:
        raise StorageFailed(f"{to}: cannot be written: {error.strerror}") from error


def check(path: Path, *, called: Path) -> None:
    """
    Return if SQLite finds *path* whole (`quick_check`); else raise `NeedsOperator`.

    It is a copy of what the error is to name, *called*.
    """
    try:
        with contextlib.closing(connect(path)) as db:
            found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise NeedsOperator(
            f"{called}: damaged ({found.splitlines()[-1][:200]}); nothing was copied"
        )


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to the database *path*, made readable by us alone if it is missing."""
    make(path)
    # A back-fill beside a daemon holds the right to write for milliseconds; a minute is an illness.
    return sqlite3.connect(path, timeout=60, isolation_level=None)


def damage(db: sqlite3.Connection, path: Path | None) -> str:
    """Return what is wrong with the pages of *db*; empty: nothing, or too many to look at now."""
    if path is None or path.stat().st_size > CHECKED:
        return ""
    found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if found == "ok" else found.splitlines()[-1][:200]


def make(path: Path) -> None:
    """Make the file *path* where it is missing.  Raises `StorageFailed`."""
    # It is born closed: SQLite itself would make it as the umask says.
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OURS_ALONE))
    except FileExistsError:
        return
    except OSError as error:
        raise StorageFailed(
            f"{path}: cannot be made: {error.strerror}; can this user write there?"
        ) from error


def settle(db: sqlite3.Connection) -> None:
    """
    Have on the disk what *db* holds, before anybody is told of it.

    Of a process that was killed within a commit, or whose disk failed, SQLite takes what reached
    the kernel for committed; a power cut would take it back, and its numbers were given again.
    """
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def sync(path: Path) -> None:
    """Have *path*, a file or a directory's names, on the disk.  Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of *script*; each ends with the end of a line."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
