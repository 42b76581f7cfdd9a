"""The outbox: one transaction holds a mail's end and its events; its feed has no gap, no fork."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mailbridge.errors import NeedsOperator, StorageFailed, TryAgain
from mailbridge.event import MAX_EVENT_BYTES, SignedEvent, event_uuid, parse_json, read_event
from mailbridge.feed import Fit, Head, fit, read_head
from mailbridge.outbox import FileKey, Outbox, SenderLock, Verdict, entity_of
from mailbridge.signing import SigningKey, check_note, verify
from tests.conftest import NOON

TAG = "_lk.mailbridge.bug-closed"
MAIL = hashlib.sha256(b"a mail").digest()


def news(n: int, tag: str = TAG) -> dict[str, Any]:
    """Return an event as `deliver` composes it."""
    return {
        "id": tag,
        "tag": tag,
        "uuid": event_uuid("Debian", "bug-closed", {"n": n}),
        "format": "1.0",
        "time": NOON.isoformat(),
        "data": {"bug": n},
    }


def emit(outbox: Outbox, n: int, *, tag: str = TAG) -> bool:
    with outbox.transaction():
        return outbox.emit(news(n, tag), mail=MAIL, backfill=False)


def events(outbox: Outbox) -> list[SignedEvent]:
    return [read_event(stored.raw) for stored in outbox.all()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path, signer: SigningKey) -> Iterator[Outbox]:
    with Outbox(path, signer, now=NOON) as opened:
        yield opened


def test_events_are_numbered_linked_and_signed(outbox: Outbox, signer: SigningKey) -> None:
    for n in range(5):
        emit(outbox, n, tag=TAG if n % 2 else "_lk.mailbridge.bug-reported")

    head = Head(feed=f"{signer.entity}/20261120T120000Z")
    for event in events(outbox):
        verify(event, {signer.entity: signer.verify_key})
        assert fit(head, event) is Fit.NEXT
        head = head.after(event)
    assert outbox.head() == head
    assert head.tags == {TAG: 2, "_lk.mailbridge.bug-reported": 3}


def test_the_same_news_is_no_second_event(outbox: Outbox) -> None:
    assert emit(outbox, 1)
    assert not emit(outbox, 1)
    assert outbox.head().seq == 1


def test_what_is_undone_leaves_no_number_behind(outbox: Outbox) -> None:
    emit(outbox, 1)
    with pytest.raises(KeyError), outbox.transaction():  # noqa: PT012 - what is undone
        outbox.emit(news(2), mail=MAIL, backfill=False)
        outbox.decide(MAIL, "source", Verdict("events"), now=NOON)
        outbox.emit({}, mail=MAIL, backfill=False)
    emit(outbox, 3)

    assert [event.data["bug"] for event in events(outbox)] == [1, 3]
    assert outbox.head().seq == 2
    assert outbox.verdict_of(MAIL, "source") is None


def test_an_event_that_a_relay_would_refuse_is_never_numbered(outbox: Outbox) -> None:
    huge = news(1) | {"data": {"changes": "x" * MAX_EVENT_BYTES}}
    with pytest.raises(AssertionError), outbox.transaction():
        outbox.emit(huge, mail=MAIL, backfill=False)
    assert outbox.head().seq == 0


def test_two_processes_may_number_side_by_side(path: Path, signer: SigningKey) -> None:
    with Outbox(path, signer, now=NOON) as one, Outbox(path, signer, now=NOON) as two:
        for n in range(10):
            emit(one if n % 2 else two, n)
        assert [event.feed.seq for event in events(one) if event.feed] == list(range(1, 11))
        assert one.head() == two.head()


def test_every_commit_is_on_the_disk_before_it_returns(outbox: Outbox, path: Path) -> None:
    # NORMAL forked the feed in 8 of 8 simulated power cuts.
    assert outbox._one("PRAGMA synchronous")[0] == 2
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    other.close()


def test_it_is_readable_by_its_owner_alone(outbox: Outbox, path: Path) -> None:
    emit(outbox, 1)
    assert {p.stat().st_mode & 0o777 for p in path.parent.iterdir()} == {0o600}


def test_acknowledgements_never_go_back(outbox: Outbox) -> None:
    outbox.acknowledge("relay", 7)
    outbox.acknowledge("relay", 5)

    assert outbox.acknowledged("relay") == 7
    assert outbox.acknowledged("another") == 0


def test_the_signed_head_tells_how_far_the_feed_is(outbox: Outbox, signer: SigningKey) -> None:
    emit(outbox, 1)
    note = parse_json(outbox.signed_head(NOON))

    check_note(note, {signer.entity: signer.verify_key}, signer.entity)
    head = read_head(note)
    assert (head.seq, head.hash, head.tags) == (1, outbox.hash_of(1), {TAG: 1})
    assert head.time == "2026-11-20T12:00:00.000+00:00"


def test_another_key_cannot_write_on(path: Path, signer: SigningKey) -> None:
    Outbox(path, signer, now=NOON).close()
    with pytest.raises(NeedsOperator, match="signed by another key"):
        Outbox(path, SigningKey.generate(signer.entity), now=NOON)
    with pytest.raises(NeedsOperator, match="outbox of mailbridge"):
        Outbox(path, SigningKey.generate("mailbridge.other"), now=NOON)
    assert entity_of(path) == signer.entity


def test_a_newer_schema_is_left_alone(path: Path, signer: SigningKey) -> None:
    Outbox(path, signer, now=NOON).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(NeedsOperator, match="newer mailbridge"):
        Outbox(path, signer, now=NOON)


def test_what_is_no_database_needs_an_operator(path: Path, signer: SigningKey) -> None:
    path.write_bytes(b"no database, whatever it is " * 100)
    with pytest.raises(NeedsOperator, match="damaged"):
        Outbox(path, signer, now=NOON)


def test_only_one_may_send(tmp_path: Path) -> None:
    lock = SenderLock(tmp_path)
    with pytest.raises(TryAgain, match="another mailbridge"):
        SenderLock(tmp_path)
    lock.release()
    SenderLock(tmp_path).release()


def test_a_state_that_cannot_be_locked_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "outbox.lock").mkdir()

    with pytest.raises(StorageFailed, match=r"outbox\.lock: Is a directory"):
        SenderLock(tmp_path)


def test_one_life_is_one_attempt(path: Path, signer: SigningKey) -> None:
    for lives in (1, 2):
        with Outbox(path, signer, now=NOON) as outbox:
            outbox.begin_attempts([MAIL])
            outbox.begin_attempts([MAIL])
            assert outbox.attempts(MAIL) == lives
    with Outbox(path, signer, now=NOON) as outbox:
        outbox.forgive([MAIL])
        assert outbox.attempts(MAIL) == 1


def test_a_delivery_is_known_by_maildir_base_name_and_inode(outbox: Outbox) -> None:
    with outbox.transaction():
        place = outbox.add_place(b"/maildir", now=NOON)
        outbox.file_done(FileKey(place, b"\xff name", 12), Verdict("events"), now=NOON)

    assert outbox.file(FileKey(place, b"\xff name", 12)) == ("events", int(NOON.timestamp()))
    assert outbox.file(FileKey(place, b"\xff name", 13)) is None
    assert outbox.place(b"/maildir") == place


def test_a_new_epoch_numbers_again_what_the_relays_lack(outbox: Outbox, signer: SigningKey) -> None:
    for n in range(4):
        emit(outbox, n)
    before = events(outbox)
    known = [before[0].uuid, before[1].uuid]
    outbox.begin_epoch(prev=before[1].hash, known=known, ancestors=[outbox.feed], now=NOON)

    after = events(outbox)
    assert outbox.feed == f"{signer.entity}/20261120T120001Z"
    assert [event.uuid for event in after] == [before[2].uuid, before[3].uuid]
    assert [event.data for event in after] == [before[2].data, before[3].data]
    links = [event.feed for event in after if event.feed]
    assert [(link.seq, link.tag_seq) for link in links] == [(1, 1), (2, 2)]
    assert links[0].prev == before[1].hash
    assert outbox.ancestors() == {f"{signer.entity}/20261120T120000Z"}
    assert not emit(outbox, 0), "the relay has it"
    assert not emit(outbox, 3), "it is in the new feed"
    assert emit(outbox, 9)


def test_a_mail_in_quarantine_is_listed_until_it_is_released(outbox: Outbox) -> None:
    bad = Verdict("quarantined", "malformed", "a NUL in a header")
    with outbox.transaction():
        outbox.decide(MAIL, "source", bad, now=NOON - timedelta(days=1))
        outbox.tally("source", bad)
    [kept] = outbox.quarantined()
    assert (kept.sha256, kept.code, kept.reason) == (MAIL.hex(), "malformed", "a NUL in a header")

    assert outbox.is_quarantined(kept.sha256)

    outbox.expire(kept, Verdict("ignored", "expired"))

    assert outbox.quarantined() == []
    assert not outbox.is_quarantined(kept.sha256)
    assert outbox.counts() == [("source", "ignored", "expired", 1)]
