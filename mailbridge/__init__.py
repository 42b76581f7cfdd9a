"""
mailbridge: mails of a distribution's archive and bug tracker, re-emitted as signed events.

    Maildir -> Mail -> family -> kind -> Event -> number, link, sign -> outbox -> relay -> readers

Consumers start with `listen`, programs with news of their own with `emit`; the gateway itself is
`mailbridge.bridge`, one kind of mail is one module of `mailbridge.kinds`.  Nothing heavy is
imported until it is used.
"""

from __future__ import annotations

# What type checkers take for `typing.TYPE_CHECKING`, without importing `typing`: the pipe of an
# MTA starts with this module, too.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mailbridge.bridge.emitter import emit
    from mailbridge.reader import alisten, listen

__all__ = ["__version__", "alisten", "emit", "listen"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the attribute is
    if name in ("alisten", "listen"):
        from mailbridge import reader  # noqa: PLC0415 - a command pays only for what it uses

        return getattr(reader, name)
    if name == "emit":
        from mailbridge.bridge import emitter  # noqa: PLC0415

        return emitter.emit
    raise AttributeError(f"module 'mailbridge' has no attribute {name!r}")
