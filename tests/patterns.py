"""
Every regular expression of the package, and the inputs that it could be slowest on.

The inputs come from the pattern itself: it is parsed, and each of its loops is fed, after what
leads to it, with whatever it and its neighbours take, and then with what none of them takes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import re._constants as codes  # type: ignore[import-not-found]  # typeshed has none of these
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple

import mailbridge

LENGTH: Final = 100_000
"""Of the worst inputs, in characters."""

METHODS: Final = frozenset(("match", "fullmatch", "search", "findall", "finditer", "split", "sub"))

_INPUTS: Final = 100
_MANY: Final = 16
"""A loop that may go round so often counts as one."""
_CATEGORIES: Final = {
    codes.CATEGORY_DIGIT: "1",
    codes.CATEGORY_NOT_DIGIT: "a",
    codes.CATEGORY_SPACE: " \n",
    codes.CATEGORY_NOT_SPACE: "a1",
    codes.CATEGORY_WORD: "a",
    codes.CATEGORY_NOT_WORD: "-",
}
_ANYTHING: Final = 'a -1"<(\n'
_NOTHING: Final = ("\0", "\n")
"""What may follow when a loop has eaten all it can."""


class Used(NamedTuple):
    """A pattern, where it stands, and how it is used there."""

    where: str
    pattern: re.Pattern[Any]
    methods: tuple[str, ...]


def used() -> list[Used]:
    """Return every pattern of the package: of its modules, and those made where they are used."""
    found: list[Used] = []
    for info in pkgutil.walk_packages(mailbridge.__path__, "mailbridge."):
        if info.name == "mailbridge.__main__":
            continue
        module = importlib.import_module(info.name)
        tree = ast.parse(inspect.getsource(module))
        by_name, by_others = _methods(tree)
        for name, pattern in _patterns(module):
            own = by_name.get(name.partition("[")[0], set()) or by_others
            methods = tuple(sorted(own or {"search"}))
            found.append(Used(f"{module.__name__}.{name}", pattern, methods))
        found += _made_in_place(module, tree)
    return found


def worst(pattern: re.Pattern[Any]) -> list[Any]:
    """Return what *pattern* could be slow on: `LENGTH` characters, or bytes, each."""
    is_text = isinstance(pattern.pattern, str)
    text = pattern.pattern if is_text else pattern.pattern.decode("latin-1")
    parsed = parser.parse(text, pattern.flags if is_text else pattern.flags & ~re.UNICODE)
    plans = [
        (before, piece, after)
        for before, pieces in _loops(parsed, "")
        for piece in sorted(pieces)
        for after in _NOTHING
    ]
    plans = list(dict.fromkeys(plans))
    # (Of very many, some from everywhere: a pattern that is slow is slow on many of them.)
    made = [
        before + piece * ((LENGTH - len(before)) // len(piece)) + after
        for before, piece, after in plans[:: len(plans) // _INPUTS + 1]
    ]
    return [one if is_text else one.encode("latin-1", "replace") for one in made]


# -- finding ---------------------------------------------------------------------------------------


def _patterns(module: ModuleType) -> Iterator[tuple[str, re.Pattern[Any]]]:
    for name, value in vars(module).items():
        yield from _inside(name, value, 3)


def _inside(name: str, value: object, depth: int) -> Iterator[tuple[str, re.Pattern[Any]]]:
    if isinstance(value, re.Pattern):
        yield name, value
    elif depth and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _inside(f"{name}[{key!r}]", inner, depth - 1)
    elif depth and isinstance(value, (tuple, list)):
        for number, inner in enumerate(value):
            yield from _inside(f"{name}[{number}]", inner, depth - 1)


def _methods(tree: ast.AST) -> tuple[dict[str, set[str]], set[str]]:
    """Return the methods called on each name in capitals, and those called on anything else."""
    named: dict[str, set[str]] = {}
    others: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            if isinstance(node.value, ast.Name) and node.value.id.isupper():
                named.setdefault(node.value.id, set()).add(node.attr)
            elif node.attr not in ("split", "sub") and ast.unparse(node.value) != "re":
                # (What is split elsewhere are strings.)
                others.add(node.attr)
    return named, others


def _made_in_place(module: ModuleType, tree: ast.AST) -> Iterator[Used]:
    """Yield the patterns given to `re.search` and the like, with a word for each that varies."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in METHODS
        ):
            where = f"{module.__name__}:{node.lineno}"
            flags = next((a for a in node.args[2:] if ast.unparse(a).startswith("re.")), None)
            text = _said(module, tree, node.args[0], where)
            pattern = re.compile(text, _flag(flags))
            yield Used(where, pattern, (node.func.attr,))


def _flag(node: ast.expr | None) -> re.RegexFlag:
    return re.RegexFlag[node.attr] if isinstance(node, ast.Attribute) else re.NOFLAG


def _said(module: ModuleType, tree: ast.AST, node: ast.expr, where: str) -> Any:
    match node:
        case ast.Constant(value=str() | bytes() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(
                str(part.value) if isinstance(part, ast.Constant) else "7" for part in values
            )
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _said(module, tree, left, where) + _said(module, tree, right, where)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr="escape")):
            return b"7"
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="format")):
            return getattr(module, name).format("7")
        case ast.Name(id=name):
            for given in ast.walk(tree):
                if isinstance(given, ast.Assign) and ast.unparse(given.targets[0]) == name:
                    return _said(module, tree, given.value, where)
    raise AssertionError(f"{where}: a pattern that this test cannot see: {ast.unparse(node)}")


# -- the worst input -------------------------------------------------------------------------------


def _loops(items: Any, before: str) -> Iterator[tuple[str, set[str]]]:
    """Yield, for each loop in *items*, a text that leads to it, and what to feed it with."""
    items = list(items)
    yield before, {before or "a", *_first(items)}
    for number, (code, argument) in enumerate(items):
        inside = _children(code, argument)
        if code in _REPEATS and argument[1] >= _MANY:
            (body,) = inside
            whole = _sample(body)
            after = _first(items[number + 1 :]) or {"a"}
            own = _first(list(body)) | {whole or "a"}
            mixed = {one + other for one in own for other in (*own, *after)}
            yield before, own | after | mixed
        for child in inside:
            yield from _loops(child, before)
        before += _sample([(code, argument)])


_REPEATS: Final = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)


def _children(code: Any, argument: Any) -> list[Any]:
    if code in _REPEATS:
        return [argument[2]]
    if code is codes.SUBPATTERN:
        return [argument[3]]
    if code is codes.ATOMIC_GROUP:
        return [argument]
    if code is codes.BRANCH:
        return list(argument[1])
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    return []


def _sample(items: Any) -> str:
    """Return a short text that *items* match."""
    found = ""
    for code, argument in items:
        if code is codes.LITERAL:
            found += chr(argument)
        elif code in (codes.NOT_LITERAL, codes.ANY, codes.IN):
            found += min(_first([(code, argument)]))
        elif code in _REPEATS:
            found += _sample(argument[2]) * max(argument[0], min(1, argument[1]))
        elif code is codes.BRANCH:
            found += _sample(argument[1][0])
        elif code in (codes.SUBPATTERN, codes.ATOMIC_GROUP):
            found += _sample(_children(code, argument)[0])
        elif code is codes.AT and argument in (codes.AT_BEGINNING, codes.AT_BEGINNING_LINE):
            found += "\n" if found else ""
    return found


def _first(items: Any) -> set[str]:
    """Return some of the characters that a text which *items* match can begin with."""
    found: set[str] = set()
    for code, argument in items:
        if code in _ONE_CHARACTER:
            return found | _one(code, argument)
        for child in _children(code, argument):
            if code not in (codes.ASSERT, codes.ASSERT_NOT):
                found |= _first(child)
        if _needs_a_character(code, argument):
            return found
    return found


_ONE_CHARACTER: Final = (codes.LITERAL, codes.NOT_LITERAL, codes.ANY, codes.IN)


def _one(code: Any, argument: Any) -> set[str]:
    if code is codes.LITERAL:
        return {chr(argument)}
    if code is codes.ANY:
        return set('a "')
    if code is codes.NOT_LITERAL:
        return {char for char in _ANYTHING if char != chr(argument)}
    return _of_class(argument)


def _needs_a_character(code: Any, argument: Any) -> bool:
    if code in _REPEATS and not argument[0]:
        return False
    children = _children(code, argument)
    return code is codes.BRANCH or any(child.getwidth()[0] for child in children)


def _of_class(items: Any) -> set[str]:
    found: set[str] = set()
    for code, argument in items:
        if code is codes.LITERAL:
            found.add(chr(argument))
        elif code is codes.RANGE:
            found |= {chr(argument[0])}
        elif code is codes.CATEGORY:
            found |= set(_CATEGORIES[argument])
    if items and items[0][0] is codes.NEGATE:
        return {c for c in _ANYTHING if c not in found and not _is_in(items[1:], c)} or {"~"}
    # Of a large class a few will do.
    return set(sorted(found)[:6]) | (set(sorted(found)[-2:]))


def _is_in(items: Any, char: str) -> bool:
    for code, argument in items:
        if code is codes.RANGE and argument[0] <= ord(char) <= argument[1]:
            return True
        if code is codes.CATEGORY:
            name = str(argument).lower()
            table = {"digit": char.isdigit(), "space": char.isspace(), "word": char.isalnum()}
            for word, holds in table.items():
                if name.endswith(word):
                    return holds != ("not" in name)
    return False
