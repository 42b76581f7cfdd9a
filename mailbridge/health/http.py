"""
A port that answers three questions: `/metrics`, `/live`, `/ready`.  HTTP/1.0, GET and HEAD.

One thread and no database: what it says it reads from values that the loops left.  Whoever connects
and says nothing, or does not listen, is dropped; there are never more than a few of them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import selectors
import socket
import threading
import time
from typing import Final, NamedTuple

from mailbridge.errors import ConfigError, NotPermitted, TryAgain
from mailbridge.health import prometheus
from mailbridge.health.state import Health

log = logging.getLogger("mailbridge.health")

PATIENCE: Final = 5.0
"""Seconds that one who asks may take for all of it."""

MOST: Final = 32
"""Who ask at once; the next one takes the place of the first."""

MAX_REQUEST: Final = 8 * 1024

_REQUEST: Final = re.compile(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.[0-9]\r?\n")
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>\d+)"
)
_MAX_PORT: Final = 65535
_PLAIN: Final = "text/plain; charset=utf-8"


class _Guest:
    """Somebody who asks."""

    def __init__(self, until: float) -> None:
        self.until: Final = until
        self.heard = b""
        self.answer = b""


class _Answer(NamedTuple):
    status: str
    content: str
    text: str


class Server:
    """Answers about *health* on `HOST:PORT`, from `start` to `close`; port 0 picks one."""

    def __init__(self, health: Health, address: str, where: str = "health.listen") -> None:
        """Listen.  Raises `ConfigError`, `TryAgain` where it is in use, or `NotPermitted`."""
        self._health: Final = health
        host, port = parse(address, where)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener: Final = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port))
            self._listener.listen(MOST)
        except OSError as error:
            self._listener.close()
            raise _not_bound(error, address, where) from error
        self._listener.settimeout(0)
        self.port: Final[int] = self._listener.getsockname()[1]
        self.address: Final = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._selector: Final = selectors.DefaultSelector()
        self._stop, self._stopper = socket.socketpair()
        self._guests: Final[dict[socket.socket, _Guest]] = {}
        self._thread: Final = threading.Thread(target=self._serve, name="health", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stop, selectors.EVENT_READ)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more.  Calling it without `start` is fine."""
        if self._thread.is_alive():
            self._stopper.send(b"!")
            self._thread.join()
        for guest in list(self._guests):
            self._drop(guest)
        self._selector.close()
        for one in (self._listener, self._stop, self._stopper):
            one.close()

    # -- the thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            ready = self._selector.select(1.0 if self._guests else None)
            for key, mask in ready:
                one = key.fileobj
                if one is self._stop:
                    return
                if one is self._listener:
                    self._welcome()
                elif isinstance(one, socket.socket) and one in self._guests:
                    try:
                        self._attend(one, self._guests[one], mask)
                    except OSError:
                        self._drop(one)
            now = time.monotonic()
            for one in [one for one, guest in self._guests.items() if now > guest.until]:
                self._drop(one)

    def _welcome(self) -> None:
        try:
            one, _ = self._listener.accept()
        except OSError:
            # Gone again; or no descriptors are left, which is for others to say.
            return
        if len(self._guests) == MOST:
            self._drop(next(iter(self._guests)))
        one.settimeout(0)
        self._guests[one] = _Guest(time.monotonic() + PATIENCE)
        self._selector.register(one, selectors.EVENT_READ)

    def _attend(self, one: socket.socket, guest: _Guest, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            guest.answer = guest.answer[one.send(guest.answer) :]
            if not guest.answer:
                self._drop(one)
            return
        said = one.recv(MAX_REQUEST)
        guest.heard += said
        if not said or len(guest.heard) > MAX_REQUEST:
            self._drop(one)
        elif b"\r\n\r\n" in guest.heard or b"\n\n" in guest.heard:
            guest.answer = self._answer(guest.heard)
            self._selector.modify(one, selectors.EVENT_WRITE)

    def _drop(self, one: socket.socket) -> None:
        del self._guests[one]
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(one)
        one.close()

    # -- answers -----------------------------------------------------------------------------------

    def _answer(self, heard: bytes) -> bytes:
        asked = _REQUEST.match(heard)
        if asked is None:
            told = _Answer("400 Bad Request", _PLAIN, "GET /metrics, /live or /ready\n")
        else:
            told = self._told(asked[2].decode("ascii").partition("?")[0])
        body = told.text.encode("utf-8", "backslashreplace")
        head = (
            f"HTTP/1.0 {told.status}\r\nContent-Type: {told.content}\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (body if asked is None or asked[1] == b"GET" else b"")

    def _told(self, path: str) -> _Answer:
        if path == "/metrics":
            return _Answer("200 OK", prometheus.CONTENT, prometheus.text(self._health))
        if path in ("/live", "/ready"):
            wrong = self._health.dead() if path == "/live" else self._health.unready()
            status = "503 Service Unavailable" if wrong else "200 OK"
            return _Answer(status, _PLAIN, "".join(f"{why}\n" for why in wrong or [path[1:]]))
        return _Answer("404 Not Found", _PLAIN, "there is /metrics, /live and /ready\n")


def parse(address: str, where: str) -> tuple[str, int]:
    """
    Return host and port of *address*; *where* names the setting.  Raises `ConfigError`.

    >>> parse("127.0.0.1:9464", "health.listen")
    ('127.0.0.1', 9464)
    """
    found = _ADDRESS.fullmatch(address)
    if not found or int(found["port"]) > _MAX_PORT:
        raise ConfigError(f"{where}: {address[:80]!r}: HOST:PORT expected, as '127.0.0.1:9464'")
    return found["six"] or found["host"], int(found["port"])


def _not_bound(error: OSError, address: str, where: str) -> TryAgain | NotPermitted | ConfigError:
    if isinstance(error, PermissionError):
        return NotPermitted(f"{where}: {address}: {error.strerror}")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{where}: {address}: is no address of this host")
    return TryAgain(f"{where}: {address} is in use; name another port, or 0 for any")
