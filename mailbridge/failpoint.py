"""
Where a test may kill this process: `MAILBRIDGE_FAILPOINT=name:n` is SIGKILL at the n-th time.

Without that variable `reached` does nothing, at the price of an empty call.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "MAILBRIDGE_FAILPOINT"


class _Fuse:
    """Counts down to the kill."""

    def __init__(self, setting: str) -> None:
        self.name, _, times = setting.partition(":")
        self.left = int(times or 1)

    def reached(self, name: str) -> None:
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


_fuse: Final = _Fuse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def reached(name: str) -> None:
    """Die here and now, if the environment names this place."""
    if _fuse is not None:
        _fuse.reached(name)
