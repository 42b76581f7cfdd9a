"""How a bridge stands, as values: for the file in its state, and for the health port."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from typing import Final, Protocol

from mailbridge.bridge.attention import Attention
from mailbridge.bridge.canary import Canaries
from mailbridge.bridge.places import Place
from mailbridge.bridge.state import State
from mailbridge.bridge.target import Target
from mailbridge.health import (
    EVERY,
    BridgeFacts,
    Health,
    ListFacts,
    Live,
    PlaceFacts,
    SourceFacts,
    TargetFacts,
    VerdictFacts,
)
from mailbridge.health.live import process, version

SOON: Final = 0.1
"""
Seconds from a change until it is told, with what else changes meanwhile.

It takes as long as a mail takes, and what has just come in is still on its way then.
"""


class Round(Protocol):
    """What the loop tells of itself."""

    @property
    def watch_mode(self) -> str:
        """`inotify` or `poll`."""

    @property
    def watch_reason(self) -> str:
        """Why there is no watch; empty with one."""

    @property
    def scan_seconds(self) -> float:
        """How long the last look through all Maildirs took."""

    @property
    def is_full(self) -> bool:
        """Whether no mail is taken in until there is room."""

    def alarms(self) -> list[str]:
        """Return, in a few words each, what an operator should look after."""


class Reporter:
    """Tells how the bridge on *state* stands: soon when it changes, else every few seconds."""

    def __init__(  # noqa: PLR0913 - what there is to tell of
        self,
        state: State,
        places: Sequence[Place],
        targets: Sequence[Target],
        *,
        attention: Attention,
        canaries: Canaries,
        health: Health,
    ) -> None:
        self._state: Final = state
        self._places: Final = places
        self._targets: Final = targets
        self._attention: Final = attention
        self._canaries: Final = canaries
        self._health: Final = health
        self._live: Final = Live(state.directory, "bridge")
        self._started: Final = time.time()
        self._process: Final = process()
        self._version: Final = version()
        self._status = ""
        self._due = -math.inf
        self.ready = False
        """Mail is being taken in."""

    def turned(self, loop: Round, status: str, now: float) -> float:
        """
        Note that the *loop* has done its round, and is what *status* says in a line.

        Return when there is more to tell.
        """
        self._health.turned("bridge")
        if status != self._status:
            self._status, self._due = status, min(self._due, now + SOON)
        if now >= self._due:
            self._due = now + EVERY
            facts = self._facts(loop, status)
            self._health.bridge = facts
            self._live.tell(facts)
        return self._due

    def close(self) -> None:
        """Say no more."""
        self._live.close()

    def _facts(self, loop: Round, status: str) -> BridgeFacts:
        outbox = self._state.outbox
        head = outbox.head()
        return BridgeFacts(
            entity=self._state.key.entity,
            feed=head.feed,
            version=self._version,
            started=self._started,
            process=self._process,
            time=time.time(),
            ready=self.ready,
            status=status,
            watch=loop.watch_mode,
            watch_reason=loop.watch_reason,
            scan_seconds=loop.scan_seconds,
            disk_free=shutil.disk_usage(self._state.directory).free,
            disk_full=loop.is_full,
            events=head.seq,
            quarantined=outbox.in_quarantine(),
            alarms=tuple(loop.alarms()),
            places=tuple(map(_place, self._places)),
            sources=tuple(
                SourceFacts(
                    name=fact.source.name,
                    expected=fact.source.expect_every or "",
                    heard=fact.heard,
                    silent=fact.silent,
                )
                for fact in self._attention.facts()
            ),
            lists=tuple(
                ListFacts(
                    list_id=list_id,
                    newest=series.high,
                    waiting=series.waiting,
                    missing=series.told,
                )
                for list_id, series in self._attention.series().items()
            ),
            verdicts=tuple(
                VerdictFacts(source=source, verdict=verdict, code=code, count=count)
                for source, verdict, code, count in outbox.counts()
            ),
            targets=tuple(self._target(target, head.seq) for target in self._targets),
            canary=self._canaries.last,
        )

    def _target(self, target: Target, newest: int) -> TargetFacts:
        made = self._state.outbox.made(target.acked + 1) if target.acked < newest else None
        return TargetFacts(
            name=target.name,
            status=target.status(),
            trouble=target.trouble,
            waiting=newest - target.acked,
            oldest=made.timestamp() if made else None,
            resent=target.resent,
            canary=self._canaries.through.get(target.name),
            echoes=target.name in self._canaries.asked,
        )


def _place(place: Place) -> PlaceFacts:
    return PlaceFacts(
        path=str(place.path).encode("utf-8", "backslashreplace").decode(),
        sources=tuple(source.name for source in place.sources),
        spool=place.spool,
        backlog=place.backlog,
        stranded=place.stranded,
        trouble=place.trouble,
    )
