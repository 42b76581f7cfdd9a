"""strace as a saboteur: a system call of a process fails, or kills it, at a time that is chosen."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

_CALL: Final = re.compile(
    r"^(?P<thread>\d+) +(?P<name>\w+)\((?:\d+<(?P<file>[^>]*)>|\"(?P<named>[^\"]*)\")", re.MULTILINE
)


class Call(NamedTuple):
    """A system call on a file of the state, by its last name; empty: on any file."""

    name: str
    file: str = ""


def require() -> None:
    """Skip, where the kernel lets nobody be traced: no program that CI could install mends that."""
    words = ["strace", "-D", "-o", "/dev/null", "-e", "trace=none", "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tracing here: {done.stderr.strip()[:200]}")


def inject(
    call: Call, what: str, when: int | str, *, state: Path, trace: Path | None = None
) -> list[str]:
    """
    Return the words to start a process through: *what* happens to it at its *when*-th *call*.

    strace counts for each thread apart, and only calls on the file, if one is named.  A *trace* of
    these calls is left, if wanted.
    """
    # (-D: what is started is our child, and strace the stranger.)
    words = ["strace", "-D", "-f", "-qq", "-y", "-o", str(trace or "/dev/null")]
    words += ["-e", f"trace={call.name}"]
    if call.file:
        words += ["-P", str(state / call.file)]
    return [*words, "-e", f"inject={call.name}:{what}:when={when}"]


def kill(call: Call, when: int, *, state: Path) -> list[str]:
    """Return the words to start a process through that is killed at its *when*-th *call*."""
    return inject(call, "signal=SIGKILL", when, state=state)


def count(names: str, trace: Path) -> list[str]:
    """Return the words to start a process through that leaves a *trace* of its calls *names*."""
    return ["strace", "-D", "-f", "-qq", "-y", "-o", str(trace), "-e", f"trace={names}"]


def counted(trace: Path, state: Path) -> Counter[tuple[str, Call]]:
    """Return how often each thread called what on which file of *state*, as a *trace* tells."""
    found: Counter[tuple[str, Call]] = Counter()
    for call in _CALL.finditer(trace.read_text()):
        path = Path(call["file"] or call["named"] or "/")
        file = path.name if path.parent == state else ""
        found[call["thread"], Call(call["name"], file)] += 1
    return found


def most(trace: Path, state: Path) -> dict[Call, int]:
    """Return of each call how often the thread made it that made it most."""
    at_most: dict[Call, int] = {}
    for (_, call), times in counted(trace, state).items():
        at_most[call] = max(times, at_most.get(call, 0))
    return at_most
