"""
Whatever happens to a Maildir and to who watches it, each mail is its event, once, at a reader.

All through `mailbridge run` as a process, and through a reader that proves what it reads.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.daemons import Daemon, chat, make_maildir, put, upload
from tests.services import OBSERVED, Service, names, numbered

# Makes root somebody who has to ask the mode of a file, as the service's own user does.
NO_CAPABILITIES: Final = """
import ctypes
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
if ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()):
    raise SystemExit("capset failed")
"""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.mark.fault(1, 2, 3)
@pytest.mark.parametrize("by", ["rename", "link", "cur"])
def test_a_mail_delivered_in_any_way_is_an_event_while_we_move_files_ourselves(
    service: Service, by: str
) -> None:
    with service.running():
        for _ in range(20):
            service.deliver(by=by)
        service.check()
    assert names(service.maildir / "new") == set()
    assert len(names(service.maildir / "cur")) == 20


@pytest.mark.fault(4, 5, 6)
def test_what_other_readers_do_with_a_mail_is_no_news(tmp_path: Path) -> None:
    service = Service(tmp_path, after="keep")
    with service.running():
        for _ in range(5):
            # Gone from new/ before, while or after we look.
            path = service.deliver()
            path.rename(service.maildir / "cur" / f"{path.name}:2,")
        path = service.deliver()
        service.arrived()
        path = path.rename(service.maildir / "cur" / f"{path.name}:2,S")
        for flags in ("RS", "S") * 25:
            path = path.rename(path.with_name(path.name.partition(":")[0] + f":2,{flags}"))
        path.rename(path.with_name(path.name.replace(":", ",U=17:")))
        service.deliver()
        service.check()


@pytest.mark.fault(7)
def test_the_same_bytes_under_a_second_name_are_a_duplicate(service: Service) -> None:
    with service.running():
        raw = service.mail()
        for name in ("1.first", "2.second", "3.third"):
            put(service.maildir, raw, name)
        service.files += 2
        service.deliver()
        service.check()


@pytest.mark.fault(8)
def test_mail_that_came_before_the_start_is_taken(service: Service) -> None:
    for by in ("rename", "link", "cur"):
        service.deliver(by=by)
    with service.running():
        service.check()


@pytest.mark.fault(9)
def test_mail_that_comes_between_the_watch_and_the_first_look_is_taken(service: Service) -> None:
    raw = service.mail()
    (service.maildir / "tmp" / "1.between").write_bytes(raw)
    held, final = (service.maildir / folder / "1.between" for folder in ("tmp", "new"))
    between = f"""
import os
from mailbridge.maildir import watch
start = watch.Watch.start
def started(self):
    start(self)
    self._wake = lambda: None
    os.rename({str(held)!r}, {str(final)!r})
watch.Watch.start = started
"""
    with service.running(preamble=between):
        service.check()


@pytest.mark.fault(10)
@pytest.mark.edge(69)
def test_a_queue_that_overflows_loses_no_mail(service: Service) -> None:
    """The daemon stands still while more comes than the kernel's queue can hold."""
    with service.running() as daemon:
        service.deliver()
        service.arrived()
        daemon.signal(signal.SIGSTOP)
        mails = (service.mail() if n % 500 == 0 else chat(n) for n in range(1, 20_001))
        numbered(mails, service.maildir, ending="burst")
        service.files += 20_000 - 40
        daemon.signal(signal.SIGCONT)
        service.check()


@pytest.mark.fault(11, 12)
@pytest.mark.parametrize("how", ["deleted", "renamed away"])
def test_a_folder_that_is_made_anew_is_watched_again(service: Service, how: str) -> None:
    with service.running() as daemon:
        service.deliver()
        service.arrived()
        if how == "deleted":
            shutil.rmtree(service.maildir / "new")
        else:
            (service.maildir / "new").rename(service.maildir / "old")
        (service.maildir / "new").mkdir()
        daemon.says("watching anew")
        service.deliver()
        service.check()


@pytest.mark.needs_program("mount", root=True)
@pytest.mark.fault(13)
def test_a_file_system_that_comes_and_goes_is_noticed(service: Service) -> None:
    folder = service.maildir / "new"
    with service.running() as daemon:
        service.deliver()
        service.arrived()
        done = subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=False)
        if done.returncode:
            pytest.skip("no file system may be mounted here, not even by root")
        try:
            daemon.says("watching anew")
            (folder / "5.mounted").write_bytes(service.mail())
            service.arrived()
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        service.deliver()
        service.check()


@pytest.mark.fault(14, 15, 16)
@pytest.mark.parametrize(
    "harm",
    [
        # What a handler raises ends the observer's thread, without a word.
        "observer.event_queue.put((None, None))",
        "observer._stopped_event.set(); observer.event_queue.put(observer.stop_event)",
        "observer._inotify_fd.stop()",
    ],
    ids=["exception in a handler", "observer ended", "inotify's thread ended"],
)
def test_a_dead_thread_is_replaced(service: Service, harm: str) -> None:
    with service.running(preamble=OBSERVED.format(harm=harm)) as daemon:
        service.deliver()
        service.arrived()
        daemon.signal(signal.SIGUSR1)
        daemon.says("watching anew")
        service.deliver()
        service.check()


@pytest.mark.fault(17)
def test_without_inotify_it_looks_by_itself_and_says_so(service: Service) -> None:
    none_left = f"""
import os
from watchdog.observers import inotify
class Observer(inotify.InotifyObserver):
    def __init__(self, *words, **more):
        raise OSError({errno.EMFILE}, "inotify instance limit reached")
inotify.InotifyObserver = Observer
"""
    with service.running(preamble=none_left) as daemon:
        daemon.says("no watch: inotify instance limit reached")
        for by in ("rename", "link", "cur"):
            service.deliver(by=by)
        service.check()


@pytest.mark.fault(18)
def test_a_mail_is_taken_when_its_writer_is_done(service: Service) -> None:
    raw = service.mail()
    half = len(raw) // 2
    with service.running() as daemon, (service.maildir / "new" / "1.copied").open("wb") as file:
        file.write(raw[:half])
        file.flush()
        daemon.says("1.copied': still being written")
        file.write(raw[half:])
        file.close()
        service.check()


@pytest.mark.fault(19)
def test_a_mail_that_is_replaced_while_it_is_read_is_the_one_or_the_other(
    service: Service,
) -> None:
    """The file is another one at every look: whichever was read has a verdict, and whole."""
    path = service.maildir / "cur" / "1.replaced:2,"
    with service.running():
        for n in range(200):
            held = service.maildir / "tmp" / "1"
            held.write_bytes(upload(1) if n % 2 else upload(1) + b"\n" * 100)
            held.rename(path)
        service.mail()
        events = service.arrived()
    assert [event.data["source_name"] for event in events] == ["package1"]


@pytest.mark.fault(20, 22)
@pytest.mark.edge(68)
def test_what_is_no_mail_is_not_followed_and_odd_names_are_names(
    service: Service, tmp_path: Path
) -> None:
    new = service.maildir / "new"
    (tmp_path / "secret").write_bytes(upload(900))
    (new / "1.link").symlink_to(tmp_path / "secret")
    os.mkfifo(new / "2.fifo")
    (new / "3.directory").mkdir()
    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.bind(str(new / "4.socket"))
    (new / "5.empty").touch()
    (new / ".6.hidden").write_bytes(upload(901))
    odd = [b"7.new\nline", b"8.\xff\xfe", b"9." + b"n" * 200, b":", b"10.a:b:c:2,S"]
    for name in odd:
        (new / os.fsdecode(name)).write_bytes(service.mail())
    with service.running():
        service.deliver()
        events = service.arrived()
        # Link, FIFO, socket and the empty file have verdicts of their own; the others are none.
        service.files += 4
        service.check()
    assert len(events) == len(odd) + 1
    assert names(new) == {"3.directory", ".6.hidden"}
    assert {"1.link:2,S", "2.fifo:2,S", "4.socket:2,S"} <= names(service.maildir / "cur")


@pytest.mark.fault(20)
def test_a_link_from_elsewhere_is_taken_as_the_mail_that_it_is(
    service: Service, tmp_path: Path
) -> None:
    """An MDA delivers by link, so that a file of two names is nothing odd; its bytes are read."""
    (tmp_path / "elsewhere").write_bytes(service.mail())
    (service.maildir / "new" / "1.link").hardlink_to(tmp_path / "elsewhere")
    with service.running():
        service.check()
    assert (tmp_path / "elsewhere").read_bytes() == upload(1)


@pytest.mark.fault(21)
@pytest.mark.edge(68)
def test_a_mail_that_may_not_be_read_waits_and_holds_up_no_other(service: Service) -> None:
    locked = service.deliver(name="1.locked.host")
    locked.chmod(0)
    with service.running(preamble=NO_CAPABILITIES) as daemon:
        daemon.says("1.locked.host")
        service.deliver()
        locked.chmod(0o600)
        service.check()


@pytest.mark.fault(23)
def test_a_second_bridge_on_one_state_ends_at_once(service: Service) -> None:
    with service.running():
        with Daemon(*service.words) as second:
            assert second.wait() in (75, 78)
            assert "Traceback" not in second.said
        service.deliver()
        service.check()


@pytest.mark.fault(24)
def test_a_folder_made_at_run_time_is_watched(tmp_path: Path) -> None:
    service = Service(tmp_path)
    (tmp_path / "mailbridge.toml").write_text(
        f'state = "{service.state}"\n[[source]]\nname = "all"\nmaildir = "{service.maildir}"\n'
        'existing = "emit"\nsubfolders = true\n',
        "utf-8",
    )
    words = ("-c", tmp_path / "mailbridge.toml", "run", *service.words[-6:])
    with Daemon(*words) as daemon:
        service.read = daemon.ready()["read"]
        service.deliver()
        sub = make_maildir(service.maildir / ".sub")
        put(sub, service.mail(), "1.sub")
        service.check()
        put(sub, service.mail(), "2.sub")
        service.check()


@pytest.mark.fault(25)
def test_a_mail_stranded_in_tmp_is_told_and_left_alone(service: Service) -> None:
    """After a power cut a whole mail may lie there; it may as well be half of one."""
    stranded = service.maildir / "tmp" / "1.stranded"
    stranded.write_bytes(upload(77))
    os.utime(stranded, (1, 1))
    with service.running() as daemon:
        daemon.says("a delivery was broken off: 1 file")
        service.deliver()
        service.check()
    assert stranded.read_bytes() == upload(77)


@pytest.mark.fault(26)
def test_a_hundred_thousand_files_cost_little_memory(service: Service) -> None:
    # (A file may have 65,000 names on ext4.)
    for n in (0, 50_000):
        seed = put(service.maildir, chat(n), f"{n:06}.old", by="cur")
        for more in range(n + 1, n + 50_000):
            os.link(seed, f"{service.maildir}/cur/{more:06}.old:2,S")
    service.files += 100_000
    words = [word if word != "emit" else "skip" for word in service.words]
    with Daemon(*words) as daemon:
        service.read = daemon.ready()["read"]
        service.deliver()
        service.arrived()
        status = Path(f"/proc/{daemon.pid}/status").read_text("ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0])
    assert peak < 150 * 1024, f"{peak} KiB"


@pytest.mark.fault(27)
def test_a_clock_that_jumps_loses_and_doubles_nothing(service: Service) -> None:
    """Every look at the clock is an hour off from the one before, in either direction."""
    jumping = """
import itertools, time
real, jumps = time.time, itertools.cycle((0, 3600, -3600))
time.time = lambda: real() + next(jumps)
"""
    with service.running(preamble=jumping):
        for by in ("rename", "link", "cur") * 3:
            service.deliver(by=by)
        service.check()
