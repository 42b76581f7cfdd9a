"""What a measurement gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

ROUNDS: Final = 5
"""In so many parts a measurement is made: of a busy machine none of them tells alone."""

T = TypeVar("T")


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One figure of an installation, and the bare calls in it."""

    name: str
    unit: Literal["mails/s", "events/s", "ms"]
    value: float
    bare: float
    """What the bare calls alone would give, in the same unit."""
    ratio: float
    """How many times the cost of the bare calls; 1 is as good as one processor can get."""
    floor: float
    """What it should be at least (of a time: at most), on the same machine, in the same unit."""
    parts: dict[str, float]
    """Milliseconds of each bare call, for one mail, event or start."""
    n: int
    """How many mails, events or starts were measured."""


class Round(NamedTuple):
    """One part of a measurement: ours, and right after it the bare calls for the same things."""

    n: int
    took: float
    bare: dict[str, float]
    """Seconds of each bare call, for all *n* together."""


def rate(
    name: str,
    unit: Literal["mails/s", "events/s"],
    rounds: Sequence[Round],
    *,
    limit: float,
    least: float = 0,
) -> Figure:
    """
    Return the figure of *rounds*, whose ratio should not be above *limit*, and not below *least*.

    The round in the middle counts, with its own bare calls: a machine is now fast and now slow, and
    what was measured right after each other was so on the same one.
    """
    one = middle(rounds, lambda r: r.took / sum(r.bare.values()))
    each = one.took / one.n
    parts = {call: seconds / one.n for call, seconds in one.bare.items()}
    alone = sum(parts.values())
    return Figure(
        name=name,
        unit=unit,
        value=1 / each,
        bare=1 / alone,
        ratio=each / alone,
        floor=max(1 / (limit * alone), least),
        parts={call: 1000 * seconds for call, seconds in parts.items()},
        n=sum(r.n for r in rounds),
    )


def middle(things: Sequence[T], key: Callable[[T], float]) -> T:
    """Return the one of *things* that stands in the middle, in the order of *key*."""
    return sorted(things, key=key)[len(things) // 2]


def chunks(things: Sequence[T], rounds: int = ROUNDS) -> Iterator[Sequence[T]]:
    """Yield *things* in *rounds* parts of about one size, the empty ones left out."""
    size = -(-len(things) // rounds)
    for at in range(0, len(things), max(size, 1)):
        yield things[at : at + size]


def percentile(values: Sequence[float], part: int) -> float:
    """Return the value below which *part* percent of *values* are."""
    in_order = sorted(values)
    return in_order[min(len(in_order) - 1, len(in_order) * part // 100)]


def seconds(work: Callable[[], object]) -> float:
    """Return how long *work* takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
