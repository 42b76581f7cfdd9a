"""Stored events once more: the very bytes, in order, to whoever knows only PUB."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
import zmq

from mailbridge import keyring
from mailbridge.cli import main
from mailbridge.event import SignedEvent
from mailbridge.journal import Journal
from mailbridge.wire.sockets import make_context, subscriber
from tests.conftest import NOON
from tests.daemons import PATIENCE, Daemon
from tests.feeds import Source

TAGS: Final = ("_lk.mailbridge.bug-closed", "_lk.archive.package-upload-accepted", "org.example.x")
ANY: Final = "tcp://127.0.0.1:0"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def stored(state: Path) -> list[SignedEvent]:
    """Thirty events, a second apart, in the journal of *state*."""
    source, events = Source(), []
    for n in range(1, 31):
        tag = TAGS[n % 3]
        time = (NOON + timedelta(seconds=n)).isoformat()
        event = source.signed(n, tag, feed=source.head.link(tag), time=time)
        source.head = source.head.after(event)
        events.append(event)
    keyring.write_public(state / "keys" / "trusted" / "source.key", source.key.verify_key)
    with Journal.open(state / "journal.db") as journal, journal.batch(NOON) as batch:
        for event in events:
            batch.append(event, event.raw)
    return events


def replayed(state: Path, *words: str) -> Daemon:
    url = (state / "journal.db").as_uri()
    return Daemon("replay", url, "--state", state, "--publish", ANY, *words)


@pytest.fixture
def hear() -> Iterator[zmq.Socket[bytes]]:
    context = make_context()
    socket = subscriber(context, "tcp://127.0.0.1:9")
    socket.disconnect("tcp://127.0.0.1:9")
    socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
    yield socket
    context.destroy(linger=0)


def test_a_subscriber_gets_the_stored_bytes_and_nothing_that_makes_mail(
    state: Path, stored: list[SignedEvent], hear: zmq.Socket[bytes]
) -> None:
    with replayed(state, "--speed", "0") as daemon:
        hear.connect(daemon.ready()["publish"])
        wanted = [event for event in stored if not event.tag.startswith("_lk.archive.")]

        heard = [hear.recv_multipart() for _ in wanted]

        assert heard == [[event.tag.encode(), event.raw] for event in wanted]
        assert daemon.wait() == 0
    assert "20 events published" in daemon.said
    assert "10 under _lk.archive.* left out" in daemon.said


def test_only_what_was_asked_for_is_published(
    state: Path, stored: list[SignedEvent], hear: zmq.Socket[bytes]
) -> None:
    with replayed(state, "--speed", "0", "--tag", "org.example.*", "--count", "2") as daemon:
        hear.connect(daemon.ready()["publish"])
        heard = [hear.recv_multipart()[1] for _ in range(2)]
        assert daemon.wait() == 0

    assert heard == [event.raw for event in stored if event.tag == "org.example.x"][:2]


def test_each_waits_for_a_line_where_it_is_stepped(
    state: Path, stored: list[SignedEvent], hear: zmq.Socket[bytes]
) -> None:
    url = (state / "journal.db").as_uri()
    words = ("replay", url, "--state", state, "--publish", ANY, "--step", "--tag", "org.example.*")
    with subprocess.Popen(
        [sys.executable, "-m", "mailbridge", *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin
        assert process.stderr
        hear.connect(process.stderr.readline().split("=")[1].strip())
        wanted = [event.raw for event in stored if event.tag == "org.example.x"]
        for raw in wanted[:3]:
            process.stdin.write("\n")
            assert hear.recv_multipart()[1] == raw
        assert not hear.poll(200)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        assert "3 events published" in process.stderr.read()


def test_told_to_stop_it_ends_with_what_went_out(state: Path, stored: list[SignedEvent]) -> None:
    assert stored
    with replayed(state) as waiting:
        waiting.ready()
        assert waiting.stop() == 0
    with replayed(state, "--no-wait", "--speed", "0.001") as slow:
        slow.ready()
        assert slow.stop() == 0
        assert "events published" in slow.said


@pytest.mark.parametrize(
    ("words", "status"), [(["--speed", "-1"], 2), (["--publish", "nonsense"], 78)]
)
def test_wrong_words_are_told(
    state: Path, stored: list[SignedEvent], words: list[str], status: int
) -> None:
    assert stored
    url = (state / "journal.db").as_uri()
    assert main(["replay", url, "--state", str(state), *words]) == status
