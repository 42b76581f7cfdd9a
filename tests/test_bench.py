"""The bench runs and says what it should; how fast anything is, tests/bench looks at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mailbridge import cli

NAMES = [
    "recognise",
    "dismiss",
    "back-fill",
    "back-fill, beside a script",
    "back-fill, signatures checked",
    "a list without news",
    "relay, acknowledged",
    "relay, beside a loop in memory",
    "relay, p99 at half its most",
    "read, as stored",
    "read, verified",
    "latency, rename to reader",
    "latency, the slowest of 100",
    "start: ingest -",
    "start: explain",
]


def test_every_figure_stands_beside_the_bare_calls_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(["bench", "--json", "--mails", "30", "--dir", str(tmp_path)])
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert status == 0
    assert [figure["name"] for figure in figures] == NAMES
    for figure in figures:
        assert figure["value"] > 0
        assert figure["bare"] > 0
        assert figure["floor"] > 0
        assert figure["n"] > 0
        assert all(ms > 0 for ms in figure["parts"].values()), figure
    assert not list(tmp_path.iterdir())


def test_a_table_for_a_pipe_has_a_line_for_each_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["bench", "--mails", "20", "--dir", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()

    assert [line.split("\t")[0] for line in lines] == ["what", *NAMES]
    assert {len(line.split("\t")) for line in lines} == {7}


def test_words_that_do_not_fit_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--mails", "0"]) == 2
    assert cli.main(["bench", "--dir", str(tmp_path / "missing")]) == 74
    assert len(capsys.readouterr().err.splitlines()) == 2
