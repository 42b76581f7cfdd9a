"""A mail as an mbox holds it.  Written apart from our own reader."""

from __future__ import annotations

import re
from typing import Final

_SEPARATOR: Final = b"From generated@example.org Thu Jan  1 00:00:00 1970\n"
"""The same for all, so that one seed gives one file."""
_QUOTED: Final = re.compile(rb"(?m)^(?=>*From )")


def in_mbox(raw: bytes) -> bytes:
    r"""
    Return *raw* as it stands in an mbox of the mboxrd form: each `From ` of a line quoted once.

    A last line without an end gets one: an mbox cannot tell.

    >>> in_mbox(b"A: b\n\nFrom me\n").partition(b"\n")[2]
    b'A: b\n\n>From me\n\n'
    """
    end = b"\n" if raw.endswith(b"\n") else b"\n\n"
    return _SEPARATOR + _QUOTED.sub(b">", raw) + end
