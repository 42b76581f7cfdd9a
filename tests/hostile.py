"""A relay that says whatever a test wants it to say, on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec
import zmq

from mailbridge.event import SignedEvent
from mailbridge.signing import SigningKey, sign_note
from mailbridge.wire import sockets

Request = dict[str, Any]
Answers = Callable[[Request], Sequence[bytes] | None]
"""Frames to answer a request with; None: silence."""


class HostileRelay:
    """Answers each request as *answers* says, until the context ends."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._context = sockets.make_context()
        self._socket = sockets.read_server(self._context)
        self._stop = self._context.socket(zmq.PAIR)
        self._stop.bind(f"inproc://stop-{id(self)}")
        self.url = sockets.bind(self._socket, "tcp://127.0.0.1:0", "test")
        self.asked: list[Request] = []
        self.proofs: list[list[bytes]] = []
        """What came along with each."""
        self.peer = b""
        """Who asked last."""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        stop = self._context.socket(zmq.PAIR)
        stop.connect(f"inproc://stop-{id(self)}")
        stop.send(b"")
        self._thread.join()
        self._context.destroy(linger=0)

    def answer_with(self, answers: Answers) -> None:
        """Answer what is asked from now on as *answers* says."""
        self._answers = answers

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        while self._stop not in dict(poller.poll()):
            self.peer, question, *proofs = self._socket.recv_multipart()
            self.proofs.append(proofs)
            request = msgspec.json.decode(question)
            self.asked.append(request)
            frames = self._answers(request)
            if frames is not None:
                self._socket.send_multipart([self.peer, *frames])


def header(request: Request, **fields: Any) -> bytes:
    """Return a header that answers *request*."""
    return msgspec.json.encode({"id": request["id"], **fields})


class Gives:
    """
    Answers as a relay whose journal shows *shown*, and whose feeds hold *links* (else the same).

    A read that finds nothing is left waiting.
    """

    def __init__(
        self,
        shown: Sequence[SignedEvent],
        *,
        links: Sequence[SignedEvent] | None = None,
        key: SigningKey | None = None,
        sources: Sequence[SigningKey] = (),
    ) -> None:
        self.shown = shown
        self.links = shown if links is None else links
        self.key = key or SigningKey("relay.example.org", bytes(32))
        self.sources = sources
        self.journal = "0123abcd"

    def __call__(self, request: Request) -> Sequence[bytes] | None:
        return getattr(self, request["op"])(request)  # type: ignore[no-any-return]

    def read(self, request: Request) -> Sequence[bytes] | None:
        after = 0
        if request["after"]:
            journal, _, number = request["after"].partition("-")
            if journal != self.journal:
                return [header(request, error="wrong-journal", reason="not mine")]
            after = int(number)
        given = self.shown[after : after + request["limit"]]
        if not given and request["wait"]:
            return None
        cursors = [f"{self.journal}-{after + n}" for n in range(1, len(given) + 1)]
        head = f"{self.journal}-{len(self.shown)}"
        return [
            header(request, cursors=cursors, head=head, more=False),
            *(event.raw for event in given),
        ]

    def feed(self, request: Request) -> Sequence[bytes]:
        wanted = [
            event
            for event in self.links
            if event.feed and event.feed.id == request["feed"] and event.feed.seq > request["after"]
        ]
        shown = [event for event in wanted if event in self.shown]
        found = {event.hash: self.twin(event) for event in wanted}
        twins = {hashed: twin for hashed, twin in found.items() if twin is not None}
        told = {
            "more": False,
            "shown": [event.feed.seq for event in shown if event.feed],
            "twins": [event.feed.seq for event in wanted if event.feed and event.hash in twins],
        }
        return [header(request, **told), *(event.raw for event in wanted), *twins.values()]

    def twin(self, event: SignedEvent) -> bytes | None:
        """Return what is shown in the place of *event*, if that is not."""
        same = (one.raw for one in self.shown if (one.uuid, one.tag) == (event.uuid, event.tag))
        return None if event in self.shown else next(same, None)

    def keys(self, request: Request) -> Sequence[bytes]:
        told = {
            "id": request["id"],
            "relay": {self.key.entity: self.key.verify_key.base64},
            "sources": {key.entity: key.verify_key.base64 for key in self.sources},
        }
        return [sign_note(told, self.key)]
