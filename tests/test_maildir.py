"""What lies in a Maildir is found, whoever put it there and however, and read without harm."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from mailbridge.maildir import (
    Folders,
    NotAMail,
    base_of,
    finish,
    folders,
    make_maildir,
    read,
    scan_folder,
    scan_maildir,
    stale,
)
from mailbridge.maildir.scan import ANYWAY, SETTLED
from tests.maildirs import MAIL, by_link, by_rename, into_cur

LIMIT: Final = 1000


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    path = tmp_path / "Maildir"
    make_maildir(path)
    return path


def bases(maildir: Path) -> list[str]:
    return sorted(found.base for found in scan_maildir(maildir))


# -- looking


@pytest.mark.parametrize("deliver", [by_rename, by_link, into_cur])
def test_a_mail_is_found_however_it_was_delivered(
    maildir: Path, deliver: Callable[[Path, str], Path]
) -> None:
    path = deliver(maildir, "1.host")

    (found,) = scan_maildir(maildir)

    assert (found.base, found.path, found.inode) == ("1.host", path, path.stat().st_ino)
    assert read(found.path, limit=LIMIT) == MAIL


@pytest.mark.parametrize(
    "renames",
    [
        pytest.param([":2,S", ":2,RS", ":2,"], id="a reader flags it"),
        pytest.param([",U=17:2,S", ",U=17:2,FS"], id="mbsync numbers it"),
        pytest.param([",S=22,W=24:2,", ",S=22,W=24:2,Sa"], id="Dovecot notes its size"),
        pytest.param([",U=5,FMD5=abc:2,S"], id="offlineimap notes its folder"),
    ],
)
def test_a_mail_keeps_its_base_name(maildir: Path, renames: list[str]) -> None:
    path = by_rename(maildir, "1700000000.V8I2.host")
    inode = path.stat().st_ino

    for rename in renames:
        path = path.rename(maildir / "cur" / f"1700000000.V8I2.host{rename}")

        (found,) = scan_maildir(maildir)
        assert (found.base, found.inode) == ("1700000000.V8I2.host", inode)


def test_what_is_found_sorts_by_age(maildir: Path) -> None:
    for name in ("1700000003.b.host", "1700000001.c.host", "1700000002.a.host"):
        by_link(maildir, name)

    assert [found.base[9] for found in sorted(scan_maildir(maildir))] == ["1", "2", "3"]


def test_dot_files_directories_and_the_inside_of_tmp_are_no_mails(maildir: Path) -> None:
    (maildir / "new" / ".nfs0001").write_bytes(MAIL)
    (maildir / "new" / "folder").mkdir()
    (maildir / "tmp" / "1.host").write_bytes(MAIL)
    (maildir / "dovecot-uidlist").write_bytes(b"3 V1")

    assert list(scan_maildir(maildir)) == []


def test_subfolders_are_looked_into_where_asked_for(maildir: Path) -> None:
    make_maildir(maildir / ".lists.changes")
    make_maildir(maildir / "not-a-subfolder")
    by_link(maildir, "1.host")
    by_link(maildir / ".lists.changes", "2.host")
    by_link(maildir / "not-a-subfolder", "3.host")

    assert bases(maildir) == ["1.host"]
    assert sorted(f.base for f in scan_maildir(maildir, subfolders=True)) == ["1.host", "2.host"]


def test_a_subfolder_that_is_a_link_is_not_followed(maildir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    make_maildir(elsewhere)
    (maildir / ".loop").symlink_to(elsewhere)

    assert folders(maildir, subfolders=True) == [maildir / "new", maildir / "cur"]


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(scan_maildir(tmp_path / "none", subfolders=True)) == []
    assert Folders(tmp_path / "none").changed() == []
    assert stale(tmp_path / "none", older_than=0, now=0) == 0


@pytest.mark.parametrize(
    "name",
    [
        b"1.new\nline",
        b"1.not-utf-8-\xff\xfe",
        b"2" * 255,
        b":2,S",
        b",",
        b"1 \xe2\x80\xae evil",
        b"-rf",
    ],
)
def test_odd_names_are_names(maildir: Path, name: bytes) -> None:
    path = os.fsencode(maildir / "new") + b"/" + name
    with open(path, "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(MAIL)

    (found,) = scan_maildir(maildir)

    assert os.fsencode(found.name) == name
    assert base_of(found.name) == found.base
    assert read(found.path, limit=LIMIT) == MAIL
    assert finish(found, "delete") is None
    assert bases(maildir) == []


def test_an_error_about_an_odd_name_is_one_line(maildir: Path) -> None:
    path = maildir / "new" / "evil\nname \udcff"
    path.symlink_to("/etc/passwd")

    with pytest.raises(NotAMail) as told:
        read(path, limit=LIMIT)

    assert re.fullmatch(r"[ -~]+", str(told.value))


# -- what has to be looked at again


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settle(maildir: Path, clock: Clock) -> None:
    """Have everything in *maildir* changed long ago."""
    for folder in folders(maildir):
        os.utime(folder, (clock.now - 60, clock.now - 60))


def test_an_idle_round_looks_into_no_folder(maildir: Path, clock: Clock) -> None:
    settle(maildir, clock)
    seen = Folders(maildir, clock=clock)

    assert seen.changed() == [maildir / "new", maildir / "cur"]
    assert seen.changed() == []


def test_a_delivery_changes_its_folder_only(maildir: Path, clock: Clock) -> None:
    settle(maildir, clock)
    seen = Folders(maildir, clock=clock)
    seen.changed()

    by_link(maildir, "1.host")

    assert seen.changed() == [maildir / "new"]


def test_a_folder_changed_just_before_its_scan_is_scanned_once_more(
    maildir: Path, clock: Clock
) -> None:
    """A mail that came within the same tick, after the listing, leaves the same mtime."""
    seen = Folders(maildir, clock=clock)
    for folder in folders(maildir):
        os.utime(folder, (clock.now, clock.now))

    assert seen.changed() == seen.changed() != []
    clock.now += SETTLED + 1
    assert seen.changed() != []
    assert seen.changed() == []


@pytest.mark.parametrize("jump", [-7200, 7200], ids=["back", "forward"])
def test_a_clock_that_jumps_costs_a_look_and_no_mail(
    maildir: Path, clock: Clock, jump: int
) -> None:
    settle(maildir, clock)
    seen = Folders(maildir, clock=clock)
    seen.changed()

    clock.now += jump

    assert len(seen.changed()) == 2


def test_every_folder_is_looked_into_at_times_whatever_it_says(maildir: Path, clock: Clock) -> None:
    settle(maildir, clock)
    seen = Folders(maildir, clock=clock)
    seen.changed()

    clock.now += ANYWAY + 1

    assert len(seen.changed()) == 2


def test_a_folder_in_doubt_is_looked_into(maildir: Path, clock: Clock) -> None:
    settle(maildir, clock)
    seen = Folders(maildir, clock=clock)
    seen.changed()

    seen.doubt(str(maildir / "cur"))
    assert seen.changed() == [maildir / "cur"]
    seen.doubt()
    assert len(seen.changed()) == 2


def test_a_remade_folder_is_looked_into_though_it_is_as_old(maildir: Path, clock: Clock) -> None:
    settle(maildir, clock)
    seen = Folders(maildir, clock=clock)
    seen.changed()

    (maildir / "new").rename(maildir / "away")
    (maildir / "new").mkdir()
    settle(maildir, clock)

    assert seen.changed() == [maildir / "new"]


def test_a_subfolder_made_while_running_is_looked_into(maildir: Path, clock: Clock) -> None:
    settle(maildir, clock)
    seen = Folders(maildir, subfolders=True, clock=clock)
    seen.changed()

    make_maildir(maildir / ".sub")

    assert seen.changed() == [maildir / ".sub" / "new", maildir / ".sub" / "cur"]


def test_a_hundred_thousand_mails_are_found(maildir: Path, clock: Clock) -> None:
    # Links, since writing that many files takes a while; no inode has room for all of them.
    seeds = [by_rename(maildir, f"0.{number}") for number in range(2)]
    for number in range(99_998):
        os.link(seeds[number % 2], f"{maildir}/cur/1.{number:06}:2,S")
    settle(maildir, clock)
    seen = Folders(maildir, clock=clock)

    found = [one.base for folder in seen.changed() for one in scan_folder(folder)]

    assert len(set(found)) == 100_000
    assert seen.changed() == []
