"""
A Lighthouse as a source sees it: a socket to submit to, one on which everything comes out again.

It answers nothing.  So a source listens, and has to know since when it does: what it submits
before its subscription has arrived comes out unheard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from mailbridge.wire.sockets import Context, Socket, check_endpoint, connected, make_socket

FLIGHTS: Final = 64
"""How many events may be on the way to a Lighthouse, and have not come out of it."""

_AT_ONCE: Final = 1_000


class Line:
    """The connection to one Lighthouse.  Nothing here blocks."""

    def __init__(self, context: Context, submit: str, publish: str) -> None:
        """Connect, now or as soon as somebody is there.  Raises `ConfigError`."""
        check_endpoint(submit, "lighthouse.submit")
        check_endpoint(publish, "lighthouse.publish")
        self._submit: Final = make_socket(context, zmq.DEALER)
        self._submit.setsockopt(zmq.SNDHWM, FLIGHTS)
        # Nothing waits in a queue for a Lighthouse to come back: it would go out before we listen.
        self._submit.setsockopt(zmq.IMMEDIATE, 1)
        connected(self._submit, submit, "lighthouse.submit")
        self._publish: Final = make_socket(context, zmq.SUB)
        self._monitor: Final[Socket] = self._publish.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        connected(self._publish, publish, "lighthouse.publish")
        self._prefixes: Final[set[bytes]] = set()
        self._is_up = False

    @property
    def sockets(self) -> Sequence[Socket]:
        """What becomes readable when there is something to hear."""
        return self._publish, self._monitor

    @property
    def is_up(self) -> bool:
        """Whether somebody publishes to us, as far as `ups` was told."""
        return self._is_up

    def ups(self) -> int:
        """Return how often a connection came up since this was asked last."""
        count = 0
        with contextlib.suppress(zmq.Again):
            while True:
                told = recv_monitor_message(self._monitor, zmq.NOBLOCK)
                self._is_up = told["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
                count += self._is_up
        return count

    def listen_for(self, prefix: str) -> bool:
        """Hear the tags that begin with *prefix*.  False if we do already."""
        wanted = prefix.encode()
        if wanted in self._prefixes:
            return False
        self._prefixes.add(wanted)
        self._publish.setsockopt(zmq.SUBSCRIBE, wanted)
        return True

    def listen_anew(self) -> None:
        """Tell the Lighthouse once more what we want to hear."""
        for prefix in self._prefixes:
            self._publish.setsockopt(zmq.UNSUBSCRIBE, prefix)
            self._publish.setsockopt(zmq.SUBSCRIBE, prefix)

    def give(self, event: bytes) -> bool:
        """Submit *event*, as the one frame there is.  False if nobody takes it now."""
        try:
            self._submit.send(event, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def heard(self) -> Iterator[bytes]:
        """Yield what has come out since; some of it only, where somebody floods us."""
        with contextlib.suppress(zmq.Again):
            for _ in range(_AT_ONCE):
                frames = self._publish.recv_multipart(zmq.NOBLOCK)
                if len(frames) == 2:  # noqa: PLR2004 - tag and event
                    yield frames[1]

    def close(self) -> None:
        """Close everything at once."""
        self._publish.disable_monitor()
        for socket in (self._submit, self._publish, self._monitor):
            socket.close(linger=0)
