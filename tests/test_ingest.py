"""`mailbridge ingest`: old mail taken once, from files, an mbox, a Maildir."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.bridge import mailbox
from mailbridge.bridge.mailbox import of_mbox
from mailbridge.bridge.state import opened
from mailbridge.cli import main
from mailbridge.cli._progress import Lines
from mailbridge.config import Config
from mailbridge.event import SignedEvent, read_event
from mailbridge.keyring import allow, read_public, write_public
from mailbridge.testing import RelayForTests
from tests.daemons import LOOPBACK, Daemon, chat, make_maildir, put, read_events, report, upload


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def ingest(state: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call it, and return (status, its JSON lines)."""

    def call(*words: str | Path) -> tuple[int, list[dict[str, Any]]]:
        status = main(["ingest", *map(str, words), "--state", str(state), "--json"])
        return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def events(state: Path) -> list[SignedEvent]:
    with opened(Config(state=str(state))) as ours:
        return [read_event(stored.raw) for stored in ours.outbox.all()]


def test_a_file_becomes_its_events_marked_as_old(ingest: Any, state: Path, tmp_path: Path) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_bytes(upload(1))

    status, [told] = ingest(mail)

    [event] = events(state)
    assert status == 0
    assert told["outcome"] == "events"
    assert told["uuids"] == [event.uuid]
    assert told["reason"] is None
    assert event.data["backfill"] is True


def test_taken_twice_it_is_a_duplicate_that_names_its_events(
    ingest: Any, state: Path, tmp_path: Path
) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_bytes(upload(1))
    _, [first] = ingest(mail)
    status, [again] = ingest(mail)

    assert (status, again["outcome"]) == (0, "duplicate")
    assert again["uuids"] == first["uuids"]
    assert len(events(state)) == 1


def test_as_new_it_is_no_backfill(ingest: Any, state: Path, tmp_path: Path) -> None:
    (tmp_path / "mail.eml").write_bytes(upload(1))
    ingest("--as-new", tmp_path / "mail.eml")
    assert "backfill" not in events(state)[0].data


def test_ignored_and_quarantined_mails_are_told_with_their_reason(
    ingest: Any, tmp_path: Path
) -> None:
    (tmp_path / "1").write_bytes(chat(1))
    (tmp_path / "2").write_bytes(upload(2).replace(b"X-DAK:", b"X-D\0:", 1))
    status, [lunch, broken] = ingest(tmp_path / "1", tmp_path / "2")

    assert status == 0
    assert lunch["outcome"] == "ignored"
    assert lunch["reason"]
    assert broken["outcome"] == "quarantined"
    assert "NUL" in broken["reason"]


def test_a_mail_of_no_interest_is_looked_at_again_when_asked_to(
    ingest: Any, tmp_path: Path
) -> None:
    made_up = b"X-Mailbridge-Generated: 1\n" + upload(1)
    (tmp_path / "mail.eml").write_bytes(made_up)
    _, [before] = ingest(tmp_path / "mail.eml")
    _, [after] = ingest("--accept-test", tmp_path / "mail.eml")

    assert (before["outcome"], after["outcome"]) == ("ignored", "events")


def test_an_mbox_is_taken_mail_by_mail(ingest: Any, tmp_path: Path) -> None:
    lines = [b"From jane at example.org  Tue Sep 10 10:20:40 2024\n"]
    mbox = b"".join(b"".join([*lines, raw, b"\n"]) for raw in (upload(1), chat(2), report(3)))
    (tmp_path / "archive.mbox").write_bytes(mbox)
    status, told = ingest("--mbox", tmp_path / "archive.mbox")

    assert status == 0
    assert [one["outcome"] for one in told] == ["events", "ignored", "events"]
    assert [one["file"].rpartition("#")[2] for one in told] == ["1", "2", "3"]


def test_the_bytes_of_a_mail_in_an_mbox_are_those_that_were_mailed(tmp_path: Path) -> None:
    quoted = b"Subject: x\n\n>From here on it rains.\n>>From what?\nFrom me.\n"
    separator = b"From x@example.org Tue Sep 10 10:20:40 2024\n"
    path = tmp_path / "mbox"
    path.write_bytes(separator + quoted + b"\n" + separator + b"Subject: y\n\nno newline at end")

    first, second = of_mbox(path, limit=1000)

    assert first.raw == b"Subject: x\n\nFrom here on it rains.\n>From what?\nFrom me.\n"
    assert second.raw == b"Subject: y\n\nno newline at end"


def test_a_mail_without_end_in_an_mbox_costs_its_limit_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    separator = b"From x@example.org Tue Sep 10 10:20:40 2024\n"
    path.write_bytes(separator + b"Subject: x\n\n" + b"y" * 100_000 + b"\n\n" + separator + chat(1))
    assert [len(mail.raw) for mail in of_mbox(path, limit=1000)] == [1001, len(chat(1))]


LINES = st.sampled_from(
    [
        *(b"From a@example.org Tue Sep 10 10:20:40 2024\n", b"From b@example.org 2024\n"),
        *(b"From me.\n", b">From you.\n", b">>From her.\n", b"\n", b"\r\n", b"x\n", b"x\r\n", b"x"),
    ]
)


@given(st.lists(LINES, max_size=14), st.integers(1, 70))
def test_where_a_block_of_an_mbox_ends_makes_no_difference(lines: list[bytes], size: int) -> None:
    whole = list(mailbox._split(io.BytesIO(b"".join(lines)), 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mailbox, "_BLOCK", size)
        in_pieces = list(mailbox._split(io.BytesIO(b"".join(lines)), 1000))

    assert in_pieces == whole


def test_a_maildir_is_taken_whole_and_left_as_it_is(ingest: Any, tmp_path: Path) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    files = [
        put(maildir, upload(1), "1.a"),
        put(maildir, report(2), "2.b", by="cur"),
        put(maildir, chat(3), "3.c"),
    ]
    (maildir / "new" / "4.link").symlink_to("/etc/hostname")
    status, told = ingest("--maildir", maildir)

    assert status == 0
    assert [(one["source"], one["outcome"]) for one in told] == [
        ("Maildir", "events"),
        ("Maildir", "events"),
        ("Maildir", "ignored"),
    ]
    assert all(path.exists() for path in files)


def test_what_cannot_be_read_is_named_and_the_rest_is_taken(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(upload(1))
    status, told = ingest(tmp_path / "missing", tmp_path, tmp_path / "good")

    assert status == 65
    assert [one["outcome"] for one in told] == ["events"]


def test_beside_a_running_bridge_it_is_sent_by_that(
    ingest: Any, state: Path, tmp_path: Path
) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    with Daemon("run", "--maildir", maildir, "--state", state, *LOOPBACK) as daemon:
        ready = daemon.ready()
        put(maildir, upload(1), "1.a")
        read_events(ready["read"], state, 1)
        (tmp_path / "old.eml").write_bytes(report(2))
        ingest(tmp_path / "old.eml")

        live, old = read_events(ready["read"], state, 2)

        assert daemon.stop() == 0
    assert (live.feed and live.feed.seq, old.feed and old.feed.seq) == (1, 2)
    assert old.data["backfill"] is True


def test_with_submit_it_ends_when_the_relay_has_it(
    ingest: Any, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.eml").write_bytes(report(2))
    ingest(tmp_path / "old.eml")
    [entity] = {event.feed.entity for event in events(state) if event.feed}
    public = state / "keys" / f"{entity}.key"
    relay = RelayForTests(tmp_path / "relay")
    allow(relay.state / "policy.toml", entity, ["_lk.mailbridge.*"])
    write_public(relay.state / "keys" / "trusted" / public.name, read_public(public))
    with relay:
        status, _ = ingest(tmp_path / "old.eml", "--submit", relay.submit)

        assert status == 0
        assert next(relay.listen(since="start")).data["bug"] == 2


# -- a dry run -------------------------------------------------------------------------------------


def everything_in(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
        for path in directory.rglob("*")
    }


@pytest.fixture
def generated(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Give a Maildir of made-up mails in which everything goes wrong, and what comes of them."""
    maildir, expect = tmp_path / "generated", tmp_path / "expected.jsonl"
    words = ["--count", "300", "--faults", "all", "--seed", "6", "--expect", str(expect)]
    main(["generate", "--maildir", str(maildir), *words])
    return maildir, [json.loads(line) for line in expect.read_text().splitlines()]


def test_a_dry_run_tells_what_then_comes_of_the_mails(
    ingest: Any, generated: tuple[Path, list[dict[str, Any]]]
) -> None:
    maildir, expected = generated
    status, [told] = ingest("--maildir", maildir, "--accept-test", "--dry-run")
    _, real = ingest("--maildir", maildir, "--accept-test")

    assert status == 0
    assert told["mails"] == len(real) == 300
    assert told["outcomes"] == Counter(one["outcome"] for one in real)
    assert {"events", "duplicate", "quarantined", "ignored"} == told["outcomes"].keys()
    tags = Counter[str]()
    for row in told["kinds"]:
        if row["events"]:
            tags[row["tag"]] += row["events"]
    assert tags == Counter(news["tag"] for news in expected)
    for outcome in ("ignored", "quarantined"):
        assert Counter(one["reason"] for one in real if one["outcome"] == outcome).total() == sum(
            row["mails"] for row in told["reasons"] if row["outcome"] == outcome
        )
    assert all(row["reason"] for row in told["reasons"])
    assert {"same-mail", "same-news"} <= {row["code"] for row in told["reasons"]}


def test_a_dry_run_makes_no_state(
    ingest: Any, generated: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    before = everything_in(tmp_path)
    ingest("--maildir", generated[0], "--accept-test", "--dry-run")

    assert everything_in(tmp_path) == before


def test_a_dry_run_leaves_a_state_as_it_is(ingest: Any, tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(upload(1))
    (tmp_path / "2").write_bytes(upload(2).replace(b"X-DAK:", b"X-D\0:", 1))
    ingest(tmp_path / "1")
    before = everything_in(tmp_path)
    _, [told] = ingest(tmp_path / "1", tmp_path / "2", "--dry-run")

    assert told["outcomes"] == {"events": 1, "quarantined": 1}
    assert everything_in(tmp_path) == before


def test_a_dry_run_for_people_is_tables_that_no_mail_can_disturb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1").write_bytes(upload(1))
    (tmp_path / "2").write_bytes(b"List-Id: <\x1b[2J.example.org>\n" + chat(2))
    names = [str(tmp_path / name) for name in ("1", "2", "missing")]
    status = main(["ingest", *names, "--state", str(tmp_path / "state"), "--dry-run"])
    told = capsys.readouterr()

    assert status == 65
    assert "events\tdak-accepted\t_lk.mailbridge.package-upload-accepted\t1\t1\n" in told.out
    assert told.out.endswith("2 mails, 1 events\n")
    assert "\x1b" not in told.out
    assert "missing: cannot be read" in told.err
    assert "nothing was written" in told.err


def test_a_dry_run_sends_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ingest", str(tmp_path / "1"), "--dry-run", "--submit", "tcp://127.0.0.1:1"]) == 2
    assert "--dry-run sends nothing" in capsys.readouterr().err


# -- long work -------------------------------------------------------------------------------------


def test_of_long_work_a_line_now_and_then_says_how_far_it_is() -> None:
    now = 0.0
    said = io.StringIO()
    lines = Lines(lambda: 4_000, stream=said, clock=lambda: now)
    for _ in range(3):
        now += 4.0
        lines.taken(500)
        lines.taken(500)

    assert said.getvalue() == "5 mails, 0 a second, 62 %, about 7 s left\n"


def test_work_of_which_nobody_knows_how_much_there_is_tells_only_what_was_done() -> None:
    now = 0.0
    said = io.StringIO()
    lines = Lines(lambda: 0, stream=said, clock=lambda: now)
    now = 11.0
    lines.taken(500)

    assert said.getvalue() == "1 mails, 0 a second\n"


def test_on_a_terminal_there_is_a_bar_and_what_is_printed_stays_whole(
    generated: tuple[Path, list[dict[str, Any]]], state: Path
) -> None:
    ours, theirs = pty.openpty()
    words = ["ingest", "--maildir", str(generated[0]), "--state", str(state), "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "mailbridge", *words],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        shown: list[bytes] = []
        reader = threading.Thread(target=lambda: shown.append(_all_of(ours)))
        reader.start()
        assert process.stdout
        lines = process.stdout.read().splitlines()
        reader.join()
    os.close(ours)

    assert len([json.loads(line) for line in lines]) == 300
    assert b"taking in" in shown[0]
    assert b"a second" in shown[0]


def _all_of(fd: int) -> bytes:
    found = b""
    # (Linux: a terminal that nobody has open any more fails with EIO.)
    with contextlib.suppress(OSError):
        while block := os.read(fd, 65536):
            found += block
    return found


@pytest.mark.fault(44)
def test_an_ingest_that_is_killed_in_the_middle_and_run_again_doubles_and_loses_nothing(
    ingest: Any, state: Path, tmp_path: Path
) -> None:
    mbox, expect = tmp_path / "mbox", tmp_path / "expected.jsonl"
    words = ["--count", "1500", "--seed", "11", "--faults", "duplicate,redelivered"]
    main(["generate", "--mbox", str(mbox), *words, "--expect", str(expect)])
    expected = [json.loads(line) for line in expect.read_text().splitlines()]

    command = ["ingest", "--mbox", mbox, "--state", state, "--accept-test", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "mailbridge", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        before = [json.loads(process.stdout.readline()) for _ in range(400)]
        # What it goes on printing does not fit into the pipe: it is in the middle.
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(events(state)) < len(expected)
    status, after = ingest("--mbox", mbox, "--accept-test")

    found = events(state)
    assert status == 0
    assert len(after) == 1500
    assert [one["file"] for one in before] == [one["file"] for one in after[:400]]
    assert len({event.uuid for event in found}) == len(found) == len(expected)
    assert [event.feed.seq for event in found if event.feed] == [*range(1, len(expected) + 1)]
    # In the order of the mails, which is the one in which the generator wrote what they say.
    for event, news in zip(found, expected, strict=True):
        assert event.tag == news["tag"]
        assert event.data.items() >= news["data"].items()


def test_one_word_names_several_mboxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the shell writes `--mbox 2024-*.mbox`."""
    for n in (1, 2):
        mail = upload(n).replace(b"\nFrom ", b"\n>From ")
        (tmp_path / f"{n}.mbox").write_bytes(b"From x Fri Nov 20 12:00:00 2026\n" + mail)
    files = [str(tmp_path / f"{n}.mbox") for n in (1, 2)]

    assert main(["ingest", "--mbox", *files, "--state", str(tmp_path / "state"), "--json"]) == 0
    told = [json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["events", "events"]
