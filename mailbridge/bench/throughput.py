"""The relay: how many events a second it verifies, signs, makes durable, and acknowledges."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import zmq

from mailbridge.bench import bare
from mailbridge.bench.feed import Feed
from mailbridge.bench.figure import Figure, Round, chunks, middle, percentile, rate, seconds
from mailbridge.bench.inmemory import AHEAD, loop
from mailbridge.bench.served import Served
from mailbridge.errors import RelayGone
from mailbridge.signing import VerifyKey

PATIENCE_MS: Final = 30_000
_LIMIT: Final = 2.5
_SLOWER: Final = 3.0
"""How many times as long an event may take at half of what the relay can do."""
_TICK: Final = 0.001
"""Seconds: no clock of ZeroMQ's is finer."""
_ALONE: Final = 400
"""Events that are sent one at a time, to see how long one takes where nothing else is to do."""


def measure_relay(
    feed: Feed, key: VerifyKey, relay: Served, n: int, directory: Path
) -> Iterator[Figure]:
    """
    Yield how many of *n* events of *feed*, of *key*, the *relay* takes a second.

    Beside the bare calls in it; beside a loop of two processes that keeps nothing; and how long an
    event takes at half of it.
    """
    numbers = itertools.count()
    rounds: list[Round] = []
    beside: list[Round] = []
    with (
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
        context.socket(zmq.SUB) as heard,
        loop(bytes(key)) as other,
    ):
        for socket in (dealer, heard):
            socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
            socket.setsockopt(zmq.LINGER, 0)
        heard.setsockopt(zmq.SUBSCRIBE, b"")
        heard.setsockopt(zmq.RCVHWM, 0)
        dealer.connect(relay.submit)
        heard.connect(relay.publish)
        _meet(feed, dealer, heard)
        for part in chunks(feed.take(n)):
            took = seconds(lambda: _submitted(dealer, part))  # noqa: B023 - called at once
            for _ in part:
                heard.recv_multipart()
            path = directory / f"bare-relay-{next(numbers)}.db"
            rounds.append(Round(len(part), took, _bare(part, path)))
            beside.append(Round(len(part), took, {"verify, sign, PUB": other.seconds(part)}))
        yield rate("relay, acknowledged", "events/s", rounds, limit=_LIMIT)
        best = rate("relay, beside a loop in memory", "events/s", beside, limit=1)
        yield best
        yield _at_half(feed, dealer, heard, best.value / 2, n)


def _meet(feed: Feed, dealer: zmq.Socket[bytes], heard: zmq.Socket[bytes]) -> None:
    """Send events until the subscription has arrived: what is published before is lost."""
    heard.setsockopt(zmq.RCVTIMEO, 100)
    for raw in itertools.islice(feed, PATIENCE_MS // 100):
        _submitted(dealer, [raw])
        try:
            heard.recv_multipart()
        except zmq.Again:
            continue
        heard.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        return
    raise RelayGone("the relay publishes nothing")


def _submitted(dealer: zmq.Socket[bytes], events: Sequence[bytes]) -> None:
    try:
        answers = bare.in_flight(dealer, events, AHEAD)
    except zmq.Again as error:
        raise RelayGone(f"the relay did not answer in {PATIENCE_MS} ms") from error
    for answer in answers:
        told = json.loads(answer)
        if told["status"] != "stored":
            raise RelayGone(f"the relay did not take event {told.get('seq')}: {told}")


def _bare(events: Sequence[bytes], path: Path) -> dict[str, float]:
    # Read once; written to verify and sign it, and once more with our signature.
    told: list[object] = []
    reading = seconds(lambda: told.extend(bare.parsed(events)))
    signatures = bare.signed(events)
    return {
        "ZeroMQ, to and fro": seconds(lambda: bare.carried(events)),
        "json": reading + 2 * seconds(lambda: bare.canonical(told)),
        "verify": seconds(lambda: bare.verified(events, signatures)),
        "sign": seconds(lambda: bare.signed(events)),
        "SQLite, fsync": seconds(lambda: bare.stored(path, events, batch=bare.WINDOW)),
    }


# -- at half of it ---------------------------------------------------------------------------------


def _at_half(
    feed: Feed,
    dealer: zmq.Socket[bytes],
    heard: zmq.Socket[bytes],
    a_second: float,
    n: int,
) -> Figure:
    """Return the 99th percentile from submit to subscriber at *a_second* events a second."""
    rounds: list[tuple[float, float]] = []
    for size in [len(part) for part in chunks(range(n))]:
        first = feed.take(min(_ALONE, size))
        alone = percentile(_paced(first, dealer, heard, math.inf), 99)
        loaded = percentile(_paced(feed.take(size), dealer, heard, 1 / a_second), 99)
        rounds.append((1000 * alone, 1000 * loaded))
    # (As elsewhere the round in the middle counts.)
    unloaded, value = middle(rounds, lambda one: one[1] / one[0])
    return Figure(
        name="relay, p99 at half its most",
        unit="ms",
        value=value,
        bare=unloaded,
        ratio=value / unloaded,
        floor=_SLOWER * unloaded,
        parts={"p99, one at a time": unloaded},
        n=n,
    )


def _paced(
    events: Sequence[bytes],
    dealer: zmq.Socket[bytes],
    heard: zmq.Socket[bytes],
    every: float,
) -> list[float]:
    """
    Return the seconds from submit to subscriber of each of *events*, sent *every* so many seconds.

    Infinity: each when the one before has come.  Those that are due within a millisecond are sent
    together: who looked at the clock all the time would take a processor from whom he measures.
    An event that is due and cannot be sent is late from when it was due.
    """
    one_by_one = math.isinf(every)
    poller = zmq.Poller()
    poller.register(heard, zmq.POLLIN)
    poller.register(dealer, zmq.POLLIN)
    took: list[float] = []
    began: list[float] = []
    start = time.perf_counter()
    while len(took) < len(events):
        now = time.perf_counter()
        if len(began) < len(events):
            due = now if one_by_one else start + math.ceil(len(began) * every / _TICK) * _TICK
            if now >= due and (not one_by_one or len(took) == len(began)):
                dealer.send_multipart([events[len(began)], b"ack"])
                began.append(due)
                continue
            wait = PATIENCE_MS if one_by_one else math.ceil(1000 * (due - now))
        else:
            wait = PATIENCE_MS
        ready = dict(poller.poll(wait))
        if not ready and wait == PATIENCE_MS:
            raise RelayGone(f"the relay did not publish in {PATIENCE_MS} ms")
        if heard in ready:
            heard.recv_multipart()
            took.append(time.perf_counter() - began[len(took)])
        if dealer in ready:
            dealer.recv_multipart()
    while dealer.poll(100):
        dealer.recv_multipart()
    return took
