"""CurveZMQ towards a relay: with which keys, and what is told and done where it lets us not in."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Final

import zmq

from mailbridge.config import Submit
from mailbridge.keyring import curve_server, ensure_curve
from mailbridge.wire.curve import Handshakes
from mailbridge.wire.sockets import Curve, Socket

AGAIN: Final = 2.0
"""Seconds until a relay that did not let us in is tried again: libzmq itself mostly gives up."""


def curve_of(submit: Submit, state: Path, entity: str) -> Curve | None:
    """
    Return what *entity* connects to its relays with, made at the first use; None without CURVE.

    Raises `ConfigError`, `NeedsOperator` or `StorageFailed`.
    """
    if not submit.curve_server:
        return None
    server = curve_server(submit.curve_server)
    return Curve(server, *ensure_curve(state, entity))


class Entrance:
    """Whether a relay lets a source's *socket* in; where not, it is tried again for ever."""

    def __init__(self, socket: Socket, endpoint: str, curve: Curve | None) -> None:
        self._socket: Final = socket
        self._endpoint: Final = endpoint
        self._curve: Final = curve
        self._handshakes: Final = Handshakes(socket)
        self._again = math.inf
        # (The first handshake may have failed before it was watched.)
        self._connect()

    @property
    def socket(self) -> Socket:
        """Readable when a handshake failed."""
        return self._handshakes.socket

    @property
    def due(self) -> float:
        """When the next `turn` is, at the latest."""
        return self._again

    def turn(self, now: float) -> str:
        """Connect again where that is due; return why we were not let in since, or nothing."""
        events = list(self._handshakes.failed())
        if now >= self._again:
            self._again = math.inf
            self._connect()
        if not events:
            return ""
        self._again = min(self._again, now + AGAIN)
        if self._curve is None:
            return "wants CURVE, or is no relay: set submit.curve_server to its CURVE key"
        if int(zmq.EVENT_HANDSHAKE_FAILED_AUTH) in events:
            return (
                f"does not know our CURVE key {self._curve.public.decode()}:"
                " there, 'mailbridge key allow FILE' with what 'mailbridge key curve' prints here"
            )
        return "ends the CURVE handshake: submit.curve_server is another key, or it wants no CURVE"

    def close(self) -> None:
        """Watch no more; before the socket is closed."""
        self._handshakes.close()

    def _connect(self) -> None:
        with contextlib.suppress(zmq.ZMQError):
            # (libzmq may have forgotten the connection already.)
            self._socket.disconnect(self._endpoint)
        self._socket.connect(self._endpoint)
