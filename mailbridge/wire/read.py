"""
The client side of the read protocol (wire.md, Read): one question, one answer, nothing waited for
without end.

What a relay says is a stranger's word: frames are bounded, answers carry the number of their
question, and nothing here believes an event.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import socket as unix
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

import zmq

from mailbridge.errors import BadInput, MalformedEvent, RelayGone, TryAgain
from mailbridge.event import canonical, parse_json
from mailbridge.wire.sockets import Context, Socket, asker, check_endpoint, make_context

GRACE: Final = 5.0
"""Seconds beyond its `wait` after which a question counts as lost (wire.md)."""

MAX_ANSWER: Final = 6 * 1024 * 1024
"""Bytes of a whole answer; a relay of ours stops at 4 MiB of events."""
MAX_FRAMES: Final = 2_001

# A plain integer: pyzmq's enumerations cost more than a frame does.
_NOBLOCK: Final = int(zmq.NOBLOCK)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two connections to a relay that takes them and hangs up."""


class Silence(TryAgain):
    """Raised when no answer came in time, or the connection broke: asking again may help."""


class Refused(RelayGone):
    """Raised when a relay answers that it will not serve this question; `code` says why."""

    def __init__(
        self, code: str, reason: str, header: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        super().__init__(reason or code)
        self.code: Final = code
        self.header: Final = header
        """All that it said, unchecked."""


class Stopped(Exception):
    """Raised when `stop` was called while an answer was waited for."""


class Answer(NamedTuple):
    """What came back: a JSON header, and events as their stored bytes."""

    header: Mapping[str, Any]
    frames: list[bytes]


class Asks(Protocol):
    """Something that answers the questions of the read protocol: a relay, or a journal's file."""

    def ask(
        self,
        op: str,
        fields: Mapping[str, object],
        *,
        wait: float = 0.0,
        grace: float = GRACE,
        proofs: Sequence[bytes] = (),
    ) -> Answer:
        """
        Return the answer to *op* with *fields*, which may come only after *wait* seconds.

        *proofs* are the signed events behind what *fields* says we have.
        """

    def expect(self, op: str, fields: Mapping[str, object]) -> None:
        """
        Have the answer to *op* with *fields* come while we do other things.

        The next `ask` of *op* that has the same `after`, and waits for nothing, gets it.
        """

    def pause(self, seconds: float) -> None:
        """Do nothing for *seconds*.  Raises `Stopped`."""

    def stop(self) -> None:
        """Make a waiting `ask` raise `Stopped`, and every later one.  Any thread may call it."""

    def close(self) -> None:
        """Give everything back."""


class _Ahead:
    """A question that was asked before somebody wants to know, and its answer once it is here."""

    def __init__(self, op: str, after: object, number: str) -> None:
        self.op: Final = op
        self.number: Final = number
        self.answer: Answer | None = None
        self._after: Final = after

    def is_for(self, op: str, fields: Mapping[str, object]) -> bool:
        """Say whether it is what *op* with *fields* asks."""
        return (self.op, self._after) == (op, fields.get("after"))


class Asker:
    """Asks the relay whose read socket is *endpoint*.  Raises `ConfigError` for no endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint: Final = check_endpoint(endpoint, "URL")
        self._context: Final = make_context()
        self._socket: Socket | None = None
        self._monitor: Socket | None = None
        self._stopped = False
        self._wake, self._waker = unix.socketpair()
        self._failures = 0
        self._ahead: _Ahead | None = None
        """What was asked before somebody wants to know."""
        # (Random: a relay that is asked by many cannot mix us up with who was here before.)
        self._name: Final = secrets.token_hex(4)
        self._numbers: Final = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(
        self,
        op: str,
        fields: Mapping[str, object],
        *,
        wait: float = 0.0,
        grace: float = GRACE,
        proofs: Sequence[bytes] = (),
    ) -> Answer:
        """
        Return the answer to *op* with *fields*, which may come only after *wait* seconds.

        *proofs* are the signed events behind what *fields* says we have.

        Raises `Silence` *grace* seconds later, `Refused`, `Stopped`, or `BadInput` for an answer
        that is none.  After a `Silence` the next question goes out on a fresh connection.
        """
        if self._stopped:
            raise Stopped
        socket = self._connected()
        ahead = self._ahead
        if ahead and ahead.op == op:
            self._ahead = None
        try:
            if ahead and ahead.is_for(op, fields) and not (wait or proofs):
                number = ahead.number
                answer = ahead.answer
            else:
                number, answer = self._number(), None
                question = canonical({"id": number, "op": op, "wait": wait, **fields})
                socket.send_multipart([question, *proofs], zmq.NOBLOCK)
            answer = answer or self._answer(socket, number, time.monotonic() + wait + grace)
        except zmq.Again as error:
            self._hang_up()
            raise Silence(f"{self._endpoint} takes no question") from error
        except (Silence, BadInput):
            self._failures += 1
            self._hang_up()
            raise
        self._failures = 0
        return _granted(answer, self._endpoint)

    def expect(self, op: str, fields: Mapping[str, object]) -> None:
        """Ask *op* with *fields* now, for an `ask` of the same that comes later."""
        if self._socket is None or self._ahead or self._stopped:
            return
        number = self._number()
        # (If it cannot be sent now, `ask` does.)
        with contextlib.suppress(zmq.Again):
            self._socket.send(canonical({"id": number, "op": op, "wait": 0, **fields}), zmq.NOBLOCK)
            self._ahead = _Ahead(op, fields.get("after"), number)

    def pause(self, seconds: float) -> None:
        """Do nothing for *seconds*.  Raises `Stopped`."""
        poller = zmq.Poller()
        poller.register(self._wake.fileno(), zmq.POLLIN)
        if poller.poll(int(seconds * 1000)):
            raise Stopped

    def stop(self) -> None:
        """Make a waiting `ask` raise `Stopped`, and every later one.  Any thread may call it."""
        self._stopped = True
        self._waker.send(b"!")

    def close(self) -> None:
        """Give sockets and context back.  Nothing is waited for."""
        self._hang_up()
        self._context.destroy(linger=0)
        self._wake.close()
        self._waker.close()

    def _connected(self) -> Socket:
        if self._socket is None:
            if self._failures > 1:
                pause = _FIRST_PAUSE * 2 ** min(self._failures - 2, 10)
                self.pause(min(pause, _LONGEST_PAUSE))
            self._socket = asker(self._context, self._endpoint, "URL")
            # A relay that went away has forgotten the question: it is to be asked again at once,
            # not when the time for its answer is over.
            self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        return self._socket

    def _number(self) -> str:
        return f"{self._name}-{next(self._numbers)}"

    def _hang_up(self) -> None:
        self._ahead = None
        if self._socket is not None:
            self._socket.disable_monitor()
            self._socket.close()
        if self._monitor is not None:
            self._monitor.close()
        self._socket = self._monitor = None

    def _answer(self, socket: Socket, number: str, deadline: float) -> Answer:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake.fileno(), zmq.POLLIN)
        if self._monitor is not None:
            poller.register(self._monitor, zmq.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(int(left * 1000) + 1))
            if self._wake.fileno() in ready:
                raise Stopped
            if socket in ready:
                answer = _received(socket, self._endpoint)
                # (Another number: the late answer to a question that was given up.)
                if answer.header.get("id") == number:
                    return answer
                if self._ahead and answer.header.get("id") == self._ahead.number:
                    self._ahead.answer = answer
            elif self._monitor in ready:
                raise Silence(f"{self._endpoint} hung up")
        raise Silence(f"{self._endpoint} does not answer")


class Inquiry:
    """Asks the relay whose read socket is *endpoint* one question at a time, and never waits."""

    def __init__(self, context: Context, endpoint: str, where: str) -> None:
        """Connect, now or as soon as somebody is there.  Raises `ConfigError`; *where*: of what."""
        self._context: Final = context
        self._endpoint: Final = endpoint
        self._where: Final = where
        self._numbers: Final = itertools.count(1)
        self._name: Final = secrets.token_hex(4)
        self._number = ""
        self.socket = asker(context, endpoint, where)
        """What becomes readable when an answer comes; another one after `renew`."""

    def ask(self, op: str, fields: Mapping[str, object]) -> bool:
        """Ask *op* with *fields*.  False if the question cannot even be sent."""
        self._number = f"{self._name}-{next(self._numbers)}"
        try:
            self.socket.send(canonical({"id": self._number, "op": op, **fields}), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def answer(self) -> Answer | None:
        """
        Return the answer to what was asked last, or None while there is none.

        Raises `Refused`, or `BadInput` for an answer that is none.
        """
        while True:
            try:
                answer = _received(self.socket, self._endpoint)
            except zmq.Again:
                return None
            # (Another number: the late answer to a question that was given up.)
            if answer.header.get("id") == self._number:
                return _granted(answer, self._endpoint)

    def renew(self) -> None:
        """Connect anew: what was asked and not answered is forgotten."""
        self.close()
        self.socket = asker(self._context, self._endpoint, self._where)

    def close(self) -> None:
        """Close the socket at once."""
        self.socket.close(linger=0)


def _received(socket: Socket, endpoint: str) -> Answer:
    # (As frames: to ask the socket whether there are more costs as much as to receive them.)
    frame = socket.recv(_NOBLOCK, copy=False)
    frames = [frame.bytes]
    total = len(frames[0])
    while frame.more:
        frame = socket.recv(_NOBLOCK, copy=False)
        frames.append(frame.bytes)
        total += len(frames[-1])
        if total > MAX_ANSWER or len(frames) > MAX_FRAMES:
            raise BadInput(f"{endpoint}: an answer without bounds; is that a relay?")
    try:
        header = parse_json(frames[0])
    except MalformedEvent as error:
        raise BadInput(f"{endpoint}: an answer without a header: {error}") from error
    if "sizes" in header:
        return Answer(header, _unpacked(frames[1:], header["sizes"], endpoint))
    return Answer(header, frames[1:])


def _unpacked(frames: Sequence[bytes], sizes: object, endpoint: str) -> list[bytes]:
    """Return the events that lie in the one of *frames*, each of one of *sizes*."""
    if (
        not isinstance(sizes, list)
        or len(sizes) >= MAX_FRAMES
        or not all(type(size) is int and size >= 0 for size in sizes)
        or [sum(sizes)] != [len(frame) for frame in frames]
    ):
        raise BadInput(f"{endpoint}: an answer whose sizes are not those of its events")
    found, at = [], 0
    for size in sizes:
        found.append(frames[0][at : at + size])
        at += size
    return found


def _granted(answer: Answer, endpoint: str) -> Answer:
    code = answer.header.get("error")
    if code is None:
        return answer
    reason = answer.header.get("reason")
    told = str(reason)[:500] if reason else str(code)[:50]
    raise Refused(str(code)[:50], f"{endpoint} refuses: {told}", answer.header)
