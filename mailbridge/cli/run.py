"""`mailbridge run`: bridge and embedded relay in one process."""

from __future__ import annotations

import argparse

SUMMARY = "Bridge and embedded relay in one process"
GROUP = "run the gateway"
EXAMPLE = "mailbridge run --maildir ~/Maildir"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    from mailbridge.cli._gateway import add_source_options
    from mailbridge.cli._health import add_health_option

    add_source_options(parser)
    for name, what in (
        ("submit", "take events of others"),
        ("publish", "publish as a Lighthouse does"),
        ("read", "answer readers"),
    ):
        parser.add_argument(
            f"--{name}", metavar="ENDPOINT", help=f"where to {what}; port 0 picks one"
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
    from mailbridge.bridge.serve import bridge, state_option
    from mailbridge.bridge.submit import RelayTarget
    from mailbridge.cli._gateway import configured, with_maildirs
    from mailbridge.cli._health import listening
    from mailbridge.relay import Relay
    from mailbridge.service import HangUp, StopSignal, set_up_logging
    from mailbridge.wire.sockets import make_context

    set_up_logging()
    config = with_maildirs(configured(arguments), arguments)
    given = {name: getattr(arguments, name) for name in ("submit", "publish", "read")}
    relay_config = msgspec.structs.replace(
        config.relay, **{name: value for name, value in given.items() if value}
    )
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        hangup = stack.enter_context(HangUp(stop))
        port = stack.enter_context(listening(arguments.health, config.health.listen))
        ours = stack.enter_context(bridge(config, accept_test=arguments.accept_test))
        key = ours.state.key
        relay = Relay(
            ours.state.directory,
            relay_config,
            own={key.entity: key.verify_key},
            stand_in=any(source.stand_in for source in config.source),
            on_failure=stop.set,
            health=port.health,
        )
        relay.start()
        stack.callback(relay.stop)
        context = make_context()
        stack.callback(context.destroy, linger=0)
        submit, publish, read = relay.endpoints
        outbox = ours.state.outbox
        curve = relay.own_curve
        if arguments.new_epoch:
            epoch.begin(
                outbox, context, [_reachable(submit)], entity=key.entity, curve=curve, stop=stop
            )
        target = RelayTarget(
            context,
            _reachable(submit),
            outbox,
            name="relay",
            ancestors=outbox.ancestors(),
            curve=curve,
        )
        ready = f"submit={submit} publish={publish} read={read} key={key.entity}{port.word}"
        tail = f"mailbridge tail {_reachable(read)}{state_option(config)}"
        words = f"{ready} | '{tail}' shows events"
        ours.run(
            [target],
            stop,
            words,
            health=port.health,
            healthy=lambda: relay.healthy,
            hangup=hangup,
            reread=lambda: with_maildirs(configured(arguments), arguments),
        )
        if relay.failure:
            raise relay.failure
    return 0


def _reachable(endpoint: str) -> str:
    """Return where to connect to what was bound."""
    for everywhere in ("0.0.0.0", "*", "[::]"):  # noqa: S104 - it is what was bound
        endpoint = endpoint.replace(f"tcp://{everywhere}:", "tcp://127.0.0.1:")
    return endpoint
