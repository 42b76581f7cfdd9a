"""
Silence is a fault: sources that should speak and do not, and mails that a list numbered and that
never came.  Told once: in the log, as an alarm while it lasts, and as an event of the bridge's own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from mailbridge.bridge import gaps
from mailbridge.bridge.compose import Examined
from mailbridge.bridge.delivery import Delivery
from mailbridge.bridge.own import ListGap, SourceHeard, SourceSilent
from mailbridge.bridge.silence import Fact, Silence, iso
from mailbridge.config import Source
from mailbridge.event import FORMAT, event_uuid
from mailbridge.numbering import ListNumber
from mailbridge.outbox import Outbox
from mailbridge.outbox.notes import Notes
from mailbridge.payloads import Payload

log = logging.getLogger("mailbridge.attention")

LOOK: Final = 1.0
"""Seconds between two looks whether somebody is late."""

NUMBERS: Final = "numbers"
"""What the notes of the outbox about a list's numbers are called."""


class Heard(NamedTuple):
    """What one mail says of its source, whatever else it says."""

    source: Source
    stands: bool
    """It is backed as the source requires: else anybody could speak for it."""
    number: ListNumber | None
    arrived: datetime
    live: bool
    """It was delivered; else somebody brought it in by hand."""


def hearings(
    mail: Delivery, sources: Iterable[Source], told: Iterable[Examined]
) -> Iterator[Heard]:
    """Yield what *mail* says of each of *sources*, of which each says what is *told* of it."""
    live = mail.file is not None and not mail.backfill
    for source, one in zip(sources, told, strict=True):
        yield Heard(source, one.speaks, one.number, mail.received, live)


class Attention:
    """The sources and lists that are waited for.  One thread uses it, with its *outbox*."""

    def __init__(
        self,
        sources: Sequence[Source],
        outbox: Outbox,
        *,
        origin: str | None,
        now: datetime,
        clock: float,
    ) -> None:
        self._outbox: Final = outbox
        self._origin: Final = origin
        self._silence: Final = Silence(sources, outbox, now=int(now.timestamp()), clock=clock)
        self._numbers: Final = Notes(outbox.run, NUMBERS)
        self._by_list: Final = {
            name.lower(): source for source in reversed(sources) for name in source.lists
        }
        self._due: Final[dict[str, int]] = {}
        """When (Unix time) something of a list may have to be told."""
        for list_id, told in self._numbers.all().items():
            self._schedule(list_id, _read(told))
        self._looked = -math.inf

    def heard(self, told: Iterable[Heard], *, now: datetime, clock: float) -> None:
        """Take note of mails that have their verdict now; inside the transaction."""
        unix = int(now.timestamp())
        for one in told:
            if not one.stands:
                continue
            if one.number and one.number.list_id in self._by_list:
                self._number(one.number, unix, live=one.live)
            if not one.live:
                continue
            arrived = int(one.arrived.timestamp())
            since = self._silence.heard(one.source, arrived, now=unix, clock=clock)
            if since is not None:
                log.info("source %r speaks again", one.source.name)
                payload = SourceHeard(
                    source=one.source.name, archive=one.source.archive, since=iso(since)
                )
                self._emit(one.source, payload, {"source": one.source.name, "since": since}, now)

    def turn(self, *, now: datetime, clock: float, waits: Callable[[str], bool]) -> None:
        """
        Tell what is to be told; commits.  Of a source whose mail *waits* for us nothing is said.
        """
        if clock < self._looked + LOOK:
            return
        self._looked = clock
        for fact in [*self._silence.late(clock)]:
            if not waits(fact.source.name):
                self._tell_silent(fact, now)
        unix = int(now.timestamp())
        for list_id in [list_id for list_id, due in self._due.items() if due <= unix]:
            source = self._by_list.get(list_id)
            if source is None:
                # It is not in the configuration any more.
                del self._due[list_id]
            elif not waits(source.name):
                self._tell_gap(list_id, source, now)

    def alarms(self) -> list[str]:
        """Return a few words for each source that is silent."""
        return [f"silence from {fact.source.name}" for fact in self.facts() if fact.silent]

    def facts(self) -> list[Fact]:
        """Return how the sources stand that should speak."""
        return self._silence.facts()

    def series(self) -> dict[str, gaps.Series]:
        """Return what is known of the numbers of each list."""
        return {
            list_id: _read(told)
            for list_id, told in self._numbers.all().items()
            if list_id in self._by_list
        }

    # -- numbers -----------------------------------------------------------------------------------

    def _number(self, number: ListNumber, now: int, *, live: bool) -> None:
        told = self._numbers.get(number.list_id)
        before = _read(told) if told else None
        if live:
            after = gaps.came(before, number.number, now)
        elif before:
            after = gaps.filled(before, number.number)
        else:
            # (Old mail says nothing of what is to come.)
            return
        if after != before:
            self._keep(number.list_id, after)

    def _keep(self, list_id: str, series: gaps.Series) -> None:
        self._numbers.put(list_id, msgspec.json.encode(series).decode())
        self._schedule(list_id, series)

    def _schedule(self, list_id: str, series: gaps.Series) -> None:
        self._due.pop(list_id, None)
        if series.missing:
            late = min(since for _, _, since in series.missing) + gaps.GRACE
            self._due[list_id] = max(late, series.told_at + gaps.QUIET)

    def _tell_gap(self, list_id: str, source: Source, now: datetime) -> None:
        with self._outbox.transaction():
            # (Somebody may have brought in by hand what was missing.)
            told = self._numbers.get(list_id)
            series, gap = gaps.due(_read(told), int(now.timestamp())) if told else (None, None)
            if series is None:
                del self._due[list_id]
                return
            self._keep(list_id, series)
            if gap is None:
                return
            payload = ListGap(
                source=source.name,
                archive=source.archive,
                list_id=list_id,
                first=gap.first,
                last=gap.last,
                missing=gap.missing,
            )
            identity = {"list_id": list_id, "from": gap.first, "to": gap.last}
            self._emit(source, payload, {**identity, "at": series.told_at}, now)
        log.error(
            "list %s: %d mail(s) of those numbered %d to %d did not come (source %r): look for them"
            " in its archive, 'mailbridge ingest' takes them",
            *(list_id, gap.missing, gap.first, gap.last, source.name),
        )

    # -- silence -----------------------------------------------------------------------------------

    def _tell_silent(self, fact: Fact, now: datetime) -> None:
        source, since = fact.source, iso(fact.heard)
        expected = source.expect_every or ""
        payload = SourceSilent(
            source=source.name, archive=source.archive, since=since, expected=expected
        )
        with self._outbox.transaction():
            self._silence.tell(fact)
            self._emit(source, payload, {"source": source.name, "since": fact.heard}, now)
        log.error(
            "no mail by source %r since %s, and one is expected every %s: is its address still"
            " subscribed?",
            *(source.name, since, expected),
        )

    def _emit(
        self, source: Source, payload: Payload, identity: dict[str, Any], now: datetime
    ) -> None:
        # What one bridge does not hear another may: so its name is part of what is said.
        entity = self._outbox.feed.partition("/")[0]
        uuid = event_uuid(source.archive or "", payload.NAME, {"entity": entity, **identity})
        tag = f"{source.namespace}.{payload.NAME}"
        fields = {
            "id": tag,
            "tag": tag,
            "uuid": uuid,
            "format": FORMAT,
            "time": now.isoformat(timespec="milliseconds"),
            "origin": self._origin,
            "data": msgspec.to_builtins(payload),
        }
        told = {key: value for key, value in fields.items() if value is not None}
        if self._outbox.emit(told, mail=None, backfill=False):
            log.info("event tag=%s uuid=%s", tag, uuid)


def _read(told: str) -> gaps.Series:
    return msgspec.json.decode(told, type=gaps.Series)
