"""
OpenPGP signatures that are the same to the byte on every machine, by a key that is nobody's.

Programs put the time and a salt into what they sign, so theirs differ each time.  A version 4
signature by Ed25519 needs neither (RFC 4880; RFC 9580, sections 5.2.3 and 5.5.5.5, "EdDSALegacy").
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

from nacl.signing import SigningKey

# Everybody who reads this has the secret key.  It must never be trusted with anything.
_SEED: Final = hashlib.sha256(b"mailbridge generate: a key to throw away, nobody's").digest()
_OWNER: Final = b"Made-up mail, nobody's key (never trust it) <generated@example.org>"

_MADE: Final = int(datetime(2020, 1, 1, 12, tzinfo=UTC).timestamp())
_SIGNED: Final = int(datetime(2020, 1, 2, 12, tzinfo=UTC).timestamp())

_ED25519: Final = bytes.fromhex("092b06010401da470f01")
_EDDSA, _SHA512 = 22, 10
_BINARY, _TEXT, _CERTIFIED = 0x00, 0x01, 0x13
_SIGNATURE, _PUBLIC_KEY, _USER_ID = 2, 6, 13
_MAY_CERTIFY_AND_SIGN: Final = 0x03


class Key:
    """The key of made-up mail."""

    def __init__(self) -> None:
        """There is only one."""
        self._secret: Final = SigningKey(_SEED)

    @cached_property
    def fingerprint(self) -> str:
        """As people compare it: forty digits, in upper case."""
        return hashlib.sha1(_hashed_key(self._body), usedforsecurity=False).hexdigest().upper()

    @cached_property
    def keyring(self) -> bytes:
        """The public key in binary, as gpgv and everything else reads it."""
        owner = b"\xb4" + len(_OWNER).to_bytes(4, "big") + _OWNER
        flags = _subpacket(27, bytes([_MAY_CERTIFY_AND_SIGN]))
        own = self._sign(_CERTIFIED, _hashed_key(self._body) + owner, _MADE, flags)
        return _packet(_PUBLIC_KEY, self._body) + _packet(_USER_ID, _OWNER) + own

    def clearsigned(self, text: str, charset: str = "utf-8") -> str:
        """Return the armored signature of *text* as it stands in clearsign armor, dashes bare."""
        lines = (line.rstrip(" \t") for line in text.split("\n"))
        return _armored(self._sign(_TEXT, "\r\n".join(lines).encode(charset), _SIGNED))

    def detached(self, data: bytes) -> str:
        """Return an armored signature of *data*."""
        return _armored(self._sign(_BINARY, data, _SIGNED))

    @cached_property
    def _body(self) -> bytes:
        point = b"\x40" + bytes(self._secret.verify_key)
        return bytes([4]) + _MADE.to_bytes(4, "big") + bytes([_EDDSA]) + _ED25519 + _number(point)

    def _sign(self, kind: int, data: bytes, when: int, more: bytes = b"") -> bytes:
        """Return the signature packet of *data*, of the sort *kind*, made at *when*."""
        issuer = bytes.fromhex(self.fingerprint)
        told = _subpacket(2, when.to_bytes(4, "big")) + _subpacket(33, b"\x04" + issuer) + more
        head = bytes([4, kind, _EDDSA, _SHA512]) + len(told).to_bytes(2, "big") + told
        trailer = b"\x04\xff" + len(head).to_bytes(4, "big")
        digest = hashlib.sha512(data + head + trailer).digest()
        signature = self._secret.sign(digest).signature
        apart = _subpacket(16, issuer[-8:])
        return _packet(
            _SIGNATURE,
            head
            + len(apart).to_bytes(2, "big")
            + apart
            + digest[:2]
            + _number(signature[:32])
            + _number(signature[32:]),
        )


def _hashed_key(body: bytes) -> bytes:
    return b"\x99" + len(body).to_bytes(2, "big") + body


def _packet(tag: int, body: bytes) -> bytes:
    # (None of ours is long enough for another form of its length.)
    size = len(body)
    length = bytes([size]) if size < 192 else (size - 192 + (192 << 8)).to_bytes(2, "big")  # noqa: PLR2004 - RFC 4880, 4.2.2
    return bytes([0xC0 | tag]) + length + body


def _subpacket(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 1, kind]) + body


def _number(raw: bytes) -> bytes:
    """Return *raw* as OpenPGP writes a number: its length in bits, and no zeros in front."""
    number = int.from_bytes(raw, "big")
    return number.bit_length().to_bytes(2, "big") + number.to_bytes(
        (number.bit_length() + 7) // 8, "big"
    )


def _armored(packet: bytes) -> str:
    body = base64.b64encode(packet).decode()
    lines = "".join(f"{body[at : at + 64]}\n" for at in range(0, len(body), 64))
    check = base64.b64encode(_crc24(packet).to_bytes(3, "big")).decode()
    return f"-----BEGIN PGP SIGNATURE-----\n\n{lines}={check}\n-----END PGP SIGNATURE-----\n"


def _crc24(data: bytes) -> int:
    # RFC 4880, section 6.1.
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc
