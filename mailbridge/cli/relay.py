"""The command `relay`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

SUMMARY: Final = "The relay alone"
GROUP: Final = "run the gateway"
EXAMPLE: Final = "mailbridge relay --state /var/lib/mailbridge --publish tcp://0.0.0.0:5582"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `relay`."""
    from mailbridge.cli._health import add_health_option

    parser.add_argument("--state", metavar="DIR", type=Path, help="where journal and keys live")
    endpoint = "ZeroMQ endpoint to bind; port 0 picks one"
    parser.add_argument("--submit", metavar="ENDPOINT", help=f"for sources: {endpoint}")
    parser.add_argument("--publish", metavar="ENDPOINT", help=f"for subscribers: {endpoint}")
    parser.add_argument("--read", metavar="ENDPOINT", help=f"for readers: {endpoint}")
    parser.add_argument(
        "--upstream",
        action="append",
        metavar="ENDPOINT",
        help="keep what is published there, too: a Lighthouse's publish socket (repeatable)",
    )
    parser.add_argument(
        "--peer",
        action="append",
        metavar="ENDPOINT",
        help="take what is missing here from another relay: its read socket (repeatable)",
    )
    add_health_option(parser)
    parser.add_argument("--verbose", action="store_true", help="log every submission")


def _look_again(arguments: argparse.Namespace) -> None:
    """Say what is wrong with the configuration as it is now; keys and policy are always current."""
    import logging

    from mailbridge import config, service
    from mailbridge.errors import ConfigError

    log = logging.getLogger("mailbridge.relay")
    try:
        config.load(arguments.config or config.default_config())
    except ConfigError as error:
        log.error("SIGHUP: %s; what was read before holds", error)  # noqa: TRY400 - one line
    else:
        log.info("SIGHUP: keys and policy are as they are now; [relay] counts from the next start")
    service.notify("READY=1")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    import msgspec

    from mailbridge import config, service
    from mailbridge.cli._health import listening
    from mailbridge.errors import MailbridgeError
    from mailbridge.relay import Relay

    service.set_up_logging(verbose=arguments.verbose)
    settings = config.load(arguments.config or config.default_config())
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name in ("submit", "publish", "read", "upstream", "peer")
        if (value := getattr(arguments, name)) is not None
    }
    state = arguments.state or settings.state_dir
    with (
        service.StopSignal() as stop,
        service.HangUp(stop) as hangup,
        listening(arguments.health, settings.health.relay) as port,
    ):
        relay = Relay(
            state,
            msgspec.structs.replace(settings.relay, **given),
            on_failure=stop.set,
            health=port.health,
        )
        with relay:
            submit, publish, read = relay.endpoints
            ready = f"ready submit={submit} publish={publish} read={read} key={relay.key.entity}"
            ready += port.word
            service.settle_in()
            print(ready, file=sys.stderr, flush=True)
            service.notify("READY=1", f"STATUS={ready}")
            watchdog = service.watchdog_seconds()
            while not stop.wait(watchdog / 2 if watchdog else None, hangup=hangup):
                if relay.healthy:
                    service.notify("WATCHDOG=1")
                if hangup.came():
                    _look_again(arguments)
            service.notify("STOPPING=1")
        if isinstance(relay.failure, MailbridgeError):
            raise relay.failure
        return 0 if relay.failure is None else MailbridgeError.exit_status
