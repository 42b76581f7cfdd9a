"""
CurveZMQ on the submit socket: who connects is asked of us (ZAP, ZeroMQ RFC 27), in our own loop.

There is no thread beside the loop that could die: while nobody answers, nobody gets in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from mailbridge.wire.sockets import Context, Socket, make_socket

_ZAP: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"submit"
_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class Caller(NamedTuple):
    """Who asks to be let in."""

    request: bytes
    address: str
    key: bytes | None
    """Its public key, 32 bytes; None where it shows none."""


def zap_server(context: Context) -> Socket:
    """Return the socket that libzmq asks, bound; before what it guards is."""
    socket = make_socket(context, zmq.REP)
    socket.bind(_ZAP)
    return socket


def guard(socket: Socket, secret: bytes) -> None:
    """Have *socket*, not bound yet, take CURVE only, with this *secret* key (Z85), and ask ZAP."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    # (Else everybody is let in where no ZAP socket is bound.)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def next_caller(zap: Socket) -> Caller | None:
    """Return who asks next, to be answered before the next is taken; None where nobody does."""
    try:
        frames = zap.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None
    # Version, request, domain, address, identity, mechanism, credentials.
    known = len(frames) == 7 and frames[0] == b"1.0" and frames[2] == _DOMAIN  # noqa: PLR2004
    known = known and frames[5] == b"CURVE"
    request = frames[1] if len(frames) > 1 else b""
    address = frames[3].decode("ascii", "replace") if len(frames) > 3 else ""  # noqa: PLR2004
    return Caller(request, address, frames[6] if known else None)


def answer_caller(zap: Socket, caller: Caller, user: bytes | None) -> None:
    """Let *caller* in, its mail being marked as *user*'s; or not, where that is None."""
    status = (b"400", b"not allowed", b"") if user is None else (b"200", b"OK", user)
    zap.send_multipart([b"1.0", caller.request, *status, b""])


class Handshakes:
    """Those of a socket that failed, told by libzmq."""

    def __init__(self, socket: Socket) -> None:
        self._watched: Final = socket
        self.socket: Final = socket.get_monitor_socket(_FAILED)
        """Readable when there is one."""

    def failed(self) -> Iterator[int]:
        """Yield the event, `zmq.EVENT_HANDSHAKE_FAILED_...`, of each one since the last call."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield int(parse_monitor_message(frames)["event"])

    def close(self) -> None:
        """Watch no more; before the watched socket is closed."""
        self._watched.disable_monitor()
        self.socket.close(linger=0)
