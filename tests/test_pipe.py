"""`ingest -`, as an MTA starts it: real processes, and every way to fail that can be arranged."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mailbridge
from mailbridge import config
from mailbridge.cli import _pipe, main
from mailbridge.errors import ConfigError
from tests.daemons import AS_ANYBODY

MAIL: Final = b"From: dak <dak@example.org>\r\nSubject: caf\xe9\n\nFrom here on: \x00\xff.\n"

TRY_AGAIN: Final = 75


def run(
    *words: str | Path,
    mail: bytes | None = MAIL,
    start: Sequence[str] = ("-m", "mailbridge"),
    through: Sequence[str] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run mailbridge as an MTA does; the one line it may say is the caller's to look at."""
    return subprocess.run(
        [*through, sys.executable, *start, *map(str, words)],
        input=mail,
        capture_output=True,
        check=False,
    )


def mails(maildir: Path, folder: str = "new") -> list[bytes]:
    return [path.read_bytes() for path in sorted((maildir / folder).iterdir())]


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "Maildir"


def refused(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line, of a run that asked the MTA to come again."""
    assert done.returncode == TRY_AGAIN, done.stderr
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mailbridge: ")
    return lines[0]


def test_a_mail_is_stored_byte_by_byte_and_nothing_is_said(maildir: Path) -> None:
    done = run("ingest", "-", "--maildir", maildir)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert mails(maildir) == [MAIL]
    assert mails(maildir, "tmp") == []


def test_the_spool_is_made_for_us_alone(maildir: Path) -> None:
    run("ingest", "-", "--maildir", maildir)

    made = [maildir.parent, maildir, *maildir.iterdir()]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in maildir.rglob("*.*")} == {0o600}


def test_a_name_is_one_that_maildir_readers_understand(maildir: Path) -> None:
    run("ingest", "-", "--maildir", maildir)

    (path,) = (maildir / "new").iterdir()
    assert re.fullmatch(r"[0-9]{10,}\.M[0-9]{6}P[0-9]+R[0-9a-f]{12}\.[^:,/]+", path.name)


def test_the_spool_is_in_the_state_that_is_named(tmp_path: Path) -> None:
    done = run("ingest", "--state", tmp_path / "state", "-")

    assert done.returncode == 0
    assert mails(tmp_path / "state" / "Maildir") == [MAIL]


def test_the_spool_is_in_the_state_that_the_configuration_names(tmp_path: Path) -> None:
    file = tmp_path / "mailbridge.toml"
    # A word that this version does not know is for the bridge to refuse, not for the pipe.
    file.write_text(f'state = "{tmp_path}/there"\nfrom_the_future = 1\n')

    before, after = run("-c", file, "ingest", "-"), run("ingest", "-", f"--config={file}")

    assert (before.returncode, after.returncode) == (0, 0)
    assert mails(tmp_path / "there" / "Maildir") == [MAIL, MAIL]


def test_many_at_once_do_not_touch_each_other(maildir: Path) -> None:
    bodies = [b"Subject: %d\n\n" % number for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        done = list(
            pool.map(lambda mail: run("ingest", "-", "--maildir", maildir, mail=mail), bodies)
        )

    assert {one.returncode for one in done} == {0}
    assert sorted(mails(maildir)) == sorted(bodies)


def test_of_a_mail_that_is_too_large_enough_is_kept_to_see_that(tmp_path: Path) -> None:
    """To bounce it would unsubscribe us, and to drop it would be silence."""
    file = tmp_path / "mailbridge.toml"
    file.write_text(f'state = "{tmp_path}"\nmax_mail = "1M"\n')
    mail = MAIL + b"x" * 5_000_000

    done = run("-c", file, "ingest", "-", mail=mail)

    assert done.returncode == 0
    assert b"more than max_mail" in done.stderr
    assert mails(tmp_path / "Maildir") == [mail[: 1024 * 1024 + 1]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ingest", "-", "--bogus"], "'--bogus': no such option"),
        (["--bogus", "ingest", "-"], "'--bogus': no such option"),
        (["ingest", "-", "another.eml"], "'another.eml': no such option"),
        (["ingest", "-", "--state"], "--state needs a value"),
        (["ingest", "-", "--state="], "--state needs a value"),
        (["-c", "/nonexistent.toml", "ingest", "-"], "/nonexistent.toml: cannot be read"),
        (["-c", "/", "ingest", "-"], "/: cannot be read"),
        (["ingest", "-", "--maildir", "/dev/null"], "/dev/null"),
        (["ingest", "-", "--maildir", "/proc/none/such"], "mail not stored"),
    ],
)
def test_what_cannot_be_done_is_asked_for_again(words: list[str], told: str) -> None:
    assert told in refused(run(*words))


@pytest.mark.parametrize("text", ["state = [", "state = 1", "max_mail = 7", 'max_mail = "much"'])
def test_a_broken_configuration_bounces_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mailbridge.toml"
    file.write_text(text)

    refused(run("-c", file, "ingest", "-"))


def test_nothing_on_standard_input_is_no_mail(maildir: Path) -> None:
    """No MTA sends that: whatever stands before us in the pipe broke, and may mend itself."""
    assert "nothing came" in refused(run("ingest", "-", "--maildir", maildir, mail=b""))
    assert mails(maildir) == mails(maildir, "tmp") == []


def test_a_closed_standard_input_is_no_mail(maildir: Path) -> None:
    shell = f'exec "{sys.executable}" -m mailbridge ingest - --maildir "{maildir}" <&-'

    done = subprocess.run(["sh", "-c", shell], capture_output=True, check=False)

    assert "standard input is closed" in refused(done)


def test_with_nobody_to_talk_to_the_status_still_tells() -> None:
    shell = f'exec "{sys.executable}" -m mailbridge ingest - --bogus >&- 2>&-'

    assert subprocess.run(["sh", "-c", shell], input=MAIL, check=False).returncode == TRY_AGAIN


def test_what_somebody_else_could_not_print_bounces_nothing(maildir: Path) -> None:
    """At its end Python flushes standard output, and has a status of its own where it cannot."""
    start = "print('sitecustomize', end=''); from mailbridge.cli import entry; entry()"

    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", start, "ingest", "-", "--maildir", maildir],
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            input=MAIL,
            stdout=full,
            check=False,
        )

    assert done.returncode == 0
    assert mails(maildir) == [MAIL]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.needs_program("mount", root=True)
def test_a_full_disk_loses_no_mail(small_disk: Path) -> None:
    maildir = small_disk / "Maildir"

    told = refused(run("ingest", "-", "--maildir", maildir, mail=MAIL + b"x" * 100_000))

    assert "No space left on device" in told
    assert mails(maildir) == mails(maildir, "tmp") == []
    assert run("ingest", "-", "--maildir", maildir).returncode == 0


@pytest.mark.needs_program("mount", root=True)
def test_a_disk_that_became_read_only_loses_no_mail(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    assert "Read-only file system" in refused(
        run("ingest", "-", "--maildir", small_disk / "Maildir")
    )


def test_a_quota_loses_no_mail(maildir: Path) -> None:
    limited = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (1000, 1000));"
        "from mailbridge.cli import entry; entry()"
    )

    done = run("ingest", "-", "--maildir", maildir, mail=b"x" * 5000, start=("-c", limited))

    assert "File too large" in refused(done)
    assert mails(maildir) == mails(maildir, "tmp") == []


def test_a_folder_we_may_not_write_to_loses_no_mail(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    done = run("ingest", "-", "--maildir", tmp_path / "Maildir", through=AS_ANYBODY)

    assert "Permission denied" in refused(done)


def started(maildir: Path) -> subprocess.Popen[bytes]:
    """Return a pipe that is in the middle of a mail."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mailbridge", "ingest", "-", "--maildir", maildir],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    # More than the kernel buffers: when it is written, the other side is reading.
    process.stdin.write(MAIL + b"x" * 2_000_000)
    process.stdin.flush()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_in_the_middle_of_a_mail_it_asks_for_it_again(
    maildir: Path, number: signal.Signals
) -> None:
    with started(maildir) as process:
        process.send_signal(number)

        assert process.wait() == TRY_AGAIN
        assert process.stderr
        assert process.stderr.read() == b"mailbridge: interrupted: no mail stored\n"
    assert mails(maildir) == mails(maildir, "tmp") == []


def test_killed_in_the_middle_of_a_mail_it_leaves_nothing_that_looks_like_one(
    maildir: Path,
) -> None:
    with started(maildir) as process:
        process.kill()

        # An MTA defers the mail of a command that died by a signal.
        assert process.wait() == -signal.SIGKILL
    assert mails(maildir) == []
    assert run("ingest", "-", "--maildir", maildir).returncode == 0
    assert mails(maildir) == [MAIL]


@pytest.mark.parametrize("missing", ["maildir/store.py", "cli/_pipe.py", "errors.py"])
def test_a_damaged_installation_bounces_nothing(
    tmp_path: Path, maildir: Path, missing: str
) -> None:
    """Somebody upgrades in the very moment a mail comes in."""
    there = Path(mailbridge.__file__).parent
    shutil.copytree(there, tmp_path / "mailbridge", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mailbridge" / missing).unlink()
    start = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import mailbridge.cli as c; c.entry()"
    )

    told = refused(run("ingest", "-", "--maildir", maildir, start=("-c", start)))

    assert "ModuleNotFoundError" in told


def test_the_pipe_pays_for_nothing_it_does_not_use(maildir: Path) -> None:
    done = run("ingest", "-", "--maildir", maildir, start=("-X", "importtime", "-m", "mailbridge"))

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "mailbridge.maildir.store" in imported
    dear = {"argparse", "logging", "msgspec", "nacl", "sqlite3", "tomllib", "watchdog", "zmq"}
    assert dear & imported == set()
    package = {name for name in imported if name.startswith("mailbridge")}
    assert package == {
        "mailbridge",
        "mailbridge.cli",
        "mailbridge.cli._pipe",
        "mailbridge.errors",
        "mailbridge.maildir",
        "mailbridge.maildir.store",
    }


def test_pipe_and_bridge_look_for_the_spool_in_the_same_place(tmp_path: Path) -> None:
    assert _pipe.default_state() == str(config.default_state())
    assert str(_pipe.default_config()) == str(config.default_config())
    file = tmp_path / "xdg-config" / "mailbridge" / "mailbridge.toml"
    file.parent.mkdir(parents=True)
    file.touch()
    assert _pipe.default_config() == str(config.default_config()) == str(file)


def test_pipe_and_bridge_agree_on_the_defaults_they_share() -> None:
    assert config.Config().max_mail == _pipe._MAX_MAIL
    assert str(config.SYSTEM_CONFIG) == _pipe._SYSTEM_CONFIG
    assert str(config.SYSTEM_STATE) == _pipe._SYSTEM_STATE


@given(st.from_regex(r"[0-9]{0,11} ?[KMGT]?i?B?B?", fullmatch=True) | st.text(max_size=6))
def test_pipe_and_bridge_read_a_size_alike(text: str) -> None:
    def told(read: Callable[[str], int]) -> int | str:
        try:
            return read(text)
        except ConfigError:
            return "refused"

    assert told(_pipe.size) == told(config.size)


def test_any_other_ingest_is_an_ordinary_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain-", "ingest", "-"]) == 2
    assert "no such command" in capsys.readouterr().err
