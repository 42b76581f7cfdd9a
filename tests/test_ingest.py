"""`mailbridge ingest`: old mail taken once, from files, an mbox, a Maildir."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.bridge import mailbox
from mailbridge.bridge.mailbox import of_mbox
from mailbridge.bridge.state import opened
from mailbridge.cli import main
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
