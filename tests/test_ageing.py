"""The outbox grows old: what is received becomes small, what is done is forgotten, no uuid ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mailbridge.errors import NeedsOperator
from mailbridge.outbox import FileKey, Outbox, Verdict
from mailbridge.outbox.ageing import Old
from mailbridge.proof import Backing
from mailbridge.signing import SigningKey
from tests.conftest import NOON
from tests.test_outbox import MAIL, TAG, emit, events, news

DAY = timedelta(days=1)
LATER = NOON + 30 * DAY
ALMOST = NOON + 3.5 * DAY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(path: Path, signer: SigningKey) -> Iterator[Outbox]:
    with Outbox(path, signer, now=NOON) as opened:
        yield opened


def made(outbox: Outbox, n: int, *, days: int = 0, **more: Any) -> None:
    """Emit news that were made some *days* after NOON."""
    fields = news(n) | {"time": (NOON + days * DAY).isoformat()} | more
    with outbox.transaction():
        assert outbox.emit(fields, mail=MAIL, backfill=False)


def proved(how: str) -> dict[str, Any]:
    claims = {
        "sent_by": {"how": how},
        "signed_by": {"how": "openpgp", "status": "good", "fingerprint": "AB"},
    }
    return {"data": {"provenance": claims}}


def test_only_what_all_have_and_what_is_old_is_compacted(outbox: Outbox) -> None:
    for n in range(6):
        made(outbox, n, days=n)
    assert outbox.ageing.compact(LATER) == 0, "nobody has anything"

    outbox.acknowledge("one", 6)
    outbox.acknowledge("two", 4)
    assert outbox.ageing.due(NOON + 2 * DAY) == Old(events=2, mails=0, files=0)
    assert outbox.ageing.compact(NOON + 2 * DAY) == 2
    assert outbox.ageing.compact(LATER, limit=1) == 1
    assert outbox.ageing.compact(LATER) == 1
    assert (outbox.ageing.compact(LATER), outbox.horizon()) == (0, 4)

    assert [event.feed.seq for event in events(outbox) if event.feed] == [5, 6]
    assert outbox.head().seq == 6


def test_the_size_of_a_compacted_event_does_not_depend_on_what_it_said(
    outbox: Outbox, path: Path
) -> None:
    for n in range(50):
        made(outbox, n, data={"changes": "x" * 100_000})
    outbox.acknowledge("relay", 50)
    outbox.run("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size

    assert outbox.ageing.compact(LATER) == 50
    while outbox.ageing.spare():
        assert outbox.ageing.give_back() > 0
    outbox.run("PRAGMA wal_checkpoint(TRUNCATE)")

    assert before > 50 * 100_000
    assert path.stat().st_size < 200_000


def test_what_was_compacted_is_the_same_news_for_ever(outbox: Outbox) -> None:
    for n in range(3):
        emit(outbox, n)
    head = outbox.head()
    outbox.acknowledge("relay", 3)
    outbox.ageing.compact(LATER)

    assert [emit(outbox, n) for n in range(4)] == [False, False, False, True]
    assert outbox.hash_of(3) == head.hash
    [event] = events(outbox)
    assert event.feed is not None
    assert (event.feed.seq, event.feed.prev, event.feed.tag_seq) == (4, head.hash, 4)


def test_what_backs_compacted_news_is_known(outbox: Outbox) -> None:
    made(outbox, 1, **proved("hop"))
    made(outbox, 2)
    outbox.acknowledge("relay", 2)
    outbox.ageing.compact(LATER)

    assert outbox.backings.of(news(1)["uuid"]) == (TAG, Backing("hop", is_signed=True))
    assert outbox.backings.of(news(2)["uuid"]) is None, "it says nothing of any mail"

    # In a new epoch as well.
    known = [news(1)["uuid"], news(2)["uuid"]]
    outbox.begin_epoch(prev=None, known=known, ancestors=[outbox.feed], now=NOON)
    assert outbox.backings.of(news(1)["uuid"]) == (TAG, Backing("hop", is_signed=True))


def test_what_is_not_kept_is_never_sent_as_a_gap(outbox: Outbox) -> None:
    for n in range(3):
        emit(outbox, n)
    outbox.acknowledge("relay", 2)
    outbox.ageing.compact(LATER)

    assert [event.seq for event in outbox.after(2, 10)] == [3]
    with pytest.raises(NeedsOperator, match=r"events 2 to 2 of \S+ were received long ago"):
        outbox.after(1, 10)


def test_a_new_epoch_gives_again_what_is_kept_and_tells_of_the_rest(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(4):
        made(outbox, n, days=n)
    outbox.acknowledge("relay", 4)
    outbox.ageing.compact(NOON + 2 * DAY)

    # The relay was lost, and has the first alone.
    known = [news(0)["uuid"]]
    outbox.begin_epoch(prev=None, known=known, ancestors=[outbox.feed], now=NOON)

    assert "1 events that a relay lacks are not in the new feed" in caplog.text
    assert [event.data["bug"] for event in events(outbox)] == [2, 3]
    assert (outbox.horizon(), outbox.head().tags) == (0, {TAG: 2})
    assert not any(emit(outbox, n) for n in range(4))


def test_verdicts_are_forgotten_but_for_the_quarantine(outbox: Outbox) -> None:
    mails = [bytes([n]) * 32 for n in range(5)]
    words = ("events", "ignored", "duplicate", "quarantined", "events")
    for n, (mail, word) in enumerate(zip(mails, words, strict=True)):
        with outbox.transaction():
            outbox.decide(mail, "list", Verdict(word), now=NOON + n * DAY)
            outbox.tally("list", Verdict(word))

    assert outbox.ageing.due(ALMOST).mails == 3
    assert outbox.ageing.forget_mails(ALMOST, limit=2) == 2
    assert outbox.ageing.forget_mails(ALMOST) == 1
    assert outbox.ageing.forget_mails(ALMOST) == 0

    assert [mail.taken for mail in outbox.quarantined()] == [NOON + 3 * DAY]
    assert outbox.verdict_of(mails[4], "list") == Verdict("events")
    assert sum(n for *_, n in outbox.counts()) == 5, "what was counted stays counted"


def test_a_delivery_is_forgotten_when_its_file_was_missed_for_long(outbox: Outbox) -> None:
    done = [FileKey(1, name, 7) for name in (b"stays", b"goes", b"comes back")]
    other, old = FileKey(2, b"goes", 7), FileKey(1, b"was there before us", 7)
    with outbox.transaction():
        for key in (*done, other):
            outbox.file_done(key, Verdict("events"), now=NOON)
        outbox.file_done(old, Verdict("existing"), now=NOON)

    stays = (b"stays", 7)
    list(outbox.ageing.look(1, {stays}, now=NOON + DAY))
    list(outbox.ageing.look(1, {stays, (b"comes back", 7)}, now=NOON + 2 * DAY))
    assert outbox.ageing.forget_files(NOON) == 0
    assert outbox.ageing.due(LATER).files == 1
    assert outbox.ageing.forget_files(LATER) == 1

    known = [key for key in (*done, other, old) if outbox.file(key)]
    assert known == [done[0], done[2], other, old]


# -- taking back what nobody has -------------------------------------------------------------------


def test_an_event_taken_back_is_gone_and_those_behind_it_move_up(outbox: Outbox) -> None:
    for n in range(4):
        emit(outbox, n, tag=TAG if n % 2 else "_lk.mailbridge.bug-reported")
    before = {event.data["bug"]: event.uuid for event in events(outbox)}
    outbox.acknowledge("relay", 1)

    assert outbox.drop(2).uuid == before[1]

    left = events(outbox)
    assert [(event.data["bug"], event.uuid) for event in left] == [
        (n, before[n]) for n in (0, 2, 3)
    ]
    links = [event.feed for event in left if event.feed]
    assert [link.seq for link in links] == [1, 2, 3]
    assert [link.tag_seq for link in links] == [1, 2, 1]
    assert [link.prev for link in links[1:]] == [event.hash for event in left[:-1]]
    assert outbox.head().tags == {TAG: 1, "_lk.mailbridge.bug-reported": 2}
    assert not emit(outbox, 1), "its mail must not make it again"


def test_the_last_event_may_be_taken_back(outbox: Outbox) -> None:
    emit(outbox, 1)
    outbox.drop(1)
    assert (outbox.head().seq, outbox.head().tags) == (0, {})
    assert emit(outbox, 2)


def test_what_somebody_has_is_not_taken_back(outbox: Outbox) -> None:
    for n in range(3):
        emit(outbox, n)
    outbox.acknowledge("one", 1)
    outbox.acknowledge("two", 2)

    for seq, why in ((2, "two has it"), (0, "has it"), (4, "no event 4")):
        with pytest.raises(NeedsOperator, match=why):
            outbox.drop(seq)
    assert outbox.head().seq == 3


def test_an_end_on_the_way_takes_nothing_back(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        emit(outbox, n)
    head = outbox.head()
    with monkeypatch.context() as patch:
        patch.setattr("mailbridge.outbox.sign_fields", None)
        with pytest.raises(TypeError):
            outbox.drop(1)

    assert outbox.head() == head
    assert outbox.drop(1).seq == 1
