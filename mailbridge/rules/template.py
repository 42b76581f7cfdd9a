"""What a rule says of a field: a template with what its patterns captured, a list, a constant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from mailbridge.rules.pattern import Groups, Pattern

MAX_TEMPLATE: Final = 500

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_BLANKS: Final = r"[\s,]+"

Told = str | int | list[str] | None
"""What a field holds before anything is cut; None: the mail does not tell."""


class BadTemplate(ValueError):
    """Raised for what is no template; its text is for who wrote it."""


class Template:
    """A text with `{group}` in it."""

    def __init__(self, text: str) -> None:
        """
        Read *text*, in which `{{` and `}}` stand for a brace.  Raises `BadTemplate`.

        >>> Template("{source}_{version}").told({"source": "hello", "version": "1"})
        'hello_1'
        """
        if len(text) > MAX_TEMPLATE:
            raise BadTemplate(f"{len(text)} characters, {MAX_TEMPLATE} are allowed")
        self._parts: Final = tuple(_parts(text))
        self.names: Final = tuple(name for is_name, name in self._parts if is_name)

    def told(self, groups: Groups) -> str | None:
        """Return the text with what *groups* captured; None if one of them took no part."""
        found = []
        for is_name, part in self._parts:
            text = groups.get(part) if is_name else part
            if text is None:
                return None
            found.append(text)
        return "".join(found)


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    end = 0
    for part in _PART.finditer(text):
        yield False, text[end : part.start()]
        end = part.end()
        if part[0] in ("{{", "}}"):
            yield False, part[0][0]
        elif part[1]:
            yield True, part[1]
        else:
            raise BadTemplate(f"{text[:80]!r}: '{{group}}' expected; a brace alone is '{{{{'")
    yield False, text[end:]


class Value:
    """What a rule says of one field."""

    def __init__(self, written: Any) -> None:  # noqa: ANN401 - whatever TOML holds
        """
        Read what a rule's author wrote: a text, a number, true or false, a list of texts, or
        `{split = "{files}", at = ","}`.  Raises `BadTemplate` or `BadPattern`.
        """
        self.constant: int | None = None
        """A number, or true or false."""
        self.templates: tuple[Template, ...] = ()
        self.splits: Pattern | None = None
        self.is_list = isinstance(written, list | dict)
        if isinstance(written, int):
            self.constant = written
        elif isinstance(written, str):
            self.templates = (Template(written),)
        elif isinstance(written, list) and all(isinstance(one, str) for one in written):
            self.templates = tuple(map(Template, written))
        elif isinstance(written, dict) and _is_split(written):
            self.templates = (Template(written["split"]),)
            self.splits = Pattern(written.get("at", _BLANKS))
        else:
            raise BadTemplate(
                "a text, a whole number, true or false, a list of texts,"
                ' or { split = "{group}", at = "pattern" } expected'
            )

    @property
    def names(self) -> Iterator[str]:
        """The groups that it asks for."""
        return (name for template in self.templates for name in template.names)

    def told(self, groups: Groups) -> Told:
        """Return what the field holds where *groups* were captured."""
        if self.constant is not None:
            return self.constant
        texts = [template.told(groups) for template in self.templates]
        if self.splits:
            return self.splits.pieces(texts[0]) if texts[0] is not None else None
        if self.is_list:
            return [text for text in texts if text]
        return texts[0]


def _is_split(written: dict[str, Any]) -> bool:
    return (
        "split" in written
        and written.keys() <= {"split", "at"}
        and all(isinstance(one, str) for one in written.values())
    )
