"""The two parts of a multipart/signed mail (RFC 3156): the bytes signed, and the signature."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mailbridge.armor import MAX_SIGNATURE
from mailbridge.mail import Mail

_TYPE: Final = re.compile(r"multipart/signed\s*;", re.IGNORECASE)
_PROTOCOL: Final = re.compile(
    r';\s*protocol="?application/pgp-signature"?\s*(?:;|$)', re.IGNORECASE
)
_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_SECOND: Final = re.compile(rb"(?im)^content-type:[ \t]*application/pgp-signature[ \t]*(?:;|$)")
_BEGIN: Final = b"\n-----BEGIN PGP SIGNATURE-----"
_END: Final = b"\n-----END PGP SIGNATURE-----"


class Signed(NamedTuple):
    """A signed part and its signature."""

    data: bytes
    """The part with its MIME headers, its lines ended as the signer's were (RFC 3156, 5)."""
    signature: bytes


def signed_part(mail: Mail) -> Signed | None:
    """Return what *mail*, as a whole, was signed with; None if it was not, or is cut off."""
    value = next((v for name, v in mail.fields if name.lower() == "content-type"), "")
    boundary = _BOUNDARY.search(value)
    if not boundary or not _TYPE.match(value.strip()) or not _PROTOCOL.search(value):
        return None
    mark = b"--" + (boundary[1] or boundary[2]).encode("utf-8", "surrogateescape")
    body = b"\n" + mail.raw[mail.body :].replace(b"\r\n", b"\n")
    # (Blanks after a boundary are padding; two parts and no more.)
    pieces = re.split(rb"\n" + re.escape(mark) + rb"(--)?[ \t]*(?=\n|\Z)", body)
    if len(pieces) != 7 or pieces[1::2] != [None, None, b"--"]:  # noqa: PLR2004
        return None
    data, second = pieces[2], pieces[4]
    begin = second.find(_BEGIN)
    end = second.find(_END, begin)
    if len(second) > MAX_SIGNATURE or not 0 <= begin < end or not _SECOND.search(second, 0, begin):
        return None
    armor = second[begin + 1 : end] + _END + b"\n"
    return Signed(data.removeprefix(b"\n").replace(b"\n", b"\r\n"), armor)
