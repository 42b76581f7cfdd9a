"""`mailbridge audit`: each thing that can be wrong between mails, outbox and journal is told."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailbridge.cli import main
from tests.daemons import LOOPBACK, Daemon, chat, make_maildir, put, read_events, upload


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state in which three uploads, a chat, and a mail without its end came by."""
    directory = tmp_path_factory.mktemp("audit")
    maildir, state = make_maildir(directory / "Maildir"), directory / "state"
    words = ("--maildir", maildir, "--state", state, "--existing", "emit")
    for n in range(3):
        put(maildir, upload(n), f"{n}.host")
    put(maildir, chat(4), "4.host")
    put(maildir, upload(0), "5.host")
    put(maildir, b"X-DAK: dak process-upload\n" + upload(6).partition(b"\n\n")[0], "6.host")
    with Daemon("run", *words, *LOOPBACK) as daemon:
        read_events(daemon.ready()["read"], state, 3)
        assert daemon.stop() == 0
    # (It may have ended before it heard that the last one was received.)
    sql(state, "outbox.db", "UPDATE target SET acked = 3")
    return state


@pytest.fixture
def state(seen: Path, tmp_path: Path) -> Path:
    """A copy of it, to be harmed."""
    return Path(shutil.copytree(seen, tmp_path / "state"))


def audited(
    state: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["audit", *words, "--state", str(state), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_where_all_is_well_it_says_so(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = audited(state, capsys)

    assert (status, told["ok"], told["findings"]) == (0, True, [])
    assert told["counts"] == {
        "files": 6,
        "mails with a verdict": 5,
        "mails in quarantine": 1,
        "events in the outbox": 3,
        "events compared": 3,
        "events that wait to be sent": 0,
    }
    assert main(["audit", "--state", str(state)]) == 0
    assert "nothing is missing, extra or doubled" in capsys.readouterr().out


def test_a_file_without_a_verdict_waits(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(make_spool(state), upload(9), "9.host")

    status, told = audited(state, capsys)

    assert status == 0
    assert told["counts"]["files that wait"] == 1


def make_spool(state: Path) -> Path:
    spool = state / "Maildir"
    for name in ("tmp", "new", "cur"):
        (spool / name).mkdir(parents=True, exist_ok=True)
    return spool


def sql(state: Path, database: str, *statements: str) -> None:
    with sqlite3.connect(state / database) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def outbox(*statements: str) -> Callable[[Path], None]:
    return lambda state: sql(state, "outbox.db", *statements)


def journal(*statements: str) -> Callable[[Path], None]:
    return lambda state: sql(state, "journal.db", *statements)


def _drop_mail(state: Path) -> None:
    next((state / "quarantine").glob("*.eml")).unlink()


def _alter_mail(state: Path) -> None:
    next((state / "quarantine").glob("*.eml")).write_bytes(b"X-DAK: no\n\n")


def _add_mail(state: Path) -> None:
    (state / "quarantine" / f"{'a' * 64}.eml").write_bytes(b"")


_COPIED = (
    "INSERT INTO event SELECT 4, time, tag, uuid, 'x', feed, 4, 0, bytes, sum FROM event"
    " WHERE seq = 2"
)
_STRANGE_FEED = (
    (
        "INSERT INTO feed SELECT 9, substr(id, 1, length(id) - 16) || '20200101T000000Z', 1, 'x',"
        " '{}', NULL FROM feed"
    ),
    (
        "INSERT INTO event SELECT 9, time, tag, 'aaaaaaaa-4b53-5e0f-9a41-000000000000', 'x', 9, 1,"
        " 0, bytes, sum FROM event WHERE seq = 1"
    ),
)


@pytest.mark.parametrize(
    ("harm", "what", "where", "told"),
    [
        (outbox("DELETE FROM event WHERE seq = 2"), "missing", "outbox", "events 2 to 2"),
        (
            outbox("UPDATE event SET raw = (SELECT raw FROM event WHERE seq = 1) WHERE seq = 2"),
            "damaged",
            "outbox",
            "event 2: ",
        ),
        (outbox("UPDATE event SET hash = 'x' WHERE seq = 2"), "damaged", "outbox", "event 2: "),
        (outbox("UPDATE tag SET n = n + 1"), "different", "outbox", "count 4 events, 3 are"),
        (
            outbox("UPDATE event SET mail = NULL WHERE seq = 2"),
            "missing",
            "outbox",
            "became events, and none is there",
        ),
        (outbox("DELETE FROM event WHERE seq = 3"), "extra", "journal", "3 to 3: the outbox lacks"),
        (journal("DELETE FROM event WHERE seq = 2"), "missing", "journal", "2 to 2: the outbox"),
        (
            journal("DELETE FROM event WHERE seq = 3", "UPDATE feed SET seq = 2"),
            "missing",
            "journal",
            "3 to 3, which it once had received",
        ),
        (
            journal("UPDATE event SET hash = 'x' WHERE seq = 2"),
            "different",
            "journal",
            ": 2 is another event",
        ),
        (journal(_COPIED, "UPDATE feed SET seq = 4"), "extra", "journal", "4 to 4"),
        (
            journal(
                "UPDATE event SET visible = 0 WHERE seq = 3",
                "UPDATE event SET tag = (SELECT tag FROM event WHERE seq = 2),"
                " uuid = (SELECT uuid FROM event WHERE seq = 2) WHERE seq = 3",
            ),
            "doubled",
            "journal",
            "3 says what 2 said",
        ),
        (journal(*_STRANGE_FEED), "extra", "journal", "knows of no such feed"),
        (_drop_mail, "missing", "quarantine", ".eml"),
        (_alter_mail, "damaged", "quarantine", "is not the mail that came"),
        (_add_mail, "extra", "quarantine", "aaaa.eml: the outbox knows of no such mail"),
        (outbox("DELETE FROM count"), "different", "mails", "0 were counted"),
    ],
)
def test_what_is_wrong_is_found(  # noqa: PLR0913, PLR0917 - the columns of the table
    state: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], None],
    what: str,
    where: str,
    told: str,
) -> None:
    harm(state)

    status, found = audited(state, capsys)

    assert status == 65
    assert not found["ok"]
    assert [
        one
        for one in found["findings"]
        if (one["what"], one["where"]) == (what, where) and told in one["told"]
    ], found["findings"]


def test_a_person_is_shown_each_finding_in_a_line(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _add_mail(state)

    assert main(["audit", "--state", str(state)]) == 65

    assert "extra       quarantine" in capsys.readouterr().out


def test_it_compares_with_a_relay_that_runs_as_with_a_file(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Daemon("relay", "--state", state, *LOOPBACK) as daemon:
        url = daemon.ready()["read"]
        status, told = audited(state, capsys, url)
        assert (status, told["counts"]["events compared"]) == (0, 3)
        assert daemon.stop() == 0
    file = (state / "journal.db").as_uri()
    assert audited(state, capsys, file)[0] == 0
    sql(state, "journal.db", "UPDATE event SET bytes = NULL WHERE seq < 3")
    sql(state, "journal.db", "UPDATE meta SET value = 2 WHERE name = 'horizon'")
    with Daemon("relay", "--state", state, *LOOPBACK) as daemon:
        # (What was pruned there it cannot tell of any more.)
        assert audited(state, capsys, daemon.ready()["read"])[0] == 0
        assert daemon.stop() == 0
    assert audited(state, capsys, file)[1]["counts"]["events compared"] == 3


def test_where_no_bridge_has_run_it_says_so(tmp_path: Path) -> None:
    assert main(["audit", "--state", str(tmp_path / "none")]) == 78
