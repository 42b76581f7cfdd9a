"""
A stand-in for Laniakea's Lighthouse, for tests: what its source says it does, and no better.

ROUTER in, XPUB out (on the wire a PUB; it tells us who listens).  Of a submission the first frame
counts.  What is invalid is dropped without a word, and what is no JSON object ends the receiver,
while the publisher lives on.  Keys are read once.  The same event twice is published twice.  The
signatures are checked and made by `signedjson`, as by Laniakea's own copy of it.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import zmq
from signedjson.key import decode_signing_key_base64, decode_verify_key_bytes
from signedjson.sign import SignatureVerifyException, sign_json, verify_signed_json

from mailbridge.keyring import read_public
from mailbridge.signing import SigningKey

ENTITY: Final = "lighthouse.example.org"
ANYWHERE: Final = "tcp://127.0.0.1:*"

GUARD: Final = 30.0
"""Seconds after which a test gives up: no assertion of speed."""

_FIELDS: Final = ("tag", "uuid", "format", "time", "data")


class Lighthouse:
    """One life of a Lighthouse, with the keys that lie in *trusted* now."""

    def __init__(self, trusted: Path, *, submit: str = ANYWHERE, publish: str = ANYWHERE) -> None:
        self._trusted: Final = {
            key.entity: decode_verify_key_bytes("ed25519:0", bytes(key))
            for key in map(read_public, sorted(trusted.iterdir()))
        }
        seed = SigningKey(ENTITY, bytes(range(1, 33))).seed_base64
        self._key: Final = decode_signing_key_base64("ed25519", "0", seed)
        self.lose: Callable[[dict[str, Any]], bool] = lambda _: False
        """What is lost between its receiver and its publisher, as its queue loses."""
        self.submissions: Final[list[list[bytes]]] = []
        """Every submission, with all its frames."""
        self.published: Final[list[dict[str, Any]]] = []
        self._handled: Final[queue.Queue[str]] = queue.Queue()
        self._subscribed: Final[queue.Queue[bytes]] = queue.Queue()
        self.died: Exception | None = None
        """What ended its receiver."""
        self._context: Final = zmq.Context[zmq.Socket[bytes]]()
        self._router: Final = self._context.socket(zmq.ROUTER)
        self._router.bind(submit)
        self._xpub: Final = self._context.socket(zmq.XPUB)
        self._xpub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._xpub.bind(publish)
        self.submit: Final = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.publish: Final = self._xpub.getsockopt_string(zmq.LAST_ENDPOINT)
        self._end: Final = self._context.socket(zmq.PAIR)
        self._end.bind("inproc://end")
        self._ended: Final = self._context.socket(zmq.PAIR)
        self._ended.connect("inproc://end")
        self._thread: Final = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, with all that it has."""
        if self._thread.is_alive():
            self._end.send(b"")
            self._thread.join(GUARD)
        self._context.destroy(linger=0)

    def handled(self) -> str:
        """Wait for the next submission to be handled, and say how: published, lost, dropped."""
        return self._handled.get(timeout=GUARD)

    def subscribed(self, prefix: str) -> None:
        """Wait until somebody listens for *prefix*."""
        while self._subscribed.get(timeout=GUARD) != prefix.encode():
            pass

    def say(self, event: dict[str, Any]) -> None:
        """Submit *event* as another of its clients does."""
        with self._context.socket(zmq.DEALER) as client:
            client.connect(self.submit)
            client.send_string(json.dumps(event))
            self.handled()

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._ended, self._router, self._xpub):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._ended in ready:
                return
            if self._xpub in ready:
                told = self._xpub.recv()
                if told[:1] == b"\x01":
                    self._subscribed.put(told[1:])
            if self._router in ready:
                _, *frames = self._router.recv_multipart()
                self.submissions.append(frames)
                try:
                    self._handled.put(self._receive(frames[0]))
                except (TypeError, AttributeError) as error:
                    # Nobody catches it there, either.
                    self.died = error
                    poller.unregister(self._router)
                    self._handled.put("died")

    def _receive(self, data: bytes) -> str:
        try:
            event = json.loads(str(data, "utf-8", "replace"))
        except json.JSONDecodeError:
            return "dropped"
        if not all(field in event for field in _FIELDS) or len(event.get("signatures")) < 1:
            return "dropped"
        for signer in event["signatures"]:
            if signer not in self._trusted:
                continue
            try:
                verify_signed_json(event, signer, self._trusted[signer])
            except SignatureVerifyException:
                return "dropped"
            return self._publish(event)
        return "dropped"

    def _publish(self, event: dict[str, Any]) -> str:
        if self.lose(event):
            return "lost"
        event = sign_json(event, ENTITY, self._key)
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        self.published.append(event)
        self._xpub.send_multipart([event["tag"].encode(), text.encode()])
        return "published"
