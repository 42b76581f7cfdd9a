"""
The Maildir: storing mail in it, looking into it, being told when to look.

Names are loaded when they are first used: the pipe stores, and pays for nothing else.
"""

from __future__ import annotations

# What type checkers take for `typing.TYPE_CHECKING`, without importing `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mailbridge.maildir.scan import (
        Folders,
        Found,
        NotAMail,
        Unready,
        Vanished,
        base_of,
        finish,
        folders,
        read,
        scan_folder,
        scan_maildir,
        stale,
    )
    from mailbridge.maildir.store import make_maildir, store_mail
    from mailbridge.maildir.watch import Watch

_HOME = {
    "Watch": "watch",
    "make_maildir": "store",
    "store_mail": "store",
}

__all__ = [
    "Folders",
    "Found",
    "NotAMail",
    "Unready",
    "Vanished",
    "Watch",
    "base_of",
    "finish",
    "folders",
    "make_maildir",
    "read",
    "scan_folder",
    "scan_maildir",
    "stale",
    "store_mail",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the attribute is
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'scan')}"), name)
