"""A trial whose bridge and relay live apart, as on two machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.daemons import LOOPBACK, Daemon
from tests.trial import Trial


class Apart(Trial):
    """The bridge keeps its state where a test can harm it; relay and mail are safe."""

    def __init__(
        self,
        directory: Path,
        *,
        state: Path | None = None,
        code: Path | None = None,
        faults: Sequence[str] = ("duplicate",),
        seed: int = 7,
    ) -> None:
        """*code* is where the bridge's own code lies, if that is not ours."""
        super().__init__(directory, state=state, faults=faults, seed=seed)
        self.relay: Final = directory / "relay"
        self.code: Final = code
        self.bound: dict[str, str] = {}
        """Where the relay listens."""

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Have the relay run, which trusts the bridge's key; in the end, hold all to the oracle."""
        with self.relaying() as relay:
            self.relay_process = relay
            self.introduce()
            yield
            assert relay.stop() == 0, relay.said
        self.judge(self.relay)

    def relaying(self, **how: Any) -> Daemon:
        """Start the relay, where it was before if it was, to be broken as *how* says."""
        relay = self.begin_relay(**how)
        self.bound = relay.ready()
        return relay

    def begin_relay(self, **how: Any) -> Daemon:
        """Start the relay as `relaying` does, and do not wait for it."""
        sockets = ("submit", "publish", "read")
        where = [f"--{name}={self.bound[name]}" for name in sockets if self.bound] or LOOPBACK
        return Daemon("relay", "--state", self.relay, *where, **how)

    def introduce(self) -> None:
        """Have the bridge make its key, and the relay trust it."""
        with self.bridge() as bridge:
            key = self.state / "keys" / f"{bridge.ready()['key']}.key"
            assert bridge.stop() == 0, bridge.said
        words = ("key", "trust", key, "--state", self.relay, "--tags", "_lk.mailbridge-test.*")
        with Daemon(*words) as trust:
            assert trust.wait() == 0, trust.said

    def bridge(self, **how: Any) -> Daemon:
        """Start the bridge, to be broken as *how* says."""
        words = ("bridge", *self.words, "--submit", self.bound["submit"])
        return Daemon(*words, cwd=self.code, **how)

    def arrive_there(self, bridge: Daemon) -> bool:
        """Wait until a reader of the relay has all.  False: the *bridge* ended before."""
        return self.arrive_or_die(bridge, self.bound["read"], self.relay)

    def come_back(self) -> None:
        """Start the bridge once more, and wait until a reader has all."""
        self.last_one()
        with self.bridge() as bridge:
            self.arrive_there(bridge)
            assert bridge.stop() == 0, bridge.said
