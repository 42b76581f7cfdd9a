"""What tells one upload from another, for whoever reads mails of it."""

from __future__ import annotations

from typing import NamedTuple


class Upload(NamedTuple):
    """What tells an upload apart for whoever reads mails of it; an empty string is not known."""

    repo: str
    name: str
    """The .changes file's name, without `.changes`."""
    suite: str
    source: str
    version: str
