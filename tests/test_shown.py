"""Every edge case and every fault of the lists is shown by a test that says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.edge_cases import EDGE_CASES
from tests.explained import EXPLAINED
from tests.faults import FAULTS

TESTS: Final = Path(__file__).parent

IN_TABLES: Final = {"edge": {number for row in EXPLAINED for number in row.edges}, "fault": set()}
"""Numbers that stand in a table, whose rows a test takes as its parameters."""


def marked(kind: str, source: str) -> Iterator[int]:
    """Yield the numbers in `@pytest.mark.<kind>(...)` anywhere in *source*."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == kind
            and isinstance(node.func.value, ast.Attribute)
            and node.func.value.attr == "mark"
        ):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, int):
                    yield argument.value


@pytest.mark.parametrize(("kind", "known"), [("edge", EDGE_CASES), ("fault", FAULTS)])
def test_every_number_is_shown_by_a_test(kind: str, known: dict[int, str]) -> None:
    shown = IN_TABLES[kind] | {
        number for path in TESTS.rglob("*.py") for number in marked(kind, path.read_text("utf-8"))
    }

    assert {number: told for number, told in known.items() if number not in shown} == {}
    assert shown <= known.keys()


def test_a_mark_is_found_wherever_it_stands() -> None:
    source = """
import pytest

@pytest.mark.edge(1, 2)
@pytest.mark.fault(3)
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.edge(4))])
def test_x(x): ...
"""

    assert sorted(marked("edge", source)) == [1, 2, 4]
    assert list(marked("fault", source)) == [3]
