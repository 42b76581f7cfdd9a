"""No room under the state: mail waits where it is, and is taken in when there is some again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from tests import disks
from tests.apart import Apart
from tests.daemons import Daemon
from tests.trial import Trial

WAITS: Final = "no mail is taken in until there is room, none is lost"

pytestmark = [
    pytest.mark.needs_program("mount", "umount", root=True),
    pytest.mark.fault(43),
]


def lines(daemon: Daemon, words: str) -> int:
    return sum(words in line for line in daemon.said.splitlines())


def test_a_disk_that_fills_in_the_middle_of_a_backlog_takes_the_rest_when_it_is_larger(
    tmp_path: Path,
) -> None:
    with disks.small(tmp_path, "3m") as small:
        trial = Apart(tmp_path, state=small.path / "state")
        with trial.connected(), trial.bridge() as bridge:
            assert not trial.trickle(bridge, 2000, at_once=100, unless=WAITS)
            assert not bridge.ended, bridge.said
            assert any((trial.maildir / "new").iterdir())
            trial.deliver(20)
            small.grow("64m")
            bridge.says("there is room again")
            trial.last_one()
            assert trial.arrive_there(bridge), bridge.said
            assert lines(bridge, WAITS) == 1
            assert bridge.stop() == 0, bridge.said


def test_a_relay_beside_a_bridge_without_room_still_serves_its_readers(tmp_path: Path) -> None:
    with disks.small(tmp_path, "16m") as small:
        trial = Trial(tmp_path, state=small.path / "state")
        trial.deliver(4)
        trial.last_one()
        with trial.run() as daemon:
            url = daemon.ready()["read"]
            told = len(trial.arrive(url, trial.state))
            # (Of the last twentieth nothing is for mail.)
            room = shutil.disk_usage(small.path).free
            (small.path / "filler").write_bytes(bytes(room - 200_000))
            trial.deliver(4)
            daemon.says(WAITS)
            trial.arrive(url, trial.state, only=told)
            (small.path / "filler").unlink()
            trial.last_one()
            trial.arrive(url, trial.state)
            assert daemon.stop() == 0, daemon.said
        trial.judge()
