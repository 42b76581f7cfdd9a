"""What strangers write reaches terminals and logs as characters, never as commands."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import pty
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbridge import cli
from mailbridge.bridge.deliver import Delivery, Gateway, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.cli import quarantine, verify
from mailbridge.config import Source
from mailbridge.event import SignedEvent, canonical, parse_json, read_event
from mailbridge.outbox import Outbox
from mailbridge.service import set_up_logging
from mailbridge.signing import SigningKey, sign_fields
from mailbridge.sinks.show import safe_json
from mailbridge.sinks.tail import Lines, Words
from tests.conftest import NOON
from tests.costs import everything
from tests.hostile_mails import DAK
from tests.invariants import NO_TERMINAL_S
from tests.large_mails import FIXTURES

SOURCE: Final = Source(name="hostile", maildir="/nowhere")
KEY: Final = SigningKey("mailbridge.lists.example.org", bytes(32))

OURS: Final = sorted(FIXTURES.glob("*/*/mail.eml"))

# What makes a terminal do things, or a person read what is not there; and what a log or a markup
# could stumble over.
TRICKS: Final = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[1;1H",
    "\x9b31m",
    "\x85",
    "\r",
    "\n",
    "\n\n",
    "\nX-DAK: dak\n",
    "\0",
    "\x08\x08\x08",
    "\x7f",
    "\u202egnp.exe",
    "\u2066\u2067\u2068\u2069",
    "\u200f",
    "\u2028",
    "\u2029",
    "\ud800",
    "[bold red]x[/] [link=https://example.org]y[/link] :smile:",
    "<script>alert(1)</script> & \"'",
    "%s %(message)s {0}",
    "=?utf-8?q?=1B[31m?=",
    "=?utf-8?b?4oCuG1szMW0KWA==?=",
    "=?iso-8859-1?q?=9B31m?=",
    "=1B[31m=E2=80=AE",
)

tricks = st.sampled_from(TRICKS).map(lambda text: text.encode("utf-8", "surrogatepass"))
raw_tricks = tricks | st.sampled_from([b"\x9b31m", b"\xff\x1b[m", b"\xed\xa0\x80"])


FIELD: Final = re.compile(rb"(?m)^(?!(?:Content-|MIME-))([A-Z][A-Za-z-]{1,40}): ?(.*)$")


@st.composite
def mails(draw: st.DrawFn) -> bytes:
    """A mail that we understand, or nearly, with tricks in its fields, or anywhere."""
    raw = draw(st.sampled_from(OURS)).read_bytes()
    for trick in draw(st.lists(raw_tricks, min_size=1, max_size=3)):
        places = sorted({found.end() for found in FIELD.finditer(raw)}) or [0]
        subject = raw.find(b"\nSubject: ")
        at = draw(
            st.sampled_from(places)
            | st.sampled_from([raw.find(b"\n", subject + 1), raw.find(b" ", subject + 12)])
            | st.integers(0, len(raw))
        )
        raw = raw[: max(at, 0)] + trick + raw[max(at, 0) :]
    return raw


@pytest.mark.fault(77, 78)
@settings(max_examples=300)
@given(mails() | st.binary(max_size=200) | raw_tricks.map(lambda trick: DAK + trick * 9))
def test_no_mail_makes_a_terminal_or_a_log_do_anything(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        shown = [*explained(raw, Path(directory)), *delivered(raw, Path(directory))]
    shown += [line for event in events_of(raw) for line in tailed(event)]

    assert shown
    assert [text for text in shown if NO_TERMINAL_S.search(text)] == []


def explained(raw: bytes, directory: Path) -> Iterator[str]:
    """Yield what `explain` prints of a mail, to people and to programs."""
    mail = directory / "mail.eml"
    mail.write_bytes(raw)
    for words in ([], ["--all"], ["--json"]):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            cli.main(["explain", *words, str(mail)])
        yield out.getvalue()


def delivered(raw: bytes, directory: Path) -> Iterator[str]:
    """Yield what the log and `quarantine list` say of a mail that came."""
    told = io.StringIO()
    with said_to(told), Outbox(None, KEY, now=NOON) as outbox:
        gateway = Gateway(outbox, Quarantine(directory / "q"), Settings(), clock=lambda: NOON)
        gateway.deliver([Delivery(raw, (SOURCE,), NOON, where="a\x1b[31m\u202e")])
        yield from (quarantine._line(mail) for mail in outbox.quarantined())
    lines = told.getvalue().splitlines()
    assert all(line.startswith(("<3>", "<4>", "<6>")) for line in lines), lines
    assert len(lines) <= 20
    yield from lines


def events_of(raw: bytes) -> Iterator[SignedEvent]:
    for event in everything(raw).events:
        fields = {"id": event.tag, "tag": event.tag, "uuid": event.uuid, "format": "1.0"}
        whole = fields | {"time": NOON.isoformat(), "data": event.data, "author": event.author}
        yield read_event(sign_fields({k: v for k, v in whole.items() if v is not None}, KEY)[0])


def tailed(event: SignedEvent) -> Iterator[str]:
    """Yield what `tail` shows of an event, on a terminal with all its colours left out."""
    out = io.StringIO()
    Words(out).show(event)
    yield out.getvalue()
    yield safe_json(event.raw).decode()


@contextlib.contextmanager
def said_to(stream: io.StringIO) -> Iterator[None]:
    """Let the log go to *stream* in the form that the journal gets."""
    before = logging.getLogger("mailbridge").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOURNAL_STREAM", "1:2")
        patch.setattr(sys, "stderr", stream)
        set_up_logging()
        logging.getLogger("mailbridge").setLevel(logging.DEBUG)
        yield
    logging.getLogger("mailbridge").setLevel(before)


@pytest.mark.fault(78)
@given(st.text(st.characters() | st.sampled_from("\n\r\x1b\x9b\u202e\ud800")))
def test_whatever_is_logged_is_one_line(text: str) -> None:
    told = io.StringIO()
    with said_to(told):
        logging.getLogger("mailbridge.deliver").warning("%s", text)

    assert told.getvalue().count("\n") == 1
    assert not NO_TERMINAL_S.search(told.getvalue())


words = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x9b\u202e"))


@given(st.dictionaries(words, words | st.lists(words), max_size=5))
def test_json_for_a_terminal_says_the_same(value: dict[str, Any]) -> None:
    raw = canonical(value)

    shown = safe_json(raw)

    assert json.loads(shown) == json.loads(raw)
    assert not NO_TERMINAL_S.search(shown.decode())


@pytest.mark.fault(77)
def test_a_terminal_is_shown_no_mail_of_the_quarantine_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    raw = b"X-DAK: dak\nSubject: \x1b[31m\xe2\x80\xae\r\nno header\n\n\x9b2J\ttabs\n"
    (tmp_path / "mail").write_bytes(raw)
    words = ["--state", str(tmp_path / "state")]
    assert cli.main(["ingest", *words, str(tmp_path / "mail")]) == 0
    capfdbinary.readouterr()
    assert cli.main(["quarantine", "list", "--json", *words]) == 0
    [note] = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]

    assert cli.main(["quarantine", "show", note["sha256"], *words]) == 0
    assert capfdbinary.readouterr().out == raw
    with on_a_terminal(monkeypatch) as seen:
        assert cli.main(["quarantine", "show", note["sha256"], *words]) == 0

    assert b"\\x1b[31m\\u202e" in seen.getvalue()
    assert b"\\x9b2J" in seen.getvalue() or "\ufffd2J".encode() in seen.getvalue()
    assert b"\x1b" not in seen.getvalue()


@pytest.mark.fault(77)
def test_tail_gives_programs_the_stored_bytes_and_terminals_what_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = {"bug": 1, "title": "a\u202eb"}
    fields = {"tag": "_lk.mailbridge.bug-closed", "uuid": "7" * 8 + "-7777" * 3 + "-" + "7" * 12}
    raw = sign_fields({**fields, "format": "1.0", "time": NOON.isoformat(), "data": data}, KEY)[0]
    event = read_event(raw)

    piped = io.BytesIO()
    Lines(piped).show(event)
    with on_a_terminal(monkeypatch) as seen:
        Lines(sys.stdout.buffer).show(event)

    assert piped.getvalue() == raw + b"\n"
    assert b"a\\u202eb" in seen.getvalue()
    assert parse_json(seen.getvalue().strip()) == parse_json(raw)


def test_what_is_wrong_with_a_stranger_s_event_is_told_in_a_plain_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for is_json in (True, False):
        arguments = argparse.Namespace(json=is_json)
        verify._tell(arguments, ok=False, finding="feed \x1b[31m\u202e")

    out = capsys.readouterr().out
    assert not NO_TERMINAL_S.search(out)
    assert out.count("\n") == 2


def test_an_error_that_quotes_a_stranger_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quarantine", "show", "\x1b[31m\u202e\x9b"]) != 0

    assert not NO_TERMINAL_S.search(capsys.readouterr().err)


@contextlib.contextmanager
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """Let standard output be a terminal, and give what was written to it, when that has ended."""
    ours, theirs = pty.openpty()
    seen = io.BytesIO()
    with monkeypatch.context() as patch, open(theirs, "w", encoding="utf-8") as out:  # noqa: PTH123
        patch.setattr(sys, "stdout", out)
        yield seen
    # (It gives what was written in pieces of its own, and then says that nobody writes any more.)
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65536):
            seen.write(part)
    os.close(ours)
