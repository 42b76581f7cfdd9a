"""Which system sent a mail: the table, its order, and what is no news at all."""

from __future__ import annotations

import pytest

from mailbridge.family import NONE, Family, NoEvent, archive_of, family
from mailbridge.mail import Mail, has_marker, read_mail


def mail(headers: str, body: str = "x\n") -> Mail:
    return read_mail(f"{headers}\n\n{body}".encode())


MARKED = [
    ("X-Laniakea-Event: package-accepted", Family.LANIAKEA),
    ("X-Debian-PR-Message: report 1", Family.DEBBUGS),
    ("X-GNU-PR-Message: followup 1", Family.DEBBUGS),
    ("x-devuan-pr-message: closed 1", Family.DEBBUGS),
    ("X-Testing-Watch-Package: hello", Family.TESTING_WATCH),
    ("X-Testing-Watch-Summary: migrated", Family.TESTING_WATCH),
    ("X-DAK: dak rm", Family.DAK),
    ("X-Debian: DAK", Family.DAK),
    ("Debian: DAK", Family.DAK),
    ("X-Katie: $Revision: 1.65 $", Family.DAK),
    ("X-Debian: release.debian.org/autoremovals", Family.AUTOREMOVAL),
    ("X-Debian: buildd.debian.org", Family.BUILDD),
    ("X-Katie: Launchpad actually", Family.LAUNCHPAD),
    ("X-Launchpad-Notification-Type: package-upload", Family.LAUNCHPAD),
    ("X-Launchpad-Bug: distribution=ubuntu; sourcepackage=hello", Family.LAUNCHPAD),
    ("X-GitLab-Issue-ID: 1", Family.GITLAB),
    ("X-GitLab-MergeRequest-IID: 1", Family.GITLAB),
    ("X-GitLab-Author: jane", Family.GITLAB),
    ("X-Phabricator-Sent-This-Message: Yes", Family.PHABRICATOR),
    ("X-Bugzilla-Type: changed", Family.BUGZILLA),
]


@pytest.mark.parametrize(("header", "expected"), MARKED)
def test_a_header_tells_the_family_and_marks_the_bytes(header: str, expected: Family) -> None:
    assert family(mail(header)) is expected
    # Else a mail too broken to parse would be thrown away instead of kept.
    assert has_marker(header.encode())


@pytest.mark.parametrize(
    "subject",
    [
        "[SECURITY] [DSA 5000-1] hello security update",
        "[list] [SECURITY] [DLA-3000-1] hello security update",
        "[SECURITY] [ELA-12-1] hello security update",
    ],
)
def test_an_advisory_is_told_by_its_subject(subject: str) -> None:
    assert family(mail(f"Subject: {subject}")) is Family.SECURITY


MENTORED = [
    "hello_2.10-3: ACCEPTED into unstable",
    "New comment on package hello",
    "hello has been removed from unstable on mentors.example.org",
]


@pytest.mark.parametrize("subject", MENTORED)
def test_mail_of_mentors_is_told_by_its_envelope_and_its_subject(subject: str) -> None:
    path = "Return-Path: <bounce@mentors.example.org>"

    assert family(mail(f"{path}\nSubject: {subject}")) is Family.MENTORS


@pytest.mark.parametrize(
    "headers",
    [
        *(
            f"From: mentors.example.org <support@mentors.example.org>\nSubject: {s}"
            for s in MENTORED
        ),
        *(f"Return-Path: <jane@mentors.example.org>\nSubject: {s}" for s in MENTORED),
        *(f"Return-Path: <bounce@mentors.example.org>\nSubject: Re: {s}" for s in MENTORED),
        "Return-Path: <bounce@mentors.example.org>\nSubject: Next step: Confirm your email address",
    ],
)
def test_neither_alone_makes_a_mail_of_mentors(headers: str) -> None:
    assert family(mail(headers)) is NONE


def test_any_x_debian_counts_not_the_first() -> None:
    assert family(mail("X-Debian: tracker.debian.org\nX-Debian: DAK")) is Family.DAK


def test_what_debbugs_passes_on_of_a_dak_mail_is_debbugs() -> None:
    headers = "X-DAK: dak process-upload\nX-Debian: DAK\nX-Debian-PR-Message: closed 1"

    assert family(mail(headers)) is Family.DEBBUGS


def test_headers_inside_a_mail_do_not_count() -> None:
    headers = "Content-Type: multipart/mixed; boundary=A\nSubject: Fwd: Accepted hello 1 (source)"

    found = family(mail(headers, "--A\nContent-Type: message/rfc822\n\nX-DAK: x\n\nx\n--A--\n"))

    assert isinstance(found, NoEvent)
    assert found.code == "not-ours"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ("Content-Type: multipart/report; boundary=A", "bounce"),
        ("Return-Path: <>\nFrom: Mailer <MAILER-DAEMON@example.org>", "bounce"),
        ("Return-Path: <>\nFrom: x@example.org\nSender: postmaster@example.org", "bounce"),
        ("Auto-Submitted: auto-replied (vacation)", "autoreply"),
        ("X-Autoreply: yes", "autoreply"),
        ("Precedence: list\nPrecedence: auto_reply", "autoreply"),
        ("Subject: [list] Out of office: back on Monday", "autoreply"),
        ("X-List-Administrivia: yes", "list-admin"),
        (
            "From: l-owner@example.org\nSubject: 3 Changes moderator request(s) waiting",
            "list-admin",
        ),
        ("Content-Type: multipart/digest; boundary=A", "digest"),
        ("Subject: Changes Digest, Vol 12, Issue 3", "digest"),
    ],
)
def test_some_mail_is_no_news_whatever_marks_it_bears(headers: str, code: str) -> None:
    found = family(mail(f"{headers}\nX-DAK: dak process-upload"))

    assert isinstance(found, NoEvent)
    assert found.code == code


@pytest.mark.parametrize(
    "headers",
    [
        "Auto-Submitted: auto-generated",
        "Return-Path: <>\nFrom: dak@example.org",
        "Subject: Bug#12: Changes Digest, Vol 12, Issue 3",
        "Sender: changes-bounces@example.org\nPrecedence: bulk",
    ],
)
def test_what_programs_and_lists_write_is_news(headers: str) -> None:
    assert family(mail(f"{headers}\nX-DAK: dak process-upload")) is Family.DAK


def test_a_digest_attached_to_a_bug_report_hides_no_bug() -> None:
    headers = "X-Debian-PR-Message: report 1\nContent-Type: multipart/mixed; boundary=A"

    found = family(mail(headers, "--A\nContent-Type: multipart/digest; boundary=B\n\n--A--\n"))

    assert found is Family.DEBBUGS


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("X-DAK: x", "Debian"),
        ("X-DAK: x\nList-Id: <pureos-changes.lists.puri.sm>", "PureOS"),
        ("X-DAK: x\nList-Id: <evil-lists.puri.sm.example.org>", "Debian"),
        ("X-Debian-PR-Message: report 1", "Debian"),
        ("X-GNU-PR-Message: report 1\nList-Id: <debian-bugs-dist.lists.debian.org>", "GNU"),
        ("X-Devuan-PR-Message: report 1", "Devuan"),
        ("X-Laniakea-Event: x\nX-Laniakea-Project: PureOS", "PureOS"),
        ("X-Laniakea-Event: x\nX-Laniakea-Repo: example", "example"),
        ("X-Laniakea-Event: x", "unknown"),
        ("X-Katie: Launchpad actually\nX-Launchpad-Archive: ubuntu", "Ubuntu"),
        ("X-Katie: Launchpad actually", "Ubuntu"),
        # What is in a PPA is not in Ubuntu, whatever list tells of it.
        (
            "X-Katie: Launchpad x\nX-Launchpad-Archive: ~a/ubuntu/b\nList-Id: <x.lists.ubuntu.com>",
            "~a/ubuntu/b",
        ),
        ("X-Launchpad-Bug: product=hello; status=New;", "Launchpad"),
        ("X-Launchpad-Bug: product=hello;\nX-Launchpad-Bug: distribution=ubuntu;", "Ubuntu"),
        # What is on mentors is not in Debian.
        (
            "Return-Path: <bounce@mentors.debian.net>\nSubject: New comment on package hello",
            "mentors.debian.net",
        ),
        ("X-Debian: buildd.debian.org", "Debian"),
        ("X-Debian: release.debian.org/autoremovals", "Debian"),
    ],
)
def test_the_archive_is_the_one_the_mail_speaks_of(headers: str, expected: str) -> None:
    read = mail(headers)
    found = family(read)

    assert isinstance(found, Family)
    assert archive_of(read, found) == expected
