"""`mailbridge import`: what `export` wrote, into a relay, each event judged by its signature."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.config import Config
    from mailbridge.relay.carried import Carried

SUMMARY = "Take what export wrote into a relay, each event by its signature"
GROUP = "keys, trust, proof"
EXAMPLE = "mailbridge import /media/stick/events.export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `import`."""
    parser.add_argument("file", metavar="FILE", help="the file; - for standard input")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--submit",
        metavar="ENDPOINT",
        help="a running relay's submit socket (default: this"
        " machine's relay, or where none runs the journal of the state)",
    )
    where.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--json", action="store_true", help="one JSON object for all of it")


def run(arguments: argparse.Namespace) -> int:
    """Import it.  65 for a file that is wrong, 77 for a key that the relay does not know."""
    from mailbridge import config, service
    from mailbridge.errors import MailbridgeError
    from mailbridge.reader.exported import read_lines
    from mailbridge.relay.carried import Carried

    service.set_up_logging()
    loaded = config.load(arguments.config or config.default_config())
    wrong: MailbridgeError | None = None
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(opened(arguments.file))
        endpoint = arguments.submit or stack.enter_context(
            relay_of(loaded, arguments.state or loaded.state_dir)
        )
        carried = stack.enter_context(contextlib.closing(Carried(endpoint)))
        try:
            carried.give_all(read_lines(stream))
        except MailbridgeError as error:
            wrong = error
    _tell(carried, wrong, as_json=arguments.json)
    if wrong:
        raise wrong
    return 0


@contextlib.contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """Give the file *name*, or standard input for `-`.  Raises `UsageError` where it is none."""
    from mailbridge.errors import UsageError

    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - closed below; only opening it may fail so
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
    with stream:
        yield stream


@contextlib.contextmanager
def relay_of(loaded: Config, state: Path) -> Iterator[str]:
    """Give where the relay of *state* takes submissions; for this time alone, if none runs."""
    import msgspec

    from mailbridge import keyring
    from mailbridge.cli.tail import here
    from mailbridge.errors import TryAgain
    from mailbridge.relay import Relay

    free = "tcp://127.0.0.1:0"
    settings = msgspec.structs.replace(
        loaded.relay, submit=free, publish=free, read=free, upstream=(), peer=(), curve=False
    )
    ours = keyring.load(state, "mailbridge", loaded.entity or None)
    own = {ours.entity: ours.verify_key} if ours else {}
    stand_in = any(source.stand_in for source in loaded.source)
    relay = Relay(state, settings, own=own, stand_in=stand_in)
    try:
        relay.start()
    except TryAgain:
        # (One runs on this state.)
        yield here(loaded.relay.submit)
        return
    try:
        yield relay.endpoints.submit
    finally:
        relay.stop()
    if relay.failure:
        raise relay.failure


def _tell(carried: Carried, wrong: Exception | None, *, as_json: bool) -> None:
    from mailbridge.event import canonical
    from mailbridge.sinks.show import safe_json

    if as_json:
        told = {
            "stored": carried.stored,
            "duplicates": carried.known,
            "left_out": carried.left_out,
            "finding": str(wrong) if wrong else None,
        }
        print(safe_json(canonical(told)).decode())
        return
    print(f"{carried.stored} events were new, {carried.known} were there already")
    if carried.left_out:
        print(f"{carried.left_out} were left out: without a feed, and too old to be taken so")
