"""
Storing one mail in a Maildir, durably.

The pipe of an MTA starts this for every mail, so nothing is imported that takes its time: neither
`typing` nor `pathlib`, which together cost more than the interpreter itself.
"""

# ruff: noqa: PTH100, PTH103, PTH104, PTH108, PTH112, PTH118, PTH120

from __future__ import annotations

import os
import time

from mailbridge.errors import StorageFailed, TryAgain

# What type checkers take for `typing.TYPE_CHECKING`, without importing `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import SupportsRead

_CHUNK = 256 * 1024


def store_mail(
    maildir: str | os.PathLike[str], stream: SupportsRead[bytes], *, limit: int, mark: str = ""
) -> tuple[str, int]:
    """
    Put the mail in *stream* into *maildir* and return (its path in `new/`, how large it was).

    When this returns the mail survives a power cut.  The Maildir is made, for us alone, if it is
    missing.  Of a mail larger than *limit* one byte more than that is kept: enough for whoever
    reads the Maildir to see that it is too large and to say so, and no more of the disk.  *mark*
    becomes a part of its name.

    Raises `StorageFailed` (the disk does not take it; nothing is left in `new/`) and `TryAgain`
    (nothing came at all: no MTA sends that, so something before us broke).
    """
    root = os.path.abspath(maildir)
    name = _unique_name(mark)
    held = os.path.join(root, "tmp", name)
    final = os.path.join(root, "new", name)
    try:
        make_maildir(root)
        fd = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                size = _copy(stream, fd, limit + 1)
                os.fsync(fd)
            finally:
                os.close(fd)
            if not size:
                raise TryAgain("nothing came on standard input: no mail stored")
            os.rename(held, final)
        except BaseException:
            # Whatever it was (a full disk, a signal): a partial mail is not left lying about.
            _discard(held)
            raise
        # Without this the mail could be back in tmp/ after a power cut, where nobody looks.
        _sync_directory(os.path.join(root, "new"))
    except OSError as error:
        where = error.filename or root
        raise StorageFailed(f"{where}: mail not stored: {error.strerror or error}") from error
    return final, size


def make_maildir(root: str | os.PathLike[str]) -> None:
    """Make the Maildir *root*, readable by us alone, where it is missing.  Raises `OSError`."""
    root = os.path.abspath(root)
    missing = [os.path.join(root, name) for name in ("cur", "new", "tmp")]
    above = root
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    # From the top: each has its name on the disk before anything is put into it.
    for path in reversed(missing):
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
            _sync_directory(os.path.dirname(path))


def _copy(stream: SupportsRead[bytes], fd: int, most: int) -> int:
    size = 0
    while chunk := stream.read(_CHUNK):
        # What exceeds is read all the same: an MTA takes a broken pipe for a failed delivery.
        wanted = memoryview(chunk)[: max(0, most - size)]
        size += len(chunk)
        while wanted:
            wanted = wanted[os.write(fd, wanted) :]
    return size


def _unique_name(mark: str) -> str:
    # maildir(5): seconds, what makes it unique, host; "/" and ":" may not occur.
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    host = os.uname().nodename.replace("/", "\\057").replace(":", "\\072")
    unique = f"M{microseconds:06}P{os.getpid()}R{os.urandom(6).hex()}"
    return f"{seconds}.{unique}.{mark}.{host}" if mark else f"{seconds}.{unique}.{host}"


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        # The disk is the trouble already being told.  tmp/ is never read, and old files in it
        # are reported by the bridge.
        return


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
