"""
Events: their canonical bytes, their identity, and the reading of strangers' bytes as events.

The form is wire.md's: Laniakea's message stream, with a `feed` of ours inside the signed part.
Pure functions and values; no clock, no I/O.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mailbridge.errors import MalformedEvent, NotCanonical

FORMAT: Final = "1.0"
_MINOR: Final = re.compile(r"1\.[0-9]{1,4}")
"""Version of Laniakea's event format that we write and read."""

NAMESPACE: Final = "_lk.mailbridge"
"""Where our tags live: `_lk` is the domain Laniakea reserves for its modules, the rest is ours."""

TEST_NAMESPACE: Final = "_lk.mailbridge-test"
"""Where made-up mail goes, so that generated uploads on a shared bus fool nobody."""

LANIAKEA_ARCHIVE: Final = "_lk.archive"
"""Where Laniakea's own events about uploads, builds and packages live."""

MAX_EVENT_BYTES: Final = 256 * 1024
"""An event of ours is at most this large, checked before it is numbered."""

MAX_FRAME_BYTES: Final = 1024 * 1024
"""What a relay takes or gives in one frame."""

# Frozen: changing it, or the recipe of `event_uuid`, would double the world.
_IDENTITY: Final = uuid.UUID("7a9d2c86-4b53-5e0f-9a41-6d61696c6272")

_TAG: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_HASH: Final = re.compile(r"[A-Za-z0-9+/]{43}")

_UNSIGNED: Final = frozenset(("signatures", "unsigned"))

# Matrix allows no integer beyond 2^53 - 1: JavaScript could not read it back.
_MAX_INT: Final = 2**53 - 1


def canonical(value: object) -> bytes:
    """
    Return *value* as Matrix's canonical JSON: sorted keys, no blanks, UTF-8 (wire.md, Signing).

    Finite floats are written as Python writes them, because Laniakea's own clients may send some;
    no event of ours has any.  Raises `NotCanonical` where no such bytes exist.

    >>> canonical({"b": 1, "a": ["ä"]}).decode()
    '{"a":["ä"],"b":1}'
    """
    try:
        # (Three times as fast.  What comes back otherwise, a float or what no JSON has, it may
        # write in another way.)
        quick = _SORTED.encode(value)
        if _PLAIN.decode(quick) == value:
            return quick
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        # (What is wrong with it is told below.)
        pass
    try:
        text = json.dumps(
            value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotCanonical(f"no canonical JSON: {error}") from error


def size(value: object) -> int:
    """
    Return how many bytes `canonical` gives of *value*, which holds no floats, give or take a few.

    Raises `NotCanonical` as that does.
    """
    try:
        return len(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return len(canonical(value))


def digest(preimage: bytes) -> str:
    """Return sha256 of *preimage* as unpadded base64: an event's hash, everywhere."""
    # (32 bytes: one `=` at the end.)
    told = binascii.b2a_base64(hashlib.sha256(preimage).digest(), newline=False)
    return told[:-1].decode()


def event_uuid(archive: str, name: str, identity: Mapping[str, object]) -> str:
    """
    Return the uuid of the event *name* of *archive* that says *identity* (design.md, Identity).

    UUIDv5 over the canonical JSON of `[archive, name, identity]`; `None` values are left out, so
    that a fact nobody told and a fact not asked for are the same.  Frozen by golden vectors.
    """
    told = {key: value for key, value in identity.items() if value is not None}
    named = canonical([archive, name, told])
    return _uuid5(named)


def _uuid5(name: bytes) -> str:
    """Return `uuid.uuid5` of our namespace and *name* (RFC 9562, 5.5), without its detours."""
    told = hashlib.sha1(_IDENTITY.bytes + name, usedforsecurity=False).digest()
    version, variant = told[6] & 0x0F | 0x50, told[8] & 0x3F | 0x80
    digits = (told[:6] + bytes((version, told[7], variant)) + told[9:16]).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def preimage(fields: Mapping[str, object]) -> bytes:
    """Return the bytes that signatures cover: the event without `signatures` and `unsigned`."""
    return canonical({key: value for key, value in fields.items() if key not in _UNSIGNED})


class FeedLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event's place in its source's feed (wire.md, The feed)."""

    id: str
    """`<entity>/<epoch>`."""
    seq: int
    """Counts all events of the feed, from 1."""
    prev: str | None
    """Hash of the event before; None for the very first."""
    tag_seq: int
    """Counts the events of the feed with this tag, from 1."""

    @property
    def entity(self) -> str:
        """Who writes this feed."""
        return self.id.partition("/")[0]

    @property
    def epoch(self) -> str:
        """Which life of the source's outbox this is."""
        return self.id.partition("/")[2]


class Redaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What stands in an event's place whose bytes were taken away: everything but what it said.

    `data` is empty then, and the signature is over these bytes.  Its number, link and hash stay, so
    that the feed still proves to be whole: the event behind it names that hash.
    """

    hash: str
    """Of the event as it was."""
    time: str
    """When it was taken away: ISO 8601, UTC."""
    reason: str = ""


class SignedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it travels: what it says, and the very bytes that say it.  Nobody vouched yet."""

    raw: bytes
    preimage: bytes
    hash: str
    tag: str
    uuid: str
    time: str
    data: dict[str, Any]
    signatures: dict[str, dict[str, str]]
    origin: str | None = None
    author: str | None = None
    feed: FeedLink | None = None
    redacted: Redaction | None = None
    """What it said is not told any more; `hash` is that of the event as it was."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tag} {self.uuid})"


class VerifiedEvent(SignedEvent, frozen=True, kw_only=True):
    """An event that `signing.verify`, and nothing else, vouches for; sinks take no other."""


class _Wire(msgspec.Struct, kw_only=True):
    """What must be there, by type.  `id` and `tag` are one string; Lighthouse needs `tag`."""

    tag: str
    uuid: str
    format: str
    time: str
    data: dict[str, Any]
    signatures: dict[str, dict[str, str]]
    id: str | None = None
    origin: str | None = None
    author: str | None = None
    feed: FeedLink | None = None
    redacted: Redaction | None = None


def parse_json(raw: bytes, *, limit: int = MAX_FRAME_BYTES) -> dict[str, Any]:
    """
    Return the JSON object in *raw*; a stranger may have written it.

    Raises `MalformedEvent` for what is too large, too deep, no UTF-8 (a lone surrogate is not) or
    no object, and for doubled keys, NaN and integers beyond 2^53: two readers could understand
    such bytes differently.
    """
    if len(raw) > limit:
        raise MalformedEvent(f"{len(raw)} bytes, more than the {limit} allowed")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_no_doubled_keys,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite,
        )
    except MalformedEvent:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedEvent(f"no JSON: {error}") from error
    if b"\\u" in raw:
        # Half a surrogate pair can be written in JSON only so, and in UTF-8 not at all.
        _told_in_utf8(value)
    if not isinstance(value, dict):
        raise MalformedEvent(f"JSON object expected, got {type(value).__name__}")
    return value


def read_event(raw: bytes, *, limit: int = MAX_FRAME_BYTES) -> SignedEvent:
    """
    Return the event in *raw*, unverified.

    Raises `MalformedEvent` where a field that wire.md requires is missing or has another type.
    """
    fields = _canonical_object(raw) if len(raw) <= limit else None
    quick = fields is not None
    if fields is None:
        fields = parse_json(raw, limit=limit)
    try:
        wire = msgspec.convert(fields, _Wire)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"no event: {error}") from error
    if wire.id is not None and wire.id != wire.tag:
        raise MalformedEvent(f"no event: id {wire.id[:80]!r} and tag {wire.tag[:80]!r} differ")
    if wire.format != FORMAT and not _MINOR.fullmatch(wire.format):
        # (A later 1.x may only add: what it adds is signed with the rest, and handed on.)
        raise MalformedEvent(f"no event: format {wire.format[:20]!r}, expected {FORMAT!r}")
    if not is_tag(wire.tag):
        raise MalformedEvent(f"no event: {wire.tag[:80]!r} is no tag")
    if not _UUID.fullmatch(wire.uuid):
        raise MalformedEvent(f"no event: {wire.uuid[:60]!r} is no uuid")
    gone = wire.redacted
    if gone and (wire.data or wire.origin or wire.author or not _HASH.fullmatch(gone.hash)):
        raise MalformedEvent("no event: redacted, it tells something all the same, or no hash")
    try:
        signed = _cut_out(raw, fields) if quick else preimage(fields)
    except NotCanonical as error:
        raise MalformedEvent(f"no event: {error}") from error
    return SignedEvent(
        raw=raw,
        preimage=signed,
        hash=gone.hash if gone else digest(signed),
        tag=wire.tag,
        uuid=wire.uuid,
        time=wire.time,
        data=wire.data,
        signatures=wire.signatures,
        origin=wire.origin,
        author=wire.author,
        feed=wire.feed,
        redacted=gone,
    )


def is_redacted(raw: bytes) -> bool:
    """Say whether *raw* stands in the place of an event that was taken away."""
    # (As a string in an event's data its quotes were written otherwise.)
    return b'"redacted":{' in raw and read_event(raw).redacted is not None


def redacted(event: SignedEvent, *, reason: str, time: str) -> dict[str, Any]:
    """Return the fields, unsigned yet, that stand in the place of *event* from *time* on."""
    fields = {
        "id": event.tag,
        "tag": event.tag,
        "uuid": event.uuid,
        "format": FORMAT,
        "time": event.time,
        "data": {},
        "redacted": {"hash": event.hash, "time": time, "reason": reason},
    }
    if event.feed:
        fields["feed"] = msgspec.to_builtins(event.feed)
    return fields


def hash_of(raw: bytes) -> str:
    """
    Return the hash of the event in *raw*, canonical JSON as we store it, without reading it.

    Raises `MalformedEvent` for what is no JSON object.
    """
    try:
        parts = _PARTS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"no event: {error}") from error
    return digest(_quick_preimage(parts))


def is_tag(text: str) -> bool:
    """
    Say whether *text* can be a tag: dotted words of letters, digits, `_` and `-`.

    >>> is_tag("_lk.mailbridge.bug-closed"), is_tag("a b"), is_tag("")
    (True, False, False)
    """
    # (A subscription is no longer.)
    return len(text) <= 200 and _TAG.fullmatch(text) is not None  # noqa: PLR2004


def whole_tag(name: str, namespace: str) -> str:
    """
    Return the tag of the event *name* of a bridge that emits under *namespace*.

    A site's own tag has dots and stands for itself; what is made up goes nowhere else, though.

    >>> whole_tag("bug-closed", "_lk.mailbridge"), whole_tag("org.example.x", "_lk.mailbridge")
    ('_lk.mailbridge.bug-closed', 'org.example.x')
    """
    return name if "." in name and namespace != TEST_NAMESPACE else f"{namespace}.{name}"


def _canonical_object(raw: bytes) -> dict[str, Any] | None:
    """
    Return the object in *raw* if it is canonical JSON of the plain kind, as our own events are.

    None is no verdict: then `parse_json` has to look.  What comes out again as the same bytes has
    no doubled key and no NaN; floats and large integers, which may be written in several ways, are
    not looked at here.  Three quarters of the time that reading an event takes are saved by it.
    """
    try:
        value = _PLAIN.decode(raw)
        if _SORTED.encode(value) != raw:
            return None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    # (A search for digits in a row would take as long as all else here; so it comes second.)
    if _ROW in raw.translate(_ROWS) and _LARGE.search(raw):
        return None
    return value if isinstance(value, dict) else None


def _cut_out(raw: bytes, fields: Mapping[str, object]) -> bytes:
    """Return the preimage of *raw*, canonical bytes of *fields*; most need not be written anew."""
    if "unsigned" not in fields:
        # (Behind it stands `tag`, so a comma.  What reads like it may stand in what is told, too.)
        part = b'"signatures":' + _SORTED.encode(fields["signatures"]) + b","
        if raw.count(part) == 1:
            return raw.replace(part, b"")
    return _quick_preimage(fields)


def _quick_preimage(fields: Mapping[str, object]) -> bytes:
    return _SORTED.encode({key: value for key, value in fields.items() if key not in _UNSIGNED})


def _told_in_utf8(value: object) -> None:
    try:
        canonical(value)
    except NotCanonical as error:
        raise MalformedEvent(f"no JSON of ours: {error}") from error


def _no_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise MalformedEvent("no JSON object: a key stands twice")
    return fields


def _no_constant(name: str) -> object:
    raise MalformedEvent(f"no JSON: {name}")


def _bounded_int(text: str) -> int:
    # The length first: int() of a million digits takes its time.
    if len(text) > 17 or abs(int(text)) > _MAX_INT:  # noqa: PLR2004 - "-" and sixteen digits
        raise MalformedEvent("no JSON of ours: an integer beyond 2^53")
    return int(text)


def _no_float(text: str) -> object:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise MalformedEvent("no JSON of ours: a number beyond all bounds")
    return value


_PLAIN: Final = msgspec.json.Decoder(float_hook=_no_float)
_PARTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SORTED: Final = msgspec.json.Encoder(order="sorted")
_LARGE: Final = re.compile(rb"[-:,\[][0-9]{16}")
_ROW: Final = b"0" * 16
_ROWS: Final = bytes(0x30 if byte in b"0123456789" else 0x20 for byte in range(256))
