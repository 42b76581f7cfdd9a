"""`mailbridge tail`: print events as they come, or from any point in the past."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.reader import Introduction

SUMMARY = "Print events as they come, or from any point in the past"
GROUP = "see and use what flows"
EXAMPLE = "mailbridge tail tcp://relay.example.org:5583 --from 2h --tag '_lk.mailbridge.bug-*'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="tcp://HOST:5583 or file:///.../journal.db (default: this machine's relay)",
    )
    parser.add_argument("--json", action="store_true", help="each event's stored bytes, one a line")
    parser.add_argument(
        "--from",
        dest="since",
        default="now",
        metavar="PLACE",
        help="start, now, a cursor, 2h, or 2026-11-20T10:00Z (default: now)",
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only these tags, * as in file names (repeatable)",
    )
    parser.add_argument("--count", type=_count, metavar="N", help="end after N events")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="end then; with status 75 if N were not seen",
    )
    parser.add_argument(
        "--cursor-file", type=Path, metavar="FILE", help="remember there, and resume from there"
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--keys", type=Path, metavar="DIR", help="believe these public keys alone")
    trust.add_argument(
        "--pin", metavar="FINGERPRINT", help="believe the relay, or its source, with this key"
    )
    parser.add_argument(
        "--unverified", action="store_true", help="show events of nobody we know, too, marked"
    )
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")


def run(arguments: argparse.Namespace) -> int:
    from mailbridge import config, service
    from mailbridge.errors import TryAgain
    from mailbridge.reader import open_events
    from mailbridge.sinks.tail import Lines, Shows, Words

    service.set_up_logging()
    loaded = config.load(arguments.config or config.default_config())
    shows: Shows = Lines(sys.stdout.buffer) if arguments.json else Words(sys.stdout)
    left = arguments.count
    with open_events(
        arguments.url or here(loaded.relay.read),
        tags=arguments.tag,
        since=arguments.since,
        keys=arguments.keys,
        pin=arguments.pin,
        state=arguments.state or loaded.state_dir,
        cursor_file=arguments.cursor_file,
        timeout=arguments.timeout,
        unverified=arguments.unverified,
        confirm=_confirm if sys.stdin.isatty() and sys.stderr.isatty() else None,
    ) as events:
        try:
            for event in events:
                shows.show(event)
                if left is not None:
                    left -= 1
                    if left == 0:
                        events.handled()
                        break
        except KeyboardInterrupt:
            return 0
        except TryAgain:
            # (Time is up.  Who wanted no number of events has got what there was.)
            if left is not None or not events.answered:
                raise
    return 0


def here(endpoint: str) -> str:
    """Return where to connect to reach what is bound to *endpoint* on this machine."""
    for anywhere in ("tcp://*:", "tcp://0.0.0.0:"):
        if endpoint.startswith(anywhere):
            return f"tcp://127.0.0.1:{endpoint.removeprefix(anywhere)}"
    return endpoint.replace("tcp://[::]:", "tcp://[::1]:")


def _confirm(met: Introduction) -> bool:
    print(f"{met.url} is met for the first time here.", file=sys.stderr)
    print(f"  relay   {met.relay.fingerprint}  {met.relay.entity}", file=sys.stderr)
    for entity, key in sorted(met.sources.items()):
        print(f"  source  {key.fingerprint}  {entity}", file=sys.stderr)
    print("Compare that with what its operator says. Is it right? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


# What argparse says of a word that is none.
_count.__name__ = "number of events"
_seconds.__name__ = "number of seconds"
