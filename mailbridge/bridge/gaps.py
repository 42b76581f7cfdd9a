"""
Numbers that a list gave to mails which never came.  Pure: told what came and when, it says what is
missing, and for how long.

Mails overtake each other, so a number has time to come late.  Lists begin to count anew, and
strangers write any number: what is far from all before counts only when several agree.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

GRACE: Final = 2 * 3600
"""Seconds that a mail may come behind its successors: a greylisting server takes as long."""

QUIET: Final = 3600
"""Seconds between two gaps of one list that are told."""

AHEAD: Final = 1_000
"""A number that is further ahead of the last one is not believed alone."""

AGREE: Final = 4
"""So many numbers, ascending, one shortly after the other, say that the list counts otherwise."""

_STEP: Final = 100
"""How far apart they may be."""

_RANGES: Final = 200
"""Gaps that are remembered at once; the oldest are told as one with the next."""


class Gap(NamedTuple):
    """Numbers of a list that did not come in time: *missing* of those from *first* to *last*."""

    first: int
    last: int
    missing: int


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a list's numbers.  Unix times."""

    high: int
    """The newest that came."""
    missing: tuple[tuple[int, int, int], ...] = ()
    """(first, last, since when) of what is below it and did not come, in ascending order."""
    odd: tuple[int, ...] = ()
    """The last numbers that fit nothing else."""
    told_at: int = 0
    """When a gap was last told."""
    told: int = 0
    """How many mails were told as missing, ever."""

    @property
    def waiting(self) -> int:
        """How many numbers may still come late."""
        return sum(last - first + 1 for first, last, _ in self.missing)


def came(series: Series | None, number: int, now: int) -> Series:
    """
    Return *series* (None: nothing came before) after *number* came.

    >>> came(came(None, 7, 0), 9, 60).missing
    ((8, 8, 60),)
    """
    if series is None:
        return Series(high=number)
    if series.high < number <= series.high + AHEAD:
        missing = series.missing
        if number > series.high + 1:
            missing = _bounded((*missing, (series.high + 1, number - 1, now)))
        return msgspec.structs.replace(series, high=number, missing=missing, odd=())
    if number == series.high:
        return series
    for first, last, _ in series.missing:
        if first <= number <= last:
            series = filled(series, number)
            # (Whoever made a list look far ahead is found out by what it goes on with.)
            return series if last - first < AHEAD else _odd(series, number, now)
    return _odd(series, number, now)


def filled(series: Series, number: int) -> Series:
    """Return *series* after *number* came late, or was brought in by hand."""
    left: list[tuple[int, int, int]] = []
    for first, last, since in series.missing:
        if first <= number <= last:
            left += [
                (low, high, since)
                for low, high in ((first, number - 1), (number + 1, last))
                if low <= high
            ]
        else:
            left.append((first, last, since))
    return msgspec.structs.replace(series, missing=tuple(left))


def due(series: Series, now: int) -> tuple[Series, Gap | None]:
    """
    Return what is to be told *now*, or None, and *series* after that.

    All that had its time is told as one gap, one in an hour.
    """
    late = [entry for entry in series.missing if entry[2] + GRACE <= now]
    if not late or 0 <= now - series.told_at < QUIET:
        return series, None
    missing = sum(last - first + 1 for first, last, _ in late)
    gap = Gap(late[0][0], late[-1][1], missing)
    left = tuple(entry for entry in series.missing if entry not in late)
    told = series.told + missing
    return msgspec.structs.replace(series, missing=left, told_at=now, told=told), gap


def _odd(series: Series, number: int, now: int) -> Series:
    """Return *series* after a number that is far ahead, or was there before, or long ago."""
    follows = bool(series.odd) and series.odd[-1] < number <= series.odd[-1] + _STEP
    odd = (*series.odd, number) if follows else (number,)
    if len(odd) < AGREE:
        return msgspec.structs.replace(series, odd=odd)
    # They agree.  Ahead, all in between is missing; behind, the list counts anew.
    first, *rest = odd
    if first > series.high:
        missing = _bounded((*series.missing, (series.high + 1, first - 1, now)))
    else:
        missing = ()
    moved = msgspec.structs.replace(series, high=first, missing=missing, odd=())
    for later in rest:
        moved = came(moved, later, now)
    return moved


def _bounded(missing: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
    if len(missing) <= _RANGES:
        return missing
    (first, _, since), (_, last, _), *rest = missing
    return ((first, last, since), *rest)
