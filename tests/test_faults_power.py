"""The power is cut, on a real file system: what anybody has heard of is never unsaid."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests import disks, tracing
from tests.daemons import LOOPBACK, Daemon
from tests.disks import Disk
from tests.mutants import mutant
from tests.tracing import Call
from tests.trial import Trial

# Where the bridge stops, and the power is cut: before, within and behind what must be durable.
CUTS: Final = (
    *("outbox-commit:1", "answered:1", "outbox-committed:1", "sent:1", "outbox-commit:2"),
    *("acknowledged:1", "committed:1", "finishing:1", "outbox-commit:3", "finishing:5"),
)


class Far(Trial):
    """A trial whose bridge keeps its state on a disk that can be cut; relay and mail are safe."""

    def __init__(self, directory: Path, disk: Disk, *, code: Path | None = None) -> None:
        super().__init__(directory, state=disk.path / "state", faults=("duplicate",))
        self.disk: Final = disk
        self.relay: Final = directory / "relay"
        self.code: Final = code

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Have the relay run, which trusts the bridge's key."""
        with Daemon("relay", "--state", self.relay, *LOOPBACK) as relay:
            self.bound = relay.ready()
            with self.bridge() as bridge:
                key = self.state / "keys" / f"{bridge.ready()['key']}.key"
                words = ("key", "trust", key, "--state", self.relay)
                with Daemon(*words, "--tags", "_lk.mailbridge-test.*") as trust:
                    assert trust.wait() == 0, trust.said
                assert bridge.stop() == 0
            yield
            assert relay.stop() == 0
        self.judge(self.relay)

    def bridge(self, **how: Any) -> Daemon:
        """Start the bridge, to be broken as *how* says."""
        words = ("bridge", *self.words, "--submit", self.bound["submit"])
        return Daemon(*words, cwd=self.code, **how)

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

    def come_back(self) -> None:
        """Start the bridge once more, and wait until a reader has all."""
        self.last_one()
        with self.bridge() as bridge:
            bridge.ready()
            self.arrive_or_die(bridge, self.bound["read"], self.relay)
            assert bridge.stop() == 0, bridge.said


@pytest.mark.needs_program("mkfs.ext4", "mount", "umount", root=True)
@pytest.mark.fault(37)
def test_after_a_power_cut_nothing_is_lost_or_told_twice(tmp_path: Path) -> None:
    with disks.disk(tmp_path) as disk:
        Far(tmp_path, disk).through(CUTS)


@pytest.mark.needs_program("mkfs.ext4", "mount", "umount", root=True)
@pytest.mark.fault(38)
def test_with_lazy_commits_a_power_cut_takes_back_what_was_told(tmp_path: Path) -> None:
    """The test of the test above: there must be something to find."""
    lazy = (('"synchronous=FULL"', '"synchronous=NORMAL"'),)
    code = mutant(tmp_path / "code", {"outbox/file.py": lazy})
    with disks.disk(tmp_path) as disk:
        trial = Far(tmp_path, disk, code=code)
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
        trial = Far(tmp_path, disk)
        with trial.connected():
            through = tracing.kill(Call("fdatasync", "outbox.db-wal"), when, state=trial.state)
            trial.deliver(4)
            with trial.bridge(through=through) as bridge:
                assert bridge.wait() == -signal.SIGKILL, bridge.said
            trial.until_cut("answered:1", mails=0)
            trial.come_back()
