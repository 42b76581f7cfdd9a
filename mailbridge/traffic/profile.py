"""How mail comes on days of one sort: in which mix, and in which bursts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from mailbridge.traffic.story import MIX


class Profile(NamedTuple):
    """A sort of day."""

    rate: float
    """Mails a second, on average, when nobody says otherwise."""
    burst: int = 1
    """So many come at once, and then none until the average is right again."""
    mix: Mapping[str, int] = MIX
    faults: tuple[str, ...] = ()
    is_held: bool = False
    """The silence comes first: the burst is what was held back."""

    def due(self, n: int, rate: float) -> float:
        """
        Return when mail *n*, the first of which is 0, is due, in seconds after the beginning.

        *rate* is the average, in mails a second; 0: all at once.

        >>> day = Profile(rate=1, burst=3)
        >>> [day.due(n, 2.0) for n in range(7)]
        [0.0, 0.0, 0.0, 1.5, 1.5, 1.5, 3.0]
        >>> day._replace(is_held=True).due(0, 2.0)
        1.5
        """
        return (n // self.burst + self.is_held) * self.burst / rate if rate else 0.0


EVEN: Final = Profile(rate=0.0)
"""One mail after the other, as when no profile is named."""

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "quiet": Profile(0.1, mix={"uploads": 3, "bugs": 3, "noise": 4}),
        "dinstall": Profile(1.0, burst=60, mix={"uploads": 9, "bugs": 1}),
        "mass-bug-filing": Profile(5.0, burst=200, mix={"bugs": 1}),
        "transition": Profile(2.0, burst=25, mix={"uploads": 8, "bugs": 2}),
        "list-outage": Profile(2.0, burst=500, faults=("duplicate", "redelivered"), is_held=True),
    }
)
"""
Sorts of days, by name.

quiet: a mail now and then, much of it chatter.  dinstall: what the archive ran through is announced
at once.  mass-bug-filing: hundreds of reports at once.  transition: rows of rebuilds.  list-outage:
silence, then all that the list held back, some of it twice.
"""
