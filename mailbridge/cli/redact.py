"""`mailbridge redact`: take away what an event says; that there was one is kept, and proved."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.config import Config
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
    """Redact it in the outbox of this state, and then in its journal, through the relay."""
    import uuid
    from datetime import UTC, datetime

    from mailbridge import keyring
    from mailbridge.cli._gateway import configured
    from mailbridge.errors import UsageError
    from mailbridge.service import set_up_logging

    set_up_logging()
    config = configured(arguments)
    state = config.state_dir
    if len(arguments.reason) > _MOST or not arguments.reason.isprintable():
        raise UsageError(f"--reason: one line of at most {_MOST} characters")
    try:
        wanted = str(uuid.UUID(arguments.uuid))
    except ValueError as error:
        raise UsageError(f"{arguments.uuid[:60]!r} is no uuid") from error
    word = _Word(arguments.reason, datetime.now(UTC).isoformat(timespec="seconds"))
    # (In this order: broken off in between, the same command does the rest.)
    ours = _in_outbox(config, wanted, word)
    events = _in_journal(state / "journal.db", wanted)
    if not ours and not events:
        raise UsageError(f"{wanted}: no event with this uuid says anything here")
    source, relay = keyring.load(state, "mailbridge", config.entity or None), None
    if events:
        relay = keyring.load(state, "relay")
    raws = [word.of(event, _signer(event, source, relay)) for event in events]
    _submit(config, raws or [ours or b""], arguments.submit)
    print(f"{len(raws) or 1} events redacted; backups and exports made before still have them")
    return 0


class _Word:
    """What is said in their place."""

    def __init__(self, reason: str, time: str) -> None:
        self._reason = reason
        self._time = time

    def of(self, event: SignedEvent, key: SigningKey) -> bytes:
        """Return what stands in the place of *event*, signed by *key*."""
        from mailbridge.event import redacted
        from mailbridge.signing import sign_fields

        return sign_fields(redacted(event, reason=self._reason, time=self._time), key)[0]


def _in_outbox(config: Config, uuid: str, word: _Word) -> bytes | None:
    """Redact it in the outbox, if that has it, and return what stands there then."""
    from mailbridge.bridge.state import OUTBOX, opened
    from mailbridge.event import is_redacted, read_event

    if not (config.state_dir / OUTBOX).exists():
        return None
    with opened(config) as state:
        found = state.outbox.saying(uuid)
        if found is None or is_redacted(found[1]):
            return None
        stored = word.of(read_event(found[1]), state.key)
        state.outbox.redact(found[0], stored)
        return stored


def _in_journal(path: Path, uuid: str) -> list[SignedEvent]:
    """Return all events with this uuid that still say something."""
    from mailbridge.event import read_event
    from mailbridge.journal import Journal

    if not path.exists():
        return []
    with Journal.open(path, readonly=True) as journal:
        found = [read_event(raw) for raw in journal.saying(uuid)]
    return [event for event in found if not event.redacted]


def _signer(event: SignedEvent, source: SigningKey | None, relay: SigningKey | None) -> SigningKey:
    """Return whose word it is: the source's where that is us.  Say so."""
    from mailbridge.errors import NeedsOperator

    if source and event.feed and event.feed.entity == source.entity:
        print(f"{event.uuid} {event.tag}: taken away everywhere", file=sys.stderr)
        return source
    if relay is None:
        raise NeedsOperator(f"{event.uuid}: is another source's, and no relay's key is here")
    whose = f"by {relay.entity} alone: its source is another"
    print(f"{event.uuid} {event.tag}: taken away {whose}", file=sys.stderr)
    return relay


def _submit(config: Config, raws: list[bytes], endpoint: str | None) -> None:
    """Give *raws* to the relay of this state, or to those that the configuration names."""
    from mailbridge.cli.import_ import relay_of
    from mailbridge.reader.exported import Line
    from mailbridge.relay.carried import Carried

    with contextlib.ExitStack() as stack:
        endpoints: tuple[str, ...] = (endpoint,) if endpoint else config.submit.to
        if not endpoints:
            endpoints = (stack.enter_context(relay_of(config, config.state_dir)),)
        for relay in endpoints:
            for number, raw in enumerate(raws, 1):
                with contextlib.closing(Carried(relay)) as carried:
                    carried.give_all([Line(number, "event", raw)])
