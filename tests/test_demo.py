"""The demo: signed events on a terminal soon after its start, and nothing left after its end."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailbridge import cli
from mailbridge.errors import TryAgain
from mailbridge.traffic import Stage

DEMO = [sys.executable, "-m", "mailbridge", "demo"]


def _left(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith("mailbridge-")]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go in this test."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory


def test_verified_events_are_shown_in_words_and_nothing_is_left(temporary: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--count", "4", "--rate", "20"], capture_output=True, text=True, check=False
    )
    events = [line for line in done.stdout.splitlines() if not line.startswith(" ")]

    assert done.returncode == 0, done.stderr
    assert len(events) == 4
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* +\S", line) for line in events)
    assert "UNVERIFIED" not in done.stdout
    assert "4 events, each verified" in done.stderr
    assert not _left(temporary)


def test_events_are_there_within_ten_seconds_on_a_terminal_and_ctrl_c_ends_it_well(
    temporary: Path,
) -> None:
    """What the README promises.  (The tests' machine may be busy; we are given twice that.)"""
    ours, theirs = pty.openpty()
    began = time.monotonic()
    with subprocess.Popen(
        DEMO, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as demo:
        os.close(theirs)
        seen = _read_until(ours, rb"\x1b\[[0-9;]*m(bug #|[a-z].* accepted)", 20)
        took = time.monotonic() - began
        # A terminal gives Ctrl-C to every process in front of it.
        os.killpg(demo.pid, signal.SIGINT)
        rest = _read_until(ours, rb"each verified", 20)

    assert took < 20, seen
    assert b"mailbridge tail tcp://127.0.0.1:" in seen
    assert demo.returncode == 0, rest
    assert b"Traceback" not in seen + rest
    assert not _left(temporary)


def test_sigterm_ends_it_as_ctrl_c_does(temporary: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        demo.terminate()
        _, told = demo.communicate()

    assert demo.returncode == 0, told
    assert not _left(temporary)


def test_another_reader_follows_it_with_the_line_that_is_printed(temporary: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert demo.stdout.readline()
        told = next(line for line in demo.stderr if "mailbridge tail " in line)
        words = told.partition("mailbridge ")[2].split()
        tail = subprocess.run(
            [sys.executable, "-m", "mailbridge", *words, "--from", "start", "--count", "1"],
            capture_output=True,
            text=True,
            check=False,
        )
        demo.terminate()
        demo.communicate()

    assert tail.returncode == 0, tail.stderr
    assert tail.stdout
    assert not _left(temporary)


def test_seconds_end_it_and_too_few_events_in_them_are_an_error(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--seconds", "1", "--rate", "50"]) == 0
    assert cli.main(["demo", "--seconds", "0.3", "--count", "1000"]) == 75
    assert not _left(temporary)
    assert "each verified" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--count", "0"], ["--rate", "0"], ["--seconds", "-1"]])
def test_less_than_nothing_is_a_usage_error(words: list[str]) -> None:
    assert cli.main(["demo", *words]) == 2


def test_a_gateway_that_does_not_start_says_why(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(temporary)
    (temporary / "mailbridge").mkdir()
    (temporary / "mailbridge" / "__init__.py").touch()
    (temporary / "mailbridge" / "__main__.py").write_text("raise SystemExit('the disk is gone')")

    with pytest.raises(TryAgain, match=r"did not start: the disk is gone"), Stage():
        pass


@pytest.mark.needs_program("setpriv")
def test_a_demo_that_is_killed_takes_its_gateway_with_it(temporary: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        gateway = os.pidfd_open(_child(demo.pid))
        demo.kill()

    assert select.select([gateway], [], [], 30)[0], "the gateway is still there"
    os.close(gateway)
    assert _left(temporary), "nobody is left to remove it"


def test_a_gateway_that_dies_is_told_of_and_ends_the_demo(temporary: Path) -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        os.kill(_child(demo.pid), signal.SIGKILL)
        _, told = demo.communicate(timeout=60)

    assert demo.returncode == 75
    assert "mailbridge: the gateway ended: " in told
    assert not _left(temporary)


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _read_until(descriptor: int, pattern: bytes, seconds: float) -> bytes:
    """Return what a terminal shows until *pattern* is in it, at most for *seconds*."""
    seen = b""
    deadline = time.monotonic() + seconds
    while not re.search(pattern, seen) and (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        try:
            seen += os.read(descriptor, 65536)
        except OSError:
            # (What a terminal says when nobody is left on its other end.)
            break
    return seen
