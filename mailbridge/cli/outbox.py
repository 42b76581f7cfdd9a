"""`mailbridge outbox`: the events that somebody lacks, and one that nobody takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.state import State
    from mailbridge.outbox import Outbox, Stored

SUMMARY = "Events that were not received yet: list, drop, forget"
GROUP = "test and operate"
EXAMPLE = "mailbridge outbox list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `outbox`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|drop|forget")

    def action(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        added = actions.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  mailbridge outbox {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
        added.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
        return added

    list_ = action("list", "List what each relay has not acknowledged", "list --json")
    list_.add_argument("--json", action="store_true", help="one JSON object an event and relay")
    drop = action("drop", "Take an event back, for good, that no relay has", "drop 118")
    drop.add_argument("seq", type=int, metavar="SEQ", help="its number, as `list` tells it")
    drop.add_argument(
        "--offline",
        action="store_true",
        help="do not ask the relays: you know that none of them has it",
    )
    forget = action(
        "forget", "Wait no longer for a relay that is gone for good", "forget tcp://old:5581"
    )
    forget.add_argument("relay", metavar="RELAY", help="its name, as `list` tells it")


def run(arguments: argparse.Namespace) -> int:
    """List, drop or forget."""
    import logging

    from mailbridge.bridge.state import opened
    from mailbridge.cli._gateway import configured
    from mailbridge.errors import NeedsOperator
    from mailbridge.service import set_up_logging

    set_up_logging()
    logging.getLogger("mailbridge").setLevel(logging.WARNING)
    config = configured(arguments)
    if not (config.state_dir / "outbox.db").exists():
        raise NeedsOperator(f"{config.state_dir}: no outbox here; --state names another place")
    with opened(config) as state:
        if arguments.action == "list":
            _list(state.outbox, as_json=arguments.json)
        elif arguments.action == "drop":
            from mailbridge.bridge.takeback import take_back

            dropped = take_back(config, state, arguments.seq, offline=arguments.offline)
            print(f"dropped {dropped.seq}  {dropped.tag}  {dropped.uuid}")
        else:
            _forget(state, arguments.relay)
    return 0


def _list(outbox: Outbox, *, as_json: bool) -> None:
    import json
    import sys
    from datetime import UTC

    head, now = outbox.head().seq, datetime.now(UTC)
    # (Where nothing was ever sent, nobody has anything.)
    targets = outbox.targets() or {"": 0}
    for name, acked in targets.items():
        if not as_json:
            print(f"{name or 'nobody was sent to yet'}: {head - acked} of {head} not acknowledged")
        for event in _lacking(outbox, acked):
            made = outbox.made(event.seq) or now
            age = max(0, int((now - made).total_seconds()))
            if as_json:
                told = {"target": name, "seq": event.seq, "tag": event.tag, "uuid": event.uuid}
                print(json.dumps(told | {"made": made.isoformat(), "age": age}))
            else:
                print(f"{event.seq:>10}  {_age(age):>5}  {event.tag}  {event.uuid}")
    if not as_json and (horizon := outbox.horizon()):
        print(f"up to {horizon} only uuid and hash are kept", file=sys.stderr)


def _lacking(outbox: Outbox, acked: int) -> Iterator[Stored]:
    acked = max(acked, outbox.horizon())
    while page := outbox.after(acked, 500):
        yield from page
        acked = page[-1].seq


def _age(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _forget(state: State, name: str) -> None:
    from mailbridge.errors import UsageError

    known = state.outbox.targets()
    if name not in known:
        raise UsageError(f"{name!r}: no relay that was sent to; {', '.join(known) or 'none was'}")
    state.outbox.forget_target(name)
    print(f"{name} is not waited for any more; if it is sent to again, it is asked what it has")
