"""`doctor`: set-ups that are wrong in one way each, and what is said of them with the mend."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mailbridge import keyring
from mailbridge.bridge.state import opened as opened_state
from mailbridge.cli import main
from mailbridge.config import Config, load
from mailbridge.doctor import Host, Patient
from mailbridge.doctor.units import shipped
from mailbridge.health import Canary, Live, told_by
from mailbridge.outbox.notes import Notes
from mailbridge.signing import SigningKey
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, upload
from tests.openpgp import gnupg
from tests.test_health import BRIDGE

ENTITY: Final = "mailbridge.lists.example.org"
TREE: Final = Path(__file__).parent.parent

HEADERS: Final = """\
Received: from lists.example.org (lists.example.org [192.0.2.1]) by mx.example.org (Postfix)
{more}List-Id: <{list_id}>
From: Jane Doe <jane@example.org>
Subject: {subject}
Date: {date}
Message-ID: <{n}@example.org>

x
"""


class SetUp:
    """A set-up below a directory, with nothing wrong, until a test makes something wrong."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory: Final = directory
        self.state: Final = directory / "state"
        self.maildir: Final = make_maildir(directory / "Maildir")
        self.root: Final = directory / "root"
        self.path: Final = self.root / "etc/mailbridge/mailbridge.toml"
        self.path.parent.mkdir(parents=True)
        for name in ("proc/self", "proc/sys/fs/inotify"):
            (self.root / name).mkdir(parents=True)
        self.host("/proc/self/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.host("/proc/sys/fs/inotify/max_user_instances", "128\n")
        self.host("/proc/sys/fs/inotify/max_user_watches", "65536\n")
        self._capsys: Final = capsys
        self.configure()

    def host(self, path: str, text: str) -> Path:
        """Have a file of the host say *text*."""
        there = self.root / path.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)
        return there

    def configure(self, source: str = "", top: str = "", bottom: str = "") -> None:
        """Write the configuration: one source, which *source* has more to say of."""
        self.path.write_text(
            f'state = "{self.state}"\n{top}\n[[source]]\nname = "changes"\n'
            f'maildir = "{self.maildir}"\n{source}\n{bottom}\n'
        )

    def run_once(self) -> None:
        """Leave a state behind, as a bridge that ran."""
        with opened_state(Config(state=str(self.state), entity=ENTITY)):
            pass

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Have this host tell that some process holds the lock of the outbox."""
        lock = self.state / "outbox.lock"
        lock.touch()
        told = f"1: FLOCK  ADVISORY  WRITE 4242 08:01:{lock.stat().st_ino} 0 EOF\n"
        self.host("/proc/locks", told)
        yield

    def mail(self, n: int, **how: Any) -> Path:
        """Deliver a mail that came by the list."""
        return put(self.maildir, mail(n, **how), f"{n}.a")

    def doctor(self, *words: str) -> tuple[int, dict[str, str]]:
        """Return the exit status, and what is found: the line of each, by its code."""
        status = main(["doctor", "--root", str(self.root), "--json", *words])
        found = map(json.loads, self._capsys.readouterr().out.splitlines())
        return status, {one["code"]: f"{one['what']}; {one['mend']}" for one in found}

    def finds(self, code: str, *words: str) -> str:
        """Return the one line that is found, which is about *code*, with each of *words* in it."""
        status, found = self.doctor()
        assert (status, list(found)) == (65, [code]), found
        for word in words:
            assert word in found[code], found[code]
        assert "\n" not in found[code]
        return found[code]


def mail(
    n: int,
    *,
    list_id: str = "changes.lists.example.org",
    subject: str = "lunch",
    date: datetime | None = None,
    more: str = "",
) -> bytes:
    told = format_datetime(date or datetime.now(UTC))
    return HEADERS.format(n=n, list_id=list_id, subject=subject, date=told, more=more).encode()


@pytest.fixture
def setup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> SetUp:
    return SetUp(tmp_path, capsys)


# -- nothing wrong ---------------------------------------------------------------------------------


def test_a_set_up_that_did_not_run_yet_is_well(
    setup: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup.doctor() == (0, {})
    assert main(["doctor", "--root", str(setup.root)]) == 0
    assert capsys.readouterr().out == "nothing is wrong here\n"


def test_a_gateway_that_runs_well_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maildir, state = make_maildir(tmp_path / "Maildir"), tmp_path / "state"
    settings = tmp_path / "mailbridge.toml"
    settings.write_text(
        f'state = "{state}"\n[[source]]\nname = "changes"\nmaildir = "{maildir}"\n'
        'lists = ["devel-changes.lists.example.org"]\nexpect_every = "24h"\nexisting = "emit"\n'
        "[relay]\n"
        + "".join(f'{name} = "tcp://127.0.0.1:0"\n' for name in ("submit", "publish", "read"))
    )
    put(maildir, upload(1), "1.a")
    with Daemon("-c", settings, "run") as daemon:
        daemon.ready()
        status = main(["-c", str(settings), "doctor"])
        said = capsys.readouterr().out
        assert daemon.stop() == 0

    assert (status, said) == (0, "nothing is wrong here\n")


# -- Maildirs --------------------------------------------------------------------------------------


def test_a_maildir_that_is_not_there(setup: SetUp) -> None:
    shutil.rmtree(setup.maildir)

    setup.finds("maildir-missing", "source 'changes'", "does not exist", "maildirmake")


def test_a_directory_that_is_no_maildir(setup: SetUp) -> None:
    for name in ("new", "cur", "tmp"):
        (setup.maildir / name).rmdir()

    setup.finds("no-maildir", "neither new/ nor cur/", "name the directory")


def test_a_maildir_on_a_file_system_that_tells_of_no_mail(setup: SetUp) -> None:
    mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 / {} rw shared:1 - nfs4 mail:/ rw\n"
    setup.host("/proc/self/mountinfo", mounts.format(setup.maildir))

    setup.finds("remote-maildir", "lies on nfs4", "every 15 s")


def test_deliveries_that_were_broken_off(setup: SetUp) -> None:
    left = setup.maildir / "tmp" / "1.a"
    left.write_bytes(b"x")
    os.utime(left, (time.time() - 7200, time.time() - 7200))

    setup.finds("stranded", "1 file(s)", "move what is whole to new/")


def test_a_subscription_that_waits_for_an_answer(setup: SetUp) -> None:
    confirm = "confirm 0123456789abcdef0123456789abcdef01234567"
    path = setup.mail(1, subject=confirm, more="Reply-To: changes-request@lists.example.org\n")
    setup.mail(2, subject="I can confirm that this works")

    line = setup.finds("confirmation", confirm, "reply to changes-request@lists.example.org")
    assert str(path) in line
    path.rename(setup.maildir / "cur" / "1.a:2,RS")
    assert setup.doctor() == (0, {})


@pytest.mark.parametrize(
    "subject",
    [
        "confirm subscribe to changes@lists.example.org",
        "Your confirmation is required to join the changes mailing list",
        "Confirmation for subscribe changes",
        "AUTH 12ab34 subscribe changes",
        "CONFIRM s2026112013100012345",
    ],
)
def test_every_list_software_that_asks_for_confirmation_is_understood(
    setup: SetUp, subject: str
) -> None:
    setup.mail(1, subject=subject)

    setup.finds("confirmation", subject)


# -- as the service's user -------------------------------------------------------------------------


@pytest.fixture
def unprivileged(setup: SetUp) -> Callable[[], dict[str, str]]:
    """Ask as root where the state belongs to somebody else, by whose rights is judged."""
    setup.run_once()
    for path in (setup.state, *setup.state.rglob("*")):
        shutil.chown(path, "nobody")
    for path in (setup.directory, *setup.directory.parents):
        if path != Path("/tmp") and path.stat().st_mode & 0o777 == 0o700:  # noqa: S108 - pytest's
            path.chmod(0o711)

    def asked() -> dict[str, str]:
        with setup.locked():
            return setup.doctor()[1]

    return asked


@pytest.mark.needs_program(root=True)
@pytest.mark.parametrize(
    ("mode", "after", "expected"),
    [
        (0o700, "keep", {"maildir-unreadable": "setfacl -R -m u:nobody:rX"}),
        (0o755, "seen", {"maildir-unwritable": "setfacl -R -m u:nobody:rwX"}),
        (0o755, "delete:30d", {"maildir-unwritable": "may not write"}),
        (0o755, "keep", {}),
    ],
)
def test_a_maildir_that_the_service_s_user_may_not_use(
    setup: SetUp,
    unprivileged: Callable[[], dict[str, str]],
    mode: int,
    after: str,
    expected: dict[str, str],
) -> None:
    setup.configure(f'after = "{after}"')
    for folder in ("new", "cur"):
        (setup.maildir / folder).chmod(mode)

    found = unprivileged()

    assert found.keys() == expected.keys()
    assert all(words in found[code] for code, words in expected.items())


@pytest.mark.needs_program(root=True)
def test_a_configuration_that_the_service_s_user_may_not_read(
    setup: SetUp, unprivileged: Callable[[], dict[str, str]]
) -> None:
    setup.path.chmod(0o600)

    assert f"nobody may not read {setup.path}; chmod a+r" in unprivileged()["config"]


@pytest.mark.needs_program(root=True)
def test_a_directory_on_the_way_that_the_service_s_user_may_not_enter(
    setup: SetUp, unprivileged: Callable[[], dict[str, str]]
) -> None:
    home = setup.directory / "home"
    home.mkdir()
    setup.maildir.rename(home / "Maildir")
    home.chmod(0o700)
    setup.path.write_text(setup.path.read_text().replace(str(setup.maildir), f"{home}/Maildir"))

    assert f"setfacl -m u:nobody:x {home}" in unprivileged()["maildir-unreadable"]


# -- keys and state --------------------------------------------------------------------------------


def test_a_secret_key_that_others_may_read(setup: SetUp) -> None:
    setup.run_once()
    path = setup.state / "keys" / f"{ENTITY}.key_secret"
    path.chmod(0o644)

    with setup.locked():
        setup.finds("key-open", "mode 0644", f"chmod 600 {path}")


def test_an_outbox_without_its_key(setup: SetUp) -> None:
    setup.run_once()
    (setup.state / "keys" / f"{ENTITY}.key_secret").unlink()

    with setup.locked():
        setup.finds("key-missing", f"{ENTITY}.key_secret", "put it back from a backup")


def test_an_outbox_of_another_entity(setup: SetUp) -> None:
    setup.run_once()
    setup.configure(top='entity = "mailbridge.other.example.org"')

    with setup.locked():
        setup.finds("entity", f"the outbox is that of {ENTITY}", f"set entity = {ENTITY!r}")


def test_two_keys_of_which_nobody_says_which(setup: SetUp) -> None:
    for name in ("a", "b"):
        keyring.write_pair(setup.state / "keys", SigningKey.generate(f"mailbridge.{name}"))

    setup.finds("two-keys", "mailbridge.a, mailbridge.b", "entity =")


def test_a_trusted_key_that_is_none(setup: SetUp) -> None:
    trusted = setup.state / "keys" / "trusted"
    trusted.mkdir(parents=True)
    (trusted / "x.key").write_text("nonsense\n")

    setup.finds("bad-key", "x.key", f"rm {trusted / 'x.key'}")


@pytest.mark.parametrize("name", ["outbox", "journal"])
def test_a_damaged_database(setup: SetUp, name: str) -> None:
    setup.run_once()
    if name == "journal":
        with Daemon("relay", "--state", setup.state, *LOOPBACK) as daemon:
            daemon.ready()
            assert daemon.stop() == 0
    path = setup.state / f"{name}.db"
    whole = bytearray(path.read_bytes())
    whole[4096 : 4096 * 3] = b"\xa5" * 8192
    path.write_bytes(whole)

    with setup.locked():
        _, found = setup.doctor()
    assert f"{path}: damaged" in found[f"{name}-damaged"]


def test_a_database_of_a_newer_version(setup: SetUp) -> None:
    setup.run_once()
    with contextlib.closing(sqlite3.connect(setup.state / "outbox.db")) as db:
        db.execute("PRAGMA user_version=99")

    with setup.locked():
        setup.finds("newer", "schema 99", "install that version")


def _in_outbox(setup: SetUp, sql: str, *values: object) -> None:
    setup.run_once()
    with contextlib.closing(sqlite3.connect(setup.state / "outbox.db")) as db, db:
        db.execute(sql, values)


def test_mails_in_quarantine(setup: SetUp) -> None:
    _in_outbox(
        setup, "INSERT INTO mail VALUES (?, 'changes', 'quarantined', 'malformed', 'x', 1)", b"s"
    )

    with setup.locked():
        setup.finds("quarantine", "1 mail(s)", "mailbridge quarantine list")


def test_digests(setup: SetUp) -> None:
    _in_outbox(setup, "INSERT INTO count VALUES ('changes', 'ignored', 'digest', 3)")

    with setup.locked():
        setup.finds("digests", "source 'changes'", "individual mails")


def test_a_stand_in_that_was_stopped(setup: SetUp) -> None:
    _in_outbox(setup, "INSERT INTO meta VALUES ('stand-in-off', 'a mailgun listens')")

    with setup.locked():
        setup.finds("stand-in", "a mailgun listens", "restart")


def test_a_clock_that_was_set_back(setup: SetUp) -> None:
    later = int(time.time()) + 86_400
    _in_outbox(setup, "INSERT INTO mail VALUES (?, 'c', 'ignored', 'x', NULL, ?)", b"s", later)

    with setup.locked():
        setup.finds("clock", "set back", "NTP")


def test_a_clock_by_which_mail_arrives_before_it_was_written(setup: SetUp) -> None:
    for n in range(5):
        setup.mail(n, date=datetime.now(UTC) + timedelta(hours=3))

    setup.finds("clock", "180 minutes before", "NTP")


def test_a_bridge_that_does_not_run(setup: SetUp) -> None:
    setup.run_once()

    setup.finds("no-bridge", "mail waits", "systemctl start mailbridge")


def _tells(setup: SetUp, **facts: Any) -> None:
    """Have a bridge run, and say these things of itself."""
    setup.run_once()
    well = {
        "time": time.time(),
        "started": time.time(),
        "canary": Canary(back=time.time(), took=0.1),
        "places": (),
        "sources": (),
        "alarms": (),
        "targets": (),
    }
    Live(setup.state, "bridge").tell(msgspec.structs.replace(BRIDGE, **(well | facts)))


def test_a_service_that_hangs(setup: SetUp) -> None:
    _tells(setup, time=time.time() - 300)

    with setup.locked():
        setup.finds("hangs", "the bridge", "said nothing for 300 s", "restart it")


def test_a_bridge_that_has_to_look_for_mail(setup: SetUp) -> None:
    _tells(setup, watch="poll", watch_reason="no watch: Too many open files")

    with setup.locked():
        setup.finds("polling", "Too many open files", "fs.inotify")


def test_a_canary_that_does_not_come_back(setup: SetUp) -> None:
    _tells(setup, started=time.time() - 900, canary=None)

    with setup.locked():
        setup.finds("not-ready", "a canary in the spool was not found")


# -- the host --------------------------------------------------------------------------------------


def test_a_watchdog_that_loses_mail(setup: SetUp) -> None:
    """Found on the path before the one that we need, as a Debian package may be."""
    old = setup.directory / "site" / "watchdog-2.2.1.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: watchdog\nVersion: 2.2.1\n")

    done = subprocess.run(
        [sys.executable, "-m", "mailbridge", "doctor", "--root", setup.root],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(old.parent)},
    )

    assert done.returncode == 65
    assert done.stdout.startswith("watchdog 2.2.1 is installed")
    assert "pip install -U watchdog" in done.stdout


@pytest.mark.parametrize("name", ["max_user_instances", "max_user_watches"])
def test_limits_of_inotify_that_are_too_low(setup: SetUp, name: str) -> None:
    setup.host(f"/proc/sys/fs/inotify/{name}", "2\n")

    setup.finds("inotify", f"fs.inotify.{name} is 2", f"sysctl -w fs.inotify.{name}=")


def test_a_state_on_a_network_file_system(setup: SetUp) -> None:
    setup.state.mkdir()
    mounts = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 / {} rw shared:1 - nfs4 nas:/ rw\n"
    setup.host("/proc/self/mountinfo", mounts.format(setup.state))

    setup.finds("remote-state", "lies on nfs4", "local disk")


@pytest.mark.needs_program("mount", root=True)
def test_a_disk_that_is_nearly_full(setup: SetUp) -> None:
    setup.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "x", setup.state], check=True)
    try:
        (setup.state / "large").write_bytes(bytes(3_900_000))
        setup.finds("disk", "0 MB are free", "make room")
    finally:
        subprocess.run(["umount", setup.state], check=True)


def test_a_second_bridge_on_the_same_maildir(setup: SetUp) -> None:
    other = setup.directory / "other"
    words = ("run", "--maildir", setup.maildir, "--state", other, *LOOPBACK)
    with Daemon(*words) as daemon:
        daemon.ready()
        for name in ("cmdline", "fdinfo"):
            there = setup.root / "proc" / str(daemon.pid) / name
            there.parent.mkdir(exist_ok=True)
            there.symlink_to(f"/proc/{daemon.pid}/{name}")
        line = setup.finds("second-bridge", f"process {daemon.pid}", "under two keys")
        assert daemon.stop() == 0

    assert str(setup.maildir) in line


# -- sources ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('kind = ["dak"]', "no such setting; did you mean 'kinds'?"),
        ('kinds = ["dack"]', "'dack' is not known; did you mean 'dak'?"),
        ('emit = ["bug-comented"]', "did you mean 'bug-commented'?"),
        ('require = "dkim"', "cannot be reached without dkim_keys or dkim_dns and dkim_domains"),
        ('expect_every = "soon"', "as '24h'"),
        ('after = "eat"', "one of 'keep', 'seen'"),
        ("name =", "no TOML"),
    ],
)
def test_a_configuration_that_means_nothing(setup: SetUp, source: str, words: str) -> None:
    setup.configure(source)

    setup.finds("config", words, "with it")


def test_a_keyring_that_is_not_there(setup: SetUp) -> None:
    setup.configure('keyrings = ["/nowhere/debian-keyring.gpg"]')

    setup.finds("keyring", "/nowhere/debian-keyring.gpg: cannot be read", "debian-keyring")


def test_a_keyring_that_holds_no_key(setup: SetUp) -> None:
    ring = setup.directory / "ring.gpg"
    ring.touch()
    setup.configure(f'keyrings = ["{ring}"]')

    setup.finds("keyring", "holds no key")


@pytest.mark.needs_program("gpg")
def test_a_keyring_of_years_ago(setup: SetUp) -> None:
    ring = setup.directory / "old.gpg"
    with gnupg() as gpg:
        ring.write_bytes(gpg.export(gpg.key("Jane Doe <jane@example.org>")))
    os.utime(ring, (time.time() - 1000 * 86400,) * 2)
    setup.configure(f'keyrings = ["{ring}"]')

    setup.finds("keyring-old", "1000 days old", "update it")


def test_a_directory_of_dkim_keys_without_any(setup: SetUp) -> None:
    keys = setup.directory / "dkim"
    keys.mkdir()
    setup.configure(f'dkim_keys = "{keys}"\ndkim_domains = ["ftp.example.org"]')

    setup.finds("dkim-keys", "has no key of ftp.example.org", "SELECTOR._domainkey.DOMAIN")
    (keys / "sel.ftp.example.org").write_text("v=DKIM1; p=AAAA")
    assert setup.doctor() == (0, {})
    shutil.rmtree(keys)
    setup.finds("dkim-keys", "is no directory")


_RESULTS: Final = "Authentication-Results: {}; dkim=pass header.d=example.org\n"


def test_an_authserv_id_that_our_mail_server_does_not_use(setup: SetUp) -> None:
    setup.configure('authserv_id = "mail.example.org"\ndkim_domains = ["example.org"]')
    for n in range(4):
        put(setup.maildir, _RESULTS.format("mx.example.org").encode() + mail(n), f"{n}.a")

    setup.finds("authserv-id", "'mail.example.org'", "of mx.example.org", "set authserv_id")
    setup.configure('authserv_id = "mx.example.org"\ndkim_domains = ["example.org"]')
    assert setup.doctor() == (0, {})


def test_a_mail_server_that_checks_nothing(setup: SetUp) -> None:
    setup.configure('authserv_id = "mx.example.org"\ndkim_domains = ["example.org"]')
    for n in range(4):
        # (Below our own Received anybody may have written it.)
        setup.mail(n, more=_RESULTS.format("mx.example.org"))

    setup.finds("authserv-id", "there are none at all", "opendkim")


def test_a_hop_that_hands_over_no_mail(setup: SetUp) -> None:
    setup.configure('hops = ["list.example.org"]')
    for n in range(4):
        setup.mail(n)

    setup.finds("hops", "list.example.org", "it came from lists.example.org")
    setup.configure('hops = ["lists.example.org"]')
    assert setup.doctor() == (0, {})


def test_a_list_that_is_called_otherwise(setup: SetUp) -> None:
    setup.configure('lists = ["change.lists.example.org"]')
    setup.mail(1)

    setup.finds(
        "list-unseen",
        "no mail of change.lists.example.org",
        "what comes is of changes.lists.example.org",
        "into its lists",
    )


def test_the_same_of_mail_that_is_gone(setup: SetUp) -> None:
    setup.configure('lists = ["change.lists.example.org"]')
    _in_outbox(setup, "INSERT INTO count VALUES ('changes', 'ignored', 'other-list', 3)")
    reason = "came by 'changes.lists.example.org', which is none of the lists of 'changes'"
    sql = "INSERT INTO mail VALUES (?, 'changes', 'ignored', 'other-list', ?, 1)"
    _in_outbox(setup, sql, b"s", reason)

    with setup.locked():
        setup.finds("list-unseen", reason)


def test_a_source_that_fell_silent(setup: SetUp) -> None:
    setup.configure('expect_every = "24h"')
    settings = Config(state=str(setup.state), entity=ENTITY)
    with opened_state(settings) as state, state.outbox.transaction():
        Notes(state.outbox.run, "silent").put("changes", "1700000000")

    with setup.locked():
        setup.finds("silent", "since 2023-11-14T22:13:20+00:00", "every 24h", "subscribed")


# -- relays ----------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_of_our_relay_that_somebody_else_has(setup: SetUp, listener: int) -> None:
    with Daemon("relay", "--state", setup.state, *LOOPBACK) as daemon:
        daemon.ready()
        assert daemon.stop() == 0
    rest = "".join(f'{name} = "tcp://127.0.0.1:0"\n' for name in ("publish", "read"))
    setup.configure(bottom=f'[relay]\nsubmit = "tcp://127.0.0.1:{listener}"\n{rest}')

    setup.finds("port-in-use", f"relay.submit: tcp://127.0.0.1:{listener}", "set relay.submit")


def test_a_relay_that_cannot_be_reached(setup: SetUp) -> None:
    setup.configure(bottom='[submit]\nto = ["tcp://127.0.0.1:9"]')

    setup.finds("relay-away", "tcp://127.0.0.1:9 does not answer", "nc -vz 127.0.0.1 9")


def test_who_listens_there_and_is_no_relay(setup: SetUp, listener: int) -> None:
    setup.configure(bottom=f'[submit]\nto = ["tcp://127.0.0.1:{listener}"]')

    setup.finds("relay-away", "does not answer")


@pytest.fixture
def relay(setup: SetUp) -> Iterator[str]:
    """The relay beside our state, as the units have it, and that our bridge knows."""
    beside = setup.state.with_name("state-relay")
    with Daemon("relay", "--state", beside, *LOOPBACK) as daemon:
        submit = daemon.ready()["submit"]
        setup.configure(bottom=f'[submit]\nto = ["{submit}"]')
        setup.run_once()
        yield submit
        assert daemon.stop() == 0


@pytest.mark.usefixtures("relay")
def test_a_relay_that_does_not_trust_our_key(setup: SetUp) -> None:
    with setup.locked():
        setup.finds("not-trusted", ENTITY, "mailbridge key trust", "--tags '_lk.mailbridge.*'")


@pytest.mark.usefixtures("relay")
def test_a_relay_whose_policy_lacks_our_tags(
    setup: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = setup.state.with_name("state-relay")
    key = setup.state / "keys" / f"{ENTITY}.key"
    assert main(["key", "trust", str(key), "--state", str(beside)]) == 0
    capsys.readouterr()

    with setup.locked():
        setup.finds("policy", f"{ENTITY} may not emit _lk.mailbridge.*", f'"{ENTITY}" = [')
        words = ["key", "trust", str(key), "--state", str(beside), "--tags", "_lk.mailbridge.*"]
        assert main(words) == 0
        capsys.readouterr()
        status, found = setup.doctor()
    assert (status, found) == (0, {})


def test_a_relay_far_away_that_holds_our_events_is_told_by_the_bridge(setup: SetUp) -> None:
    status = "tcp://relay.example.org:5581 holds our events off: no key for x; 3 events wait"
    target = msgspec.structs.replace(BRIDGE.targets[0], trouble=True, status=status)
    _tells(setup, targets=(target,))

    with setup.locked():
        setup.finds("not-trusted", status, "on its machine: mailbridge key trust")


# -- units -----------------------------------------------------------------------------------------


@pytest.fixture
def unit(setup: SetUp) -> Path:
    text = (TREE / "systemd" / "mailbridge.service").read_text()
    return setup.host("/etc/systemd/system/mailbridge.service", text)


@pytest.mark.usefixtures("unit")
def test_a_unit_that_may_not_write_the_maildir(setup: SetUp) -> None:
    setup.configure('after = "seen"')

    setup.finds("unit-writes", f"lacks ReadWritePaths={setup.maildir}", "--drop-in")
    drop_in = setup.host(
        "/etc/systemd/system/mailbridge.service.d/maildir.conf",
        f"[Service]\nReadWritePaths=/srv \\\n  {setup.directory}\n",
    )
    assert setup.doctor() == (0, {})
    drop_in.write_text(f"[Service]\nReadWritePaths={setup.directory}\nReadWritePaths=\n")
    setup.finds("unit-writes")


@pytest.mark.usefixtures("unit")
@pytest.mark.parametrize("after", ["keep", "seen"])
def test_a_unit_that_does_not_see_the_homes(setup: SetUp, after: str) -> None:
    home = Path("/home/nobody-s-home-of-mailbridge/Maildir")
    setup.configure(f'after = "{after}"')
    setup.path.write_text(setup.path.read_text().replace(str(setup.maildir), str(home)))

    _, found = setup.doctor()
    assert set(found) == {"maildir-missing", "unit-home"}
    assert f"ProtectHome=yes hides {home}" in found["unit-home"]


# -- the drop-in -----------------------------------------------------------------------------------


def _drop_in(setup: SetUp, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["doctor", "--root", str(setup.root), "--drop-in"]) == 0
    return capsys.readouterr().out


def test_the_recommended_set_up_needs_no_drop_in(
    setup: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.path.write_text(
        '[[source]]\nname = "changes"\nmaildir = "/var/lib/mailbridge/Maildir"\nafter = "seen"\n'
    )

    assert "# Nothing." in _drop_in(setup, capsys)


EVERYTHING: Final = """
[[source]]
name = "home"
maildir = "/home/owner/My Mail"
[[source]]
name = "moved"
maildir = "/home/owner/Maildir"
after = "seen"
keyrings = ["/home/owner/keys.gpg", "/usr/share/keyrings/debian-keyring.gpg"]
[[source]]
name = "spool"
maildir = "/srv/mail/changes"
after = "delete:30d"
[submit]
to = ["tcp://192.0.2.7:5581", "tcp://[2001:db8::1]:5581", "tcp://relay.example.org:5581"]
"""


def test_the_drop_in_lets_the_bridge_to_what_it_needs_and_no_further(
    setup: SetUp, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.path.write_text(f'state = "{setup.state}"\n{EVERYTHING}')
    told = _drop_in(setup, capsys)
    settings = [line for line in told.splitlines() if line and not line.startswith("#")]

    assert settings == [
        "[Service]",
        "ProtectHome=tmpfs",
        'BindReadOnlyPaths="/home/owner/My Mail"',
        "BindPaths=/home/owner/Maildir",
        "BindReadOnlyPaths=/home/owner/keys.gpg",
        "ReadWritePaths=/srv/mail/changes",
        "IPAddressAllow=192.0.2.7",
        "IPAddressAllow=2001:db8::1",
    ]
    assert "# relay.example.org is a name" in told
    assert "setfacl -R -m u:mailbridge:rwX /home/owner/Maildir" in told


@pytest.mark.needs_program("systemd-analyze")
def test_systemd_takes_the_drop_in_and_the_doctor_is_content_with_it(
    setup: SetUp, unit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("/usr/lib/systemd/system", setup.root / "usr/lib/systemd/system", symlinks=True)
    for name in ("opt/mailbridge/bin/mailbridge", "bin/kill"):
        program = setup.root / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
    setup.path.write_text(f'state = "{setup.state}"\n{EVERYTHING}')
    before = _of_units(setup)
    setup.host(f"/etc/systemd/system/{unit.name}.d/needs.conf", _drop_in(setup, capsys))

    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={setup.root}", "--man=no", unit.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert before == {"unit-home", "unit-writes"}
    assert _of_units(setup) == set()


def _of_units(setup: SetUp) -> set[str]:
    # (No more than that: the relays there are on no host of ours.)
    patient = Patient(load(setup.path), Host(setup.root), is_configured_for_units=True)
    return {finding.code for finding in shipped(patient)}


# -- a test mail -----------------------------------------------------------------------------------


def _running(state: Path, *words: str | Path) -> Daemon:
    return Daemon("run", "--state", state, *LOOPBACK, *words)


def _mail_server(directory: Path, command: str) -> Path:
    program = directory / "sendmail"
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    return program


def _storing(maildir: Path) -> str:
    return f"cat > {maildir / 'tmp'}/1 && mv {maildir / 'tmp'}/1 {maildir / 'new'}/1.a.host"


def test_a_test_mail_comes_all_the_way_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a program that stores what it is given, as a mail server's would in the end."""
    state, maildir = tmp_path / "state", make_maildir(tmp_path / "Maildir")
    program = _mail_server(tmp_path, _storing(maildir))
    with _running(state, "--maildir", maildir) as daemon:
        daemon.ready()
        words = ["--send-test", "mailbridge@lists.example.org", "--via", str(program)]
        assert main(["doctor", "--state", str(state), *words]) == 0
        assert daemon.stop() == 0
    said = capsys.readouterr().out

    assert re.search(rf"found in {maildir}/new/1.a.host after \d+\.\d\d s; relay had it", said)
    assert [*(maildir / "new").iterdir(), *(maildir / "cur").iterdir()] == []
    assert list((state / "canaries").iterdir()) == []
    with contextlib.closing(sqlite3.connect(state / "outbox.db")) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM count").fetchone() == (0,)


def test_a_test_mail_that_gets_lost_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    lost, refused = _mail_server(tmp_path, "cat >/dev/null"), tmp_path / "refuses"
    refused.write_text("#!/bin/sh\necho no such user >&2\nexit 67\n")
    refused.chmod(0o755)
    words = ["doctor", "--state", str(state), "--send-test", "nobody@lists.example.org"]
    with _running(state) as daemon:
        daemon.ready()
        assert main([*words, "--via", str(lost), "--timeout", "0.3"]) == 65
        told = capsys.readouterr()
        assert main([*words, "--via", str(refused)]) == 75
        refusal = capsys.readouterr().err
        assert main([*words[:-1], "-oQ/tmp x"]) == 65
        assert daemon.stop() == 0
    assert main([*words, "--via", str(lost)]) == 65
    stopped = capsys.readouterr().out

    assert "reached no watched Maildir in 0.3 s" in told.out
    assert "status 67): no such user" in refusal
    assert "no bridge runs" in stopped
    assert list((state / "canaries").iterdir()) == []


def test_a_test_mail_that_no_relay_gets_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, maildir = tmp_path / "state", make_maildir(tmp_path / "Maildir")
    program = _mail_server(tmp_path, _storing(maildir))
    words = ("bridge", "--state", state, "--maildir", maildir, "--submit", "tcp://127.0.0.1:9")
    with Daemon(*words) as daemon:
        daemon.ready()
        asked = ["--send-test", "x@lists.example.org", "--via", str(program), "--timeout", "8"]
        assert main(["doctor", "--state", str(state), *asked]) == 65
        assert daemon.stop() == 0

    assert "1 relay(s) did not answer to it in 8 s" in capsys.readouterr().out
    assert told_by(state, "bridge") is None
