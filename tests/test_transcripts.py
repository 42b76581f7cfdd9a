"""What debbugs made of commands: only its own lines count, and never too many of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.bridge.compose import Composed, examine
from mailbridge.config import Source
from mailbridge.event import MAX_EVENT_BYTES, canonical

FIXTURES = Path(__file__).parent.parent / "fixtures"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOURCE = Source(name="bugs", maildir="/nowhere")


def event_of(text: str, *, subject: str = "Processed: x", addresses: bool = False) -> Composed:
    raw = (
        f"X-Debian-PR-Message: transcript\nSubject: {subject}\nMessage-ID: <t@example.org>\n"
        "To: Jane Doe <jane@example.org>\nContent-Type: text/plain; charset=utf-8\n\n"
        f"Processing commands for control@bugs.example.org:\n\n{text}"
    )
    found = examine(raw.encode("utf-8", "replace"), SOURCE, received=NOON, addresses=addresses)
    (event,) = found.events
    return event


def changes(text: str, **options: Any) -> list[tuple[Any, ...]]:
    told = event_of(text, **options).data["changes"]
    return [tuple(c.get(key) for key in ("bug", "action", "old", "new", "ok")) for c in told]


def test_what_people_write_is_no_result_whatever_it_looks_like() -> None:
    text = """> Bug #1 [hello] x
> Severity set to 'grave' from 'minor'
Unknown command or malformed arguments to command.
> thanks
Stopping processing here.
Bug #1 [hello] x
Severity set to 'grave' from 'minor'
"""

    assert changes(text) == []
    assert event_of(text).data["bugs"] == []


def test_what_is_told_once_for_each_of_merged_bugs_is_one_change_of_each() -> None:
    text = """> tags 1 patch
Bug #1 [hello] a
Bug #2 [hello] b
Added tag(s) patch.
Added tag(s) patch.
> tags 1 patch
Bug #1 [hello] a
Added tag(s) patch.
> forcemerge 1 2
Bug #1 [hello] a
Bug #1 [hello] a
Marked as found in versions hello/2.10-3.
Bug #2 [hello] b
Severity set to 'important' from 'normal'
Marked as found in versions hello/2.9-1.
Merged 1 2
"""

    assert changes(text) == [
        (1, "tags-added", None, "patch", True),
        (2, "tags-added", None, "patch", True),
        (1, "tags-added", None, "patch", True),
        (1, "found-added", None, "hello/2.10-3", True),
        (2, "severity", "normal", "important", True),
        (2, "found-added", None, "hello/2.9-1", True),
        (1, "merged", None, "2", True),
    ]


@pytest.mark.edge(54)
@pytest.mark.parametrize("same", [True, False])
def test_many_results_about_many_bugs_cost_little(same: bool) -> None:  # noqa: FBT001 - a parameter
    bugs = "".join(f"Bug #{number} [hello] a\n" for number in range(1, 9_000))
    results = "".join(f"Added tag(s) t{0 if same else number}.\n" for number in range(9_000))

    started = time.process_time()
    told = event_of(f"> tags 1 x\n{bugs}{results}").data
    took = time.process_time() - started

    assert told["truncated"]
    assert told["bugs_total"] == 8_999
    # A guard against quadratic time, not a measure of speed.
    assert took < 30


def test_bugs_in_a_row_share_the_result_and_others_do_not() -> None:
    text = """> severity 1 minor
Bug #1 [hello] a
Bug #2 {Done: J. Random Hacker, Jr. <jrh@example.org>} [hello] b
Severity set to 'minor' from 'normal'
Bug #3 [hello] c
Ignoring request to change severity of Bug 3 to the same value.
"""

    assert changes(text) == [
        (1, "severity", "normal", "minor", True),
        (2, "severity", "normal", "minor", True),
    ]
    assert event_of(text).data["bugs"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Severity set to 'x'", [("severity", None, "x")]),
        ("Added tag(s) a, b, and c.", [("tags-added", None, "a, b, c")]),
        (
            "Removed tag(s) a and b; added tag(s) c.",
            [("tags-removed", "a, b", None), ("tags-added", None, "c")],
        ),
        ("Marked as found in versions 1 and reopened.", [
            ("found-added", None, "1"), ("reopened", None, None)]),
        ("Did not alter found versions and reopened.", [("reopened", None, None)]),
        ("Bug assigned to package 'hello'.", [("reassigned", None, "hello")]),
        ("Bug reopened, originator not changed.", [("reopened", None, None)]),
        ("Bug closed, send any further explanations to J <j@example.org>", [
            ("closed", None, None)]),
        ("Bug no longer marked as found in version 1.", [("found-removed", "1", None)]),
        ("Bug marked as found in version 1 and reopened.", [
            ("found-added", None, "1"), ("reopened", None, None)]),
        ("Changed Bug title.", [("title", None, "x")]),
        ("Set Bug title to 'a'.", [("title", None, "a")]),
        ("Unset Bug forwarded-to-address", [("unforwarded", None, None)]),
        ("Owner changed from Jane <j@example.org> to John <k@example.org>.", [
            ("owner", "Jane", "John")]),
        ("Removed annotation that Bug was owned by Jane <j@example.org>.", [
            ("owner", "Jane", None)]),
        ("Summary recorded from message bug 7 message 5", [("summary", None, None)]),
        ("There are now no usertags set.", [("usertags", None, None)]),
        ("Bug 7 cloned as bug 8.", [("cloned", None, "8")]),
        ("archived 7 to archive/07 (from 7)", [("archived", None, None)]),
        # Nothing changed, or nothing we know.
        ("Requested to add no tags; doing nothing.", []),
        ("Bug 7 is not marked as done; doing nothing.", []),
        ("Tags were: patch", []),
        ("Frobnicated.", []),
    ],
)  # fmt: skip
def test_a_result_line_says_what_changed(
    line: str, expected: list[tuple[str, str | None, str | None]]
) -> None:
    found = changes(f"> frob 7 x\nBug #7 [hello] t\n{line}\n")

    assert [change[1:4] for change in found] == expected


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("severity 7 odd", 'Failed to set severity of Bug 7 to odd: Severity level "odd" is not'),
        ("merge 7 8", "Unable to merge bugs because:"),
        ("close 7", "Bug 7 not found"),
        ("tags 7 + frob", "Unknown tag(s): frob."),
    ],
)
def test_what_could_not_be_done_is_told_as_such(command: str, line: str) -> None:
    found = changes(f"> {command}\n{line}\nFailed to do it: again\n")

    assert [(bug, ok) for bug, _, _, _, ok in found] == [(7, False)]


@pytest.mark.parametrize("quote", ["'", "`"])
def test_a_title_that_holds_the_words_between_two_titles_is_told_by_the_command(quote: str) -> None:
    line = f"Changed Bug title to {quote}a' from 'b' from {quote}c' from 'd'."

    def title(command: str) -> tuple[Any, ...]:
        return changes(f"> {command}\nBug #7 [hello] t\n{line}\n")[0][2:4]

    assert title("retitle 7 a' from 'b") == ("c' from 'd", "a' from 'b")
    # Of a title nobody typed here, the last such words count.
    assert title("retitle 7 other")[0] == "d"


def test_the_addresses_of_people_stay_at_home_unless_switched_on() -> None:
    text = "> owner 7 !\nBug #7 [hello] t\nOwner recorded as Jane Doe <jane@example.org>.\n"

    kept, told = event_of(text), event_of(text, addresses=True)

    assert "jane@" not in str(kept.data)
    assert told.data["changes"][0]["new"] == "Jane Doe <jane@example.org>"
    assert kept.uuid == told.uuid


def test_one_transcript_with_another_result_is_other_news() -> None:
    text = "> tags 7 + a\nBug #7 [hello] t\nAdded tag(s) a.\n"

    assert event_of(text).uuid != event_of(text.replace("(s) a", "(s) b")).uuid


def test_a_transcript_that_is_far_too_long_is_read_in_no_time_and_cut() -> None:
    """One real transcript touched 484 bugs; a stranger's can have any length."""
    one = "> tags {0} + a\nBug #{0} [x] {1}\nAdded tag(s) a.\nChanged Bug title to '{2}'.\n"
    text = "".join(one.format(n, "t" * 200, "' from '" * 100) for n in range(1, 20_000))

    started = time.process_time()
    data = event_of(text).data
    took = time.process_time() - started

    assert data["truncated"] is True
    assert (len(data["bugs"]), len(data["changes"])) == (100, 50)
    assert data["bugs_total"] > 484
    assert len(canonical(data)) < MAX_EVENT_BYTES
    # A guard against quadratic time, not a measure of speed.
    assert took < 30


def test_a_range_of_clones_cannot_be_made_to_count_for_ever() -> None:
    data = event_of("> clone 7 -1\nBug #7 [x] t\nBug 7 cloned as bugs 1-999999999\n").data

    assert data["bugs_total"] < 200


@given(
    text=st.text(
        st.sampled_from("> Bug#1 [x]\n'`;.,-and from to Added tag(s) a Merged"), max_size=300
    )
)
def test_no_text_upsets_the_reading(text: str) -> None:
    data = event_of(text).data

    assert data["bugs_total"] >= len(data["bugs"])
