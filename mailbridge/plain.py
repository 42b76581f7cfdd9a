"""
The leaves of a body that is written by the book, found without a parser.

Nearly all mail of archives and trackers is; `mime` reads all other.  The book is strict: every
boundary closed, every part with headers nobody could read in two ways, nothing that needs RFC 2231
or a guess.  Where it is not kept to the answer is None, which says nothing of the mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

MAX_DEPTH: Final = 5
MAX_LEAVES: Final = 100
MAX_REMEMBERED: Final = 200
"""Characters of a header; most parts say what a thousand others say."""

_NAME: Final = r"[A-Za-z0-9.+-]+"
_VALUE: Final = r'(?:"[ !#-\[\]-~]*+"|[A-Za-z0-9_.:/+=?\x27()-]++)'
_TYPE: Final = re.compile(
    rf"[ \t]*+({_NAME})/({_NAME})[ \t]*+((?:;\s*+[A-Za-z-]++={_VALUE}[ \t]*+)*+);?\s*+",
    re.ASCII,
)
_PARAMETER: Final = re.compile(rf";\s*+([A-Za-z-]++)=({_VALUE})", re.ASCII)
_ENCODING: Final = re.compile(r"[ \t]*+([A-Za-z0-9-]++)[\r\n]*+")
_ENCODINGS: Final = frozenset(("7bit", "8bit", "binary", "quoted-printable", "base64"))
_HEAD: Final = re.compile(rb"((?:[!-9;-~]++:[^\r\n]*+\r?\n(?:[ \t][^\r\n]*+\r?\n)*+)*+)\r?\n")
_FIELD: Final = re.compile(
    rb"(?im)^content-(type|transfer-encoding):([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)"
)
# What may stand behind a boundary in its line.
_REST: Final = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")


class Leaf(NamedTuple):
    """A part that holds no parts, or a message inside; its bytes are `raw[start:end]`."""

    content_type: str
    charset: str | None
    """As it is told, in lower case."""
    encoding: str
    """What its bytes are in, in lower case: `7bit` where nothing is told."""
    start: int
    end: int


class _Irregular(Exception):
    pass


class _Type(NamedTuple):
    main: str
    sub: str
    charset: str | None
    boundary: bytes


def leaves(
    raw: bytes, start: int, content_type: str | None, encoding: str | None
) -> list[Leaf] | None:
    """
    Return the leaves of the body that begins at *start* in *raw*, in order; None: not by the book.

    *content_type* and *encoding* are the values of its mail's headers.  What is returned is what
    `mime.parse` would find (tests/test_plain.py).
    """
    try:
        found = _typed(content_type, encoding)
        # (A CR that ends no line is an end of line to some and none to others.)
        holds_parts = found[0].main in ("multipart", "message")
        if holds_parts and raw.count(b"\r", start) != raw.count(b"\r\n", start):
            return None
        if found[0].main != "multipart":
            return list(_leaf(raw, start, len(raw), *found))
        all_of_them = []
        for leaf in _children(raw, start, len(raw), found[0], 1):
            all_of_them.append(leaf)
            if len(all_of_them) > MAX_LEAVES:
                return None
    except _Irregular:
        return None
    return all_of_them


def _part(raw: bytes, start: int, end: int, depth: int) -> Iterator[Leaf]:
    head = _HEAD.match(raw, start, end)
    if head is None:
        raise _Irregular
    told: dict[bytes, str] = {}
    for name, value in _FIELD.findall(head[1]):
        # (Latin-1 makes of what is not ASCII what no pattern here takes.)
        told.setdefault(name.lower(), value.decode("latin-1"))
    found = _typed(told.get(b"type"), told.get(b"transfer-encoding"))
    if found[0].main == "multipart":
        return _children(raw, head.end(), end, found[0], depth + 1)
    return _leaf(raw, head.end(), end, *found)


def _leaf(raw: bytes, start: int, end: int, told: _Type, encoding: str) -> Iterator[Leaf]:
    if told.main == "message" and not _HEAD.match(raw, start, end):
        raise _Irregular
    yield Leaf(f"{told.main}/{told.sub}", told.charset, encoding, start, end)


def _children(raw: bytes, start: int, end: int, told: _Type, depth: int) -> Iterator[Leaf]:
    # (In a digest what has no type is a message.)
    if depth > MAX_DEPTH or not told.boundary or told.sub == "digest":
        raise _Irregular
    begin = -1
    for line, after, is_last in _boundaries(raw, start, end, b"--" + told.boundary):
        if begin >= 0:
            # The end of the line before a boundary belongs to the boundary.
            until = line - (2 if raw[line - 2 : line] == b"\r\n" else 1)
            if until < begin:
                raise _Irregular
            yield from _part(raw, begin, until, depth)
        if is_last:
            if begin < 0:
                break
            return
        begin = after
    raise _Irregular


def _boundaries(raw: bytes, start: int, end: int, mark: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield where each boundary's line begins and ends, and whether it says that it is the last."""
    at = raw.find(mark, start, end)
    while at >= 0:
        after = at + len(mark)
        if at == start or raw[at - 1] == ord("\n"):
            rest = _REST.match(raw, after, end)
            if rest:
                yield at, rest.end(), rest[1] is not None
        at = raw.find(mark, after, end)


def _typed(content_type: str | None, encoding: str | None) -> tuple[_Type, str]:
    if len(content_type or "") + len(encoding or "") > MAX_REMEMBERED:
        return _read(content_type, encoding)
    return _remembered(content_type, encoding)


@lru_cache(maxsize=256)
def _remembered(content_type: str | None, encoding: str | None) -> tuple[_Type, str]:
    return _read(content_type, encoding)


def _read(content_type: str | None, encoding: str | None) -> tuple[_Type, str]:
    how = _ENCODING.fullmatch(encoding) if encoding is not None else None
    if encoding is not None and (how is None or how[1].lower() not in _ENCODINGS):
        raise _Irregular
    return _type(content_type), how[1].lower() if how else "7bit"


def _type(value: str | None) -> _Type:
    if value is None:
        return _Type("text", "plain", None, b"")
    found = _TYPE.fullmatch(value)
    if not found:
        raise _Irregular
    told: dict[str, str] = {}
    for name, word in _PARAMETER.findall(found[3]):
        told.setdefault(name.lower(), word.strip('"'))
    charset = told.get("charset")
    boundary = told.get("boundary", "")
    if boundary != boundary.strip(" <"):
        raise _Irregular
    return _Type(
        found[1].lower(),
        found[2].lower(),
        charset.lower() if charset is not None else None,
        boundary.encode(),
    )
