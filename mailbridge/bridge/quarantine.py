"""
The quarantine: mails that should have been understood and were not, each with its reason.

`<sha256>.eml` is the mail as it came, `<sha256>.json` says why; the original stays where it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from mailbridge.errors import NeedsOperator, StorageFailed
from mailbridge.outbox import DiskFull


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a mail is in quarantine."""

    sha256: str
    source: str
    """The configured sources that were asked about it."""
    code: str
    reason: str
    time: str
    """When it was put here: ISO 8601, UTC."""
    message_id: str | None = None
    subject: str | None = None
    file: str | None = None
    """Where it lay, where it came as a file; it may have moved since."""
    size: int | None = None
    """Where only the beginning is kept: how large the whole is."""
    received: datetime | None = None
    """What the file's time said."""
    backfill: bool = False


class Quarantine:
    """The directory `quarantine` of a state."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._size: int | None = None

    @property
    def size(self) -> int:
        """How many bytes are in it: looked up once, then counted as this process fills it."""
        if self._size is None:
            self._size = sum(map(_size, self._path.glob("[!.]*")))
        return self._size

    def recount(self) -> None:
        """Look `size` up anew: others fill and empty it as well."""
        self._size = None

    def size_of(self, sha256: str) -> int:
        """Return how many bytes a mail takes here."""
        return sum(_size(self._path / f"{sha256}.{suffix}") for suffix in _SUFFIXES)

    def keep(self, raw: bytes, note: Note) -> None:
        """Have *raw* and *note* on the disk when this returns.  Raises `StorageFailed`."""
        try:
            if not self._path.is_dir():
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
                # (A power cut must not take the directory with all that is in it.)
                _sync(self._path.parent)
            before = self.size_of(note.sha256)
            _write(self._path / f"{note.sha256}.eml", raw)
            _write(self._path / f"{note.sha256}.json", msgspec.json.encode(note) + b"\n")
            _sync(self._path)
            if self._size is not None:
                self._size += self.size_of(note.sha256) - before
        except OSError as error:
            wrong = DiskFull if error.errno == errno.ENOSPC else StorageFailed
            raise wrong(f"{self._path}: cannot keep a mail: {error.strerror}") from error

    def mail(self, sha256: str) -> bytes:
        """Return the bytes of a mail kept here.  Raises `NeedsOperator` if they are gone."""
        return self._read(f"{sha256}.eml")

    def note(self, sha256: str) -> Note:
        """Return why a mail is here.  Raises `NeedsOperator` if nobody can tell any more."""
        try:
            return msgspec.json.decode(self._read(f"{sha256}.json"), type=Note)
        except msgspec.DecodeError as error:
            raise NeedsOperator(f"{self._path / sha256}.json: {error}") from error

    def find(self, sha256: str) -> Note | None:
        """Return why a mail is here, or None if nobody can tell any more."""
        try:
            return self.note(sha256)
        except NeedsOperator:
            return None

    def release(self, sha256: str) -> None:
        """Remove a mail that has found its way, or has to go.  Raises `StorageFailed`."""
        size = self.size_of(sha256)
        try:
            for suffix in _SUFFIXES:
                (self._path / f"{sha256}.{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"{self._path}: cannot remove {sha256}: {error.strerror}"
            ) from error
        if self._size is not None:
            self._size -= size

    def _read(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise NeedsOperator(f"{self._path / name}: {error.strerror}") from error


_SUFFIXES: Final = ("eml", "json")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _write(path: Path, content: bytes) -> None:
    held = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(fd)
        held.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            held.unlink()
        raise


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
