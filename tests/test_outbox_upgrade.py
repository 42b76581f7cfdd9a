"""An outbox of an older mailbridge: copied, brought to our form, and refused by the older one."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mailbridge import failpoint
from mailbridge.database import Form
from mailbridge.errors import NeedsOperator, StorageFailed, TryAgain
from mailbridge.journal import Journal
from mailbridge.journal.file import FORM
from mailbridge.outbox import FileKey, Outbox, Verdict, file
from mailbridge.proof import Backing
from mailbridge.signing import SigningKey
from tests.conftest import NOON
from tests.feeds import Source
from tests.test_outbox import MAIL, emit, events, news


def of_version(version: int, path: Path, signer: SigningKey) -> Path:
    """Make an outbox as mailbridge made it when its schema was *version*, with three events."""
    fresh = path.with_name("fresh.db")
    with Outbox(fresh, signer, now=NOON) as outbox:
        for n in range(3):
            emit(outbox, n)
        with outbox.transaction():
            outbox.decide(MAIL, "list", Verdict("events"), now=NOON)
            outbox.file_done(FileKey(1, b"1.x", 7), Verdict("events"), now=NOON)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for script in (file.FORM.tables, *file.FORM.steps[: version - 1]):
            db.executescript(script)
        db.execute(f"PRAGMA user_version={version}")
        db.execute("ATTACH ? AS fresh", (str(fresh),))
        for table in ("event", "file", "meta", "tag", "mail"):
            names = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
            db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM fresh.{table}")  # noqa: S608 - ours
    return path


@pytest.fixture(params=range(1, file.FORM.version))
def old(request: pytest.FixtureRequest, tmp_path: Path, signer: SigningKey) -> Path:
    """An outbox of each earlier schema."""
    return of_version(request.param, tmp_path / "outbox.db", signer)


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize(
    ("form", "released"),
    [
        (file.FORM, ["51d1a7c52300226a", "a90fad6397d6a2f9"]),
        (FORM, ["6248e720544ecc0f", "2e20a9045a13abb4"]),
    ],
    ids=["outbox", "journal"],
)
def test_what_was_released_is_as_it_was(form: Form, released: list[str]) -> None:
    """Who edits a step leaves databases that took the old one behind: add another step."""
    scripts = (form.tables, *form.steps)
    told = [hashlib.sha256(script.encode()).hexdigest()[:16] for script in scripts]

    assert told[: len(released)] == released


def test_it_is_copied_and_goes_on(old: Path, signer: SigningKey) -> None:
    before = version(old)
    with Outbox(old, signer, now=NOON) as outbox:
        assert not emit(outbox, 2)
        assert emit(outbox, 3)
        assert [event.data["bug"] for event in events(outbox)] == [0, 1, 2, 3]
        assert outbox.verdict_of(MAIL, "list") == Verdict("events")
        assert outbox.made(1) == outbox.made(4) == NOON
        outbox.acknowledge("relay", 4)
        assert outbox.ageing.compact(NOON + timedelta(days=1)) == 4

    kept = old.with_name(f"outbox.db.schema-{before}")
    assert (version(old), version(kept)) == (file.FORM.version, before)
    assert kept.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(kept)) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone()[0] == 3


def test_it_is_copied_once(old: Path, signer: SigningKey) -> None:
    for _ in range(2):
        Outbox(old, signer, now=NOON).close()
        for kept in old.parent.glob("outbox.db.schema-*"):
            kept.unlink()
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
    before = version(old)
    old.with_name(f"outbox.db.schema-{before}.tmp").mkdir()

    with pytest.raises(StorageFailed, match=rf"outbox\.db\.schema-{before}: cannot be written"):
        Outbox(old, signer, now=NOON)
    assert version(old) == before


@pytest.mark.parametrize("where", ["copied", "migrated", "outbox-commit"])
def test_killed_on_the_way_it_is_as_it_was(old: Path, signer: SigningKey, where: str) -> None:
    before = version(old)
    opening = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path;"
        "from mailbridge.outbox import Outbox; from mailbridge.signing import SigningKey;"
        f"Outbox(Path(sys.argv[1]), SigningKey({signer.entity!r}, bytes(range(32))),"
        "now=datetime.now(UTC))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", opening, old],
        env={**os.environ, failpoint.VARIABLE: where},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert version(old) == before

    with Outbox(old, signer, now=NOON) as outbox:
        assert len(events(outbox)) == 3
    assert version(old) == file.FORM.version


def test_an_older_program_refuses_it(
    tmp_path: Path, signer: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outbox.db"
    Outbox(path, signer, now=NOON).close()

    of_before = Form(file.FORM.tables, file.FORM.steps[:-1])
    monkeypatch.setattr("mailbridge.outbox.FORM", of_before)
    newer = rf"made by a newer mailbridge \(schema {file.FORM.version}, we know"
    with pytest.raises(NeedsOperator, match=newer) as refused:
        Outbox(path, signer, now=NOON)
    assert refused.value.exit_status == 78


# -- the journal -----------------------------------------------------------------------------------


def test_a_journal_is_brought_up_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, source = tmp_path / "journal.db", Source()
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        event = source.event(1)
        batch.append(event, event.raw)

    later = Form(FORM.tables, (*FORM.steps, "CREATE TABLE later (x);"))
    monkeypatch.setattr("mailbridge.journal.file.FORM", later)
    monkeypatch.setattr("mailbridge.journal.file.SCHEMA", later.version)
    with pytest.raises(TryAgain, match="is older than this program; its relay mends that"):
        Journal.open(path, readonly=True)
    with Journal.open(path) as journal:
        assert [bytes(raw) for _, raw in journal.read(0)] == [event.raw]

    assert version(path) == later.version
    assert version(path.with_name(f"journal.db.schema-{FORM.version}")) == FORM.version
