"""What a bridge does for its own state while it runs: it keeps outbox and quarantine small."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from mailbridge import config as configuration
from mailbridge.bridge.places import Place
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.config import Config
from mailbridge.outbox import Outbox, Quarantined, Verdict
from mailbridge.outbox.ageing import CHUNK, Old

log = logging.getLogger("mailbridge.upkeep")

EVERY: Final = 3600.0
"""Seconds between two rounds."""

BREATH: Final = 0.1
"""Seconds between two steps of a round, each a small transaction: mail and events go first."""

LEAVING: Final = 20
"""Mails that leave the quarantine in one step."""

SPARE: Final = 0.25
"""The part of the outbox's file that may hold nothing before it is given back to the disk."""


class Upkeep:
    """
    The rounds: events that all have, verdicts and deliveries that are old, mails in quarantine.

    Nothing in them forgets what an event said the news were: see `outbox.ageing`.
    """

    def __init__(
        self,
        outbox: Outbox,
        quarantine: Quarantine,
        places: Sequence[Place],
        config: Config,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox: Final = outbox
        self._quarantine: Final = quarantine
        self._places: Final = places
        self._keep: Final = timedelta(seconds=configuration.duration(config.keep_sent))
        self._longest: Final = timedelta(seconds=configuration.duration(config.quarantine_keep))
        self._most: Final = configuration.size(config.quarantine_max)
        self._told: Final = (config.quarantine_keep, config.quarantine_max)
        self._clock: Final = clock
        self._round: Iterator[None] | None = None
        self._due = 0.0
        self._names: frozenset[str] | None = None
        """Who is sent to; None where nobody is."""
        self._stale: frozenset[str] = frozenset()
        self._in_vain = False
        """What fills the quarantine are files that no mail of ours has."""

    def sends_to(self, names: Iterable[str]) -> None:
        """Have it know that the bridge sends to the targets *names*, and to nobody else."""
        self._names = frozenset(names)

    def turn(self, now: float) -> float:
        """Do one step, if one is due (*now* is `time.monotonic()`); return when the next is."""
        if self._quarantine.size > self._most and not self._in_vain:
            # Whoever fills it does not wait for an hour either.
            self._in_vain = not self._expire()
        if now < self._due:
            return self._due
        if self._round is None:
            self._round = self._steps()
        if next(self._round, StopIteration) is StopIteration:
            self._round = None
            self._due = now + EVERY
        else:
            self._due = now + BREATH
        return self._due

    def everything(self) -> Old:
        """Do a whole round at once, and return what was done to the outbox."""
        before = self.due()
        for _ in self._steps():
            pass
        after = self.due()
        return Old(*(was - there for was, there in zip(before, after, strict=True)))

    def due(self) -> Old:
        """Return what a round would do to the outbox."""
        return self._outbox.ageing.due(self._clock() - self._keep)

    def expiring(self) -> int:
        """Return how many mails a round would take out of the quarantine."""
        return len(list(self._leaving()))

    def _steps(self) -> Iterator[None]:
        ageing, before = self._outbox.ageing, self._clock() - self._keep
        self._quarantine.recount()
        self._in_vain = False
        self._tell_stale(before)
        for place in self._places:
            yield from place.note_missed()
            yield
        for chore in (ageing.compact, ageing.forget_mails, ageing.forget_files):
            while chore(before) == CHUNK:
                yield
            yield
        while self._expire():
            yield
        while ageing.gives_back() and ageing.spare() > SPARE * ageing.size():
            ageing.give_back()
            yield

    def _tell_stale(self, before: datetime) -> None:
        """Tell, once, for whom events are kept that nobody sends them to."""
        if self._names is None:
            return
        stale = set()
        for name, acked in self._outbox.targets().items():
            made = self._outbox.made(acked + 1)
            if name not in self._names and made and made < before:
                stale.add(name)
        for name in sorted(stale - self._stale):
            log.warning(
                "events are kept for %s, to which nothing is sent any more; if it is gone for good:"
                " 'mailbridge outbox forget %s'",
                *(name, name),
            )
        self._stale = frozenset(stale)

    def _expire(self) -> bool:
        """Take some mails out of the quarantine that are too old or too many; say if there were."""
        found = False
        for mail, why in list(itertools.islice(self._leaving(), LEAVING)):
            found = True
            note = self._quarantine.find(mail.sha256)
            log.warning(
                "expired source=%s sha256=%s code=%s mail=<%s> reason=%r: %s in quarantine",
                *(mail.route, mail.sha256, mail.code),
                *(ascii(note.message_id)[1:-1] if note else "", mail.reason, why),
            )
            self._outbox.expire(mail, Verdict("ignored", "expired", mail.reason))
            if not self._outbox.is_quarantined(mail.sha256):
                self._quarantine.release(mail.sha256)
        return found

    def _leaving(self) -> Iterator[tuple[Quarantined, str]]:
        """Yield the mails that must leave, the oldest first, and why."""
        oldest = self._clock() - self._longest
        size = self._quarantine.size
        for mail in self._outbox.quarantined():
            if mail.taken < oldest:
                yield mail, f"longer than {self._told[0]}"
            elif size > self._most:
                yield mail, f"more than {self._told[1]}"
            else:
                return
            size -= self._quarantine.size_of(mail.sha256)
