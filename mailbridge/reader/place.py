"""Where to begin: `start`, `now`, a cursor, `2h`, a time; and the file that remembers it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec

from mailbridge.config import duration
from mailbridge.errors import ConfigError, NeedsOperator, StorageFailed, UsageError
from mailbridge.reader.chain import Position

_CURSOR: Final = re.compile(r"[0-9a-f]{8}-[0-9]{1,18}")

_LONG: Final = 4 * 1024 * 1024
"""A cursor file longer than this is begun anew."""

Start = str | datetime
"""`start`, `now`, a cursor, or a time; as `parse` gives it."""


def parse(text: str, now: Callable[[], datetime]) -> Start:
    """
    Return what *text* names: `start`, `now`, a cursor as they are; `2h` or ISO 8601 as a UTC time.

    A time without an offset is this machine's.  Raises `UsageError`.

    >>> parse("2026-11-20T10:00Z", datetime.now)
    datetime.datetime(2026, 11, 20, 10, 0, tzinfo=datetime.timezone.utc)
    """
    if text in ("start", "now") or _CURSOR.fullmatch(text):
        return text
    with contextlib.suppress(ConfigError):
        return now() - timedelta(seconds=duration(text))
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text[:80]!r} is no place to begin: start, now, a cursor, 2h, or 2026-11-20T10:00Z"
        ) from error


class Remembered(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a cursor file holds: how far a reader is, in the journal and in each feed."""

    version: int = 1
    tags: list[str]
    cursor: str | None
    """None: before the first event."""
    feeds: dict[str, Position]
    from_start: bool = False


class _Proof(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The signed event at our newest place in a feed: what a relay believes us by."""

    feed: str
    hash: str
    proof: str


class CursorFile:
    """
    The file *path* in which one reader, of *tags*, remembers how far it is.

    The last whole line that tells it counts.  Lines are added, which costs a tenth of replacing the
    file, and is as safe: a crash leaves at worst a piece of a line behind the one before.
    """

    def __init__(self, path: Path, tags: Sequence[str]) -> None:
        self._path: Final = path
        self._tags: Final = sorted(tags)
        self._file: FileIO | None = None
        self._line = b""
        self._begun = 0
        """Bytes that the file had when it was put in its place."""
        self._unsure = False
        self.proofs: Final[dict[str, bytes]] = {}
        """The signed events at the places that `load` returned, by feed."""
        self._written: Final[dict[str, bytes]] = {}
        self._lines: dict[str, bytes] = {}

    def load(self) -> Remembered | None:
        """
        Return what is remembered, or None where nothing is yet.

        Raises `NeedsOperator` where the file is none of ours, or of a reader of other tags: what
        it has not read it cannot go on from.
        """
        try:
            *lines, _ = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NeedsOperator(f"{self._path}: cannot be read: {error.strerror}") from error
        there = next(filter(None, map(_remembered, reversed(lines))), None)
        if there is None:
            raise NeedsOperator(f"{self._path}: no cursor file of ours; remove it and say --from")
        if there.tags != self._tags:
            raise NeedsOperator(
                f"{self._path}: remembers a reader of {' '.join(there.tags) or 'all tags'};"
                " each set of tags needs a cursor file of its own"
            )
        for proof in filter(None, map(_proof, lines)):
            at = there.feeds.get(proof.feed)
            if at is not None and at.newest.hash == proof.hash:
                self.proofs[proof.feed] = proof.proof.encode()
        return there

    def store(
        self,
        cursor: str | None,
        feeds: dict[str, Position],
        proofs: Mapping[str, bytes],
        *,
        from_start: bool,
    ) -> None:
        """
        Remember it, with the signed events that *feeds* stand at as *proofs*.

        Raises `StorageFailed`.
        """
        there = Remembered(tags=self._tags, cursor=cursor, feeds=feeds, from_start=from_start)
        new = self._proved(feeds, proofs)
        self._line = msgspec.json.encode(there) + b"\n"
        added = new + self._line
        self._unsure = True
        with self._told():
            if self._file is None or self._file.tell() > _LONG + 2 * self._begun:
                self._replace()
            elif self._file.write(added) != len(added):
                # (A full disk took a piece of it: the next line begins in a file of its own.)
                self._file.close()
                self._file = None
                raise StorageFailed(f"{self._path}: cannot be written: no space left")

    def settle(self) -> None:
        """Make what was stored outlive a power cut.  Called when there is time: before waiting."""
        if self._file is not None and self._unsure:
            with self._told():
                os.fsync(self._file.fileno())
            self._unsure = False

    def close(self) -> None:
        """Leave one line.  Raises `StorageFailed`."""
        if self._file is None:
            return
        with self._told():
            if self._file.tell() > self._begun:
                self._replace()
        self.settle()
        self._file.close()
        self._file = None

    def _proved(self, feeds: Mapping[str, Position], proofs: Mapping[str, bytes]) -> bytes:
        """Return the lines of those *proofs* that were not written before."""
        added = b""
        for feed, raw in proofs.items():
            hashed = feeds[feed].newest.hash if feed in feeds else None
            if hashed is None or self._written.get(feed) is raw:
                continue
            proof = _Proof(feed=feed, hash=hashed, proof=raw.decode())
            self._written[feed] = raw
            self._lines[feed] = msgspec.json.encode(proof) + b"\n"
            added += self._lines[feed]
        return added

    def _replace(self) -> None:
        """Put a new file with what counts in the place of what is there."""
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        file = temporary.open("xb", buffering=0)
        try:
            self._begun = file.write(b"".join(self._lines.values()) + self._line)
            # (A rename may reach the disk before what was written: then nothing would be left.)
            os.fsync(file.fileno())
            temporary.replace(self._path)
            # (And this, or who began "now" would begin at another "now" after a power cut.)
            self._sync_name()
        except OSError:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
        if self._file is not None:
            self._file.close()
        self._file = file

    def _sync_name(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFailed(f"{self._path}: cannot be written: {error.strerror}") from error


def _remembered(line: bytes) -> Remembered | None:
    try:
        there = msgspec.json.decode(line, type=Remembered)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return there if there.version == 1 else None


def _proof(line: bytes) -> _Proof | None:
    if not line.startswith(b'{"feed":'):
        return None
    try:
        return msgspec.json.decode(line, type=_Proof)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
