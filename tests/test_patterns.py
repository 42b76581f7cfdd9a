"""No regular expression takes long, whatever a stranger writes for it."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from tests.patterns import LENGTH, Used, used, worst

ENOUGH = 1.0
"""Seconds of CPU for an input: a guard that stands twenty times above the slowest of them."""

# What these are shown was written by the operator of this machine.
OPERATORS = tuple(f"mailbridge.{name}" for name in ("bench", "cli", "config", "keyring", "rules"))


@cache
def patterns() -> list[Used]:
    return [one for one in used() if not one.where.startswith(OPERATORS)]


@pytest.mark.fault(80)
def test_no_pattern_of_ours_explodes_on_its_worst_input() -> None:
    assert [told for one in patterns() if (told := explosion(one))] == []


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (r"(\S+@\S+)\s+\((.*)\)", "fullmatch"),
        (r"(?m)^\s*author\(s\) ", "search"),
        (r" +(\S+)|(\S+\.\S+)", "fullmatch"),
        (r"([0-9][a-z0-9.]*) \(", "findall"),
        (r"\s+(?:via\s.*|\(via\s.*\))$", "search"),
        (r"(?i).* post from .* requires approval$", "match"),
        (r"(a|a)*b", "search"),
        (r"(?:\w+\s?)*;", "match"),
        (r"Files:(?:.*\n)*?\n", "search"),
        (rb"(?s)begin.*end", "search"),
    ],
)
def test_a_pattern_that_explodes_is_found_out(text: Any, method: str) -> None:
    assert explosion(Used("here", re.compile(text), (method,)))


def test_patterns_are_found_wherever_they_are_made() -> None:
    found = {one.where: one for one in patterns()}

    assert {"mailbridge.headers._ENCODED", "mailbridge.dak._SUBJECTS[0][1]"} <= set(found)
    assert any(re.fullmatch(r"mailbridge\.gitlab:\d+", where) for where in found)
    assert found["mailbridge.headers._ENCODED"].methods == ("finditer",)


def explosion(one: Used) -> str | None:
    """Return what *one* is too slow on, in words; None if there is nothing."""
    inputs = worst(one.pattern)
    assert inputs
    assert all(len(text) <= LENGTH + 1 for text in inputs)
    told = _tried(one, inputs)
    if told is None:
        return None
    at, method = told
    text = inputs[at]
    return f"{one.where}: {method} of {one.pattern.pattern!r} on {text[:60]!r}...{text[-10:]!r}"


def _tried(one: Used, inputs: Iterable[Any]) -> tuple[int, str] | None:
    """Try *inputs* in a process of its own, which ends where an input takes too long."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        # (What all the tests before have left is not looked through on a pattern's time.)
        gc.disable()
        for number, text in enumerate(inputs):
            for method in one.methods:
                os.write(write, b"%d %s\n" % (number, method.encode()))
                signal.setitimer(signal.ITIMER_VIRTUAL, ENOUGH)
                _use(one.pattern, method, text)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        last = told.read().splitlines()[-1].split()
    _, status = os.waitpid(pid, 0)
    if status == 0:
        return None
    assert os.WTERMSIG(status) == signal.SIGVTALRM
    return int(last[0]), last[1].decode()


def _use(pattern: re.Pattern[Any], method: str, text: Any) -> None:
    if method == "sub":
        pattern.sub(text[:0], text)
    elif method == "finditer":
        for _ in pattern.finditer(text):
            pass
    else:
        getattr(pattern, method)(text)
