"""
What `mailbridge explain` must say of every edge case of recognising mail (numbers: edge_cases.py).

A row is what a list admin reads: the edge cases that a mail shows, the mail, what becomes of it,
and words that must stand there.  Words behind a `!` must not.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class Row(NamedTuple):
    """One mail of fixtures/, and what is said of it."""

    edges: tuple[int, ...]
    case: str
    outcome: Literal["events", "off", "ignored", "quarantined"]
    words: tuple[str, ...]


ACCEPTED: Final = "_lk.mailbridge.package-upload-accepted: "
HELLO: Final = (
    f"{ACCEPTED}hello 1:2.12-1 accepted into unstable, by Žofia Nováková, closes #1000001,",
    "recognised as dak-accepted (family dak)",
    "speaks of Debian: https://tracker.debian.org/pkg/hello",
)
GUESSED: Final = "the mail does not tell where it went; its suite is what the uploader asked for"
COMMENT: Final = "bug #1000001 in hello commented on, by Roe, John (build team)"
KEPT: Final = "a bridge keeps it: 'mailbridge quarantine list'"
CUT: Final = "the mail holds more than an event may: what is too long was cut"
NO_DATE: Final = "its Date is missing, or cannot be: the event says only when it arrived"

EXPLAINED: Final = (
    # -- recognition
    Row((1,), "dak_accepted/headers-that-begin-on-the-next-line", "events", HELLO),
    Row((2,), "dak_accepted/announced-by-the-package-tracker", "events", HELLO),
    Row(
        (3,), "debbugs_report/reportbug", "events", ("bug #1000001 in hello reported, by Jane Doe",)
    ),
    Row(
        (4,),
        "_ignored/what-debbugs-made-of-a-dak-mail",
        "ignored",
        ("(no-kind): mail of dak that nothing is made of", "Bug#1000001: marked as done"),
    ),
    Row(
        (5,),
        "_ignored/a-person-answers",
        "ignored",
        ("(not-ours)", "what people answer, quote or pass on does not count"),
    ),
    Row(
        (5,), "_ignored/a-person-passes-it-on", "ignored", ("(not-ours)", "pass on does not count")
    ),
    Row(
        (6,),
        "debbugs_followup/of-another-bug-inside",
        "off",
        ("bug #1000006 in hello commented on", "!999999", "!closed"),
    ),
    Row(
        (7,),
        "_ignored/bounce-with-the-mail-inside",
        "ignored",
        ("(bounce)", "delivery report; the mail that it quotes does not count"),
    ),
    Row(
        (8, 63),
        "debbugs_closed/by-an-upload",
        "events",
        (
            "bug #1000001 in hello closed by the upload of hello 1:2.10-4",
            "!package-upload-accepted",
        ),
    ),
    Row((9,), "_ignored/vacation", "ignored", ("(autoreply): somebody's automatic reply",)),
    Row((9,), "_ignored/out-of-office", "ignored", ("(autoreply): somebody's automatic reply",)),
    Row((10,), "dak_accepted/accepted-told-to-the-uploader", "events", HELLO),
    Row(
        (11,),
        "_ignored/moderation-request",
        "ignored",
        ("(list-admin)", "a mail that it holds is no news yet"),
    ),
    *(
        Row(
            (12,),
            f"_ignored/digest-in-{form}",
            "ignored",
            ("(digest)", "subscribe this address to individual mails instead"),
        )
        for form in ("mime", "plain-text")
    ),
    Row((13,), "dak_accepted/announced-in-a-dmarc-wrap", "events", HELLO),
    Row(
        (14, 15, 31), "dak_accepted/announced-in-a-mailman-wrap", "events", (*HELLO, "!by Archive")
    ),
    Row((15,), "dak_accepted/announced-with-two-prefixes", "events", HELLO),
    Row((15,), "debbugs_followup/list-prefix-before-re", "off", (COMMENT,)),
    Row((15,), "debbugs_followup/list-prefixes-after-re", "off", (COMMENT,)),
    Row(
        (15, 47, 48),
        "laniakea_accepted/announced",
        "events",
        (
            f"{ACCEPTED}gnome-hello 46.1-0example1 accepted into landing",
            "speaks of ExampleOS",
            "!_lk.archive",
        ),
    ),
    Row((3, 16), "debbugs_followup/on-a-list-that-strips-and-loops", "off", (COMMENT,)),
    Row((20,), "_ignored/direct-copy-of-a-followup", "ignored", ("(not-ours)",)),
    Row(
        (21,),
        "_ignored/debbugs-unknown-word",
        "ignored",
        (
            "(no-kind): mail of debbugs that nothing is made of",
            "it says 'X-Debian-PR-Message: frobnicate 1000001'",
        ),
    ),
    Row(
        (23,),
        "debbugs_report/gnu",
        "events",
        ("bug #70001 in hello reported", "speaks of GNU: https://debbugs.gnu.org/70001"),
    ),
    Row(
        (23,),
        "debbugs_report/devuan",
        "events",
        ("bug #801 in hello reported", "speaks of Devuan: https://bugs.devuan.org/"),
    ),
    # -- dak and .changes
    Row((24,), "dak_accepted/architectures-in-another-order", "events", HELLO),
    Row(
        (25,),
        "dak_accepted/rebuilt-without-its-source",
        "events",
        ("hello 1:2.12-1+b1 accepted into unstable, binaries rebuilt", "/pkg/hello"),
    ),
    Row((26, 29), "dak_accepted/announced", "events", HELLO),
    Row(
        (27,),
        "dak_accepted/into-one-suite-told-twice",
        "events",
        ("hello 1:2.12-1 accepted into bullseye-backports, by",),
    ),
    Row(
        (28,),
        "dak_accepted/into-a-suite-and-a-queue",
        "events",
        ("hello 1:2.12-1 accepted into proposed-updates, by",),
    ),
    Row(
        (28,),
        "dak_accepted/held-in-a-policy-queue",
        "off",
        ("hello 1:2.12-1 waits in stable-new for proposed-updates", "!accepted:"),
    ),
    Row((28,), "dak_accepted/into-no-suite", "events", ("hello 1:2.12-1 accepted, by",)),
    Row(
        (28,),
        "_ignored/embargoed",
        "ignored",
        ("(embargoed): a security upload under embargo: nobody may speak of it yet", "!2.12-1"),
    ),
    Row(
        (30, 36),
        "dak_accepted/announced-in-2008",
        "events",
        ("fcmp 0.14-1 accepted into unstable, by J. Random Hacker, Jr., closes #118000", GUESSED),
    ),
    Row((32,), "dak_accepted/announced-in-base64", "events", HELLO),
    Row(
        (33,),
        "dak_accepted/accepted-in-2002-in-two-charsets",
        "events",
        ('by José "Joe" Nobody', "Thanks to André for the résumé.", GUESSED, "!\\ud"),
    ),
    Row(
        (34,),
        "dak_accepted/installed-in-2001",
        "events",
        ("fcmp 0.14-1 accepted into unstable", GUESSED),
    ),
    Row(
        (35,), "dak_accepted/a-maintainer-in-comment-form", "events", ("by Jáne Doé, closes", "!=?")
    ),
    Row((37,), "dak_accepted/dashes-in-what-is-signed", "events", (*HELLO, "!evil")),
    Row(
        (37,),
        "security_advisory/today",
        "events",
        ("DSA-9000-1: hello fixed in bullseye 2.10-3+deb11u1, bookworm 1:2.12-1~deb12u1",),
    ),
    Row((38, 39, 40, 41), "dak_accepted/lies-around-the-armor", "events", (*HELLO, "!evil")),
    Row((41,), "dak_accepted/in-crlf", "events", HELLO),
    Row((41,), "dak_accepted/a-nul-and-no-newline-at-its-end", "events", HELLO),
    Row((42,), "dak_accepted/files-in-odd-columns", "events", HELLO),
    Row(
        (42,),
        "_refused/files-with-two-columns",
        "quarantined",
        ("(malformed): .changes: Files: a line that lacks columns: '1cc175b9", KEPT),
    ),
    Row(
        (42,),
        "_refused/a-path-for-a-file-name",
        "quarantined",
        ("no name that an archive takes for a file: '../../etc/hello_2.12-1.dsc'", KEPT),
    ),
    Row((43,), "dak_accepted/more-than-an-event-can-hold", "events", (*HELLO, CUT)),
    Row((44,), "dak_accepted/not-signed", "events", HELLO),
    Row(
        (44,),
        "launchpad_upload/announced",
        "events",
        ("hello 1:2.12-2ubuntu1 accepted into noble-proposed, by Jane Doe, closes #1000007",),
    ),
    *(
        Row(
            (46,),
            f"_refused/cut-off-in-its-{where}",
            "quarantined",
            (".changes: cut off: the signature around it does not end", KEPT),
        )
        for where in ("changes", "signature")
    ),
    Row((47,), "laniakea_new/suite-forgotten", "off", ("gnome-hello waits in NEW", "!for is")),
    Row(
        (47,),
        "laniakea_accepted/without-its-source",
        "events",
        ("gnome-hello_46.1-0example1_amd64 accepted into landing",),
    ),
    Row((49,), "dak_rejected/by-a-person", "off", ("hello rejected by hand", "!accepted")),
    Row(
        (50,),
        "dak_queued/several-without-a-subject",
        "off",
        (
            "hello_2.12-1_source reached the upload queue; the archive has not decided yet",
            "world_1-1_source reached the upload queue",
        ),
    ),
    Row(
        (50,),
        "dak_queued/tried-three-times",
        "off",
        ("hello_2.12-2_amd64 failed in the upload queue", "!reached"),
    ),
    Row(
        (51,),
        "dak_removed/sources-and-binaries",
        "events",
        (
            "hello 2.10-3, hello-extra 0.1-1, libhello-dev 2.10-3+b1 removed from unstable, for",
            "for bug #1000005",
            "ROM; dead upstream",
        ),
    ),
    Row(
        (51,),
        "_ignored/bugs-of-a-removed-package",
        "ignored",
        ("(related-bugs)", "the removal has a mail of its own"),
    ),
    # -- debbugs
    Row((52,), "debbugs_report/no-subject", "events", ("bug #1000021 in hello", "(no subject)")),
    Row((52, 65, 66), "debbugs_report/empty-title", "events", ("bug #1000005 reported, by Jane",)),
    Row(
        (52, 53, 65, 75),
        "debbugs_report/titles-that-look-like-something",
        "events",
        (
            "bug #1000004 in hello reported",
            "Bug#999: Bug#1000004: {Done: x} [y] 'to' from 'from' <script> & \\u202e [31m",
        ),
    ),
    Row((53,), "debbugs_report/a-title-without-end", "events", ("bug #1000022 in hello", CUT)),
    Row(
        (54,),
        "debbugs_transcript/of-more-bugs-than-an-event-holds",
        "events",
        ("#1000104 and 135 more changed, by John Roe", CUT),
    ),
    Row(
        (22, 55),
        "debbugs_transcript/of-a-bug-done-by-somebody-with-commas",
        "events",
        ("bug #1000002 changed", "#1000002 reassigned: hello, hello-doc -> src:world"),
    ),
    Row(
        (56,),
        "debbugs_transcript/of-clones-and-a-bug-merged",
        "events",
        (
            "bugs #1000005, #1000010, #1000011, #1000012, #1000014 and 1 more changed",
            "#1000005 cloned: 1000010-1000012, 1000014",
            "#1000011 severity: normal -> minor, and 1 more",
        ),
    ),
    Row(
        (57,),
        "debbugs_transcript/of-three-changes-in-one-line",
        "events",
        ("#1000002 found added: a/2", "#1000002 fixed removed: a/1, and 1 more"),
    ),
    Row(
        (58,),
        "debbugs_transcript/year-2008",
        "events",
        ("#100001 tags added: pending", "#100002 severity: normal -> serious"),
    ),
    Row(
        (22, 59),
        "debbugs_transcript/of-nothing-understood",
        "events",
        ("no bug changed, by John Roe (1 command failed)",),
    ),
    Row(
        (60,),
        "debbugs_transcript/of-quotes-that-look-like-results",
        "events",
        (
            "bug #1000007 changed, by John Roe (3 commands failed)",
            "#1000007 severity: normal -> minor",
            "!grave",
            "!1000009",
        ),
    ),
    Row(
        (61,),
        "debbugs_transcript/of-a-title-in-a-transcript-s-own-words",
        "events",
        ("#1000006 title: hello: Severity set to 'grave' from 'minor' -> x' from 'y'.",),
    ),
    Row(
        (62, 63),
        "debbugs_closed/by-a-mail-with-a-version",
        "events",
        ("bug #1000010 in hello closed, fixed in hello 2.10-5, by John Roe",),
    ),
    Row(
        (62,),
        "debbugs_closed/again-in-another-version",
        "events",
        ("bug #1000010 in hello closed, fixed in 2.11-1, by John Roe",),
    ),
    Row(
        (63,),
        "debbugs_closed/by-control",
        "events",
        ("bug #1000011 in hello closed by a command, by John Roe",),
    ),
    Row(
        (63,),
        "debbugs_closed/by-the-removal-of-its-package",
        "events",
        ("closed: package removed",),
    ),
    Row(
        (64,),
        "debbugs_report/pseudo-headers-in-odd-forms",
        "events",
        ("bug #1000023 in src:hello, bar reported, by Jane Doe (important, patch, upstream)",),
    ),
    Row(
        (64,), "debbugs_report/signed-text", "events", ("bug #1000003 in ftp.debian.org reported",)
    ),
    Row(
        (64, 66),
        "debbugs_report/source-package",
        "events",
        ("bug #1000002 in src:hello, hello-doc reported, by John Roe (grave)", "!wishlist"),
    ),
    Row((65,), "debbugs_followup/spam", "off", ("bug #100006 in hello commented on, by offer",)),
    Row(
        (67,),
        "_ignored/launchpad-bug-that-is-private",
        "ignored",
        ("(private): a bug that is private, or does not say that it is public", "!2000001"),
    ),
    Row(
        (67,),
        "_ignored/gitlab-issue-that-is-confidential",
        "ignored",
        ("(private): confidential: an issue, or a note for members alone",),
    ),
    Row(
        (67,),
        "_ignored/bugzilla-bug-that-is-secret",
        "ignored",
        ("(private): a bug that only some may see",),
    ),
    Row(
        (67,),
        "_ignored/phabricator-task-that-must-be-encrypted",
        "ignored",
        ("(private): a task of which Phabricator sends nothing in the clear",),
    ),
    # -- system
    Row((73,), "laniakea_rejected/dated-1970", "off", ("gnome-hello rejected",)),
    Row((73,), "laniakea_new/without-a-date", "off", ("gnome-hello waits in NEW",)),
    Row((73,), "debbugs_followup/dated-without-a-zone", "off", (COMMENT,)),
    Row(
        (74,),
        "debbugs_report/letters-that-are-none",
        "events",
        ("bug #1000024 in hello reported, by Jáne í Doe", "hello: \\u202e [31m greets", "!\\ud"),
    ),
)
