"""Whom a relay with CURVE lets connect to its submit socket, and what it tells of the others."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from pathlib import Path
from typing import Final

import zmq

from mailbridge.keyring import CurveClients, CurvePair, curve_clients, z85
from mailbridge.wire.curve import Handshakes, answer_caller, guard, next_caller, zap_server
from mailbridge.wire.sockets import Context, Socket

TOLD_EVERY: Final = 60.0
"""Seconds between two lines of one kind: whoever knocks on and on must not fill the log."""

_WITHOUT: Final = {
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): (
        "somebody without CURVE, or with another submit.curve_server than our public key"
    ),
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "somebody who ended the handshake, as by no CURVE",
}

_log = logging.getLogger(__name__)


class Door:
    """
    Lets in who has a key in `keys/curve/*.curve`, or the relay's own pair.

    A key that is taken away there counts for nothing within 2 s, connected or not.
    """

    def __init__(self, context: Context, state: Path, pair: CurvePair, submit: Socket) -> None:
        """*submit* is not bound yet; it takes CURVE only from here on."""
        self._own: Final = pair.public
        self._directory: Final = curve_clients(state)
        self._clients: Final = CurveClients(self._directory)
        self._told: dict[str, float] = {}
        self._untold: Counter[str] = Counter()
        self._zap: Final = zap_server(context)
        guard(submit, pair.secret)
        self._handshakes: Final = Handshakes(submit)

    @property
    def sockets(self) -> tuple[Socket, ...]:
        """Those whose readability calls for a `turn`."""
        return (self._zap, self._handshakes.socket)

    def turn(self) -> None:
        """Answer whoever asks to be let in, and tell who was not."""
        while (caller := next_caller(self._zap)) is not None:
            key = z85(caller.key) if caller.key else b""
            admitted = self.admits(key)
            answer_caller(self._zap, caller, key if admitted else None)
            if not admitted:
                self._tell(
                    "key",
                    f"the CURVE key {key.decode()} of {caller.address}, which is not in"
                    f" {self._directory} ('mailbridge key allow FILE')",
                )
        for event in self._handshakes.failed():
            if event in _WITHOUT:
                self._tell("handshake", _WITHOUT[event])

    def admits(self, user: bytes) -> bool:
        """Say whether the key *user*, Z85, may send here now."""
        return user == self._own or user in self._clients.current()

    def close(self) -> None:
        """Close its sockets; before the submit socket is."""
        self._handshakes.close()
        self._zap.close(linger=0)

    def _tell(self, kind: str, who: str) -> None:
        now = time.monotonic()
        if now - self._told.get(kind, -math.inf) < TOLD_EVERY:
            self._untold[kind] += 1
            return
        self._told[kind] = now
        before = self._untold.pop(kind, 0)
        more = f" ({before} more since the last such line)" if before else ""
        _log.error("submit refuses %s%s", who, more)
