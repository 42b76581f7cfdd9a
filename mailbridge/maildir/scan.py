"""
What lies in a Maildir, and the reading of one file of it.

The Maildir is the truth: a watch only says when to look (`watch`).  Nothing here follows a link,
opens what is not a regular file, or blocks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from mailbridge.errors import BadInput, NotPermitted, StorageFailed, TryAgain

SETTLED: Final = 2.0
"""A folder changed this many seconds before a scan may have changed again within the same tick."""

ANYWAY: Final = 600.0
"""A folder is scanned again after this many seconds, whatever its mtime says: a file server's clock
may lag behind ours."""


class Unready(TryAgain):
    """Raised when a file may become readable: still written to, changed meanwhile, not ours."""


class Vanished(TryAgain):
    """Raised when a file is gone: somebody renamed it (a scan finds it again) or deleted it."""


class NotAMail(BadInput):
    """Raised when a file is no mail for good: a link, a FIFO, a device, or too large."""

    def __init__(self, path: Path, reason: str, *, size: int | None = None) -> None:
        super().__init__(f"{os.fsdecode(path)!r}: {reason}")
        self.reason: Final = reason
        self.size: Final = size


class Found(NamedTuple):
    """One file of a Maildir.  Sorted they are in the order of delivery, as far as names tell."""

    base: str
    """The name up to the first `:` or `,`: what stays when a reader flags or moves the mail."""
    name: str
    folder: str
    """The directory it lies in: `…/new` or `…/cur`."""
    inode: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.folder, self.name)


def base_of(name: str) -> str:
    """
    Return the part of a file's *name* that stays the same for as long as the mail lives.

    Dovecot adds `,S=size`, mbsync `,U=uid`, and readers `:2,flags`.

    A name of nothing but flags has `:` for a base; then the inode alone tells mails apart.

    >>> base_of("1700000000.V8I2.host,S=12:2,RS"), base_of(":2,S")
    ('1700000000.V8I2.host', ':')
    """
    return name.partition(":")[0].partition(",")[0] or ":"


def folders(maildir: Path, *, subfolders: bool = False) -> list[Path]:
    """
    Return the directories of *maildir* in which mails lie, there or not: `new`, then `cur`.

    With *subfolders* those of its Maildir++ folders (`.name/`) as well.
    """
    roots = [maildir]
    if subfolders:
        roots += sorted(
            Path(entry.path)
            for entry in _entries(maildir)
            if entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
        )
    return [root / folder for root in roots for folder in ("new", "cur")]


def scan_folder(folder: Path) -> Iterator[Found]:
    """
    Yield what lies in *folder*, but for directories and dot files.  A vanished folder is empty.

    Raises `NotPermitted` or `StorageFailed` where it cannot be listed.
    """
    where = str(folder)
    try:
        # (One by one: a list of a million would be 300 MB.)
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(".") and not entry.is_dir(follow_symlinks=False):
                    yield Found(base_of(name), name, where, entry.inode())
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(folder, error) from error


def scan_maildir(maildir: Path, *, subfolders: bool = False) -> Iterator[Found]:
    """Yield every file of *maildir* that may be a mail.  Raises as `scan_folder`."""
    for folder in folders(maildir, subfolders=subfolders):
        yield from scan_folder(folder)


def stale(maildir: Path, *, older_than: float, now: float) -> int:
    """Count the files in `tmp/` that nobody can still be writing; a crash left them."""
    count = 0
    for entry in _entries(maildir / "tmp"):
        try:
            count += entry.stat(follow_symlinks=False).st_mtime < now - older_than
        except FileNotFoundError:
            continue
    return count


class Folders:
    """
    The folders of one Maildir, and which of them have to be looked at (again).

    A folder whose mtime is older than its last scan has not changed since, so an idle round costs
    one `stat` for each.  Whoever could not finish what a scan found says `doubt`.
    """

    def __init__(
        self,
        maildir: Path,
        *,
        subfolders: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.maildir: Final = maildir
        self.subfolders: Final = subfolders
        self._clock: Final = clock
        self._clean: dict[Path, tuple[tuple[int, int, int], float]] = {}

    def changed(self) -> list[Path]:
        """Return the folders to scan now, and remember them as scanned."""
        found = []
        now = self._clock()
        for folder in folders(self.maildir, subfolders=self.subfolders):
            # The stamp is taken before the scan: what comes in meanwhile is seen next time.
            stamp = _stamp(folder)
            if stamp is None:
                self._clean.pop(folder, None)
                continue
            before, when = self._clean.get(folder, (None, 0.0))
            if before == stamp and when <= now <= when + ANYWAY:
                continue
            found.append(folder)
            # Racily clean, as git says of its index: an mtime has the grain of a tick, so a mail
            # that came in the same tick, after our listing, would not show.
            if abs(now - stamp[2] / 1e9) > SETTLED:
                self._clean[folder] = stamp, now
            else:
                self._clean.pop(folder, None)
        return found

    def doubt(self, folder: str | Path | None = None) -> None:
        """Have *folder*, or all of them, scanned again, whatever their mtime says."""
        if folder is None:
            self._clean.clear()
        else:
            self._clean.pop(Path(folder), None)


def read(path: Path, *, limit: int) -> bytes:
    """
    Return the bytes of the mail in *path*: complete, and of one file even if it was replaced.

    Raises `Unready`, `Vanished` or `NotAMail`; nothing else.
    """
    try:
        # First without opening: to open a FIFO or a device is to do something to it.
        _check_regular(path, path.lstat(), limit)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _told(path, error) from error
    try:
        before = os.fstat(fd)
        _check_regular(path, before, limit)
        if _written_to(fd):
            raise Unready(f"{os.fsdecode(path)!r}: still being written")
        raw = _all_of(fd, before.st_size + 1)
        after = os.fstat(fd)
    except OSError as error:
        raise _told(path, error) from error
    finally:
        os.close(fd)
    # (Not the ctime: a flag set meanwhile renames the file and leaves what it says alone.)
    if (len(raw), before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Unready(f"{os.fsdecode(path)!r}: changed while it was read")
    return raw


def finish(found: Found, after: Literal["seen", "delete"]) -> Path | None:
    """
    Do with a mail that is done what the operator asked for, and return where it is now, if it is.

    "seen" moves it to `cur/` with the Seen flag, as a reader would.  A file that is gone, or was
    replaced by another of its name, is left alone.  Raises `NotPermitted` or `StorageFailed`.
    """
    path = found.path
    try:
        if path.lstat().st_ino != found.inode:
            return path
        if after == "delete":
            path.unlink()
            return None
        target = path.parent.parent / "cur" / _seen(found.name)
        if target == path:
            return path
        if os.path.lexists(target):
            # Two files of one base name: a rename would delete the other one, perhaps unread.
            return path
        path.rename(target)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(path, error) from error
    return target


def _seen(name: str) -> str:
    unique, _, info = name.partition(":")
    # maildir(5): flags stand in ASCII order; anything but "2," is experimental and has no flags.
    flags = info.removeprefix("2,") if info.startswith("2,") else ""
    return f"{unique}:2,{''.join(sorted({*flags, 'S'}))}"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _failed(folder, error) from error


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(folder, error) from error
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _check_regular(path: Path, found: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotAMail(path, _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file"))
    if found.st_size > limit:
        raise NotAMail(path, f"too large: {found.st_size} bytes, limit {limit}", size=found.st_size)


_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
}


def _written_to(fd: int) -> bool:
    """
    Say whether anybody has the file open for writing, as far as we are allowed to ask.

    If nobody has, whoever wants to has to wait until *fd* is closed.
    """
    try:
        # Whoever waits makes the kernel send us a signal: by default SIGIO, which would end the
        # process.  SIGURG is ignored unless asked for.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # Anything but EAGAIN: another owner's file, or a file system that knows no leases.
        return error.errno == errno.EAGAIN
    return False


def _all_of(fd: int, most: int) -> bytes:
    chunks = []
    while most > 0 and (chunk := os.read(fd, min(most, 1 << 20))):
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)


def _told(path: Path, error: OSError) -> TryAgain | NotAMail:
    if isinstance(error, FileNotFoundError):
        return Vanished(f"{os.fsdecode(path)!r}: no longer there")
    if error.errno == errno.ELOOP:
        return NotAMail(path, "a symbolic link")
    if error.errno == errno.ENXIO:
        return NotAMail(path, "a socket")
    return Unready(f"{os.fsdecode(path)!r}: cannot be read: {error.strerror}")


def _failed(path: Path, error: OSError) -> NotPermitted | StorageFailed:
    text = f"{os.fsdecode(path)!r}: {error.strerror}"
    return NotPermitted(text) if isinstance(error, PermissionError) else StorageFailed(text)
