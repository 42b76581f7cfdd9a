"""`mailbridge bridge`: the bridge alone, towards relays of ours or a Lighthouse."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.config import Config, Submit

SUMMARY = "The bridge alone: Maildirs to a relay, or to a Lighthouse"
GROUP = "run the gateway"
EXAMPLE = (
    "mailbridge bridge --maildir ~/Maildir --lighthouse tcp://127.0.0.1:5571,tcp://127.0.0.1:5572"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bridge`."""
    from mailbridge.cli._gateway import add_source_options
    from mailbridge.cli._health import add_health_option

    add_source_options(parser)
    parser.add_argument(
        "--submit",
        action="append",
        default=[],
        metavar="ENDPOINT",
        help="a relay's submit socket to send to (repeatable; default: this machine's)",
    )
    parser.add_argument(
        "--lighthouse",
        metavar="SUBMIT,PUBLISH",
        help="the sockets of a Laniakea relay to send to instead",
    )
    parser.add_argument(
        "--new-epoch",
        action="store_true",
        help="once, after the outbox was lost or restored: begin a new feed",
    )
    add_health_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C."""
    from contextlib import ExitStack

    import msgspec

    from mailbridge.bridge import epoch
    from mailbridge.bridge.curve import curve_of
    from mailbridge.bridge.serve import bridge
    from mailbridge.bridge.submit import RelayTarget
    from mailbridge.bridge.target import Target
    from mailbridge.cli._gateway import configured, with_maildirs
    from mailbridge.cli._health import listening
    from mailbridge.service import HangUp, StopSignal, set_up_logging
    from mailbridge.wire.sockets import make_context

    set_up_logging()

    def read() -> Config:
        config = with_maildirs(configured(arguments), arguments)
        config = msgspec.structs.replace(config, submit=_submit(config.submit, arguments))
        _check_asked(config)
        return config

    config = read()
    to, lighthouse = config.submit.to, config.submit.lighthouse
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        hangup = stack.enter_context(HangUp(stop))
        port = stack.enter_context(listening(arguments.health, config.health.listen))
        ours = stack.enter_context(bridge(config, accept_test=arguments.accept_test))
        outbox, entity = ours.state.outbox, ours.state.key.entity
        curve = curve_of(config.submit, ours.state.directory, entity)
        context = make_context()
        stack.callback(context.destroy, linger=0)
        if arguments.new_epoch:
            epoch.begin(outbox, context, to, entity=entity, curve=curve, stop=stop)
        targets: list[Target] = [
            RelayTarget(context, endpoint, outbox, ancestors=outbox.ancestors(), curve=curve)
            for endpoint in to
        ]
        ready = [f"submit={endpoint}" for endpoint in to]
        if lighthouse:
            from mailbridge.bridge.lighthouse import LighthouseTarget

            targets.append(LighthouseTarget(context, lighthouse, outbox))
            ready = [f"submit={lighthouse.submit}", f"publish={lighthouse.publish}"]
        words = " ".join([*ready, f"key={entity}"]) + port.word
        ours.run(targets, stop, words, health=port.health, hangup=hangup, reread=read)
    return 0


def _check_asked(config: Config) -> None:
    """Return if all that the sources ask for is to be had without a relay of our own."""
    from mailbridge.errors import ConfigError

    for source in config.source:
        if source.suppress_if_on_bus:
            raise ConfigError(
                f"source {source.name!r}: suppress_if_on_bus: asks the relay of this process, which"
                " 'mailbridge run' has; relay.upstream lets that follow another, or a Lighthouse"
            )


def _submit(submit: Submit, arguments: argparse.Namespace) -> Submit:
    """Return where to send: what *arguments* say, else what is configured."""
    from mailbridge.config import SUBMIT, Lighthouse
    from mailbridge.config import Submit as Targets
    from mailbridge.errors import UsageError

    if arguments.lighthouse:
        pair = arguments.lighthouse.split(",")
        if len(pair) != 2:  # noqa: PLR2004 - a pair
            raise UsageError(
                f"--lighthouse {arguments.lighthouse!r}: SUBMIT,PUBLISH expected, as"
                " tcp://127.0.0.1:5571,tcp://127.0.0.1:5572"
            )
        return Targets(
            to=tuple(arguments.submit),
            lighthouse=Lighthouse(submit=pair[0], publish=pair[1]),
            curve_server=submit.curve_server,
        )
    if arguments.submit:
        return Targets(to=tuple(arguments.submit), curve_server=submit.curve_server)
    if not submit.to and not submit.lighthouse:
        # The relay of this machine, as `mailbridge relay` binds where nobody says otherwise.
        return Targets(to=(SUBMIT,), curve_server=submit.curve_server)
    return submit
