"""Stored events once more, on a publish socket of their own, for subscribers that know only PUB."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, NamedTuple, Self

import zmq

from mailbridge.event import LANIAKEA_ARCHIVE, SignedEvent
from mailbridge.service import StopSignal
from mailbridge.wire.sockets import bind, make_context, make_socket

LINGER: Final = 2_000
"""Milliseconds that the last events have to reach their subscribers."""


class Replayed(NamedTuple):
    """What a replay has done."""

    published: int
    left_out: int
    """Events under Laniakea's own tags of the archive."""


class Replay:
    """
    A publish socket that waits for its subscribers, and drops nothing that one of them is slow for.

    The bytes are the stored ones, so that every signature verifies; frame 0 is the tag.  Events
    under `_lk.archive.*` are left out: a mailgun that hears one sends mail to people (wire.md).
    """

    def __init__(self, endpoint: str) -> None:
        """Bind *endpoint*.  Raises `TryAgain` (in use), `NotPermitted` or `ConfigError`."""
        self._context: Final = make_context()
        # XPUB tells who subscribes, and can be told to wait instead of dropping.
        self._socket: Final = make_socket(self._context, zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            self.endpoint: Final = bind(self._socket, endpoint, "--publish")
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close(linger=LINGER if kind is None else 0)
        self._context.term()

    def wait_for_subscriber(self, stop: StopSignal) -> bool:
        """Return True when somebody has subscribed, False if it is time to *stop* before."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(stop.fileno(), zmq.POLLIN)
        while True:
            # (A signal between two instructions wakes nobody who waits in libzmq without end.)
            ready = dict(poller.poll(_PATIENCE_MS))
            if stop.fileno() in ready:
                return False
            if self._socket in ready and self._socket.recv()[:1] == b"\x01":
                return True

    def publish(
        self, events: Iterable[SignedEvent], stop: StopSignal, *, speed: float, step: bool
    ) -> Replayed:
        """
        Publish *events* until there are no more or it is time to *stop*.

        *speed* 1 is their original pace, 10 ten times that, 0 without a pause.  With *step* each
        waits for a line on standard input.
        """
        published = left_out = 0
        before: datetime | None = None
        for event in events:
            if event.tag.startswith(f"{LANIAKEA_ARCHIVE}."):
                left_out += 1
                continue
            time = _time(event)
            if step:
                ended = not _line(stop)
            elif speed and before and time:
                ended = stop.wait(max(0.0, (time - before).total_seconds() / speed))
            else:
                ended = stop.wait(0)
            if ended or not self._send(event, stop):
                break
            before = time or before
            published += 1
        return Replayed(published, left_out)

    def _send(self, event: SignedEvent, stop: StopSignal) -> bool:
        """Send *event* as soon as every subscriber takes it; False if it is time to *stop*."""
        while True:
            try:
                self._socket.send_multipart([event.tag.encode(), event.raw], zmq.NOBLOCK)
            except zmq.Again:
                if stop.wait(_SLOW):
                    return False
            else:
                return True


_PATIENCE_MS: Final = 500

_SLOW: Final = 0.05
"""Seconds until a subscriber whose queue is full is tried again."""


def _time(event: SignedEvent) -> datetime | None:
    try:
        time = datetime.fromisoformat(event.time)
    except ValueError:
        return None
    # (Laniakea's own clients write local time without an offset.)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _line(stop: StopSignal) -> bool:
    """Wait for a line on standard input; False at its end, or if it is time to *stop*."""
    ready = select.select([sys.stdin, stop.fileno()], [], [])[0]
    return stop.fileno() not in ready and bool(sys.stdin.readline())
