"""What mails would become if they were taken now: judged as the gateway does, and kept nowhere."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from mailbridge.bridge.compose import Composed, Examined
from mailbridge.bridge.confirm import confirmation, strongest
from mailbridge.bridge.delivery import Delivery, Settings, asked, examined, route
from mailbridge.bridge.prove import Prover
from mailbridge.outbox import Out, Verdict

_RANK: Final = {"events": 0, "quarantined": 1, "ignored": 2}
_SAME_MAIL: Final = Verdict("duplicate", "same-mail", "the same bytes once more")
_SAME_NEWS: Final = Verdict("duplicate", "same-news", "another mail told of it")
_CONFIRMED: Final = Verdict("events", "confirmed", "news that is out, and better backed now")


class Foreseen(NamedTuple):
    """What would become of one mail."""

    verdict: Verdict
    kind: str | None
    """What it was recognised as."""
    tags: tuple[str, ...]
    """Of the events that would go out; of a duplicate, of those that it repeats."""

    @property
    def events(self) -> int:
        """How many events would go out."""
        return len(self.tags) if self.verdict.verdict == "events" else 0


class Foresight:
    """
    A gateway that keeps nothing: no outbox, no quarantine, no key.

    It knows the mails that it was shown, and no state: what a bridge took before counts as new.
    """

    def __init__(self, settings: Settings, prover: Prover) -> None:
        self._settings: Final = settings
        self._prover: Final = prover
        self._taken: Final[set[tuple[bytes, str]]] = set()
        self._out: Final[dict[str, Out]] = {}

    def foresee(self, mails: Iterable[Delivery]) -> Iterator[tuple[Delivery, Foreseen]]:
        """Yield each of *mails* with what would become of it, in their order."""
        for mail in mails:
            sources = asked(mail)
            told = examined(mail, sources, self._settings, self._prover)
            yield mail, self._judged((hashlib.sha256(mail.raw).digest(), route(sources)), told)

    def _judged(self, mail: tuple[bytes, str], told: list[Examined]) -> Foreseen:
        best = min(told, key=lambda one: _RANK[one.outcome])
        events = strongest([event for one in told for event in one.emitted])
        is_known = mail in self._taken
        fresh: list[str] = []
        confirmed: list[str] = []
        for event in events:
            if not is_known and event.uuid not in self._out:
                self._out[event.uuid] = Out(event.tag, event.common.provenance.backing)
                fresh.append(event.tag)
            elif said := self._confirmed(event):
                confirmed.append(said)
        if events:
            self._taken.add(mail)
        tags = (*fresh, *confirmed)
        if fresh:
            return Foreseen(Verdict("events", ""), best.kind, tags)
        if confirmed:
            return Foreseen(_CONFIRMED, best.kind, tags)
        if events:
            same = _SAME_MAIL if is_known else _SAME_NEWS
            return Foreseen(same, best.kind, tuple(event.tag for event in events))
        return Foreseen(Verdict(best.outcome, best.code or "", best.reason), best.kind, ())

    def _confirmed(self, event: Composed) -> str | None:
        """Return the tag that would tell that *event*, which is out, is better backed by now."""
        out = self._out.get(event.uuid)
        told = confirmation(event, out) if out else None
        if out is None or told is None:
            return None
        backing = out.backing.joined(event.common.provenance.backing)
        self._out[event.uuid] = Out(out.tag, backing)
        return told.tag


class Tally:
    """Counts of what would become of mails."""

    def __init__(self) -> None:
        self.mails = 0
        self.outcomes: Final = Counter[str]()
        self.of: Final = Counter[tuple[str, str | None, str | None]]()
        """Mails, by outcome, kind and tag: one with two tags counts at each."""
        self.events: Final = Counter[tuple[str, str | None, str | None]]()
        """Events that would go out, by the same."""
        self.reasons: Final = Counter[tuple[str, str]]()
        """Mails that give no news, by outcome and code."""
        self.words: Final[dict[tuple[str, str], str]] = {}
        """The reason of the first of them, for a person."""

    def count(self, foreseen: Foreseen) -> None:
        """Count one mail."""
        verdict, kind, tags = foreseen
        self.mails += 1
        self.outcomes[verdict.verdict] += 1
        several: set[str | None] = {*tags} or {None}
        for tag in several:
            self.of[verdict.verdict, kind, tag] += 1
        if foreseen.events:
            self.events.update((verdict.verdict, kind, tag) for tag in tags)
        else:
            self.reasons[verdict.verdict, verdict.code] += 1
            self.words.setdefault((verdict.verdict, verdict.code), verdict.reason or "")
