"""`mailbridge doctor`: what is wrong with this set-up, and the mend."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailbridge.config import Config
    from mailbridge.doctor import Finding

SUMMARY = "Name what is wrong with this set-up, and the mend"
GROUP = "test and operate"
EXAMPLE = "sudo mailbridge doctor --send-test mailbridge+test@lists.example.org"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `doctor`."""
    parser.add_argument(
        "--send-test",
        metavar="ADDRESS",
        help="send a mail there and wait until the bridge has found it; nothing is emitted",
    )
    parser.add_argument(
        "--via",
        metavar="WHAT",
        help="the mail server for it: HOST:PORT, or a program (default: sendmail, else port 25)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long the test mail may take (default: 60)",
    )
    parser.add_argument(
        "--drop-in",
        action="store_true",
        help="print what the bridge's systemd unit needs besides for this configuration",
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a finding")


def run(arguments: argparse.Namespace) -> int:
    """Print findings; 65 if there are any."""
    from mailbridge import config as configuration
    from mailbridge.cli._gateway import configured, relay_state
    from mailbridge.doctor import Finding, Host, Patient, examined
    from mailbridge.errors import ConfigError

    host = Host(arguments.root)
    system = host.path(str(configuration.SYSTEM_CONFIG))
    if arguments.config is None and arguments.root != Path("/") and system.exists():
        arguments.config = system
    used = arguments.config or configuration.default_config()
    try:
        config = configured(arguments)
    except ConfigError as error:
        return _tell([Finding("config", str(error), "nothing starts with it")], arguments)
    if arguments.drop_in:
        from mailbridge.doctor.units import drop_in

        print(drop_in(config), end="")
        return 0
    if arguments.send_test:
        return _tell(_send_test(config, arguments), arguments)
    patient = Patient(
        config,
        host,
        path=used,
        relay_state=relay_state(config.state_dir),
        is_configured_for_units=used == system,
    )
    return _tell(examined(patient), arguments)


def _tell(findings: Iterable[Finding], arguments: argparse.Namespace) -> int:
    import json

    from mailbridge.sinks.show import safe

    count = 0
    for finding in findings:
        count += 1
        if arguments.json:
            print(json.dumps(finding._asdict(), ensure_ascii=False), flush=True)
        else:
            print(safe(finding.line), flush=True)
    if not count and not arguments.json and not arguments.send_test:
        print("nothing is wrong here")
    return 65 if count else 0


def _send_test(config: Config, arguments: argparse.Namespace) -> list[Finding]:
    from mailbridge.doctor import Finding
    from mailbridge.doctor.post import send_test
    from mailbridge.health import told_by

    bridge = told_by(config.state_dir, "bridge")
    if bridge is None or not bridge.runs:
        what = f"{config.state_dir}: no bridge runs, so nobody would find the test mail"
        return [Finding("no-bridge", what, "systemctl start mailbridge")]
    address = arguments.send_test
    came = send_test(config.state_dir, address, via=arguments.via, timeout=arguments.timeout)
    if came.found is None:
        what = f"the test mail to {address} reached no watched Maildir in {arguments.timeout:g} s"
        mend = "what became of it stands in the mail server's log (journalctl -t postfix/local)"
        return [Finding("test-mail", what, mend)]
    told = [f"the test mail was found in {came.file} after {came.found:.2f} s"]
    told += [f"{name} had it after {after:.2f} s" for name, after in came.received.items()]
    print("; ".join(told), file=sys.stderr if arguments.json else sys.stdout)
    if came.missing:
        what = f"{came.missing} relay(s) did not answer to it in {arguments.timeout:g} s"
        return [Finding("test-relay", what, "'mailbridge doctor' tells what is wrong with them")]
    return []
