"""Mails made to hurt: each costs about what it weighs, and harms neither us nor who comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.costs import CPU, Meter
from tests.hostile_mails import HOSTILE
from tests.large_mails import FIXTURES, LARGE

KINDS = sorted({case.parent.parent for case in FIXTURES.glob("[!_]*/*/mail.eml")})


@pytest.fixture(scope="module")
def meter() -> Iterator[Meter]:
    with Meter() as started:
        yield started


@pytest.mark.fault(66, 68, 70, 71, 72, 76, 79)
@pytest.mark.edge(72)
@pytest.mark.parametrize("made", [*HOSTILE.values(), *LARGE.values()], ids=[*HOSTILE, *LARGE])
def test_a_hostile_mail_has_an_outcome_and_costs_what_it_weighs(
    made: Callable[[], bytes], meter: Meter, tmp_path: Path
) -> None:
    mail = tmp_path / "mail"
    mail.write_bytes(made())

    cost = meter.cost(mail)

    assert cost.ended == 0, f"beyond {CPU} seconds of CPU, or of its memory"
    assert cost.outcome in ("events", "ignored", "quarantined")
    assert cost.code != "bug", cost.reason
    assert cost.memory <= cost.allowed
