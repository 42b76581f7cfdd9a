"""Start-up: what a command costs before it does anything, beside Python and its libraries alone."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mailbridge.bench.figure import Figure, seconds

_LIBRARIES: Final = "import mailparser, debian.deb822"


def measure_startup(mail: bytes, directory: Path, *, runs: int) -> Iterator[Figure]:
    """Yield what `ingest -` and `explain` take for *mail*; the median of *runs* each."""
    spool, file = directory / "spool", directory / "mail.eml"
    file.write_bytes(mail)
    us = [sys.executable, "-m", "mailbridge"]
    python = [sys.executable, "-c"]
    yield _compared(
        "start: ingest -",
        [*us, "ingest", "-", "--maildir", str(spool)],
        {"python3 -c pass": [*python, "pass"]},
        mail,
        directory,
        runs=runs,
        limit=3.0,
    )
    yield _compared(
        "start: explain",
        [*us, "explain", "--json", str(file)],
        {"importing mail-parser and python-debian": [*python, _LIBRARIES]},
        b"",
        directory,
        runs=runs,
        limit=1.5,
    )


def _compared(  # noqa: PLR0913 - what is compared, and how
    name: str,
    command: Sequence[str],
    bare: dict[str, list[str]],
    given: bytes,
    directory: Path,
    *,
    runs: int,
    limit: float,
) -> Figure:
    # (An installed program is compiled; where nobody may write that down, it is here as well.)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(directory / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for words in (command, *bare.values()):
        _run(words, given, environment)
    ours: list[float] = []
    theirs: dict[str, list[float]] = {what: [] for what in bare}
    # In turn, so that a busy moment of the machine meets both.
    for _ in range(runs):
        ours.append(_run(command, given, environment))
        for what, words in bare.items():
            theirs[what].append(_run(words, b"", environment))
    parts = {what: 1000 * statistics.median(times) for what, times in theirs.items()}
    value = 1000 * statistics.median(ours)
    alone = sum(parts.values())
    return Figure(
        name=name,
        unit="ms",
        value=value,
        bare=alone,
        ratio=value / alone,
        floor=limit * alone,
        parts=parts,
        n=runs,
    )


def _run(command: Sequence[str], given: bytes, environment: Mapping[str, str]) -> float:
    return seconds(
        lambda: subprocess.run(  # noqa: S603 - ourselves, and Python
            command, input=given, env=environment, capture_output=True, check=False
        )
    )
