"""`mailbridge emit`: an event of one's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

SUMMARY = "Send an event of your own: mailbridge emit TAG key=value…"
GROUP = "run the gateway"
EXAMPLE = "mailbridge emit org.example.built package=hello version=2.10-4 seconds:=42"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `emit`."""
    parser.add_argument("tag", metavar="TAG", help="its type, as org.example.built")
    parser.add_argument(
        "data",
        nargs="+",
        metavar="KEY=VALUE",
        help="what it says: KEY=text or KEY:=json; '-' reads JSON objects, one event a line",
    )
    parser.add_argument("--uuid", help="its identity: the same again changes nothing")
    parser.add_argument("--author", metavar="NAME", help="who triggered it")
    parser.add_argument("--submit", metavar="URL", help="the relay (default: this machine's)")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where key and outbox live")
    parser.add_argument("--entity", metavar="ID", help="who signs (default: emit.<fqdn>)")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="then it waits (default: 10)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Emit, print each uuid, and end with 0 when a relay has all on its disk."""
    from mailbridge import config as configuration
    from mailbridge.bridge.emitter import default_directory, opened, read_data, relays
    from mailbridge.errors import UsageError
    from mailbridge.service import set_up_logging

    set_up_logging()
    config = configuration.load(arguments.config or configuration.default_config())
    piped = arguments.data == ["-"]
    if piped and arguments.uuid:
        raise UsageError("--uuid is one event's; '-' may bring several")
    given = [] if piped else [_data(arguments.data)]
    with opened(arguments.state or default_directory(), arguments.entity) as emitter:
        lines = (line for line in sys.stdin.buffer if line.strip())
        for data in (read_data(line) for line in lines) if piped else given:
            told = emitter.add(arguments.tag, data, uuid=arguments.uuid, author=arguments.author)
            print(told, flush=True)
        to = [arguments.submit] if arguments.submit else relays(config)
        emitter.send(to, timeout=arguments.timeout, submit=config.submit)
    return 0


def _data(words: list[str]) -> dict[str, Any]:
    import json

    from mailbridge.errors import UsageError

    data: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip(":"):
            raise UsageError(f"{word!r}: KEY=text, KEY:=json, or '-' alone for standard input")
        if not key.endswith(":"):
            data[key] = value
            continue
        try:
            data[key[:-1]] = json.loads(value)
        except ValueError as error:
            raise UsageError(f"{word!r}: what stands behind := is no JSON: {error}") from error
    return data
