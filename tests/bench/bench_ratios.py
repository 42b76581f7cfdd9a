"""
What the gateway does in a second, held against what it should.

Not part of the gate, because a busy machine would make it red for nothing.  Run it by name, on a
quiet one: `pytest tests/bench/bench_ratios.py -s`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailbridge import cli
from mailbridge.bench.discussion import mbox

MEMORY = """
import resource, sys
from mailbridge import cli
status = cli.main(sys.argv[1:])
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(status)
"""


def test_no_figure_is_below_its_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["bench", "--json", "--mails", "2000", "--dir", str(tmp_path)])
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with capsys.disabled():
        for f in figures:
            told = f"{f['value']:.1f} {f['unit']}, floor {f['floor']:.1f}, ratio {f['ratio']:.2f}"
            sys.stdout.write(f"\n{f['name']}: {told}")

    low = {
        f["name"]: f["ratio"]
        for f in figures
        if (f["value"] > f["floor"] if f["unit"] == "ms" else f["value"] < f["floor"])
    }
    assert not low


def taken_in(directory: Path, count: int) -> tuple[str, int]:
    """Return what `ingest` says of *count* mails of a list without news, and its memory in KiB."""
    path = directory / f"{count}.mbox"
    mbox(path, range(count))
    words = ["ingest", "--mbox", str(path), "--state", str(directory / f"state-{count}")]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *words, "--entity", "bench.example.org"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"memory (\d+)", done.stdout)
    assert found
    return done.stderr, int(found[1])


def test_a_list_without_news_gives_no_event_no_error_and_takes_no_memory(tmp_path: Path) -> None:
    few, base = taken_in(tmp_path, 8_000)
    many, memory = taken_in(tmp_path, 80_000)

    assert few == "8000 mails: 8000 ignored\n"
    assert many == "80000 mails: 80000 ignored\n"
    assert memory < base + 10 * 1024
