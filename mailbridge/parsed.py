"""
Bodies that are not by the book, as the email package and mail-parser read them.

The only user of mail-parser, which works on the `compat32` policy and is shown nothing that it
could choke on: no content but texts, no charset but those we know, no headers but MIME's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from email.errors import CloseBoundaryNotFoundDefect, MessageError, StartBoundaryNotFoundDefect
from email.feedparser import FeedParser
from email.generator import BytesGenerator
from email.message import Message
from email.policy import compat32
from itertools import chain
from typing import Final

import mailparser
from mailparser.exceptions import MailParserError

from mailbridge.errors import MalformedMail
from mailbridge.mime import MAX_TEXT, Body, check, is_known, text_of

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

_PIECE: Final = 64 * 1024
_END_OF_LINE: Final = re.compile(r"[\r\n]")


class _Part(Message):
    """A part; in a delivery report the email package would make a message of each paragraph."""

    _payload: object

    def get_content_type(self) -> str:
        found = super().get_content_type()
        return "text/x-delivery-status" if found == "message/delivery-status" else found

    def cut(self, length: int) -> None:
        """Leave at most *length* of what it holds, as it came: to ask for it would decode it."""
        if isinstance(self._payload, str):
            self._payload = self._payload[:length]


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
            if isinstance(part, _Part):
                _tame(part)
        parsed = mailparser.MailParser(message)
        names = tuple(str(item["filename"]) for item in parsed.attachments)
        return Body(tuple(map(_ParsedLeaf, _leaves(message))), names)
    except _FAULTS as error:
        raise MalformedMail(f"no MIME we can read: {type(error).__name__}: {error}") from error


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


def _tame(part: _Part) -> None:
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
    if charset is not None and not is_known(charset):
        part.replace_header("Content-Type", part.get_content_type())
    elif isinstance(part.get_param("charset"), tuple):
        part.replace_header("Content-Type", f'{part.get_content_type()}; charset="{charset}"')
    part.cut(MAX_TEXT if part.get_content_type() == "text/plain" else 0)


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
        return text_of(self.content, self.charset)

    @property
    def message(self) -> bytes:
        return _flat(self._part.get_payload(0))


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
