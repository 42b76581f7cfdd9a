"""A watch says when to look, and never stays silent about having missed something."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, cast

import pytest
from watchdog.observers.inotify import InotifyEmitter

from mailbridge.maildir import Watch, make_maildir, scan_maildir, store_mail
from mailbridge.maildir.watch import AGAIN, POLLED, WATCHED
from tests.maildirs import as_anybody, public_maildir

PATIENCE: Final = 30.0
"""A guard against hanging.  What is waited for takes a millisecond."""


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    path = tmp_path / "Maildir"
    make_maildir(path)
    return path


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def watch(maildir: Path, woken: threading.Event) -> Iterator[Watch]:
    watch = Watch([maildir], woken.set)
    watch.start()
    yield watch
    watch.stop()


def deliver(maildir: Path) -> Path:
    return Path(store_mail(maildir, io.BytesIO(b"A: mail\n\n"), limit=100)[0])


def wakes(woken: threading.Event, act: Callable[[], object]) -> bool:
    woken.clear()
    act()
    return woken.wait(PATIENCE)


def by_link(maildir: Path) -> None:
    (maildir / "tmp" / "1").write_bytes(b"A: mail\n\n")
    (maildir / "new" / "1").hardlink_to(maildir / "tmp" / "1")


def straight_into_cur(maildir: Path) -> None:
    (maildir / "tmp" / "1").write_bytes(b"A: mail\n\n")
    (maildir / "tmp" / "1").rename(maildir / "cur" / "1:2,S")


@pytest.mark.parametrize("arrive", [deliver, by_link, straight_into_cur])
def test_a_delivery_wakes(
    watch: Watch, maildir: Path, woken: threading.Event, arrive: Callable[[Path], object]
) -> None:
    assert watch.mode == "inotify"
    assert wakes(woken, lambda: arrive(maildir))
    assert watch.healthy()


def test_moving_a_mail_away_does_not_hold_back_the_next(
    watch: Watch, maildir: Path, woken: threading.Event
) -> None:
    """watchdog waits half a second for where a file went, and all that follows waits with it."""
    first = deliver(maildir)
    first.rename(maildir / "tmp" / first.name)

    assert wakes(woken, lambda: deliver(maildir))
    assert watch._observer
    groups = [cast(InotifyEmitter, emitter)._inotify for emitter in watch._observer.emitters]
    delays = [group._move_event_grouper._queue.delay for group in groups if group]
    assert delays == [0, 0]


def test_one_watch_serves_several_maildirs(tmp_path: Path, woken: threading.Event) -> None:
    maildirs = [tmp_path / name for name in ("a", "b", "c")]
    for maildir in maildirs:
        make_maildir(maildir)
    watch = Watch(maildirs, woken.set)
    watch.start()

    for maildir in maildirs:
        assert wakes(woken, partial(deliver, maildir))
    watch.stop()


def test_a_stopped_watch_has_no_threads_and_wakes_nobody(
    maildir: Path, woken: threading.Event
) -> None:
    before = threading.active_count()
    watch = Watch([maildir], woken.set)
    watch.start()
    watch.stop()
    woken.clear()

    deliver(maildir)

    assert threading.active_count() == before
    assert not woken.is_set()
    watch.stop()


# -- subfolders


def test_a_subfolder_made_while_running_is_watched(maildir: Path, woken: threading.Event) -> None:
    watch = Watch([maildir], woken.set, subfolders=[maildir])
    watch.start()

    assert wakes(woken, lambda: make_maildir(maildir / ".sub"))
    assert not watch.healthy()
    watch.rearm()
    assert watch.healthy()
    assert wakes(woken, lambda: deliver(maildir / ".sub"))
    watch.stop()


# -- what inotify does not tell


def remade(watch: Watch, maildir: Path, woken: threading.Event) -> None:
    """Notice that something is wrong, arm again, and be woken by the next delivery."""
    assert not watch.healthy()
    watch.rearm()
    assert watch.healthy()
    assert wakes(woken, lambda: deliver(maildir))
    assert watch.healthy()


@pytest.mark.parametrize("name", ["new", "cur"])
def test_a_deleted_folder_is_noticed_and_when_it_is_there_again_watched(
    watch: Watch, maildir: Path, woken: threading.Event, name: str
) -> None:
    (maildir / name).rmdir()
    assert not watch.healthy()
    watch.rearm()
    # As healthy as can be without it: there is nothing to miss.
    assert watch.healthy()

    (maildir / name).mkdir()
    remade(watch, maildir, woken)


def test_a_folder_deleted_and_remade_at_once_is_noticed(
    watch: Watch, maildir: Path, woken: threading.Event
) -> None:
    (maildir / "new").rmdir()
    (maildir / "other").mkdir()
    (maildir / "new").mkdir()

    remade(watch, maildir, woken)


def test_a_folder_renamed_away_is_noticed(
    watch: Watch, maildir: Path, woken: threading.Event
) -> None:
    """inotify says nothing at all, and watches it where it is now."""
    (maildir / "new").rename(maildir / "old")
    (maildir / "new").mkdir()

    remade(watch, maildir, woken)


def test_a_maildir_that_is_made_later_is_noticed(tmp_path: Path, woken: threading.Event) -> None:
    watch = Watch([tmp_path / "later"], woken.set)
    watch.start()
    assert watch.healthy()

    make_maildir(tmp_path / "later")

    remade(watch, tmp_path / "later", woken)
    watch.stop()


@pytest.mark.needs_program("mount", root=True)
def test_a_file_system_mounted_or_unmounted_is_noticed(
    watch: Watch, maildir: Path, woken: threading.Event
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", maildir], check=True)
    try:
        make_maildir(maildir)
        remade(watch, maildir, woken)
    finally:
        watch.stop()
        subprocess.run(["umount", maildir], check=True)
    watch.start()
    assert wakes(woken, lambda: deliver(maildir))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_observer_ended_by_an_exception_is_noticed(
    maildir: Path, woken: threading.Event
) -> None:
    calls: list[int] = []

    def wake() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError
        woken.set()

    watch = Watch([maildir], wake)
    watch.start()
    observer = watch._observer
    assert observer

    deliver(maildir)
    observer.join(PATIENCE)

    remade(watch, maildir, woken)
    watch.stop()


@pytest.mark.parametrize("which", ["emitter", "reader"])
def test_any_dead_thread_is_noticed(
    watch: Watch, maildir: Path, woken: threading.Event, which: str
) -> None:
    observer = watch._observer
    assert observer
    thread = next(iter(observer.emitters)) if which == "emitter" else observer._inotify_fd

    thread.stop()
    thread.join(PATIENCE)

    remade(watch, maildir, woken)


def test_an_overflow_of_the_kernels_queue_is_doubt(
    watch: Watch, maildir: Path, woken: threading.Event
) -> None:
    """watchdog drops what it has, writes a line to its log, and goes on."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 100_000:
        pytest.skip(f"this kernel queues {most} events")
    observer = watch._observer
    assert observer
    seed = deliver(maildir)
    assert woken.wait(PATIENCE)
    assert watch.healthy()

    # The reader's own lock: held by us, it is as slow as a machine can be.  (It may have read some
    # thousands already, and wait with them.)
    most += 10_000
    with observer._inotify_fd._lock:
        for number in range(most):
            os.link(seed, f"{maildir}/new/1.{number:06}")
        woken.clear()

    # The first to wake may be one of the deliveries before it.
    assert woken.wait(PATIENCE)
    woken.clear()
    while watch.healthy():
        assert woken.wait(PATIENCE)
        woken.clear()
    watch.rearm()
    assert watch.healthy()
    assert len(list(scan_maildir(maildir))) == most + 1
    assert wakes(woken, lambda: deliver(maildir))


def test_a_folder_that_becomes_readable_is_noticed(woken: threading.Event) -> None:
    """watchdog ignores that it may not watch it, and stays deaf."""
    with public_maildir() as maildir:
        (maildir / "new").chmod(0o000)
        with as_anybody():
            watch = Watch([maildir], woken.set)
            watch.start()
            assert watch.healthy()
        (maildir / "new").chmod(0o755)
        with as_anybody():
            assert not watch.healthy()
            watch.rearm()
        assert wakes(woken, lambda: deliver(maildir))
        watch.stop()


# -- no watch to be had


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_inotify_the_folders_are_polled_until_there_is_some(
    maildir: Path, woken: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    watch = Watch([maildir], woken.set, clock=clock)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        watch.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (watch.mode, watch.interval) == ("poll", POLLED)
    assert watch.reason == "no watch: inotify instance limit reached"
    assert watch.reason in caplog.text
    assert watch.healthy()

    clock.now += AGAIN
    assert not watch.healthy()
    watch.rearm()
    assert (watch.mode, watch.interval, watch.reason) == ("inotify", WATCHED, "")
    assert wakes(woken, lambda: deliver(maildir))
    watch.stop()


@pytest.mark.needs_program("unshare")
@pytest.mark.parametrize(("limit", "number"), [("instances", 0), ("watches", 1)])
def test_where_the_kernel_gives_no_more_the_folders_are_polled(
    maildir: Path, limit: str, number: int
) -> None:
    script = f"""
import pathlib, threading
from mailbridge.maildir import Watch
watch = Watch([pathlib.Path({str(maildir)!r})], print)
watch.start()
print(watch.mode, watch.reason, threading.active_count())
"""
    shell = f'echo {number} > /proc/sys/user/max_inotify_{limit} && exec "$0" -c "$1"'

    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", shell, sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
    )

    if "unshare" in done.stderr or "max_inotify" in done.stderr:
        pytest.skip("no name spaces of users here")
    words = {"instances": "instance", "watches": "watch"}
    assert done.stdout == f"poll no watch: inotify {words[limit]} limit reached 1\n", done.stderr
