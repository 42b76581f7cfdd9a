"""What a relay is asked once, outside of any sending: how far it is, and what it has."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import zmq

from mailbridge import failpoint
from mailbridge.bridge.submit import Answer
from mailbridge.bridge.target import Ledger, Stop
from mailbridge.errors import NeedsOperator, ToldToEnd, TryAgain
from mailbridge.event import canonical, parse_json
from mailbridge.wire.sockets import Context, Curve, submitter

PAGE: Final = 5_000
"""How many uuids are asked for at once."""


def ask_head(
    context: Context, endpoint: str, ledger: Ledger, *, timeout: float, curve: Curve | None = None
) -> Answer:
    """
    Return how far the relay is with the feeds of our entity, once.

    Waits at most *timeout* seconds.  Raises `TryAgain` if no answer comes, `NeedsOperator` where
    the relay does not let us ask.
    """
    socket = submitter(context, endpoint, curve=curve)
    try:
        return _head(socket, endpoint, ledger, timeout)
    finally:
        socket.close(linger=0)


def _head(
    socket: zmq.Socket[bytes],
    endpoint: str,
    ledger: Ledger,
    timeout: float,
    stop: Stop | None = None,
) -> Answer:
    question = ledger.signed_head(asking=True)
    head = msgspec.convert(_ask(socket, [question, b"head"], timeout, stop), Answer)
    if head.status != "head":
        raise NeedsOperator(f"{endpoint} answers {head.status!r} to our head: {head.reason}")
    return head


def ask_for_epoch(  # noqa: PLR0913 - each is named at the call
    context: Context,
    endpoint: str,
    ledger: Ledger,
    *,
    entity: str,
    timeout: float,
    curve: Curve | None = None,
    stop: Stop | None = None,
) -> tuple[dict[str, tuple[int, str | None]], set[str]]:
    """
    Return (the heads of *entity*'s feeds, the uuids of its events) that the relay has.

    Waits at most *timeout* seconds for each answer.  Raises `TryAgain` if none comes, `ToldToEnd`
    if *stop* is readable before.
    """
    socket = submitter(context, endpoint, curve=curve)
    try:
        head = _head(socket, endpoint, ledger, timeout, stop)
        uuids: set[str] = set()
        after: int | None = 0
        while after is not None:
            wanted = {"uuids": {"entity": entity, "after": after, "limit": PAGE}}
            page = _ask(socket, [canonical(wanted), b"ask"], timeout, stop)
            if page.get("status") != "uuids":
                raise NeedsOperator(f"{endpoint} does not tell its uuids: {page.get('reason')}")
            uuids.update(page["uuids"])
            after = page["after"]
        return dict(head.feeds), uuids
    finally:
        socket.close(linger=0)


def _ask(
    socket: zmq.Socket[bytes], frames: list[bytes], timeout: float, stop: Stop | None = None
) -> dict[str, Any]:
    socket.send_multipart(frames)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    if stop:
        poller.register(stop.fileno(), zmq.POLLIN)
    failpoint.reached("asked")
    if socket not in dict(ready := poller.poll(int(timeout * 1000))):
        told = (
            f"{socket.getsockopt_string(zmq.LAST_ENDPOINT)} does not answer;"
            " what is to be done needs to know what the relay already has"
        )
        raise (ToldToEnd if ready else TryAgain)(told)
    return parse_json(socket.recv_multipart()[0])
