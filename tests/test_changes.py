"""The .changes inside a mail: what counts, what is refused, and the uploads that are one."""

from __future__ import annotations

from typing import Any

import pytest

from mailbridge import dak
from mailbridge.armor import plain
from mailbridge.changes import (
    MAX_FILES,
    bugs_closed,
    facts,
    identity,
    read_changes,
    upload_stem,
)
from mailbridge.errors import MalformedMail
from mailbridge.mail import read_mail
from mailbridge.payloads import Clip

FIELDS = {
    "Format": "1.8",
    "Source": "hello",
    "Architecture": "source",
    "Version": "1:2.10-3",
    "Distribution": "unstable",
    "Maintainer": "Jane Doe <jane@example.org>",
    "Changes": "\n hello (1:2.10-3) unstable; urgency=low\n .\n   * New.",
    "Files": "\n 0a 10 devel optional hello_2.10-3.dsc",
}


def text(**fields: str | None) -> str:
    told = FIELDS | {name.replace("_", "-"): value for name, value in fields.items()}
    return "".join(f"{name}: {value}\n" for name, value in told.items() if value is not None)


def signed(paragraph: str) -> str:
    return (
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{paragraph}\n"
        "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
    )


def told(paragraph: str, **more: Any) -> dict[str, Any]:
    found = read_changes(paragraph)
    assert found is not None
    return facts(found, Clip(), **{"pool_url": None, "archive": "Debian"} | more)


def test_a_signed_text_and_one_that_is_not_say_the_same_and_are_told_apart() -> None:
    bare, armored = read_changes(text()), read_changes(signed(text()))

    assert bare is not None
    assert armored is not None
    assert bare.signed is None
    assert armored.signed == plain(text().split("\n"))
    assert bare.fields == armored.fields


def test_a_text_without_a_changes_file_has_none() -> None:
    assert read_changes("Hello,\n\n> Format: 1.8\n> Source: hello\n") is None
    assert read_changes("> -----BEGIN PGP SIGNED MESSAGE-----\n") is None


@pytest.mark.parametrize(
    "around",
    [
        "Source: evil\nVersion: 9\n\n{}",
        "{}\nSource: evil\nVersion: 9\n",
        "-----BEGIN PGP SIGNED MESSAGE-----\n\nSource: evil\nVersion: 9\n\n{}",
        "{}" + signed("Source: evil\nVersion: 9\n"),
        "> -----BEGIN PGP SIGNED MESSAGE-----\n> Source: evil\n{}",
    ],
)
def test_nothing_outside_the_armor_counts(around: str) -> None:
    found = read_changes(around.replace("{}", signed(text())))

    assert found is not None
    assert (found.source, found.version) == ("hello", "1:2.10-3")


@pytest.mark.parametrize(
    "inside",
    [
        text() + "Source: evil\nversion: 9\n",
        text() + "\nSource: evil\nVersion: 9\n",
        text() + " \t\nSource: evil\nVersion: 9\n",
        text() + "- -----BEGIN PGP SIGNED MESSAGE-----\n- Source: evil\n",
        text().replace("* New.", "* New.\x0bSource: evil\x85Source: evil\u2028Source: evil"),
        text().replace("* New.", "* New.\rSource: evil\r"),
    ],
)
def test_of_doubled_fields_the_first_counts_and_of_paragraphs_too(inside: str) -> None:
    found = read_changes(signed(inside))

    assert found is not None
    assert (found.source, found.version) == ("hello", "1:2.10-3")


def test_dashes_are_unescaped_once() -> None:
    found = read_changes(signed("- - a line that is no field\n- " + text()))

    assert found is not None
    assert found.field("Format") == "1.8"


@pytest.mark.parametrize("end", ["-----BEGIN PGP SIGNATURE-----", "AAAA", "-----END PGP SIGN"])
def test_a_text_cut_off_anywhere_after_its_beginning_is_malformed(end: str) -> None:
    whole = signed(text())

    with pytest.raises(MalformedMail, match="cut off"):
        read_changes(whole[: whole.index(end) + 5])


def test_a_binnmu_has_a_version_of_its_own() -> None:
    paragraph = text(Source="hello (1:2.10-3)", Version="1:2.10-3+b1", Architecture="amd64")

    found = told(paragraph)

    assert found["source_name"] == "hello"
    assert (found["source_version"], found["version"]) == ("1:2.10-3", "1:2.10-3+b1")
    assert (found["is_binnmu"], found["is_source_upload"]) == (True, False)


def test_the_changelog_keeps_its_form_but_for_the_first_blank() -> None:
    assert told(text())["changes"] == "hello (1:2.10-3) unstable; urgency=low\n .\n   * New."


def test_who_uploaded_is_changed_by_and_in_old_uploads_the_maintainer() -> None:
    assert told(text())["uploader_name"] == "Jane Doe"
    assert told(text(Changed_By="J. R. Hacker, Jr. <jr@example.org>"))["uploader_name"] == (
        "J. R. Hacker, Jr."
    )


def test_small_fields_are_read_as_dak_reads_them() -> None:
    found = told(
        text(
            Urgency="LOW (HIGH for users of foo)",
            Closes="12 #13, 12 x 99999999999",
            Launchpad_Bugs_Fixed="7",
            Binary="hello, hello-doc\n hello-dbg",
            Distribution="stable unstable",
        )
    )

    assert found["urgency"] == "low"
    assert (found["closes"], found["launchpad_bugs"]) == ([12, 13], [7])
    assert found["binaries"] == ["hello", "hello-doc", "hello-dbg"]
    assert found["distribution"] == "stable unstable"


def test_what_nobody_told_is_left_out() -> None:
    found = told(text())

    assert found["checksums"] is None
    assert found["launchpad_bugs"] is None
    assert found["version"] is None
    assert found["binaries"] == []


def test_checksums_are_told_where_sha256_is() -> None:
    found = told(
        text(
            Files="\n 0a 10 devel optional a.dsc\n 0b 20 devel optional b.tar.gz",
            Checksums_Sha256="\n AB 10 a.dsc",
        )
    )

    assert [(sum_.name, sum_.size, sum_.sha256) for sum_ in found["checksums"]] == [
        ("a.dsc", 10, "ab")
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("0a 10 utils optional a.dsc", "https://example.org/pool/main/h/hello/a.dsc"),
        ("0a 10 contrib/utils optional a.dsc", "https://example.org/pool/contrib/h/hello/a.dsc"),
        ("0a 10 a.dsc", None),
        ("0a 10 utils optional a.deb", None),
    ],
)
def test_the_dsc_lies_where_the_pool_is(row: str, expected: str | None) -> None:
    found = told(text(Files=f"\n\t{row}"), pool_url="https://example.org/pool/")

    assert found["dsc_url"] == expected


def test_a_library_lies_in_a_pool_directory_of_four_letters() -> None:
    found = told(text(Source="libhello"), pool_url="https://example.org/pool")

    assert found["dsc_url"] == "https://example.org/pool/main/libh/libhello/hello_2.10-3.dsc"


def test_columns_as_launchpad_wrote_them_are_read() -> None:
    found = told(text(Files="\n 0a 1 a.dsc\n 0b 2 universe/utils, lol optional b.deb"))

    assert found["files"] == ["a.dsc", "b.deb"]


@pytest.mark.parametrize(
    "fields",
    [
        {"Source": None},
        {"Source": "a b"},
        {"Version": None},
        {"Version": "1 2"},
        {"Files": "\n 0a 10 devel optional ../a.dsc"},
        {"Files": "\n 0a 10 devel optional .a.dsc"},
        {"Files": "\n 0a 10 devel optional a\u00e9.dsc"},
        {"Files": "\n 0a -1 devel optional a.dsc"},
        {"Files": "\n 0a \u0661 devel optional a.dsc"},
        {"Files": "\n 0a 99999999999999999 devel optional a.dsc"},
        {"Files": "\n xyz 1 devel optional a.dsc"},
        {"Files": "\n a.dsc"},
        {"Checksums_Sha256": "\n 0a 10 devel a.dsc"},
    ],
    ids=str,
)
def test_what_no_archive_would_take_is_malformed(fields: dict[str, str | None]) -> None:
    with pytest.raises(MalformedMail):
        read_changes(signed(text(**fields)))


def test_more_files_than_any_upload_has_are_refused_before_they_cost() -> None:
    rows = "".join(f"\n 0a 1 x optional a{n}.deb" for n in range(MAX_FILES + 1))

    with pytest.raises(MalformedMail, match="more than 10000"):
        read_changes(text(Files=rows))


# -- identity --------------------------------------------------------------------------------------


def identified(paragraph: str, suites: list[str], queues: list[str] | None = None) -> object:
    found = read_changes(paragraph)
    assert found is not None
    return identity(found, suites=suites, policy_suites=queues or [])


def test_order_and_what_stands_around_an_upload_do_not_make_another_of_it() -> None:
    first = text(Architecture="source all", Files="\n 0a 1 x y a.dsc\n 0b 2 x y b.deb")
    second = text(Architecture="all source", Files="\n 0b 2 - - b.deb\n 0a 1 - - a.dsc")

    assert identified(first, ["a", "b"]) == identified(signed(second), ["b", "a", "a"])


@pytest.mark.parametrize(
    "other",
    [
        text(Version="1:2.10-4"),
        text(Source="hello2"),
        text(Architecture="source amd64"),
        text(Files="\n 0b 10 devel optional hello_2.10-3.dsc"),
        text(Files="\n 0a 11 devel optional hello_2.10-3.dsc"),
        text(Checksums_Sha256="\n ab 10 hello_2.10-3.dsc"),
    ],
)
def test_what_a_consumer_acts_on_makes_another_upload(other: str) -> None:
    assert identified(other, ["unstable"]) != identified(text(), ["unstable"])


def test_where_it_went_makes_another_upload() -> None:
    known = [
        identified(text(), ["unstable"]),
        identified(text(), ["testing"]),
        identified(text(), ["unstable"], ["new"]),
    ]

    assert all(known.count(one) == 1 for one in known)


def test_files_beyond_what_an_event_shows_still_tell_two_uploads_apart() -> None:
    def upload(last: int) -> object:
        rows = "".join(f"\n 0a 1 x optional a{n:04}.deb" for n in [*range(500), last])
        return identified(text(Files=rows), ["unstable"])

    assert upload(8000) != upload(9000)


# -- small parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a_1.dsc", "a_1_amd64.buildinfo"], "a_1_amd64"),
        (["a_1.dsc"], None),
        (["a_1_amd64.buildinfo", "a_1_i386.buildinfo"], None),
    ],
)
def test_the_one_buildinfo_names_the_upload(names: list[str], expected: str | None) -> None:
    assert upload_stem(names) == expected


@pytest.mark.parametrize(
    ("changelog", "expected"),
    [
        ("(Closes: #1, #2)", [1, 2]),
        ("closes:1", [1]),
        ("Closes: Bug#1, bug 2,\n     #3", [1, 2, 3]),
        ("closes 1, fixes #2", []),
        ("Closes: #1 (really), #2", [1]),
    ],
)
def test_bugs_are_found_in_a_changelog_as_dpkg_finds_them(
    changelog: str, expected: list[int]
) -> None:
    assert bugs_closed(changelog) == expected


@pytest.mark.parametrize(
    ("header", "suites", "queues", "embargoed"),
    [
        ("unstable", ("unstable",), (), False),
        ("bookworm-backports, bookworm-backports", ("bookworm-backports",), (), False),
        ("a->b, c, c", ("c",), ("b",), False),
        ("a->b", (), ("b",), False),
        ("(none)", (), (), False),
        ("", (), (), False),
        ("stable-security->embargoed", (), ("embargoed",), True),
        ("unstable, stable-security->embargoed", ("unstable",), ("embargoed",), True),
    ],
)
def test_suites_and_queues_are_told_apart(
    header: str, suites: tuple[str, ...], queues: tuple[str, ...], *, embargoed: bool
) -> None:
    found = dak.parse_suites(header)

    assert (found.suites, found.queues, found.is_embargoed) == (suites, queues, embargoed)


def test_what_dak_calls_policy_is_in_no_suite_even_where_no_arrow_says_so() -> None:
    mail = read_mail(
        b"X-DAK: dak process-upload\nSubject: hello_1_source.changes ACCEPTED into stable-new\n"
        b"Debian-Suite: stable-new\nDebian-Archive-Action: policy\n\nx\n"
    )
    notice = dak.notice(mail)
    assert notice is not None

    found = dak.suites(mail, notice)

    assert found is not None
    assert (found.suites, found.queues) == ((), ("stable-new",))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ("Subject: Bug#1: fixed in hello 1\nDebian-Archive-Action: accept", "close"),
        ("Subject: Bug#1: marked as done (x)\nDebian-Archive-Action: accept", None),
        ("Subject: Re: Accepted hello 1 (source)\nDebian-Archive-Action: accept", None),
        ("Subject: Accepted hello 1 (source)\nDebian-Archive-Action: reject", "reject"),
        ("Subject: Example: hello was accepted\nDebian-Archive-Action: accept", "accept"),
        ("Subject: [l 12] hello_1.changes REJECTED", "reject"),
        ("Subject: something else", None),
        ("X-DAK: DAK\nSubject:", "queued"),
    ],
)
def test_which_of_daks_mails_one_is_the_subject_says_and_then_the_action(
    headers: str, expected: str | None
) -> None:
    found = dak.notice(read_mail(f"{headers}\n\nx\n".encode()))

    assert (found.what if found else None) == expected
