"""
The gateway: raw mail in, an outcome out, and by then everything that follows is on the disk.

Around it is only plumbing: `loop` brings what Maildirs hold, `ingest` what an operator names.  A
batch is begun (its attempts are counted), looked at, judged and settled, in the order of the mails;
where workers look at mails several batches are begun before the first of them is settled.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from datetime import UTC, datetime
from typing import Final, NamedTuple

from mailbridge import failpoint
from mailbridge.bridge.attention import Attention, Heard, hearings
from mailbridge.bridge.compose import Examined
from mailbridge.bridge.delivery import Delivery, Outcome, Settings, asked, examined, route
from mailbridge.bridge.onbus import OnBus
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.verdicts import ATTEMPTS, Judged, Known, Ledger, Routed, is_done, settled
from mailbridge.bridge.workers import Answer, Died, Job, NoWorker, Workers
from mailbridge.errors import MailbridgeError
from mailbridge.event import LANIAKEA_ARCHIVE
from mailbridge.mail import has_marker
from mailbridge.maildir import NotAMail
from mailbridge.outbox import Outbox, Verdict

__all__ = [
    "ATTEMPTS",
    "BATCH",
    "BATCH_BYTES",
    "LONG_BATCH",
    "LONG_ROW",
    "Delivery",
    "Gateway",
    "Outcome",
    "Settings",
    "asked",
]

log = logging.getLogger("mailbridge.deliver")

BATCH: Final = 50
"""At most so many mails share a transaction: its fsync is what a back-fill waits for."""

LONG_BATCH: Final = 150
"""The same where many mails wait, and nobody waits for the first of them."""

BATCH_BYTES: Final = 8 * 1024 * 1024
"""At most so many bytes of mail are held for one transaction, but for a single larger mail."""

LONG_ROW: Final = 500
"""From so many mails in a row on, workers are worth their start."""

_POLL: Final = 0.1
"""Seconds between two looks whether to stop, while a worker is waited for."""


class _Begun(NamedTuple):
    """A batch whose attempts are counted on the disk."""

    mails: Sequence[Routed]
    known: Known
    counted: set[bytes]
    answer: Future[Answer] | None
    """What a worker says of those that are to be looked at, in their order."""


class _Stopped(Exception):
    pass


class Gateway:
    """`deliver` and what it needs: an outbox, a quarantine, settings, a prover and a clock."""

    def __init__(  # noqa: PLR0913 - each is a part of its own
        self,
        outbox: Outbox,
        quarantine: Quarantine,
        settings: Settings,
        *,
        prover: Prover | None = None,
        workers: Workers | None = None,
        attention: Attention | None = None,
        on_bus: OnBus | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        With *workers* long rows of mails are looked at by them; what comes of it is the same.

        *attention* is paid to who is heard.
        """
        self._outbox: Final = outbox
        self._settings: Final = settings
        self._prover: Final = prover
        self._workers = workers
        self._attention: Final = attention
        self._clock: Final = clock
        self._ledger: Final = Ledger(outbox, quarantine, settings.origin, clock, on_bus)

    def deliver(
        self,
        mails: Sequence[Delivery],
        *,
        stopping: Callable[[], bool] = lambda: False,
        many: bool = False,
    ) -> list[Outcome]:
        """
        Bring *mails* to their verdicts, in order; all of it is on the disk when this returns.

        Safe to call again with the same mails: whatever was done is a duplicate then.  When
        *stopping* says so, the mail in hand is finished, and the outcomes are fewer than *mails*.
        There are *many* where more of them wait.
        """
        return [told for _, told in self.deliver_each(mails, stopping=stopping, many=many)]

    def deliver_each(
        self,
        mails: Iterable[Delivery],
        *,
        stopping: Callable[[], bool] = lambda: False,
        many: bool = False,
    ) -> Iterator[tuple[Delivery, Outcome]]:
        """
        Yield each of *mails* with its outcome, once that is on the disk; else as `deliver`.

        No more than a few batches of them are held at once.  Workers look at them from the first
        on where there are *many*, else as soon as that turns out.
        """
        begun: deque[_Begun] = deque()
        seen = 0
        try:
            for batch, alone in self._batches(mails, LONG_BATCH if many else BATCH):
                seen += len(batch)
                workers = self._workers if many or seen > LONG_ROW else None
                if alone:
                    # (While it counts as begun nothing else is waited for, of which, or during
                    # which, we might die as well.)
                    if begun and (yield from self._drained(begun, 0, stopping)):
                        return
                    if workers:
                        workers.ready()
                begun.append(self._begin(batch, workers))
                ahead = workers.count + 1 if workers and not alone else 0
                if (yield from self._drained(begun, ahead, stopping)):
                    return
            yield from self._drained(begun, 0, stopping)
        except (MailbridgeError, GeneratorExit):
            # A full disk is no mail's fault: only a death counts as an attempt.
            self._forgive(begun)
            raise

    def _drained(
        self, begun: deque[_Begun], left: int, stopping: Callable[[], bool]
    ) -> Generator[tuple[Delivery, Outcome], None, bool]:
        """Bring all but *left* of *begun* to their outcomes; return whether we are to stop."""
        while len(begun) > left:
            yield from self._end(begun, stopping)
            if stopping():
                self._forgive(begun)
                return True
        return False

    def rest(self) -> None:
        """End the workers; they begin again when there are many mails."""
        if self._workers:
            self._workers.close()

    def alarms(self) -> list[str]:
        """Return, in a few words each, what an operator should look after."""
        if self._settings.stand_in and (why := self._outbox.stand_ins.stopped()):
            return [f"nothing goes out under {LANIAKEA_ARCHIVE}.*: {why}"]
        return []

    @property
    def max_mail(self) -> int:
        """The largest mail that is looked at, in bytes."""
        return self._settings.max_mail

    def refuse(self, mail: Delivery, why: NotAMail) -> Verdict:
        """
        Record that a file is no mail, or too large a one; and return its verdict.

        Of what is too large `mail.raw` is the beginning: kept, if it should have been understood.
        """
        code = "no-file" if why.size is None else "too-large"
        name = route(mail.sources)
        verdict = Verdict("ignored", code, why.reason)
        sha256 = hashlib.sha256(mail.raw).digest()
        if why.size is not None and has_marker(mail.raw):
            verdict = Verdict("quarantined", code, why.reason)
            self._ledger.keep(mail, sha256, name, verdict, size=why.size)
        now = self._clock()
        with self._outbox.transaction():
            if verdict.verdict == "quarantined":
                self._outbox.decide(sha256, name, verdict, now=now)
            self._outbox.tally(name, verdict)
            if mail.file:
                self._outbox.file_done(mail.file, verdict, now=now)
        log.warning("%s code=%s source=%s %s", verdict.verdict, code, name, why)
        return verdict

    # -- a batch -----------------------------------------------------------------------------------

    def _batches(
        self, mails: Iterable[Delivery], most: int
    ) -> Iterator[tuple[list[tuple[Delivery, bytes]], bool]]:
        """Yield batches of *mails*, and whether it is one that somebody may have died over."""
        attempted = self._outbox.attempted()
        batch: list[tuple[Delivery, bytes]] = []
        size = 0
        for mail in mails:
            sha256 = hashlib.sha256(mail.raw).digest()
            # Somebody died over this mail, or over one beside it: now we want to know.
            alone = sha256 in attempted
            if batch and (alone or len(batch) == most or size + len(mail.raw) > BATCH_BYTES):
                yield batch, False
                batch, size = [], 0
            batch.append((mail, sha256))
            size += len(mail.raw)
            if alone:
                yield batch, True
                batch, size = [], 0
        if batch:
            yield batch, False

    def _begin(self, batch: Sequence[tuple[Delivery, bytes]], workers: Workers | None) -> _Begun:
        """Count the attempts of *batch* on the disk, and show it to a worker, if there are any."""
        attempted = self._outbox.attempted()
        deadly = {sha256 for _, sha256 in batch if attempted.get(sha256, 0) >= ATTEMPTS}
        known = self._outbox.verdicts_of(sha256 for _, sha256 in batch)
        # Where several sources could be meant the mail is parsed to tell which: counted as well.
        counted = {sha256 for mail, sha256 in batch if len(mail.sources) > 1} - deadly
        try:
            if counted:
                self._outbox.begin_attempts(counted)
            mails: list[Routed] = []
            for mail, sha256 in batch:
                sources = mail.sources if sha256 in deadly else asked(mail)
                name = route(sources)
                found = settled(mail, sha256, name, known)
                fresh = sha256 not in deadly and not is_done(mail, found)
                mails.append(Routed(mail, sha256, sources, name, fresh))
            new = {mail.sha256 for mail in mails if mail.is_fresh}
            if new - counted:
                self._outbox.begin_attempts(new - counted)
            counted |= new
            failpoint.reached("attempted")
        except MailbridgeError:
            self._outbox.forgive(counted)
            raise
        jobs = [Job(mail.delivery, mail.sources) for mail in mails if mail.is_fresh]
        answer = workers.submit(jobs) if workers and jobs else None
        return _Begun(mails, known, counted, answer)

    def _end(
        self, begun: deque[_Begun], stopping: Callable[[], bool]
    ) -> Iterator[tuple[Delivery, Outcome]]:
        """Bring the first of *begun* to its outcomes; it stays there if we are to stop before."""
        first = begun[0]
        judged: list[Judged] = []
        heard: list[Heard] = []
        with contextlib.suppress(_Stopped):
            for mail, told in self._looked_at(first, stopping):
                judged.append(self._ledger.judge(mail, told, first.known))
                heard += hearings(mail.delivery, mail.sources, told) if told else ()
                failpoint.reached("judged")
                if stopping():
                    break
        if not judged:
            return
        failpoint.reached("examined")
        with self._outbox.transaction():
            now = self._clock()
            done = self._ledger.settle(judged, now)
            if self._attention:
                self._attention.heard(heard, now=now, clock=time.monotonic())
            self._outbox.end_attempts({*first.counted, *(one.mail.sha256 for one in judged)})
        begun.popleft()
        failpoint.reached("committed")
        self._ledger.tell(done)
        yield from ((one.judged.mail.delivery, one.outcome) for one in done)

    def _forgive(self, begun: Iterable[_Begun]) -> None:
        if counted := set[bytes]().union(*(one.counted for one in begun)):
            self._outbox.forgive(counted)

    # -- looking at mails --------------------------------------------------------------------------

    def _looked_at(
        self, begun: _Begun, stopping: Callable[[], bool]
    ) -> Iterator[tuple[Routed, list[Examined] | None]]:
        """Yield each mail of *begun*, and what is said of it; None of what nobody looks at."""
        answers: Iterator[list[Examined]] | None = None
        try:
            if begun.answer is not None:
                answers = iter(_answered(begun.answer, stopping))
        except Died as error:
            log.warning("%s; each of its %d mails is looked at alone", error, len(begun.mails))
            for mail in begun.mails:
                yield mail, self._alone(mail, stopping) if mail.is_fresh else None
            return
        except NoWorker as error:
            self._do_without(error)
        for mail in begun.mails:
            if not mail.is_fresh:
                yield mail, None
            elif answers is not None:
                yield mail, next(answers)
            else:
                yield mail, self._examined(mail)

    def _alone(self, mail: Routed, stopping: Callable[[], bool]) -> list[Examined] | None:
        """Return what a worker says of a mail that one may have died over; None if each does."""
        self._outbox.begin_life()
        while self._outbox.attempts(mail.sha256) < ATTEMPTS:
            self._outbox.begin_attempts([mail.sha256])
            if self._workers is None:
                return self._examined(mail)
            answer = self._workers.submit([Job(mail.delivery, mail.sources)])
            try:
                return _answered(answer, stopping)[0]
            except Died:
                self._outbox.begin_life()
            except NoWorker as error:
                self._do_without(error)
        return None

    def _examined(self, mail: Routed) -> list[Examined]:
        return examined(mail.delivery, mail.sources, self._settings, self._prover)

    def _do_without(self, error: NoWorker) -> None:
        if self._workers is not None:
            log.warning("mails are looked at without workers: %s", error)
            self._workers = None


def _answered(answer: Future[Answer], stopping: Callable[[], bool]) -> Answer:
    """Return what a worker answers.  Raises `_Stopped` if we are to stop before it does."""
    while not wait_for([answer], _POLL).done:
        if stopping():
            raise _Stopped
    return answer.result()
