"""
A thousand readers of one relay, each with an event a second: is any lost, does anybody starve?

Not part of the gate.  `python -m tests.bench.bench_readers [READERS [SECONDS]]` prints how long an
event takes from its source to a reader, and to the last of the readers.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import zmq

from mailbridge.bench.backfill import bench_key
from mailbridge.bench.feed import Feed
from mailbridge.bench.figure import percentile
from mailbridge.bench.served import Served, served
from mailbridge.event import FORMAT, canonical
from mailbridge.wire import sockets

WAIT = 30.0
PATIENCE = 60.0
SAMPLE = {
    "tag": "_lk.mailbridge-test.package-upload-accepted",
    "format": FORMAT,
    "time": "2026-11-20T12:00:00+00:00",
    "data": {"source_name": "hello", "changes": "Changes, told at some length. " * 30},
}


class Reader:
    """One of them: asks, waits, and asks for what comes behind that."""

    def __init__(self, context: sockets.Context, url: str, number: int) -> None:
        self.socket = sockets.asker(context, url)
        self.seen: list[int] = []
        self._number = number
        self._cursor: str | None = None

    def ask(self) -> None:
        """Ask for what comes next."""
        words = {"id": self._number, "op": "read", "after": self._cursor, "tags": [], "wait": WAIT}
        self.socket.send(json.dumps(words).encode())

    def take(self) -> list[int]:
        """Return the numbers of the events that came."""
        header, *events = self.socket.recv_multipart()
        told = json.loads(header)
        assert "error" not in told, told
        self._cursor = told["cursors"][-1] if events else told["head"]
        found = [json.loads(event)["feed"]["seq"] for event in events]
        self.seen += found
        return found


def main(readers: str = "1000", seconds: str = "30") -> None:
    """Print what came of it."""
    count, last = int(readers), int(seconds)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    key = bench_key()
    feed = Feed(key, [canonical(SAMPLE)])
    with (
        tempfile.TemporaryDirectory() as directory,
        served(Path(directory) / "relay", key.verify_key) as relay,
        sockets.make_context() as context,
    ):
        source = sockets.submitter(context, relay.submit)
        crowd = [Reader(context, relay.read, number) for number in range(count)]
        took, rounds = measured(source, crowd, feed, last)
        told = f"{cpu(relay) / last:.0%} of a processor for the relay"
        for reader in crowd:
            reader.socket.close()
        source.close()
    lost = sum(last - len(set(reader.seen)) for reader in crowd)
    doubled = sum(len(reader.seen) - len(set(reader.seen)) for reader in crowd)
    disordered = sum(reader.seen != sorted(reader.seen) for reader in crowd)
    sys.stdout.write(
        f"{count} readers, {last} events, one a second: {lost} lost, {doubled} doubled,"
        f" {disordered} out of order; {told}\n"
        f"to a reader: p50 {1000 * percentile(took, 50):.1f} ms,"
        f" p99 {1000 * percentile(took, 99):.1f} ms; to the last of them: at most"
        f" {1000 * max(rounds):.1f} ms\n"
    )
    assert not lost + doubled + disordered


def measured(
    source: sockets.Socket, crowd: list[Reader], feed: Feed, last: int
) -> tuple[list[float], list[float]]:
    """Return the seconds that each event took to each reader, and to the last of them."""
    poller = zmq.Poller()
    poller.register(source, zmq.POLLIN)
    by_socket = {reader.socket: reader for reader in crowd}
    for reader in crowd:
        poller.register(reader.socket, zmq.POLLIN)
        reader.ask()
    sent: list[float] = []
    took: list[float] = []
    rounds = [0.0] * last
    begin = time.monotonic() + 1.0
    end = begin + last + PATIENCE
    while len(took) < last * len(crowd) and time.monotonic() < end:
        due = begin + len(sent)
        now = time.monotonic()
        if len(sent) < last and now >= due:
            source.send_multipart([next(iter(feed)), b"ack"])
            sent.append(time.monotonic())
            continue
        wait = max(0.0, due - now) if len(sent) < last else 1.0
        for socket, _ in poller.poll(int(1000 * wait) + 1):
            if socket is source:
                assert json.loads(source.recv_multipart()[0])["status"] == "stored"
                continue
            reader = by_socket[socket]
            came = reader.take()
            reader.ask()
            for number in came:
                delay = time.monotonic() - sent[number - 1]
                took.append(delay)
                rounds[number - 1] = max(rounds[number - 1], delay)
    return took, rounds


def cpu(relay: Served) -> float:
    """Return the seconds of a processor that the *relay* took."""
    told = Path(f"/proc/{relay.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / 100


if __name__ == "__main__":
    main(*sys.argv[1:])
