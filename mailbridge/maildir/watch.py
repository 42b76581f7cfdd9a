"""
watchdog, and nothing but watchdog: when to look into the folders again.

A hint, never the truth.  The kernel's queue overflows, folders are moved away or unmounted without
an event, threads die, instances run out; so whoever uses this looks by itself every `interval`
seconds, and after every `healthy() == False`.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from mailbridge.errors import MailbridgeError
from mailbridge.maildir.scan import folders

if TYPE_CHECKING:
    # watchdog takes 40 ms to import; only who watches pays.
    from watchdog.observers.inotify import InotifyObserver

log = logging.getLogger("mailbridge.maildir")

WATCHED: Final = 15.0
"""With a watch, look this often all the same: NFS and unmounted file systems tell nothing."""

POLLED: Final = 2.0
"""Without one, look this often."""

AGAIN: Final = 60.0
"""How long to poll before asking for a watch again."""


class Watch:
    """
    Calls *wake* whenever something came into one of the *maildirs*; it must not block or raise.

    *subfolders* names those whose Maildir++ folders are watched as well, future ones included.
    """

    def __init__(
        self,
        maildirs: Iterable[Path],
        wake: Callable[[], None],
        *,
        subfolders: Collection[Path] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._maildirs: Final = tuple(maildirs)
        self._subfolders: Final = frozenset(subfolders)
        self._wake: Final = wake
        self._clock: Final = clock
        self._observer: InotifyObserver | None = None
        self._watched: dict[Path, tuple[int, int] | None] = {}
        self._doubt = False
        self._polling_since = 0.0
        self._overflow: Final = _Overflow(self._lost_some)
        self.reason = "not started"
        """Why there is no watch; empty with one."""

    @property
    def mode(self) -> Literal["inotify", "poll"]:
        """Whether the kernel tells us, or we have to look."""
        return "inotify" if self._observer else "poll"

    @property
    def interval(self) -> float:
        """How many seconds may pass before the folders are looked at anyway."""
        return WATCHED if self._observer else POLLED

    def start(self) -> None:
        """Watch from now on.  Scan after this, not before: else a mail could fall in between."""
        from watchdog.observers.inotify import InotifyObserver  # noqa: PLC0415 - heavy
        from watchdog.observers.inotify_move_event_grouper import (  # noqa: PLC0415
            InotifyMoveEventGrouper,
        )

        # A file that leaves a folder is held back for this long, in case it turns up in another,
        # and all that comes after it with it: 0.5 s for every mail we move to cur/ ourselves.
        # watchdog has no option for it (7.1).
        InotifyMoveEventGrouper.delay = 0
        _watchdog_log.addHandler(self._overflow)
        self._doubt = False
        # The identities first: what is replaced while we arm is then seen as changed.
        self._watched = {folder: _identity(folder) for folder in self._wanted()}
        try:
            observer = InotifyObserver()
        except OSError as error:
            self._poll(error)
            return
        try:
            observer.start()
            for folder, identity in self._watched.items():
                if identity is not None:
                    self._schedule(observer, folder)
        except OSError as error:
            observer.stop()
            observer.join()
            self._poll(error)
            return
        self._observer = observer
        self.reason = ""

    def stop(self) -> None:
        """Watch no longer.  All threads have ended when this returns."""
        _watchdog_log.removeHandler(self._overflow)
        observer, self._observer = self._observer, None
        self.reason = "not started"
        if observer is None:
            return
        observer.stop()
        observer.join()

    def rearm(self) -> None:
        """Start anew, on the folders that are there now.  Scan everything after this."""
        self.stop()
        self.start()

    def healthy(self) -> bool:
        """
        Say whether nothing can have been missed; if not: `rearm`, then scan everything.

        One `stat` for each folder and nothing written: cheap enough for every round of a loop.
        """
        observer = self._observer
        if observer is None:
            return self._clock() - self._polling_since < AGAIN
        if self._doubt:
            return False
        # Dead threads raise nothing: one exception in a handler, and all is silence.
        reader = observer._inotify_fd  # noqa: SLF001 - in 7.x one thread reads for all watches
        threads = (observer, reader, *observer.emitters)
        if not all(thread.is_alive() for thread in threads):
            return False
        # A folder moved away, or another file system mounted over it, gives no event at all.
        return self._watched == {folder: _identity(folder) for folder in self._wanted()}

    def _wanted(self) -> list[Path]:
        wanted = []
        for maildir in self._maildirs:
            if maildir in self._subfolders:
                wanted.append(maildir)
            try:
                wanted += folders(maildir, subfolders=maildir in self._subfolders)
            except MailbridgeError:
                # It cannot be listed.  Whoever scans it says so; its own two may still be seen.
                wanted += folders(maildir)
        return wanted

    def _schedule(self, observer: InotifyObserver, folder: Path) -> None:
        from watchdog.events import (  # noqa: PLC0415
            DirCreatedEvent,
            DirDeletedEvent,
            FileCreatedEvent,
            FileMovedEvent,
            FileSystemEvent,
            FileSystemEventHandler,
        )

        wake = self._wake

        class Handler(FileSystemEventHandler):
            # No more than this: what raises here ends the observer's thread for good.
            def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002
                wake()

        # A mail comes by link (created), by rename (moved in, which they call created), or from
        # another watched folder.  Reading and closing it is no news.
        news: list[type[FileSystemEvent]] = [FileCreatedEvent, FileMovedEvent, DirDeletedEvent]
        if folder in self._subfolders:
            news.append(DirCreatedEvent)
        try:
            observer.schedule(Handler(), str(folder), event_filter=news)
        except FileNotFoundError:
            # Deleted since we looked: `healthy` sees that by its identity.
            return

    def _poll(self, error: OSError) -> None:
        self.reason = f"no watch: {error.strerror or error}"
        self._polling_since = self._clock()
        log.warning("%s; looking every %d s instead", self.reason, POLLED)

    def _lost_some(self) -> None:
        self._doubt = True
        self._wake()


class _Overflow(logging.Handler):
    """Tells of an overflow of the kernel's queue: watchdog writes it to its log, and no more."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell: Final = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Take any warning of that module as doubt: a rescan is cheap."""
        del record
        self._tell()


_watchdog_log: Final = logging.getLogger("watchdog.observers.inotify_c")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)  # noqa: PTH116 - by far the most frequent call here
    except OSError:
        # Gone, or no longer ours to see.  That it was there before makes the difference.
        return None
    # watchdog takes a folder that may not be read for watched (it ignores EACCES, 7.1).
    readable = os.access(folder, os.R_OK, effective_ids=True)
    return (found.st_dev, found.st_ino) if readable else None
