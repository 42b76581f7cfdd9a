"""README.md is true: its help, its commands, its configuration, its recipes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from mailbridge import config, rules
from mailbridge.cli import _commands as commands
from tests.test_mta import RECIPES

TREE: Final = Path(__file__).parent.parent
README: Final = (TREE / "README.md").read_text(encoding="utf-8")

BLOCK: Final = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
BLOCKS: Final = [(language, text) for language, text in BLOCK.findall(README)]

SHOWN_BY: Final = re.compile(r"`(tests/\w+\.py)::(test_\w+)`")

HELP: Final = re.compile(r"\$ mailbridge (?:([a-z]+) )?-h\n")


def _blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_each_command_is_in_the_readme() -> None:
    assert [
        name
        for name in commands.names()
        if not re.search(rf"\bmailbridge (?:-c \S+ )?{name}\b", README)
    ] == []


def test_the_readme_shows_the_overview_as_it_is() -> None:
    shown = [text for _, text in BLOCKS if text.startswith("$ mailbridge -h\n")]

    assert shown == [f"$ mailbridge -h\n{commands.overview()}\n"]


@pytest.mark.parametrize("text", [text for _, text in BLOCKS if HELP.match(text)])
def test_help_in_the_readme_is_the_help_there_is(text: str) -> None:
    asked = HELP.match(text)
    assert asked
    name = asked[1]
    current = (
        commands.parser_of(name, commands.load(name)).format_help()
        if name
        else commands.overview() + "\n"
    )

    assert text == asked[0] + current


@pytest.mark.parametrize("text", _blocks("toml"))
def test_configuration_in_the_readme_is_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mailbridge.toml"
    path.write_text(text)

    # (A block with a table of headers is a rule.)
    if "[headers]" in text:
        assert rules.load(str(path)).kinds
    else:
        config.load(path)


@pytest.mark.parametrize("text", _blocks("python"))
def test_python_in_the_readme_compiles(text: str) -> None:
    compile(text, "README.md", "exec")


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_that_was_tested_is_in_the_readme(recipe: str) -> None:
    assert recipe in README


def test_links_in_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    headings = {
        # As forges make anchors.
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"(?m)^#+ (.+)$", README)
    }

    missing = [
        target
        for target in targets
        if not target.startswith(("http://", "https://"))
        and not (target.startswith("#") and target[1:] in headings)
        and not (TREE / target.partition("#")[0]).is_file()
    ]

    assert missing == []


def test_each_promise_names_the_tests_that_show_it_and_they_are_there() -> None:
    promises = README.partition("\n## What we promise\n")[2].partition("**Not** promised")[0]
    rows = [row for row in promises.splitlines() if row.startswith("| Nothing ")]
    named = [SHOWN_BY.findall(row) for row in rows]

    assert len(rows) == 5
    assert all(named)
    for path, name in SHOWN_BY.findall(README):
        assert f"\ndef {name}(" in (TREE / path).read_text(encoding="utf-8"), f"{path}: no {name}"


@pytest.mark.parametrize(
    "line", [".venv/bin/python -m pytest", ".venv/bin/pip install -q -e '.[dev]'"]
)
def test_the_gate_runs_what_the_readme_tells_to_run(line: str) -> None:
    assert line in README
    assert line in (TREE / ".ci/run").read_text()


@pytest.mark.parametrize("path", sorted((TREE / "systemd").iterdir()), ids=lambda path: path.name)
def test_what_is_to_be_installed_is_named_in_the_readme(path: Path) -> None:
    assert f"systemd/{path.name}" in README
