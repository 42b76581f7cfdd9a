"""
A site's own kinds of mail: what its administrator wrote in TOML, for an archive nobody else runs.

They are asked about mail that no family of ours claims, and so can take over none of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mailbridge.kinds import Kind
from mailbridge.mail import Mail
from mailbridge.payloads import Payload

if TYPE_CHECKING:
    # Most sites have none, and need not load what reads them.
    from mailbridge.rules.rule import Rule

__all__ = ["NONE", "Rules", "load"]


class Rules:
    """All rules of a site."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: Final = tuple(rules)
        self.kinds: Final[tuple[Kind, ...]] = tuple(rule.kind for rule in self._rules)

    @property
    def own(self) -> dict[str, type[Payload]]:
        """The payloads of the tags that are the site's own, by tag."""
        found = (rule.tag.payload for rule in self._rules if rule.tag.declared is not None)
        return {payload.NAME: payload for payload in found}

    def misses(self, mail: Mail) -> dict[str, str]:
        """Return for each rule that does not claim *mail*, by its name, what does not match."""
        told = ((rule.name, rule.captured(mail)) for rule in self._rules)
        return {name: why for name, why in told if isinstance(why, str)}


NONE: Final = Rules()
"""A site without rules."""


def load(path: str) -> Rules:
    """
    Return the rules in *path*, a file or a directory; `NONE` where no path is given.

    Raises `ConfigError`.
    """
    if not path:
        return NONE
    from mailbridge.rules.file import read  # noqa: PLC0415 - see above

    return Rules(read(Path(path).expanduser()))
