"""What a measurement gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One figure of an installation, and the bare calls in it."""

    name: str
    unit: Literal["mails/s", "events/s", "ms"]
    value: float
    bare: float
    """What the bare calls alone would give, in the same unit."""
    ratio: float
    """How many times the cost of the bare calls; 1 is as good as it can get."""
    parts: dict[str, float]
    """Milliseconds of each bare call, for one mail, event or start."""
    n: int
    """How many mails, events or starts were measured."""
    p99: float | None = None
    """Of a latency, whose `value` is the median."""


def rate(
    name: str,
    unit: Literal["mails/s", "events/s"],
    *,
    n: int,
    took: float,
    bare: Mapping[str, float],
) -> Figure:
    """Return the figure of *n* things in *took* seconds, the *bare* calls in seconds each."""
    alone = sum(bare.values())
    return Figure(
        name=name,
        unit=unit,
        value=n / took,
        bare=n / alone,
        ratio=took / alone,
        parts={call: 1000 * seconds / n for call, seconds in bare.items()},
        n=n,
    )


def seconds(work: Callable[[], object]) -> float:
    """Return how long *work* takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
