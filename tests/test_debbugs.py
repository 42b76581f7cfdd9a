"""What debbugs writes on top of other people's mail, and what must not fool us in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge import debbugs
from mailbridge.bridge.compose import Composed, Examined, examine
from mailbridge.config import Source
from mailbridge.errors import MalformedMail
from mailbridge.mail import Mail, read_mail
from mailbridge.payloads import Person

FIXTURES = Path(__file__).parent.parent / "fixtures"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SIGNED = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
SOURCE = Source(name="bugs", maildir="/nowhere")


def mail(*headers: str, text: str = "") -> Mail:
    return read_mail(raw(*headers, text=text))


def raw(*headers: str, text: str = "") -> bytes:
    return ("".join(f"{header}\n" for header in headers) + f"\n{text}").encode()


def examined(raw: bytes) -> Examined:
    return examine(raw, SOURCE, received=NOON, everything=True)


def fixture(kind: str, case: str) -> Composed:
    (event,) = examined((FIXTURES / kind / case / "mail.eml").read_bytes()).events
    return event


# -- one piece of news is one event ----------------------------------------------------------------


def test_the_closer_s_notice_and_the_submitter_s_are_one_event() -> None:
    told = fixture("debbugs_closed", "by-an-upload")
    told_to_the_submitter = fixture("debbugs_closed", "by-an-upload-told-to-the-submitter")

    assert told.uuid == told_to_the_submitter.uuid
    assert told.data["message_id"] != told_to_the_submitter.data["message_id"]


def test_merged_bugs_closed_by_one_mail_are_an_event_each() -> None:
    one = fixture("debbugs_closed", "by-a-mail")
    other = fixture("debbugs_closed", "merged-with-the-one-by-a-mail")

    assert one.data["closing_message_id"] == other.data["closing_message_id"]
    assert one.uuid != other.uuid


def test_a_bug_closed_again_in_another_version_is_another_event() -> None:
    once = fixture("debbugs_closed", "by-a-mail-with-a-version")
    again = fixture("debbugs_closed", "again-in-another-version")

    assert once.data["bug"] == again.data["bug"]
    assert once.uuid != again.uuid


def test_closings_by_control_of_which_nobody_tells_the_mail_are_an_event_each() -> None:
    """
    The one id in References is the report's, the same at every closing: taken for the closing
    mail's, it made the second closing of a bug a duplicate of the first.
    """
    first = (
        FIXTURES / "debbugs_closed" / "by-control-nobody-says-with-what" / "mail.eml"
    ).read_bytes()
    second = first.replace(b"122190036812345", b"122190099912345")

    (one,), (other,) = examined(first).events, examined(second).events

    assert one.uuid != other.uuid


def test_a_report_is_one_event_whichever_list_it_came_by_and_whatever_that_did_to_it() -> None:
    direct = fixture("debbugs_report", "reportbug")
    munged = fixture("debbugs_report", "on-a-list-that-rewrites")

    assert direct.data["list_id"] != munged.data["list_id"]
    assert direct.author == munged.author == "Jane Doe"
    assert direct.uuid == munged.uuid


def test_a_report_that_says_something_else_is_another_event() -> None:
    report = (FIXTURES / "debbugs_report" / "reportbug" / "mail.eml").read_bytes()
    (one,) = examined(report).events
    for old, new in (
        (b"Severity: serious", b"Severity: wishlist"),
        (b"Version: 1:2.10-3", b"Version: 1:2.10-4"),
        (b"PR-Package: hello", b"PR-Package: world"),
        (b"crashes when greeting nobody", b"crashes when greeting anybody"),
        (b"report 1000001", b"report 1000002"),
        (b".reportbug@laptop", b".reportbug@desktop"),
    ):
        (other,) = examined(report.replace(old, new)).events
        assert one.uuid != other.uuid, old


# -- which mail it is ------------------------------------------------------------------------------


def test_what_was_written_to_a_bug_s_submitter_is_a_comment_though_debbugs_says_report() -> None:
    assert fixture("debbugs_followup", "to-the-submitter").name == "bug-commented"


def test_the_headers_of_the_mail_inside_decide_nothing() -> None:
    event = fixture("debbugs_followup", "of-another-bug-inside")

    assert (event.name, event.data["bug"], event.data["package"]) == (
        "bug-commented",
        1000006,
        ["hello"],
    )


def test_the_tracker_s_name_in_the_header_tells_whose_bug_it_is() -> None:
    found = [
        examined(raw(f"X-{project}-PR-Message: closed 7", f"Subject: Bug#7: marked as done ({x})"))
        for project, x in (("Debian", "a"), ("GNU", "b"), ("Devuan", "c"))
    ]

    assert [one.events[0].data["archive"] for one in found] == ["Debian", "GNU", "Devuan"]


@pytest.mark.parametrize("word", ["ack", "error", "frobnicate", "doc-text", "list", ""])
def test_what_debbugs_says_to_single_persons_is_no_event(word: str) -> None:
    found = examined(raw(f"X-Debian-PR-Message: {word} 12"))

    assert (found.outcome, found.code) == ("ignored", "no-kind")


@pytest.mark.parametrize("word", ["report", "followup", "closed", "they-closed"])
@pytest.mark.parametrize("number", ["", "x", "0", "-1", "1e3", "٣", "1234567890"])
def test_a_bug_without_a_number_is_kept_for_a_person_to_look_at(word: str, number: str) -> None:
    found = examined(raw(f"X-Debian-PR-Message: {word} {number}"))

    assert (found.outcome, found.code) == ("quarantined", "malformed")


def test_the_number_may_have_its_sign_before_it() -> None:
    found = debbugs.notice(mail("X-Debian-PR-Message:  closed   #12 and more"))

    assert found == ("debian", "closed", "12")
    assert found is not None
    assert found.bug == 12


# -- what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "title"),
    [
        ("Bug#12: hello: crashes", "hello: crashes"),
        ("bug#12: hello", "hello"),
        ("Bug#12: ", ""),
        ("Bug#12:", ""),
        ("Bug#12: (no subject)", "(no subject)"),
        ("Bug#12: Bug#12: twice", "Bug#12: twice"),
        ("Bug#12: Bug#9: other", "Bug#9: other"),
        ("Bug#12: [list] Bug#9: Processed: y", "[list] Bug#9: Processed: y"),
        ("[a] [b 17] Bug#12: [PATCH] x", "[PATCH] x"),
        ("Re: [a] Bug#12: x", "x"),
        ("list without brackets: Bug#12: x", "x"),
        ("=?utf-8?q?Bug=2312=3A_gr=C3=BC=C3=9Fe?=", "grüße"),
        ("Bug#12:\n folded\n\ttwice", "folded twice"),
        ("Bug#123: of another bug", "Bug#123: of another bug"),
        ("[list] no number at all", "no number at all"),
        ("Bug#12: {Done: x} [y] 'to' from 'from'", "{Done: x} [y] 'to' from 'from'"),
    ],
)
def test_a_title_is_the_subject_behind_the_bug_s_own_number(subject: str, title: str) -> None:
    assert debbugs.title(mail(f"Subject: {subject}"), 12) == title


@pytest.mark.parametrize(
    ("packages", "source", "expected"),
    [
        ("hello", "hello", (["hello"], ["hello"])),
        ("src:hello hello", None, (["src:hello", "hello"], ["hello"])),
        ("systemd, udev", "systemd", (["systemd", "udev"], ["systemd"])),
        ("hello,hello  hello", "", (["hello"], [])),
        ("", None, ([], [])),
        (None, "a, b", ([], ["a", "b"])),
    ],
)
def test_packages_come_in_every_shape(
    packages: str | None, source: str | None, expected: tuple[list[str], list[str]]
) -> None:
    headers = ["X-Debian-PR-Message: report 1"]
    headers += [f"X-Debian-PR-Package: {packages}"] if packages is not None else []
    headers += [f"X-Debian-PR-Source: {source}"] if source is not None else []
    found = mail(*headers)
    notice = debbugs.notice(found)

    assert notice is not None
    assert (debbugs.packages(found, notice), debbugs.sources(found, notice)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Package: Foo\nVersion: 1.0A\n\nVersion: 2", {"package": "foo", "version": "1.0A"}),
        ("\n \n\ufeffPackage:\u00a0foo\nTag: a", {"package": "foo", "tags": "a"}),
        ("Package: foo\n continued\nVersion: 1", {"package": "foo"}),
        ("Hello,\nPackage: foo", {}),
        ("Package:\nVersion: 1", {}),
        ("Severity: a\nSeverity: B", {"severity": "b"}),
        ("Owner: Jane <J@example.org>  ", {"owner": "Jane <J@example.org>"}),
        (
            f"{SIGNED}Package: foo\n- Tags: a\n-----BEGIN PGP SIGNATURE-----\nVersion: 1",
            {"package": "foo", "tags": "a"},
        ),
        ("-----BEGIN PGP SIGNED MESSAGE-----\nHash: x", {}),
        ("", {}),
    ],
)
def test_pseudo_headers_are_read_as_debbugs_reads_them(text: str, expected: dict[str, str]) -> None:
    assert debbugs.pseudo_headers(text) == expected


@pytest.mark.parametrize(
    ("headers", "author"),
    [
        (["From: Jane Doe <j@example.org>"], Person("Jane Doe", "j@example.org")),
        (["From: j@example.org (Jane Doe)"], Person("Jane Doe", "j@example.org")),
        (
            ["From: 'Jane' via list <l@example.net>", "Resent-From: Jane <j@example.org>"],
            Person("Jane", "j@example.org"),
        ),
        (['From: "Jane Doe via List" <l@example.net>'], Person("Jane Doe", None)),
        (
            ["From: Jane via L <l@example.net>", "Resent-From: Jane via L <l@example.net>"],
            Person("Jane", None),
        ),
        (["From: Via Example <via@example.org>"], Person("Via Example", "via@example.org")),
        ([], Person(None, None)),
    ],
)
def test_an_author_is_found_behind_a_list_s_from(headers: list[str], author: Person) -> None:
    assert debbugs.author(mail("Subject: x", *headers)) == author


def test_of_a_mail_without_an_id_all_copies_have_debbugs_own_in_common() -> None:
    found = mail("Resent-Message-ID: <handler.1.B.2@example.org>", "From: a@example.org")

    assert debbugs.written_as(found) == "handler.1.B.2@example.org"


def test_dashes_in_the_text_of_an_old_notice_are_not_taken_for_a_mail() -> None:
    text = "Hello\n" + "-" * 40 + "\nnot a header\n" + "-" * 40 + "\nFrom: a@example.org\n\nx\n"

    found = debbugs.mails_inside(mail("X-Debian-PR-Message: closed 1", text=text))

    assert [one.header("From") for one in found] == ["a@example.org"]


def test_addresses_of_people_stay_at_home_unless_the_operator_lets_them_go() -> None:
    report = (FIXTURES / "debbugs_report" / "reportbug" / "mail.eml").read_bytes()
    team = b"debian-qa@lists.example.org"
    personal = report.replace(team, b"jane@example.org")

    kept = examine(personal, SOURCE, received=NOON).events[0]
    told = examine(personal, SOURCE, received=NOON, addresses=True).events[0]

    assert "@" not in str(kept.author)
    assert not {"actor_email", "usertags"} & set(kept.data)
    assert told.data["actor_email"] == "jane@example.org"
    assert told.data["usertags"] == {"jane@example.org": ["crash", "greeting"]}
    assert kept.uuid == told.uuid


# -- whatever the bytes ----------------------------------------------------------------------------

ANYTHING = st.text(st.characters(exclude_characters="\r\n\0"), max_size=200)


@given(
    word=st.sampled_from(["report", "followup", "closed", "they-closed"]),
    headers=st.tuples(*[ANYTHING] * 5),
    text=st.text(max_size=500),
)
def test_whatever_people_write_an_event_comes_of_it_that_says_the_bug(
    word: str, headers: tuple[str, ...], text: str
) -> None:
    subject, package, sender, received, references = headers
    lines = (
        f"X-Debian-PR-Message: {word} 12",
        f"X-Debian-PR-Package: {package}",
        f"Subject: Bug#12: {subject}",
        f"From: {sender}",
        f"Received: {received}",
        f"References: {references}",
        "Content-Type: text/plain; charset=utf-8",
        "",
        text,
    )
    found = examined("\n".join(lines).encode("utf-8", "replace"))

    (event,) = found.events
    assert (found.outcome, event.data["bug"]) == ("events", 12)
    assert "\n" not in event.data["title"]


@given(text=st.text(max_size=500))
def test_no_text_upsets_the_reading_of_pseudo_headers(text: str) -> None:
    for name, value in debbugs.pseudo_headers(text).items():
        assert name == name.lower()
        debbugs.version(value)


def test_a_number_that_is_none_is_told_with_what_it_is() -> None:
    found = debbugs.notice(mail("X-Debian-PR-Message: closed nothing"))

    assert found is not None
    with pytest.raises(MalformedMail, match="'nothing'"):
        _ = found.bug
