"""
A backup of a state while everything runs: databases, keys, policy, quarantine; checked once made.

What goes on is written after it; so a restored outbox says of itself that it is a backup, and a
bridge sends nothing from it until an operator began a new epoch.  A restored journal has an id of
its own: no cursor of the lost one is taken for a place in it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge import database, failpoint
from mailbridge.bridge.state import OUTBOX
from mailbridge.errors import NeedsOperator, StorageFailed
from mailbridge.journal import Journal, become_copy
from mailbridge.outbox import become_backup, look_at

JOURNAL: Final = "journal.db"

ABANDONED: Final = 86400
"""Seconds after which nobody works at a backup any more."""

_FILES: Final = ("policy.toml", "known_relays")
_DIRECTORIES: Final = ("keys", "quarantine")
_TAR: Final = (".tar", ".tar.gz", ".tgz")


class Made(NamedTuple):
    """A backup that was made and checked."""

    path: Path
    parts: tuple[str, ...]
    """What is in it, in a few words each."""


def back_up(state: Path, to: Path, *, now: datetime | None = None) -> Made:
    """
    Back up the *state* into *to*: a new directory in it, or a file if it is named `….tar[.gz]`.

    On the disk, readable by us alone, and there whole or not at all.  The outbox comes before the
    quarantine, which so has every mail that the outbox says it has.

    Raises `NeedsOperator` where there is nothing to back up, or what was written does not verify;
    `StorageFailed` where *to* does not take it.
    """
    if not any((state / name).exists() for name in (OUTBOX, JOURNAL)):
        raise NeedsOperator(f"{state}: nothing has run here yet; --state names another place")
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    as_file = to.name.endswith(_TAR)
    directory = to.parent if as_file else to
    begun = directory / f".mailbridge-{moment}.{os.getpid()}.tmp"
    try:
        with ExitStack() as stack:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _clear(directory)
            begun.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, begun, ignore_errors=True)
            parts = _copy(state, begun, moment)
            failpoint.reached("backup-copied")
            if as_file:
                _pack(begun, to, moment)
            else:
                to = _unused(directory / f"mailbridge-{moment}")
                begun.rename(to)
            database.sync(directory)
    except OSError as error:
        raise StorageFailed(f"{to}: cannot be written: {error.strerror or error}") from error
    except sqlite3.DatabaseError as error:
        raise StorageFailed(f"{state}: no backup could be made: {error}") from error
    return Made(to, tuple(parts))


def _clear(directory: Path) -> None:
    """Remove what backups left behind that were killed, with the secret keys in it."""
    for left in directory.glob(".mailbridge-*.tmp*"):
        if time.time() - left.stat().st_mtime < ABANDONED:
            continue
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def _copy(state: Path, into: Path, moment: str) -> list[str]:
    parts = []
    if (state / OUTBOX).exists():
        database.copy(state / OUTBOX, into / OUTBOX)
        database.check(into / OUTBOX, called=state / OUTBOX)
        become_backup(into / OUTBOX, moment)
        feed, seq = look_at(into / OUTBOX)
        parts.append(f"outbox up to {seq} of {feed}")
    if (state / JOURNAL).exists():
        database.copy(state / JOURNAL, into / JOURNAL)
        database.check(into / JOURNAL, called=state / JOURNAL)
        become_copy(into / JOURNAL)
        with Journal.open(into / JOURNAL, readonly=True) as journal:
            parts.append(f"journal with {journal.head()} events")
    for name in (OUTBOX, JOURNAL):
        if (into / name).exists():
            database.check(into / name, called=into / name)
    files = [Path(name) for name in _FILES if (state / name).is_file()]
    for name in _DIRECTORIES:
        found = sorted(path for path in (state / name).rglob("*") if path.is_file())
        files += [path.relative_to(state) for path in found if not path.name.startswith(".")]
    count = dict.fromkeys(_DIRECTORIES, 0)
    for file in files:
        if _copy_file(state / file, into / file) and file.parts[0] in count:
            count[file.parts[0]] += 1
    parts.append(f"{count['keys']} key files")
    parts.append(f"{count['quarantine'] // 2} mails in quarantine")
    for directory in {into, *((into / file).parent for file in files)}:
        if directory.is_dir():
            database.sync(directory)
    return parts


def _copy_file(path: Path, to: Path) -> bool:
    """Copy a file; False if it is gone since (a mail that left the quarantine)."""
    try:
        with path.open("rb") as source:
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(fd)
    except FileNotFoundError:
        return False
    return True


def _pack(begun: Path, to: Path, moment: str) -> None:
    held = begun.with_name(f"{begun.name}.tar")
    try:
        fd = os.open(held, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as stream:
            plain = to.name.endswith(".tar")
            with (
                tarfile.open(fileobj=stream, mode="w")
                if plain
                else tarfile.open(fileobj=stream, mode="w:gz") as tar
            ):
                tar.add(begun, f"mailbridge-{moment}")
            stream.flush()
            os.fsync(fd)
        held.rename(to)
    finally:
        held.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
