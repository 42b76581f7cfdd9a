"""Told to end, in whatever state: soon, with 0.  Told to read again: what is bad is not taken."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest
import zmq

from mailbridge.wire.read import Asker
from mailbridge.wire.sockets import make_context, submitter
from tests.apart import Apart
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, said_by, upload
from tests.feeds import Source
from tests.trial import Trial

SOON: Final = 50.0
"""Five seconds are promised; ten times that is a guard against hanging."""

NOWHERE: Final = "tcp://127.0.0.1:9"


def ends(daemon: Daemon) -> None:
    daemon.signal(signal.SIGTERM)
    assert daemon.wait(SOON) == 0, daemon.said
    assert "Traceback" not in daemon.said


# -- SIGTERM ---------------------------------------------------------------------------------------


@contextmanager
def starting(trial: Apart) -> Iterator[Daemon]:
    """Before it is ready; and before it could say so, its end is the signal's."""
    with trial.bridge(fail_at="state-made:1:stop") as bridge:
        bridge.stopped()
        bridge.signal(signal.SIGTERM)
        bridge.signal(signal.SIGCONT)
        yield bridge


@contextmanager
def idle(trial: Apart) -> Iterator[Daemon]:
    with trial.bridge() as bridge:
        assert trial.arrive_there(bridge)
        yield bridge


@contextmanager
def in_a_backlog(trial: Apart) -> Iterator[Daemon]:
    trial.deliver(300)
    with trial.bridge() as bridge:
        bridge.says("events tag=")
        yield bridge


@contextmanager
def without_a_relay(trial: Apart) -> Iterator[Daemon]:
    with Daemon("bridge", *trial.words, "--submit", NOWHERE) as bridge:
        trial.deliver(3)
        bridge.says("does not answer")
        yield bridge


@contextmanager
def while_the_relay_is_stopped(trial: Apart) -> Iterator[Daemon]:
    with trial.bridge() as bridge:
        assert trial.arrive_there(bridge)
        trial.relay_process.signal(signal.SIGSTOP)
        trial.deliver(3)
        bridge.says("events tag=")
        yield bridge
        trial.relay_process.signal(signal.SIGCONT)


@contextmanager
def held_off(trial: Apart) -> Iterator[Daemon]:
    [key] = (trial.relay / "keys" / "trusted").iterdir()
    aside = key.rename(trial.relay / "aside")
    with trial.bridge() as bridge:
        trial.last_one()
        bridge.says("will not have our events yet|holds our events off|no key for")
        yield bridge
        aside.rename(key)


@contextmanager
def while_the_outbox_is_busy(trial: Apart) -> Iterator[Daemon]:
    """Another process holds the right to write: a back-fill, for milliseconds; here it does not."""
    with trial.bridge(fail_at="outbox-busy:1:stop") as bridge:
        assert trial.arrive_there(bridge)
        with closing(sqlite3.connect(trial.state / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            trial.deliver(1)
            bridge.stopped()
            bridge.signal(signal.SIGCONT)
            yield bridge
            other.execute("ROLLBACK")


@contextmanager
def asking_for_a_new_epoch(trial: Apart) -> Iterator[Daemon]:
    words = ("bridge", *trial.words, "--submit", NOWHERE, "--new-epoch")
    with Daemon(*words, fail_at="asked:1:stop") as bridge:
        bridge.stopped()
        bridge.signal(signal.SIGCONT)
        yield bridge


@pytest.mark.fault(45)
@pytest.mark.parametrize(
    "state",
    [
        idle,
        in_a_backlog,
        without_a_relay,
        while_the_relay_is_stopped,
        held_off,
        while_the_outbox_is_busy,
        starting,
        asking_for_a_new_epoch,
    ],
)
def test_a_bridge_that_is_told_to_end_ends_soon(
    tmp_path: Path, state: Callable[[Apart], AbstractContextManager[Daemon]]
) -> None:
    trial = Apart(tmp_path)
    with trial.connected():
        trial.last_one()
        with state(trial) as bridge:
            ends(bridge)
        trial.come_back()


@contextmanager
def quiet(trial: Trial) -> Iterator[Daemon]:
    with Daemon("relay", "--state", trial.state, *LOOPBACK) as relay:
        relay.ready()
        yield relay


@contextmanager
def with_readers_that_wait(trial: Trial) -> Iterator[Daemon]:
    with Daemon("relay", "--state", trial.state, *LOOPBACK) as relay:
        url = relay.ready()["read"]
        with Asker(url) as reader:
            reader._connected().send_multipart([b'{"id": 1, "op": "read", "wait": 60}'])
            reader.ask("feeds", {})
            yield relay


@contextmanager
def with_a_full_queue(trial: Trial) -> Iterator[Daemon]:
    source = Source()
    with Daemon("relay", "--state", trial.state, *LOOPBACK) as relay:
        endpoint = relay.ready()["submit"]
        relay.signal(signal.SIGSTOP)
        context = make_context()
        socket = submitter(context, endpoint)
        for event in source.events(500):
            with suppress(zmq.Again):
                socket.send_multipart([event.raw, b"ack"], zmq.NOBLOCK)
        relay.signal(signal.SIGTERM)
        relay.signal(signal.SIGCONT)
        yield relay
        socket.close(linger=0)
        context.term()


@pytest.mark.fault(45)
@pytest.mark.parametrize("state", [quiet, with_readers_that_wait, with_a_full_queue])
def test_a_relay_that_is_told_to_end_ends_soon(
    tmp_path: Path, state: Callable[[Trial], AbstractContextManager[Daemon]]
) -> None:
    with state(Trial(tmp_path)) as relay:
        ends(relay)


# -- SIGHUP ----------------------------------------------------------------------------------------


class Configured:
    """Maildirs, a configuration that names some of them, and a service that has read it."""

    def __init__(self, directory: Path) -> None:
        self.maildirs: Final = {n: make_maildir(directory / n) for n in ("one", "two")}
        self.state: Final = directory / "state"
        self.file: Final = directory / "mailbridge.toml"
        self.expected: Final[list[str]] = []

    def write(self, *names: str, more: str = "") -> None:
        """Have *names* as sources."""
        sources = [
            f'[[source]]\nname = "{name}"\nmaildir = "{self.maildirs[name]}"\n{more}'
            for name in names
        ]
        self.file.write_text(f'state = "{self.state}"\n' + "\n".join(sources))

    @contextmanager
    def running(self) -> Iterator[Daemon]:
        with Daemon("-c", self.file, "run", *LOOPBACK) as daemon:
            self.url = daemon.ready()["read"]
            yield daemon
            assert daemon.stop() == 0, daemon.said

    def put(self, name: str, number: int) -> None:
        put(self.maildirs[name], upload(number), f"{number}.x")
        self.expected.append(f"upload package{number}")

    def check(self) -> None:
        events = read_events(self.url, self.state, len(self.expected))
        assert said_by(events) == self.expected


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    return Configured(tmp_path)


@pytest.mark.fault(46)
def test_sources_that_come_and_go_count_from_the_signal_on(configured: Configured) -> None:
    configured.write("one")
    with configured.running() as daemon:
        configured.put("one", 1)
        configured.check()
        # (What lay there before is taken as read, as at a start.)
        put(configured.maildirs["two"], upload(90), "90.x")
        configured.write("one", "two")
        daemon.signal(signal.SIGHUP)
        assert daemon.counted("INFO goes on", 1)
        assert f"1 mails in {configured.maildirs['two']} taken as read" in daemon.said
        configured.put("two", 2)
        configured.check()
        configured.write("two")
        daemon.signal(signal.SIGHUP)
        assert daemon.counted("INFO goes on", 2)
        put(configured.maildirs["one"], upload(91), "91.x")
        configured.put("two", 3)
        configured.check()


@pytest.mark.fault(46)
def test_signals_in_a_backlog_lose_nothing(configured: Configured) -> None:
    configured.write("one", more='existing = "emit"\nafter = "seen"')
    for number in range(1, 201):
        configured.put("one", number)
    with configured.running() as daemon:
        for _ in range(5):
            daemon.signal(signal.SIGHUP)
        daemon.says("INFO goes on")
        configured.expected.sort()
        events = read_events(configured.url, configured.state, len(configured.expected))
        assert sorted(said_by(events)) == configured.expected


@pytest.mark.fault(46)
def test_a_relay_keeps_its_policy_when_the_new_one_is_bad(tmp_path: Path) -> None:
    trial = Apart(tmp_path)
    with trial.connected(), trial.bridge() as bridge:
        trial.last_one()
        assert trial.arrive_there(bridge)
        policy = trial.relay / "policy.toml"
        before = policy.read_text()
        policy.write_text("no policy at all")
        trial.relay_process.signal(signal.SIGHUP)
        trial.relay_process.says("SIGHUP: keys and policy are as they are now")
        # (It is looked at when it is needed, and at most once a second.)
        while "policy not read again, the last one holds" not in trial.relay_process.said:
            trial.last_one()
            assert trial.arrive_there(bridge)
        policy.write_text(before)
        assert bridge.stop() == 0
