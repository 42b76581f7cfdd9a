"""`mailbridge replay`: stored events once more, for subscribers that know only PUB."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SUMMARY = "Stored events again, on a publish socket of their own"
GROUP = "test and operate"
EXAMPLE = "mailbridge replay --from 2h --tag '*.package-*' --speed 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `replay`."""
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="tcp://HOST:5583 or file:///.../journal.db (default: this machine's relay)",
    )
    parser.add_argument(
        "--publish",
        default="tcp://127.0.0.1:5593",
        metavar="URL",
        help="where subscribers connect (default: tcp://127.0.0.1:5593)",
    )
    parser.add_argument(
        "--from",
        dest="since",
        default="start",
        metavar="PLACE",
        help="start, a cursor, 2h, or 2026-11-20T10:00Z (default: start)",
    )
    parser.add_argument(
        "--tag", action="append", default=[], metavar="PATTERN", help="only these (repeatable)"
    )
    parser.add_argument("--count", type=int, metavar="N", help="end after N events")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="X",
        help="times their original pace; 0: without a pause (default: 1)",
    )
    pace.add_argument("--step", action="store_true", help="each waits for a line: press Enter")
    parser.add_argument(
        "--no-wait", action="store_true", help="begin before anybody has subscribed"
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--keys", type=Path, metavar="DIR", help="believe these public keys alone")
    trust.add_argument("--pin", metavar="FINGERPRINT", help="believe the relay with this key")
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")


def run(arguments: argparse.Namespace) -> int:
    """Publish what is stored, verified first; 0 when all of it went out, or at Ctrl-C."""
    from itertools import islice

    from mailbridge import config, service
    from mailbridge.cli.tail import here
    from mailbridge.errors import UsageError
    from mailbridge.event import LANIAKEA_ARCHIVE
    from mailbridge.reader import open_events
    from mailbridge.relay.replay import Replay

    service.set_up_logging()
    if arguments.speed < 0:
        raise UsageError("--speed: 0 or more")
    loaded = config.load(arguments.config or config.default_config())
    stored = open_events(
        arguments.url or here(loaded.relay.read),
        tags=arguments.tag,
        since=arguments.since,
        keys=arguments.keys,
        pin=arguments.pin,
        state=arguments.state or loaded.state_dir,
        follow=False,
    )
    with service.StopSignal() as stop, stored as events, Replay(arguments.publish) as replay:
        print(f"ready publish={replay.endpoint}", file=sys.stderr, flush=True)
        if not arguments.no_wait and not replay.wait_for_subscriber(stop):
            return 0
        done = replay.publish(
            islice(events, arguments.count), stop, speed=arguments.speed, step=arguments.step
        )
    print(f"{done.published} events published", file=sys.stderr)
    if done.left_out:
        print(
            f"{done.left_out} under {LANIAKEA_ARCHIVE}.* left out: whoever sends mail for those"
            " would send it again",
            file=sys.stderr,
        )
    return 0
