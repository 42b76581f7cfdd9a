"""
Patterns that take linear time whatever they are shown: RE2's, from the extra `[rules]`.

Python's own `re` goes back and tries again: `(a+)+$` keeps it busy for hours over forty characters
that anybody can mail.  RE2 has nothing that would need that, no look-around and no back-reference,
and refuses both; so a rule's author cannot make the bridge hang, and neither can a mail.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from typing import Any, Final

MAX_PATTERN: Final = 1_000
"""Characters of one pattern."""
MAX_PROGRAM: Final = 4_000
"""Steps of one, once compiled: RE2's time is at most this by the length of what it looks at."""
_MEMORY: Final = 256 * 1024
"""Bytes that one may take; of states it remembers there are fewer then, and it is slower."""

_NAMED: Final = re.compile(r"\(\?P?<([^>]*)>")
_GROUP: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")

Groups = dict[str, str | None]
"""What named groups captured; None for one that took no part."""


class BadPattern(ValueError):
    """Raised for what is no pattern, or none of linear time; its text is for who wrote it."""


def is_there() -> bool:
    """Say whether the engine is installed."""
    return importlib.util.find_spec("re2") is not None


class Pattern:
    """One compiled pattern, and the names of its groups."""

    def __init__(self, text: str, *, lines: bool = False) -> None:
        r"""
        Compile *text*; with *lines* `^` and `$` stand for the ends of a line.

        Raises `BadPattern`.

        >>> Pattern(r"Installed (?P<source>\S+)").whole("Installed hello")
        {'source': 'hello'}
        """
        if len(text) > MAX_PATTERN:
            raise BadPattern(f"{len(text)} characters, {MAX_PATTERN} are allowed")
        names = _NAMED.findall(text)
        for name in names:
            if not _GROUP.fullmatch(name):
                raise BadPattern(f"{name[:60]!r}: a group's name is of a to z, 0 to 9 and '_'")
        if len(set(names)) < len(names):
            raise BadPattern("a group's name stands twice")
        # (There are no types for it.)
        engine: Any = importlib.import_module("re2")
        options = engine.Options()
        options.max_mem = _MEMORY
        options.log_errors = False
        try:
            self._compiled: Final = engine.compile(f"(?m){text}" if lines else text, options)
        except engine.error as error:
            # RE2 speaks bytes, and quotes what it was given.
            told = error.args[0] if error.args else ""
            words = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
            raise BadPattern(f"{words}{_hint(text)}") from error
        except UnicodeEncodeError:
            raise BadPattern("half of a character") from None
        if self._compiled.programsize > MAX_PROGRAM:
            raise BadPattern(f"it would take {self._compiled.programsize} steps, {MAX_PROGRAM} may")
        self.groups: Final = frozenset(names)

    def whole(self, text: str) -> Groups | None:
        """Return what the groups captured if all of *text* matches, else None."""
        return _groups(self._compiled.fullmatch, text)

    def inside(self, text: str) -> Groups | None:
        """Return what the groups captured where *text* matches first, or None."""
        return _groups(self._compiled.search, text)

    def pieces(self, text: str) -> list[str]:
        """Return what stands between the matches in *text*, empty pieces left out."""
        found = []
        end = 0
        for match in self._compiled.finditer(text):
            found.append(text[end : match.start()])
            end = match.end()
        return [piece for piece in (*found, text[end:]) if piece]


def _groups(matcher: Callable[[str], Any], text: str) -> Groups | None:
    match = matcher(text)
    return None if match is None else dict(match.groupdict())


def _hint(text: str) -> str:
    if re.search(r"\(\?<?[=!]", text):
        return "; look-around takes more than linear time"
    if re.search(r"\\[1-9]|\(\?P=", text):
        return "; a back-reference takes more than linear time"
    return ""
