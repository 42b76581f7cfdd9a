"""The power is cut, on a real file system: what anybody has heard of is never unsaid."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests import disks, tracing
from tests.apart import Apart
from tests.disks import Disk
from tests.mutants import mutant
from tests.tracing import Call

# Where the bridge stops, and the power is cut: before, within and behind what must be durable.
CUTS: Final = (
    *("outbox-commit:1", "answered:1", "outbox-committed:1", "sent:1", "outbox-commit:2"),
    *("acknowledged:1", "committed:1", "finishing:1", "outbox-commit:3", "finishing:5"),
)


class Cut(Apart):
    """A trial whose bridge keeps its state on a disk that can be cut."""

    def __init__(self, directory: Path, disk: Disk, *, code: Path | None = None) -> None:
        super().__init__(directory, state=disk.path / "state", code=code)
        self.disk: Final = disk

    def until_cut(self, place: str, *, mails: int = 8) -> None:
        """Deliver, run the bridge until it comes by *place*, and cut the power there."""
        self.deliver(mails)
        with self.bridge(fail_at=f"{place}:stop") as bridge:
            bridge.stopped()
            self.disk.cut()
            bridge.kill()

    def through(self, places: Sequence[str]) -> None:
        """Have the power cut at each of *places*, come back, and hold all of it to the oracle."""
        with self.connected():
            for place in places:
                self.until_cut(place)
            self.come_back()


@pytest.mark.needs_program("mkfs.ext4", "mount", "umount", root=True)
@pytest.mark.fault(37)
def test_after_a_power_cut_nothing_is_lost_or_told_twice(tmp_path: Path) -> None:
    with disks.disk(tmp_path) as disk:
        Cut(tmp_path, disk).through(CUTS)


@pytest.mark.needs_program("mkfs.ext4", "mount", "umount", root=True)
@pytest.mark.fault(38)
def test_with_lazy_commits_a_power_cut_takes_back_what_was_told(tmp_path: Path) -> None:
    """The test of the test above: there must be something to find."""
    lazy = (('"synchronous=FULL"', '"synchronous=NORMAL"'),)
    code = mutant(tmp_path / "code", {"outbox/file.py": lazy})
    with disks.disk(tmp_path) as disk:
        trial = Cut(tmp_path, disk, code=code)
        with pytest.raises(AssertionError, match="our outbox"):
            trial.through(CUTS)


@pytest.mark.needs_program("mkfs.ext4", "mount", "umount", "strace", root=True)
@pytest.mark.fault(30, 37)
@pytest.mark.parametrize("when", [3, 4])
def test_what_a_killed_commit_left_is_on_the_disk_before_anybody_hears_of_it(
    tmp_path: Path, when: int
) -> None:
    """SQLite takes what reached the kernel for committed; the power cut comes after we told it."""
    tracing.require()
    with disks.disk(tmp_path) as disk:
        trial = Cut(tmp_path, disk)
        with trial.connected():
            through = tracing.kill(Call("fdatasync", "outbox.db-wal"), when, state=trial.state)
            trial.deliver(4)
            with trial.bridge(through=through) as bridge:
                assert bridge.wait() == -signal.SIGKILL, bridge.said
            trial.until_cut("answered:1", mails=0)
            trial.come_back()
