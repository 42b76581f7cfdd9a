"""
Rule files: TOML as `Rule`s (README.md, A mail of your own).

Every error names the file, the rule, the key and, for a word we do not know, the nearest we do.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mailbridge.errors import ConfigError
from mailbridge.event import NAMESPACE
from mailbridge.kinds import kinds, payloads
from mailbridge.rules import tags
from mailbridge.rules.pattern import BadPattern, Pattern, is_there
from mailbridge.rules.rule import IN_CHANGES, MAX_LINES, UPLOADS, Rule
from mailbridge.rules.tags import BadTag, Tag
from mailbridge.rules.template import BadTemplate, Template, Value

MAX_RULES: Final = 100
MAX_PATTERNS: Final = 10
"""That a mail must match, of one rule."""
MAX_ALL: Final = 300
"""Patterns of all rules: what bounds the memory, 75 MB, and the time that they can take."""
MAX_FILE: Final = 256 * 1024
MAX_FILES: Final = 100

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_HEADER: Final = re.compile(r"[!-9;-~]{1,76}")
_MAX_INT: Final = 2**53 - 1

_T = TypeVar("_T")
_R = TypeVar("_R")


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    patterns: tuple[str, ...]
    lines: int = 100


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as it stands in its file."""

    name: str
    tag: str
    headers: dict[str, str]
    body: _Body | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    fields: dict[str, str] | None = None
    identity: tuple[str, ...] | None = None
    from_changes: bool = False
    archive: str | None = None
    author: str | None = None
    summary: str = ""


class _Wrong(ValueError):
    """What is wrong with a rule, for who wrote it: key and mend."""


def read(path: Path) -> tuple[Rule, ...]:
    """
    Return the rules in *path*, a file or a directory of `*.toml`, by name.

    Raises `ConfigError`, as somebody has to mend a rule, or to install the engine.
    """
    rules: dict[str, Rule] = {}
    patterns = 0
    declared: dict[str, tuple[Tag, str]] = {}
    for file in _files(path):
        for where, written in _written(file):
            if len(rules) == MAX_RULES:
                raise ConfigError(f"{where}: more than {MAX_RULES} rules")
            try:
                rule = _rule(written, str(file), declared)
            except _Wrong as error:
                raise ConfigError(f"{where}: {error}") from error
            if other := rules.get(rule.name):
                raise ConfigError(f"{where}: stands in {other.where}, too; each needs its own name")
            rules[rule.name] = rule
            patterns += rule.patterns
            if patterns > MAX_ALL:
                raise ConfigError(f"{where}: more than {MAX_ALL} patterns in all rules together")
    return tuple(rules[name] for name in sorted(rules))


def _files(path: Path) -> list[Path]:
    try:
        found = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    except OSError as error:
        raise ConfigError(f"rules: {path}: cannot be read: {error.strerror}") from error
    if len(found) > MAX_FILES:
        raise ConfigError(f"rules: {path}: {len(found)} files, {MAX_FILES} are allowed")
    if found and not is_there():
        raise ConfigError(
            f"rules: {path}: nobody here can match them in linear time; install mailbridge[rules]"
        )
    return found


def _written(path: Path) -> Iterator[tuple[str, _Written]]:
    """Yield each rule of a file, and how to name it in an error."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise ConfigError(f"{path}: more than {MAX_FILE} bytes")
        tree = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no TOML: {error}") from error
    if "rule" not in tree:
        # One rule is the whole file, and needs no other name.
        tree = {"rule": [{"name": path.stem} | tree]}
    if extra := tree.keys() - {"rule"}:
        raise ConfigError(f"{path}: {min(extra)}: stands beside [[rule]]; put it into one")
    entries = tree["rule"] if isinstance(tree["rule"], list) else [tree["rule"]]
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"{path}: rule {name!r}" if isinstance(name, str) else f"{path}: rule {number}"
        try:
            yield where, msgspec.convert(entry, _Written)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {_explained(str(error))}") from error


def _rule(written: _Written, where: str, declared: dict[str, tuple[Tag, str]]) -> Rule:
    if not _NAME.fullmatch(written.name):
        raise _Wrong("name: up to 60 of a to z, 0 to 9 and '-' expected")
    if written.name in {word for kind in kinds() for word in (kind.name, kind.family.value)}:
        raise _Wrong("name: that is one of ours; take another")
    tag = _tag(written, declared)
    headers = _headers(written.headers)
    body, lines = _body(written.body)
    patterns = [*headers.items(), *((f"body pattern {n}", p) for n, p in enumerate(body, 1))]
    if len(patterns) > MAX_PATTERNS:
        raise _Wrong(f"{len(patterns)} patterns, {MAX_PATTERNS} are allowed")
    groups = _groups(patterns)
    data = {
        key: _value(key, value, tag, groups, from_changes=written.from_changes)
        for key, value in written.data.items()
    }
    author = _at("author", Template, written.author) if written.author is not None else None
    if author:
        _are_groups("author", author.names, groups)
    rule = Rule(
        name=written.name,
        where=where,
        summary=written.summary or f"Mail that {written.name} recognises.",
        tag=tag,
        headers=headers,
        body=body,
        lines=lines,
        data=data,
        author=author,
        identity=written.identity,
        archive=written.archive,
        from_changes=written.from_changes,
    )
    _check_whole(rule)
    return rule


def _headers(written: Mapping[str, str]) -> dict[str, Pattern]:
    if not written:
        raise _Wrong("headers: needs at least one; a text alone may be anybody's quotation")
    for name in written:
        if not _HEADER.fullmatch(name):
            raise _Wrong(f"headers: {name[:60]!r} is no header's name")
    if len({name.lower() for name in written}) < len(written):
        raise _Wrong("headers: one stands twice")
    return {name: _at(f"headers.{name}", Pattern, text) for name, text in written.items()}


def _body(written: _Body | None) -> tuple[tuple[Pattern, ...], int]:
    if written is None:
        return (), MAX_LINES
    if not 0 < written.lines <= MAX_LINES:
        raise _Wrong(f"body.lines: 1 to {MAX_LINES} expected")
    found = [
        _at(f"body.patterns: number {number}", partial(Pattern, lines=True), text)
        for number, text in enumerate(written.patterns, 1)
    ]
    return tuple(found), written.lines


def _groups(patterns: Iterable[tuple[str, Pattern]]) -> list[str]:
    found: dict[str, str] = {}
    for where, pattern in patterns:
        for group in sorted(pattern.groups):
            if group in found:
                raise _Wrong(f"the group {group!r} stands in {found[group]} and in {where}")
            found[group] = where
    return sorted(found)


# -- the tag ---------------------------------------------------------------------------------------


def _tag(written: _Written, declared: dict[str, tuple[Tag, str]]) -> Tag:
    if not tags.is_own(written.tag):
        known = payloads()
        name = written.tag.removeprefix(f"{NAMESPACE}.")
        if name not in known:
            hint = "or one of your own, as 'org.example.installed'"
            raise _Wrong(f"tag: {name[:80]!r} is not known; {_nearest(name, known)}; {hint}")
        if written.fields is not None:
            raise _Wrong(f"fields: {name!r} is a tag of ours and has its own")
        return tags.ours(known[name])
    if written.tag.startswith("_lk."):
        raise _Wrong(f"tag: {written.tag[:80]!r} is Laniakea's; take your own, as 'org.example.x'")
    if earlier := declared.get(written.tag):
        tag, where = earlier
        if written.fields not in (None, tag.declared):
            raise _Wrong(f"fields: rule {where!r} gives this tag others; leave them out here")
        return tag
    if not written.fields:
        raise _Wrong(f"fields: {written.tag[:80]!r} is your own tag: it needs its fields and types")
    tag = _at("", lambda name: tags.own(name, written.fields or {}, written.summary), written.tag)
    declared[written.tag] = tag, written.name
    return tag


# -- the data --------------------------------------------------------------------------------------


def _value(
    key: str,
    written: Any,  # noqa: ANN401 - whatever TOML holds
    tag: Tag,
    groups: list[str],
    *,
    from_changes: bool,
) -> Value:
    where = f"data.{key}"
    field = tag.fields.get(key)
    if field is None:
        has = {told.name for told in msgspec.structs.fields(tag.payload)}
        if key in has:
            raise _Wrong(f"{where}: is no text, number or list of them: no rule can tell it")
        raise _Wrong(f"{where}: no field of {tag.payload.NAME}; {_nearest(key, tag.fields)}")
    if from_changes and key in IN_CHANGES:
        raise _Wrong(f"{where}: the .changes tells it: with from_changes nothing else may")
    value = _at(where, Value, written)
    _are_groups(where, value.names, groups)
    constant = value.constant
    if isinstance(constant, bool) is not (field.form == "bool"):
        raise _Wrong(
            f"{where}: true or false {'expected' if field.form == 'bool' else 'is no value'}"
        )
    if constant is not None and field.form not in ("bool", "int"):
        raise _Wrong(f"{where}: a text{' or a list' if field.form != 'line' else ''} expected")
    if constant is not None and abs(constant) > _MAX_INT:
        raise _Wrong(f"{where}: an integer beyond 2^53")
    if value.is_list and field.form not in ("lines", "ints"):
        raise _Wrong(f"{where}: one value expected, no list")
    return value


def _check_whole(rule: Rule) -> None:
    """Return if *rule* can make an event, and not the same of every mail; else raise `_Wrong`."""
    tag = rule.tag
    if rule.from_changes:
        if tag.payload not in UPLOADS:
            known = ", ".join(payload.NAME for payload in UPLOADS)
            raise _Wrong(f"from_changes: a .changes tells of uploads alone; tag must be of {known}")
        if rule.identity is not None or rule.author is not None:
            raise _Wrong("from_changes: the .changes tells identity and author, leave them out")
    given = {*rule.data, *(_FROM_CHANGES if rule.from_changes else ())}
    if tag.declared is None:
        given.add("repo")
    missing = sorted(f.name for f in tag.fields.values() if f.required and f.name not in given)
    if missing:
        raise _Wrong(f"data: {tag.payload.NAME} needs {', '.join(missing)}, too")
    if rule.from_changes:
        return
    names = rule.identity if rule.identity is not None else tuple(rule.data)
    for name in names:
        if name not in rule.data:
            raise _Wrong(f"identity: {name[:60]!r} is not in data; {_nearest(name, rule.data)}")
    if not any(any(True for _ in rule.data[name].names) for name in names):
        raise _Wrong("identity: nothing in it is of the mail: all mails would be one event")


_FROM_CHANGES: Final = {
    *IN_CHANGES,
    *("repo", "upload_name", "is_new", "suite", "suites", "suite_guessed", "policy_suites"),
}


# -- errors ----------------------------------------------------------------------------------------


def _at(key: str, make: Callable[[_T], _R], written: _T) -> _R:
    try:
        return make(written)
    except (BadPattern, BadTemplate, BadTag) as error:
        raise _Wrong(f"{key}: {error}" if key else str(error)) from error


def _are_groups(key: str, names: Iterable[str], groups: list[str]) -> None:
    for name in names:
        if name not in groups:
            raise _Wrong(f"{key}: no group {name[:60]!r} in the patterns; {_nearest(name, groups)}")


def _nearest(word: str, known: Iterable[str]) -> str:
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(words)}" if words else "there is none"


_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]*)`")
_MISSING: Final = re.compile(r"Object missing required field `([^`]*)`")
_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`")


def _explained(text: str) -> str:
    """Return msgspec's *text* in words for whoever wrote the rule."""
    place = _PLACE.search(text)
    key = place[1] if place else ""
    told = _PLACE.sub("", text)
    kind = _Body if key == "body" else _Written
    if unknown := _UNKNOWN.match(told):
        words = [field.name for field in msgspec.structs.fields(kind)]
        whole = f"{key}.{unknown[1]}".lstrip(".")
        return f"{whole}: no such key; {_nearest(unknown[1], words)}"
    if missing := _MISSING.match(told):
        return f"{f'{key}.{missing[1]}'.lstrip('.')}: is missing"
    return f"{key or 'rule'}: {told[:1].lower()}{told[1:]}"
