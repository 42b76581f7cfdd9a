"""
OpenPGP armor in a text: where it begins and ends, and what it holds; whose it is nobody asks here.

One answer for those who read what is inside and for those who check it: the reader takes its lines
from here, the verifier is shown the same block and nothing around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mailbridge.errors import MalformedMail

BEGIN: Final = "-----BEGIN PGP SIGNED MESSAGE-----"
SIGNATURE: Final = "-----BEGIN PGP SIGNATURE-----"
END: Final = "-----END PGP SIGNATURE-----"

MAX_SIGNATURE: Final = 64 * 1024
"""Far above any; each signature of many would be looked at."""

# RFC 4880, 7.1: this much at a line's end is not signed, and no more.
_UNSIGNED: Final = " \t\r"


class _Span(NamedTuple):
    begin: int
    signature: int
    end: int


def signed_lines(lines: Sequence[str]) -> list[str] | None:
    """
    Return what the clearsign armor in *lines* holds, dashes unescaped once; None if there is none.

    Raises `MalformedMail` where it is cut off.
    """
    span = _span(lines)
    if span is None:
        return None
    begin = span.begin
    while begin < span.signature and lines[begin].strip(_UNSIGNED):
        begin += 1  # over the armor's own headers
    return [line.removeprefix("- ") for line in lines[begin : span.signature]]


def block(data: bytes) -> bytes | None:
    """
    Return the clearsigned block that `signed_lines` reads, from its first line to its last.

    None if there is none; raises `MalformedMail` where it is cut off, or where what stands for its
    signature is far too large for one.
    """
    # Latin-1 is bytes by another name: nothing is lost, and lines end where they did.
    lines = data.decode("latin-1").split("\n")
    span = _span(lines)
    if span is None:
        return None
    size = sum(map(len, lines[span.signature : span.end]))
    if size > MAX_SIGNATURE:
        raise MalformedMail(f".changes: a signature of {size} bytes")
    return ("\n".join(lines[span.begin : span.end + 1]) + "\n").encode("latin-1")


def plain(lines: Sequence[str]) -> str:
    """
    Return *lines* without what no signature covers: blanks at their ends, empty ones around them.

    >>> plain(["", "Format: 1.8  ", "", ""])
    'Format: 1.8'
    """
    return "\n".join(line.rstrip(_UNSIGNED) for line in lines).strip("\n")


def _span(lines: Sequence[str]) -> _Span | None:
    begin = signature = None
    for number, line in enumerate(lines):
        if not line.startswith("-----"):
            continue
        bare = line.rstrip(_UNSIGNED)
        if bare == BEGIN and signature is None:
            # The last one before the first signature: an unterminated block may come first.
            begin = number
        elif bare == SIGNATURE and begin is not None and signature is None:
            signature = number
        elif bare == END and begin is not None and signature is not None:
            return _Span(begin, signature, number)
    if begin is None:
        return None
    raise MalformedMail(".changes: cut off: the signature around it does not end")
