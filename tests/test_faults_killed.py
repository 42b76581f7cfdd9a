"""Killed wherever it hurts most and started again: nothing is lost, doubled, forked, left over."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from mailbridge.wire.read import Asker, Silence
from tests.daemons import Daemon
from tests.trial import Trial, together

# In the order in which they are come by; what happens once in a life can be hit once only.
ONCE: Final = ("key-made", "state-made", "relay-bound", "head-sent")
AGAIN: Final = (
    *("scanned", "read", "attempted", "judged", "kept", "examined"),
    *("outbox-commit", "outbox-committed", "committed", "finishing", "finished"),
    *("sent", "relay-received", "journal-commit", "relay-stored", "relay-answered"),
    *("relay-publishing", "relay-published", "relay-read", "answered", "acknowledged"),
)


@pytest.mark.fault(29)
def test_killed_at_every_named_place_the_first_and_the_seventh_time(tmp_path: Path) -> None:
    hits = [*((place, 1) for place in (*ONCE, *AGAIN)), *((place, 7) for place in AGAIN)]
    together([(f"{p}:{n}", partial(_killed_at, tmp_path / f"{p}-{n}", p, n)) for p, n in hits])


def _killed_at(directory: Path, place: str, time: int) -> None:
    faults = ("truncated",) if place == "kept" else ("duplicate", "truncated", "redelivered")
    trial = Trial(directory, faults=faults)
    with trial.run(fail_at=f"{place}:{time}") as daemon:
        asked = partial(_ask, daemon) if place == "relay-read" else lambda: None
        trial.trickle(daemon, 60, between=asked)
        assert daemon.wait() == -9, daemon.said
    trial.recover()


def _ask(daemon: Daemon) -> None:
    with Asker(daemon.ready()["read"]) as asker, contextlib.suppress(Silence):
        asker.ask("feeds", {})
