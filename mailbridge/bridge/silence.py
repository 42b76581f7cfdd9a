"""Sources that have fallen silent: a list that unsubscribed us says nothing about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from mailbridge import config
from mailbridge.config import Source
from mailbridge.outbox import Outbox
from mailbridge.outbox.notes import Notes

HEARD: Final = "heard"
SILENT: Final = "silent"
"""What the notes of the outbox about them are called."""


class Fact(NamedTuple):
    """How a source that should speak (`expect_every`) stands.  Unix times."""

    source: Source
    heard: int
    """When its last mail arrived, or from when on one is expected."""
    silent: bool
    """It is told to be silent, and has been since `heard`."""


class Silence:
    """
    When each source that should speak was last heard, over restarts.

    How long that is ago is measured by the monotonic clock while we run: a clock that is set
    silences nobody.
    """

    def __init__(
        self, sources: Iterable[Source], outbox: Outbox, *, now: int, clock: float
    ) -> None:
        """A source that is new is expected from *now* on."""
        self._heard_notes: Final = Notes(outbox.run, HEARD)
        self._silent_notes: Final = Notes(outbox.run, SILENT)
        self._sources: Final = {s.name: s for s in sources if s.expect_every}
        self._patience: Final = {
            name: config.duration(source.expect_every or "")
            for name, source in self._sources.items()
        }
        self._heard: Final[dict[str, int]] = {}
        self._at: Final[dict[str, float]] = {}
        self._silent: Final[set[str]] = set()
        for name in self._sources:
            told = self._silent_notes.get(name) or self._heard_notes.get(name)
            self._heard[name] = min(int(told), now) if told else now
            self._at[name] = clock - (now - self._heard[name])
            if self._silent_notes.get(name):
                self._silent.add(name)

    def heard(self, source: Source, arrived: int, *, now: int, clock: float) -> int | None:
        """
        Note that a mail of *source* arrived; inside a transaction.

        Returns since when it was told to be silent, if it was and is no more.
        """
        name = source.name
        arrived = min(arrived, now)
        # (Mail that waited for us since before the last one is no sign of life.)
        if name not in self._sources or arrived < self._heard[name]:
            return None
        since = self._heard[name] if name in self._silent else None
        if self._heard_notes.get(name) != str(arrived):
            self._heard_notes.put(name, str(arrived))
        self._heard[name], self._at[name] = arrived, clock - (now - arrived)
        if since is not None:
            if self._is_late(name, clock):
                # It came long ago, and nothing after it.
                self._silent_notes.put(name, str(arrived))
                return None
            self._silent.discard(name)
            self._silent_notes.forget(name)
        return since

    def late(self, clock: float) -> Iterator[Fact]:
        """Yield those that are silent for too long, and were not told to be."""
        for name, source in self._sources.items():
            if name not in self._silent and self._is_late(name, clock):
                yield Fact(source, self._heard[name], silent=False)

    def tell(self, fact: Fact) -> None:
        """Remember that *fact* was told; inside a transaction."""
        name = fact.source.name
        self._heard_notes.put(name, str(fact.heard))
        self._silent_notes.put(name, str(fact.heard))
        self._silent.add(name)

    def facts(self) -> list[Fact]:
        """Return how all of them stand."""
        return [
            Fact(source, self._heard[name], silent=name in self._silent)
            for name, source in self._sources.items()
        ]

    def _is_late(self, name: str, clock: float) -> bool:
        return clock - self._at[name] > self._patience[name]


def iso(unix: int) -> str:
    """Return a Unix time as ISO 8601, UTC."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds")
