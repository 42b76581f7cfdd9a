"""Bytes to `Mail`: bounded before any parser sees them, headers first, the body when asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Final

from mailbridge import headers, mime, plain
from mailbridge.errors import MalformedMail
from mailbridge.payloads import Person, address

MAX_MAIL: Final = 25 * 1024 * 1024
MAX_ID: Final = 300
MAX_ATTACHED: Final = 10
"""Messages inside a mail that are looked at; a closed bug's mail has two."""

_MBOX_LINE: Final = re.compile(rb"\A(?:>?From [^\r\n]*\r?\n)+")
# Every header that a row of the family table needs; see family.py.
_MARKER: Final = re.compile(
    rb"(?im)^(?:x-[a-z0-9]+-pr-message|x-laniakea-event|x-testing-watch-(?:package|summary)"
    rb"|x-dak|x-katie|x-debian|debian|x-launchpad-(?:notification-type|bug)|x-bugzilla-type"
    rb"|x-gitlab-[a-z-]+|x-phabricator-sent-this-message)[ \t]*:"
)
_MIME: Final = ("content-type", "content-transfer-encoding")
_LIST_PREFIX: Final = re.compile(r"(?:\s*(?:\[[^\]]*\]|\*{3,}[A-Z?]+\*{3,}))+\s*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Mail:
    """
    One RFC 5322 message of a stranger: its headers as text, its body when somebody asks.

    A mail that a list wrapped whole to please DMARC is unwrapped once: headers, text and
    attachments are those of the mail inside, list and time of arrival those of the outer one.
    """

    def __init__(
        self,
        raw: bytes,
        fields: Sequence[tuple[str, str]],
        body: int,
        *,
        outer: Mail | None = None,
        inside: bool = False,
    ) -> None:
        """Not for callers: `read_mail` makes these."""
        self._is_inside = inside
        self.raw = raw
        """Its bytes; of a mail that was wrapped, those inside."""
        self.outer = outer
        """The list's mail around this one, if it was wrapped."""
        self.body = body
        """Where in `raw` the body begins."""
        self._fields: dict[str, list[str]] = {}
        self._told: dict[str, str | None] = {}
        self.fields = tuple(fields)
        """Every header in order, with its value as it stands."""
        for name, value in self.fields:
            self._fields.setdefault(name.lower(), []).append(value)

    def __repr__(self) -> str:
        return f"Mail(<{self.message_id}>)"

    def header(self, name: str) -> str | None:
        """
        Return the first header *name* as one clean line, or None where there is none.

        Unfolded, RFC 2047 decoded, blanks and control characters collapsed, no surrogates.
        """
        key = name.lower()
        if key not in self._told:
            values = self._fields.get(key)
            self._told[key] = headers.clean(values[0]) if values else None
        return self._told[key]

    def has(self, *names: str) -> bool:
        """Say whether there is a header of one of *names*, empty or not."""
        return any(name.lower() in self._fields for name in names)

    def headers(self, name: str) -> list[str]:
        """Return every header *name*, in order, each as `header` would."""
        return [headers.clean(value) for value in self._fields.get(name.lower(), ())]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all headers, in lower case, each once."""
        return tuple(self._fields)

    @cached_property
    def subject(self) -> str:
        """The subject, list prefixes and all; empty where there is none."""
        return self.header("Subject") or ""

    @cached_property
    def list_id(self) -> str | None:
        """What stands between the angles of the first List-Id, in lower case."""
        value = (self.outer or self).header("List-Id")
        if value is None:
            return None
        before, _, after = value.rpartition("<")
        found = after.partition(">")[0] if before or "<" in value else value
        return found.strip().lower()[:MAX_ID] or None

    @cached_property
    def message_id(self) -> str:
        """Message-ID without its angles; `sha256:...` of the mail where it has none."""
        value = self.header("Message-ID") or ""
        _, angle, after = value.partition("<")
        found = (after.partition(">")[0] if angle else value).strip()
        if not found or len(found) > MAX_ID:
            return f"sha256:{hashlib.sha256(self.raw).hexdigest()}"
        return found

    @cached_property
    def date(self) -> datetime | None:
        """What Date claims, in UTC; None where it is missing or no date."""
        return headers.date(self.header("Date") or "")

    @cached_property
    def received(self) -> datetime | None:
        """When the topmost Received says the mail arrived, in UTC."""
        value = (self.outer or self).header("Received") or ""
        return headers.date(value.rpartition(";")[2])

    @cached_property
    def is_generated(self) -> bool:
        """Whether our own traffic generator made it up."""
        return any("x-mailbridge-generated" in m._fields for m in (self, self.outer) if m)

    @cached_property
    def content_type(self) -> str:
        """The mail's own type, as `text/plain`, in lower case."""
        return (self.header("Content-Type") or "text/plain").partition(";")[0].strip().lower()

    @cached_property
    def text(self) -> str:
        """
        The first text/plain leaf that is not inside another message, decoded; else empty.

        Lines end in a newline alone; of a text of many megabytes it is the beginning.  Raises
        `MalformedMail` as the body cannot be parsed.
        """
        return next((leaf.text for leaf in self._leaves if leaf.is_text), "")

    @cached_property
    def ended_lines(self) -> str:
        """
        `text` without a last line that lacks its newline: it may be half a line.

        Mail servers end each line that they pass on, and what is inside a container of parts has
        its end where that says.  Raises `MalformedMail` as the body cannot be parsed.
        """
        if self.content_type.startswith("multipart/"):
            return self.text
        return self.text[: self.text.rfind("\n") + 1]

    @cached_property
    def texts(self) -> list[str]:
        """
        The first few texts, `text` and those attached after it, each as `text` would be.

        Raises `MalformedMail` as the body cannot be parsed.
        """
        return [leaf.text for leaf in self._leaves if leaf.is_text][:MAX_ATTACHED]

    @cached_property
    def contents(self) -> list[tuple[bytes, str | None]]:
        """
        The bytes of `texts` as their sender encoded them, and the charset each is said to be in.

        Raises `MalformedMail` as the body cannot be parsed.
        """
        texts = [leaf for leaf in self._leaves if leaf.is_text]
        return [(leaf.content, leaf.charset) for leaf in texts[:MAX_ATTACHED]]

    @cached_property
    def attached(self) -> list[Mail]:
        """
        The first few messages inside, in order, none of those inside these.

        Raises `MalformedMail` as the body, or one of them, cannot be parsed.
        """
        inside = [leaf for leaf in self._leaves if leaf.is_message]
        return [_read(leaf.message, MAX_MAIL, inside=True) for leaf in inside[:MAX_ATTACHED]]

    @cached_property
    def file_names(self) -> list[str]:
        """The names of the files attached, each as one clean line."""
        return [headers.clean(name) for name in self._parsed.file_names]

    @cached_property
    def _leaves(self) -> Sequence[mime.Leaf]:
        told = (self._fields.get(name, [None])[0] for name in _MIME)
        found = plain.leaves(self.raw, self.body, *told)
        if found is None:
            return self._parsed.leaves
        mime.check(self.raw, self.body)
        return [mime.PlainLeaf(self.raw, leaf) for leaf in found]

    @cached_property
    def _parsed(self) -> mime.Body:
        # (Whoever starts pays for mail-parser only if there is a mail that needs it.)
        from mailbridge import parsed  # noqa: PLC0415

        # mail-parser sees the MIME headers alone: what it does with the others we do not need.
        told = ((name, self._fields.get(name, [None])[0]) for name in _MIME)
        head = "".join(f"{name}: {value}\n" for name, value in told if value is not None)
        # (Whoever wrote a mail that is attached may have left it open; its end is known here.)
        return parsed.parse(
            head.encode("utf-8", "surrogateescape"),
            self.raw,
            self.body,
            may_be_open=self._is_inside,
        )


def read_mail(raw: bytes, *, limit: int = MAX_MAIL) -> Mail:
    """
    Return the mail in *raw*; what an mbox puts in front, a `From ` line, is dropped.

    Raises `MalformedMail` for what is larger than *limit*, for headers that nobody honest writes
    and that parsers read differently (NUL, bare CR, no field name, far too many), and for headers
    that do not end.
    """
    in_front = _MBOX_LINE.match(raw)
    mail = _read(raw[in_front.end() :] if in_front else raw, limit)
    if mail.content_type != "message/rfc822" or not _is_from_its_list(mail):
        return mail
    return _read(mail.raw[mail.body :].lstrip(b"\r\n"), limit, outer=mail)


def has_marker(raw: bytes) -> bool:
    """
    Say whether the headers of *raw*, which may be no mail at all, name a system that we know.

    >>> has_marker(b"X-DAK: dak rm\\n\\n"), has_marker(b"Subject: x\\n\\nX-DAK: dak rm\\n")
    (True, False)
    """
    start = raw[: headers.MAX_HEADERS + 1]
    end = headers.end_of_headers(start)
    return _MARKER.search(start, 0, end[0] if end else len(start)) is not None


def person(text: str) -> Person:
    """
    Return the person that a From, Maintainer or Changed-By names, as a hint, never for trust.

    >>> person("J. Random Hacker, Jr. <jrh@example.org>")
    Person(name='J. Random Hacker, Jr.', address='jrh@example.org')
    >>> person("jrh@example.org (J. Random Hacker)")
    Person(name='J. Random Hacker', address='jrh@example.org')
    """
    line = headers.clean(text)
    word, _, comment = line.partition(" ")
    if comment.startswith("(") and comment.endswith(")") and "@" in word[1:-1]:
        return Person(_name(comment[1:-1]), address(word))
    quoted = _QUOTED.match(line)
    rest = line[quoted.end() :] if quoted else line
    before, angle, after = rest.partition("<")
    if not angle:
        alone = rest.strip()
        if found := address(alone):
            return Person(None, found)
        return Person(_name(quoted[1] if quoted else alone), None)
    found = address(after.partition(">")[0].strip())
    if quoted:
        return Person(re.sub(r"\\(.)", r"\1", quoted[1]).strip() or None, found)
    return Person(_name(before), found)


def one_line(text: str) -> str:
    """
    Return *text* as a header's value is read: one line, RFC 2047 words decoded, no controls.

    >>> one_line("jane@example.org (=?utf-8?b?SsOhbmU=?=)")
    'jane@example.org (Jáne)'
    """
    return headers.clean(text)


def strip_list_prefixes(subject: str) -> str:
    """
    Return *subject* without the `[tags]` that lists put in front.

    >>> strip_list_prefixes("[pureos-changes] [pureos] Accepted hello 2.10-3 into landing")
    'Accepted hello 2.10-3 into landing'
    """
    found = _LIST_PREFIX.match(subject)
    return subject[found.end() :] if found else subject


def _name(text: str) -> str | None:
    return text.strip().strip('"').strip() or None


# -- headers ---------------------------------------------------------------------------------------


def _read(raw: bytes, limit: int, *, outer: Mail | None = None, inside: bool = False) -> Mail:
    if len(raw) > limit:
        raise MalformedMail(f"{len(raw)} bytes, more than the {limit} allowed")
    if not raw or raw.isspace():
        raise MalformedMail("an empty mail")
    end = headers.end_of_headers(raw)
    if end is None and len(raw) > headers.MAX_HEADERS:
        raise MalformedMail(f"headers of more than {headers.MAX_HEADERS} bytes")
    body = end[1] if end else len(raw)
    block = raw[: end[0]] if end else raw
    fields = headers.fields(block)
    if end is None and not inside:
        raise MalformedMail("cut off in its headers: the empty line that ends them is missing")
    return Mail(raw, fields, body, outer=outer, inside=inside)


def _is_from_its_list(mail: Mail) -> bool:
    sender = (person(mail.header("From") or "").address or "").lower()
    if not sender:
        return False
    named = {value.lower() for value in mail.headers("X-BeenThere")}
    for value in mail.headers("List-Post"):
        named.add(value.lower().strip("<> ").removeprefix("mailto:"))
    return sender in named or sender.replace("@", ".", 1) == mail.list_id
