"""The tag that a rule gives: one of ours, or one of the site's own with the fields it declares."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, cast, get_args, get_origin

import msgspec

from mailbridge.errors import MalformedMail
from mailbridge.event import NAMESPACE
from mailbridge.payloads import CHANGES, REASON, Clip, Common, Payload, address
from mailbridge.rules.template import Told

MAX_TAG: Final = 100
MAX_FIELDS: Final = 50

Form = Literal["line", "text", "int", "bool", "lines", "ints", "choice"]

_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)+")
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_URL: Final = re.compile(r"https?://[!#-;=?-~]+")
_NUMBER: Final = re.compile(r"#?([0-9]{1,15})")
_TEXTS: Final = {"changes": CHANGES, "reason": REASON}
"""The only fields of ours that may have several lines."""

_FREE_TEXT: Final = Annotated[str, msgspec.Meta(description="Free text, maybe of several lines.")]
_TYPES: Final[dict[str, tuple[Form, Any]]] = {
    "str": ("line", str),
    "text": ("text", _FREE_TEXT),
    "int": ("int", int),
    "bool": ("bool", bool),
    "list": ("lines", list[str]),
    "ints": ("ints", list[int]),
}
"""What a declared field can be."""

# Mirk, a consumer of Laniakea's, styles these whatever the tag, and stumbles over other types.
_STYLED: Final = {
    **dict.fromkeys(("version", "version_new", "version_old"), "str"),
    **dict.fromkeys(("version_src", "version_dest", "architecture", "job_architecture"), "str"),
    "architectures": "list",
}
_COMMON: Final = frozenset(
    [*(f.name for f in msgspec.structs.fields(Common)), *("mail_source", "tag", "url", "truncated")]
)


class BadTag(ValueError):
    """Raised for a tag or a field that cannot be; its text is for who wrote it."""


class Field(NamedTuple):
    """One field of a payload that a rule can fill."""

    name: str
    form: Form
    required: bool
    choices: tuple[str, ...] = ()
    limit: int = 0
    """Characters of a text."""


class Tag(NamedTuple):
    """A payload and what a rule can say in it."""

    payload: type[Payload]
    fields: Mapping[str, Field]
    declared: Mapping[str, str] | None = None
    """What the site wrote; None for a tag of ours."""


def ours(payload: type[Payload]) -> Tag:
    """Return a tag of ours; what no rule can tell, as checksums, is not among its fields."""
    fields = {}
    for told in msgspec.structs.fields(payload):
        field = _field(told.name, told.type, required=told.required)
        if field and told.name != "truncated":
            fields[told.name] = field
    return Tag(payload, fields)


def own(name: str, declared: Mapping[str, str], summary: str) -> Tag:
    """
    Return a tag of the site's own: *name*, whole, and the type of each field as *declared*.

    Raises `BadTag`.

    >>> own("org.example.installed", {"package": "str", "count": "int?"}, "").payload.NAME
    'org.example.installed'
    """
    if len(name) > MAX_TAG or not _TAG.fullmatch(name):
        raise BadTag(f"{name[:120]!r}: dotted words of letters, digits, '_' and '-' expected")
    if len(declared) > MAX_FIELDS:
        raise BadTag(f"fields: {len(declared)} of them, {MAX_FIELDS} are allowed")
    fields: dict[str, Field] = {}
    members: list[Any] = []
    for key, written in declared.items():
        plain = written.removesuffix("?")
        if not _FIELD.fullmatch(key):
            raise BadTag(f"fields.{key[:60]}: a name is of a to z, 0 to 9 and '_'")
        if key in _COMMON:
            raise BadTag(f"fields.{key}: the bridge says that itself; take another name")
        if plain not in _TYPES:
            raise BadTag(
                f"fields.{key}: {written[:60]!r}: one of {', '.join(map(repr, _TYPES))},"
                " with '?' behind it where it may be missing"
            )
        if plain != _STYLED.get(key, plain):
            raise BadTag(f"fields.{key}: must be {_STYLED[key]!r}: consumers rely on it")
        form, kind = _TYPES[plain]
        required = plain == written
        fields[key] = Field(key, form, required, limit=REASON if form == "text" else 0)
        members.append((key, kind) if required else (key, kind | None, None))
    payload = msgspec.defstruct(
        "Own",
        members,
        bases=(Payload,),
        namespace={"NAME": name, "DEFAULT": "on", "__doc__": summary},
        frozen=True,
        kw_only=True,
        omit_defaults=True,
    )
    fields["url"] = Field("url", "line", required=False)
    # (`bases` makes it one, which its type does not tell.)
    return Tag(cast("type[Payload]", payload), fields, dict(declared))


def is_own(name: str) -> bool:
    """Say whether *name* is a site's own tag: ours have no dot, but for our namespace."""
    return "." in name.removeprefix(f"{NAMESPACE}.")


def filled(field: Field, told: Told, clip: Clip) -> Any:  # noqa: ANN401 - JSON
    """
    Return what *told* is in an event's data, cleaned and cut; None where the field is left out.

    Raises `MalformedMail` where it cannot be that.
    """
    if told is None:
        return None
    if field.form in ("lines", "ints"):
        texts = [str(one) for one in (told if isinstance(told, list) else [told])]
        if field.form == "lines":
            return clip.words(texts)
        return clip.items([_number(field, text) for text in texts])
    if isinstance(told, list):
        raise MalformedMail(f"{field.name}: a list, and one value expected")
    if field.form == "bool":
        if not isinstance(told, bool):
            raise MalformedMail(f"{field.name}: true or false expected")
        return told
    if field.form == "int":
        return told if isinstance(told, int) else _number(field, told)
    return _text(field, str(told), clip)


def _text(field: Field, text: str, clip: Clip) -> str | None:
    told = clip.text(text, field.limit) if field.form == "text" else clip.line(text)
    if field.form == "choice" and told not in field.choices:
        raise MalformedMail(f"{field.name}: {told[:60]!r}: one of {', '.join(field.choices)}")
    # (What somebody clicks on, or answers to, is what it seems to be, or is not there.)
    if field.name.endswith("url") and not _URL.fullmatch(told):
        told = ""
    if field.name.endswith("_email"):
        told = address(told) or ""
    return told if told or field.required else None


def _number(field: Field, text: str) -> int:
    found = _NUMBER.fullmatch(text.strip())
    if not found:
        raise MalformedMail(f"{field.name}: {text.strip()[:60]!r}: a number expected")
    return int(found[1])


def _field(name: str, kind: Any, *, required: bool) -> Field | None:  # noqa: ANN401 - a type
    kinds = [one for one in _members(kind) if one is not type(None)]
    if len(kinds) != 1:
        return None
    (only,) = kinds
    if only is str:
        limit = _TEXTS.get(name, 0)
        return Field(name, "text" if limit else "line", required, limit=limit)
    if get_origin(only) is Literal:
        return Field(name, "choice", required, choices=get_args(only))
    forms: dict[Any, Form] = {bool: "bool", int: "int", list[str]: "lines", list[int]: "ints"}
    return Field(name, forms[only], required) if only in forms else None


def _members(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a type
    is_union = get_origin(kind) in (Union, types.UnionType)
    return get_args(kind) if is_union else (kind,)
