"""Frames in and out of a relay's sockets, without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import zmq

from mailbridge.wire.sockets import Socket

# Plain integers: pyzmq's enumerations, combined for every frame, cost more than the sending.
_LAST: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)

_FRAMES: Final = 72
"""Frames of one message that are looked at; the rest is dropped unread."""


class Message(NamedTuple):
    """What came through a ROUTER."""

    peer: bytes
    frames: Sequence[bytes]
    user: bytes = b""
    """By which CURVE key it was let in, where it was asked for one."""


def send(socket: Socket, frames: Sequence[bytes]) -> None:
    """Send *frames*; whoever takes none now gets none."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE)
    socket.send(frames[-1], _LAST)


def receive(socket: Socket, *, curve: bool = False) -> Message | None:
    """Return the next message, with its user where *curve* tells one, or None if none has come."""
    try:
        peer = frame = socket.recv(_LAST, copy=False)
    except zmq.Again:
        return None
    frames: list[bytes] = []
    while frame.more:
        frame = socket.recv(copy=False)
        if len(frames) < _FRAMES:
            frames.append(frame.bytes)
    user = str(frame.get("User-Id")).encode() if curve else b""
    return Message(peer.bytes, frames, user)
