"""
`verify` over a million events: how fast, and in how much memory.

Not part of the gate.  Run it by name: `pytest tests/bench/bench_verify.py -s`; it needs 5 GB below
the temporary directory and some minutes.  EVENTS=100000 makes it shorter.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from mailbridge.journal import Journal
from tests.long_feeds import cost_of, make

MEGABYTE = 1024 * 1024
EVENTS = int(os.environ.get("EVENTS", "1000000"))


@pytest.mark.timeout(7200)
def test_a_million_events_are_verified_in_little_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(tmp_path, EVENTS)
    begun = time.monotonic()
    Journal.open(made.journal).close()
    opened = time.monotonic() - begun
    costs = {
        name: cost_of("verify", what, "--keys", made.keys)
        for name, what in (("export", made.export), ("journal", made.journal.as_uri()))
    }
    with capsys.disabled():
        sys.stdout.write(f"\nthe journal of {EVENTS} events was opened in {opened:.2f} s")
        for name, cost in costs.items():
            rate, peak = EVENTS / cost.seconds, cost.peak / MEGABYTE
            told = f"{rate:.0f} events in a second of a processor, {peak:.0f} MB at most"
            sys.stdout.write(f"\nverify {name}: {told}")

    assert [cost.status for cost in costs.values()] == [0, 0]
    assert max(cost.peak for cost in costs.values()) < 200 * MEGABYTE
