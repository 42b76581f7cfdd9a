"""An outbox of an older mailbridge: copied, brought to our form, and refused by the older one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mailbridge.errors import NeedsOperator, StorageFailed
from mailbridge.outbox import Outbox, file
from mailbridge.proof import Backing
from mailbridge.signing import SigningKey
from tests.conftest import NOON
from tests.test_outbox import MAIL, emit, events, news

OF_OLD = ("backing", "stood_in")


@pytest.fixture
def old(tmp_path: Path, signer: SigningKey) -> Path:
    """An outbox of schema 1, with a few events."""
    path = tmp_path / "outbox.db"
    with Outbox(path, signer, now=NOON) as outbox:
        for n in range(3):
            emit(outbox, n)
    with closing(sqlite3.connect(path)) as db:
        for table in OF_OLD:
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version=1")
        db.commit()
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_it_is_copied_and_goes_on(old: Path, signer: SigningKey) -> None:
    with Outbox(old, signer, now=NOON) as outbox:
        assert not emit(outbox, 2)
        assert emit(outbox, 3)
        assert [event.data["bug"] for event in events(outbox)] == [0, 1, 2, 3]

    kept = old.with_name("outbox.db.schema-1")
    assert (version(old), version(kept)) == (file.SCHEMA_VERSION, 1)
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(kept)) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone()[0] == 3


def test_it_is_copied_once(old: Path, signer: SigningKey) -> None:
    for _ in range(2):
        Outbox(old, signer, now=NOON).close()
        old.with_name("outbox.db.schema-1").unlink(missing_ok=True)
    assert [path.name for path in old.parent.glob("outbox.db.*")] == []


def test_what_backs_its_news_is_known(old: Path, signer: SigningKey) -> None:
    proved = news(7)
    proved["data"]["provenance"] = {
        "sent_by": {"how": "hop", "who": "archive.example.org"},
        "signed_by": {"how": "openpgp", "status": "good", "fingerprint": "AB"},
    }
    with Outbox(old, signer, now=NOON) as outbox:
        with outbox.transaction():
            outbox.emit(proved, mail=MAIL, backfill=False)
        out = outbox.backings.of(proved["uuid"])

        assert out == (proved["tag"], Backing("hop", is_signed=True))
        assert outbox.backings.of(news(1)["uuid"]) is None, "it says nothing of any mail"


def test_while_it_cannot_be_copied_it_stays_as_it_is(old: Path, signer: SigningKey) -> None:
    old.with_name("outbox.db.schema-1.tmp").mkdir()

    with pytest.raises(StorageFailed, match=r"outbox\.db\.schema-1: cannot be written"):
        Outbox(old, signer, now=NOON)
    assert version(old) == 1


def test_an_end_on_the_way_leaves_the_old_one(
    old: Path, signer: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(file.MIGRATIONS, 1, file.MIGRATIONS[1] + "; no statement at all")
        with pytest.raises(sqlite3.OperationalError):
            Outbox(old, signer, now=NOON)
    assert version(old) == 1

    with Outbox(old, signer, now=NOON) as outbox:
        assert len(events(outbox)) == 3


def test_the_older_program_refuses_it(
    old: Path, signer: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    Outbox(old, signer, now=NOON).close()

    monkeypatch.setattr("mailbridge.outbox.SCHEMA_VERSION", 1)
    with pytest.raises(NeedsOperator, match=r"made by a newer mailbridge \(schema 2, we know 1\)"):
        Outbox(old, signer, now=NOON)
