"""A test mail through the real mail server, and how far it comes."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge import config as configuration
from mailbridge.bridge.canary import DIRECTORY, HEADER, Way, new_nonce, read_way, write_way
from mailbridge.errors import BadInput, NeedsOperator, StorageFailed, TryAgain

TIMEOUT: Final = 60.0
_LOOK: Final = 0.1

_SMTP: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
_ADDRESS: Final = re.compile(r"[!#-'*+/-9=?A-Z^-~.-]+@[A-Za-z0-9.-]+|[A-Za-z0-9._+-]+")


class Came(NamedTuple):
    """What became of a test mail.  Seconds since it was given to the mail server."""

    found: float | None
    """Until the bridge found it; None: it did not in time."""
    file: str | None
    received: dict[str, float]
    """Until each relay had it."""
    missing: int
    """How many relays had it not."""

    @property
    def arrived(self) -> bool:
        """Whether it came all the way."""
        return self.found is not None and not self.missing


def send_test(state: Path, address: str, *, via: str | None, timeout: float = TIMEOUT) -> Came:
    """
    Send a mail to *address* and return how far it came within *timeout* seconds.

    It goes by *via*: `HOST:PORT` or a sendmail program; else by what this host has.  The bridge on
    *state* knows it by a nonce: it has no verdict and becomes no event.  Its file is removed again.
    Raises `BadInput` for what is no address, `TryAgain` where no mail server takes it.
    """
    if not _ADDRESS.fullmatch(address):
        raise BadInput(f"{address[:80]!r}: no address to send a mail to")
    nonce = new_nonce()
    with _awaited(state, nonce) as path:
        sent = time.time()
        _send(address, _text(address, nonce), via)
        until = time.monotonic() + timeout
        way = Way(sent=sent)
        while not way.arrived and time.monotonic() < until:
            time.sleep(_LOOK)
            way = read_way(path) or way
        if way.file:
            _remove(Path(way.file), nonce)
    return Came(
        found=None if way.found is None else max(0.0, way.found - sent),
        file=way.file,
        received={name: max(0.0, at - sent) for name, at in way.received.items()},
        missing=way.targets - len(way.received),
    )


@contextmanager
def _awaited(state: Path, nonce: str) -> Iterator[Path]:
    """Lay the file down by which the bridge knows the mail, until the block ends."""
    directory = state / DIRECTORY
    path = directory / nonce
    try:
        owner = state.stat()
        directory.mkdir(mode=0o700, exist_ok=True)
        write_way(path, Way(sent=time.time()))
        if os.geteuid() == 0:
            for made in (directory, path):
                os.chown(made, owner.st_uid, owner.st_gid)
    except FileNotFoundError as error:
        raise NeedsOperator(f"{state}: nothing has run here yet; --state names another") from error
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}; run it as the bridge's user") from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _text(address: str, nonce: str) -> bytes:
    host = configuration.qualified_name() or os.uname().nodename
    return (
        f"{HEADER}: {nonce}\n"
        f"From: {getpass.getuser()}@{host}\n"
        f"To: {address}\n"
        f"Subject: mailbridge test {nonce}\n"
        f"Date: {formatdate(localtime=True)}\n"
        f"Message-ID: <{nonce}@{host}>\n"
        "Auto-Submitted: auto-generated\n"
        "\n"
        "Sent by 'mailbridge doctor --send-test', to see that mail arrives.  You may delete it.\n"
    ).encode("ascii", "replace")


def _send(address: str, text: bytes, via: str | None) -> None:
    smtp = _SMTP.fullmatch(via or "")
    program = None if smtp else via or shutil.which("sendmail", path=_PATH)
    if program:
        _pipe(program, address, text)
        return
    host, port = (smtp[1].strip("[]"), int(smtp[2])) if smtp else ("localhost", 25)
    try:
        with smtplib.SMTP(host, port, timeout=30) as server:
            server.sendmail(f"{getpass.getuser()}@{os.uname().nodename}", [address], text)
    except (OSError, smtplib.SMTPException) as error:
        raise TryAgain(f"{host}:{port} does not take the test mail: {error}") from error


_PATH: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib"))


def _pipe(program: str, address: str, text: bytes) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own mail server
            [program, "-i", "--", address], input=text, capture_output=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TryAgain(f"{program} does not take the test mail: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise TryAgain(
            f"{program} does not take the test mail (status {done.returncode}):"
            f" {said[-1] if said else 'it says nothing'}"
        )


def _remove(file: Path, nonce: str) -> None:
    """Remove the mail, and nothing but it: the bridge leaves a kept Maildir as it is."""
    # (Somebody may have moved it to cur/ meanwhile; then it stays there.)
    with contextlib.suppress(OSError):
        if nonce.encode() in file.read_bytes()[: 64 * 1024]:
            file.unlink()
