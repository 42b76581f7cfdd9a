"""Real mail software, from Debian's packages: what README.md tells a list admin to set up."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import pytest
import zmq

from mailbridge.cli import main
from mailbridge.maildir import make_maildir, scan_maildir
from tests.daemons import LOOPBACK, Daemon
from tests.postfix import DOMAIN, Postfix

TREE: Final = Path(__file__).parent.parent
MAIL: Final = (TREE / "fixtures/laniakea_accepted/announced/mail.eml").read_bytes()

USER: Final = "backup"
"""A system user that every Debian has: who receives mail, and whose rights a pipe has."""

# What README.md shows, letter by letter (test_docs.py); here with other paths.
FORWARD: Final = r'\owner, "|/opt/mailbridge/bin/mailbridge ingest -"'
ALIAS: Final = 'changes  "|/opt/mailbridge/bin/mailbridge ingest -"'
DELIVERED: Final = "/var/lib/mailbridge/Maildir/"
PROCMAIL: Final = """\
:0 cw
| /opt/mailbridge/bin/mailbridge ingest -

# Not stored: the MTA keeps the mail and tries again.
:0 e
{
  EXITCODE=75
  HOST
}
"""
SIEVE_PIPE: Final = """\
require ["vnd.dovecot.pipe", "copy"];
if header :contains "List-Id" "example-changes.lists.example.org" {
    pipe :copy "mailbridge" ["ingest", "-"];
}
"""
SIEVE_REDIRECT: Final = """\
require ["copy"];
if header :contains "List-Id" "example-changes.lists.example.org" {
    redirect :copy "mailbridge+example-changes@lists.example.org";
}
"""
RECIPES: Final = (FORWARD, ALIAS, DELIVERED, PROCMAIL, SIEVE_PIPE, SIEVE_REDIRECT)

postfix = pytest.mark.needs_program("postfix", root=True)


@pytest.fixture(scope="module")
def user() -> pwd.struct_passwd:
    return pwd.getpwnam(USER)


@pytest.fixture(scope="module")
def place(user: pwd.struct_passwd) -> Iterator[Path]:
    """A directory all users can enter (pytest's own is for one), with `bin/mailbridge` in it."""
    with tempfile.TemporaryDirectory(prefix="mailbridge-mta-") as name:
        place = Path(name)
        place.chmod(0o755)
        # Whoever the MTA runs it as may not enter this tree, nor its virtual environment; the pipe
        # needs neither: the standard library does.
        shutil.copytree(TREE / "mailbridge", place / "lib/mailbridge")
        (place / "bin").mkdir()
        program = place / "bin/mailbridge"
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={place}/lib exec /usr/bin/python3 -m mailbridge "$@"\n'
        )
        program.chmod(0o755)
        (place / "home").mkdir()
        os.chown(place / "home", user.pw_uid, user.pw_gid)
        yield place


@pytest.fixture(scope="module")
def mta(place: Path, user: pwd.struct_passwd) -> Iterator[Postfix]:
    """A running Postfix."""
    mta = Postfix(
        place,
        user,
        aliases=f"mailbridge {USER}\n",
        pipes=_here(ALIAS, place, state=place / "home") + "\n",
    )
    mta.start()
    yield mta
    mta.stop()


@pytest.fixture
def maildir(place: Path, user: pwd.struct_passwd, request: pytest.FixtureRequest) -> Path:
    """The user's state's spool, a new one for each test."""
    spool: Path = place / "home" / request.node.name / "Maildir"
    make_maildir(spool)
    for path in (spool.parent, spool, *spool.iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return spool


def _mails(maildir: Path) -> list[bytes]:
    return [found.path.read_bytes() for found in scan_maildir(maildir)]


def _here(recipe: str, place: Path, *, state: Path) -> str:
    """Return README's *recipe* for the program in *place* and the *state*."""
    program = recipe.replace("/opt/mailbridge/bin", f"{place}/bin")
    return program.replace("ingest -", f"ingest - --state {state}")


def _told(mail: bytes) -> bytes:
    """Return the lines of *mail* from its own Subject on: an MTA adds headers before them."""
    return mail[mail.index(b"\nSubject:") :].replace(b"\r\n", b"\n").strip()


def _as_user(
    words: list[str | Path], user: pwd.struct_passwd, home: Path, mail: bytes
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        words,
        input=mail,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        env={"HOME": str(home), "USER": USER, "LOGNAME": USER, "PATH": "/usr/bin:/bin"},
        cwd=home,
        capture_output=True,
        check=False,
        timeout=60,
    )


@postfix
def test_mail_in_at_smtp_is_an_event_out_at_a_subscriber_and_at_tail(
    mta: Postfix, place: Path, maildir: Path
) -> None:
    state = maildir.parent
    mta.forward(DELIVERED.replace("/var/lib/mailbridge", str(maildir.parent)))
    settings = place / "etc/mailbridge.toml"
    settings.write_text(f"""
entity = "mailbridge.lists.example.org"
state = "{state}"

[[source]]
name = "example-changes"
maildir = "{maildir}"
lists = ["example-changes.lists.example.org"]
archive = "ExampleOS"
repo = "example"
require = "channel"

[relay]
submit = "tcp://127.0.0.1:0"
publish = "tcp://127.0.0.1:0"
read = "tcp://127.0.0.1:0"
""")
    with Daemon("-c", settings, "run") as service:
        ready = service.ready()
        with _subscribed(ready["publish"]) as subscriber:
            mta.send(MAIL, "mailbridge+example-changes")

            tag, published = subscriber.recv_multipart()
            told = _tail(settings, ready["read"])
        assert service.stop() == 0

    assert tag == b"_lk.mailbridge.package-upload-accepted"
    assert told == published + b"\n"
    data = json.loads(published)["data"]
    assert (data["source_name"], data["source_version"]) == ("gnome-hello", "46.1-0example1")
    assert data["provenance"]["sent_by"] == {"how": "channel", "who": "example-changes"}
    assert list(scan_maildir(maildir)) == []


@contextmanager
def _subscribed(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """Give a plain SUB socket, as a Lighthouse's consumers have it, that has shaken hands."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        subscriber = stack.enter_context(context.socket(zmq.SUB))
        subscriber.linger = 0
        subscriber.rcvtimeo = 30_000
        subscriber.subscribe(b"_lk.mailbridge.")
        monitor = stack.enter_context(subscriber.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED))
        subscriber.connect(endpoint)
        assert monitor.poll(30_000)
        subscriber.disable_monitor()
        yield subscriber


def _tail(settings: Path, url: str) -> bytes:
    words = ("--json", "--from=start", "--count=1", "--timeout=20")
    return subprocess.run(
        [sys.executable, "-m", "mailbridge", "-c", settings, "tail", url, *words],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    ).stdout


@postfix
def test_the_doctor_s_test_mail_goes_through_the_mail_server_and_the_bridge_and_is_no_event(
    mta: Postfix, maildir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = maildir.parent
    mta.forward(f"{maildir}/")
    words = ("--state", state, "--entity", "mailbridge.lists.example.org")
    with Daemon("run", *words, *LOOPBACK) as daemon:
        daemon.ready()
        asked = ["--send-test", f"mailbridge+changes@{DOMAIN}", "--via", f"127.0.0.1:{mta.port}"]
        assert main(["doctor", "--state", str(state), *asked]) == 0
        assert daemon.stop() == 0
    said = capsys.readouterr().out

    assert f"the test mail was found in {maildir}/new/" in said
    assert "relay had it after" in said
    assert _mails(maildir) == []
    with closing(sqlite3.connect(state / "outbox.db")) as outbox:
        assert outbox.execute("SELECT count(*) FROM event").fetchone() == (0,)


@postfix
def test_a_forward_keeps_the_owner_s_copy_and_pipes_another(
    mta: Postfix, place: Path, maildir: Path
) -> None:
    mta.forward(_here(FORWARD, place, state=maildir.parent).replace(r"\owner", rf"\{USER}"))

    mta.send(MAIL, USER)

    mta.says("delivered to command")
    assert [_told(mail) for mail in _mails(maildir)] == [_told(MAIL)]
    assert [_told(mail) for mail in _mails(place / "mail" / USER)] == [_told(MAIL)]


@postfix
def test_an_alias_pipes_with_the_rights_of_whom_its_file_belongs_to(
    mta: Postfix, place: Path, user: pwd.struct_passwd
) -> None:
    mta.send(MAIL, "changes")

    mta.says("delivered to command")
    (stored,) = scan_maildir(place / "home/Maildir")
    assert _told(stored.path.read_bytes()) == _told(MAIL)
    assert stored.path.stat().st_uid == user.pw_uid


@postfix
def test_a_pipe_that_cannot_store_leaves_the_mail_with_the_mta(mta: Postfix, place: Path) -> None:
    # Nobody can write in /proc, not even root.
    mta.forward(_here(FORWARD, place, state=Path("/proc/none")).replace(r"\owner, ", ""))

    mta.send(MAIL, USER)

    assert "mail not stored" in mta.says("status=deferred")


@pytest.mark.needs_program("procmail", root=True)
def test_procmail_keeps_the_owner_s_copy_and_pipes_another(
    place: Path, maildir: Path, user: pwd.struct_passwd
) -> None:
    home = maildir.parent
    recipe = home / "procmailrc"
    recipe.write_text(f"DEFAULT={home}/inbox/\n" + _here(PROCMAIL, place, state=home))

    done = _as_user(["procmail", recipe], user, home, MAIL)

    assert (done.returncode, done.stderr) == (0, b"")
    assert [_told(mail) for mail in _mails(maildir)] == [_told(MAIL)]
    assert [_told(mail) for mail in _mails(home / "inbox")] == [_told(MAIL)]


@pytest.mark.needs_program("procmail", root=True)
def test_procmail_leaves_the_mail_with_the_mta_where_the_pipe_cannot_store(
    place: Path, maildir: Path, user: pwd.struct_passwd
) -> None:
    home = maildir.parent
    recipe = home / "procmailrc"
    nowhere = _here(PROCMAIL, place, state=Path("/proc/none"))
    recipe.write_text(f"DEFAULT={home}/inbox/\n" + nowhere)

    done = _as_user(["procmail", recipe], user, home, MAIL)

    # The owner's copy waits, too: at the next try both are delivered, and none twice.
    assert done.returncode == 75
    assert not (home / "inbox").exists()


@pytest.mark.needs_program("dovecot-lda", root=True)
def test_sieve_keeps_the_owner_s_copy_and_pipes_another(
    place: Path, maildir: Path, user: pwd.struct_passwd
) -> None:
    home = maildir.parent
    # (No path in a script: the administrator says which programs there are, by links.)
    (home / "sieve-pipe").mkdir()
    (home / "sieve-pipe/mailbridge").symlink_to(place / "bin/mailbridge")
    (home / "owner.sieve").write_text(SIEVE_PIPE.replace('"-"]', f'"-", "--state", "{home}"]'))
    settings = _dovecot(
        home,
        plugin=f"""
  sieve_plugins = sieve_extprograms
  sieve_extensions = +vnd.dovecot.pipe
  sieve_pipe_bin_dir = {home}/sieve-pipe
""",
    )

    done = _as_user(["/usr/lib/dovecot/dovecot-lda", "-c", settings], user, home, MAIL)

    assert done.returncode == 0, done.stderr
    log = (home / "log").read_text()
    assert [_told(mail) for mail in _mails(maildir)] == [_told(MAIL)], log
    assert [_told(mail) for mail in _mails(home / "inbox")] == [_told(MAIL)], log


@pytest.mark.needs_program("postfix", "dovecot-lda", root=True)
def test_sieve_keeps_the_owner_s_copy_and_redirects_another(
    mta: Postfix, maildir: Path, user: pwd.struct_passwd
) -> None:
    home = maildir.parent
    mta.forward(DELIVERED.replace("/var/lib/mailbridge", str(maildir.parent)))
    (home / "owner.sieve").write_text(SIEVE_REDIRECT)
    settings = _dovecot(home, submission=f"submission_host = 127.0.0.1:{mta.port}")

    done = _as_user(["/usr/lib/dovecot/dovecot-lda", "-c", settings], user, home, MAIL)

    assert done.returncode == 0, (done.stderr, (home / "log").read_text())
    mta.says("delivered to maildir")
    assert [_told(mail) for mail in _mails(maildir)] == [_told(MAIL)]
    assert [_told(mail) for mail in _mails(home / "inbox")] == [_told(MAIL)]


def _dovecot(home: Path, *, plugin: str = "", submission: str = "") -> Path:
    path = home / "dovecot.conf"
    path.write_text(f"""\
protocols =
ssl = no
hostname = mx.example.org
base_dir = {home}/run
log_path = {home}/log
mail_location = maildir:{home}/inbox
{submission}
plugin {{
  sieve = file:{home};active={home}/owner.sieve
{plugin}
}}
protocol lda {{
  mail_plugins = sieve
}}
""")
    return path
