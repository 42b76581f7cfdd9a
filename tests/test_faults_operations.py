"""What systemd, the kernel and an operator's mistakes demand of the service, on real processes."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec
import pytest
from watchdog.observers import inotify_c
from watchdog.observers.inotify import InotifyObserver
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

from mailbridge import keyring
from mailbridge.journal import Journal
from mailbridge.keyring import read_secret
from mailbridge.reader import listen
from tests.conftest import NOON
from tests.daemons import PATIENCE, Daemon
from tests.feeds import Source
from tests.services import Service

ROOT: Final = Path(__file__).parent.parent

# From now on no page of this process may be made executable (prctl(2), PR_SET_MDWE).
NO_NEW_CODE: Final = """
import ctypes
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    raise SystemExit("no PR_SET_MDWE")
"""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.mark.fault(28)
def test_the_watchdog_that_runs_is_one_we_allow_and_has_what_we_reach_into() -> None:
    """Three of its private parts are ours to know (maildir/watch.py): older ones lose mail."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (pin,) = (word for word in project["dependencies"] if word.startswith("watchdog"))
    least = tuple(map(int, pin.partition(">=")[2].split(".")))

    assert least >= (7, 1)
    assert tuple(map(int, metadata.version("watchdog").split(".")[:2])) >= least
    assert isinstance(InotifyMoveEventGrouper.delay, float | int)
    assert inotify_c.logger.name == "watchdog.observers.inotify_c"
    observer = InotifyObserver()
    observer.start()
    assert observer._inotify_fd.is_alive()
    observer.stop()
    observer.join()


@pytest.mark.fault(105)
def test_the_service_works_where_memory_may_not_be_written_and_run(service: Service) -> None:
    with service.running(preamble=NO_NEW_CODE):
        for by in ("rename", "link", "cur"):
            service.deliver(by=by)
        service.check()


# Answers of every verifier that we have, under the same rule.
_VERIFIERS: Final = (
    NO_NEW_CODE
    + """
import pysequoia, dkim, nacl.signing, zmq, sqlite3, msgspec, mailparser, debian.deb822
key = nacl.signing.SigningKey.generate()
key.verify_key.verify(key.sign(b"x"))
print("works")
"""
)


@pytest.mark.fault(105)
def test_what_we_are_built_on_works_there_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _VERIFIERS], capture_output=True, text=True, check=False
    )

    assert done.stdout == "works\n", done.stderr


@pytest.mark.needs_program("strace", "systemd-analyze")
@pytest.mark.fault(106)
@pytest.mark.parametrize("unit", ["mailbridge.service", "mailbridge-relay.service"])
def test_no_system_call_is_made_that_the_unit_forbids(service: Service, unit: str) -> None:
    """A refused call is a failure that only shows on the operator's host."""
    allowed = _allowed(unit)
    log = service.maildir.parent / "calls"
    with Daemon(*service.words) as daemon:
        read = daemon.ready()["read"]
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", log, "-p", str(daemon.pid)],
            stderr=subprocess.PIPE,
        )
        with tracer:
            service.read = read
            for by in ("rename", "link", "cur"):
                service.deliver(by=by)
            service.arrived()
            assert daemon.stop() == 0
        # What it does until it is ready, in a process that is traced from its first breath.
    start = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", f"{log}.start", sys.executable, "-m", "mailbridge"),
            *map(str, service.words[:-6]),
            *("--submit", "nonsense"),
        ],
        capture_output=True,
        check=False,
    )

    assert start.returncode != 0
    called = _calls(log) | _calls(Path(f"{log}.start"))
    assert {"openat", "sendto", "fdatasync"} <= called
    assert called - allowed == set()
    assert "sched_setscheduler" in allowed


def _calls(log: Path) -> set[str]:
    return set(re.findall(r"(?m)^\d+ +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed)", log.read_text()))


def _allowed(unit: str) -> set[str]:
    """Return the calls that the filter of *unit* lets pass, as systemd itself resolves it."""
    text = (ROOT / "systemd" / unit).read_text("utf-8")
    allowed: set[str] = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", text):
        named = set[str]()
        for word in line.removeprefix("~").split():
            named |= _members(word) if word.startswith("@") else {word}
        allowed = allowed - named if line.startswith("~") else allowed | named
    # SQLite gives new files their directory's owner, but only where it runs as root.
    return allowed | {"fchown"}


def _members(name: str) -> set[str]:
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    words = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    members = {word for word in words if not word.startswith(("@", "#"))}
    for word in words:
        if word.startswith("@"):
            members |= _members(word)
    return members


# Blocks the main loop for good, at the first mail.
HANGING: Final = """
import signal
from mailbridge.bridge import deliver
def hang(*_, **__):
    while True:
        signal.pause()
deliver.Gateway.deliver_each = hang
"""


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        yield told


def drained(told: socket.socket) -> None:
    """Take what was said, until there is nothing more to take."""
    for _ in range(1000):
        told.recv(4096)


@pytest.mark.fault(107)
def test_a_main_loop_that_hangs_is_not_called_alive(
    service: Service, systemd: socket.socket
) -> None:
    with Daemon(*service.words, preamble=HANGING) as daemon:
        assert systemd.recv(4096).startswith(b"READY=1")
        while systemd.recv(4096) != b"WATCHDOG=1":
            pass
        service.deliver()
        # Whatever it said before it hung: then silence, for ten of its periods.
        systemd.settimeout(1.5)
        with pytest.raises(TimeoutError):
            drained(systemd)
        daemon.kill()


@pytest.mark.fault(107)
def test_a_relay_that_is_away_is_told_and_no_reason_for_a_restart(
    service: Service, systemd: socket.socket
) -> None:
    words = ("bridge", *service.words[1:-6], "--submit", "tcp://127.0.0.1:9")
    with Daemon(*words) as daemon:
        told = ""
        while "events wait" not in told:
            told = systemd.recv(4096).decode()
        while systemd.recv(4096) != b"WATCHDOG=1":
            pass
        assert daemon.stop() == 0


@pytest.mark.fault(109)
def test_a_secret_key_is_nowhere_but_in_its_file(service: Service) -> None:
    with Daemon(*service.words) as daemon:
        service.read, key = (daemon.ready()[word] for word in ("read", "key"))
        service.deliver()
        service.arrived()
        environ = Path(f"/proc/{daemon.pid}/environ").read_bytes()
        arguments = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
        assert daemon.stop() == 0
        said = daemon.said.encode()
    path = service.state / "keys" / f"{key}.key_secret"
    assert path.stat().st_mode & 0o777 == 0o600
    entry = re.search(r'signing-key = "(.*)"', path.read_text("ascii"))
    assert entry
    seed = base64.b64decode(entry[1] + "=")
    secret = read_secret(path)
    others = [
        file.read_bytes()
        for file in service.state.rglob("*")
        if file.is_file() and file.suffix != ".key_secret"
    ]
    for form in (seed, seed.hex().encode(), base64.b64encode(seed)[:40]):
        assert not any(form in text for text in (environ, arguments, said, *others))
        assert form.decode("latin-1") not in repr(secret) + str(secret)


@pytest.mark.fault(111)
def test_an_old_reader_hands_on_what_a_newer_version_adds(tmp_path: Path) -> None:
    """What it does not know, in the envelope or in data, is signed like the rest."""
    source = Source()
    link = msgspec.to_builtins(source.head.link("_lk.mailbridge.bug-closed"))
    event = source.signed(
        1, feed=link, format="1.7", added_later="x", data={"number": 1, "later": [{"a": 1}]}
    )
    keyring.write_public(tmp_path / "trusted" / "source.key", source.key.verify_key)
    with Journal.open(tmp_path / "journal.db") as journal, journal.batch(NOON) as batch:
        batch.append(event, event.raw)

    url = (tmp_path / "journal.db").as_uri()
    found = next(listen(url, keys=tmp_path / "trusted", since="start", timeout=PATIENCE))

    assert found.raw == event.raw
    assert found.data["later"] == [{"a": 1}]


# 50,000 mails through the gateway, with its outbox on a disk; prints its memory on the way.
MANY_MAILS: Final = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mailbridge.bridge.deliver import Delivery, Gateway, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.config import Source
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey
from tests.daemons import chat, report, upload

def memory():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])

state, now = Path(sys.argv[1]), datetime.now(UTC)
sources = (Source(name="all", maildir="/nowhere"),)
with Outbox(state / "outbox.db", SigningKey.generate("mailbridge.x"), now=now) as outbox:
    gateway = Gateway(outbox, Quarantine(state / "quarantine"), Settings())
    for start in range(0, 50_000, 50):
        made = [upload(n) if n % 10 == 0 else report(n) if n % 10 == 5 else chat(n)
                for n in range(start, start + 50)]
        gateway.deliver([Delivery(raw, sources, now) for raw in made])
        if (start + 50) % 10_000 == 0:
            print(memory(), flush=True)
    print(outbox.head().seq)
"""


@pytest.mark.fault(112)
def test_memory_is_flat_over_fifty_thousand_mails(tmp_path: Path) -> None:
    """(How many a second it takes is measured by `mailbridge bench`.)"""
    done = subprocess.run(
        [sys.executable, "-c", MANY_MAILS, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert done.returncode == 0, done.stderr
    *memory, events = map(int, done.stdout.split())
    assert events == 10_000
    assert max(memory) - memory[0] < 10 * 1024, memory
