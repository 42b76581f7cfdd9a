"""Mails out of files that an operator names: single ones, an mbox, a Maildir."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from mailbridge import maildir
from mailbridge.bridge.deliver import Delivery
from mailbridge.config import Source
from mailbridge.errors import BadInput, MailbridgeError
from mailbridge.maildir import NotAMail

log = logging.getLogger("mailbridge.mailbox")


class Taken(NamedTuple):
    """One mail, and where it was."""

    where: str
    raw: bytes
    """At most one byte more than the limit: enough to see that it is too large."""
    received: datetime

    def delivery(self, sources: tuple[Source, ...], *, backfill: bool) -> Delivery:
        """Return it as what the gateway takes; what was of no interest before may be now."""
        return Delivery(
            self.raw, sources, self.received, where=self.where, backfill=backfill, again=True
        )


# With a date as asctime() writes it the line is meant; some writers leave the blank line before it
# out.  Any other has to follow a blank line and end in a year, perhaps with a zone.
_SEPARATOR: Final = re.compile(
    rb"From .*\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) +[A-Z][a-z]{2} +[0-9]{1,2} +"
    rb"[0-9:]{4,8} .*[0-9]{4}\b"
)
_AFTER_BLANK: Final = re.compile(rb"From .*[0-9]{4}( [+-][0-9]{4})?\s*")
_QUOTED: Final = re.compile(rb"(?m)^>(?=>*From )")
_BLOCK: Final = 1024 * 1024
_LINE: Final = 1000
"""No separator is longer."""


def of_file(path: Path, *, limit: int) -> Iterator[Taken]:
    """Yield the one mail in the file *path*.  Raises `BadInput` where it cannot be read."""
    try:
        with path.open("rb") as stream:
            received = datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, UTC)
            raw = stream.read(limit + 1)
    except IsADirectoryError as error:
        raise BadInput(f"{path}: a directory; --maildir takes the mails of a Maildir") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    yield Taken(_shown(path), raw, received)


def of_mbox(path: Path, *, limit: int) -> Iterator[Taken]:
    """
    Yield the mails in the mbox *path*, one at a time.  Raises `BadInput`.

    `>From ` at the start of a line loses its `>`, as the mboxrd form has it.
    """
    try:
        with path.open("rb") as stream:
            received = datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime, UTC)
            name = _shown(path)
            for number, raw in enumerate(_split(stream, limit + 1), 1):
                yield Taken(f"{name}#{number}", raw, received)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error


def of_maildir(path: Path, *, subfolders: bool, limit: int) -> Iterator[Taken]:
    """Yield the mails of the Maildir *path*, oldest first; what is no regular file is none."""
    for found in sorted(maildir.scan_maildir(path, subfolders=subfolders)):
        try:
            modified = found.path.lstat().st_mtime
            raw = _read(found.path, limit=limit)
        except (MailbridgeError, OSError) as error:
            # A link, renamed by a reader, still being written: the bridge, or another call, has it.
            log.error("%s: left out", error)  # noqa: TRY400 - one line
            continue
        yield Taken(_shown(found.path), raw, datetime.fromtimestamp(modified, UTC))


def _read(path: Path, *, limit: int) -> bytes:
    try:
        return maildir.read(path, limit=limit)
    except NotAMail as error:
        if error.size is None:
            raise
        return beginning(path, limit + 1)


def beginning(path: Path, size: int) -> bytes:
    """Return the first *size* bytes of a regular file; nothing of anything else."""
    try:
        if not path.is_file() or path.is_symlink():
            return b""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as stream:
        return stream.read(size)


def _split(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield the mails of an mbox, of each at most its first *most* bytes."""
    mail: _Growing | None = None
    line_before = b"\n"
    while block := stream.read(_BLOCK):
        # Whole lines; but a line without end is a mail that is too large, not a memory that is.
        block += stream.readline(most)
        start = 0
        for begin, end in _separators(block, line_before):
            if mail or begin > 0:
                mail = mail or _Growing(most)
                mail.add(block[start:begin])
                yield mail.whole()
            mail, start = _Growing(most), end
        mail = mail or _Growing(most)
        mail.add(block[start:])
        line_before = block[block.rfind(b"\n", 0, -1) + 1 :]
    if mail:
        yield mail.whole()


def _separators(block: bytes, line_before: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each line that separates mails begins and ends in *block*."""
    for at in _lines_from(block):
        end = block.find(b"\n", at) + 1 or len(block)
        before = block[block.rfind(b"\n", 0, at - 1) + 1 : at] if at else line_before
        line = block[at : min(end, at + _LINE)]
        is_meant = _SEPARATOR.match(line) or (
            not before.strip(b"\r\n") and _AFTER_BLANK.fullmatch(line)
        )
        # (Behind a line that was broken off, as it has no end, no line begins.)
        if is_meant and before.endswith(b"\n"):
            yield at, end


def _lines_from(block: bytes) -> Iterator[int]:
    if block.startswith(b"From "):
        yield 0
    at = block.find(b"\nFrom ")
    while at >= 0:
        yield at + 1
        at = block.find(b"\nFrom ", at + 1)


class _Growing:
    """A mail that is being read."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._size = 0
        self._parts: Final[list[bytes]] = []

    def add(self, part: bytes) -> None:
        if self._size <= self._most:
            self._parts.append(part)
            self._size += len(part)

    def whole(self) -> bytes:
        raw = b"".join(self._parts)
        # The blank line before the next separator is the mbox's, not the mail's.
        for blank in (b"\n\r\n", b"\n\n"):
            if raw.endswith(blank):
                raw = raw[: 1 - len(blank)]
                break
        if b">From " in raw:
            raw = _QUOTED.sub(b"", raw)
        return raw[: self._most]


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
