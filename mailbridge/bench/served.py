"""A relay in a process of its own, as it serves: what it does must not wait for who measures it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge import keyring
from mailbridge.errors import TryAgain
from mailbridge.signing import VerifyKey

ANYWHERE: Final = "tcp://127.0.0.1:0"

_READY: Final = re.compile(r"ready submit=(\S+) publish=(\S+) read=(\S+) key=(\S+)")
_START: Final = 30.0
_STOP: Final = 20.0


class Served(NamedTuple):
    """Where the relay listens, and its process."""

    submit: str
    publish: str
    read: str
    pid: int


@contextmanager
def served(state: Path, key: VerifyKey) -> Iterator[Served]:
    """Give a relay on *state* that takes whatever *key* signs.  Raises `TryAgain`."""
    keyring.write_public(keyring.state_dirs(state)[1] / f"{key.entity}{keyring.PUBLIC}", key)
    keyring.allow(state / "policy.toml", key.entity, ["*"])
    config = state / "bench.toml"
    config.touch()
    words = ["-c", str(config), "relay", "--state", str(state)]
    words += [word for to in ("submit", "publish", "read") for word in (f"--{to}", ANYWHERE)]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "mailbridge", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: deque[str] = deque(maxlen=20)
    found: list[str] = []
    ready = threading.Event()

    def listen() -> None:
        # (Its pipe is read to the end, or it would block on its own log one day.)
        for line in process.stderr or ():
            said.append(line.strip())
            if match := _READY.match(line):
                found.extend(match.groups())
                ready.set()
        ready.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        if not ready.wait(_START) or not found:
            raise TryAgain(f"the relay did not start: {said[-1] if said else 'it said nothing'}")
        yield Served(found[0], found[1], found[2], process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listener.join()
        if process.stderr:
            process.stderr.close()
