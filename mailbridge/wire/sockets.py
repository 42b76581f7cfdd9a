"""
ZeroMQ, and nothing but ZeroMQ: the one place where its sockets are made.

Its defaults would block an exit for ever, take frames of any size, and never notice a dead peer.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket as unix
from typing import Final, NamedTuple

import zmq

from mailbridge.errors import ConfigError, MailbridgeError, NotPermitted, TryAgain
from mailbridge.event import MAX_FRAME_BYTES

Socket = zmq.Socket[bytes]
Context = zmq.Context[zmq.Socket[bytes]]

WINDOW: Final = 128
"""
How many events a source has on the way to a relay without an answer.

More than a batch of mails gives: between two of them a bridge sends what it may, once.
"""

_QUEUE: Final = 2 * WINDOW
"""How many either side holds in memory; TCP makes the others wait."""

LIGHTHOUSE_PORTS: Final = frozenset((5570, 5571, 5572))

_HEARTBEAT_MS: Final = 5_000
_SILENCE_MS: Final = 15_000
_HANDSHAKE_MS: Final = 5_000
_RECONNECT_MS: Final = 100
_RECONNECT_MAX_MS: Final = 5_000

# What a slow subscriber may have waiting in our memory; beyond it PUB drops, as it always may.
_PUBLISH_QUEUE: Final = 10_000
# Answers of up to 1 MiB for a reader who does not fetch them; beyond it they are dropped.  (ZeroMQ
# counts an answer as fetched only when half a queue was: it has to be wider than what may wait.)
_ANSWER_QUEUE: Final = 16

_ENDPOINT: Final = re.compile(
    r"tcp://(?P<host>\[[0-9A-Fa-f:.%A-Za-z]+\]|[A-Za-z0-9._*-]+):(?P<port>[0-9]{1,5})"
    r"|ipc://(?P<path>[^\x00]+)"
    r"|inproc://.+"
)
_MAX_PORT: Final = 65535


def check_endpoint(endpoint: str, where: str, *, bind: bool = False) -> str:
    """
    Return *endpoint* if ZeroMQ can take it, to *bind* or to connect; *where* names the setting.

    Raises `ConfigError`.

    >>> check_endpoint("tcp://127.0.0.1:5581", "relay.submit")
    'tcp://127.0.0.1:5581'
    """
    found = _ENDPOINT.fullmatch(endpoint)
    wrong = ""
    if not found:
        wrong = "no endpoint: expected tcp://HOST:PORT or ipc://PATH"
    elif found["port"] and int(found["port"]) > _MAX_PORT:
        wrong = f"no port is larger than {_MAX_PORT}"
    elif found["port"] and not int(found["port"]) and not bind:
        wrong = "port 0 is for a relay that binds; name the port it got (its ready line tells)"
    elif found["host"] == "*" and not bind:
        wrong = "'*' is for a relay that binds; name a host"
    if wrong:
        raise ConfigError(f"{where}: {endpoint[:200]!r}: {wrong}")
    return endpoint


def make_context() -> Context:
    """Return a context of our own: its sockets may be many, for a test of a thousand readers."""
    context = zmq.Context[zmq.Socket[bytes]]()
    context.set(zmq.MAX_SOCKETS, 4096)
    return context


def submit_server(context: Context) -> Socket:
    """Return a relay's ROUTER for submissions, not bound yet."""
    socket = make_socket(context, zmq.ROUTER)
    socket.setsockopt(zmq.RCVHWM, _QUEUE)
    return socket


def publish_server(context: Context) -> Socket:
    """Return a relay's PUB, not bound yet."""
    socket = make_socket(context, zmq.PUB)
    socket.setsockopt(zmq.SNDHWM, _PUBLISH_QUEUE)
    return socket


def read_server(context: Context) -> Socket:
    """Return a relay's ROUTER for readers, not bound yet."""
    socket = make_socket(context, zmq.ROUTER)
    socket.setsockopt(zmq.RCVHWM, _ANSWER_QUEUE)
    socket.setsockopt(zmq.SNDHWM, _ANSWER_QUEUE)
    return socket


class Curve(NamedTuple):
    """What a source connects with where the relay takes CURVE only: keys in Z85."""

    server: bytes
    """The relay's public key."""
    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Return the public halves: the secret must not get into a log."""
        return f"Curve(server={self.server.decode()}, public={self.public.decode()})"


def submitter(
    context: Context, endpoint: str, where: str = "submit", *, curve: Curve | None = None
) -> Socket:
    """Return a source's DEALER, connected (or soon) to *endpoint*.  Raises `ConfigError`."""
    socket = make_socket(context, zmq.DEALER)
    socket.setsockopt(zmq.SNDHWM, _QUEUE)
    if curve:
        socket.setsockopt(zmq.CURVE_SERVERKEY, curve.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, curve.secret)
    return connected(socket, endpoint, where)


def asker(context: Context, endpoint: str, where: str = "read") -> Socket:
    """Return a reader's DEALER, connected (or soon) to *endpoint*.  Raises `ConfigError`."""
    return connected(make_socket(context, zmq.DEALER), endpoint, where)


def subscriber(context: Context, endpoint: str, *prefixes: bytes, where: str = "publish") -> Socket:
    """
    Return a SUB for the tags with *prefixes* (none: all), connected (or soon) to *endpoint*.

    Raises `ConfigError`.
    """
    socket = make_socket(context, zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, _PUBLISH_QUEUE)
    for prefix in prefixes or (b"",):
        socket.setsockopt(zmq.SUBSCRIBE, prefix)
    return connected(socket, endpoint, where)


def bind(socket: Socket, endpoint: str, where: str) -> str:
    """
    Bind *socket* and return the endpoint it got: port 0 picks one.

    Raises `TryAgain` where it is in use, `NotPermitted`, or `ConfigError`.
    """
    check_endpoint(endpoint, where, bind=True)
    if "[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
    if endpoint.startswith("ipc://") and _answers(endpoint.removeprefix("ipc://")):
        # (libzmq would unlink the socket of whoever listens there, and take its place.)
        raise _in_use(endpoint, where)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise _not_bound(error, endpoint, where) from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def make_socket(context: Context, kind: int) -> Socket:
    """Return a socket that neither lingers nor takes more than it should, bound to nothing yet."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    return socket


def connected(socket: Socket, endpoint: str, where: str) -> Socket:
    """Return *socket*, connected (or soon) to *endpoint*; closed if this raises `ConfigError`."""
    try:
        check_endpoint(endpoint, where)
        if "[" in endpoint:
            socket.setsockopt(zmq.IPV6, 1)
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ConfigError(f"{where}: {endpoint!r}: {error.strerror}") from error
    except ConfigError:
        socket.close()
        raise
    return socket


def _answers(path: str) -> bool:
    with contextlib.closing(unix.socket(unix.AF_UNIX, unix.SOCK_STREAM)) as probe:
        try:
            probe.connect(path)
        except OSError:
            # Nobody there, or a path that `bind` will have more to say about.
            return False
        return True


def _in_use(endpoint: str, where: str) -> TryAgain:
    port = endpoint.rpartition(":")[2]
    if port.isdecimal() and int(port) in LIGHTHOUSE_PORTS:
        return TryAgain(
            f"{where}: {endpoint} is in use; looks like a Lighthouse; use `bridge --lighthouse`"
        )
    return TryAgain(
        f"{where}: {endpoint} is in use by another program;"
        f" stop that, or name another endpoint (port 0 picks a free one)"
    )


def _not_bound(error: zmq.ZMQError, endpoint: str, where: str) -> MailbridgeError:
    if error.errno == zmq.EADDRINUSE:
        return _in_use(endpoint, where)
    told = f"{where}: {endpoint} cannot be bound: {error.strerror}"
    if error.errno == errno.EACCES:
        return NotPermitted(f"{told}; ports below 1024 are root's")
    return ConfigError(f"{told}; name an address of this host")
