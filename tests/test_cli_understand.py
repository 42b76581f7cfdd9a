"""explain, kinds, schema and sources: as a person and as a program sees them."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mailbridge import kinds
from mailbridge.bridge import own
from mailbridge.cli import main

FIXTURES = Path(__file__).parent.parent / "fixtures"
REPORT = FIXTURES / "debbugs_report" / "reportbug" / "mail.eml"
FOLLOWUP = FIXTURES / "debbugs_followup" / "to-the-bug" / "mail.eml"
CLOSED = FIXTURES / "debbugs_closed" / "by-an-upload" / "mail.eml"
REFUSED = FIXTURES / "_refused" / "debbugs-report-without-number" / "mail.eml"


class _Console:
    """What a command printed, and how it ended."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, list[str], str]:
        status = main(words)
        out, err = self._capsys.readouterr()
        return status, out.splitlines(), err


@pytest.fixture
def mailbridge(capsys: pytest.CaptureFixture[str]) -> _Console:
    return _Console(capsys)


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    path = tmp_path / "mailbridge.toml"
    path.write_text(f"""
        [[source]]
        name = "uploads"
        maildir = "{tmp_path}/uploads"
        kinds = ["dak"]

        [[source]]
        name = "bugs"
        lists = ["debian-bugs-dist.lists.example.org"]
        emit = ["bug-commented"]
        require = "channel"
        expect_every = "24h"
    """)
    return path


# -- explain, for people ---------------------------------------------------------------------------


def test_explain_tells_what_a_mail_becomes_what_knew_it_and_what_backs_it(
    mailbridge: _Console,
) -> None:
    status, lines, err = mailbridge("explain", str(CLOSED))

    assert (status, err) == (0, "")
    assert lines == [
        str(CLOSED),
        (
            "  _lk.mailbridge.bug-closed: bug #1000001 in hello closed by the upload of"
            " hello 1:2.10-4, by Änne Example"
        ),
        "    hello: crashes when greeting nobody",
        "  uuid 7d53e49a-1ed2-5903-b8a3-6dea7ab21fec",
        "  speaks of Debian: https://bugs.debian.org/1000001",
        "  recognised as debbugs-closed (family debbugs); known from: real mails",
        "  backed by nothing: anyone who can mail this mailbox could have sent it",
    ]


def test_explain_tells_how_to_get_what_is_switched_off(mailbridge: _Console) -> None:
    status, lines, _ = mailbridge("explain", str(FOLLOWUP))

    assert status == 0
    assert lines[1:] == [
        "  nothing comes of it (switched-off): understood, switched off",
        (
            "  it would be _lk.mailbridge.bug-commented: bug #1000001 in hello commented on,"
            " by Roe, John (build team)"
        ),
        "  recognised as debbugs-followup (family debbugs); known from: real mails",
        '  to get it: emit = ["bug-commented"] in its [[source]]; to see it: --all',
    ]


def test_explain_shows_it_as_if_it_were_on(mailbridge: _Console) -> None:
    _, lines, _ = mailbridge("explain", "--all", str(FOLLOWUP))

    assert lines[1].startswith("  _lk.mailbridge.bug-commented: ")


def test_explain_tells_why_nothing_comes_of_a_mail(mailbridge: _Console, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("From: a@example.org\nSubject: Re: Accepted hello 1\n\nNice.\n")

    status, lines, _ = mailbridge("explain", str(plain))

    assert (status, len(lines)) == (0, 2)
    assert lines[1] == (
        "  nothing comes of it (not-ours): no header of an archive or tracker that we know;"
        " what people answer, quote or pass on does not count"
    )


def test_explain_ends_with_65_when_a_mail_would_be_quarantined(mailbridge: _Console) -> None:
    status, lines, err = mailbridge("explain", str(REFUSED), str(CLOSED))

    assert (status, err) == (65, "")
    assert lines[1].startswith("  would be quarantined (malformed): PR-Message of debian: report")
    assert lines[4] == str(CLOSED)


def test_explain_goes_on_after_a_file_that_is_not_there(
    mailbridge: _Console, tmp_path: Path
) -> None:
    missing = tmp_path / "a\x1b[31mb"

    status, lines, err = mailbridge("explain", str(missing), str(tmp_path), str(CLOSED))

    assert status == 65
    assert lines[0] == str(CLOSED)
    assert err.splitlines() == [
        f"mailbridge: {tmp_path}/a\\x1b[31mb: cannot be read: No such file or directory",
        f"mailbridge: {tmp_path}: cannot be read: Is a directory",
    ]


def test_explain_says_that_a_changes_file_is_no_mail(mailbridge: _Console, tmp_path: Path) -> None:
    changes = tmp_path / "hello_1_source.changes"
    changes.write_text("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nSource: hello\n")

    status, lines, _ = mailbridge("explain", str(changes))

    assert status == 0
    assert lines[-1].startswith("  a .changes file is no mail")


def test_explain_does_not_let_a_mail_speak_to_the_terminal(
    mailbridge: _Console, tmp_path: Path
) -> None:
    hostile = tmp_path / "[red]x\x1b[2J"
    hostile.write_bytes(REPORT.read_bytes().replace(b"crashes", "\u202e[blink]".encode()))

    _, lines, _ = mailbridge("explain", str(hostile))

    assert lines[0].endswith("[red]x\\x1b[2J")
    assert "hello: \\u202e[blink] when greeting nobody" in lines[2]
    assert all(line.isprintable() for line in lines)


# -- explain, for programs -------------------------------------------------------------------------


def test_explain_as_json_is_one_object_a_mail(mailbridge: _Console) -> None:
    status, lines, err = mailbridge("explain", "--json", str(CLOSED), str(FOLLOWUP), str(REFUSED))

    closed, followup, refused = map(json.loads, lines)
    assert (status, err) == (65, "")
    for told in (closed, followup, refused):
        assert {
            *("file", "outcome", "family", "kind", "reason", "provenance", "events")
        } <= told.keys()
    assert (closed["file"], closed["outcome"], closed["reason"]) == (str(CLOSED), "events", None)
    assert closed["events"][0].keys() == {"tag", "uuid", "author", "data"}
    assert (followup["outcome"], followup["kind"]) == ("ignored", "debbugs-followup")
    assert (followup["reason"], followup["events"]) == ("understood, switched off", [])
    assert (refused["outcome"], refused["events"]) == ("quarantined", [])
    assert closed["provenance"] == {
        "sent_by": {"how": "none"},
        "signed_by": {"how": "none", "status": "none"},
    }


def test_explain_reads_standard_input(
    mailbridge: _Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CLOSED.read_bytes())))

    status, (line,), _ = mailbridge("explain", "--json", "-")

    assert status == 0
    assert json.loads(line)["events"][0]["uuid"] == "7d53e49a-1ed2-5903-b8a3-6dea7ab21fec"


def test_explain_survives_a_name_that_is_no_text(mailbridge: _Console, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(name).write_bytes(CLOSED.read_bytes())

    _, (line,), _ = mailbridge("explain", "--json", name)
    _, lines, _ = mailbridge("explain", name)

    assert json.loads(line)["file"] == name
    assert lines[0] == f"{tmp_path}/caf\\udce9"


# -- explain, with a configuration -----------------------------------------------------------------


def test_explain_asks_the_source_whose_list_brought_the_mail(
    mailbridge: _Console, configured: Path
) -> None:
    _, (line,), _ = mailbridge("-c", str(configured), "explain", "--json", str(FOLLOWUP))

    told = json.loads(line)
    assert told["outcome"] == "events"
    assert told["provenance"]["sent_by"] == {"how": "channel", "who": "bugs"}


def test_explain_asks_the_source_that_watches_the_folder(
    mailbridge: _Console, configured: Path, tmp_path: Path
) -> None:
    mail = tmp_path / "uploads" / "new" / "1"
    mail.parent.mkdir(parents=True)
    mail.write_bytes(FOLLOWUP.read_bytes())

    _, lines, _ = mailbridge("-c", str(configured), "explain", str(mail))

    assert lines[-1] == "  to get bug-commented: add \"debbugs-followup\" to kinds of 'uploads'"


def test_explain_takes_the_source_that_is_named(mailbridge: _Console, configured: Path) -> None:
    words = ("-c", str(configured), "explain", "--source")

    _, lines, _ = mailbridge(*words, "bugs", str(CLOSED))
    status, _, err = mailbridge(*words, "nobody", str(CLOSED))

    assert lines[1].startswith("  nothing comes of it (other-list): came by ")
    assert status == 2
    assert err == "mailbridge: --source 'nobody': not configured; there is uploads, bugs\n"


def test_explain_takes_made_up_mail_only_when_told(mailbridge: _Console, tmp_path: Path) -> None:
    made_up = tmp_path / "made-up"
    made_up.write_bytes(b"X-Mailbridge-Generated: 1\n" + CLOSED.read_bytes())

    _, lines, _ = mailbridge("explain", str(made_up))
    _, (line,), _ = mailbridge("explain", "--accept-test", "--json", str(made_up))

    assert lines[-1] == "  to see what it would become: --accept-test"
    assert json.loads(line)["events"][0]["tag"] == "_lk.mailbridge-test.bug-closed"


# -- kinds, schema, sources ------------------------------------------------------------------------


def test_kinds_lists_every_kind_with_its_tags(mailbridge: _Console) -> None:
    status, lines, _ = mailbridge("kinds", "--json")
    _, words, _ = mailbridge("kinds")

    told = [json.loads(line) for line in lines]
    assert status == 0
    assert [one["kind"] for one in told] == [
        *(kind.name for kind in kinds.kinds()),
        *(None for _ in own.PAYLOADS),
    ]
    assert all(one["tags"] and one["summary"] for one in told)
    assert all(one["attested"] for one in told if one["kind"])
    followup = next(one for one in told if one["kind"] == "debbugs-followup")
    assert followup["tags"] == [{"tag": "_lk.mailbridge.bug-commented", "default": "off"}]
    assert "      _lk.mailbridge.bug-commented   (only when switched on)" in words


def test_kinds_lists_what_the_bridge_itself_gives(mailbridge: _Console) -> None:
    _, lines, _ = mailbridge("kinds", "--json")
    _, words, _ = mailbridge("kinds")

    told = [json.loads(line)["tags"] for line in lines[-len(own.PAYLOADS) :]]
    assert told == [
        [{"tag": f"_lk.mailbridge.{name}", "default": "on"}]
        for name in ("event-confirmed", "source-silent", "source-heard", "list-gap", "next-key")
    ]
    at = words.index("of no kind, by the bridge itself")
    assert words[at + 1] == (
        "  _lk.mailbridge.event-confirmed: News that is out already came again, backed by more than"
        " before: `provenance` tells by what."
    )


@pytest.mark.parametrize("tag", ["bug-closed", "_lk.mailbridge.bug-closed", "org.x.bug-closed"])
def test_schema_prints_the_json_schema_of_a_tag(mailbridge: _Console, tag: str) -> None:
    status, lines, _ = mailbridge("schema", tag)
    told: dict[str, Any] = json.loads("\n".join(lines))
    _, (line,), _ = mailbridge("explain", "--json", str(CLOSED))

    assert (status, told["title"]) == (0, "bug-closed")
    jsonschema.Draft202012Validator.check_schema(told)
    jsonschema.validate(json.loads(line)["events"][0]["data"], told)


def test_schema_without_a_tag_prints_all(mailbridge: _Console) -> None:
    _, lines, _ = mailbridge("schema")

    assert json.loads("\n".join(lines)).keys() == {
        f"_lk.mailbridge.{name}" for name in own.payloads()
    }


def test_the_schema_of_what_no_mail_tells_has_nothing_of_a_mail(mailbridge: _Console) -> None:
    _, lines, _ = mailbridge("schema", "list-gap")

    told = json.loads("\n".join(lines))
    assert told["required"] == ["from", "list_id", "missing", "source", "to"]
    assert "message_id" not in told["properties"]


def test_schema_of_no_tag_of_ours_helps(mailbridge: _Console) -> None:
    status, _, err = mailbridge("schema", "bug-closd")

    assert (status, err) == (
        2,
        "mailbridge: 'bug-closd': no tag of ours; did you mean 'bug-closed'?\n",
    )


def test_sources_tells_what_each_emits_expects_and_requires(
    mailbridge: _Console, configured: Path
) -> None:
    status, lines, _ = mailbridge("-c", str(configured), "sources")
    _, json_lines, _ = mailbridge("-c", str(configured), "sources", "--json")

    assert status == 0
    assert lines[0] == "uploads"
    assert "  expects:      a mail every 24h" in lines
    assert "  requires:     none: anyone who can mail it makes events, each marked as unproved" in (
        lines
    )
    uploads, bugs = map(json.loads, json_lines)
    assert (uploads["name"], uploads["tags"]["bug-closed"]) == ("uploads", "off")
    assert (bugs["require"], bugs["tags"]["bug-commented"]) == ("channel", "on")


def test_sources_without_a_configuration_says_what_works_without_one(
    mailbridge: _Console,
) -> None:
    status, lines, err = mailbridge("sources")

    assert (status, lines) == (0, [])
    assert err == "no configuration file; without one: mailbridge run --maildir ~/Maildir\n"


@pytest.mark.parametrize("command", [("sources",), ("explain", str(CLOSED))])
def test_a_kind_that_does_not_exist_is_an_operator_s_mistake(
    mailbridge: _Console, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[[source]]\nname = "a"\nmaildir = "/x"\nkinds = ["debbug"]\n')

    status, _, err = mailbridge("-c", str(path), *command)

    assert (status, err) == (
        78,
        "mailbridge: source 'a': kinds: 'debbug' is not known; did you mean 'debbugs'?\n",
    )


def test_explain_of_a_fifo_that_nobody_writes_to_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")

    assert main(["explain", str(tmp_path / "fifo")]) == 0
    assert "an empty mail" in capsys.readouterr().out
