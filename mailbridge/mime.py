"""
The leaves of a mail's body: bounded first, found by `plain` or parsed by mail-parser, decoded.

The only user of mail-parser, which works on the `compat32` policy and is shown nothing that it
could choke on: no content but texts, no charset but those we know, no headers but MIME's.
"""

from __future__ import annotations

import binascii
import io
import re
from collections.abc import Iterator
from email.errors import CloseBoundaryNotFoundDefect, MessageError, StartBoundaryNotFoundDefect
from email.feedparser import FeedParser
from email.generator import BytesGenerator
from email.message import Message
from email.policy import compat32
from itertools import chain, islice
from typing import Final, NamedTuple, Protocol

import mailparser
from mailparser.exceptions import MailParserError

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

# What the parsers are known to raise on bytes of a stranger (reliability tests: the hostile table).
_OPEN: Final = (CloseBoundaryNotFoundDefect, StartBoundaryNotFoundDefect)
_FAULTS: Final = (
    MailParserError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
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


_PIECE: Final = 64 * 1024
_END_OF_LINE: Final = re.compile(r"[\r\n]")


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


class _Part(Message):
    """A part; in a delivery report the email package would make a message of each paragraph."""

    def get_content_type(self) -> str:
        found = super().get_content_type()
        return "text/x-delivery-status" if found == "message/delivery-status" else found


class Body(NamedTuple):
    """A body that went through `parse`."""

    leaves: tuple[Leaf, ...]
    file_names: tuple[str, ...]
    """The names of the files attached, as they were written."""


def parse(head: bytes, raw: bytes, start: int, *, may_be_open: bool = False) -> Body:
    """
    Return the body that begins at *start* in *raw*, parsed; *head* is the MIME headers of its mail.

    Raises `MalformedMail` for what no parser can read, for what costs too much to read, and, unless
    it *may_be_open*, for parts that do not end: such a mail was cut off.
    """
    check(head)
    check(raw, start)
    parser = FeedParser(_Part, policy=compat32)
    try:
        for piece in chain(_pieces(head + b"\n", 0), _pieces(raw, start)):
            parser.feed(piece)
        message = parser.close()
        if not may_be_open and any(isinstance(found, _OPEN) for found in message.defects):
            raise MalformedMail("cut off in its body: the boundary that ends its parts is missing")
        for part in message.walk():
            _tame(part)
        parsed = mailparser.MailParser(message)
        names = tuple(str(item["filename"]) for item in parsed.attachments)
        return Body(tuple(map(_ParsedLeaf, _leaves(message))), names)
    except _FAULTS as error:
        raise MalformedMail(f"no MIME we can read: {type(error).__name__}: {error}") from error


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


def _pieces(raw: bytes, start: int) -> Iterator[str]:
    """
    Yield what stands behind *start* in *raw*, but for the ends of lines that are far too long.

    (For each character of a line that it has not seen the end of the parser needs four bytes.)
    """
    length = 0
    for at in range(start, len(raw), _PIECE):
        text = raw[at : at + _PIECE].decode("ascii", "surrogateescape")
        if length > MAX_TEXT:
            found = _END_OF_LINE.search(text)
            text = text[found.start() :] if found else ""
        end = max(text.rfind("\n"), text.rfind("\r"))
        length = len(text) - end - 1 if end >= 0 else length + len(text)
        yield text


def _tame(part: Message) -> None:
    """Leave nothing in *part* that mail-parser should not work on, or that nobody looks at."""
    # Where it sees a defect it searches the epilogue for parts, and fails if there is none.
    part.defects.clear()
    if part.is_multipart():
        return
    try:
        charset = part.get_content_charset()
    except (ValueError, LookupError):
        charset = "unreadable"
    # Both parsers would decode by any that Python knows; RFC 2231's form of a name they cannot.
    if charset is not None and not _is_known(charset):
        part.replace_header("Content-Type", part.get_content_type())
    elif isinstance(part.get_param("charset"), tuple):
        part.replace_header("Content-Type", f'{part.get_content_type()}; charset="{charset}"')
    payload = part.get_payload()
    if part.get_content_type() != "text/plain" or not isinstance(payload, str):
        part.set_payload("")
    elif len(payload) > MAX_TEXT:
        part.set_payload(payload[:MAX_TEXT])


def _is_known(charset: str) -> bool:
    return charset.lower().replace("_", "-") in _CHARSETS


def _leaves(part: Message) -> Iterator[Message]:
    """Every part that holds no parts, depth first; a message inside counts as one."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for child in part.get_payload():
            if isinstance(child, Message):
                yield from _leaves(child)
    else:
        yield part


class _ParsedLeaf:
    """One that mail-parser has seen."""

    def __init__(self, part: Message) -> None:
        self._part: Final = part

    @property
    def is_text(self) -> bool:
        return self._part.get_content_type() == "text/plain"

    @property
    def is_message(self) -> bool:
        return self._part.get_content_type() == "message/rfc822" and self._part.is_multipart()

    @property
    def charset(self) -> str | None:
        return self._part.get_content_charset()

    @property
    def content(self) -> bytes:
        payload = self._part.get_payload(decode=True)
        return payload if isinstance(payload, bytes) else b""

    @property
    def text(self) -> str:
        return _text(self.content, self.charset)

    @property
    def message(self) -> bytes:
        return _flat(self._part.get_payload(0))


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
        return charset if charset and _is_known(charset) else None

    @property
    def content(self) -> bytes:
        start, end, encoding = self._leaf.start, self._leaf.end, self._leaf.encoding
        data = self._raw[start : min(end, start + MAX_TEXT)]
        if encoding == "quoted-printable":
            return binascii.a2b_qp(data)
        if encoding != "base64":
            return data
        part = Message()
        part["Content-Transfer-Encoding"] = encoding
        part.set_payload(data.decode("ascii", "surrogateescape"))
        payload = part.get_payload(decode=True)
        return payload if isinstance(payload, bytes) else b""

    @property
    def text(self) -> str:
        return _text(self.content, self.charset)

    @property
    def message(self) -> bytes:
        return self._raw[self._leaf.start : self._leaf.end]


def _text(content: bytes, charset: str | None) -> str:
    return decoded(content, charset).replace("\r\n", "\n")


def decoded(data: bytes, charset: str | None) -> str:
    """Decode without loss: by *charset* if we know it, else line by line, UTF-8 or Latin-1."""
    for name in (charset, "utf-8"):
        if name and _is_known(name):
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


def _flat(message: object) -> bytes:
    if not isinstance(message, Message):
        raise MalformedMail("a message inside that is none")
    target = io.BytesIO()
    try:
        BytesGenerator(target, mangle_from_=False, maxheaderlen=0).flatten(message)
    except (*_FAULTS, MessageError) as error:
        words = f"{type(error).__name__}: {error}"
        raise MalformedMail(f"a message inside: {words}") from error
    return target.getvalue()
