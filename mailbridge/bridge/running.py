"""A bridge at work: until it is told to end, and anew when it is told to read what it is told."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq

from mailbridge.bridge import epoch
from mailbridge.bridge.loop import Loop
from mailbridge.bridge.report import Reporter
from mailbridge.bridge.target import Stop, Target
from mailbridge.errors import MailbridgeError
from mailbridge.health import Health
from mailbridge.inspection import Inspection
from mailbridge.service import HangUp, notify, settle_in, watchdog_seconds

if TYPE_CHECKING:
    from mailbridge.bridge.serve import Bridge

log = logging.getLogger("mailbridge.bridge")


class Surroundings(NamedTuple):
    """What stays the same however often the configuration is read."""

    targets: Sequence[Target]
    stop: Stop
    health: Health
    healthy: Callable[[], bool]
    """Whether whoever runs in this process too is."""
    hangup: HangUp | None
    """What tells that the configuration is to be read again; None: nothing does."""


def run(
    ours: Bridge,
    around: Surroundings,
    ready: str,
    *,
    started: float,
    remake: Callable[[Bridge], Bridge],
) -> None:
    """
    Have *ours*, and what *remake* makes of it at each hang-up, at work until it is time to stop.

    *started* is when this process began (Unix time).  A configuration that *remake* will not have
    changes nothing, and is told in a line.
    """
    first: Final = ours
    try:
        epoch.check(ours.state.outbox)
        ours.state.outbox.inspector.check_newest()
        ours.state.outbox.told_to_end = _asking(around.stop)
        while _work(ours, around, ready, started):
            ours, ready, started = _remade(ours, remake), "", time.time()
        notify("STOPPING=1")
    finally:
        if ours is not first:
            ours.gateway.rest()
        for target in around.targets:
            target.close()


def _asking(stop: Stop) -> Callable[[], bool]:
    poller = zmq.Poller()
    poller.register(stop.fileno(), zmq.POLLIN)
    return lambda: bool(poller.poll(0))


def _work(ours: Bridge, around: Surroundings, ready: str, started: float) -> bool:
    """Take mail in and send it; say whether that is to go on with another configuration."""
    reporter = Reporter(
        ours.state,
        ours.places,
        around.targets,
        attention=ours.attention,
        canaries=ours.canaries,
        health=around.health,
    )
    inspection = Inspection(ours.state.outbox.inspector.look)
    loop = Loop(
        ours.state.directory,
        ours.places,
        around.targets,
        started=started,
        watchdog=watchdog_seconds(),
        alarms=lambda: [*ours.gateway.alarms(), *inspection.alarms()],
        rest=ours.gateway.rest,
        attention=ours.attention,
        canaries=ours.canaries,
        reporter=reporter,
        healthy=around.healthy,
        upkeep=lambda now: min(ours.upkeep.turn(now), inspection.turn(now)),
    )
    try:
        ours.upkeep.sends_to(target.name for target in around.targets)
        loop.start()
        settle_in()
        reporter.ready = True
        reporter.turned(loop, loop.status(), time.monotonic())
        if ready:
            print(f"ready {ready} | {' | '.join(ours.found())}", file=sys.stderr, flush=True)  # noqa: T201 - promised
        else:
            log.info("goes on | %s", " | ".join(ours.found()))
        notify("READY=1", f"STATUS={loop.status()}")
        return loop.run(around.stop, around.hangup)
    finally:
        reporter.close()
        loop.close()


def _remade(ours: Bridge, remake: Callable[[Bridge], Bridge]) -> Bridge:
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        fresh = remake(ours)
    except MailbridgeError as error:
        log.error("SIGHUP: %s; what was read before holds", error)  # noqa: TRY400 - one line
        return ours
    ours.gateway.rest()
    log.info("SIGHUP: the configuration was read again")
    return fresh
