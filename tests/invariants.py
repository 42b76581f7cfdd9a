"""What must hold of every mail's outcome, whatever the mail; for properties and for fuzzing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from mailbridge.bridge.compose import Examined
from mailbridge.event import MAX_EVENT_BYTES, canonical, is_tag
from mailbridge.payloads import CHANGES, ITEMS

# Every control character, half a surrogate pair, and what turns the direction of text.
NO_TERMINAL_S: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)
"""What nobody's terminal or log is ever shown."""
CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What is in no string of an event."""


def is_sound(found: Examined) -> None:
    """Raise `AssertionError` unless *found* is an outcome that may be."""
    assert found.outcome in ("events", "ignored", "quarantined")
    assert found.code != "bug", found.reason
    assert bool(found.reason) == bool(found.code) == (found.outcome != "events"), found
    assert found.message_id
    if found.outcome == "events":
        assert found.emitted
        assert found.kind
    for event in found.events:
        said = canonical([event.tag, event.author, event.data])
        assert len(said) <= MAX_EVENT_BYTES
        assert is_tag(event.tag)
        for text in strings([event.author, event.data]):
            assert len(text) <= CHANGES
            assert not CONTROLS.search(text), text
        for items in lists(event.data):
            assert len(items) <= ITEMS


def strings(value: Any) -> Iterator[str]:
    """Yield every string in *value*, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def lists(value: Any) -> Iterator[list[Any]]:
    """Yield every list in *value*."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from lists(inner)
    elif isinstance(value, list):
        yield value
        for inner in value:
            yield from lists(inner)
