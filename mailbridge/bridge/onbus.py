"""
Uploads that the bus carries already, because their archive tells of them by itself.

What our own relay keeps is asked: it has what other sources submitted to it, and what a Lighthouse
publishes that it follows (`relay.upstream`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mailbridge.bridge import standin
from mailbridge.bridge.compose import Composed
from mailbridge.errors import RelayGone
from mailbridge.event import LANIAKEA_ARCHIVE, SignedEvent, read_event
from mailbridge.journal import Journal

PAST: Final = timedelta(days=2)
"""How far back the first look goes: a mail that is later is news to everybody."""

MANY: Final = 20_000
"""How many uploads are remembered, the last ones."""

_PAGE: Final = 500

_STEPS: Final = {
    "package-upload-accepted": "accepted",
    "package-upload-queued-new": "new",
    "package-upload-rejected": "rejected",
}
"""By the event's name: how far an upload has come."""

_Key = tuple[str, ...]


class OnBus:
    """The uploads that others than *ourselves* told of, under Laniakea's own tags."""

    def __init__(self, journal: Path, ourselves: str) -> None:
        """The file *journal* need not be there yet; *ourselves* is our entity."""
        self._path: Final = journal
        self._ourselves: Final = ourselves
        self._journal: Journal | None = None
        self._read = 0
        self._told: dict[_Key, str] = {}
        """Who told of an upload, the oldest first."""

    def teller(self, event: Composed, now: datetime) -> str | None:
        """Return who told of the upload that *event* tells of; None where nobody did so far."""
        step = _STEPS.get(event.name)
        if step is None:
            return None
        self._look(now)
        return next(filter(None, map(self._told.get, _keys(step, (event.own or event).data))), None)

    def close(self) -> None:
        """Close the journal."""
        if self._journal:
            self._journal.close()
            self._journal = None

    def _look(self, now: datetime) -> None:
        if self._journal is None:
            if not self._path.exists():
                return
            self._journal = Journal.open(self._path, readonly=True)
            self._read = max(self._read, self._journal.at(now - PAST))
        while page := self._page(self._journal):
            for pos, raw in page:
                self._read = pos
                self._note(read_event(raw))
            while len(self._told) > MANY:
                del self._told[next(iter(self._told))]

    def _page(self, journal: Journal) -> list[tuple[int, bytes]]:
        try:
            return journal.read(self._read, sorted(standin.UPLOADS), _PAGE)
        except RelayGone:
            self._read = journal.horizon()
            return journal.read(self._read, sorted(standin.UPLOADS), _PAGE)

    def _note(self, event: SignedEvent) -> None:
        # (The relay vouches for its journal; whose key it took is in the feed, or signed.)
        whose = [event.feed.entity] if event.feed else sorted(event.signatures)
        if self._ourselves in whose:
            return
        step = event.tag.removeprefix(f"{LANIAKEA_ARCHIVE}.package-upload-")
        if event.data.get("is_new") is True:
            step = "new"
        # (A mail does not always tell the suite.)
        for told in (event.data, {**event.data, "suite": None}):
            for key in _keys(step, told):
                self._told[key] = whose[0]


def _keys(step: str, data: Mapping[str, Any]) -> Iterator[_Key]:
    """Yield what two events have in common that tell of one step of one upload."""
    told = standin.upload(data)
    # (A rejection goes into no suite.)
    suite = "" if step == "rejected" else told.suite
    if told.repo and told.name:
        yield step, told.repo, suite, told.name
    # An announcement does not always tell the upload's name; a source comes once into a suite.
    if told.repo and told.source and told.version and step == "accepted" and _has_source(data):
        yield step, told.repo, suite, told.source, told.version


def _has_source(data: Mapping[str, Any]) -> bool:
    return data.get("is_source_upload") is not False
