"""Composed events into the outbox: each piece of news once, or what confirms it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from mailbridge.bridge import standin
from mailbridge.bridge.compose import Composed
from mailbridge.bridge.confirm import confirmation
from mailbridge.event import FORMAT
from mailbridge.outbox import Out, Outbox
from mailbridge.upload import Upload


class Issued(NamedTuple):
    """What became of the events of one mail."""

    events: tuple[Composed, ...]
    """As they were to go out."""
    fresh: int
    """How many of them were news."""
    confirmations: tuple[str, ...]
    """Uuids of the events by which others were confirmed."""


class Issuer:
    """Everything here happens inside a transaction of the outbox, but for `comes_back`."""

    def __init__(self, outbox: Outbox, origin: str | None) -> None:
        self._outbox: Final = outbox
        self._origin: Final = origin

    def issue(
        self,
        events: Sequence[Composed],
        *,
        mail: bytes,
        backfill: bool,
        now: datetime,
        only_confirm: bool = False,
    ) -> Issued:
        """
        Emit those of *events* that are news, and confirm those that are out and backed better now.

        They came of *mail* (sha256).  With *only_confirm* nothing is emitted that is not out.
        """
        if any(event.own for event in events) and self._outbox.stand_ins.stopped():
            events = [event.own or event for event in events]
        confirmations: list[str] = []
        fresh = 0
        for event in events:
            if not only_confirm and self._emit(event, mail, backfill=backfill, now=now):
                fresh += 1
                continue
            told = self._confirm(event)
            if told and self._emit(told, mail, backfill=backfill, now=now):
                confirmations.append(told.uuid)
        return Issued(tuple(events), fresh, tuple(confirmations))

    def comes_back(self, uploads: Iterable[Upload]) -> bool:
        """Say whether one of *uploads* went out in Laniakea's name, by us."""
        return any(map(self._outbox.stand_ins.knows, uploads))

    def _emit(self, event: Composed, mail: bytes, *, backfill: bool, now: datetime) -> bool:
        if not self._outbox.emit(self._envelope(event, now), mail=mail, backfill=backfill):
            return False
        if event.own and event.tag in standin.UPLOADS:
            self._outbox.stand_ins.note(standin.upload(event.own.data))
        return True

    def _confirm(self, event: Composed) -> Composed | None:
        """Return what confirms *event*, if it is out and anything does; from now on that counts."""
        out = self._outbox.backings.of(event.uuid)
        told = confirmation(event, out) if out else None
        if out and told:
            backing = out.backing.joined(event.common.provenance.backing)
            self._outbox.backings.note(event.uuid, Out(out.tag, backing))
        return told

    def _envelope(self, event: Composed, now: datetime) -> dict[str, object]:
        fields: dict[str, object] = {
            "id": event.tag,
            "tag": event.tag,
            "uuid": event.uuid,
            "format": FORMAT,
            "time": now.isoformat(timespec="milliseconds"),
            "origin": self._origin,
            "author": event.author,
            "data": event.data,
        }
        return {key: value for key, value in fields.items() if value is not None}
