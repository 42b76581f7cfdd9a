"""A large Maildir is looked through a part at a time, and nothing in it is overlooked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from mailbridge.bridge import newcomers
from mailbridge.bridge.newcomers import Crowd, Newcomers
from mailbridge.outbox import FileKey, Outbox, Verdict
from mailbridge.signing import SigningKey
from tests.conftest import NOON

KNOWN = [b"%03d" % number for number in range(30)]


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    with Outbox(None, SigningKey("mailbridge.example.org", bytes(32)), now=NOON) as found:
        yield found


@pytest.fixture
def maildir(tmp_path: Path, outbox: Outbox) -> Path:
    """A Maildir with thirty mails in `cur/` that have their verdicts."""
    for folder in ("tmp", "new", "cur"):
        (tmp_path / folder).mkdir()
    with outbox.transaction():
        assert outbox.add_place(b"here", now=NOON) == 1
        for name in KNOWN:
            inode = put(tmp_path / "cur", name.decode())
            outbox.file_done(FileKey(1, name, inode), Verdict("events"), now=NOON)
    return tmp_path


def put(folder: Path, base: str) -> int:
    path = folder / f"{base}:2,S"
    path.write_bytes(b"x")
    return path.stat().st_ino


def new(looks: Newcomers, *, whole: bool = False) -> list[str]:
    return [found.base for found, known in looks.look(1, whole=whole) if not known]


def test_a_large_folder_is_looked_through_in_parts_and_to_its_end(
    maildir: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "SLICE", 10)
    fresh = {f"fresh{number}" for number in range(5)}
    for base in fresh:
        put(maildir / "cur", base)
    looks = Newcomers(maildir, outbox, subfolders=False)

    parts = [[*looks.look(1, whole=False)]]
    while looks.due() == -math.inf:
        parts.append([*looks.look(1, whole=False)])

    assert [len(part) for part in parts] == [10, 10, 10, 5]
    assert {found.base for part in parts for found, known in part if not known} == fresh


def test_what_is_new_is_seen_at_once_while_a_large_folder_is_looked_through(
    maildir: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "SLICE", 10)
    looks = Newcomers(maildir, outbox, subfolders=False)
    assert new(looks) == []
    put(maildir / "new", "urgent")

    assert new(looks) == ["urgent"]
    assert looks.due() == -math.inf


def test_what_was_done_before_is_not_asked_for_again_and_what_is_gone_is_forgotten(
    maildir: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    known = outbox.known_files

    def counted(place: int, files: Sequence[tuple[bytes, int]]) -> set[tuple[bytes, int]]:
        asked.extend(base for base, _ in files)
        return known(place, files)

    monkeypatch.setattr(outbox, "known_files", counted)
    looks = Newcomers(maildir, outbox, subfolders=False)
    assert new(looks) == []
    assert len(asked) == len(KNOWN)

    put(maildir / "cur", "fresh")
    assert new(looks) == ["fresh"]
    assert asked[len(KNOWN) :] == [b"fresh"]

    gone = maildir / "cur" / f"{KNOWN[0].decode()}:2,S"
    gone.rename(maildir / "away")
    assert new(looks) == ["fresh"]
    (maildir / "away").rename(gone)
    asked.clear()
    assert new(looks) == ["fresh"]
    assert sorted(asked) == [KNOWN[0], b"fresh"]


def test_where_all_of_it_is_wanted_all_of_it_is_looked_at(
    maildir: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "SLICE", 10)
    put(maildir / "cur", "fresh")

    assert new(Newcomers(maildir, outbox, subfolders=False), whole=True) == ["fresh"]


def test_a_folder_that_takes_long_is_left_alone_for_a_while_and_then_looked_at_again(
    maildir: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "LONG", -1.0)
    monkeypatch.setattr(newcomers, "PAUSE", timedelta(hours=1) / timedelta(microseconds=1))
    looks = Newcomers(maildir, outbox, subfolders=False)
    assert new(looks) == []
    put(maildir / "cur", "moved by a reader")

    assert new(looks) == []
    assert -math.inf < looks.due() < math.inf

    looks.begin_anew()
    assert new(looks) == ["moved by a reader"]


def test_what_changes_while_it_is_looked_through_is_looked_at_once_more(
    maildir: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "SLICE", 10)
    looks = Newcomers(maildir, outbox, subfolders=False)
    assert new(looks) == []
    put(maildir / "cur", "late")

    found = {base for _ in range(8) for base in new(looks)}

    assert found == {"late"}


def test_a_crowd_knows_each_file_by_name_and_inode() -> None:
    crowd = Crowd()
    for number in range(3_000):
        crowd.add((b"%d" % number, number))
    assert all((b"%d" % number, number) in crowd for number in range(3_000))
    crowd.add((b"late", 7))

    assert (b"late", 7) in crowd
    assert (b"late", 8) not in crowd
    assert (b"7", 8) not in crowd
    assert len(crowd) == 3_001
