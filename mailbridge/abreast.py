"""
Work that mostly waits for a library which lets others run meanwhile, done by two threads.

Checking an ed25519 signature is such work: nine tenths of it are outside of Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

FEW: Final = 32
"""For fewer things than that a second thread gains nothing: both want the interpreter."""

_T = TypeVar("_T")
_R = TypeVar("_R")

_helper: Final[list[ThreadPoolExecutor]] = []


def abreast(work: Callable[[_T], _R], things: Sequence[_T]) -> list[_R]:
    """
    Return what *work*, which any thread may do, returns for each of *things*, in their order.

    Raises what it raises.
    """
    if len(things) < FEW or len(os.sched_getaffinity(0)) == 1:
        return [work(thing) for thing in things]
    if not _helper:
        # (Who has few things to do need not load it.)
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        _helper.append(ThreadPoolExecutor(1, "abreast"))
    done: dict[int, _R] = {}
    # (Both take the next one from here: who is held up does less.)
    left = iter(list(enumerate(things)))
    other = _helper[0].submit(_work_off, work, left, done)
    try:
        _work_off(work, left, done)
    finally:
        other.result()
    return [done[at] for at in range(len(things))]


def _work_off(
    work: Callable[[_T], _R], left: Iterator[tuple[int, _T]], done: dict[int, _R]
) -> None:
    for at, thing in left:
        done[at] = work(thing)
