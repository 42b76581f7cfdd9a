"""
A Lighthouse as a target: our own event coming out again is the acknowledgement.

It answers nothing, keeps nothing, and publishes a thing submitted twice twice; those who listen
are slow, and some of them are people in a room.  So it gets our events quietly, each as seldom as
can be without losing one, and nothing that is not an event (wire.md, Towards a Lighthouse).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Final

from mailbridge import config
from mailbridge.bridge.target import Ledger, Sendable
from mailbridge.errors import MalformedEvent, NeedsOperator
from mailbridge.event import MAX_EVENT_BYTES, NAMESPACE, read_event
from mailbridge.wire.lighthouse import FLIGHTS, Line
from mailbridge.wire.sockets import Context, Socket

log = logging.getLogger("mailbridge.lighthouse")

ECHO: Final = 10.0
"""Seconds to wait for an event to come out again, before the same bytes are submitted again."""

ECHO_MAX: Final = 600.0
"""Doubled each time, up to this, for an event that does not come out while others do."""

PROBE_MAX: Final = 60.0
"""The same where nothing at all comes out: then one event asks for all."""

SETTLE: Final = 1.0
"""Seconds between listening and submitting: a subscription takes its time to get there."""

DOUBT: Final = 3
"""An event submitted this often while others come out is worth a line."""

_ENOUGH: Final = 1_000
"""How many events of old mail are passed over in one turn."""


class _Flight:
    """An event on its way: taken from the outbox, not heard yet."""

    def __init__(self, event: Sendable) -> None:
        try:
            signed = read_event(event.raw, limit=MAX_EVENT_BYTES)
        except MalformedEvent as error:
            # A bare number, for one, would end Lighthouse's receiver for all its other sources.
            raise NeedsOperator(f"outbox: event {event.seq} is damaged: {error}") from error
        self.event: Final = event
        self.signatures: Final = signed.signatures
        self.tries = 0
        self.sent = -math.inf
        self.due = -math.inf


class LighthouseTarget:
    """One Lighthouse that everything new in the outbox goes to.  See `target.Target`."""

    def __init__(self, context: Context, lighthouse: config.Lighthouse, ledger: Ledger) -> None:
        """Connect to *lighthouse*.  Raises `ConfigError`."""
        self.name: Final = f"lighthouse {lighthouse.submit}"
        self._ledger: Final = ledger
        self._every: Final = 1 / config.rate(lighthouse.rate, "lighthouse.rate")
        self._line: Final = Line(context, lighthouse.submit, lighthouse.publish)
        self._line.listen_for(f"{NAMESPACE}.")
        others = ledger.targets()
        if others and self.name not in others:
            # It comes to an outbox that has served others: what these have is no news to anybody.
            ledger.acknowledge(self.name, max(others.values()))
        self._acked = ledger.acknowledged(self.name)
        self._taken = self._acked
        self._done: set[int] = set()
        """Numbers above `_acked` that need nothing more."""
        self._flights: dict[str, _Flight] = {}
        """By uuid, in order."""
        self._listening = math.inf
        """When submitting makes sense."""
        self._next = -math.inf
        """When the rate allows it."""
        self._silent_since: float | None = None
        """What was submitted then or later has not come out."""
        self._probe_at = -math.inf
        self._patience = ECHO
        self._listens_anew = False
        self._told_of_silence = False
        self.resent = 0
        """How many events were submitted again because they did not come out."""

    @property
    def sockets(self) -> Sequence[Socket]:
        """Where echoes arrive, and where connections come up and break."""
        return self._line.sockets

    def turn(self, now: float) -> float:
        """Take the echoes, submit one event if one is due, and return when the next turn is."""
        before = self._acked
        if self._line.ups():
            # Perhaps it was started anew, and knows a key that it did not.
            self._listening, self._patience = now + SETTLE, ECHO
            self._probe_at = self._listening
        for raw in self._line.heard():
            self._hear(raw)
        more = self._refill(now)
        while self._acked + 1 in self._done:
            self._acked += 1
            self._done.remove(self._acked)
        if self._acked > before:
            self._ledger.acknowledge(self.name, self._acked)
        if not self._line.is_up:
            return now if more else math.inf
        due = self._due(now)
        if due <= now:
            self._submit(now)
            due = self._due(now)
        return now if more else due

    @property
    def acked(self) -> int:
        """The number up to which everything came out of it."""
        return self._acked

    @property
    def trouble(self) -> bool:
        """Whether it is not there, or publishes nothing of ours."""
        return not self._line.is_up or self._told_of_silence

    def canary(self, nonce: str) -> bool:
        """Do nothing: all that it hears it tells everybody."""
        del nonce
        return False

    def echoed(self) -> list[str]:
        """Return nothing: see `canary`."""
        return []

    def status(self) -> str:
        """Return how much came out of it, or what is wrong with it."""
        waiting = self._ledger.head().seq - self._acked - len(self._done)
        if not self._line.is_up:
            return f"{self.name} is not there; {waiting} events wait"
        if self._told_of_silence:
            return f"{self.name} publishes none of our events; {waiting} wait"
        return f"{waiting} events on the way" if waiting else "all received"

    def close(self) -> None:
        """Close the sockets."""
        self._line.close()

    # -- taking from the outbox --------------------------------------------------------------------

    def _refill(self, now: float) -> bool:
        """Fill the window.  True if there is more to pass over."""
        passed = 0
        while (room := FLIGHTS - len(self._flights)) > 0:
            events = self._ledger.after(self._taken, room)
            for event in events:
                self._taken = event.seq
                if event.backfill:
                    # Old news would fill the rooms, and tell people what they know.
                    self._done.add(event.seq)
                    passed += 1
                    continue
                self._flights[event.uuid] = _Flight(event)
                if self._line.listen_for(_namespace(event.tag)):
                    self._listening = max(self._listening, now + SETTLE)
            if len(events) < room or passed > _ENOUGH:
                return passed > _ENOUGH
        return False

    # -- submitting --------------------------------------------------------------------------------

    def _is_silent(self, now: float) -> bool:
        return self._silent_since is not None and now >= self._silent_since + ECHO

    def _due(self, now: float) -> float:
        """Return when the next event is to be submitted."""
        if not self._flights:
            return math.inf
        if self._is_silent(now):
            due = self._probe_at
        else:
            due = min(flight.due for flight in self._flights.values())
            if self._silent_since is not None:
                # The moment from which on we ask with one event, and no longer with each.
                due = min(due, self._silent_since + ECHO)
        return max(due, self._listening, self._next)

    def _submit(self, now: float) -> None:
        flight = self._chosen(now)
        if flight is None:
            return
        self._next = now + self._every
        if not self._line.give(flight.event.raw):
            return
        if self._is_silent(now):
            self._listens_anew = False
            self._probe_at = now + self._patience
            self._patience = min(2 * self._patience, PROBE_MAX)
        self.resent += flight.tries > 0
        flight.tries += 1
        flight.sent = now
        flight.due = now + min(ECHO * 2 ** (flight.tries - 1), ECHO_MAX)
        if self._silent_since is None:
            self._silent_since = now
        elif not self._is_silent(now) and flight.tries == DOUBT:
            log.warning(
                "%s publishes others, but not event %d: tag=%s uuid=%s; trying on",
                *(self.name, flight.event.seq, flight.event.tag, flight.event.uuid),
            )

    def _chosen(self, now: float) -> _Flight | None:
        flights = self._flights.values()
        if not self._is_silent(now):
            return next((flight for flight in flights if flight.due <= now), None)
        # Nothing comes out.  What was submitted may have been published all the same, and we did
        # not hear it: so one is submitted again and not all, and nothing new.
        probe = min((flight for flight in flights if flight.tries), key=lambda flight: flight.sent)
        if not self._told_of_silence:
            self._told_of_silence = True
            log.error(
                "%s publishes none of our events for %d s; has it the key of %s, and was it"
                " started after it got that?",
                *(self.name, ECHO, ", ".join(probe.signatures)),
            )
        if not self._listens_anew:
            self._line.listen_anew()
            self._listens_anew = True
            self._listening = now + SETTLE
            return None
        return probe

    # -- echoes ------------------------------------------------------------------------------------

    def _hear(self, raw: bytes) -> None:
        try:
            heard = read_event(raw)
        except MalformedEvent:
            # Whoever is trusted there may publish under our tags, in other forms as well.
            return
        flight = self._flights.get(heard.uuid)
        if flight is None:
            return
        ours = flight.signatures.items()
        intact = all(heard.signatures.get(entity) == signed for entity, signed in ours)
        if heard.hash != flight.event.hash or not intact:
            # The same news by another bridge has the same uuid.
            return
        del self._flights[heard.uuid]
        self._done.add(flight.event.seq)
        self._patience = ECHO
        self._silent_since = None
        if self._told_of_silence:
            self._told_of_silence = False
            log.info("%s publishes our events again", self.name)


def _namespace(tag: str) -> str:
    return tag.rpartition(".")[0] + "."
