"""The Maildirs a bridge takes mail from: what is new in each, and what becomes of it afterwards."""

from __future__ import annotations

import contextlib
import heapq
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailbridge import config, failpoint, maildir
from mailbridge.bridge.canary import Canaries
from mailbridge.bridge.deliver import BATCH, BATCH_BYTES, LONG_ROW, Delivery, Gateway, Outcome
from mailbridge.bridge.mailbox import beginning
from mailbridge.bridge.newcomers import SLICE, Crowd, Newcomers
from mailbridge.config import Source
from mailbridge.errors import MailbridgeError, NeedsOperator
from mailbridge.maildir import Found, NotAMail, Unready, Vanished
from mailbridge.outbox import DiskFull, FileKey, Outbox, OutboxFailed, Verdict

log = logging.getLogger("mailbridge.places")

BACKLOG: Final = 5_000
"""How many new files of a Maildir are remembered at once; a later scan finds the others."""

AGAIN: Final = 1.0
"""Seconds until a file that could not be read yet is tried again."""

SWEEP: Final = 3600.0
"""Seconds between two looks for mails that have reached the age at which they are deleted."""

STRANDED: Final = 600.0
"""Seconds after which a file in `tmp/` is one that its deliverer left behind: nobody writes so
long.  It is told and left alone, as after a power cut it may be whole or half."""

WEEK: Final = 7 * 86400
"""Seconds that files of the spool, deleted long ago, are remembered."""

HEAD: Final = 256 * 1024
"""How much of a mail that is too large is looked at, and kept if it should be understood."""

_KEPT: Final = ("quarantined", "existing")
"""Verdicts that leave a file where it is: somebody may still want to see it as it came."""


class Place:
    """One Maildir, its sources, and the files in it that have no verdict yet."""

    def __init__(  # noqa: PLR0913 - each is a part of its own
        self,
        path: Path,
        sources: tuple[Source, ...],
        outbox: Outbox,
        gateway: Gateway,
        *,
        spool: bool = False,
        canaries: Canaries | None = None,
    ) -> None:
        self.path: Final = path
        self.sources: Final = sources
        self.spool: Final = spool
        self.subfolders: Final = any(source.subfolders for source in sources)
        self.skipped = 0
        """How many mails were taken as read because this Maildir is seen for the first time."""
        self.trouble = ""
        """Why it cannot be looked into, for a person; empty if it can."""
        self._outbox: Final = outbox
        self._gateway: Final = gateway
        self._canaries: Final = canaries
        self._after, self._age = ("delete", 0) if spool else config.after(sources[0].after)
        self._skip: Final = not spool and sources[0].existing == "skip"
        rate = None if spool else sources[0].rate
        self._rate: Final = config.rate(rate) if rate else math.inf
        waits = [s.suppress_if_on_bus for s in sources if s.suppress_if_on_bus]
        self._wait: Final = max(map(config.duration, waits), default=0)
        self._credit = max(1.0, min(self._rate, BATCH))
        self._credit_at = time.monotonic()
        self._newcomers: Final = Newcomers(path, outbox, subfolders=self.subfolders)
        self._name: Final = os.fsencode(path)
        self._id = outbox.place(self._name)
        self._backlog: deque[Found] = deque()
        self._more = False
        """The last look found more files than it may remember."""
        self._missed = False
        """Somebody wanted a look while known files waited."""
        self._whole = False
        """Much is new: of a large folder the oldest go first, so all of it has to be known."""
        self._again_at = math.inf
        self._swept_at = -math.inf
        self.stranded = 0
        """How many files a broken delivery left in its tmp."""
        self._stranded_at = -math.inf
        self._told: set[str] = set()

    @property
    def backlog(self) -> int:
        """How many files are known to wait."""
        return len(self._backlog)

    def due(self) -> float:
        """Return when (monotonic) there is something to do that no watch will tell."""
        if self._backlog:
            return self._credit_at + max(0.0, 1 - self._credit) / self._rate
        if self._more or self._missed:
            return -math.inf
        return min(self._again_at, self._newcomers.due())

    def alarms(self) -> list[str]:
        """Return, in a few words each, what an operator should look after."""
        told = [f"{self.path}: {self.trouble}"] if self.trouble else []
        if self.stranded:
            told.append(f"{self.path}: {self.stranded} stranded in its tmp")
        return told

    def doubt(self) -> None:
        """Have everything looked through at the next `look`."""
        self._newcomers.doubt()

    def look(self, *, started: float) -> None:
        """
        Find what is new, in order of delivery; or nothing as long as known files wait.

        At first sight everything there is taken as read, if the source says so, but for what came
        after *started* (Unix time).  What cannot be looked into is logged once, and tried again.
        """
        if self._backlog:
            self._missed = True
            return
        self._begin_look()
        try:
            if self._id is None:
                self._first_sight(started)
            if self._after == "delete" and time.monotonic() >= self._swept_at + SWEEP:
                self._sweep()
            new = heapq.nsmallest(BACKLOG, self._new())
        except (DiskFull, OutboxFailed, NeedsOperator):
            self._newcomers.begin_anew()
            raise
        except MailbridgeError as error:
            self._newcomers.begin_anew()
            if not self.trouble:
                log.error("%s: mail there waits: %s", self.path, error)  # noqa: TRY400 - one line
            self.trouble = str(error)
            return
        if self.trouble:
            log.info("%s: can be looked into again", self.path)
        self.trouble = ""
        self._look_into_tmp()
        self._more = self._whole = len(new) == BACKLOG
        self._backlog.extend(new)
        if new:
            failpoint.reached("scanned")

    def work(
        self, *, stopping: Callable[[], bool], between: Callable[[], object] = lambda: None
    ) -> int:
        """
        Bring the next batches of waiting files to their verdicts; return how many there were.

        *between* two of them, which are on the disk then, others have their turn.
        """
        many = len(self._backlog) >= LONG_ROW
        taken = self._take(self._allowed())
        if not taken:
            return 0
        outcomes: list[Outcome] = []
        mails = [mail for _, mail in taken]
        try:
            for _, told in self._gateway.deliver_each(mails, stopping=stopping, many=many):
                outcomes.append(told)
                if len(outcomes) % BATCH == 0:
                    between()
        finally:
            # (Whatever happened: what has its verdict is over, what has none still waits.)
            for (found, _), outcome in zip(taken, outcomes, strict=False):
                self._finish(found, outcome.verdict.verdict)
            self._backlog.extendleft(found for found, _ in reversed(taken[len(outcomes) :]))
        return len(outcomes)

    def _begin_look(self) -> None:
        is_due = time.monotonic() >= self._again_at
        if self._more:
            self._newcomers.begin_anew()
        elif is_due:
            self._newcomers.doubt()
        self._more, self._missed = False, False
        if is_due:
            self._again_at = math.inf

    # -- looking -----------------------------------------------------------------------------------

    def _first_sight(self, started: float) -> None:
        if not any(folder.is_dir() for folder in maildir.folders(self.path)):
            raise NotThere(f"{self.path}: no Maildir: it has neither new/ nor cur/")
        self._whole = True
        now = datetime.now(UTC)
        existing = Verdict("existing")
        old = (
            (os.fsencode(found.base), found.inode)
            for found in (self._listed() if self._skip else ())
            if not _changed_since(found, started)
        )
        try:
            with self._outbox.transaction():
                self._id = self._outbox.add_place(self._name, now=now)
                self.skipped = self._outbox.files_done(self._id, old, existing, now=now)
                if self.skipped:
                    self._outbox.tally(self._route, existing, self.skipped)
        except BaseException:
            self._id = None
            raise

    def _new(self) -> Iterator[Found]:
        # (Where mails stay in new/ nothing is to be done with those that have their verdict.)
        moves = self.spool or self._after == "seen"
        for found, known in self._newcomers.look(self._id or 0, whole=self._whole):
            if not known:
                yield found
            elif (
                moves
                and (self.spool or found.folder.endswith("/new"))
                and (done := self._outbox.file(self._key(found)))
            ):
                leaves = self.spool or (self._after == "seen" and done[0] not in _KEPT)
                if leaves and found.base not in self._told:
                    # We died between the commit and its leaving; or this is another mail, by
                    # a deliverer that used a name again whose inode was free: its bytes tell.
                    yield found
                else:
                    self._finish(found, done[0])

    def _look_into_tmp(self) -> None:
        if time.monotonic() < self._stranded_at + STRANDED:
            return
        self._stranded_at = time.monotonic()
        before = self.stranded
        try:
            self.stranded = maildir.stale(self.path, older_than=STRANDED, now=time.time())
        except MailbridgeError as error:
            # Nobody needs to read there for mail to arrive.
            log.info("%s: not looked for stranded mail: %s", self.path, error)
            return
        if self.stranded > before:
            log.warning(
                "%s: a delivery was broken off: %d file(s) in its tmp, older than %d minutes;"
                " deliver again what is whole, and delete the rest",
                *(self.path, self.stranded, STRANDED // 60),
            )

    def _listed(self) -> Iterator[Found]:
        return maildir.scan_maildir(self.path, subfolders=self.subfolders)

    def _sweep(self) -> None:
        """Delete what has reached its age, and forget files of the spool that are long gone."""
        self._swept_at = time.monotonic()
        limit = int(time.time()) - self._age
        if self.spool:
            with self._outbox.transaction():
                self._outbox.forget_files(self._id or 0, before=limit - WEEK)
            return
        old = []
        for found in self._listed():
            known = self._outbox.file(self._key(found))
            if known and known[0] not in _KEPT and known[1] <= limit:
                maildir.finish(found, "delete")
                old.append(self._key(found))
        with self._outbox.transaction():
            for key in old:
                self._outbox.forget_file(key)

    def note_missed(self) -> Iterator[None]:
        """
        Note which of the files that were done are not there any more, a step at a time.

        Who is not there for long is forgotten.  What cannot be looked into has lost nothing; nor
        has an empty Maildir, whose disk may only not be mounted.
        """
        if self.spool or self._id is None or self.trouble:
            return
        there = Crowd()
        try:
            for found in self._listed():
                there.add((os.fsencode(found.base), found.inode))
                if len(there) % SLICE == 0:
                    yield
        except MailbridgeError as error:
            log.info("%s: not looked for what is gone: %s", self.path, error)
            return
        if there:
            yield from self._outbox.ageing.look(self._id, there, now=datetime.now(UTC))

    # -- one batch ---------------------------------------------------------------------------------

    def _allowed(self) -> int:
        """Return how many mails the source's rate lets through now."""
        if self._rate == math.inf:
            return LONG_ROW if len(self._backlog) >= LONG_ROW else BATCH
        now = time.monotonic()
        self._credit = min(
            self._credit + (now - self._credit_at) * self._rate, max(1.0, min(self._rate, BATCH))
        )
        self._credit_at = now
        return int(self._credit)

    def _take(self, limit: int) -> list[tuple[Found, Delivery]]:
        taken: list[tuple[Found, Delivery]] = []
        size = 0
        while self._backlog and len(taken) < limit and size < BATCH_BYTES:
            found = self._backlog.popleft()
            if self.spool and self._canaries and self._canaries.own(found.base):
                self._finish(found, "ignored")
                continue
            if (left := self._too_early(found)) > 0:
                self._again_at = min(self._again_at, time.monotonic() + left)
                continue
            try:
                raw = maildir.read(found.path, limit=self._gateway.max_mail)
            except Vanished:
                # A reader moved it to cur/, most likely: there it is found again.
                self._again_at = time.monotonic() + AGAIN
            except Unready as error:
                self._again_at = time.monotonic() + AGAIN
                if found.base not in self._told:
                    self._told.add(found.base)
                    log.warning("%s", error)
            except NotAMail as error:
                verdict = self._gateway.refuse(self._odd(found), error)
                self._finish(found, verdict.verdict)
            else:
                failpoint.reached("read")
                self._told.discard(found.base)
                if self._canaries and self._canaries.is_test(raw, found.path):
                    self._take_test(found)
                    continue
                size += len(raw)
                self._credit -= 1
                taken.append((found, self._delivery(found, raw)))
        return taken

    def _take_test(self, found: Found) -> None:
        """Be done with a test mail, which is none: it has no verdict that is counted."""
        if not self.spool:
            with self._outbox.transaction():
                verdict = Verdict("ignored", "canary")
                self._outbox.file_done(self._key(found), verdict, now=datetime.now(UTC))
        self._finish(found, "ignored")

    def _too_early(self, found: Found) -> float:
        """Return for how long its archive has still time to speak for itself, in seconds."""
        if not self._wait:
            return 0
        with contextlib.suppress(OSError):
            left = found.path.lstat().st_mtime + self._wait - time.time()
            # (What says that it is of the future waits for nobody.)
            return left if left <= self._wait else 0
        return 0

    def _odd(self, found: Found) -> Delivery:
        # 200 MB are not read to find out whether they would have been of interest.
        return self._delivery(found, beginning(found.path, HEAD))

    def _delivery(self, found: Found, raw: bytes) -> Delivery:
        received = time.time()
        with contextlib.suppress(OSError):
            received = found.path.lstat().st_mtime
        return Delivery(
            raw,
            self.sources,
            datetime.fromtimestamp(received, UTC),
            file=self._key(found),
            where=os.fsencode(found.path).decode("utf-8", "backslashreplace"),
        )

    def _finish(self, found: Found, verdict: str) -> None:
        """Do with a file what the operator asked for, now that its verdict is on the disk."""
        failpoint.reached("finishing")
        try:
            if self.spool:
                maildir.finish(found, "delete")
            elif self._after == "seen" and verdict not in _KEPT:
                maildir.finish(found, "seen")
            failpoint.reached("finished")
        except MailbridgeError as error:
            # What it says is safe; only the file stays where it is.
            if found.base not in self._told:
                self._told.add(found.base)
                log.warning("%s", error)

    def _key(self, found: Found) -> FileKey:
        return FileKey(self._id or 0, os.fsencode(found.base), found.inode)

    @property
    def _route(self) -> str:
        return ",".join(source.name for source in self.sources)


class NotThere(MailbridgeError):
    """Raised when a Maildir does not exist (yet)."""

    exit_status = 78


def _changed_since(found: Found, started: float) -> bool:
    try:
        # (Asked of 100,000 files at the first start, so by the short way.)
        return os.lstat(f"{found.folder}/{found.name}").st_ctime >= started
    except OSError:
        return False
