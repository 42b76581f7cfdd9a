"""Values of an event's data, which nobody vouches for, as short texts to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Data = Mapping[str, Any]

MANY: Final = 5
"""How many of a list are named before the rest is counted."""
WIDE: Final = 160
"""How much of somebody's free text stands in one line."""


def text_at(data: Data, key: str) -> str:
    """Return the string or number at *key*, as text; empty where there is none."""
    value = data.get(key)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def texts_at(data: Data, key: str) -> list[str]:
    """Return the strings and numbers of the list at *key*, as texts; or what stands there alone."""
    value = data.get(key)
    if value is True:
        return ["yes"]
    if isinstance(value, list):
        return [str(item) for item in value if isinstance(item, str | int) and item != ""]
    alone = text_at(data, key)
    return [alone] if alone else []


def rows_at(data: Data, key: str) -> list[Data]:
    """Return the objects in the list at *key*."""
    value = data.get(key)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def listed(texts: list[str], total: int = 0) -> str:
    """Return the first few of *texts*, and how many more there are of them, or of *total*."""
    shown = ", ".join(texts[:MANY])
    total = max(total, len(texts))
    return shown if total <= MANY else f"{shown} and {total - len(texts[:MANY])} more"


def first_line(text: str) -> str:
    """Return the first line of *text* that is not empty, cut."""
    return next((cut(line.strip()) for line in text.splitlines() if line.strip()), "")


def cut(text: str, limit: int = WIDE) -> str:
    """Return *text*, or its beginning and an ellipsis."""
    return text if len(text) <= limit else f"{text[:limit].rstrip()}…"
