"""Made-up mail: the same for one seed, marked, delivered whole, and known to its last event."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mailbridge import cli, traffic
from mailbridge.bridge.deliver import Delivery, Gateway, Settings
from mailbridge.bridge.mailbox import of_mbox
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.errors import StorageFailed
from mailbridge.event import TEST_NAMESPACE
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey
from mailbridge.traffic import FAULTS, Post
from tests.conftest import NOON
from tests.madeup import MAX_MAIL, SOURCE, examined, matched, posts
from tests.mailservers import MailServer
from tests.trial import contains

SMALL = ("--max-mail", "64K")
EVERY_KIND = dict.fromkeys(traffic.WORDS, 1)


def _generated(maildir: Path, *words: str, **environment: str) -> None:
    """Run `mailbridge generate` in a process and a world of its own."""
    command = [sys.executable, "-m", "mailbridge", "generate", "--maildir", str(maildir), *words]
    subprocess.run(command, check=True, env=os.environ | environment, capture_output=True)


def _in_order(maildir: Path) -> list[bytes]:
    files = (maildir / "new").iterdir()
    return [
        path.read_bytes() for path in sorted(files, key=lambda path: int(path.name.split(".")[0]))
    ]


# -- the same seed ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_in_any_process_zone_language_and_hash(
    tmp_path: Path,
) -> None:
    story = ("--count", "200", "--seed", "5", "--mix", "all", "--sign")
    words = (*story, "--faults", "all", *SMALL, "--expect")
    here, there = tmp_path / "here", tmp_path / "there"
    _generated(here, *words, str(tmp_path / "a"), PYTHONHASHSEED="1", TZ="UTC", LANG="C.UTF-8")
    _generated(there, *words, str(tmp_path / "b"), PYTHONHASHSEED="2", TZ="XST-13", LC_ALL="C")

    assert _in_order(here) == _in_order(there)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_seed_is_another_archive() -> None:
    assert not {post.raw for post in posts(200, seed=1)} & {post.raw for post in posts(200, seed=2)}


# -- every mail ------------------------------------------------------------------------------------


def test_every_mail_is_marked_with_its_seed_and_number() -> None:
    for post in posts(600, seed=12, faults=FAULTS, mix=EVERY_KIND):
        head = post.raw.partition(b"\n\n")[0].split(b"\n")

        assert f"X-Mailbridge-Generated: seed=12 n={post.n}".encode() in head, post.what


def test_no_address_and_no_host_is_anybodys() -> None:
    """RFC 2606: example.org is nobody's; a made-up mail that leaks can bother no one."""
    for post in posts(600, faults=FAULTS, mix=EVERY_KIND):
        # (Trackers name people as `@jane`: what is an address has a full stop behind it.)
        hosts = re.findall(rb"@([a-z0-9-]+\.[a-z0-9.-]+)", post.raw.partition(b"\n\n")[0])

        assert hosts
        assert all(host.endswith(b"example.org") for host in hosts), hosts


# -- mix and faults --------------------------------------------------------------------------------


def test_the_mix_says_how_often_what_comes() -> None:
    told = Counter(post.word for post in posts(2000))

    assert 900 < told["uploads"] < 1100
    assert 700 < told["bugs"] < 900
    assert 140 < told["noise"] < 260
    assert told["followups"] == 0


@pytest.mark.parametrize("word", traffic.WORDS)
def test_a_mix_of_one_word_gives_nothing_else(word: str) -> None:
    assert {post.word for post in posts(100, mix={word: 1})} == {word}


def test_without_faults_nothing_goes_wrong() -> None:
    found = posts(400)

    assert not [post.what for post in found if _faults_of(post)]
    assert len({post.raw for post in found}) == 400


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_was_asked_for_happens_and_no_other(fault: str) -> None:
    assert {found for post in posts(60, faults=[fault]) for found in _faults_of(post)} == {fault}


def test_a_duplicate_is_the_same_mail_to_the_last_byte() -> None:
    raws = Counter(post.raw for post in posts(200, faults=["duplicate"]))

    assert 2 in raws.values()
    assert max(raws.values()) == 2


def test_a_mail_that_was_cut_off_comes_whole_later() -> None:
    found = posts(200, faults=["truncated"])
    cut = [post for post in found if post.what.endswith(" truncated")]

    assert cut
    for post in cut:
        if post.n > 180:
            continue  # what it becomes is still on its way
        whole = next(p for p in found if p.n == post.n and p is not post)
        assert whole.raw.startswith(post.raw)
        assert not post.news
        assert whole.news


def test_news_that_is_redelivered_came_through_another_list() -> None:
    again = [p for p in posts(200, faults=["redelivered"]) if p.what.endswith(" redelivered")]

    assert again
    assert all(b"<demo-mirror.lists.example.org>" in post.raw for post in again)


# -- delivery --------------------------------------------------------------------------------------


def test_a_mail_is_never_seen_half_written(tmp_path: Path) -> None:
    """Nothing but `tmp/` is written in; what is in `new/` got there by one rename or one link."""
    opened: list[str] = []
    hook_is_on = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if hook_is_on and event == "open" and str(tmp_path) in str(arguments[0]):
            opened.append(Path(arguments[0]).parent.name)

    sys.addaudithook(watch)
    first = traffic.deliver(b"one\n", tmp_path / "Maildir", 0)
    second = traffic.deliver(b"two\n", tmp_path / "Maildir", 1)
    hook_is_on = False

    assert set(opened) == {"tmp"}
    assert [first.read_bytes(), second.read_bytes()] == [b"one\n", b"two\n"]
    assert [path.stat().st_nlink for path in (first, second)] == [1, 1]
    assert not list((tmp_path / "Maildir" / "tmp").iterdir())
    assert (tmp_path / "Maildir").stat().st_mode & 0o077 == 0


def test_a_maildir_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageFailed, match="cannot deliver"):
        traffic.deliver(b"", tmp_path / "file", 0)


# -- the command -----------------------------------------------------------------------------------


def test_generate_delivers_as_many_as_asked_for_and_writes_each_event_once(tmp_path: Path) -> None:
    maildir, expect = tmp_path / "Maildir", tmp_path / "expected.jsonl"
    words = ["--maildir", str(maildir), "--count", "120", "--faults", "all", *SMALL]
    status = cli.main(["generate", *words, "--expect", str(expect)])
    lines = [json.loads(line) for line in expect.read_text().splitlines()]

    assert status == 0
    assert len(_in_order(maildir)) == 120
    assert 40 < len(lines) < 120
    assert all(line.keys() == {"tag", "data"} for line in lines)
    assert all(line["tag"].startswith(f"{TEST_NAMESPACE}.") for line in lines)
    assert len({json.dumps(line, sort_keys=True) for line in lines}) == len(lines)


def test_expectations_alone_are_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["generate", "--maildir", str(tmp_path), "--count", "9", "--expect", "-"])
    captured = capsys.readouterr()

    assert [json.loads(line)["tag"] for line in captured.out.splitlines()]
    assert captured.err.startswith("delivered 9 mails into ")


def test_a_rate_is_held(tmp_path: Path) -> None:
    """Forty a second: the last of five comes a tenth of a second after the first, or later."""
    began = os.times().elapsed
    cli.main(["generate", "--maildir", str(tmp_path), "--count", "5", "--rate", "40"])

    assert os.times().elapsed - began >= 0.09


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--count", "0"], "would fill the disk"),
        (["--count", "-1"], "cannot be negative"),
        (["--mix", "upload=1"], "'upload=1': WORD=N, with WORD of uploads, bugs"),
        (["--mix", "noise=0"], "nothing in the mix"),
        (["--faults", "typo"], "'typo': one of duplicate"),
        (["--profile", "busy"], "'busy': one of quiet, dinstall"),
        (["--max-mail", "much"], "'much': a size as 256K"),
        (["--keyring", "x"], "--keyring is for the key of --sign"),
        (["--mbox", "x"], "not allowed with argument --maildir"),
        (["--smtp", "localhost"], "'localhost': HOST:PORT"),
    ],
)
def test_words_that_do_not_fit_are_usage_errors(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = cli.main(["generate", "--maildir", str(tmp_path), *words])
    except SystemExit as error:
        status = int(str(error.code))

    assert status == 2
    assert told in capsys.readouterr().err


# -- other deliveries ------------------------------------------------------------------------------


def _with_an_end(raw: bytes) -> bytes:
    return raw if raw.endswith(b"\n") else raw + b"\n"


def test_an_mbox_gives_the_same_mails_back(tmp_path: Path) -> None:
    mbox = tmp_path / "made-up.mbox"
    words = ["--count", "300", "--seed", "7", "--faults", "all", *SMALL]
    status = cli.main(["generate", "--mbox", str(mbox), *words])

    assert status == 0
    assert [taken.raw for taken in of_mbox(mbox, limit=2 * MAX_MAIL)] == [
        _with_an_end(post.raw) for post in posts(300, faults=FAULTS)
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"A: b\n\nFrom here on.\n",
        b"A: b\n\n>From here on.\n>>>From there.\nFrom a@example.org Tue Sep 10 10:20:40 2024\n",
        b"A: b\n\nempty lines at its end\n\n\n",
        b"A: b\n\n",
        b"A: b\r\n\r\nFrom here on.\r\n",
    ],
)
def test_what_looks_like_an_mbox_inside_a_mail_comes_back_as_it_was(
    raw: bytes, tmp_path: Path
) -> None:
    (tmp_path / "mbox").write_bytes(traffic.in_mbox(raw) + traffic.in_mbox(b"C: d\n\nnext\n"))
    found = [taken.raw for taken in of_mbox(tmp_path / "mbox", limit=2 * MAX_MAIL)]

    assert found == [raw, b"C: d\n\nnext\n"]


def test_an_mbox_is_printed_whole(tmp_path: Path) -> None:
    words = ["--count", "20", "--seed", "3"]
    command = [sys.executable, "-m", "mailbridge", "generate", "--mbox"]
    printed = subprocess.run([*command, "-", *words], check=True, capture_output=True)
    cli.main(["generate", "--mbox", str(tmp_path / "mbox"), *words])

    assert printed.stdout == (tmp_path / "mbox").read_bytes()


def test_somebodys_mailbox_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mbox = tmp_path / "mail"
    mbox.write_bytes(b"From jane@example.org Tue Sep 10 10:20:40 2024\nSubject: lunch\n\nAt one?\n")
    before = mbox.read_bytes()

    assert cli.main(["generate", "--mbox", str(mbox), "--count", "1"]) == 2
    assert mbox.read_bytes() == before
    assert "name a new file" in capsys.readouterr().err


def test_a_mail_server_gets_every_mail_as_it_is_and_nobody_to_bounce_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expect = tmp_path / "expected.jsonl"
    words = ["--count", "80", "--seed", "7", "--faults", "all", *SMALL, "--expect", str(expect)]
    with MailServer() as server:
        to = ["--smtp", server.address, "--to", "events@lists.example.org"]
        status = cli.main(["generate", *to, *words])

    sent = posts(80, faults=FAULTS)
    assert status == 0
    assert [mail.raw for mail in server.mails] == [
        _with_an_end(post.raw).replace(b"\n", b"\r\n") for post in sent
    ]
    assert {mail[:2] for mail in server.mails} == {("", "events@lists.example.org")}
    assert any(not mail.raw.isascii() for mail in server.mails)
    assert len(expect.read_text().splitlines()) == len({n.key for p in sent for n in p.news})
    assert "80 mails to events@lists.example.org at 127.0.0.1:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "status"), [("550 5.1.1 no \x1b[2J such", 69), ("450 4.2.0 greylisted", 75)]
)
def test_a_mail_server_that_refuses_is_one_clear_line(
    line: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expect = tmp_path / "expected.jsonl"
    with MailServer(refuses=line) as server:
        words = ["--smtp", server.address, "--expect", str(expect)]
        found = cli.main(["generate", *words, "--count", "5"])
    [told] = capsys.readouterr().err.splitlines()

    assert (found, server.mails, expect.read_text()) == (status, [], "")
    assert line[:9] in told
    assert "\x1b" not in told


def test_where_no_mail_server_is_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with MailServer() as server:
        address = server.address

    assert cli.main(["generate", "--smtp", address, "--count", "1"]) == 75
    assert f"{address}: no mail server answers" in capsys.readouterr().err


# -- sorts of days ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", traffic.PROFILES)
def test_a_sort_of_day_keeps_its_average_rate_and_comes_in_its_bursts(name: str) -> None:
    day = traffic.PROFILES[name]
    dues = Counter(day.due(n, 4.0) for n in range(10 * day.burst))

    assert set(dues.values()) == {day.burst}
    assert max(dues) == (9 + day.is_held) * day.burst / 4.0
    assert min(dues) == (day.burst / 4.0 if day.is_held else 0.0)


def test_a_profile_says_what_comes_unless_other_words_do(tmp_path: Path) -> None:
    words = ["generate", "--rate", "0", "--count", "60", "--seed", "7", "--mbox"]
    cli.main([*words, str(tmp_path / "bugs"), "--profile", "mass-bug-filing"])
    cli.main([*words, str(tmp_path / "both"), "--profile", "mass-bug-filing", "--mix", "noise=1"])

    for name, mix in (("bugs", {"bugs": 1}), ("both", {"noise": 1})):
        found = [taken.raw for taken in of_mbox(tmp_path / name, limit=2 * MAX_MAIL)]
        assert found == [_with_an_end(post.raw) for post in posts(60, mix=mix)]


def test_after_a_list_was_out_some_of_its_mail_comes_twice(tmp_path: Path) -> None:
    words = ["--rate", "0", "--count", "200", "--seed", "7", "--profile", "list-outage"]
    cli.main(["generate", "--mbox", str(tmp_path / "mbox"), *words])
    found = Counter(taken.raw for taken in of_mbox(tmp_path / "mbox", limit=2 * MAX_MAIL))

    assert max(found.values()) == 2


# -- what they become ------------------------------------------------------------------------------


def test_every_mail_becomes_exactly_what_its_story_says() -> None:
    """Two thousand mails, all faults; generator and recognisers share no line of code."""
    uuids: dict[str, set[str]] = {}
    for post in posts(2000, seed=2026, faults=FAULTS, mix={**traffic.MIX, "followups": 1}):
        told = examined(post)
        found = matched(told.emitted, post.news)
        assert found is not None, (post.n, post.what, told.outcome, told.code, told.reason)
        for key, uuid in found.items():
            uuids.setdefault(key, set()).add(uuid)

    # What is the same news is one event, and what is not is another.
    assert [key for key, same in uuids.items() if len(same) != 1] == []
    assert len(set.union(*uuids.values())) == len(uuids)


def test_a_gateway_emits_the_expected_events_each_once_and_no_other(
    tmp_path: Path, signer: SigningKey
) -> None:
    """The order in which mails are looked at is not that of the story; it must not matter."""
    maildir, expect = tmp_path / "Maildir", tmp_path / "expected.jsonl"
    words = ["--count", "400", "--faults", "all", *SMALL, "--seed", "9", "--expect", str(expect)]
    cli.main(["generate", "--maildir", str(maildir), *words])
    mails = [Delivery(path.read_bytes(), (SOURCE,), NOON) for path in (maildir / "new").iterdir()]
    with Outbox(None, signer, now=NOON) as outbox:
        quarantine = Quarantine(tmp_path / "quarantine")
        gateway = Gateway(
            outbox, quarantine, Settings(accept_test=True, max_mail=MAX_MAIL), clock=lambda: NOON
        )
        gateway.deliver(sorted(mails, key=lambda mail: hashlib.sha256(mail.raw).digest()))
        emitted = [json.loads(event.raw) for event in outbox.all()]
    expected = [json.loads(line) for line in expect.read_text().splitlines()]

    def fitting(news: dict[str, Any]) -> list[str]:
        return [event["uuid"] for event in emitted if contains(event, news)]

    found = [fitting(news) for news in expected]
    assert [news for news, uuids in zip(expected, found, strict=True) if len(uuids) != 1] == []
    assert sorted(uuid for uuids in found for uuid in uuids) == sorted(e["uuid"] for e in emitted)


def _faults_of(post: Post) -> list[str]:
    return [fault for fault in FAULTS if fault in post.what]
