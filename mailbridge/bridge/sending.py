"""Sending once what is in an outbox, and waiting until the relays have it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import zmq

from mailbridge.bridge import epoch
from mailbridge.bridge.submit import RelayTarget
from mailbridge.errors import NotPermitted, TryAgain
from mailbridge.outbox import Outbox
from mailbridge.wire.sockets import Curve, make_context

PATIENCE: Final = 30.0
"""Seconds without any progress after which a relay is not there."""


def send_all(
    outbox: Outbox,
    relays: Sequence[str],
    *,
    patience: float = PATIENCE,
    curve: Curve | None = None,
    hopeless: Callable[[RelayTarget], bool] = lambda _: False,
) -> None:
    """
    Return when each of *relays* has everything in *outbox*.  The caller holds the `SenderLock`.

    Raises `TryAgain` where one makes no progress for *patience* seconds, `NotPermitted` as soon as
    one is *hopeless*, and what a target raises: `NeedsOperator` where it knows another history.
    """
    epoch.check(outbox)
    with ExitStack() as stack:
        context = make_context()
        stack.callback(context.term)
        for relay in relays:
            target = RelayTarget(context, relay, outbox, ancestors=outbox.ancestors(), curve=curve)
            stack.callback(target.close)
            gone, waiting = time.monotonic() + patience, outbox.head().seq + 1
            while True:
                due = target.turn(time.monotonic())
                if target.settled:
                    break
                if hopeless(target):
                    raise NotPermitted(target.status())
                if target.waiting < waiting:
                    gone, waiting = time.monotonic() + patience, target.waiting
                if time.monotonic() > gone:
                    raise TryAgain(f"{target.status()}; they are sent when it answers")
                wait = max(0.0, min(due, gone) - time.monotonic())
                target.sockets[0].poll(int(wait * 1000) + 1, zmq.POLLIN)
