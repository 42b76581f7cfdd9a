"""A relay that is asked until it answers, as long as there is time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from mailbridge.errors import TryAgain
from mailbridge.wire.read import GRACE, Answer, Asks, Refused, Silence

BUSY: Final = 1.0
"""Seconds after which a relay that is busy is asked again."""

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class Patience:
    """
    Asks the relay *asks*, at *url*, over and over while it is away or busy.

    At most *timeout* seconds from now on (None: for ever); without *follow* its first silence
    ends it.
    """

    def __init__(self, url: str, asks: Asks, *, timeout: float | None, follow: bool) -> None:
        self.url: Final = url
        self.asks: Final = asks
        self._follow: Final = follow
        self._deadline: Final = math.inf if timeout is None else time.monotonic() + timeout
        self._away = True  # until something was answered: the first question does not wait
        self._told_away = False

    @property
    def answered(self) -> bool:
        """Whether the relay was there when it was last asked."""
        return not self._away

    def ask(
        self,
        op: str,
        fields: Mapping[str, object],
        *,
        wait: float = 0.0,
        proofs: Sequence[bytes] = (),
    ) -> Answer:
        """
        Return the answer to *op*.

        Raises `TryAgain` when time is up, `Refused`, `Stopped`, or `BadInput` for no answer.
        """

        def once() -> Answer:
            left = self._left()
            patience = 0.0 if self._away else min(wait, left)
            grace = min(GRACE, max(left - patience, 0.05))
            return self.asks.ask(op, fields, wait=patience, grace=grace, proofs=proofs)

        return self.until_done(once)

    def until_done(self, act: Callable[[], _T]) -> _T:
        """Return what *act* returns, once the relay answers.  Raises what `ask` does."""
        while True:
            self._left()
            try:
                done = act()
            except Silence as silence:
                self._away = True
                self._left()
                if not self._follow:
                    raise
                if not self._told_away:
                    _log.warning("%s; trying on", silence)
                    self._told_away = True
            except Refused as refused:
                if refused.code != "busy":
                    raise
                _log.warning("%s", refused)
                self.asks.pause(min(BUSY, self._left()))
            else:
                if self._told_away:
                    _log.warning("%s answers again", self.url)
                self._away = self._told_away = False
                return done

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TryAgain(f"{self.url}: not enough events in the time given")
        return left
