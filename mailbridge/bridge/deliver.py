"""
The gateway: raw mail in, an outcome out, and by then everything that follows is on the disk.

Around it is only plumbing: `loop` brings what Maildirs hold, `ingest` what an operator names.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from mailbridge import failpoint
from mailbridge.bridge.compose import Composed, Examined, examine
from mailbridge.bridge.confirm import strongest
from mailbridge.bridge.issue import Issuer
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.quarantine import Note, Quarantine
from mailbridge.config import Source
from mailbridge.errors import MailbridgeError, MalformedMail
from mailbridge.event import LANIAKEA_ARCHIVE
from mailbridge.family import DIGEST
from mailbridge.mail import MAX_MAIL, has_marker, read_mail
from mailbridge.maildir import NotAMail
from mailbridge.outbox import FileKey, Outbox, Upload, Verdict
from mailbridge.rules import NONE as NO_RULES
from mailbridge.rules import Rules

log = logging.getLogger("mailbridge.deliver")

BATCH: Final = 50
"""At most so many mails share a transaction: its fsync is what a back-fill waits for."""

BATCH_BYTES: Final = 8 * 1024 * 1024
"""At most so many bytes of mail are held for one transaction, but for a single larger mail."""

ATTEMPTS: Final = 3
"""A mail that was begun so often, and never brought to its end, ends us: quarantine."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every mail."""

    origin: str | None = None
    """The name of this host, where events shall tell it."""
    addresses: bool = False
    accept_test: bool = False
    max_mail: int = MAX_MAIL
    changes_cap: int | None = None
    stand_in: bool = False
    """Some source speaks in Laniakea's name."""
    rules: Rules = NO_RULES


class Delivery(NamedTuple):
    """One mail as it came."""

    raw: bytes
    sources: tuple[Source, ...]
    """Who is asked about it; `asked` tells which of them."""
    received: datetime
    file: FileKey | None = None
    where: str | None = None
    """Its file, for a person."""
    backfill: bool = False
    again: bool = False
    """Look at it again, even if nothing came of it before."""
    confirm: bool = False
    """Look at it again even if its events are out: what backs them may be more than it was."""


class Outcome(NamedTuple):
    """What became of a delivery."""

    verdict: Verdict
    uuids: tuple[str, ...] = ()
    """Of the events it says, whether this or an earlier delivery made them."""
    sources: tuple[Source, ...] = ()
    """Whose mail it was."""


class _Judged(NamedTuple):
    delivery: Delivery
    sha256: bytes
    sources: tuple[Source, ...]
    verdict: Verdict
    events: tuple[Composed, ...] = ()
    uploads: frozenset[Upload] = frozenset()
    """Those that a mail of Laniakea speaks of."""

    @property
    def route(self) -> str:
        return _route(self.sources)


class Gateway:
    """`deliver` and what it needs: an outbox, a quarantine, settings, a prover and a clock."""

    def __init__(
        self,
        outbox: Outbox,
        quarantine: Quarantine,
        settings: Settings,
        *,
        prover: Prover | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox: Final = outbox
        self._quarantine: Final = quarantine
        self._settings: Final = settings
        self._prover: Final = prover
        self._clock: Final = clock
        self._digests: Final[set[str]] = set()
        """Who was told by now that nothing comes of digests."""
        self._issuer: Final = Issuer(outbox, settings.origin)

    def deliver(
        self, mails: Sequence[Delivery], *, stopping: Callable[[], bool] = lambda: False
    ) -> list[Outcome]:
        """
        Bring *mails* to their verdicts, in order; all of it is on the disk when this returns.

        Safe to call again with the same mails: whatever was done is a duplicate then.  When
        *stopping* says so, the mail in hand is finished, and the outcomes are fewer than *mails*.
        """
        outcomes: list[Outcome] = []
        for batch in self._batches(mails):
            done = self._take(batch, stopping)
            outcomes += done
            if len(done) < len(batch):
                break
        return outcomes

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
        route = _route(mail.sources)
        verdict = Verdict("ignored", code, why.reason)
        sha256 = hashlib.sha256(mail.raw).digest()
        if why.size is not None and has_marker(mail.raw):
            verdict = Verdict("quarantined", code, why.reason)
            self._keep(mail, sha256, route, verdict, size=why.size)
        now = self._clock()
        with self._outbox.transaction():
            if verdict.verdict == "quarantined":
                self._outbox.decide(sha256, route, verdict, now=now)
            self._outbox.tally(route, verdict)
            if mail.file:
                self._outbox.file_done(mail.file, verdict, now=now)
        log.warning("%s code=%s source=%s %s", verdict.verdict, code, route, why)
        return verdict

    def _batches(self, mails: Sequence[Delivery]) -> list[list[tuple[Delivery, bytes]]]:
        batches: list[list[tuple[Delivery, bytes]]] = []
        batch: list[tuple[Delivery, bytes]] = []
        size = 0
        for mail in mails:
            sha256 = hashlib.sha256(mail.raw).digest()
            # Somebody died over this mail, or over one beside it: now we want to know.
            alone = self._outbox.attempts(sha256) > 0
            if batch and (alone or len(batch) == BATCH or size + len(mail.raw) > BATCH_BYTES):
                batches.append(batch)
                batch, size = [], 0
            batch.append((mail, sha256))
            size += len(mail.raw)
            if alone:
                batches.append(batch)
                batch, size = [], 0
        return [*batches, batch] if batch else batches

    def _take(
        self, batch: Sequence[tuple[Delivery, bytes]], stopping: Callable[[], bool]
    ) -> list[Outcome]:
        deadly = {sha256 for _, sha256 in batch if self._outbox.attempts(sha256) >= ATTEMPTS}
        # Where several sources could be meant the mail is parsed to tell which: counted as well.
        begun = {sha256 for mail, sha256 in batch if len(mail.sources) > 1} - deadly
        if begun:
            self._outbox.begin_attempts(begun)
        judged: list[_Judged] = []
        try:
            routed = [
                (mail, sha256, mail.sources if sha256 in deadly else asked(mail))
                for mail, sha256 in batch
            ]
            new = {
                sha256
                for mail, sha256, sources in routed
                if not self._is_done(mail, sha256, _route(sources)) and sha256 not in deadly
            }
            if new - begun:
                self._outbox.begin_attempts(new - begun)
            begun |= new
            failpoint.reached("attempted")
            for mail, sha256, sources in routed:
                if judged and stopping():
                    break
                judged.append(self._judge(mail, sha256, sources, fresh=sha256 in new))
                failpoint.reached("judged")
            failpoint.reached("examined")
            now = self._clock()
            with self._outbox.transaction():
                settled = [self._settle(one, now) for one in judged]
                for sha256 in {*begun, *(one.sha256 for one in judged)}:
                    self._outbox.end_attempt(sha256)
        except MailbridgeError:
            # A full disk is no mail's fault: only a death counts as an attempt.
            self._outbox.forgive(begun)
            raise
        failpoint.reached("committed")
        for one, outcome in settled:
            _tell(one, outcome)
            self._tell_of_digests(one)
        return [outcome for _, outcome in settled]

    def _tell_of_digests(self, one: _Judged) -> None:
        # Once a source: one subscription is the mistake, not each of its mails.
        if one.verdict.code == DIGEST.code and one.route not in self._digests:
            self._digests.add(one.route)
            log.warning(
                "source %r gets digests, of which nothing can come:"
                " subscribe its address to individual mails",
                one.route,
            )

    def _known(self, mail: Delivery, sha256: bytes, route: str) -> Verdict | None:
        """Return the verdict that an earlier delivery of these very bytes settled for good."""
        found = self._outbox.verdict_of(sha256, route)
        if found and mail.again and found.verdict not in ("events", "duplicate"):
            return None
        return found

    def _is_done(self, mail: Delivery, sha256: bytes, route: str) -> bool:
        """Say whether nothing can come of looking at *mail*."""
        found = self._known(mail, sha256, route)
        if found is None:
            return False
        return not (mail.confirm and found.verdict in ("events", "duplicate"))

    def _judge(
        self, mail: Delivery, sha256: bytes, sources: tuple[Source, ...], *, fresh: bool
    ) -> _Judged:
        """Return what is to be recorded of *mail*; the same answer whenever it is asked."""
        route = _route(sources)
        known = self._known(mail, sha256, route) is not None
        if self._is_done(mail, sha256, route) or (known and not fresh):
            return _Judged(mail, sha256, sources, _SAME_MAIL)
        if not fresh:
            reason = f"ended the process {ATTEMPTS} times while it was read"
            verdict = Verdict("quarantined", "crashed", reason)
            self._keep(mail, sha256, route, verdict)
            return _Judged(mail, sha256, sources, verdict)
        told = [
            examine(
                mail.raw,
                source,
                received=mail.received,
                accept_test=self._settings.accept_test,
                backfill=mail.backfill,
                addresses=self._settings.addresses,
                max_mail=self._settings.max_mail,
                changes_cap=self._settings.changes_cap,
                prover=self._prover,
                rules=self._settings.rules,
            )
            for source in sources
        ]
        events = strongest([event for one in told for event in one.emitted])
        if known:
            return _Judged(mail, sha256, sources, _SAME_MAIL, events)
        best = min(told, key=lambda one: _RANK[one.outcome])
        verdict = Verdict(best.outcome, best.code or "", best.reason)
        uploads = frozenset(upload for one in told for upload in one.uploads)
        if self._issuer.comes_back(uploads):
            verdict, events = _LOOP, ()
        if verdict.verdict == "quarantined":
            self._keep(mail, sha256, route, verdict, best)
        return _Judged(mail, sha256, sources, verdict, events, uploads)

    def _keep(  # noqa: PLR0913 - what a note says
        self,
        mail: Delivery,
        sha256: bytes,
        route: str,
        verdict: Verdict,
        examined: Examined | None = None,
        *,
        size: int | None = None,
    ) -> None:
        self._quarantine.keep(
            mail.raw,
            Note(
                sha256=sha256.hex(),
                source=route,
                code=verdict.code,
                reason=verdict.reason or "",
                time=self._clock().isoformat(timespec="seconds"),
                message_id=examined.message_id if examined else None,
                subject=examined.subject or None if examined else None,
                file=mail.where,
                size=size,
                received=mail.received,
                backfill=mail.backfill,
            ),
        )
        failpoint.reached("kept")

    def _settle(self, one: _Judged, now: datetime) -> tuple[_Judged, Outcome]:
        """Record one verdict with its events, inside the transaction."""
        mail, sha256, sources, verdict, events, uploads = one
        route = one.route
        if self._issuer.comes_back(uploads):
            self._outbox.stand_ins.stop(f"{_LOOP.reason} (by {route!r}, {now:%Y-%m-%d %H:%M} UTC)")
            if verdict.verdict == "events":
                # (What it comes back of is in this very batch.)
                verdict, events = _LOOP, ()
        if verdict.verdict != "duplicate" and self._known(mail, sha256, route):
            # Twice in one batch, or another process was faster.
            verdict, events = _SAME_MAIL, ()
        is_known = verdict.code == "same-mail"
        issued = self._issuer.issue(
            events, mail=sha256, backfill=mail.backfill, now=now, only_confirm=is_known
        )
        uuids = [*(event.uuid for event in events), *issued.confirmations]
        if issued.confirmations and not issued.fresh:
            verdict = _CONFIRMED
        elif events and not issued.fresh and not is_known:
            verdict = Verdict("duplicate", "same-news")
        if is_known:
            uuids = self._outbox.uuids_of(sha256)
        one = one._replace(events=issued.events)
        if verdict.code != "same-mail":
            self._outbox.decide(sha256, route, verdict, now=now)
        outcome = Outcome(verdict, tuple(uuids), sources)
        if verdict.code == "same-mail" and mail.file and self._outbox.file(mail.file):
            # Looked at again because it was still there: one file has one verdict.
            return one, outcome
        self._outbox.tally(route, verdict)
        if mail.file:
            self._outbox.file_done(mail.file, verdict, now=now)
        return one, outcome


_SAME_MAIL: Final = Verdict("duplicate", "same-mail")
_LOOP: Final = Verdict(
    "ignored", "loop", "Laniakea mails what we said in its name: a mailgun listens to us"
)
_CONFIRMED: Final = Verdict("events", "confirmed", "news that is out, and better backed now")

_RANK: Final = {"events": 0, "quarantined": 1, "ignored": 2}


def asked(mail: Delivery) -> tuple[Source, ...]:
    """
    Return the sources of a delivery that its List-Id concerns: those that name it, else those that
    name no list, else all (which then say that it came by another list).
    """
    if len(mail.sources) == 1:
        return mail.sources
    try:
        list_id = read_mail(mail.raw, limit=max(MAX_MAIL, len(mail.raw))).list_id
    except MalformedMail:
        list_id = None
    named = tuple(s for s in mail.sources if list_id in [name.lower() for name in s.lists])
    return named or tuple(s for s in mail.sources if not s.lists) or mail.sources


def _route(sources: tuple[Source, ...]) -> str:
    return ",".join(source.name for source in sources)


def _tell(one: _Judged, outcome: Outcome) -> None:
    verdict = outcome.verdict
    if verdict.verdict == "quarantined":
        log.warning(
            "quarantined code=%s source=%s sha256=%s reason=%r",
            *(verdict.code, one.route, one.sha256.hex(), verdict.reason),
        )
        return
    if verdict is _LOOP:
        log.error(
            "%s (source=%s sha256=%s); until a restart nothing more goes out under %s.*;"
            " is mailgun_absent true?",
            *(_LOOP.reason, one.route, one.sha256.hex(), LANIAKEA_ARCHIVE),
        )
    word = verdict.code if verdict is _CONFIRMED else verdict.verdict
    for event in one.events:
        log.info(
            "%s tag=%s uuid=%s mail=<%s>",
            *(word, event.tag, event.uuid, ascii(event.data["message_id"])[1:-1]),
        )
