"""
A keyring's bytes, cut into certificates that are found by the ids of their keys (RFC 9580, 4.2).

Only frames are read here, so that the 30 MB of a distribution's keyring cost a second once, and a
certificate is parsed, by who verifies, when somebody signed with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from mailbridge.errors import MalformedMail

_KEY: Final = 6
_SUBKEY: Final = 14


def certificates(data: bytes) -> Iterator[tuple[bytes, list[str]]]:
    """
    Yield each certificate in *data*, a binary keyring, with the ids of its keys.

    Raises `MalformedMail` for what is no keyring.
    """
    start: int | None = None
    ids: list[str] = []
    for tag, begin, body, end in _packets(data):
        if tag == _KEY:
            if start is not None:
                yield data[start:begin], ids
            start, ids = begin, []
        if start is None:
            raise MalformedMail("no keyring: it does not begin with a key")
        if tag in (_KEY, _SUBKEY):
            ids.append(_key_id(data[body:end]))
    if start is not None:
        yield data[start:], ids


def _packets(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield of each packet its tag, and where it, its body and the next one begin."""
    at = 0
    while at < len(data):
        head = data[at]
        try:
            if not head & 0x80:
                raise MalformedMail("no keyring: no OpenPGP packet where one should be")
            if head & 0x40:
                tag, body, length = head & 0x3F, *_new_length(data, at + 1)
            else:
                tag, octets = (head >> 2) & 0xF, 1 << (head & 3)
                body = at + 1 + octets
                length = int.from_bytes(data[at + 1 : body])
                if octets > 4:  # noqa: PLR2004 - of no stated length: no key is
                    raise MalformedMail("no keyring: a packet without a length")
        except IndexError:
            raise MalformedMail("no keyring: cut off") from None
        if body + length > len(data):
            raise MalformedMail("no keyring: cut off")
        yield tag, at, body, body + length
        at = body + length


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 192:  # noqa: PLR2004 - RFC 9580, 4.2.1
        return at + 1, first
    if first < 224:  # noqa: PLR2004
        return at + 2, ((first - 192) << 8) + data[at + 1] + 192
    if first == 255:  # noqa: PLR2004
        return at + 5, int.from_bytes(data[at + 1 : at + 5])
    raise MalformedMail("no keyring: a packet in parts")


def _key_id(body: bytes) -> str:
    """Return the id of a public key packet as sixteen hexadecimal digits (RFC 9580, 5.5.4)."""
    if body[:1] == b"\x06":
        told = hashlib.sha256(b"\x9b" + len(body).to_bytes(4) + body).digest()
        return told[:8].hex()
    # SHA-1 names a key here, it proves nothing.
    told = hashlib.sha1(b"\x99" + len(body).to_bytes(2) + body, usedforsecurity=False).digest()
    return told[-8:].hex()
