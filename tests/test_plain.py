"""The short ways through a mail say what the long ways say: of our mails, real, hostile and odd."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from email.policy import compat32
from pathlib import Path
from typing import Any

import mailparser
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge import headers, plain
from mailbridge.bridge.compose import Examined, examine
from mailbridge.config import Source
from mailbridge.errors import MalformedMail
from mailbridge.mail import Mail, read_mail
from tests.hostile_mails import HOSTILE, mutations

FIXTURES = Path(__file__).parent.parent / "fixtures"
BESIDE = Path(__file__).parent.parent.parent / "shared" / "corpus"
CORPUS = Path(os.environ.get("MAILBRIDGE_CORPUS") or BESIDE)
OURS = sorted(FIXTURES.glob("*/*/mail.eml"))
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOURCE = Source(name="plain", maildir="/nowhere")


def by_the_long_way(raw: bytes, ask: Callable[[bytes], Any]) -> Any:
    """Return what *ask* says of *raw* where every body is parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "leaves", lambda *_: None)
        return ask(raw)


def all_texts(raw: bytes) -> Any:
    """Return all that can be asked of a body."""
    try:
        read = read_mail(raw)
        # (Whether a last line ends the standard library forgets where boundaries are missing.)
        inside = [(i.subject, i.header("Message-ID"), i.text.rstrip("\n")) for i in read.attached]
        told = [read.text, read.texts, read.contents, inside]
    except MalformedMail:
        return "malformed"
    return told


def whole(raw: bytes) -> Examined:
    return examine(raw, SOURCE, received=NOON, everything=True, accept_test=True)


def is_plain(mail: Mail) -> bool:
    told = (mail.header(name) for name in ("Content-Type", "Content-Transfer-Encoding"))
    return plain.leaves(mail.raw, mail.body, *told) is not None


def readable(paths: list[Path]) -> Iterator[Mail]:
    for path in paths:
        try:
            yield read_mail(path.read_bytes())
        except MalformedMail:
            continue


def in_ascii(text: str) -> str:
    return "".join(letter for letter in text if " " < letter <= "~")


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", OURS, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}"
)
def test_a_mail_gives_the_same_whether_its_body_is_parsed_or_not(path: Path) -> None:
    for raw in (path.read_bytes(), *mutations(path.read_bytes(), count=4, seed=8)):
        assert whole(raw) == by_the_long_way(raw, whole)
        assert all_texts(raw) == by_the_long_way(raw, all_texts)


@pytest.mark.parametrize("made", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_mail_gives_the_same_whether_its_body_is_parsed_or_not(
    made: Callable[[], bytes],
) -> None:
    raw = made()
    short, long = whole(raw), by_the_long_way(raw, whole)

    assert (short.outcome, short.kind, short.code) == (long.outcome, long.kind, long.code)
    assert short.events == long.events


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus here")
def test_real_mails_give_the_same_whether_their_bodies_are_parsed_or_not() -> None:
    for path in sorted(CORPUS.glob("*/*")):
        raw = path.read_bytes()

        assert whole(raw) == by_the_long_way(raw, whole), path
        assert all_texts(raw) == by_the_long_way(raw, all_texts), path


def test_nearly_every_mail_is_read_without_a_parser() -> None:
    mails = list(readable([*OURS, *CORPUS.glob("*/*")]))

    assert sum(map(is_plain, mails)) > len(mails) * 0.95


@pytest.mark.parametrize(
    "path", OURS, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}"
)
def test_the_texts_are_those_that_mail_parser_finds(path: Path) -> None:
    raw = path.read_bytes()
    try:
        mail = read_mail(raw)
        texts = mail.texts
    except MalformedMail:
        assert path.parent.parent.name.startswith("_")
        return
    parsed = mailparser.parse_from_bytes(mail.raw)
    files = [base64.b64decode(file["payload"]).decode("latin-1") for file in parsed.attachments]

    # (How to read what is in two charsets at once is for ourselves to say.)
    assert set(map(in_ascii, texts)) - {""} <= set(map(in_ascii, [*parsed.text_plain, *files]))


LINES = st.sampled_from(
    [
        *("--A", "--A--", "--B", "--B--", "--AB", "--A ", "--A--x", "-- ", "--A-- ", "", "", ""),
        *("Content-Type: text/plain", "content-type: TEXT/PLAIN; charset=latin1"),
        *("Content-Type: text/html", "Content-Type: message/rfc822", "Content-Type: text"),
        *("Content-Type: multipart/mixed; boundary=B", 'Content-Type: multipart/x; boundary="A"'),
        *(
            'Content-Type: multipart/mixed;\n boundary="B"; x="a;b"',
            "Content-Type: multipart/digest",
        ),
        *("Content-Type: multipart/digest; boundary=B", "Content-Type: text/plain; x*=us''a"),
        *("Content-Type: multipart/mixed", "Content-Type: message/delivery-status"),
        *("Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable"),
        *("Content-Transfer-Encoding: 7bit ", "Content-Transfer-Encoding: x-uuencode"),
        *(
            "Subject: inner",
            "From x",
            " folded",
            ": none",
            "a=20b=\xe9=",
            "YWJj",
            "x",
            "\xe9",
            "a\rb",
        ),
    ]
)
TOPS = st.sampled_from(
    [
        "Content-Type: multipart/mixed; boundary=A",
        'Content-Type: multipart/mixed; boundary="A"',
        'Content-Type: multipart/signed; boundary=A; protocol="application/pgp-signature"',
        "Content-Type: message/rfc822",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "Subject: x",
    ]
)


@given(
    TOPS, st.lists(LINES, max_size=25), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n"])
)
def test_whatever_the_lines_of_a_body_both_ways_find_the_same(
    top: str, lines: list[str], ending: str, last: str
) -> None:
    text = "\n".join([top, "", *lines]) + last
    raw = text.replace("\n", ending).encode("latin-1")

    assert all_texts(raw) == by_the_long_way(raw, all_texts)


@given(st.text(alphabet="aA/;= \"'<>*0%bcharsetoundy-\\\n\t", max_size=40))
def test_whatever_a_content_type_says_both_ways_understand_the_same(value: str) -> None:
    for before in ("", "multipart/mixed; boundary=", "text/plain; charset="):
        folded = (before + value).replace("\n", "\n ")
        raw = f"Content-Type: {folded}\n\n--a\n\nx\n--a--\n".encode()

        assert all_texts(raw) == by_the_long_way(raw, all_texts)


# -- headers ---------------------------------------------------------------------------------------


def fields_of(mail: Mail) -> list[tuple[str, str]]:
    """Return the headers of *mail* as the standard library reads them."""
    parsed = BytesHeaderParser(policy=compat32).parsebytes(mail.raw[: mail.body])
    # (Newer Pythons begin a value after its first fold.)
    return [(name, value.lstrip()) for name, value in parsed.raw_items()]


def same_fields(mail: Mail) -> bool:
    return [(name, value.lstrip()) for name, value in mail.fields] == fields_of(mail)


def test_headers_are_what_the_standard_library_makes_of_them() -> None:
    mails = list(readable([*OURS, *CORPUS.glob("*/*")]))

    assert [mail for mail in mails if not same_fields(mail)] == []


@given(
    st.lists(st.sampled_from([b"A: b", b"c:", b" d", b"\t", b"E:\xe9\x85 ", b": f", b"G:h\x0c"]))
)
def test_whatever_the_headers_they_are_refused_or_as_the_standard_library_reads_them(
    lines: list[bytes],
) -> None:
    for ending in (b"\n", b"\r\n"):
        try:
            mail = read_mail(ending.join([b"Subject: x", *lines, b"", b"x"]))
        except MalformedMail:
            continue

        assert same_fields(mail)


WORDS = st.sampled_from(
    [
        *(
            "Tue,",
            "tue",
            "10",
            "0",
            "32",
            "Sep",
            "Feb",
            "Sept",
            "2024",
            "24",
            "0001",
            "9999",
            "(UTC)",
        ),
        *("12:20:40", "12:20", "24:00:00", "23:59:60", "1:2:3", "+0200", "-0000", "+2400", "+0199"),
        *("-2359", "GMT", "EST", "(CEST)", "(a b)", "", "x"),
    ]
)


@given(st.one_of(st.lists(WORDS, max_size=8), st.tuples(*[WORDS] * 5)))
@example(["Tue,", "10", "Sep", "2024", "12:20:40", "+0200", "(CEST)"])
@example(["29", "Feb", "2023", "12:20:40", "-0130"])
@example(["1", "Sep", "0001", "12:20:40", "+2359"])
def test_a_date_is_the_one_that_the_standard_library_reads(words: Sequence[str]) -> None:
    text = " ".join(words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "_plain_date", lambda _: None)
        expected = headers.date(text)
    assert headers.date(text) == expected
