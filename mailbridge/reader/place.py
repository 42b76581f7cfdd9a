"""Where to begin: `start`, `now`, a cursor, `2h`, a time; and the file that remembers it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from mailbridge.config import duration
from mailbridge.errors import ConfigError, NeedsOperator, StorageFailed, UsageError
from mailbridge.reader.chain import Position

_CURSOR: Final = re.compile(r"[0-9a-f]{8}-[0-9]{1,18}")

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


class CursorFile:
    """The file *path* in which one reader, of *tags*, remembers how far it is."""

    def __init__(self, path: Path, tags: Sequence[str]) -> None:
        self._path: Final = path
        self._tags: Final = sorted(tags)
        self._unsure = False

    def load(self) -> Remembered | None:
        """
        Return what is remembered, or None where nothing is yet.

        Raises `NeedsOperator` where the file is none of ours, or of a reader of other tags: what
        it has not read it cannot go on from.
        """
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NeedsOperator(f"{self._path}: cannot be read: {error.strerror}") from error
        try:
            there = msgspec.json.decode(raw, type=Remembered)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NeedsOperator(
                f"{self._path}: no cursor file: {error}; remove it and say --from"
            ) from error
        if there.version != 1:
            raise NeedsOperator(f"{self._path}: written by a newer mailbridge; upgrade this one")
        if there.tags != self._tags:
            raise NeedsOperator(
                f"{self._path}: remembers a reader of {' '.join(there.tags) or 'all tags'};"
                " each set of tags needs a cursor file of its own"
            )
        return there

    def store(self, cursor: str | None, feeds: dict[str, Position]) -> None:
        """Remember it: whoever reads the file sees the old or the new, never half of one."""
        there = Remembered(tags=self._tags, cursor=cursor, feeds=feeds)
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            temporary.write_bytes(msgspec.json.encode(there) + b"\n")
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageFailed(f"{self._path}: cannot be written: {error.strerror}") from error
        self._unsure = True

    def settle(self) -> None:
        """Make what was stored outlive a power cut.  Called when there is time: before waiting."""
        if not self._unsure:
            return
        self._unsure = False
        for path in (self._path, self._path.parent):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
