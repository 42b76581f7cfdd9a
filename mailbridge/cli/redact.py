"""`mailbridge redact`: take away what an event says; that there was one is kept, and proved."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.event import SignedEvent
    from mailbridge.signing import SigningKey

SUMMARY = "Take away what an event says; its number, hash and uuid stay"
GROUP = "test and operate"
EXAMPLE = "mailbridge redact 7a9d2c86-4b53-5e0f-9a41-6d61696c6272 --reason 'a private address'"

_MOST = 500
"""Characters of a reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `redact`."""
    parser.add_argument("uuid", metavar="UUID", help="the event's; all that say the same go")
    parser.add_argument("--reason", default="", help="what readers are told")
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
    parser.add_argument(
        "--submit",
        metavar="ENDPOINT",
        help="where the relay of this state takes submissions, if it runs and the configuration"
        " does not tell",
    )


def run(arguments: argparse.Namespace) -> int:
    """Redact it in the journal of this state, through its relay."""
    import sys
    from datetime import UTC, datetime

    from mailbridge import event as events
    from mailbridge import keyring
    from mailbridge.cli._gateway import configured
    from mailbridge.cli.import_ import relay_of
    from mailbridge.errors import NeedsOperator, UsageError
    from mailbridge.reader.exported import Line
    from mailbridge.relay.carried import Carried
    from mailbridge.service import set_up_logging
    from mailbridge.signing import sign_fields

    set_up_logging()
    config = configured(arguments)
    state = config.state_dir
    if len(arguments.reason) > _MOST or not arguments.reason.isprintable():
        raise UsageError(f"--reason: one line of at most {_MOST} characters")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    relay = keyring.load(state, "relay")
    if relay is None:
        raise NeedsOperator(f"{state}: no relay has run here; --state names another")
    source = keyring.load(state, "mailbridge", config.entity or None)
    lines = []
    for number, event in enumerate(_found(state / "journal.db", arguments.uuid), 1):
        key = _signer(event, source, relay)
        fields = events.redacted(event, reason=arguments.reason, time=now)
        lines.append(Line(number, "event", sign_fields(fields, key)[0]))
        whose = "everywhere" if key is source else f"by {relay.entity} alone: its source is another"
        print(f"{event.uuid} {event.tag}: taken away {whose}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        endpoint = arguments.submit or stack.enter_context(relay_of(config, state))
        for line in lines:
            with contextlib.closing(Carried(endpoint)) as carried:
                carried.give_all([line])
    print(f"{len(lines)} events redacted; backups and exports made before still have them")
    return 0


def _found(path: Path, uuid: str) -> list[SignedEvent]:
    """Return all events with this uuid that still say something.  Raises `UsageError` for none."""
    from mailbridge.errors import UsageError
    from mailbridge.event import read_event
    from mailbridge.journal import Journal

    with Journal.open(path, readonly=True) as journal:
        found = [read_event(raw) for raw in journal.saying(uuid)]
    if not found:
        raise UsageError(f"{uuid[:60]!r}: no event with this uuid is in {path}")
    left = [event for event in found if not event.redacted]
    if not left:
        raise UsageError(f"{uuid[:60]}: was redacted before")
    return left


def _signer(event: SignedEvent, source: SigningKey | None, relay: SigningKey) -> SigningKey:
    """Return whose word it is: the source's where that is us."""
    if source and event.feed and event.feed.entity == source.entity:
        return source
    return relay
