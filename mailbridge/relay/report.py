"""How a relay stands, as values: for the file in its state, and for the health port."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from mailbridge.feed import Head
from mailbridge.health import EVERY, Health, Live, RelayFacts
from mailbridge.health.live import process, version
from mailbridge.journal import FeedState, Journal


class Endpoints(NamedTuple):
    """Where a relay listens, as bound."""

    submit: str
    publish: str
    read: str


class _Note(msgspec.Struct):
    """As much of a signed head as tells how far its source is."""

    head: Head


class Reporter:
    """Tells every few seconds how the relay on *state* stands.  It lives in the relay's thread."""

    def __init__(
        self, state: Path, entity: str, endpoints: Endpoints, journal: Journal, health: Health
    ) -> None:
        self._state: Final = state
        self._entity: Final = entity
        self._endpoints: Final = endpoints
        self._journal: Final = journal
        self._health: Final = health
        self._live: Final = Live(state, "relay")
        self._started: Final = time.time()
        self._process: Final = process()
        self._version: Final = version()
        self._due = -math.inf

    def turned(  # noqa: PLR0913 - one for each fact
        self,
        now: float,
        *,
        counts: Mapping[str, int],
        published: int,
        readers: int,
        contradicted: Iterable[str],
        alarms: Iterable[str],
    ) -> float:
        """Note that the relay has done its round; return when there is more to tell."""
        self._health.turned("relay")
        if now < self._due:
            return self._due
        self._due = now + EVERY
        heads = self._journal.heads()
        submit, publish, read = self._endpoints
        facts = RelayFacts(
            entity=self._entity,
            version=self._version,
            started=self._started,
            process=self._process,
            time=time.time(),
            submit=submit,
            publish=publish,
            read=read,
            events=self._journal.newest(),
            published=published,
            disk_free=shutil.disk_usage(self._state).free,
            readers=readers,
            submissions=dict(counts),
            feeds={feed: state.head.seq for feed, state in heads.items()},
            missing={feed: _missing(state) for feed, state in heads.items()},
            contradicted=tuple(contradicted),
            alarms=tuple(alarms),
        )
        self._health.relay = facts
        self._live.tell(facts)
        return self._due

    def close(self) -> None:
        """Say no more."""
        self._live.close()


def _missing(state: FeedState) -> int:
    """Return by how many events we are behind what the source says it has."""
    if state.note is None:
        return 0
    return max(0, msgspec.json.decode(state.note, type=_Note).head.seq - state.head.seq)
