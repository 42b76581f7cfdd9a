"""Our own code with a fault put in: a copy of the package, so that tests of it can be tested."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).parent.parent

Change = tuple[str, str]
"""What stands in a module, once, and what stands there instead."""


def patch(text: str) -> dict[str, tuple[Change, ...]]:
    """
    Return the changes that *text* tells as `diff -u` does: `--- module`, then its lines.

    Before each hunk stands a line `@@`, and no more than that.
    """
    changes: dict[str, tuple[Change, ...]] = {}
    for module in text.split("--- ")[1:]:
        name, _, hunks = module.partition("\n")
        changes[name] = tuple(
            (_side(hunk, " -"), _side(hunk, " +")) for hunk in hunks.split("@@\n")[1:]
        )
    return changes


def _side(hunk: str, marks: str) -> str:
    return "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in marks)


def mutant(directory: Path, changes: Mapping[str, tuple[Change, ...]]) -> Path:
    """
    Return a directory with a copy of the package in which *changes*, by module, are made.

    A process that is started in it runs the copy.  What is to be changed must be there exactly
    once: when code moves, the test that relies on it has to hear of it.
    """
    shutil.copytree(
        TREE / "mailbridge", directory / "mailbridge", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, pairs in changes.items():
        module = directory / "mailbridge" / name
        text = module.read_text()
        for before, after in pairs:
            assert text.count(before) == 1, f"{name}: {text.count(before)} times:\n{before}"
            text = text.replace(before, after)
        module.write_text(text)
    return directory
