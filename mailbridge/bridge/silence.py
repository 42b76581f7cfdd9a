"""Alarms for sources that have fallen silent: a list that unsubscribed us says nothing about it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from mailbridge import config
from mailbridge.config import Source

log = logging.getLogger("mailbridge.silence")


class Silence:
    """Since when each source that should speak (`expect_every`) has said nothing."""

    def __init__(self, sources: Iterable[Source], now: float) -> None:
        """Count from *now*, a monotonic time: what came before this start is not known."""
        self._patience: Final = {
            source.name: config.duration(source.expect_every)
            for source in sources
            if source.expect_every
        }
        self._heard: Final = dict.fromkeys(self._patience, now)
        self._alarmed: Final[set[str]] = set()

    def heard(self, sources: Iterable[Source], now: float) -> None:
        """Note that mail of *sources* came, whatever became of it."""
        for source in {source.name for source in sources}:
            if source in self._heard:
                self._heard[source] = now
                if source in self._alarmed:
                    self._alarmed.remove(source)
                    log.info("source %r speaks again", source)

    def alarms(self, now: float) -> list[str]:
        """Return a few words for each source that is silent for too long; logged once each."""
        for source, since in self._heard.items():
            if now - since > self._patience[source] and source not in self._alarmed:
                self._alarmed.add(source)
                log.error("no mail by source %r for %d s", source, self._patience[source])
        return [f"silence from {source}" for source in sorted(self._alarmed)]
