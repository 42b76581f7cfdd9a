"""
Canaries: notes of our own that go the way of a mail, so that somebody knows that the way is free.

Each minute one is delivered into the spool, found there by the watch, noted in the outbox, given to
each relay, journaled there and answered.  It is no mail: it has no verdict, and nothing is emitted.

`doctor --send-test` sends one through the mail server.  It lays a file down in `<state>/canaries`
first, whose name the mail carries: that makes it ours, and what becomes of it is told there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from mailbridge import maildir
from mailbridge.bridge.target import Target
from mailbridge.errors import MailbridgeError
from mailbridge.health import Canary
from mailbridge.health.state import CANARY
from mailbridge.outbox import Outbox
from mailbridge.outbox.notes import Notes

log = logging.getLogger("mailbridge.canary")

DIRECTORY: Final = "canaries"
HEADER: Final = "X-Mailbridge-Canary"
MARK: Final = "canary-"
"""What stands before the nonce in the name of a canary's file in the spool."""

FORGOTTEN: Final = 86400.0
"""Seconds after which nobody waits for a test mail any more."""

_HEAD: Final = 64 * 1024
_NONCE: Final = re.compile(rb"(?im)^X-Mailbridge-Canary:[ \t]*([0-9a-f]{32})[ \t]*\r?$")
_NAMED: Final = re.compile(r"\.canary-([0-9a-f]{32})\.")


class Way(msgspec.Struct, kw_only=True):
    """How far a test mail has come.  Unix times."""

    sent: float
    found: float | None = None
    """When we found it in a Maildir."""
    file: str | None = None
    """Where."""
    received: dict[str, float] = {}
    """When each relay had it in its journal."""
    targets: int = 0
    """How many of them it was given to."""

    @property
    def arrived(self) -> bool:
        """Whether it has been the whole way."""
        return self.found is not None and len(self.received) >= self.targets


class Canaries:
    """Those of one bridge.  It lives in the loop's only thread and never waits."""

    def __init__(self, state: Path, spool: Path, outbox: Outbox) -> None:
        self._directory: Final = state / DIRECTORY
        self._spool: Final = spool
        self._outbox: Final = outbox
        self._notes: Final = Notes(outbox.run, "canary")
        self._due = 0.0
        self._sent: Final[dict[str, float]] = {}
        """When (monotonic) each of them left that is on its way."""
        self._found: Final[list[str]] = []
        self._tests: Final[set[str]] = set()
        self.last: Canary | None = None
        """The last one that was found in the spool."""
        self.through: Final[dict[str, Canary]] = {}
        """The last one that came back, by the name of its target."""
        self.asked: Final[set[str]] = set()
        """The names of the targets that should give them back."""

    def send(self, now: float) -> float:
        """Deliver one into the spool if it is time, and return when the next is due."""
        if now < self._due:
            return self._due
        self._due = now + CANARY
        nonce = new_nonce()
        text = f"{HEADER}: {nonce}\n\nThe bridge itself wrote this, to see that mail is found.\n"
        # (What did not come back by now will not, or does not matter any more.)
        self._sent.clear()
        try:
            maildir.store_mail(
                self._spool, io.BytesIO(text.encode()), limit=1024, mark=MARK + nonce
            )
        except MailbridgeError as error:
            # (That it does not come back is what is told.)
            log.info("no canary: %s", error)
        else:
            self._sent[nonce] = now
        self._forget()
        return self._due

    def own(self, base: str) -> bool:
        """Say whether a file of the spool, by its name, is a canary; take note that it came."""
        named = _NAMED.search(base)
        if not named:
            return False
        nonce = named[1]
        # (One of a life before this one has nothing to tell.)
        if (sent := self._sent.get(nonce)) is not None:
            self.last = Canary(back=time.time(), took=max(0.0, time.monotonic() - sent))
            self._found.append(nonce)
        return True

    def is_test(self, raw: bytes, where: Path) -> bool:
        """Say whether *raw*, in the file *where*, is somebody's test mail, and tell him so."""
        head = raw[:_HEAD].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
        named = _NONCE.search(head) if HEADER.encode() in head else None
        if not named:
            return False
        nonce = named[1].decode("ascii")
        way = read_way(self._directory / nonce)
        if way is None:
            # Anybody can write such a header; then it is a mail as all others.
            return False
        if way.found is None:
            way.found = time.time()
            way.file = os.fsencode(where).decode("utf-8", "backslashreplace")
            self._sent[nonce] = time.monotonic()
            self._tests.add(nonce)
            self._found.append(nonce)
            self._write(nonce, way)
            log.info("test mail %s found in %s", nonce, way.file)
        return True

    def pass_on(self, targets: Sequence[Target]) -> None:
        """Give what was found to *targets*, and take note of what came back from them."""
        if self._found:
            # As a mail's verdict: what does not get to the disk goes no further.
            with self._outbox.transaction():
                self._notes.put("last", self._found[-1])
        for nonce in self._found:
            asked = [target.name for target in targets if target.canary(nonce)]
            self.asked.update(asked)
            if nonce in self._tests and (way := read_way(self._directory / nonce)):
                way.targets = len(asked)
                self._write(nonce, way)
        self._found.clear()
        for target in targets:
            for nonce in target.echoed():
                self._back(target.name, nonce)

    def _back(self, name: str, nonce: str) -> None:
        sent = self._sent.get(nonce)
        if sent is None:
            return
        self.through[name] = Canary(back=time.time(), took=max(0.0, time.monotonic() - sent))
        if nonce in self._tests and (way := read_way(self._directory / nonce)):
            way.received[name] = time.time()
            self._write(nonce, way)

    def _write(self, nonce: str, way: Way) -> None:
        try:
            write_way(self._directory / nonce, way)
        except OSError as error:
            log.warning("%s: cannot be told: %s", self._directory / nonce, error.strerror)

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                if path.stat().st_mtime < time.time() - FORGOTTEN:
                    path.unlink()


def new_nonce() -> str:
    """Return a name that nobody guesses."""
    return secrets.token_hex(16)


def read_way(path: Path) -> Way | None:
    """Return what *path* tells of a test mail; None where nobody waits for one there."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_HEAD), type=Way)
    except (OSError, msgspec.DecodeError):
        return None


def write_way(path: Path, way: Way) -> None:
    """Have *path* tell *way*, whole at any time, ours alone.  Raises `OSError`."""
    begun = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(way))
    with contextlib.suppress(FileNotFoundError):
        # (Whoever waits for it may be another user: root.)
        there = path.stat()
        if there.st_uid != os.geteuid():
            os.chown(begun, there.st_uid, there.st_gid)
    begun.rename(path)
