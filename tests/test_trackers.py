"""What must hold for mail of trackers and security teams, beyond their goldens."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from mailbridge import kinds
from mailbridge.bridge.compose import Examined, examine
from mailbridge.config import Source
from mailbridge.mail import read_mail

FIXTURES: Final = Path(__file__).parent.parent / "fixtures"
NOON: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOURCE: Final = Source(name="trackers", maildir="/nowhere")
GUARD: Final = 2.0
"""Seconds; a pattern that explodes takes minutes."""


def examined(raw: bytes, *, addresses: bool = False) -> Examined:
    return examine(raw, SOURCE, received=NOON, everything=True, addresses=addresses)


def fixture(case: str) -> bytes:
    return (FIXTURES / case / "mail.eml").read_bytes()


def uuids(raw: bytes) -> list[str]:
    found = examined(raw)
    assert found.events, found
    return [event.uuid for event in found.events]


# -- what never leaves -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["yes", "Yes", "true", "", "maybe"])
def test_a_bug_of_launchpad_leaves_only_if_it_is_said_not_to_be_private(value: str) -> None:
    raw = fixture("launchpad_bug/commented-on")
    private = raw.replace(b"Bug-Private: no", b"Bug-Private: " + value.encode())
    assert private != raw

    assert examined(private, addresses=True).code == "private"


@pytest.mark.parametrize("value", ["Private", "Private Security", "Proprietary", "Embargoed", ""])
def test_a_bug_of_launchpad_leaves_only_if_its_information_is_public(value: str) -> None:
    raw = fixture("launchpad_bug/commented-on")
    private = raw.replace(b"Information-Type: Public", b"Information-Type: " + value.encode())
    assert private != raw

    assert examined(private, addresses=True).code == "private"


@pytest.mark.parametrize("value", ["true", "True", "1", ""])
def test_a_confidential_issue_stays_whatever_its_header_says_but_false(value: str) -> None:
    raw = b"X-GitLab-ConfidentialIssue: " + value.encode() + b"\n" + fixture("gitlab_issue/created")

    assert examined(raw, addresses=True).code == "private"


def test_an_internal_note_stays_even_where_its_id_is_that_of_a_comment() -> None:
    assert examined(fixture("_ignored/gitlab-note-for-members-alone")).code == "private"


KEY: Final = "00112233445566778899aabbccddeeff"
KEYS: Final = f"""\
X-GitLab-Reply-Key: {KEY}
Reply-To: GitLab <incoming+{KEY}@gitlab.example.org>
References: <reply-{KEY}@gitlab.example.org>
List-Unsubscribe: <https://gitlab.example.org/-/sent_notifications/{KEY}/unsubscribe?force=true>,
 <mailto:incoming+{KEY}-unsubscribe@gitlab.example.org>
""".encode()
"""Where GitLab writes the key of a mail, beside the links in its text."""


@pytest.mark.parametrize("case", sorted(FIXTURES.glob("gitlab_*/*/mail.eml")), ids=str)
def test_no_event_holds_the_key_to_answer_in_a_user_s_name(case: Path) -> None:
    raw = case.read_bytes()
    link = f"Unsubscribe: https://gitlab.example.org/-/sent_notifications/{KEY}/unsubscribe\n"
    raw = KEYS + raw.replace(b"You're receiving", link.encode() + b"You're receiving")
    assert link.encode() in raw
    found = examined(raw, addresses=True)

    assert found.events
    for event in found.events:
        assert KEY not in json.dumps([event.data, event.author])
        assert "incoming" not in json.dumps(event.data)


@pytest.mark.parametrize("case", sorted(FIXTURES.glob("gitlab_*/*/mail.eml")), ids=str)
def test_a_mail_whose_own_id_is_the_key_stays(case: Path) -> None:
    raw = case.read_bytes()
    ident = f"Message-ID: <{KEY}@gitlab.example.org>\n".encode()
    reply_to = f"Reply-To: incoming+{KEY}@gitlab.example.org\n".encode()

    assert examined(ident + reply_to + raw).code == "reply-key"


@pytest.mark.parametrize(
    "case",
    ["bugzilla/changed-in-wrapped-rows", "bugzilla/reported", "launchpad_bug/with-another-title"],
)
def test_addresses_of_people_leave_only_where_they_are_switched_on(case: str) -> None:
    def told(*, addresses: bool) -> str:
        found = examined(fixture(case), addresses=addresses)
        own = [
            {key: value for key, value in event.data.items() if key != "message_id"}
            for event in found.events
        ]
        return json.dumps(own)

    assert "@" not in told(addresses=False)
    assert "@example.org" in told(addresses=True)


# -- what is the same news -------------------------------------------------------------------------


def test_the_announcement_and_the_private_copy_of_launchpad_are_one_event() -> None:
    announced = fixture("launchpad_upload/announced")

    assert uuids(announced) == uuids(fixture("launchpad_upload/told-to-the-uploader"))


def test_a_removal_from_testing_that_is_told_again_every_day_is_one_event() -> None:
    raw = fixture("autoremoval/for-a-bug-of-another")

    assert uuids(raw) == uuids(raw.replace(b"<autoremoval.1@", b"<autoremoval.9@"))
    assert uuids(raw) != uuids(raw.replace(b"2024-10-20", b"2024-11-03"))


def test_an_advisory_is_one_event_whoever_sends_it_on_and_a_changed_one_another() -> None:
    raw = fixture("security_advisory/today")

    assert uuids(raw) == uuids(raw.replace(b"<E1soD9a-0001@", b"<again@"))
    assert uuids(raw) != uuids(raw.replace(b"1:2.12-1~deb12u1", b"1:2.12-1~deb12u2"))


@pytest.mark.parametrize(
    "case",
    [
        "buildd/failed",
        "bugzilla/closed-with-a-comment",
        "gitlab_issue/closed",
        "gitlab_push/a-new-tag",
        "mentors/commented-on",
        "launchpad_build/failed",
        "launchpad_upload/rejected-by-a-person",
        "phabricator_task/closed",
        "testing_watch/migrated",
    ],
)
def test_what_can_happen_twice_is_two_events(case: str) -> None:
    raw = fixture(case)
    again = re.sub(rb"(?mi)^(Message-ID: <)", rb"\1again-", raw)
    assert again != raw

    assert uuids(raw) == uuids(raw)
    assert not set(uuids(raw)) & set(uuids(again))


def test_a_stranger_s_message_id_alone_takes_the_place_of_no_event() -> None:
    raw = fixture("bugzilla/reported")

    assert not set(uuids(raw)) & set(uuids(raw.replace(b"only in the morning", b"never")))


# -- strangers -------------------------------------------------------------------------------------

MANY: Final = 200_000

HOSTILE: Final[dict[str, Callable[[], bytes]]] = {
    "a page without end": lambda: (
        b"X-Launchpad-Notification-Type: package-upload\nX-Launchpad-Archive: ubuntu\n"
        b"Subject: [ubuntu/noble] hello 1 (Accepted)\n\n OK: hello_1.dsc\n"
        b"https://launchpad.net/" + b"/+source/" * MANY + b" \n"
    ),
    "a task without a sign": lambda: (
        b"X-Launchpad-Bug-Private: no\nX-Launchpad-Bug: " + b"a" * 60_000 + b"\n"
        b"Subject: [Bug 1] x\n\n** Tags added: x\n"
    ),
    "changes without end": lambda: (
        b"X-Launchpad-Bug-Private: no\nX-Launchpad-Bug: product=x; status=B;\n"
        b"Subject: [Bug 1] x\n\n** Changed in: x\n" + b"Status: A => B\n" * MANY
    ),
    "a row that goes on": lambda: (
        b"X-Bugzilla-Type: changed\nSubject: [Bug 1] x\n\n"
        b"  What    |Removed  |Added\n---\n Summary|a|b\n" + b"  |aaaa|bbbb\n" * MANY
    ),
    "a field that goes on": lambda: (
        b"Subject: [SECURITY] [DSA 1-1] x\n\nPackage: a\n" + b" a\n" * MANY + b"\nFor you\n"
    ),
    "versions without end": lambda: (
        b"Subject: [SECURITY] [DSA 1-1] x\n\nPackage: aa\n\n"
        + b"distribution (sid) fixed in version 1 " * MANY
    ),
    "who did what": lambda: (
        b"X-Phabricator-Sent-This-Message: Yes\nSubject: [Maniphest] T1: x\n\n" + b"a" * 4_000_000
    ),
    "a hint without end": lambda: (
        b"X-Testing-Watch-Package: hello\nSubject: hello 2 MIGRATED to testing\n\n"
        b"  Previous version: 1\n  Current version: 2\n  Hint: x\n" + b"   x\n" * MANY
    ),
    "a version of blanks": lambda: (
        b"X-Testing-Watch-Package: hello\nSubject: hello 2 MIGRATED to testing\n\n"
        b"  Previous version: 1" + b" " * MANY + b"x\n  Current version: 2\n"
    ),
    "an issue at many places": lambda: (
        b"X-GitLab-Issue-IID: 1\nX-GitLab-Project-Path: a/b\nSubject: x (#1)\n\n"
        + b"https://" * MANY
    ),
    "commits without end": lambda: (
        b"X-GitLab-Author: a\nX-GitLab-Project-Path: a/b\nSubject: [Git][a/b][c] 9 commits: x\n\n"
        b"Commits:\n" + b"0a1b2c3d by x at 2024-09-12T10:40:00+02:00\nx\n- - - - -\n" * MANY
    ),
    "a push to many places": lambda: (
        b"X-GitLab-Author: a\nX-GitLab-Project-Path: a/b\nSubject: [Git][a/b][c] x\n\n"
        + b"https://a/a/b/-/tree/" * MANY
    ),
    "a branch of brackets": lambda: (
        b"X-GitLab-Author: a\nX-GitLab-Project-Path: a/b\nSubject: [Git][a/b]["
        + b"]" * 60_000
        + b" \n\nx\n"
    ),
    "a removal that never ends": lambda: (
        b"Return-Path: <bounce@m.example.org>\n"
        b"Subject: hello has been removed from sid on m.example.org\n\n"
        b"for the following reason:\n\nx" + b"\n" * 19_000 + b"y\n-- \nm.example.org\n"
    ),
    "a subject of brackets": lambda: (
        b"X-Bugzilla-Type: new\nSubject: " + b"[a] " * 15_000 + b"\n\nx\n"
    ),
    "builds of many things": lambda: (
        b"X-Debian: buildd.debian.org\nSubject: failed " + b"build of " * 6_000 + b"\n\nx\n"
    ),
}


@pytest.mark.parametrize("made", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_mail_costs_little_and_breaks_nothing(made: Callable[[], bytes]) -> None:
    raw = made()
    start = time.process_time()
    found = kinds.recognise(read_mail(raw), kinds.Site())
    cost = time.process_time() - start

    assert cost < GUARD
    assert found.code != "bug", found
    assert found.family is not None
