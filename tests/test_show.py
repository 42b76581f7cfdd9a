"""Events in words: what a person reads, and what a stranger cannot make a terminal do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.sinks.show import LINE, backing, is_proved, safe, signature, summary

UPLOAD = {
    "source_name": "hello",
    "source_version": "2.10-3",
    "suite": "landing",
    "suites": ["landing"],
    "uploader_name": "Jane Doe",
    "upload_name": "hello_2.10-3_source",
}
BUILD = {"pkgname": "hello", "version": "2", "architecture": "armhf"}
BUG = {"bug": 123, "package": ["hello"], "title": "crashes", "actor_name": "Jane Doe"}


@pytest.mark.parametrize(
    ("name", "data", "lines"),
    [
        (
            "package-upload-accepted",
            UPLOAD | {"closes": [1, 2], "changes": "hello (2.10-3)\n .\n   * New.\n   * More."},
            ["hello 2.10-3 accepted into landing, by Jane Doe, closes #1, #2", "  New."],
        ),
        (
            "package-upload-accepted",
            UPLOAD | {"version": "2.10-3+b1", "is_binnmu": True},
            ["hello 2.10-3+b1 accepted into landing, binaries rebuilt, by Jane Doe"],
        ),
        (
            "event-confirmed",
            {
                "confirms": "50b3de81",
                "of": "x.bug-closed",
                "provenance": {
                    "signed_by": {"how": "openpgp", "status": "good", "fingerprint": "AB12"}
                },
            },
            [
                f"x.bug-closed 50b3de81 came again, backed by {backing({})}",
                "  its upload is signed by a key in the source's keyrings (AB12)",
            ],
        ),
        (
            "package-build-depwait",
            BUILD | {"suite": "noble"},
            ["hello 2 waits for a dependency on armhf for noble"],
        ),
        (
            # As Laniakea says that something is in NEW.
            "package-upload-accepted",
            {"upload_name": "hello_1", "suite": "landing", "is_new": True},
            ["hello_1 waits in NEW into landing"],
        ),
        (
            "package-upload-held",
            UPLOAD | {"policy_queue": "stable-new", "suite": "stable"},
            ["hello 2.10-3 waits in stable-new for stable, by Jane Doe"],
        ),
        (
            "package-upload-queued-new",
            UPLOAD,
            ["hello 2.10-3 waits in NEW for landing, by Jane Doe"],
        ),
        (
            "package-upload-rejected",
            {"upload_name": "hello_1", "reason": "\n\nIt is bad.\nVery.", "automatic": True},
            ["hello_1 rejected automatically", "  It is bad."],
        ),
        (
            "package-upload-rejected",
            {"upload_name": "hello_1", "reason": "no", "automatic": False},
            ["hello_1 rejected by hand", "  no"],
        ),
        (
            "bug-reported",
            BUG | {"severity": "serious", "tags": ["patch"]},
            ["bug #123 in hello reported, by Jane Doe (serious, patch)", "  crashes"],
        ),
        (
            "bug-commented",
            BUG | {"has_patch": True},
            ["bug #123 in hello commented on, by Jane Doe (with a patch)", "  crashes"],
        ),
        (
            "bug-closed",
            BUG | {"via": "upload", "fixed_source": "hello", "fixed_version": "2.10-4"},
            ["bug #123 in hello closed by the upload of hello 2.10-4, by Jane Doe", "  crashes"],
        ),
        (
            "bug-closed",
            BUG | {"via": "removal"},
            ["bug #123 in hello closed: package removed, by Jane Doe", "  crashes"],
        ),
        (
            "bug-closed",
            {"bug": 1, "via": "mail", "fixed_version": "2", "package": list("abcdefg")},
            ["bug #1 in a, b, c, d, e and 2 more closed, fixed in 2"],
        ),
        (
            "bug-closed",
            {"bug": 1, "via": "control", "done_by": "John Roe"},
            ["bug #1 closed by a command, by John Roe"],
        ),
        (
            "bug-forwarded",
            BUG | {"forwarded_to": "https://git.example.net/7"},
            ["bug #123 in hello forwarded to https://git.example.net/7, by Jane Doe", "  crashes"],
        ),
        (
            "bug-submitter-changed",
            {"bug": 1, "new_submitter": "Jane Doe"},
            ["bug #1 has a new submitter, Jane Doe"],
        ),
        (
            "bugs-changed",
            {
                "bugs": [1, 2, 3, 4, 5, 6],
                "bugs_total": 9,
                "errors": 2,
                "actor_name": "Jane Doe",
                "changes": [
                    {"bug": 1, "action": "severity", "ok": True, "old": "a", "new": "b"},
                    {"bug": 2, "action": "tags-added", "ok": False, "new": "patch"},
                    {"bug": 3, "action": "closed", "ok": True},
                ],
            },
            [
                "bugs #1, #2, #3, #4, #5 and 4 more changed, by Jane Doe (2 commands failed)",
                "  #1 severity: a -> b",
                "  #2 tags added: patch (failed), and 1 more",
            ],
        ),
        (
            "package-migrated",
            {"source_name": "hello", "suite": "testing", "version_new": "2", "version_old": "1"},
            ["hello 2 migrated to testing, after 1"],
        ),
        (
            "package-migrated",
            {"source_name": "hello", "suite": "testing", "version_new": "2", "version_old": "-"},
            ["hello 2 migrated to testing"],
        ),
        (
            "package-migrated-away",
            {
                "source_name": "hello",
                "suite": "testing",
                "version_new": "-",
                "version_old": "1",
                "hint": "remove hello/1",
            },
            ["hello 1 removed from testing", "  remove hello/1"],
        ),
        (
            "migration-summary",
            {"what": "removed", "suite": "testing", "count": 300, "packages": ["a", "b"]},
            ["300 removed from testing: a, b and 298 more"],
        ),
        (
            "security-advisory-published",
            {
                "advisory": "DSA-9000-1",
                "title": "hello security update",
                "source_names": ["hello", "goodbye"],
                "fixed_versions": {"bookworm": "2", "sid": "3"},
                "cves": ["CVE-2024-90001"],
            },
            [
                "DSA-9000-1: hello, goodbye fixed in bookworm 2, sid 3 (CVE-2024-90001)",
                "  hello security update",
            ],
        ),
        (
            "package-build-failed",
            BUILD | {"suite": "noble", "state": "MANUALDEPWAIT", "log_url": "https://x.example/1"},
            ["hello 2 failed to build on armhf for noble (MANUALDEPWAIT)", "  https://x.example/1"],
        ),
        ("package-build-success", BUILD, ["hello 2 built on armhf"]),
        (
            "recipe-build-finished",
            {"recipe": "team/daily", "suite": "noble", "state": "FULLYBUILT", "success": True},
            ["recipe team/daily built for noble (FULLYBUILT)"],
        ),
        (
            "package-autoremoval-scheduled",
            {
                "source_name": "hello",
                "source_version": "2",
                "suite": "testing",
                "date": "2024-10-20",
                "bugs": [1, 2],
            },
            ["hello 2 leaves testing on 2024-10-20, for #1, #2"],
        ),
        (
            "bug-changed",
            BUG | {"changes": [{"action": "status", "new": "Confirmed"}, {"action": "cc"}]},
            ["bug #123 in hello changed, by Jane Doe (status Confirmed, cc)", "  crashes"],
        ),
        (
            "issue-commented",
            {"project": "team/hello", "iid": 7, "title": "crashes", "actor_name": "Jane Doe"},
            ["issue team/hello#7 commented on, by Jane Doe", "  crashes"],
        ),
        (
            "merge-request-merged",
            {"project": "team/hello", "iid": 8},
            ["merge request team/hello!8 merged"],
        ),
        (
            "task-changed",
            {"task": 77, "verb": "Raised Priority", "title": "crashes"},
            ["task T77 changed (raised priority)", "  crashes"],
        ),
        (
            "package-upload-received",
            {"upload_name": "hello_1", "success": True},
            ["hello_1 reached the upload queue; the archive has not decided yet"],
        ),
        (
            "package-upload-received",
            {"upload_name": "hello_1", "success": False, "reason": "\nIt is not signed.\nAt all."},
            ["hello_1 failed in the upload queue", "  It is not signed."],
        ),
        (
            "package-upload-commented",
            {"upload_name": "hello_1", "reason": "Why?"},
            ["the archive's team asks about hello_1", "  Why?"],
        ),
        (
            "package-removed",
            {
                "suites": ["unstable"],
                "removals": [{"name": "hello", "version": "1"}, {"name": "world", "version": "2"}],
                "reason": "ROM; dead\nupstream",
                "bug": 7,
            },
            ["hello 1, world 2 removed from unstable, for bug #7", "  ROM; dead"],
        ),
        (
            "package-override-changed",
            {"source_name": "hello", "bug": 7, "summary": "Changed priority"},
            ["what the archive says of hello changed, for bug #7", "  Changed priority"],
        ),
        (
            "upload-permission-changed",
            {"fingerprint": "F", "uid": "Jane", "allowed": ["a"], "denied": ["b", "c"]},
            ["Jane may upload a, may no longer upload b, c"],
        ),
        (
            "upload-permission-changed",
            {"fingerprint": "F", "allowed": [], "denied": [], "removed": 3},
            ["F lost 3 permissions to upload"],
        ),
        ("transition-completed", {"names": ["a"]}, ["transition completed: a"]),
        ("transition-completed", {"names": ["a", "b"]}, ["transitions completed: a, b"]),
        (
            "frobnicated",
            {"a": 1, "b": ["x", "y"], "c": True, "d": False, "e": {}, "archive": "Debian"},
            ["frobnicated: a=1, b=x, y, c=yes"],
        ),
        ("frobnicated", {}, ["frobnicated: (no details)"]),
        # What should be there is not.
        ("bug-closed", {"title": "x"}, ["bug-closed: title=x"]),
    ],
)
def test_an_event_in_words(name: str, data: dict[str, Any], lines: list[str]) -> None:
    assert summary(f"_lk.mailbridge.{name}", data) == lines


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = [
    *UPLOAD,
    *BUG,
    *BUILD,
    "advisory",
    "count",
    "fixed_versions",
    "iid",
    "version_new",
    "bugs",
    "bugs_total",
    "closes",
    "changes",
    "is_new",
    "automatic",
    "reason",
    "removals",
    "removed",
    "allowed",
    "uid",
    "provenance",
    "via",
]


@given(
    name=st.sampled_from(
        [
            *("package-upload-accepted", "package-upload-rejected", "bug-closed", "bugs-changed"),
            *("package-migrated", "migration-summary", "security-advisory-published"),
            *("package-build-failed", "bug-changed", "issue-closed", "task-changed"),
            *("package-removed", "package-upload-received", "upload-permission-changed"),
        ]
    ),
    data=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), ANY_JSON),
)
def test_whatever_a_stranger_emits_a_few_printable_lines_come_of_it(
    name: str, data: dict[str, Any]
) -> None:
    lines = summary(f"_lk.mailbridge.{name}", data)

    assert 1 <= len(lines) <= 3
    assert all(line.isprintable() for line in lines)
    assert backing(data).isprintable()
    assert is_proved(data) in (True, False)


def test_nobody_s_text_fills_the_screen() -> None:
    lines = summary("x.bug-closed", {"bug": 1, "title": "a" * 9999, "package": ["b" * 9999] * 99})

    assert max(map(len, lines)) <= LINE + 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Änne 你好 👍", "Änne 你好 👍"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\u202eb\u2066c\u200b", r"a\u202eb\u2066c\u200b"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("a\udcffb", r"a\udcffb"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
    ],
)
def test_what_could_command_a_terminal_is_shown_instead(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_what_backs_an_event_is_told_in_words() -> None:
    def told(how: str, who: str | None = None) -> str:
        return backing({"provenance": {"sent_by": {"how": how} | ({"who": who} if who else {})}})

    assert told("none") == "nothing: anyone who can mail this mailbox could have sent it"
    assert told("dkim", "archive.example.org") == "the DKIM signature of 'archive.example.org'"
    assert told("magic") == "a way we do not know: 'magic'"
    assert backing({}) == "nothing that it tells"
    assert not is_proved({"provenance": {"sent_by": {"how": "none"}}})
    assert not is_proved({"provenance": {"sent_by": {"how": "magic"}}})
    assert is_proved({"provenance": {"sent_by": {"how": "channel", "who": "x"}}})


def test_what_is_known_of_the_signature_inside_is_said_in_words() -> None:
    def told(status: str, **more: str) -> str | None:
        return signature({"provenance": {"signed_by": {"how": "openpgp", "status": status} | more}})

    assert told("good", fingerprint="ABCD") == "signed by a key in the source's keyrings (ABCD)"
    assert told("unknown-key") == "signed by a key in none of the source's keyrings"
    assert told("\x1b[1m", fingerprint="\x1b[1m") == (
        r"signed, with a result we do not know (\x1b[1m)"
    )
    assert signature({"provenance": {"signed_by": {"how": "none", "status": "none"}}}) is None
    assert signature({"provenance": {"signed_by": "x"}}) is None
    assert signature({}) is None
