"""
Where a test may break this process: `MAILBRIDGE_FAILPOINT=name:n:what`, at the n-th time.

*what* is `kill` (SIGKILL, also if it is left out), `stop` (SIGSTOP: who sees that may go on with
SIGCONT), `hang` (this thread, for ever), `enospc` or `eio` (what a disk says).  Several stand with
commas between them.  Without that variable `reached` does nothing, at the price of an empty call.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import Final

VARIABLE: Final = "MAILBRIDGE_FAILPOINT"

_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_ERRORS: Final = {"enospc": errno.ENOSPC, "eio": errno.EIO}


class _Fuse:
    """Counts down to what shall happen at one place."""

    def __init__(self, setting: str) -> None:
        self.name, _, rest = setting.partition(":")
        times, _, what = rest.partition(":")
        self.left, self.what = int(times or 1), what or "kill"
        if self.what not in (*_SIGNALS, *_ERRORS, "hang"):
            raise ValueError(f"{VARIABLE}: {setting!r}: nobody knows {self.what!r}")

    def reached(self) -> None:
        self.left -= 1
        if self.left != 0:
            return
        if self.what in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[self.what])
        elif self.what in _ERRORS:
            raise OSError(_ERRORS[self.what], os.strerror(_ERRORS[self.what]))
        else:
            threading.Event().wait()


def _fuses(settings: str) -> dict[str, _Fuse]:
    fuses = [_Fuse(setting) for setting in settings.split(",") if setting]
    return {fuse.name: fuse for fuse in fuses}


_armed: Final = _fuses(os.environ.get(VARIABLE, ""))


def reached(name: str) -> None:
    """Let happen what the environment says shall happen at this place."""
    if name in _armed:
        _armed[name].reached()
