"""
What each hostile mail costs: a table for people, dearest first.

Not part of the gate, which asserts no speed.  `python -m tests.bench.bench_hostile [WORD]` shows
those with WORD in their names.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.costs import MIB, Cost, Meter
from tests.hostile_mails import HOSTILE
from tests.large_mails import LARGE

LARGER = 64 * MIB + 4096
"""What an operator could set `max_mail` to."""


def main(word: str = "") -> None:
    """Print the table."""
    rows: list[tuple[str, Cost]] = []
    with tempfile.TemporaryDirectory() as directory, Meter() as meter:
        mail = Path(directory) / "mail"
        for name, made in (HOSTILE | LARGE).items():
            if word not in name:
                continue
            mail.write_bytes(made())
            rows.append((name, meter.cost(mail)))
            if mail.stat().st_size > 25 * MIB:
                rows.append((f"{name}, allowed", meter.cost(mail, max_mail=LARGER)))
    for name, cost in sorted(rows, key=lambda row: -row[1].cpu):
        what = f"{cost.outcome} {cost.kind or ''} {cost.code or cost.events}"
        memory = f"{cost.memory / MIB:6.0f} of {cost.allowed / MIB:6.0f} MiB"
        mark = "ENDED " + str(cost.ended) if cost.ended else ""
        mark += "MUCH" if cost.memory > cost.allowed else ""
        sys.stdout.write(
            f"{cost.cpu:6.2f} s {memory} {mark:5} {cost.size / MIB:5.1f} MiB  {name}: {what}"
            f" {(cost.reason or '')[:50]}\n"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
