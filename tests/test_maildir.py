"""What lies in a Maildir is found, whoever put it there and however, and read without harm."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from mailbridge.errors import NotPermitted, StorageFailed
from mailbridge.maildir import (
    Folders,
    Found,
    NotAMail,
    Unready,
    Vanished,
    base_of,
    finish,
    folders,
    make_maildir,
    read,
    scan_folder,
    scan_maildir,
    stale,
    store_mail,
)
from mailbridge.maildir.scan import ANYWAY, SETTLED

MAIL: Final = b"Subject: hello\n\nworld\n"
LIMIT: Final = 1000


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    path = tmp_path / "Maildir"
    make_maildir(path)
    return path


def by_rename(maildir: Path, name: str, mail: bytes = MAIL) -> Path:
    """Deliver as Dovecot does."""
    held = maildir / "tmp" / name
    held.write_bytes(mail)
    return held.rename(maildir / "new" / name)


def by_link(maildir: Path, name: str, mail: bytes = MAIL) -> Path:
    """Deliver as Postfix does."""
    held = maildir / "tmp" / name
    held.write_bytes(mail)
    (maildir / "new" / name).hardlink_to(held)
    held.unlink()
    return maildir / "new" / name


def into_cur(maildir: Path, name: str, mail: bytes = MAIL) -> Path:
    """Deliver as Dovecot does where Sieve added a flag."""
    held = maildir / "tmp" / name
    held.write_bytes(mail)
    return held.rename(maildir / "cur" / f"{name}:2,F")


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


# -- reading


def test_a_file_that_is_still_written_to_is_not_read(maildir: Path) -> None:
    """Somebody's `cp mail Maildir/new/`."""
    path = maildir / "new" / "1.host"
    with path.open("wb", buffering=0) as writer:
        writer.write(MAIL[:5])

        with pytest.raises(Unready, match="still being written"):
            read(path, limit=LIMIT)
        writer.write(MAIL[5:])

    assert read(path, limit=LIMIT) == MAIL


def test_whoever_wants_to_write_to_a_mail_being_read_does_not_end_us(maildir: Path) -> None:
    """The kernel tells the holder of a lease by SIGIO, which ends a process that has not asked."""
    path = by_link(maildir, "1.host")
    script = f"""
import os, signal
from mailbridge.maildir import scan
told = {{signal.SIGIO, signal.SIGURG}}
signal.pthread_sigmask(signal.SIG_BLOCK, told)
fd = os.open({str(path)!r}, os.O_RDONLY)
assert not scan._written_to(fd)
child = os.fork()
if child == 0:
    os.close(fd)
    os.close(os.open({str(path)!r}, os.O_WRONLY))
    os._exit(0)
print(signal.Signals(signal.sigwait(told)).name)
os.close(fd)
"""

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    # Ignored where nobody asks for it, unlike SIGIO.
    assert (done.returncode, done.stdout) == (0, "SIGURG\n"), done.stderr


def test_a_mail_replaced_while_it_is_read_is_the_one_or_the_other(maildir: Path) -> None:
    one, other = b"1" * 300_000, b"2" * 200_000
    path = by_rename(maildir, "1.host", one)
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            by_rename(maildir, "1.host", other)
            by_rename(maildir, "1.host", one)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = [read(path, limit=LIMIT * LIMIT) for _ in range(300)]
    finally:
        stop.set()
        thread.join()

    assert set(seen) <= {one, other}


def test_a_mail_written_to_while_it_is_read_is_whole_or_not_ready(maildir: Path) -> None:
    path = by_rename(maildir, "1.host", b"1" * 300_000)
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for letter in (b"2", b"1"):
                with path.open("r+b") as file:
                    file.write(letter * 300_000)

    def told() -> set[int]:
        try:
            return set(read(path, limit=LIMIT * LIMIT))
        except Unready:
            return set()

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        seen = [told() for _ in range(300)]
    finally:
        stop.set()
        thread.join()

    # Never a mixture of both.
    assert {len(letters) for letters in seen} <= {0, 1}


def test_a_mail_that_is_gone_has_vanished(maildir: Path) -> None:
    with pytest.raises(Vanished):
        read(maildir / "new" / "1.host", limit=LIMIT)


def test_an_empty_file_is_an_empty_mail(maildir: Path) -> None:
    assert read(by_rename(maildir, "1.host", b""), limit=LIMIT) == b""


def make_socket(path: Path) -> None:
    # A socket's name has 107 bytes at most, so it is made where names are short.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as made:
        made.bind(f"{short}/s")
        Path(f"{short}/s").rename(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
        (os.mkfifo, "a FIFO"),
        (make_socket, "a socket"),
        (Path.mkdir, "a directory"),
        (lambda path: path.write_bytes(b"x" * (LIMIT + 1)), "too large: 1001 bytes, limit 1000"),
    ],
)
def test_what_is_no_mail_is_neither_followed_nor_opened(
    maildir: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = maildir / "new" / "1.host"
    make(path)

    with pytest.raises(NotAMail) as told:
        read(path, limit=LIMIT)

    assert told.value.reason == reason
    assert told.value.size == (LIMIT + 1 if "large" in reason else None)


def test_a_mail_of_exactly_the_limit_is_one(maildir: Path) -> None:
    assert len(read(by_rename(maildir, "1.host", b"x" * LIMIT), limit=LIMIT)) == LIMIT


def test_a_huge_mail_is_refused_unread(maildir: Path) -> None:
    path = maildir / "new" / "1.host"
    path.touch()
    os.truncate(path, 200 * 1024 * 1024 * 1024)

    with pytest.raises(NotAMail) as told:
        read(path, limit=LIMIT)

    assert told.value.size == 200 * 1024 * 1024 * 1024


@pytest.fixture
def open_maildir() -> Iterator[Path]:
    """A Maildir on a way that everybody may go; pytest's own are for its user alone."""
    way = Path(tempfile.mkdtemp())
    way.chmod(0o755)
    make_maildir(way / "Maildir")
    (way / "Maildir").chmod(0o755)
    for folder in (way / "Maildir").iterdir():
        folder.chmod(0o755)
    yield way / "Maildir"
    shutil.rmtree(way)


@contextmanager
def as_anybody() -> Iterator[None]:
    """Be no longer root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_mail_we_may_not_read_waits_for_a_better_mode(open_maildir: Path) -> None:
    path = by_link(open_maildir, "1.host")
    path.chmod(0o000)

    with as_anybody(), pytest.raises(Unready, match="Permission denied"):
        read(path, limit=LIMIT)
    path.chmod(0o644)
    with as_anybody():
        assert read(path, limit=LIMIT) == MAIL


def test_a_folder_we_may_not_read_is_an_error_and_not_empty(open_maildir: Path) -> None:
    (open_maildir / "new").chmod(0o000)

    with as_anybody(), pytest.raises(NotPermitted, match=r"new': Permission denied"):
        list(scan_maildir(open_maildir))


def test_a_folder_that_is_none_is_an_error(maildir: Path) -> None:
    (maildir / "cur").rmdir()
    (maildir / "cur").touch()

    with pytest.raises(StorageFailed, match="Not a directory"):
        list(scan_maildir(maildir))


# -- when a mail is done


def found(maildir: Path) -> Found:
    (one,) = scan_maildir(maildir)
    return one


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("new/1.host", "1.host:2,S"),
        ("new/1.host,S=5", "1.host,S=5:2,S"),
        ("cur/1.host:2,", "1.host:2,S"),
        ("cur/1.host:2,RT", "1.host:2,RST"),
        ("cur/1.host:2,FS", "1.host:2,FS"),
        ("cur/1.host", "1.host:2,S"),
        ("cur/1.host:1,experiment", "1.host:2,S"),
    ],
)
def test_a_mail_marked_seen_is_where_readers_expect_it(maildir: Path, name: str, then: str) -> None:
    by_link(maildir, "1.host").rename(maildir / name)

    assert finish(found(maildir), "seen") == maildir / "cur" / then
    assert (maildir / "cur" / then).read_bytes() == MAIL
    assert len(list(scan_maildir(maildir))) == 1


def test_a_mail_to_be_deleted_is_gone(maildir: Path) -> None:
    by_link(maildir, "1.host")

    assert finish(found(maildir), "delete") is None
    assert bases(maildir) == []


@pytest.mark.parametrize("after", ["seen", "delete"])
def test_a_mail_that_took_the_place_of_one_that_is_done_is_left_alone(
    maildir: Path, after: str
) -> None:
    by_rename(maildir, "1.host")
    done = found(maildir)
    by_rename(maildir, "1.host", b"quite another mail")

    finish(done, after)  # type: ignore[arg-type]

    assert (maildir / "new" / "1.host").read_bytes() == b"quite another mail"


def test_marking_a_mail_does_not_delete_one_of_the_same_name(maildir: Path) -> None:
    (maildir / "cur" / "1.host:2,S").write_bytes(b"quite another mail")
    by_link(maildir, "1.host")

    finish(min(scan_maildir(maildir)), "seen")

    assert bases(maildir) == ["1.host", "1.host"]


@pytest.mark.parametrize("after", ["seen", "delete"])
def test_a_mail_somebody_else_moved_is_left_to_them(maildir: Path, after: str) -> None:
    path = by_link(maildir, "1.host")
    done = found(maildir)
    path.rename(maildir / "cur" / "1.host:2,R")

    assert finish(done, after) is None  # type: ignore[arg-type]
    assert bases(maildir) == ["1.host"]


def test_what_a_crash_left_in_tmp_is_counted(maildir: Path) -> None:
    path = maildir / "tmp" / "1.host"
    path.touch()
    now = path.stat().st_mtime

    assert stale(maildir, older_than=600, now=now) == 0
    assert stale(maildir, older_than=600, now=now + 601) == 1


# -- storing


def test_a_stored_mail_is_found(maildir: Path) -> None:
    path, size = store_mail(maildir, io.BytesIO(MAIL), limit=LIMIT)

    assert found(maildir).path == Path(path)
    assert size == len(MAIL)


@pytest.mark.needs_program("strace")
def test_a_mail_is_on_the_disk_before_it_has_its_name_and_its_name_is_before_we_say_so(
    tmp_path: Path,
) -> None:
    """Without the first a power cut leaves an empty mail, without the second one lost in tmp/."""
    trace = tmp_path / "trace"
    words = ["ingest", "-", "--maildir", str(tmp_path / "Maildir")]
    tracer = ["strace", "-y", "-o", str(trace), "-e", "trace=write,fsync,rename,exit_group"]
    make_maildir(tmp_path / "Maildir")

    done = subprocess.run(
        [*tracer, sys.executable, "-m", "mailbridge", *words],
        input=MAIL,
        capture_output=True,
        check=False,
    )

    if b"ptrace" in done.stderr:
        pytest.skip("no tracing here")
    steps = re.findall(
        r"^(write|fsync|rename|exit_group)\((?:\d+<.*/Maildir/(tmp|new))?",
        trace.read_text(),
        re.MULTILINE,
    )
    assert steps == [
        ("write", "tmp"),
        ("fsync", "tmp"),
        ("rename", ""),
        ("fsync", "new"),
        ("exit_group", ""),
    ]
