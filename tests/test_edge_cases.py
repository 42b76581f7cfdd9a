"""
The edge cases of recognising mail: what `mailbridge explain` says of each, and what a bridge does.

What a mail becomes is held against its golden in test_golden.py; here a list admin asks why.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from signedjson.key import decode_verify_key_bytes
from signedjson.sign import SignatureVerifyException, verify_signed_json

from mailbridge.bridge.deliver import Delivery, Gateway, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.serve import bridge
from mailbridge.cli import main
from mailbridge.config import Config, Source
from mailbridge.event import read_event
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey
from mailbridge.testing import RelayForTests, mailbridge_relay
from tests.conftest import NOON
from tests.explained import CUT, EXPLAINED, NO_DATE, Row
from tests.hostile_mails import HOSTILE
from tests.openpgp import PAST, GnuPG, gnupg

relay = mailbridge_relay
FIXTURES: Final = Path(__file__).parent.parent / "fixtures"
NO_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
OPENING: Final = {
    "events": "  _lk.mailbridge.",
    "off": "  nothing comes of it (switched-off): understood, switched off",
    "ignored": "  nothing comes of it (",
    "quarantined": "  would be quarantined (",
}


def mail(case: str) -> bytes:
    return (FIXTURES / case / "mail.eml").read_bytes()


class _Explain:
    """The command, on a mail in a file of no telling name."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self._capsys = capsys
        self._file = directory / "mail"

    def __call__(self, raw: bytes, *options: str, config: Path | None = None) -> tuple[int, str]:
        self._file.write_bytes(raw)
        status = main([*(["-c", str(config)] if config else []), "explain", *options, "mail"])
        out, err = self._capsys.readouterr()
        assert err == ""
        return status, out


@pytest.fixture
def explain(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> _Explain:
    monkeypatch.chdir(tmp_path)
    return _Explain(capsys, tmp_path)


# -- explain ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.edge(*row.edges), id=row.case) for row in EXPLAINED],
)
def test_explain_tells_a_list_admin_what_comes_of_a_mail_and_why(
    explain: _Explain, row: Row
) -> None:
    status, out = explain(mail(row.case))
    _, line = explain(mail(row.case), "--json")
    first, second, *_ = out.splitlines()

    assert first == "mail"
    assert second.startswith(OPENING[row.outcome])
    assert status == (65 if row.outcome == "quarantined" else 0)
    assert json.loads(line)["outcome"] == ("ignored" if row.outcome == "off" else row.outcome)
    for word in row.words:
        if word.startswith("!"):
            assert word[1:] not in out
        else:
            assert word in out
    assert all(char.isprintable() for char in out.replace("\n", ""))


@pytest.mark.parametrize(
    ("case", "noted"),
    [
        ("laniakea_rejected/dated-1970", True),
        ("laniakea_new/without-a-date", True),
        ("debbugs_followup/spam", True),  # of 2099
        ("debbugs_followup/dated-without-a-zone", False),
    ],
)
@pytest.mark.edge(73)
def test_explain_says_where_a_date_is_not_believed(
    explain: _Explain, case: str, *, noted: bool
) -> None:
    _, out = explain(mail(case), "--all")

    assert (NO_DATE in out) == noted


@pytest.mark.edge(54)
def test_explain_of_484_bugs_is_short_and_says_that_more_is_there(explain: _Explain) -> None:
    one = "> tags {0} + ftbfs\nBug #{0} [hello] {1}\nAdded tag(s) ftbfs.\n"
    begin, told, end = mail("debbugs_transcript/of-three-changes-in-one-line").partition(b"> found")
    bugs = "".join(
        one.format(1000000 + n, "hello: does not build " + "x" * 260) for n in range(484)
    )
    raw = begin + bugs.encode() + told + end
    assert len(raw) > 160_000

    _, out = explain(raw)

    assert "bugs #1000000, #1000001, #1000002, #1000003, #1000004 and 479 more changed" in out
    assert CUT in out
    assert len(out) < 2_000


@pytest.mark.edge(43)
def test_a_changelog_of_32_kilobytes_is_cut_between_letters(explain: _Explain) -> None:
    line = "   * " + "é€😀" * 20 + "\n"
    raw = mail("dak_accepted/not-signed").replace(
        b"   * Version: 9 is not a field.\n", (line * 170).encode()
    )
    assert len(raw) > 32 * 1024

    _, out = explain(raw)
    _, told = explain(raw, "--json")

    changes = json.loads(told)["events"][0]["data"]["changes"]
    assert CUT in out
    assert 7_900 < len(changes) <= 8_000
    assert set(changes.splitlines()[-2]) <= set(line)


@pytest.mark.edge(72)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("too large", "bytes, more than the 26214400 allowed"),
        ("parts, 100000", "boundaries of parts"),
        ("nested 400 deep", "containers of parts"),
        ("no closing boundary", ""),
        ("a header of a megabyte", "headers of more than 262144 bytes"),
        ("a header folded 100000 times", "headers of more than 262144 bytes"),
        ("headers, 200000 of one name", "headers of more than 262144 bytes"),
        ("NUL in the headers", "a NUL in the headers"),
    ],
)
def test_explain_says_what_is_too_much_in_a_hostile_mail(
    explain: _Explain, name: str, words: str
) -> None:
    status, out = explain(HOSTILE[name]())

    assert status == 65
    assert out.splitlines()[1].startswith(f"{OPENING['quarantined']}malformed): ")
    assert words in out
    assert len(out) < 1_000


@pytest.mark.edge(68)
def test_explain_of_what_is_no_mail_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")

    status = main(["explain", *(str(tmp_path / n) for n in ("link", "gone", "", "fifo"))])

    out, err = capsys.readouterr()
    assert status == 65
    assert [line.rpartition(": ")[2] for line in err.splitlines()] == [
        *("No such file or directory", "No such file or directory", "Is a directory"),
    ]
    assert "an empty mail" in out


# -- explain, of signatures ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    with gnupg() as home:
        yield home


def signed_by(key: str, *, gpg: GnuPG, at: str | None = None) -> bytes:
    """An announcement whose .changes this *key* signed."""
    headers, _, changes = mail("dak_accepted/not-signed").partition(b"\n\n")
    return headers + b"\n\n" + gpg.clearsign(changes.decode(), key, at=at)


@pytest.mark.edge(45)
@pytest.mark.needs_program("gpg")
def test_explain_says_in_words_what_a_signature_is_worth(
    explain: _Explain, gpg: GnuPG, tmp_path: Path
) -> None:
    jane = gpg.key("Jane Doe <jane@example.org>")
    stranger = gpg.key("A Stranger <stranger@example.org>")
    late = gpg.key("Late <late@example.org>", expires="1y", at=PAST)
    expired = gpg.export(late)
    gpg.run("--quick-set-expire", late, "0")
    (tmp_path / "ring.gpg").write_bytes(gpg.export(jane) + expired)
    toml = tmp_path / "mailbridge.toml"
    toml.write_text(f'[[source]]\nname = "a"\nmaildir = "/x"\nkeyrings = ["{tmp_path}/ring.gpg"]\n')

    _, good = explain(signed_by(jane, gpg=gpg), config=toml)
    _, unknown = explain(signed_by(stranger, gpg=gpg), config=toml)
    _, too_late = explain(signed_by(late, gpg=gpg), config=toml)
    other, bad = explain(signed_by(jane, gpg=gpg).replace(b"2010 ", b"2011 "), config=toml)

    assert f"its upload is signed by a key in the source's keyrings ({jane})" in good
    assert "its upload is signed by a key in none of the source's keyrings" in unknown
    assert "its upload is signed by a key that had expired" in too_late
    assert other == 65
    assert "(bad-signature): the OpenPGP signature inside does not fit its text" in bad
    assert all("accepted into unstable" in told for told in (good, unknown, too_late))


# -- several mails, one piece of news --------------------------------------------------------------

SOURCE: Final = Source(name="lists", maildir="/nowhere", emit=("bug-commented",))


@pytest.fixture
def outbox(signer: SigningKey) -> Iterator[Outbox]:
    with Outbox(None, signer, now=NOON) as opened:
        yield opened


@pytest.fixture
def deliver(outbox: Outbox, tmp_path: Path) -> Callable[..., list[str]]:
    gateway = Gateway(outbox, Quarantine(tmp_path / "q"), Settings(), clock=lambda: NOON)

    def deliver(*raw: bytes, source: Source = SOURCE) -> list[str]:
        done = gateway.deliver([Delivery(one, (source,), NOON) for one in raw])
        return [f"{one.verdict.verdict} {one.verdict.code}".strip() for one in done]

    return deliver


def by_way_of(raw: bytes, list_id: str, hop: str) -> bytes:
    """The same mail as it comes through another list."""
    received = f"Received: from {hop} by mx.example.net; Fri, 13 Sep 2024 09:00:00 +0000\n"
    without = b"".join(
        line for line in raw.splitlines(keepends=True) if not line.startswith(b"List-Id: <")
    )
    return f"{received}List-Id: <{list_id}>\n".encode() + without


@pytest.mark.edge(17)
def test_a_bug_mail_through_dist_and_rc_and_to_the_maintainer_is_one_event(
    deliver: Callable[..., list[str]], outbox: Outbox
) -> None:
    dist = mail("debbugs_report/reportbug")
    rc = by_way_of(dist, "debian-bugs-rc.lists.example.org", "lists.example.org")
    maintainer = mail("debbugs_report/on-a-list-that-rewrites")

    assert deliver(dist, rc, maintainer) == ["events", "duplicate same-news", "duplicate same-news"]
    assert outbox.head().seq == 1


@pytest.mark.edge(18)
def test_an_announcement_by_list_by_tracker_and_direct_is_one_event(
    deliver: Callable[..., list[str]], outbox: Outbox
) -> None:
    ways = ("announced", "announced-by-the-package-tracker", "accepted-told-to-the-uploader")

    told = deliver(*(mail(f"dak_accepted/{way}") for way in ways))

    assert told == ["events", "duplicate same-news", "duplicate same-news"]
    assert outbox.head().seq == 1


@pytest.mark.edge(19)
def test_a_mail_that_a_list_sent_twice_is_one_event(
    deliver: Callable[..., list[str]], outbox: Outbox
) -> None:
    first = mail("dak_accepted/announced")
    second = first.replace(b"id 4F00D1", b"id 5A00D1").replace(b"10:22:05", b"10:29:11")
    assert first != second
    assert first.count(b"archive/latest/4711") == second.count(b"archive/latest/4711") == 1

    assert deliver(first, second, first) == [
        *("events", "duplicate same-news", "duplicate same-mail"),
    ]
    assert outbox.head().seq == 1


@pytest.mark.edge(20)
@pytest.mark.parametrize("turned", [False, True], ids=["copy-first", "copy-last"])
def test_a_direct_copy_with_the_same_message_id_neither_doubles_nor_hides_a_comment(
    deliver: Callable[..., list[str]], outbox: Outbox, *, turned: bool
) -> None:
    copy, comment = mail("_ignored/direct-copy-of-a-followup"), mail("debbugs_followup/to-the-bug")
    pairs = [(copy, "ignored not-ours"), (comment, "events")]
    pairs = pairs[::-1] if turned else pairs

    assert deliver(*(raw for raw, _ in pairs)) == [verdict for _, verdict in pairs]
    assert outbox.head().seq == 1


@pytest.mark.edge(62)
def test_a_bug_closed_twice_is_two_events_and_one_closing_over_two_lists_is_one(
    deliver: Callable[..., list[str]], outbox: Outbox
) -> None:
    once = mail("debbugs_closed/by-a-mail-with-a-version")
    again = mail("debbugs_closed/again-in-another-version")
    over_another_list = by_way_of(once, "team.lists.example.org", "lists.example.net")

    assert deliver(once, over_another_list, again) == ["events", "duplicate same-news", "events"]
    assert outbox.head().seq == 2


@pytest.mark.edge(48)
def test_laniakea_s_own_mail_never_comes_back_under_laniakea_s_own_tags(
    deliver: Callable[..., list[str]], outbox: Outbox
) -> None:
    kinds = ("accepted/announced", "new/with-its-suite", "rejected/version-too-low")
    source = Source(
        name="pureos-changes",
        maildir="/nowhere",
        emit=("package-upload-queued-new", "package-upload-rejected"),
    )

    assert deliver(*(mail(f"laniakea_{kind}") for kind in kinds), source=source) == ["events"] * 3
    tags = [read_event(stored.raw).tag for stored in outbox.all()]
    assert len(tags) == 3
    assert all(tag.startswith("_lk.mailbridge.") for tag in tags)


@pytest.mark.edge(74, 75)
@pytest.mark.parametrize("case", ["letters-that-are-none", "titles-that-look-like-something"])
def test_what_no_json_can_hold_is_out_of_an_event_and_its_signature_fits_elsewhere(
    deliver: Callable[..., list[str]],
    outbox: Outbox,
    signer: SigningKey,
    relay: RelayForTests,
    case: str,
) -> None:
    assert deliver(mail(f"debbugs_report/{case}")) == ["events"]

    (stored,) = outbox.all()
    told = json.loads(stored.raw.decode("utf-8", "strict"))
    key = decode_verify_key_bytes("ed25519:0", bytes(signer.verify_key))
    verify_signed_json(told, signer.entity, key)
    with pytest.raises(SignatureVerifyException):
        verify_signed_json(told | {"author": "evil"}, signer.entity, key)
    # What a relay takes and gives is the same text.
    relay.emit(told["tag"], told["data"])
    assert next(relay.listen(since="start")).data == told["data"]
    assert not NO_TEXT.search(told["data"]["title"])


# -- digests ---------------------------------------------------------------------------------------


@pytest.mark.edge(12)
def test_digests_are_one_warning_a_source_that_says_what_to_do(
    deliver: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    digests = [mail(f"_ignored/digest-in-{form}") for form in ("mime", "plain-text")]
    other = Source(name="other", maildir="/elsewhere")

    with caplog.at_level(logging.WARNING):
        told = deliver(*digests, *(raw + b"\n" for raw in digests))
        deliver(digests[0] + b"\n\n", source=other)

    assert told == ["ignored digest"] * 4
    words = "gets digests, of which nothing can come: subscribe its address to individual mails"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"source {name!r} {words}") for name in ("lists", "other")
    ]


@pytest.mark.edge(12)
def test_status_says_of_digests_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Config(state=str(tmp_path / "state"), entity="mailbridge.x", source=(SOURCE,))
    digest = Delivery(mail("_ignored/digest-in-mime"), settings.source, NOON)
    with bridge(settings, accept_test=False, sending=False) as ours:
        ours.gateway.deliver([digest])

    assert main(["status", "--state", settings.state]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "source   lists: 1 mails seen = 1 ignored" in lines
    assert "         ignored: 1 digest" in lines
    assert "         nothing can come of digests: subscribe 'lists' to individual mails" in lines
