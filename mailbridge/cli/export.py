"""`mailbridge export`: a feed, or all of them, as one file that travels without a network."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SUMMARY = "Write a relay's feeds to a file that travels without a network"
GROUP = "keys, trust, proof"
EXAMPLE = "mailbridge export -o /media/stick/events.export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="tcp://HOST:5583 or file:///.../journal.db (default: this machine's relay)",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="where to; - for standard output"
    )
    parser.add_argument("--feed", metavar="ID", help="this feed alone, as ENTITY/EPOCH")
    parser.add_argument(
        "--from",
        dest="since",
        default="start",
        metavar="PLACE",
        help="start (default), a cursor, 2h, or 2026-11-20T10:00Z",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write it, whole or not at all."""
    from datetime import UTC, datetime

    from mailbridge import config, service
    from mailbridge.cli.tail import here
    from mailbridge.reader.events import asks_of
    from mailbridge.reader.exported import Export
    from mailbridge.reader.patience import Patience
    from mailbridge.reader.place import parse

    service.set_up_logging()
    loaded = config.load(arguments.config or config.default_config())
    url = arguments.url or here(loaded.relay.read)
    now = datetime.now(UTC)
    since = parse(arguments.since, lambda: now)
    with contextlib.closing(asks_of(url)) as asks, _output(arguments.output) as write:
        export = Export(Patience(url, asks, timeout=None, follow=False), write)
        export.run(since, arguments.feed, now)
    for feed, last in sorted(export.last.items()):
        first = export.begins.get(feed, 1)
        print(service.one_line(f"feed {feed}: numbers {first} to {last}"), file=sys.stderr)
    print(f"{export.events} events in {arguments.output}", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _output(name: str) -> Iterator[Callable[[bytes], object]]:
    """Give what writes to the file *name*, which is there when the context ends, or as it was."""
    from mailbridge.errors import StorageFailed

    if name == "-":
        yield sys.stdout.buffer.write
        return
    path = Path(name)
    held = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            with held.open("xb") as stream:
                yield stream.write
                stream.flush()
                os.fsync(stream.fileno())
            held.rename(path)
        finally:
            held.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(f"{path}: cannot be written: {error.strerror}") from error
