"""What every oracle reads: headers, texts and people, by the standard library alone."""

from __future__ import annotations

import re
from datetime import UTC
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

Facts = dict[str, Any]
"""What an event's data must hold, by key; a set stands for a list in any order."""


class Told(NamedTuple):
    """What a mail tells."""

    kind: str
    facts: Facts
    """All that its first event's data must hold."""
    news: tuple[object, ...]
    """Mails that agree in this say the same."""
    events: tuple[str, ...]
    """The names of all its events, in order."""


SOURCE_PAGE = "https://tracker.debian.org/pkg/{}"


def text_of(message: Message, name: str) -> str:
    """Return the header *name* as one line, decoded; empty where there is none."""
    parts = []
    # compat32 gives a Header object where raw bytes stand in a header.
    for data, charset in decode_header(message.get(name, "")):
        if isinstance(data, str):
            parts.append(data)
        elif charset in (None, "unknown-8bit"):
            parts.append(data.decode("utf-8", "replace"))
        else:
            parts.append(data.decode(charset, "replace"))
    return " ".join("".join(parts).split())


def words(text: str) -> list[str]:
    """Return the words between blanks and commas, each once."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def one_line(text: str) -> str:
    """Return *text* with every blank a single one."""
    return " ".join(text.split())


def decoded(part: Message) -> str:
    """Return the text of a leaf: in its charset, else UTF-8, else Latin-1."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    for charset in (part.get_content_charset() or "utf-8", "utf-8", "latin-1"):
        try:
            return payload.decode(charset).replace("\r\n", "\n")
        except (LookupError, UnicodeDecodeError):
            continue
    raise AssertionError("Latin-1 decodes everything")


def first_text(message: Message) -> str:
    """Return the first text that is not inside another mail; empty where there is none."""
    if message.get_content_type() == "message/rfc822":
        return ""
    if message.is_multipart():
        parts = message.get_payload()
        assert isinstance(parts, list)
        for part in parts:
            assert isinstance(part, Message)
            if found := first_text(part):
                return found
        return ""
    return decoded(message) if message.get_content_type() == "text/plain" else ""


def inside(message: Message) -> list[Message]:
    """Return the mails attached to a mail, none of those attached to these."""
    if message.get_content_type() == "message/rfc822":
        inner = message.get_payload(0)
        assert isinstance(inner, Message)
        return [inner]
    parts = message.get_payload() if message.is_multipart() else []
    assert isinstance(parts, list)
    return [mail for part in parts if isinstance(part, Message) for mail in inside(part)]


def person(text: str) -> tuple[str | None, str | None]:
    """Return name and address of `Name <address>`, `address (Name)` or an address alone."""
    line = one_line(text)
    if found := re.fullmatch(r"(.*?)\s*<([^<>\s]*)>", line):
        name, address = found[1].strip(), found[2]
    elif found := re.fullmatch(r"(\S+@\S+) \((.*)\)", line):
        name, address = found[2], found[1]
    else:
        name, address = ("", line) if "@" in line else (line, "")
    if name.startswith('"') and name.endswith('"'):
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return name.strip() or None, address or None


def identified(message: Message) -> str | None:
    """Return the Message-ID without its angles."""
    value = text_of(message, "Message-ID")
    found = re.search(r"<([^<>]*)>", value)
    return (found[1] if found else value).strip() or None


def ids(message: Message, name: str) -> list[str]:
    """Return the ids in a References or In-Reply-To."""
    return re.findall(r"<([^<>]+)>", text_of(message, name))


def common(message: Message, outer: Message) -> Facts:
    """Return what the bridge tells of every mail; *outer* is the list's mail around it, or it."""
    facts: Facts = {}
    if list_id := re.search(r"<([^<>]*)>", text_of(outer, "List-Id")):
        facts["list_id"] = list_id[1].lower()
    if ident := identified(message):
        facts["message_id"] = ident
    try:
        date = parsedate_to_datetime(text_of(message, "Date"))
    except (TypeError, ValueError):
        return facts
    zoned = date if date.tzinfo else date.replace(tzinfo=UTC)
    facts["mail_date"] = zoned.astimezone(UTC).isoformat()
    return facts


def without(facts: Facts) -> Facts:
    """Return *facts* without those that nobody told."""
    return {key: value for key, value in facts.items() if value is not None}
