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
_QUOTED: Final = re.compile(rb">+From ")


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
            for number, raw in enumerate(_split(stream, limit + 1), 1):
                yield Taken(f"{_shown(path)}#{number}", raw, received)
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
    lines: list[bytes] = []
    size = 0
    blank = True
    started = False
    # (Bounded: a line without end is a mail that is too large, not a memory that is.)
    while line := stream.readline(most):
        if _SEPARATOR.match(line) or (blank and _AFTER_BLANK.fullmatch(line)):
            if started:
                yield _joined(lines, most)
            lines, size, started = [], 0, True
        elif size <= most:
            lines.append(line[1:] if _QUOTED.match(line) else line)
            size += len(line)
            started = True
        blank = not line.strip(b"\r\n")
    if started:
        yield _joined(lines, most)


def _joined(lines: list[bytes], most: int) -> bytes:
    # The blank line before the next separator is the mbox's, not the mail's.
    if len(lines) > 1 and not lines[-1].strip(b"\r\n"):
        lines = lines[:-1]
    return b"".join(lines)[:most]


def _shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
