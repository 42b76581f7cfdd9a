"""A stage: a whole gateway in a throw-away directory, as a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from mailbridge.errors import TryAgain

ENTITY: Final = "mailbridge.demo"

_ANYWHERE: Final = "tcp://127.0.0.1:0"
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_READY: Final = re.compile(r"ready submit=(\S+) publish=(\S+) read=(\S+) key=(\S+)")


class Stage:
    """
    `mailbridge run --accept-test` on an empty Maildir of its own, with free ports.

    Entering it waits until the gateway is ready, or raises `TryAgain` with what it said.  Leaving
    it stops the gateway and removes the directory.
    """

    def __init__(self, *, parent: Path | None = None) -> None:
        """Its directory is made in *parent*, or where temporary files go."""
        self._parent: Final = parent
        self.on_end: Callable[[], None] = lambda: None
        """Called, in a thread, when the gateway ends before it is told to."""
        self._stack: Final = ExitStack()
        self._ready: Final = threading.Event()
        self._ending = False
        self._said: Final[deque[str]] = deque(maxlen=50)
        self.submit = self.publish = self.read = ""
        """Where the relay listens."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="mailbridge-stage-", dir=self._parent)
                )
            )
            self.maildir = self.directory / "Maildir"
            self.state = self.directory / "state"
            for folder in ("tmp", "new", "cur"):
                (self.maildir / folder).mkdir(parents=True)
            stack.callback(self._stop, self._started())
            if not self._ready.wait(_START_SECONDS) or not self.read:
                raise TryAgain(f"the gateway did not start: {self.last_words}")
            self._stack.push(stack.pop_all())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def keys(self) -> Path:
        """The directory with the public keys that a reader has to know."""
        return self.state / "keys"

    @property
    def last_words(self) -> str:
        """What the gateway logged last."""
        return self._said[-1] if self._said else "it said nothing"

    def _started(self) -> subprocess.Popen[str]:
        # What is configured on this machine is none of a stage's business.  And nobody but us can
        # reach its Maildir, as "channel" says; a TOML string is written like a JSON string.
        config = self.directory / "mailbridge.toml"
        config.write_text(
            f"entity = {json.dumps(ENTITY)}\nstate = {json.dumps(str(self.state))}\n"
            f"[[source]]\nname = 'demo'\nmaildir = {json.dumps(str(self.maildir))}\n"
            "require = 'channel'\n"
        )
        words = ["-c", str(config), "run", "--accept-test"]
        words += [word for to in ("submit", "publish", "read") for word in (f"--{to}", _ANYWHERE)]
        kept = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        process = subprocess.Popen(  # noqa: S603 - our own program
            [*_leash(), sys.executable, "-m", "mailbridge", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=kept,
        )
        self._listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._listener.start()
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        # Its pipe must be read to the end, or it would block on its own log one day.
        assert process.stderr is not None  # noqa: S101 - PIPE
        with process.stderr:
            for line in process.stderr:
                self._said.append(line.strip())
                if found := _READY.match(line):
                    self.submit, self.publish, self.read, _ = found.groups()
                    self._ready.set()
        self._ready.set()
        if not self._ending:
            self.on_end()

    def _stop(self, process: subprocess.Popen[str]) -> None:
        self._ending = True
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._listener.join()


def _leash() -> list[str]:
    """Return what to start a program with so that it does not outlive us, however we end."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
