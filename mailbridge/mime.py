"""The leaves of a mail's body: bounded, found by `plain` or by `parsed`, their texts decoded."""

from __future__ import annotations

import binascii
import re
from itertools import islice
from typing import Final, NamedTuple, Protocol

from mailbridge import plain
from mailbridge.errors import MalformedMail

MAX_LINES: Final = 500_000
"""25 MiB of base64 are 345,000 lines; the parsers' time and memory go by lines."""
MAX_CONTAINERS: Final = 20
MAX_COMPARISONS: Final = 3_000_000
MAX_BOUNDARIES: Final = 20_000
MAX_PART_FIELD: Final = 8 * 1024
MAX_PARAMETERS: Final = 5_000
"""In all parts together: each is looked for in each header anew."""
MAX_TEXT: Final = 4 * 1024 * 1024
"""What of a text is read; the largest .changes of twenty years are well below one MiB."""

# Decoding by any other name is refused: `punycode` and `idna` take quadratic time, `utf-7` makes
# lone surrogates, and every unknown name stays in Python's codec cache for good.
_CHARSETS: Final = frozenset(
    [
        *("ascii", "us-ascii", "ansi-x3.4-1968", "utf-8", "utf8", "latin1", "latin-1"),
        *(f"iso-8859-{n}" for n in range(1, 17) if n != 12),  # noqa: PLR2004 - there is no 12
        *(f"iso8859-{n}" for n in range(1, 17) if n != 12),  # noqa: PLR2004
        *(f"windows-{n}" for n in range(1250, 1259)),
        *(f"cp{n}" for n in range(1250, 1259)),
        *("koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5", "euc-jp", "euc-kr"),
        *("iso-2022-jp", "shift-jis", "tis-620"),
    ]
)

# The email package begins a header line after a bare CR too.  (Each looks behind only once its
# literal beginning was found, which is six times as fast.)
_PART_FIELD: Final = re.compile(
    rb"content-(?<=[\r\n]content-)(?:type|disposition|transfer-encoding|id):"
    rb"([^\r\n]*(?:(?:\r\n|\r|\n)[ \t][^\r\n]*)*)"
)
_CONTAINER: Final = re.compile(
    rb"content-type:(?<=[\r\n]content-type:)[\s\x1c-\x1f]*(?:multipart|message)[\s\x1c-\x1f]*/"
)


class Leaf(Protocol):
    """A part that holds no parts, or a message inside."""

    @property
    def is_text(self) -> bool:
        """Whether it is text/plain."""

    @property
    def is_message(self) -> bool:
        """Whether it is a message/rfc822 with a message in it."""

    @property
    def charset(self) -> str | None:
        """The charset it is said to be in, if we know that one."""

    @property
    def content(self) -> bytes:
        """The bytes of a text, the transfer encoding undone, at most `MAX_TEXT` of the encoded."""

    @property
    def text(self) -> str:
        """The content, decoded; lines end in a newline alone."""

    @property
    def message(self) -> bytes:
        """The bytes of the message inside.  Raises `MalformedMail`."""


class Body(NamedTuple):
    """A body that went through `parse`."""

    leaves: tuple[Leaf, ...]
    file_names: tuple[str, ...]
    """The names of the files attached, as they were written."""


def check(raw: bytes, start: int = 0) -> None:
    """Raise `MalformedMail` for a body that costs a parser more than it can be worth."""
    raw = raw[start:]
    # (Of the mails that come nearly all are too small for anything below to be too much.)
    if len(raw) < MAX_PART_FIELD and raw.lower().count(b"content-type:") <= MAX_CONTAINERS:
        return
    lines = raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")
    if lines > MAX_LINES:
        raise MalformedMail(f"{lines} lines, more than the {MAX_LINES} allowed")
    lower = b"\n" + raw.lower()
    containers = sum(1 for _ in islice(_CONTAINER.finditer(lower), MAX_CONTAINERS + 1))
    if containers > MAX_CONTAINERS:
        raise MalformedMail(f"more than {MAX_CONTAINERS} containers of parts")
    # Each line is held against the boundary of every container around it.
    if lines * containers > MAX_COMPARISONS:
        raise MalformedMail(f"{lines} lines in {containers} containers of parts")
    if lower.count(b"\n--") + lower.count(b"\r--") > MAX_BOUNDARIES:
        raise MalformedMail(f"more than {MAX_BOUNDARIES} boundaries of parts")
    parameters = 0
    for field in _PART_FIELD.finditer(lower):
        parameters += field[1].count(b";")
        if len(field[1]) > MAX_PART_FIELD or parameters > MAX_PARAMETERS:
            raise MalformedMail("parts with headers that are far too large")


def is_known(charset: str) -> bool:
    """Say whether we decode by *charset*."""
    return charset.lower().replace("_", "-") in _CHARSETS


class PlainLeaf:
    """One that `plain` found; nothing is copied or decoded before somebody asks for it."""

    def __init__(self, raw: bytes, leaf: plain.Leaf) -> None:
        self._raw: Final = raw
        self._leaf: Final = leaf
        self.is_text: Final = leaf.content_type == "text/plain"
        self.is_message: Final = leaf.content_type == "message/rfc822"

    @property
    def charset(self) -> str | None:
        charset = self._leaf.charset
        return charset if charset and is_known(charset) else None

    @property
    def content(self) -> bytes:
        start, end, encoding = self._leaf.start, self._leaf.end, self._leaf.encoding
        data = self._raw[start : min(end, start + MAX_TEXT)]
        if encoding == "quoted-printable":
            return binascii.a2b_qp(data)
        if encoding != "base64":
            return data
        # (Tens of milliseconds of a start for what no announcement of an archive is in.)
        from email.message import Message  # noqa: PLC0415

        part = Message()
        part["Content-Transfer-Encoding"] = encoding
        part.set_payload(data.decode("ascii", "surrogateescape"))
        payload = part.get_payload(decode=True)
        return payload if isinstance(payload, bytes) else b""

    @property
    def text(self) -> str:
        return text_of(self.content, self.charset)

    @property
    def message(self) -> bytes:
        return self._raw[self._leaf.start : self._leaf.end]


def text_of(content: bytes, charset: str | None) -> str:
    """Return *content* decoded, its lines ended by a newline alone."""
    return decoded(content, charset).replace("\r\n", "\n")


def decoded(data: bytes, charset: str | None) -> str:
    """Decode without loss: by *charset* if we know it, else line by line, UTF-8 or Latin-1."""
    for name in (charset, "utf-8"):
        if name and is_known(name):
            try:
                return data.decode(name)
            except UnicodeDecodeError:
                continue
    # katie wrote Latin-1 and UTF-8 into one mail.
    return "\n".join(_line(line) for line in data.split(b"\n"))


def _line(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
