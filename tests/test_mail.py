"""Mails of strangers: what is read, what is refused, and that none of them costs much."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge import kinds
from mailbridge.errors import MalformedMail
from mailbridge.event import canonical
from mailbridge.mail import Mail, has_marker, person, read_mail, strip_list_prefixes
from mailbridge.mime import MAX_TEXT
from mailbridge.payloads import Person
from tests.hostile_mails import DAK


def mail(headers: str, body: str = "x\n") -> Mail:
    return read_mail(f"{headers}\n{body}".encode())


# -- headers ---------------------------------------------------------------------------------------


def test_a_header_is_unfolded_decoded_and_one_clean_line() -> None:
    read = mail(
        "Subject:\n =?utf-8?q?caf=C3?=\n =?utf-8?q?=A9?= =?iso-8859-1?b?6Q==?= \x1b[31mred\t =?x\n"
    )

    assert read.subject == "caféé [31mred =?x"


def test_a_header_in_raw_bytes_is_utf8_or_else_latin1() -> None:
    read = read_mail(b"From: Jos\xe9 <a@example.org>\nTo: Jos\xc3\xa9 <b@example.org>\n\nx\n")

    assert (read.header("from"), read.header("to")) == (
        "José <a@example.org>",
        "José <b@example.org>",
    )


def test_the_first_of_doubled_headers_wins_and_all_can_be_asked_for() -> None:
    read = mail("X-Debian: tracker.debian.org\nSubject: one\nsubject: two\nx-debian: DAK\n")

    assert read.subject == "one"
    assert read.headers("X-Debian") == ["tracker.debian.org", "DAK"]


def test_an_encoded_word_in_a_charset_nobody_should_use_is_not_decoded_by_it() -> None:
    assert mail("Subject: =?punycode?q?bcher-kva?= =?utf-7?q?+2AA-?=\n").subject == "bcher-kva+2AA-"


@pytest.mark.parametrize("more", [b"", b">From b@example.org Thu Jan  1 00:00:00 1970\n"])
def test_what_an_mbox_puts_in_front_is_dropped(more: bytes) -> None:
    before = b"From a@example.org Thu Jan  1 00:00:00 1970\n" + more
    read = read_mail(before + b"Subject: x\n\nFrom here\n")

    assert (read.subject, read.text) == ("x", "From here\n")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("List-Id: <Devel.Lists.Example.ORG>", "devel.lists.example.org"),
        ('List-Id: "Changes <all>" <changes.example.org>', "changes.example.org"),
        ("List-ID: devel.example.org", "devel.example.org"),
        ("List-Id: <>", None),
        ("X-List: <a.b>", None),
    ],
)
def test_a_list_is_named_by_what_stands_between_the_angles(
    header: str, expected: str | None
) -> None:
    assert mail(f"{header}\n").list_id == expected


def test_a_mail_without_message_id_is_named_by_its_bytes() -> None:
    first, second = mail("Subject: a\n"), mail("Subject: b\nMessage-ID: <>\n")

    assert first.message_id.startswith("sha256:")
    assert second.message_id.startswith("sha256:")
    assert first.message_id != second.message_id
    assert mail("Message-ID: (x) <a@b> (y)\n").message_id == "a@b"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Tue, 10 Sep 2024 12:20:40 +0200 (CEST)", datetime(2024, 9, 10, 10, 20, 40, tzinfo=UTC)),
        ("Tue, 10 Sep 2024 12:20:40 -0000", datetime(2024, 9, 10, 12, 20, 40, tzinfo=UTC)),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Die, irgendwann", None),
    ],
)
def test_a_date_is_in_utc_or_none(value: str, expected: datetime | None) -> None:
    assert mail(f"Date: {value}\n").date == expected


def test_it_arrived_when_the_topmost_received_says() -> None:
    read = mail(
        "Received: from a (a; b) by c;\n\tTue, 10 Sep 2024 10:22:05 +0000 (UTC)\n"
        "Received: by d; Mon, 09 Sep 2024 10:22:05 +0000\n"
    )

    assert read.received == datetime(2024, 9, 10, 10, 22, 5, tzinfo=UTC)


# -- bodies ----------------------------------------------------------------------------------------


def test_the_text_is_the_first_plain_leaf_that_is_not_inside_another_message() -> None:
    read = mail(
        "Content-Type: multipart/mixed; boundary=A\n",
        "--A\nContent-Type: message/rfc822\n\nSubject: in\n\ninner\n"
        "--A\nContent-Type: multipart/signed; boundary=B\n\n"
        "--B\nContent-Type: text/html\n\n<p>\n--B\nContent-Type: text/plain\n\nouter\n--B--\n"
        "--A--\n",
    )

    assert read.text.strip() == "outer"
    assert [(inner.subject, inner.text.strip()) for inner in read.attached] == [("in", "inner")]


def test_a_charset_in_the_form_of_rfc_2231_counts() -> None:
    read = read_mail(b"Content-Type: text/plain; charset*=us-ascii'en'iso-8859-2\n\n\xb1\n")

    assert read.text == "ą\n"


def test_of_a_text_that_is_far_too_long_the_beginning_is_decoded_as_any_other() -> None:
    headers = b"Content-Type: text/plain; charset*=us-ascii'en'iso-8859-2\n\n"
    read = read_mail(headers + (b"\xb1 " * 31 + b"\xb1\n") * (MAX_TEXT // 32))

    assert set(read.text) == {"ą", " ", "\n"}
    assert len(read.text) == MAX_TEXT


def test_a_text_in_two_charsets_is_decoded_line_by_line() -> None:
    read = read_mail(b"Content-Type: text/plain; charset=us-ascii\n\n\xe9\r\n\xc3\xa9\r\n")

    assert read.text == "é\né\n"


def test_names_of_attached_files_are_told_and_their_contents_dropped() -> None:
    read = mail(
        "Content-Type: multipart/mixed; boundary=A\n",
        "--A\n\nx\n--A\nContent-Type: text/x-diff\n"
        'Content-Disposition: attachment; filename="fix\u202e.diff"\n\n+++\n--A--\n',
    )

    assert read.file_names == ["fix\u202e.diff"]


def test_a_mail_wrapped_by_its_list_is_unwrapped_once() -> None:
    inner = "From: a@example.net\nSubject: in\nX-DAK: x\nContent-Type: message/rfc822\n\n"
    wrap = (
        "Received: by mx; Tue, 10 Sep 2024 10:22:05 +0000\nFrom: A via L <l@lists.example.org>\n"
        "List-Id: <l.lists.example.org>\nSubject: [l] in\nContent-Type: message/rfc822\n\n"
    )
    read = read_mail(f"{wrap}{inner}X-DAK: y\n\ninnermost\n".encode())

    assert (read.subject, read.header("X-DAK"), read.list_id) == ("in", "x", "l.lists.example.org")
    assert read.received == datetime(2024, 9, 10, 10, 22, 5, tzinfo=UTC)
    assert read.text == ""


def test_a_mail_that_somebody_passes_on_is_not_unwrapped() -> None:
    read = mail(
        "From: a@example.net\nList-Id: <l.lists.example.org>\nContent-Type: message/rfc822\n",
        "X-DAK: x\n\nx\n",
    )

    assert read.header("X-DAK") is None


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        b"Subject: a\0b\n\nx",
        b"Subject: a\rX-Injected: 1\n\nx",
        b"Subject : a\n\nx",
        b" folded\nSubject: a\n\nx",
        b"no header at all\n\nx",
        b"X: " + b"a" * 70_000 + b"\n\nx",
        b"X: a\n" * 501 + b"\nx",
        b"X: aaaaaaaa\n" * 30_000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_headers_that_nobody_honest_writes_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMail):
        read_mail(raw)


@pytest.mark.fault(85)
def test_headers_that_do_not_end_are_those_of_a_mail_that_was_cut_off() -> None:
    with pytest.raises(MalformedMail, match="cut off in its headers"):
        read_mail(b"X-DAK: dak process-upload\nDebian-Version: 1:2.1")
    with pytest.raises(MalformedMail, match="cut off in its headers"):
        read_mail(b"X-DAK: dak process-upload\nDebian-Version: 1:2.10-3\n")

    assert read_mail(b"X-DAK: dak process-upload\n\n").text == ""


@pytest.mark.parametrize("end", [b"", b"--b\n\nx", b"--b\n\nx\n--b\n", b"--b\n\nx\n--b-"])
def test_parts_that_do_not_end_are_those_of_a_mail_that_was_cut_off(end: bytes) -> None:
    head = b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n"

    with pytest.raises(MalformedMail, match="cut off in its body"):
        _ = read_mail(head + end).text

    assert read_mail(head + b"--b\n\nx\n--b--").text == "x"


def test_a_mail_that_is_attached_may_be_open_for_its_writer_may_have_left_it_so() -> None:
    inner = "Subject: in\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\ninner\n"
    read = mail(
        "Content-Type: multipart/mixed; boundary=A\n",
        f"--A\nContent-Type: message/rfc822\n\n{inner}\n--A--\n",
    )

    assert [one.text.strip() for one in read.attached] == ["inner"]


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"\nwhole\nhal", "whole\n"),
        (b"\nwhole\n", "whole\n"),
        (b"\nhal", ""),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nwhole\n--b--", "whole"),
    ],
)
def test_a_last_line_without_its_end_may_be_half_of_one(raw: bytes, lines: str) -> None:
    assert read_mail(b"Subject: x\n" + raw).ended_lines == lines


def test_a_mail_may_be_as_large_as_the_limit_and_not_a_byte_larger() -> None:
    raw = b"Subject: x\n\n" + b"a" * 88

    assert read_mail(raw, limit=100).raw == raw
    with pytest.raises(MalformedMail, match="101 bytes, more than the 100 allowed"):
        read_mail(raw + b"a", limit=100)


def test_a_marker_is_seen_in_the_headers_alone_and_in_bytes_that_are_no_mail() -> None:
    assert has_marker(b"\0\nx-gnu-pr-message: report 1\n\n")
    assert has_marker(b"Debian: DAK\r\n\r\n")
    assert not has_marker(b"Subject: X-DAK: x\n\nX-DAK: x\n")
    assert not has_marker(b"")


# -- people ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jane Doe <jane@example.org>", Person("Jane Doe", "jane@example.org")),
        ("J. Random Hacker, Jr. <j@example.org>", Person("J. Random Hacker, Jr.", "j@example.org")),
        ('"Doe, Jane \\"J\\"" <j@example.org>', Person('Doe, Jane "J"', "j@example.org")),
        ('"a <b@example.org>" <c@example.org>', Person("a <b@example.org>", "c@example.org")),
        ("j@example.org (=?utf-8?q?J=C3=A1n?=)", Person("Ján", "j@example.org")),
        ("<j@example.org>", Person(None, "j@example.org")),
        ("j@example.org", Person(None, "j@example.org")),
        ("Jane Doe", Person("Jane Doe", None)),
        ("Jane <jane@localhost>", Person("Jane", None)),
        ("Jane <a@example.org, b@example.org>", Person("Jane", None)),
        ("", Person(None, None)),
    ],
)
def test_a_person_has_a_name_and_one_strict_address(text: str, expected: Person) -> None:
    assert person(text) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("[a] [b] Subject", "Subject"),
        ("[name 1234] Subject", "Subject"),
        ("***SPAM*** [EXT] Subject", "Subject"),
        ("Re: [a] Subject", "Re: [a] Subject"),
        ("[open Subject", "[open Subject"),
        ("Subject [a]", "Subject [a]"),
    ],
)
def test_list_prefixes_are_what_stands_in_brackets_in_front(subject: str, expected: str) -> None:
    assert strip_list_prefixes(subject) == expected


# -- strangers -------------------------------------------------------------------------------------


@pytest.mark.edge(72)
@pytest.mark.fault(67)
@given(st.binary(max_size=600), st.sampled_from([b"", DAK, DAK + b"\n", DAK + b"Content-Type: "]))
def test_whatever_the_bytes_a_mail_is_malformed_or_has_an_outcome_in_json(
    raw: bytes, before: bytes
) -> None:
    try:
        read = read_mail(before + raw)
    except MalformedMail:
        return
    found = kinds.recognise(read, kinds.Site())

    assert found.code != "bug", found
    assert canonical(msgspec.to_builtins(found))
