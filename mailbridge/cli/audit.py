"""`mailbridge audit`: is each mail an event, and each event where it should be?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.audit import Audit
    from mailbridge.bridge.state import State
    from mailbridge.config import Config

SUMMARY = "Compare mails, outbox and journal: missing, extra, doubled"
GROUP = "keys, trust, proof"
EXAMPLE = "mailbridge audit tcp://relay.example.org:5583"

_SHOWN = 1_000
"""Findings that a person is shown; they repeat themselves long before that."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `audit`."""
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="the relay to compare with: tcp://HOST:5583 or file:///.../journal.db (default: the"
        " journal of the state, if it has one)",
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object for all of it")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print, and end with 65 where something is wrong."""
    from mailbridge.bridge.state import OUTBOX, opened
    from mailbridge.cli._gateway import configured
    from mailbridge.errors import BadInput, NeedsOperator
    from mailbridge.service import set_up_logging

    set_up_logging()
    config = configured(arguments)
    if not (config.state_dir / OUTBOX).exists():
        raise NeedsOperator(f"{config.state_dir}: no bridge has run here; --state names another")
    with opened(config) as state:
        audit = _audited(config, state, arguments.url)
    _tell(audit, as_json=arguments.json)
    return BadInput.exit_status if audit.findings else 0


def _audited(config: Config, state: State, url: str | None) -> Audit:
    import contextlib
    from urllib.parse import unquote, urlsplit

    from mailbridge.bridge.audit import Audit, JournalFile, RelayFeeds
    from mailbridge.bridge.serve import JOURNAL, watched
    from mailbridge.reader.events import asks_of

    audit = Audit(state)
    audit.mails(watched(config, state.spool))
    audit.quarantine()
    head = audit.outbox()
    targets = state.outbox.targets()
    received = min(targets.values(), default=0)
    beside = state.directory / JOURNAL
    if url is None and beside.exists():
        # (By this name the embedded relay is remembered.)
        audit.journal(JournalFile(beside), head, received=targets.get("relay", received))
    elif url is not None and url.startswith("file:///"):
        path = Path(unquote(urlsplit(url).path))
        audit.journal(JournalFile(path), head, received=received)
    elif url is not None:
        with contextlib.closing(asks_of(url)) as asks:
            keys = {state.key.entity: state.key.verify_key}
            audit.journal(RelayFeeds(asks, keys), head, received=received)
    return audit


def _tell(audit: Audit, *, as_json: bool) -> None:
    from mailbridge.event import canonical
    from mailbridge.service import one_line
    from mailbridge.sinks.show import safe_json

    if as_json:
        found = [one._asdict() for one in audit.findings]
        told = {"ok": not found, "findings": found, "counts": dict(audit.counts)}
        print(safe_json(canonical(told)).decode())
        return
    for what, count in audit.counts.items():
        print(f"{count:>10}  {what}")
    for one in audit.findings[:_SHOWN]:
        print(one_line(f"{one.what:<10}  {one.where:<10}  {one.told}"))
    if len(audit.findings) > _SHOWN:
        print(f"and {len(audit.findings) - _SHOWN} more; --json has all of them")
    if not audit.findings:
        print("nothing is missing, extra or doubled")
