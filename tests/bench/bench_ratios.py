"""
How much the gateway costs over the bare library calls, held against what it may.

Not part of the gate, because a busy machine would make it red for nothing.  Run it by name, on a
quiet one: `pytest tests/bench/bench_ratios.py -s`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mailbridge import cli

LIMITS = {
    "back-fill": 2.0,
    "relay, acknowledged": 2.5,
    "latency, rename to reader": 4.0,
    "start: ingest -": 2.5,
    "start: explain": 2.5,
}
"""How many times the cost of the bare calls each figure may have."""


def test_no_figure_costs_more_than_it_may(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["bench", "--json", "--mails", "2000", "--dir", str(tmp_path)])
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with capsys.disabled():
        for f in figures:
            told = f"{f['value']:.1f} {f['unit']}, bare {f['bare']:.1f}, ratio {f['ratio']:.2f}"
            sys.stdout.write(f"\n{f['name']}: {told}")

    dear = {f["name"]: f["ratio"] for f in figures if f["ratio"] > LIMITS[f["name"]]}
    assert not dear
