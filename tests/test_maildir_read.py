"""One file of a Maildir: read whole or not at all, marked, deleted, stored."""

from __future__ import annotations

import io
import os
import re
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
    Found,
    NotAMail,
    Unready,
    Vanished,
    finish,
    make_maildir,
    read,
    scan_maildir,
    stale,
    store_mail,
)
from tests.maildirs import MAIL, as_anybody, by_link, by_rename, public_maildir

LIMIT: Final = 1000


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    path = tmp_path / "Maildir"
    make_maildir(path)
    return path


def bases(maildir: Path) -> list[str]:
    return sorted(found.base for found in scan_maildir(maildir))


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


def test_a_file_of_another_size_than_it_says_is_not_ready() -> None:
    """It grew while it was read, and its owner's lease is not ours to ask for."""
    with pytest.raises(Unready, match="changed while it was read"):
        read(Path("/proc/self/status"), limit=LIMIT)


def test_a_mail_changed_while_it_is_read_is_not_ready(maildir: Path) -> None:
    path = maildir / "new" / "1.host"
    path.touch()
    os.truncate(path, 64 * 1024 * 1024)
    stop = threading.Event()

    def touch() -> None:
        time = 0
        while not stop.is_set():
            time += 1_000_000
            os.utime(path, ns=(time, time))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(Unready, match="changed while it was read"):
            read(path, limit=LIMIT * LIMIT * LIMIT)
    finally:
        stop.set()
        thread.join()


@contextmanager
def before_opening(path: Path, act: Callable[[], object]) -> Iterator[None]:
    """Call *act* in the moment between a look at *path* and its opening."""
    # An audit hook cannot be taken away again, only told to be quiet.
    waiting = [act]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if waiting and event == "open" and arguments[0] == str(path):
            waiting.pop()()

    sys.addaudithook(hook)
    yield
    waiting.clear()


@pytest.mark.parametrize(
    ("make", "reason"),
    [(lambda path: path.symlink_to("/etc/passwd"), "a symbolic link"), (os.mkfifo, "a FIFO")],
)
def test_what_takes_the_place_of_a_mail_is_neither_followed_nor_waited_for(
    maildir: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = by_link(maildir, "1.host")
    make(maildir / "tmp" / "trap")

    with (
        before_opening(path, lambda: (maildir / "tmp" / "trap").rename(path)),
        pytest.raises(NotAMail) as told,
    ):
        read(path, limit=LIMIT)

    assert told.value.reason == reason


def test_what_is_no_file_is_not_even_opened(maildir: Path) -> None:
    """To open a FIFO lets go whoever waits to write to it; to open a device can do anything."""
    path = maildir / "new" / "1.host"
    os.mkfifo(path)
    opened: list[bool] = []

    with before_opening(path, lambda: opened.append(True)), pytest.raises(NotAMail):
        read(path, limit=LIMIT)

    assert not opened


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
    with public_maildir() as maildir:
        yield maildir


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


def test_a_maildir_that_is_made_is_on_the_disk_from_the_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()
    really = os.fsync

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        really(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    root = tmp_path / "state" / "deep" / "Maildir"
    make_maildir(root)

    assert {path.stat().st_ino for path in (root, *root.parents[:3])} <= synced


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
