"""What a relay takes from others: Lighthouses that it listens to, relays that it compares with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from mailbridge import config
from mailbridge.journal import Journal
from mailbridge.relay.intake import Intake
from mailbridge.relay.peer import Peer
from mailbridge.relay.upstream import Upstream
from mailbridge.signing import VerifyKey
from mailbridge.wire.sockets import Context, Socket

_BATCH: Final = 512
"""Events of one upstream in one turn; others have a claim to our time as well."""

_TELL: Final = 60.0
"""Seconds between two notes about one that goes on as before."""


class Seen(msgspec.Struct, kw_only=True):
    """What is remembered of one of them, for `status`."""

    up: bool = False
    seen: str | None = None
    """When something of it was heard last: ISO 8601, UTC."""
    events: int = 0
    """How many events we have from it, since our start, that nobody had given us before."""


class Mirror:
    """All of them.  It lives in the relay's thread and never waits."""

    def __init__(
        self,
        context: Context,
        settings: config.Relay,
        journal: Journal,
        intake: Intake,
        keys: Callable[[], Mapping[str, VerifyKey]],
    ) -> None:
        """Connect to those in *settings*.  Raises `ConfigError`, and then has nothing open."""
        self._intake: Final = intake
        self._links: Final[list[Upstream | Peer]] = []
        self._upstreams: Final[list[Upstream]] = []
        self._peers: Final[list[Peer]] = []
        try:
            for endpoint in settings.upstream:
                self._upstreams.append(Upstream(context, endpoint))
                self._links.append(self._upstreams[-1])
            for endpoint in settings.peer:
                self._peers.append(Peer(context, endpoint, journal, keys, intake))
                self._links.append(self._peers[-1])
        except BaseException:
            self.close()
            raise
        self._told: Final[dict[str, Seen]] = {}
        self._tell_at = 0.0

    @property
    def sockets(self) -> Sequence[Socket]:
        """What becomes readable when there is something to hear; not the same ones for ever."""
        return [socket for link in self._links for socket in link.sockets]

    def turn(self, now: datetime) -> float:
        """Take what is there, ask what is due, and return when (monotonic) the next turn is."""
        if not self._links:
            return float("inf")
        for upstream in self._upstreams:
            events = upstream.heard(_BATCH)
            if events:
                answers = self._intake.take(events)
                upstream.events += sum(answer.status == "stored" for answer in answers)
        clock = time.monotonic()
        if clock >= self._intake.gaps.next_deadline():
            self._intake.take([])
        for feed in self._intake.fresh:
            for peer in self._peers:
                peer.hurry(feed, clock)
        self._intake.fresh.clear()
        due = [peer.turn(clock) for peer in self._peers]
        self._tell(now, clock)
        return min([*due, self._intake.gaps.next_deadline(), self._tell_at])

    def close(self) -> None:
        """Close all sockets at once."""
        for link in self._links:
            link.close()

    def _tell(self, now: datetime, clock: float) -> None:
        """Remember how they are: what changed at once, the rest once in a while."""
        often = clock >= self._tell_at
        if often:
            self._tell_at = clock + _TELL
        for link in self._links:
            before = self._told.get(link.name)
            seen = Seen(up=link.is_up, seen=before.seen if before else None, events=link.events)
            if link.was_heard:
                seen.seen = now.isoformat(timespec="seconds")
            is_news = before is None or (before.up, before.seen is None) != (seen.up, not seen.seen)
            if is_news or (often and before != seen):
                link.was_heard = False
                self._told[link.name] = seen
                self._intake.remember(link.kind, link.name, msgspec.json.encode(seen).decode())
