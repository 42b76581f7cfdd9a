"""A short soak (tests/bench/soak.py): bridge, relay and reader are killed while mail comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.soak import soak


@pytest.mark.fault(44)
def test_bridge_relay_and_reader_killed_at_random_while_mail_comes_lose_and_double_nothing(
    tmp_path: Path,
) -> None:
    figures = soak(tmp_path, seconds=15, mails=400, seed=7, between=1.5)

    assert figures.mails >= 400
    assert figures.events > 200
    assert min(figures.kills.values()) > 0
    assert figures.repeated <= figures.kills["reader"]
