"""
Letters: a mail as its parts, until it is bytes.

Written by hand rather than with `email`, because the systems we imitate differ from it exactly
where a recogniser can stumble: raw 8-bit headers, odd folding, a list's re-encoding.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

Headers = tuple[tuple[str, str], ...]
Encoding = Literal["quoted-printable", "base64", "8bit", "bare"]
"""How text is put in a mail; "bare" is without a word about MIME, as before 2007."""

MARK: Final = "X-Mailbridge-Generated"

_LINE: Final = 76


@dataclass(frozen=True, kw_only=True)
class Part:
    """A node of a mail's body: its own headers and its bytes."""

    headers: Headers
    body: bytes
    text: str | None = None
    """What a single text part says, so that a list can add a footer."""
    boundary: str | None = None

    @property
    def canonical(self) -> bytes:
        """As OpenPGP signs it: headers and all, with the line ends of the network (RFC 3156, 5)."""
        return self.encode().replace(b"\n", b"\r\n")

    def encode(self) -> bytes:
        """Return its bytes: headers, an empty line, body."""
        headers = "".join(f"{name}: {value}\n" for name, value in self.headers)
        return headers.encode() + b"\n" + self.body


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A mail that is not bytes yet."""

    headers: Headers
    part: Part
    charset: Literal["utf-8", "latin-1"] = "utf-8"
    """Of header bytes that are neither ASCII nor encoded."""
    trace: Headers = field(default=())
    """What the machines on its way put on top."""

    def get(self, name: str) -> str:
        """Return the header *name*, which must be there."""
        return next(value for key, value in self.headers if key == name)

    @property
    def message_id(self) -> str:
        """Its id as its header has it, angles included; empty if it has none."""
        return next((value for key, value in self.headers if key.lower() == "message-id"), "")

    def with_message_id(self, value: str) -> Letter:
        """Return the letter under another id."""
        name = next((key for key, _ in self.headers if key.lower() == "message-id"), "Message-ID")
        return self.with_header(name, value)

    def with_header(self, name: str, value: str) -> Letter:
        """Return the letter with the header *name* changed, or added at the end."""
        if all(key != name for key, _ in self.headers):
            return replace(self, headers=(*self.headers, (name, value)))
        changed = tuple((key, value if key == name else old) for key, old in self.headers)
        return replace(self, headers=changed)

    def encode(self, mark: str | None = None) -> bytes:
        """Return the mail's bytes; with *mark*, marked as made up."""
        marked = ((MARK, mark),) if mark is not None else ()
        lines = [_header(*pair) for pair in (*self.trace, *marked, *self.headers)]
        if self.part.headers and all(name != "MIME-Version" for name, _ in self.headers):
            lines.append("MIME-Version: 1.0\n")
        lines += [_header(*pair) for pair in self.part.headers]
        return "".join(lines).encode(self.charset, "replace") + b"\n" + self.part.body


def text(said: str, encoding: Encoding = "quoted-printable", charset: str = "utf-8") -> Part:
    """Return the text part that says *said*."""
    raw = said.encode(charset)
    headers: Headers = (("Content-Type", f'text/plain; charset="{charset}"'),)
    if encoding == "quoted-printable":
        raw = binascii.b2a_qp(raw, istext=True)
    elif encoding == "base64":
        raw = base64.encodebytes(raw)
    if encoding == "bare":
        return Part(headers=(), body=raw, text=said)
    return Part(
        headers=(*headers, ("Content-Transfer-Encoding", encoding)),
        body=raw,
        text=said,
    )


def multipart(kind: str, boundary: str, parts: Sequence[Part], preamble: str = "") -> Part:
    """Return *parts* under one roof; *kind* is what follows `multipart/`, parameters included."""
    mark = f"--{boundary}\n".encode()
    pieces = [preamble.encode() + b"\n" if preamble else b""]
    pieces += [mark + part.encode() + b"\n" for part in parts]
    pieces.append(f"--{boundary}--\n".encode())
    header = ("Content-Type", f'multipart/{kind};\n boundary="{boundary}"')
    return Part(headers=(header,), body=b"".join(pieces), boundary=boundary)


def signed(said: str, boundary: str, signature: str) -> Part:
    """Return *said* as dak sends it since 2022: multipart/signed, with *signature*."""
    seal = Part(headers=(("Content-Type", "application/pgp-signature"),), body=signature.encode())
    kind = 'signed; micalg="pgp-sha256";\n protocol="application/pgp-signature"'
    return multipart(kind, boundary, (text(said), seal))


def enclosed(letter: Letter) -> Part:
    """Return *letter* as an attached mail."""
    headers = (("Content-Type", "message/rfc822"), ("Content-Disposition", "inline"))
    return Part(headers=headers, body=letter.encode())


def word(said: str) -> str:
    """
    Return *said* as a header value in ASCII: itself, or RFC 2047 encoded words.

    >>> word("plain"), word("é")
    ('plain', '=?utf-8?b?w6k=?=')
    """
    if said.isascii():
        return said
    # A word may have 75 characters, so 45 bytes before base64, and none may split a character.
    words, chunk = [], b""
    for character in said:
        raw = character.encode()
        if len(chunk) + len(raw) > 45:  # noqa: PLR2004 - RFC 2047, section 2
            words.append(chunk)
            chunk = b""
        chunk += raw
    words.append(chunk)
    return "\n ".join(f"=?utf-8?b?{base64.b64encode(w).decode()}?=" for w in words)


def person(name: str, address: str) -> str:
    """
    Return a mailbox as dak writes it: comment form where the name has a full stop or a comma.

    >>> person("A. B", "a@example.org"), person("A", "a@example.org")
    ('a@example.org (A. B)', 'A <a@example.org>')
    """
    if "." in name or "," in name:
        return f"{address} ({word(name)})"
    return f"{word(name)} <{address}>"


def _header(name: str, value: str) -> str:
    # dak's serialiser begins a value that does not fit on the continuation line (mail-formats 0.2).
    first = value.partition("\n")[0]
    if len(name) + len(first) + 2 > _LINE and name in _FOLDED:
        return f"{name}:\n {value}\n"
    return f"{name}: {value}\n"


_FOLDED: Final = frozenset(("Subject", "Debian-Architecture", "Debian-Changes"))
