"""`mailbridge tail`: what programs get, what people see, and how it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO, StringIO
from itertools import islice
from pathlib import Path

import pytest

from mailbridge import keyring
from mailbridge.cli import main
from mailbridge.event import SignedEvent
from mailbridge.sinks.tail import Lines, Words, local
from mailbridge.testing import RelayForTests, mailbridge_relay
from tests.feeds import Source

relay = mailbridge_relay

CLOSED = "_lk.mailbridge.bug-closed"
UPLOAD = "_lk.mailbridge.package-upload-accepted"
BUG = {"bug": 900001, "package": ["hello"], "title": "no greeting", "via": "mail"}
TAIL = [sys.executable, "-m", "mailbridge", "tail"]


def tail(relay: RelayForTests, *words: str) -> list[str]:
    return ["tail", relay.url, "--state", str(relay.state), "--timeout", "20", *words]


def output(capfdbinary: pytest.CaptureFixture[bytes]) -> tuple[bytes, str]:
    out, err = capfdbinary.readouterr()
    return out, err.decode()


# -- for programs ----------------------------------------------------------------------------------


def test_json_is_the_stored_bytes_and_a_newline(
    relay: RelayForTests, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for bug in (1, 2):
        relay.emit(CLOSED, {"bug": bug, "title": "größer \u2028\n\x1b[31m"})
    stored = [event.raw for event in islice(relay.listen(since="start"), 2)]

    assert main(tail(relay, "--json", "--from", "start", "--count", "2")) == 0

    assert output(capfdbinary)[0] == b"".join(raw + b"\n" for raw in stored)


def test_only_wanted_tags_are_printed(
    relay: RelayForTests, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    relay.emit(UPLOAD, {"source_name": "hello"})
    relay.emit(CLOSED, BUG)

    words = ["--from", "start", "--tag", "*.bug-*", "--tag", "org.example.*", "--count", "1"]
    assert main(tail(relay, "--json", *words)) == 0

    assert CLOSED.encode() in output(capfdbinary)[0]


def test_too_few_events_in_the_time_given_is_75(
    relay: RelayForTests, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    relay.emit(CLOSED, BUG)

    status = main(tail(relay, "--from", "start", "--count", "2", "--timeout", "0.5"))

    out, err = output(capfdbinary)
    assert status == 75
    assert b"900001" in out
    assert err.count("\n") == 1


def test_time_that_is_up_is_no_fault_where_no_number_was_asked_for(relay: RelayForTests) -> None:
    assert main(tail(relay, "--timeout", "0.5")) == 0


def test_a_relay_that_is_not_there_is_75_when_time_is_up(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    words = ["tail", "tcp://127.0.0.1:9", "--state", str(tmp_path), "--timeout", "0.3"]

    assert main(words) == 75
    assert "127.0.0.1:9" in output(capfdbinary)[1]


def test_a_cursor_file_holds_what_was_printed(
    relay: RelayForTests, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for bug in range(1, 5):
        relay.emit(CLOSED, {**BUG, "bug": bug})
    words = ["--json", "--from", "start", "--cursor-file", str(tmp_path / "c"), "--count", "2"]

    assert main(tail(relay, *words)) == 0
    first = output(capfdbinary)[0]
    assert main(tail(relay, *words)) == 0
    second = output(capfdbinary)[0]

    assert [b'"bug":%d' % bug in first for bug in range(1, 5)] == [True, True, False, False]
    assert [b'"bug":%d' % bug in second for bug in range(1, 5)] == [False, False, True, True]


def test_a_journal_file_is_read_as_a_relay_is(
    relay: RelayForTests, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    relay.emit(CLOSED, BUG)
    relay.stop()
    url = (relay.state / "journal.db").as_uri()

    assert main(["tail", url, "--state", str(relay.state), "--from", "start", "--count", "1"]) == 0
    assert b"bug #900001" in output(capfdbinary)[0]


def test_a_key_that_is_not_known_shows_nothing_and_ends_with_77(
    relay: RelayForTests, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    relay.emit(CLOSED, BUG)

    status = main(["tail", relay.url, "--state", str(tmp_path), "--from", "start"])

    out, err = output(capfdbinary)
    assert (status, out) == (77, b"")
    assert err.count("\n") == 1
    assert "--pin" in err


def test_a_fingerprint_does_for_a_script(relay: RelayForTests, tmp_path: Path) -> None:
    relay.emit(CLOSED, BUG)
    words = ["tail", relay.url, "--state", str(tmp_path), "--from", "start", "--count", "1"]

    assert main([*words, "--pin", relay.fingerprint]) == 0
    assert main([*words, "--pin", "SHA256:other"]) == 77
    assert main([*words, "--keys", str(keyring.state_dirs(relay.state)[0])]) == 0
    assert main([*words, "--keys", str(tmp_path / "missing")]) == 77


@pytest.mark.parametrize(
    "words",
    [
        ["--count", "0"],
        ["--count", "x"],
        ["--timeout", "nan"],
        ["--timeout", "-1"],
        ["--keys", "a", "--pin", "b"],
    ],
)
def test_words_that_make_no_sense_are_2(words: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tail", *words])

    assert ended.value.code == 2


def test_places_that_are_none_are_2(tmp_path: Path) -> None:
    assert main(["tail", "--from", "yesterday", "--state", str(tmp_path)]) == 2
    assert main(["tail", "http://example.org", "--state", str(tmp_path)]) == 2


# -- how it ends -----------------------------------------------------------------------------------


def start(relay: RelayForTests, *words: str) -> subprocess.Popen[bytes]:
    command = [*TAIL, relay.url, "--state", str(relay.state), "--from", "start", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_ctrl_c_is_a_proper_end(relay: RelayForTests) -> None:
    relay.emit(CLOSED, BUG)
    with start(relay) as tailing:
        assert tailing.stdout
        assert b"bug #900001" in tailing.stdout.readline()  # it waits for more now

        tailing.send_signal(signal.SIGINT)

        assert tailing.wait(20) == 0
        assert tailing.stderr
        assert tailing.stderr.read() == b""


@pytest.mark.parametrize("words", [("--json",), ()], ids=["lines", "words"])
def test_whoever_has_seen_enough_is_not_troubled(
    relay: RelayForTests, words: Sequence[str]
) -> None:
    for _ in range(3):
        relay.emit(CLOSED, BUG)
    with start(relay, *words) as tailing:
        assert tailing.stdout
        tailing.stdout.readline()
        tailing.stdout.close()

        relay.emit(CLOSED, {"filler": "x" * 100_000})

        assert tailing.wait(20) == 0
        assert tailing.stderr
        assert tailing.stderr.read() == b""


def test_a_terminal_asks_about_a_relay_it_meets_and_remembers_the_answer(
    relay: RelayForTests, tmp_path: Path
) -> None:
    relay.emit(CLOSED, BUG)
    command = [*TAIL, relay.url, "--state", str(tmp_path), "--from", "start", "--count", "1"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs) as tailing:
        os.close(theirs)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(ours, 1000)
        os.write(ours, b"y\n")
        assert tailing.stdout
        assert b"bug #900001" in tailing.stdout.read()
        assert tailing.wait(20) == 0
    os.close(ours)

    assert relay.fingerprint.encode() in asked
    assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0


# -- for people ------------------------------------------------------------------------------------


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def shown(event: SignedEvent, out: StringIO | None = None) -> str:
    out = out or StringIO()
    Words(out).show(event)
    return out.getvalue()


def test_a_person_sees_local_time_with_its_offset() -> None:
    # (Tests live 5:45 ahead of UTC.)
    assert local("2026-11-20T12:00:00+00:00") == "2026-11-20 17:45:00+05:45"
    assert local("soon\x1b[2J") == r"soon\x1b[2J"


def test_lines_have_no_colours_but_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    event = Source().signed(1, CLOSED, data=BUG)

    assert "\x1b" not in shown(event)
    assert "\x1b[" in shown(event, Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown(event, Terminal())


def test_what_a_stranger_wrote_is_neither_markup_nor_a_command_to_the_terminal() -> None:
    event = Source().signed(1, CLOSED, data={**BUG, "title": "[red]x[/red] \x1b[2J\u202e :smile:"})

    text = shown(event, Terminal())

    assert "[red]x[/red]" in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert ":smile:" in text


def test_an_event_that_nobody_vouched_for_and_one_without_proof_are_marked() -> None:
    provenance = {"sent_by": {"how": "none"}, "signed_by": {"how": "none", "status": "none"}}
    event = Source().signed(1, CLOSED, data={**BUG, "provenance": provenance, "backfill": True})

    text = shown(event)

    assert "UNVERIFIED bug #900001" in text
    assert "[unproved, backfill]" in text


def test_a_long_line_stays_one_line() -> None:
    event = Source().signed(1, CLOSED, data={**BUG, "package": ["x" * 200]})

    assert shown(event).count("\n") == 2  # the bug, its title


def test_every_line_is_out_before_the_next_event_is_asked_for() -> None:
    out = BytesIO()
    event = Source().signed(1, CLOSED)

    Lines(out).show(event)

    assert out.getvalue() == event.raw + b"\n"
