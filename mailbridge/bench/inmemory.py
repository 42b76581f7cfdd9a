"""
The loop that a relay is held against: verifies, signs and publishes, and keeps nothing.

Two processes, as a source and a relay are; nothing is numbered, compared, stored or answered for.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import zmq
from nacl.signing import SigningKey, VerifyKey

from mailbridge.bench.figure import seconds
from mailbridge.errors import RelayGone

_PROGRAM: Final = "from mailbridge.bench.inmemory import main; main()"
_PATIENCE_MS: Final = 30_000
AHEAD: Final = 256
"""Events on the way at once: PUB drops what nobody has room for, and ROUTER answers."""


class Loop:
    """The other process, from our side."""

    def __init__(self, submit: zmq.Socket[bytes], heard: zmq.Socket[bytes]) -> None:
        self._submit: Final = submit
        self._heard: Final = heard

    def seconds(self, events: Sequence[bytes]) -> float:
        """Return how long it takes until *events* all came out again."""
        return seconds(lambda: self._pass_on(events))

    def _pass_on(self, events: Sequence[bytes]) -> None:
        sent = heard = 0
        try:
            while heard < len(events):
                while sent < len(events) and sent - heard < AHEAD:
                    self._submit.send(events[sent])
                    sent += 1
                # (Its first words have no tag.)
                heard += self._heard.recv_multipart()[0] != b""
        except zmq.Again as error:
            raise RelayGone("the loop in memory lost an event") from error


@contextmanager
def loop(key: bytes) -> Iterator[Loop]:
    """Give the loop; it takes events that *key*, a public one, has signed."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as to, context.socket(zmq.SUB) as heard:
        heard.setsockopt(zmq.SUBSCRIBE, b"")
        for socket in (to, heard):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, _PATIENCE_MS)
        ports = [s.bind_to_random_port("tcp://127.0.0.1") for s in (to, heard)]
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-c", _PROGRAM, key.hex(), *map(str, ports)],
            stdin=subprocess.DEVNULL,
        )
        try:
            # (It says a word when we hear it; what it publishes before that is lost.)
            heard.recv_multipart()
            yield Loop(to, heard)
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Verify, sign and publish what comes, until somebody ends us."""
    key, submit, publish = sys.argv[1:]
    point = VerifyKey(bytes.fromhex(key))
    own = SigningKey(bytes(range(32)))
    with (
        zmq.Context() as context,
        context.socket(zmq.PULL) as pull,
        context.socket(zmq.PUB) as pub,
    ):
        pull.connect(f"tcp://127.0.0.1:{submit}")
        pub.setsockopt(zmq.SNDHWM, 10 * AHEAD)
        pub.connect(f"tcp://127.0.0.1:{publish}")
        hello = zmq.Poller()
        hello.register(pull, zmq.POLLIN)
        while not hello.poll(20):
            pub.send_multipart([b"", b"here"])
        while True:
            pub.send_multipart(_passed_on(pull.recv(), point, own))


def _passed_on(raw: bytes, point: VerifyKey, own: SigningKey) -> list[bytes]:
    fields: dict[str, Any] = json.loads(raw)
    signatures = fields.pop("signatures")
    signed = _canonical(fields)
    (by_key,) = signatures.values()
    point.verify(signed, _from_base64(by_key["ed25519:0"]))
    ours = own.sign(signed).signature
    fields["signatures"] = {**signatures, "loop": {"ed25519:0": ours.hex()}}
    return [fields["tag"].encode(), _canonical(fields)]


def _canonical(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))
