"""What is recorded of a mail, once it is told what it says: its verdict, its events, its file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from mailbridge import failpoint
from mailbridge.bridge.compose import Composed, Examined
from mailbridge.bridge.confirm import strongest
from mailbridge.bridge.delivery import Delivery, Outcome
from mailbridge.bridge.issue import Issuer
from mailbridge.bridge.onbus import OnBus
from mailbridge.bridge.quarantine import Note, Quarantine
from mailbridge.config import Source
from mailbridge.event import LANIAKEA_ARCHIVE
from mailbridge.family import DIGEST
from mailbridge.outbox import Outbox, Verdict
from mailbridge.upload import Upload

log = logging.getLogger("mailbridge.deliver")

ATTEMPTS: Final = 3
"""A mail that was begun so often, and never brought to its end, ends us: quarantine."""

Known = dict[tuple[bytes, str], Verdict]
"""What the outbox says of mails, by sha256 and the sources that were asked."""


class Routed(NamedTuple):
    """A mail on its way, and whom it concerns."""

    delivery: Delivery
    sha256: bytes
    sources: tuple[Source, ...]
    route: str
    """What the outbox calls its sources together."""
    is_fresh: bool
    """It is to be looked at."""


class Judged(NamedTuple):
    """A mail and what is to be recorded of it."""

    mail: Routed
    verdict: Verdict
    events: tuple[Composed, ...] = ()
    uploads: frozenset[Upload] = frozenset()
    """Those that a mail of Laniakea speaks of."""
    message_id: str = ""


class Settled(NamedTuple):
    """A mail whose outcome is in the outbox."""

    judged: Judged
    outcome: Outcome


class Ledger:
    """Verdicts into outbox and quarantine."""

    def __init__(
        self,
        outbox: Outbox,
        quarantine: Quarantine,
        origin: str | None,
        clock: Callable[[], datetime],
        on_bus: OnBus | None = None,
    ) -> None:
        self._outbox: Final = outbox
        self._quarantine: Final = quarantine
        self._clock: Final = clock
        self._issuer: Final = Issuer(outbox, origin)
        self._on_bus: Final = on_bus
        self._digests: Final[set[str]] = set()
        """Who was told by now that nothing comes of digests."""

    def judge(self, mail: Routed, told: Sequence[Examined] | None, known: Known) -> Judged:
        """
        Return what is to be recorded of *mail*, of which its sources have *told* this.

        None is of a mail that ends whoever looks at it.  What is quarantined is kept by now.
        """
        found = settled(mail.delivery, mail.sha256, mail.route, known)
        if found and (is_done(mail.delivery, found) or not mail.is_fresh):
            return Judged(mail, _SAME_MAIL)
        if told is None:
            reason = f"ended the process {ATTEMPTS} times while it was read"
            verdict = Verdict("quarantined", "crashed", reason)
            self.keep(mail.delivery, mail.sha256, mail.route, verdict)
            return Judged(mail, verdict)
        events = strongest([event for one in told for event in one.emitted])
        if found:
            return Judged(mail, _SAME_MAIL, events)
        best = min(told, key=lambda one: _RANK[one.outcome])
        verdict = Verdict(best.outcome, best.code or "", best.reason)
        uploads = frozenset(upload for one in told for upload in one.uploads)
        if self._issuer.comes_back(uploads):
            verdict, events = _LOOP, ()
        if (teller := self._natively(mail, events)) and verdict.verdict == "events":
            reason = f"{teller} told of it on the bus"
            verdict, events = Verdict("ignored", "on-bus", reason), ()
        if verdict.verdict == "quarantined":
            self.keep(mail.delivery, mail.sha256, mail.route, verdict, best)
        return Judged(mail, verdict, events, uploads, best.message_id)

    def _natively(self, mail: Routed, events: Sequence[Composed]) -> str | None:
        """Return who told of all *events* on the bus, if that matters to the sources of *mail*."""
        asking = {source.name for source in mail.sources if source.suppress_if_on_bus}
        if not self._on_bus or not asking:
            return None
        tellers = [
            self._on_bus.teller(event, self._clock()) if event.common.source in asking else None
            for event in events
        ]
        return tellers[0] if tellers and all(tellers) else None

    def keep(  # noqa: PLR0913 - what a note says
        self,
        mail: Delivery,
        sha256: bytes,
        route: str,
        verdict: Verdict,
        examined: Examined | None = None,
        *,
        size: int | None = None,
    ) -> None:
        """Put *mail* into quarantine, with a note."""
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

    def settle(self, judged: Sequence[Judged], now: datetime) -> list[Settled]:
        """Record the verdicts of *judged* with their events, inside a transaction."""
        # Asked again: what stands there now nobody can change before we are done.
        known = self._outbox.verdicts_of(one.mail.sha256 for one in judged)
        found: list[Settled] = []
        counts = Counter[tuple[str, str, str]]()
        decided: list[tuple[bytes, str, Verdict]] = []
        for one in judged:
            done = self._settled(one, known, now)
            mail, verdict = one.mail, done.outcome.verdict
            found.append(done)
            if verdict.code != _SAME_MAIL.code:
                decided.append((mail.sha256, mail.route, verdict))
                known[mail.sha256, mail.route] = verdict
            elif mail.delivery.file and self._outbox.file(mail.delivery.file):
                # Looked at again because it was still there: one file has one verdict.
                continue
            counts[mail.route, verdict.verdict, verdict.code] += 1
            if mail.delivery.file:
                self._outbox.file_done(mail.delivery.file, verdict, now=now)
        self._outbox.decide_all(decided, now=now)
        for (asked, word, code), n in counts.items():
            self._outbox.tally(asked, Verdict(word, code), n)
        return found

    def _settled(self, one: Judged, known: Known, now: datetime) -> Settled:
        mail, verdict, events, uploads, _ = one
        if uploads and self._issuer.comes_back(uploads):
            when = f"{now:%Y-%m-%d %H:%M} UTC"
            self._outbox.stand_ins.stop(f"{_LOOP.reason} (by {mail.route!r}, {when})")
            if verdict.verdict == "events":
                # (What it comes back of is in this very batch.)
                verdict, events = _LOOP, ()
        if verdict.verdict != "duplicate" and settled(
            mail.delivery, mail.sha256, mail.route, known
        ):
            # Twice in one batch, or another process was faster.
            verdict, events = _SAME_MAIL, ()
        is_known = verdict.code == _SAME_MAIL.code
        if not (events or is_known):
            # (Nearly all mail of a busy list.)
            told = one if verdict is one.verdict else one._replace(verdict=verdict, events=())
            return Settled(told, Outcome(verdict, (), mail.sources))
        issued = self._issuer.issue(
            events,
            mail=mail.sha256,
            backfill=mail.delivery.backfill,
            now=now,
            only_confirm=is_known,
        )
        uuids = [*(event.uuid for event in events), *issued.confirmations]
        if issued.confirmations and not issued.fresh:
            verdict = _CONFIRMED
        elif events and not issued.fresh and not is_known:
            verdict = Verdict("duplicate", "same-news")
        if is_known:
            uuids = self._outbox.uuids_of(mail.sha256)
        outcome = Outcome(verdict, tuple(uuids), mail.sources)
        return Settled(one._replace(verdict=verdict, events=issued.events), outcome)

    def tell(self, done: Iterable[Settled]) -> None:
        """Log what became of mails, now that it is on the disk."""
        for one, outcome in done:
            _tell(one, outcome.verdict)
            # Once a source: one subscription is the mistake, not each of its mails.
            asked = one.mail.route
            if outcome.verdict.code == DIGEST.code and asked not in self._digests:
                self._digests.add(asked)
                log.warning(
                    "source %r gets digests, of which nothing can come:"
                    " subscribe its address to individual mails",
                    asked,
                )


_SAME_MAIL: Final = Verdict("duplicate", "same-mail")
_LOOP: Final = Verdict(
    "ignored", "loop", "Laniakea mails what we said in its name: a mailgun listens to us"
)
_CONFIRMED: Final = Verdict("events", "confirmed", "news that is out, and better backed now")

_RANK: Final = {"events": 0, "quarantined": 1, "ignored": 2}


def settled(mail: Delivery, sha256: bytes, route: str, known: Known) -> Verdict | None:
    """Return the verdict that an earlier delivery of these very bytes settled for good."""
    found = known.get((sha256, route))
    if found and mail.again and found.verdict not in ("events", "duplicate"):
        return None
    return found


def is_done(mail: Delivery, found: Verdict | None) -> bool:
    """Say whether nothing can come of looking at *mail*, whose settled verdict is *found*."""
    if found is None:
        return False
    return not (mail.confirm and found.verdict in ("events", "duplicate"))


def _tell(one: Judged, verdict: Verdict) -> None:
    if verdict.verdict == "quarantined":
        log.warning(
            "quarantined code=%s source=%s sha256=%s mail=<%s> reason=%r",
            *(verdict.code, one.mail.route, one.mail.sha256.hex()),
            *(ascii(one.message_id)[1:-1], verdict.reason),
        )
        return
    if verdict is _LOOP:
        log.error(
            "%s (source=%s sha256=%s); until a restart nothing more goes out under %s.*;"
            " is mailgun_absent true?",
            *(_LOOP.reason, one.mail.route, one.mail.sha256.hex(), LANIAKEA_ARCHIVE),
        )
    word = verdict.code if verdict is _CONFIRMED else verdict.verdict
    for event in one.events:
        log.info(
            "%s tag=%s uuid=%s mail=<%s>",
            *(word, event.tag, event.uuid, ascii(event.data["message_id"])[1:-1]),
        )
