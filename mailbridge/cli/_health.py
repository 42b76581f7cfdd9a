"""The health port of `run`, `bridge` and `relay`: an option, a setting, and a word when ready."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mailbridge.health import Health

log = logging.getLogger("mailbridge.health")


class Port(NamedTuple):
    """Where health is told, and whom the services hand their facts to."""

    health: Health
    word: str
    """For the ready line: empty, or ` health=HOST:PORT`."""


def add_health_option(parser: argparse.ArgumentParser) -> None:
    """Add `--health`."""
    parser.add_argument(
        "--health",
        metavar="HOST:PORT",
        help="answer /metrics, /live and /ready there, as 127.0.0.1:9464; port 0 picks one",
    )


@contextmanager
def listening(given: str | None, configured: str) -> Iterator[Port]:
    """
    Answer on the address that is *given*, else *configured*, if any, until the block ends.

    Raises `ConfigError` for what is no address.  One in use is told, and no mail waits for that.
    """
    from mailbridge.errors import NotPermitted, TryAgain
    from mailbridge.health import Health

    health = Health()
    address = given or configured
    if not address:
        yield Port(health, "")
        return
    from mailbridge.health.http import Server

    try:
        server = Server(health, address, "--health" if given else "health")
    except (TryAgain, NotPermitted) as error:
        log.error("%s; we go on without", error)  # noqa: TRY400 - one line
        yield Port(health, "")
        return
    server.start()
    try:
        yield Port(health, f" health={server.address}")
    finally:
        server.close()
