"""Readiness, stop signals, and log lines that stay one line."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.service import StopSignal, notify, one_line, set_up_logging, settle_in


@pytest.mark.fault(107)
@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_at_a_path_or_an_abstract_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, abstract: bool
) -> None:
    name = f"@mailbridge-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)

        told = notify("READY=1", "STATUS=two\nlines")

        assert told
        assert systemd.recv(1000) == b"READY=1\nSTATUS=two\\x0alines"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")

    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify("READY=1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    with StopSignal() as stop:
        assert not stop.wait(0)
        os.kill(os.getpid(), number)
        assert stop.wait(30)
        assert stop.wait(0), "it stays so"

    assert signal.getsignal(number) == before


@given(st.text())
def test_any_text_is_one_visible_line(text: str) -> None:
    line = one_line(text)

    assert line.encode().decode() == line, "half a surrogate pair would not"
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging_as_before")
def test_a_hostile_subject_makes_no_second_log_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    set_up_logging()

    logging.getLogger("mailbridge.x").warning("mail <%s>", "a\n<0>kernel: \x1b[31mdead")

    assert capsys.readouterr().err == r"<4>mailbridge.x: mail <a\x0a<0>kernel: \x1b[31mdead>" + "\n"


def test_what_a_service_loaded_to_start_is_not_looked_through_for_garbage_again() -> None:
    there = [[n] for n in range(1000)]
    try:
        settle_in()

        # (Nothing of what is there now is the collector's any more.)
        assert not any(one is there for one in gc.get_objects())
        assert gc.get_freeze_count() > len(there)
    finally:
        gc.unfreeze()


def test_what_a_reload_left_behind_is_given_back() -> None:
    class Loaded:
        """Knows itself, as a loop knows who wakes it."""

        def __init__(self) -> None:
            self.itself = self

    try:
        before = Loaded()
        settle_in()
        left = weakref.ref(before)
        del before
        settle_in()

        assert left() is None
    finally:
        gc.unfreeze()
