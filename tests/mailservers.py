"""A mail server of a test's own: speaks as much SMTP (RFC 5321) as a sender needs, on loopback."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import Final, NamedTuple, Self


class Received(NamedTuple):
    """A mail that came, and its envelope."""

    sender: str
    to: str
    raw: bytes
    """Its lines end as they came."""


class MailServer:
    """It takes every mail, unless it *refuses* each with a line of its own."""

    def __init__(self, refuses: str = "") -> None:
        self.mails: Final[list[Received]] = []
        self._refuses: Final = refuses
        outer = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer._talk(self)

        self._server: Final = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
        self._thread: Final = threading.Thread(target=self._server.serve_forever)

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        # (Waits for those who talk, too.)
        self._server.server_close()

    def _talk(self, session: socketserver.StreamRequestHandler) -> None:
        def say(line: str) -> None:
            session.wfile.write(f"{line}\r\n".encode())

        sender = to = ""
        say("220 mx.example.org")
        while line := session.rfile.readline().decode("ascii").strip():
            words, _, rest = line.partition(":")
            command = words.upper()
            if command.startswith("EHLO"):
                say("250-mx.example.org")
                say("250 8BITMIME")
            elif command == "MAIL FROM":
                sender = rest.partition(">")[0].lstrip("<")
                say("250 ok")
            elif command == "RCPT TO":
                to = rest.strip("<>")
                say(self._refuses or "250 ok")
            elif command == "DATA":
                say("354 go on")
                self.mails.append(Received(sender, to, _body(session)))
                say("250 taken")
            elif command == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


def _body(session: socketserver.StreamRequestHandler) -> bytes:
    lines: list[bytes] = []
    while (line := session.rfile.readline()) not in (b".\r\n", b""):
        lines.append(line.removeprefix(b"."))
    return b"".join(lines)
