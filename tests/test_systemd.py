"""The units: what systemd itself says of them, in a root of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.daemons import LOOPBACK, PATIENCE, Daemon, make_maildir, put, read_events, upload

SHIPPED: Final = Path(__file__).parent.parent / "systemd"
UNITS: Final = ("mailbridge.service", "mailbridge-relay.service")
SINK: Final = "mailbridge-sink@.service"
PROGRAM: Final = "opt/mailbridge/bin/mailbridge"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host where the README's installation was followed: the units, and /opt/mailbridge."""
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    installed = {
        "etc/systemd/system/mailbridge.service": "mailbridge.service",
        "etc/systemd/system/mailbridge-relay.service": "mailbridge-relay.service",
        f"etc/systemd/system/{SINK}": SINK,
        "usr/lib/sysusers.d/mailbridge.conf": "mailbridge.sysusers.conf",
        "usr/lib/tmpfiles.d/mailbridge.conf": "mailbridge.tmpfiles.conf",
    }
    for path, name in installed.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SHIPPED / name, tmp_path / path)
    (tmp_path / PROGRAM).parent.mkdir(parents=True)
    (tmp_path / "bin").mkdir(exist_ok=True)
    for program in (PROGRAM, "bin/bash", "bin/kill"):
        (tmp_path / program).touch(mode=0o755)
    return tmp_path


def _said(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


@pytest.mark.fault(104)
@pytest.mark.needs_program("systemd-analyze")
def test_systemd_finds_nothing_to_say_about_the_units(root: Path) -> None:
    done = _said("systemd-analyze", "verify", f"--root={root}", "--man=no", *UNITS)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.fault(104)
@pytest.mark.needs_program("systemd-analyze")
def test_systemd_finds_nothing_to_say_about_a_sink(root: Path) -> None:
    name = SINK.replace("@", "@bugs")
    done = _said("systemd-analyze", "verify", f"--root={root}", "--man=no", name)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.fault(104)
@pytest.mark.needs_program("systemd-analyze")
def test_a_sink_is_exposed_hardly_more_than_what_feeds_it() -> None:
    done = _said("systemd-analyze", "security", "--offline=true", "--threshold=15", SHIPPED / SINK)

    assert done.returncode == 0, done.stdout


def test_a_sink_is_closed_as_the_units_are() -> None:
    differ = {
        *("Description", "After", "Wants", "ConditionFileIsExecutable", "Type", "Environment"),
        *(
            "EnvironmentFile",
            "ExecStart",
            "ExecReload",
            "User",
            "Group",
            "DynamicUser",
            "StateDirectory",
        ),
        *("ConfigurationDirectory", "LoadCredential", "RestartSec", "InaccessiblePaths"),
        *("RestartPreventExitStatus", "TimeoutStartSec", "WatchdogSec"),
    }
    sink, bridge = (
        {key: value for key, value in _settings(unit).items() if key not in differ}
        for unit in (SINK, UNITS[0])
    )

    assert sink == bridge
    assert _settings(SINK)["InaccessiblePaths"] == [
        "-/var/lib/mailbridge -/var/lib/mailbridge-relay"
    ]


@pytest.mark.needs_program("bash")
def test_a_sink_s_program_gets_each_event_and_the_next_one_goes_on_where_it_died(
    tmp_path: Path,
) -> None:
    """The unit's own command, with other paths, as systemd would start it twice."""
    maildir, state = make_maildir(tmp_path / "Maildir"), tmp_path / "state"
    (tmp_path / "cursor").mkdir()
    program = tmp_path / "program"
    # (One line each time, then it dies; it must have been another each time.)
    program.write_text('#!/bin/sh\nread -r line && printf "%s\\n" "$line" >>"$OUT" && exit 1\n')
    program.chmod(0o755)
    (command,) = _settings(SINK)["ExecStart"]
    shell, _, line = command.partition(" -c ")
    line = line.strip("'").replace("$$", "$").replace("/etc/mailbridge/sinks/%i", str(program))
    line = line.replace("/opt/mailbridge/bin/mailbridge", f"{sys.executable} -m mailbridge")
    line = line.replace("/etc/mailbridge/trusted", str(tmp_path / "trusted"))
    out = tmp_path / "out"
    words = ("run", "--maildir", maildir, "--state", state, *LOOPBACK, "--existing", "emit")
    with Daemon(*words) as daemon:
        ready = daemon.ready()
        shutil.copytree(state / "keys", tmp_path / "trusted", ignore=_no_secrets)
        environment = {
            **os.environ,
            "URL": ready["read"],
            "OPTIONS": "--from start --tag _lk.mailbridge.*",
            "STATE_DIRECTORY": str(tmp_path / "cursor"),
            "OUT": str(out),
        }
        for number in (1, 2):
            put(maildir, upload(number), f"{number}.a")
            read_events(ready["read"], state, number)
            unit = subprocess.Popen([shell, "-c", line], env=environment, start_new_session=True)
            assert unit.wait(PATIENCE) == 1
            # Its main process ended: systemd ends all of the unit.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(unit.pid, signal.SIGKILL)
        assert daemon.stop() == 0

    told = [json.loads(line)["data"]["source_name"] for line in out.read_text().splitlines()]
    assert told == ["package1", "package2"]


def _no_secrets(_directory: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".key")]


@pytest.mark.needs_program("systemd-analyze")
def test_the_units_start_the_program_where_the_readme_installs_it(root: Path) -> None:
    (root / PROGRAM).unlink()

    done = _said("systemd-analyze", "verify", f"--root={root}", "--man=no", *UNITS)

    assert done.returncode == 1
    assert done.stdout.count(f"/{PROGRAM} is not executable") == len(UNITS)


@pytest.mark.fault(104)
@pytest.mark.needs_program("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_no_more_than_it_must_be(unit: str) -> None:
    # 1.2 of 10 (--threshold counts tenths): what is left is the host's network, which is the point.
    done = _said("systemd-analyze", "security", "--offline=true", "--threshold=12", SHIPPED / unit)

    assert done.returncode == 0, done.stdout


@pytest.mark.needs_program("systemd-sysusers", "systemd-tmpfiles", root=True)
def test_the_mta_has_a_user_and_a_home_to_deliver_to_before_the_first_start(root: Path) -> None:
    users = _said("systemd-sysusers", f"--root={root}", "mailbridge.conf")
    (line,) = (root / "etc/passwd").read_text().splitlines()
    files = _said("systemd-tmpfiles", f"--root={root}", "--create", "mailbridge.conf")

    assert users.returncode == 0, users.stdout
    assert line.split(":")[0::5] == ["mailbridge", "/var/lib/mailbridge"]
    home = root / "var/lib/mailbridge"
    assert home.stat().st_mode & 0o777 == 0o700, files.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_stays_down_only_for_what_a_person_must_mend(unit: str) -> None:
    settings = _settings(unit)

    assert settings["Restart"] == ["always"]
    assert settings["RestartPreventExitStatus"] == ["78"]
    assert settings["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_lets_libzmq_choose_how_its_thread_is_scheduled(unit: str) -> None:
    # libzmq aborts the process where this call is refused, and @resources holds it.
    filters = _settings(unit)["SystemCallFilter"]

    assert filters[-1] == "sched_setscheduler"


def test_the_relay_may_ask_for_the_interfaces_it_binds_to() -> None:
    # Seen on a real systemd: libzmq calls getifaddrs() for every bind, and aborts without netlink.
    assert "AF_NETLINK" in _settings("mailbridge-relay.service")["RestrictAddressFamilies"][0]


@pytest.mark.parametrize("unit", UNITS)
def test_a_key_that_is_root_s_alone_comes_as_a_credential_and_may_be_missing(unit: str) -> None:
    # A name without a slash is looked for in /etc/credstore; a path that is missing would keep the
    # unit down (systemd.exec(5), LoadCredential=), and a first start has no key yet.
    (credential,) = _settings(unit)["LoadCredential"]
    name, _, source = credential.partition(":")

    assert name == "signing.key"
    assert source == f"{unit.removesuffix('.service')}.signing.key"


def test_neither_service_sees_the_other_s_state() -> None:
    bridge, relay = (_settings(unit) for unit in UNITS)

    assert bridge["InaccessiblePaths"] == [f"-/var/lib/{relay['StateDirectory'][0]}"]
    assert relay["InaccessiblePaths"] == [f"-/var/lib/{bridge['StateDirectory'][0]}"]


def test_both_units_are_closed_in_the_same_way() -> None:
    differ = {
        "Description",
        "After",
        "ExecStart",
        "StateDirectory",
        "LoadCredential",
        "RestrictAddressFamilies",
    }
    bridge, relay = (
        {key: value for key, value in _settings(unit).items() if key not in differ}
        for unit in UNITS
    )

    del bridge["InaccessiblePaths"], relay["InaccessiblePaths"]
    assert bridge == relay


def _settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^([A-Za-z]+)=(.*)$", (SHIPPED / unit).read_text()):
        found.setdefault(key, []).append(value)
    return found
