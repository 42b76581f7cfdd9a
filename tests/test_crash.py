"""
Killed at any point and started again, every mail is one set of events for a reader.

Real processes, real SIGKILL: at places named in the code and at random, of bridge and of relay.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from mailbridge.errors import TryAgain
from tests.daemons import (
    LOOPBACK,
    PATIENCE,
    Daemon,
    chat,
    make_maildir,
    put,
    read_events,
    report,
    said_by,
    upload,
)

# In pairs, before and behind the commit: a mail that is in hand at three deaths is put aside.
FAILPOINTS: Final = (
    *("outbox-commit:1", "committed:1"),
    *("outbox-commit:2", "finishing:3"),
    *("outbox-commit:3", "relay-received:2"),
    *("attempted:1", "relay-stored:2"),
    *("examined:1", "relay-answered:1"),
    *("outbox-commit:5", "committed:1"),
)


class Mailing:
    """Mails delivered one after the other in all ways, and what they must become."""

    def __init__(self, maildir: Path, seed: int = 7) -> None:
        self.maildir: Final = make_maildir(maildir)
        self.expected: Final[list[str]] = []
        self._random: Final = random.Random(seed)  # noqa: S311 - a test's, and reproducible
        self._sent = 0

    def deliver(self, count: int) -> None:
        """Deliver *count* mails, some of no interest, some a second time."""
        for _ in range(count):
            self._sent += 1
            n = 1000 + self._sent
            by = self._random.choice(("rename", "link", "cur"))
            kind = self._random.choice((upload, upload, report, chat))
            put(self.maildir, kind(n), f"{n}.a", by=by)
            if kind is not chat:
                self.expected.append(f"bug {n}" if kind is report else f"upload package{n}")
            if self._random.random() < 0.2:
                put(self.maildir, kind(n), f"{n}.again", by=by)

    def check(self, url: str, state: Path) -> None:
        """Read everything as a consumer does: each once, none missing, no gap, no fork."""
        events = read_events(url, state, len(self.expected))
        assert Counter(said_by(events)) == Counter(self.expected)
        links = [event.feed for event in events if event.feed]
        assert [link.seq for link in links] == list(range(1, len(events) + 1))
        assert [link.prev for link in links[1:]] == [event.hash for event in events[:-1]]
        with pytest.raises(TryAgain):
            read_events(url, state, len(self.expected) + 1, timeout=0.5)


@pytest.mark.edge(70)
@pytest.mark.fault(29)
def test_killed_at_every_named_place_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    mailing, state = Mailing(tmp_path / "Maildir"), tmp_path / "state"
    taking = ("--maildir", mailing.maildir, "--existing", "emit", "--after", "seen")
    words = ("run", *taking, "--state", state, *LOOPBACK)
    for place in FAILPOINTS:
        mailing.deliver(6)
        with Daemon(*words, fail_at=place) as daemon:
            assert daemon.wait() == -9, f"{place} was not reached:\n{daemon.said}"
    with Daemon(*words) as daemon:
        mailing.check(daemon.ready()["read"], state)
        assert daemon.stop() == 0
    assert list((mailing.maildir / "new").iterdir()) == []
    assert not list((state / "quarantine").glob("*"))


@pytest.mark.edge(70)
@pytest.mark.fault(44)
def test_killed_at_random_moments_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    mailing, state = Mailing(tmp_path / "Maildir", seed=11), tmp_path / "state"
    words = ("run", "--maildir", mailing.maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    moments = random.Random(20261120)  # noqa: S311 - a test's, and reproducible
    for _ in range(8):
        mailing.deliver(40)
        with Daemon(*words) as daemon:
            # From the first line on: a kill during Python's own start tells nothing.
            daemon.says("^ready|INFO")
            with pytest.raises(TimeoutError):
                daemon.outlive(moments.uniform(0, 0.4))
            daemon.kill()
    with Daemon(*words) as daemon:
        mailing.check(daemon.ready()["read"], state)
        assert daemon.stop() == 0


@pytest.mark.edge(71)
def test_a_relay_killed_in_the_middle_of_a_window_gets_what_it_lost(tmp_path: Path) -> None:
    mailing, state, relay = Mailing(tmp_path / "Maildir"), tmp_path / "state", tmp_path / "relay"
    with Daemon("relay", "--state", relay, *LOOPBACK) as first:
        bound = first.ready()
        assert first.stop() == 0
    endpoints = [f"--{name}={bound[name]}" for name in ("submit", "publish", "read")]
    words = ("bridge", "--maildir", mailing.maildir, "--existing", "emit", "--state", state)
    with Daemon(*words, "--submit", bound["submit"]) as bridge:
        entity = bridge.ready()["key"]
        trusting = ("key", "trust", state / "keys" / f"{entity}.key", "--state", relay)
        with Daemon(*trusting, "--tags", "_lk.mailbridge.*") as trust:
            assert trust.wait() == 0
        mailing.deliver(300)
        for place in ("relay-received:2", "relay-stored:3"):
            with Daemon("relay", "--state", relay, *endpoints, fail_at=place) as killed:
                assert killed.wait(PATIENCE) == -9, f"{place} was not reached:\n{killed.said}"
            mailing.deliver(100)
        with Daemon("relay", "--state", relay, *endpoints) as last:
            mailing.check(last.ready()["read"], relay)
            assert last.stop() == 0
        assert bridge.stop() == 0


@pytest.mark.fault(49)
def test_a_mail_that_kills_is_put_aside_after_three_deaths(tmp_path: Path) -> None:
    mailing, state = Mailing(tmp_path / "Maildir"), tmp_path / "state"
    words = ("run", "--maildir", mailing.maildir, "--existing", "emit", "--state", state, *LOOPBACK)
    put(mailing.maildir, upload(1), "1.deadly")
    for _ in range(3):
        with Daemon(*words, fail_at="attempted:1") as daemon:
            assert daemon.wait() == -9
    mailing.deliver(5)
    with Daemon(*words) as daemon:
        mailing.check(daemon.ready()["read"], state)
        assert daemon.stop() == 0
    [note] = (state / "quarantine").glob("*.json")
    assert '"code":"crashed"' in note.read_text()
