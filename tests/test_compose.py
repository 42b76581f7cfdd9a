"""One mail as what would be emitted: switches, provenance, times and caps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mailbridge.bridge.compose import check, examine, switches
from mailbridge.bridge.prove import Prover
from mailbridge.config import Source
from mailbridge.errors import ConfigError
from mailbridge.event import MAX_EVENT_BYTES, canonical

FIXTURES = Path(__file__).parent.parent / "fixtures"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
REPORT = (FIXTURES / "debbugs_report" / "reportbug" / "mail.eml").read_bytes()
FOLLOWUP = (FIXTURES / "debbugs_followup" / "to-the-bug" / "mail.eml").read_bytes()
NEW = next((FIXTURES / "laniakea_new").glob("*/mail.eml")).read_bytes()
LIST = "debian-bugs-dist.lists.example.org"


def source(**settings: object) -> Source:
    return msgspec.convert({"name": "bugs", "maildir": "/nowhere"} | settings, Source)


def became(raw: bytes, **settings: object) -> tuple[str, str | None]:
    found = examine(raw, source(**settings), received=NOON)
    return found.outcome, found.code


# -- switches --------------------------------------------------------------------------------------


def test_what_is_off_by_default_is_understood_and_switched_off() -> None:
    found = examine(FOLLOWUP, source(), received=NOON)

    assert (found.outcome, found.code) == ("ignored", "switched-off")
    assert (found.kind, found.reason) == ("debbugs-followup", "understood, switched off")
    assert found.emitted == ()
    assert [event.name for event in found.events] == ["bug-commented"]


def test_a_source_can_switch_a_tag_on() -> None:
    assert became(FOLLOWUP, emit=["bug-commented"]) == ("events", None)


@pytest.mark.parametrize("word", ["debbugs", "debbugs-report"])
def test_a_source_can_name_the_families_or_kinds_it_wants(word: str) -> None:
    assert became(REPORT, kinds=[word]) == ("events", None)
    assert became(REPORT, kinds=["dak"]) == ("ignored", "switched-off")


def test_what_goes_out_only_by_a_list_does_not_when_it_came_to_a_person() -> None:
    by_list = b"List-Id: <changes.example.org>\n" + NEW.replace(b"List-Id:", b"X-Was:")

    assert became(by_list) == ("events", None)
    assert became(NEW.replace(b"List-Id:", b"X-Was:")) == ("ignored", "switched-off")


def test_everything_explains_as_if_all_were_switched_on() -> None:
    found = examine(FOLLOWUP, source(kinds=["dak"]), received=NOON, everything=True)

    assert found.outcome == "events"
    assert len(found.emitted) == 1


def test_a_broken_mail_of_a_kind_nobody_wants_is_no_case_for_quarantine() -> None:
    broken = b"X-Debian-PR-Message: closed nothing\n\n"

    assert became(broken) == ("quarantined", "malformed")
    assert became(broken, kinds=["dak"]) == ("ignored", "switched-off")


def test_the_switches_of_a_source_can_be_told() -> None:
    told = switches(source(kinds=["debbugs", "laniakea-new"], emit=["bug-commented"]))

    assert told["bug-commented"] == told["bug-closed"] == "on"
    assert told["package-upload-queued-new"] == "list"
    assert told["package-upload-accepted"] == "off"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kinds": ["debbug"]}, "kinds: 'debbug' is not known; did you mean 'debbugs'?"),
        ({"emit": ["xyz"]}, "emit: 'xyz' is not known; 'mailbridge kinds' lists them"),
        ({"emit": ["bug-closd"]}, "did you mean 'bug-closed'?"),
    ],
)
def test_a_word_that_names_no_kind_or_tag_is_an_error_that_helps(
    settings: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check([source(), source(**settings)])

    assert words in str(caught.value)
    assert "source 'bugs'" in str(caught.value)


# -- who may speak ---------------------------------------------------------------------------------


def test_mail_of_another_list_is_not_this_source_s() -> None:
    assert became(REPORT, lists=[LIST.upper()]) == ("events", None)
    assert became(REPORT, lists=["other.example.org"]) == ("ignored", "other-list")
    assert became(REPORT.replace(b"List-Id:", b"X-Was:"), lists=[LIST]) == ("ignored", "other-list")


def test_nothing_backs_a_mail_unless_the_operator_vouches_for_its_channel() -> None:
    plain = examine(REPORT, source(), received=NOON).events[0].data["provenance"]
    vouched = examine(REPORT, source(require="channel", lists=[LIST]), received=NOON)

    assert plain["sent_by"] == {"how": "none"}
    assert vouched.events[0].data["provenance"]["sent_by"] == {"how": "channel", "who": "bugs"}


def test_what_is_backed_less_than_required_is_kept_and_not_emitted() -> None:
    found = examine(REPORT, source(require="dkim"), received=NOON)

    assert (found.outcome, found.code, found.emitted) == ("quarantined", "unproved", ())


def test_made_up_mail_is_taken_only_when_asked_for_and_never_into_the_real_namespace() -> None:
    made_up = b"X-Mailbridge-Generated: 1\n" + REPORT

    taken = examine(made_up, source(), received=NOON, accept_test=True)
    (real,) = examine(REPORT, source(), received=NOON).events

    assert became(made_up) == ("ignored", "generated")
    assert [event.tag for event in taken.events] == ["_lk.mailbridge-test.bug-reported"]
    assert real.tag == "_lk.mailbridge.bug-reported"


def test_a_source_may_have_a_namespace_of_its_own() -> None:
    (event,) = examine(REPORT, source(namespace="org.example.bugs"), received=NOON).events

    assert event.tag == "org.example.bugs.bug-reported"


# -- what the bridge adds --------------------------------------------------------------------------


def test_in_an_event_about_a_bug_source_is_the_package_and_the_configured_one_is_mail_source() -> (
    None
):
    (bug,) = examine(REPORT, source(), received=NOON).events
    (upload,) = examine(NEW, source(emit=["package-upload-queued-new"]), received=NOON).events

    assert (bug.data["source"], bug.data["mail_source"]) == (["hello"], "bugs")
    assert (upload.data["source"], "mail_source" in upload.data) == ("bugs", False)


@pytest.mark.edge(73)
@pytest.mark.parametrize(
    ("date", "told"),
    [
        ("Fri, 20 Nov 2026 13:00:00 +0100", "2026-11-20T12:00:00+00:00"),
        ("Fri, 20 Nov 2026 11:00:00", "2026-11-20T11:00:00+00:00"),
        ("Thu, 20 Nov 2099 13:00:00 +0100", None),
        ("Thu, 1 Jan 1970 00:00:00 +0000", None),
        ("yesterday", None),
    ],
)
def test_what_date_claims_is_told_unless_it_cannot_be(date: str, told: str | None) -> None:
    raw = f"Date: {date}\nX-Debian-PR-Message: report 1\n\n".encode()

    (event,) = examine(raw, source(), received=NOON).events

    assert event.data.get("mail_date") == told


def test_a_mail_arrived_when_our_own_server_says_or_when_its_file_was_written() -> None:
    def arrived(received: str) -> str:
        raw = f"Received: by mx; {received}\nX-Debian-PR-Message: report 1\n\n".encode()
        return str(examine(raw, source(), received=NOON).events[0].data["mail_received"])

    assert arrived("Fri, 20 Nov 2026 10:59:58 +0100") == "2026-11-20T09:59:58+00:00"
    assert arrived("tomorrow") == NOON.isoformat()
    assert arrived("Sun, 22 Nov 2026 12:00:01 +0000") == NOON.isoformat()


def test_old_mail_is_marked_as_such() -> None:
    (event,) = examine(REPORT, source(), received=NOON, backfill=True).events

    assert event.data["backfill"] is True


def test_neither_source_nor_time_nor_namespace_is_in_an_event_s_identity() -> None:
    (one,) = examine(REPORT, source(), received=NOON).events
    (other,) = examine(
        REPORT,
        source(name="other", namespace="org.example", require="channel"),
        received=NOON + timedelta(days=9),
        backfill=True,
    ).events

    assert one.uuid == other.uuid
    assert one.data != other.data


def test_the_same_news_of_another_archive_is_other_news() -> None:
    (one,) = examine(REPORT, source(), received=NOON).events
    (other,) = examine(REPORT, source(archive="Example"), received=NOON).events

    assert one.uuid != other.uuid


# -- bounds ----------------------------------------------------------------------------------------


def test_changes_are_cut_for_a_lighthouse() -> None:
    upload = next((FIXTURES / "laniakea_accepted").glob("*/mail.eml")).read_bytes()
    (whole,) = examine(upload, source(), received=NOON).emitted
    (cut,) = examine(upload, source(), received=NOON, changes_cap=20).emitted

    assert cut.data["changes"] == whole.data["changes"][:20].rstrip()
    assert cut.data["truncated"] is True
    assert cut.uuid == whole.uuid


@pytest.mark.fault(56)
def test_an_event_too_large_for_the_wire_is_kept_and_not_emitted() -> None:
    words = [f"{n}" + "☃" * 290 for n in range(200)]
    packages, tags = " ".join(words[:65]), " ".join(words)
    raw = f"""X-Debian-PR-Message: report 1
X-Debian-PR-Package: {packages}
X-Debian-PR-Source: {packages}
X-Debian-PR-Keywords: {packages}

Tags: {tags}
""".encode()

    found = examine(raw, source(), received=NOON)

    assert len(canonical(found.events[0].data)) > MAX_EVENT_BYTES - 4096
    assert (found.outcome, found.code, found.emitted) == ("quarantined", "too-large", ())


@pytest.mark.parametrize("raw", [b"", b"\n", b"no header at all", b"A: b\0c\n\nX-DAK: x", b"\xff"])
def test_bytes_that_are_no_mail_and_claim_nothing_are_ignored(raw: bytes) -> None:
    assert became(raw) == ("ignored", "malformed")


def test_a_broken_mail_that_claims_to_be_of_an_archive_is_kept() -> None:
    assert became(b"X-DAK: dak process-upload\nA: b\0c\n\n") == ("quarantined", "malformed")


def test_a_mail_that_is_too_large_is_told_with_its_size() -> None:
    found = examine(REPORT, source(), received=NOON, max_mail=100)

    assert (found.outcome, found.code) == ("quarantined", "malformed")
    assert found.reason == f"{len(REPORT)} bytes, more than the 100 allowed"
    assert found.message_id.startswith("sha256:")


# -- whether a mail speaks for its source ----------------------------------------------------------

_LISTED: Final = b"""\
Received: from lists.example.org (lists.example.org [192.0.2.1]) by mx (Postfix)
List-Id: <changes.lists.example.org>
X-Mailing-List: <changes@lists.example.org> archive/latest/417
From: jane@example.org
Subject: lunch
Message-ID: <1@example.org>

At one?
"""
_OF_LIST: Final = Source(name="changes", lists=("changes.lists.example.org",))


@pytest.mark.parametrize(
    ("source", "speaks"),
    [
        ({}, True),
        ({"require": "channel"}, True),
        ({"require": "hop", "hops": ("lists.example.org",)}, True),
        ({"require": "hop", "hops": ("other.example.org",)}, False),
        ({"lists": ("other.lists.example.org",)}, False),
    ],
)
def test_a_mail_speaks_for_its_source_if_it_is_backed_whatever_becomes_of_it(
    source: dict[str, Any],
    speaks: bool,  # noqa: FBT001 - what is expected
) -> None:
    named = msgspec.structs.replace(_OF_LIST, **source)
    told = examine(_LISTED, named, received=NOON, prover=Prover([named]))

    assert (told.outcome, told.speaks) == ("ignored", speaks)
    assert told.number == ("changes.lists.example.org", 417)
