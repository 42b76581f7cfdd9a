"""Whether a service lives, is ready, and what its figures are: asked of facts it has handed in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from mailbridge.health.facts import BridgeFacts, RelayFacts
from mailbridge.health.live import STUCK

CANARY: Final = 60.0
"""Seconds between two canaries."""

LOST: Final = 3 * CANARY + 10
"""Seconds after which a canary that did not come back is a fault of its own."""


class Health:
    """
    The last facts of the services in this process.  The loops hand them in, any thread asks.

    (An attribute is replaced as a whole, and what it held is never changed: no lock is needed.)
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.bridge: BridgeFacts | None = None
        self.relay: RelayFacts | None = None
        self._clock: Final = clock
        self._now: Final = now
        self._turned: Final[dict[str, float]] = {}
        self._spoke: Final[dict[str, str]] = {}

    def turned(self, part: str) -> None:
        """Note that the loop of *part* has done its round."""
        self._turned[part] = self._clock()

    def now(self) -> float:
        """Return the Unix time."""
        return self._now()

    def dead(self) -> list[str]:
        """Return a few words for each loop that does not do its rounds any more."""
        now = self._clock()
        return [
            f"the {part} has done nothing for {int(now - turned)} s"
            for part, turned in sorted(self._turned.items())
            if now - turned > STUCK
        ]

    def unready(self) -> list[str]:
        """Return a few words for each reason why mail does not become events just now."""
        if not self._turned:
            return ["starting"]
        told = self.dead()
        if "bridge" in self._turned:
            told += unready(self.bridge, self.now()) if self.bridge else ["starting"]
        if "relay" in self._turned and not self.relay:
            told.append("starting")
        return told


def unready(bridge: BridgeFacts, now: float) -> list[str]:
    """Return why mail does not become events by this *bridge*, in a few words each."""
    told = [] if bridge.ready else ["starting"]
    if bridge.disk_full:
        told.append("the disk is full")
    told += [f"{place.path}: {place.trouble}" for place in bridge.places if place.trouble]
    told += [target.status for target in bridge.targets if target.trouble]
    # (What is known to be in trouble need not be told twice.)
    return told or list(_lost(bridge, now))


def _lost(bridge: BridgeFacts, now: float) -> Iterator[str]:
    age = now - (bridge.canary.back if bridge.canary else bridge.started)
    if age > LOST:
        yield f"a canary in the spool was not found for {int(age)} s"
        return
    for target in bridge.targets:
        age = now - (target.canary.back if target.canary else bridge.started)
        if target.echoes and age > LOST:
            yield f"no canary came back from {target.name} for {int(age)} s"
