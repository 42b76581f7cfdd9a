"""Sending once what is in an outbox: `ingest --submit`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.serve import Bridge
    from mailbridge.config import Config

PATIENCE = 30.0
"""Seconds without any progress after which a relay is not there."""


def send(config: Config, ours: Bridge, endpoint: str) -> str:
    """
    Send everything to the relays, *endpoint* or those configured, and return a line about it.

    A bridge that runs on this state does it itself.  Raises `TryAgain` if a relay does not answer.
    """
    import zmq

    from mailbridge.bridge.submit import RelayTarget
    from mailbridge.errors import TryAgain
    from mailbridge.outbox import SenderLock
    from mailbridge.wire.sockets import make_context

    outbox = ours.state.outbox
    with ExitStack() as stack:
        try:
            lock = SenderLock(ours.state.directory)
        except TryAgain:
            return "the bridge that runs on this state sends them"
        stack.callback(lock.release)
        context = make_context()
        stack.callback(context.term)
        for relay in [endpoint] if endpoint else config.submit.to or [config.relay.submit]:
            target = RelayTarget(context, relay, outbox, ancestors=outbox.ancestors())
            stack.callback(target.close)
            gone, waiting = time.monotonic() + PATIENCE, outbox.head().seq + 1
            while True:
                due = target.turn(time.monotonic())
                if target.settled:
                    break
                if target.waiting < waiting:
                    gone, waiting = time.monotonic() + PATIENCE, target.waiting
                if time.monotonic() > gone:
                    raise TryAgain(f"{target.status()}; they are sent when it answers")
                wait = max(0.0, min(due, gone) - time.monotonic())
                target.sockets[0].poll(int(wait * 1000) + 1, zmq.POLLIN)
    return "received by the relay"
