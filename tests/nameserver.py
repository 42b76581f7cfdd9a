"""A name server on loopback, for one zone of TXT records, with every way to answer badly."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset

Answer = Callable[[dns.message.Message], bytes | None]
"""What it sends for a question; None: nothing at all."""


class NameServer:
    """What it was asked, and what it answers by name; what it does not know is NXDOMAIN."""

    def __init__(self, port: int) -> None:
        self.port: Final = port
        self.asked: Final[Counter[str]] = Counter()
        self.zone: Final[dict[str, Answer]] = {}
        self.is_silent = False

    def resolver(self) -> dns.resolver.Resolver:
        """Return a resolver that asks this server alone."""
        made = dns.resolver.Resolver(configure=False)
        made.nameservers = ["127.0.0.1"]
        made.port = self.port
        return made

    def answer(self, raw: bytes) -> bytes | None:
        question = dns.message.from_wire(raw)
        name = question.question[0].name.to_text().lower()
        self.asked[name] += 1
        if self.is_silent:
            return None
        return self.zone.get(name, failed(dns.rcode.NXDOMAIN))(question)


def records(*texts: bytes, ttl: int = 300, alias: str | None = None) -> Answer:
    """Answer with a TXT record for each of *texts*; with *alias* by way of a CNAME."""

    def answer(question: dns.message.Message) -> bytes:
        told = dns.message.make_response(question)
        name = question.question[0].name.to_text()
        if alias:
            told.answer.append(dns.rrset.from_text(name, ttl, "IN", "CNAME", alias))
        if texts:
            pieces = [
                " ".join(f'"{text[n : n + 200].decode()}"' for n in range(0, len(text), 200))
                for text in texts
            ]
            told.answer.append(dns.rrset.from_text(alias or name, ttl, "IN", "TXT", *pieces))
        return told.to_wire(max_size=65_535)

    return answer


def failed(rcode: dns.rcode.Rcode) -> Answer:
    """Answer with *rcode* and nothing else."""

    def answer(question: dns.message.Message) -> bytes:
        told = dns.message.make_response(question)
        told.set_rcode(rcode)
        return told.to_wire()

    return answer


def truncated(question: dns.message.Message) -> bytes:
    """Say that the answer is too long for UDP.  (Nobody listens for TCP.)"""
    told = dns.message.make_response(question)
    told.flags |= dns.flags.TC
    return told.to_wire()


def garbage(question: dns.message.Message) -> bytes:
    """Answer with the question's id, and rubbish."""
    return question.id.to_bytes(2) + b"\xff" * 40


@contextmanager
def name_server() -> Iterator[NameServer]:
    """Give a name server that runs until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        server = NameServer(sock.getsockname()[1])

        def serve() -> None:
            while True:
                raw, whence = sock.recvfrom(65_535)
                if not raw:
                    return
                if (told := server.answer(raw)) is not None:
                    sock.sendto(told, whence)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", sock.getsockname())
            thread.join()
