"""
A relay that publishes, a Lighthouse or one of ours, listened to: what it says once is kept here.

It says nothing twice and answers nothing: what it said while nobody listened is gone, unless
whoever said it there says it to us, too, or another relay has it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from mailbridge.wire.sockets import Context, Socket, subscriber

_log = logging.getLogger(__name__)


class Upstream:
    """Everything that is published on *endpoint*."""

    kind: Final = "upstream"

    def __init__(self, context: Context, endpoint: str) -> None:
        """Connect, now or as soon as somebody is there.  Raises `ConfigError`."""
        self.name: Final = endpoint
        self.is_up = False
        """Whether somebody publishes to us."""
        self.was_heard = False
        self.events = 0
        """How many of its events were new to us."""
        self._socket: Final = subscriber(context, endpoint, where="relay.upstream")
        self._monitor: Final[Socket] = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )

    @property
    def sockets(self) -> Sequence[Socket]:
        """What becomes readable when there is something to hear."""
        return self._socket, self._monitor

    def heard(self, limit: int) -> list[bytes]:
        """Return what was said since, at most *limit* events; the rest waits."""
        self._look()
        events: list[bytes] = []
        with contextlib.suppress(zmq.Again):
            while len(events) < limit:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                # (The tag, and the event that says it, too.)
                events += frames[1:2]
        self.was_heard = self.was_heard or bool(events)
        return events

    def close(self) -> None:
        """Close the sockets at once."""
        self._socket.disable_monitor()
        self._socket.close(linger=0)
        self._monitor.close(linger=0)

    def _look(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                told = recv_monitor_message(self._monitor, zmq.NOBLOCK)
                self.is_up = told["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
                if self.is_up:
                    _log.info("%s is there; what it publishes is kept", self.name)
                else:
                    _log.warning("%s is gone; what it publishes now is not heard", self.name)
