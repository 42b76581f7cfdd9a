"""`mailbridge verify`: is it all there, unaltered, and signed by whom we trust?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mailbridge.event import SignedEvent
    from mailbridge.reader.keys import Keys

SUMMARY = "Check signatures and feeds, of a relay, a file or standard input"
GROUP = "keys, trust, proof"
EXAMPLE = "mailbridge tail --json --from start --timeout 5 | mailbridge verify -"


class Checked(NamedTuple):
    """What was found to be right."""

    events: int
    feeds: dict[str, int]
    """The last number of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL|-",
        nargs="?",
        help="tcp://HOST:5583, file:///.../journal.db, or - for JSON lines on standard input"
        " (default: this machine's relay)",
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="PATTERN",
        help="standard input holds these tags alone (repeatable)",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--keys", type=Path, metavar="DIR", help="believe these public keys alone")
    trust.add_argument("--pin", metavar="FINGERPRINT", help="believe the relay with this key")
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--json", action="store_true", help="one JSON object for all of it")


def run(arguments: argparse.Namespace) -> int:
    from mailbridge import config, service
    from mailbridge.cli.tail import here
    from mailbridge.errors import BadInput, UsageError
    from mailbridge.reader.keys import Keys

    service.set_up_logging()
    loaded = config.load(arguments.config or config.default_config())
    url = arguments.url or here(loaded.relay.read)
    if arguments.tag and url != "-":
        raise UsageError("--tag is for standard input: of a relay or a journal all is checked")
    keys = Keys(
        url,
        state=arguments.state or loaded.state_dir,
        directory=arguments.keys,
        pin=arguments.pin,
    )
    try:
        checked = _lines(keys, arguments.tag) if url == "-" else _whole(url, keys)
    except BadInput as error:
        _tell(arguments, ok=False, finding=str(error))
        return error.exit_status
    _tell(arguments, ok=True, events=checked.events, feeds=checked.feeds)
    return 0


def _whole(url: str, keys: Keys) -> Checked:
    """Check all that *url* has.  Raises `BadInput` for the first thing that is wrong."""
    from mailbridge.errors import BadProof
    from mailbridge.reader import Events

    with Events(url, keys, since="start", timeout=None, follow=False) as events:
        count = sum(1 for _ in events)
        told = events.finish()
        if events.alarms:
            raise BadProof(events.alarms[0])
        return Checked(count, {each.feed: each.seq for each in told})


def _lines(keys: Keys, tags: list[str]) -> Checked:
    """Check the events on standard input, one a line.  Raises `BadInput`."""
    from mailbridge.errors import BadInput, BadProof

    checker = _Checker(keys, filtered=bool(tags))
    for number, line in enumerate(_read(), 1):
        try:
            checker.take(line)
        except BadProof:
            raise
        except BadInput as error:
            raise BadInput(f"line {number}: {error}") from error
    return checker.checked()


def _read() -> Iterable[bytes]:
    from mailbridge.event import MAX_FRAME_BYTES

    # (A line longer than any event is cut here and refused there.)
    while line := sys.stdin.buffer.readline(MAX_FRAME_BYTES + 2):
        yield line.rstrip(b"\r\n")


class _Checker:
    """Follows the feeds of events that come without a relay that could fill a hole."""

    def __init__(self, keys: Keys, *, filtered: bool) -> None:
        from mailbridge.reader.chain import Chain

        self._keys = keys
        self._chain = Chain(filtered=filtered)
        self._filtered = filtered
        self._events = 0

    def take(self, raw: bytes) -> None:
        from mailbridge.errors import BadProof, BadSignature
        from mailbridge.event import read_event
        from mailbridge.reader.chain import Step
        from mailbridge.signing import verify

        event: SignedEvent = read_event(raw)
        link = event.feed
        try:
            verified = verify(event, self._keys.current())
        except BadSignature as error:
            if link is None:
                raise
            raise BadProof(f"feed {link.id[:200]}: number {link.seq} was altered") from error
        self._events += 1
        if link is None:
            return
        step = self._chain.step(verified, link)
        if step is Step.UNKNOWN:
            self._chain.begin(verified, link)
        elif step is Step.NEXT:
            self._chain.advance(verified, link)
        elif step is Step.HOLE:
            at = self._chain.positions[link.id]
            if not self._filtered:
                raise BadProof(
                    f"feed {link.id}: number {at.newest.seq + 1} is missing before {link.seq}"
                )
            if event.tag in at.newest.tags or at.whole:
                raise BadProof(
                    f"feed {link.id}: before number {link.seq} an event {event.tag} is missing"
                )
            # (The first that we see of this tag, somewhere in a feed: nobody can tell.)
            self._chain.advance(verified, link)

    def checked(self) -> Checked:
        feeds = {feed: at.newest.seq for feed, at in self._chain.positions.items()}
        return Checked(self._events, feeds)


def _tell(
    arguments: argparse.Namespace,
    *,
    ok: bool,
    finding: str | None = None,
    events: int = 0,
    feeds: dict[str, int] | None = None,
) -> None:
    from mailbridge.event import canonical
    from mailbridge.service import one_line
    from mailbridge.sinks.show import safe_json

    if arguments.json:
        told = {"ok": ok, "finding": finding, "events": events, "feeds": feeds or {}}
        print(safe_json(canonical(told)).decode())
    elif not ok:
        print(one_line(f"wrong: {finding}"))
    else:
        for feed, last in sorted((feeds or {}).items()):
            print(one_line(f"feed {feed}: whole up to number {last}"))
        print(f"{events} events, all signed by whom we trust")
