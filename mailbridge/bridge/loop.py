"""
The service loop: looks into the Maildirs, delivers, sends; one thread, which never waits for two
things at once and never looks at the clock without need.

The watch's threads only write to an event counter, which is polled beside the targets' sockets.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import zmq

from mailbridge.bridge.attention import Attention
from mailbridge.bridge.canary import Canaries
from mailbridge.bridge.places import Place
from mailbridge.bridge.report import Reporter
from mailbridge.bridge.target import Stop, Target
from mailbridge.maildir import Watch
from mailbridge.outbox import DiskFull
from mailbridge.service import HangUp, notify

log = logging.getLogger("mailbridge.loop")

PATIENCE: Final = 1.0
"""Seconds after which the loop turns anyway: another process may have put events in the outbox."""

FULL: Final = 15.0
"""Seconds until a disk that was full is tried again, though it does not say that there is room."""

ROOM: Final = 100 * 1024 * 1024
"""Bytes that must be free on the state's disk (or a twentieth of it) before mail is taken in."""


class Loop:
    """Everything that runs while the bridge does."""

    def __init__(  # noqa: PLR0913 - each is named at the one call
        self,
        state: Path,
        places: Sequence[Place],
        targets: Sequence[Target],
        *,
        started: float,
        watchdog: float | None = None,
        alarms: Callable[[], Sequence[str]] = tuple,
        rest: Callable[[], None] = lambda: None,
        attention: Attention | None = None,
        canaries: Canaries | None = None,
        reporter: Reporter | None = None,
        healthy: Callable[[], bool] = lambda: True,
        upkeep: Callable[[float], float] = lambda _: math.inf,
    ) -> None:
        """
        *started* is when this process began (Unix time); *watchdog* what systemd waits for.

        *rest* is called as long as no mail waits.
        *alarms* tells, in a few words each, what an operator should look after besides, and
        *attention* who is silent; *canaries* go the way of a mail; the *reporter* tells others how
        we stand; whoever runs in this process too says whether it is *healthy*.

        *upkeep* does a little of what keeps the state small, told of the time (monotonic), and says
        when it will do more.
        """
        self._state: Final = state
        self._places: Final = places
        self._targets: Final = targets
        self._started: Final = started
        self._alive_every: Final = watchdog / 2 if watchdog else math.inf
        self._alive_at = -math.inf
        self._wake: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch: Final = Watch(
            [place.path for place in places],
            self._woken,
            subfolders=[place.path for place in places if place.subfolders],
        )
        self._look_at = -math.inf
        self._full_until = -math.inf
        self._free = 0
        """Bytes that were free when the disk was full: as soon as there are more, we try again."""
        self._status = ""
        self.scan_seconds = 0.0
        """How long the last look through all Maildirs took."""
        self._alarms: Final = alarms
        self._rest: Final = rest
        self._attention: Final = attention
        self._canaries: Final = canaries
        self._reporter: Final = reporter
        self._healthy: Final = healthy
        self._upkeep: Final = upkeep
        self._stopping: Callable[[], bool] = lambda: False

    def start(self) -> None:
        """Watch, then look: every mail from now on, and each that is there, is known to us."""
        self._watch.start()
        self._look(time.monotonic())

    def run(self, stop: Stop, hangup: HangUp | None = None) -> bool:
        """
        Work until *stop* is readable, or *hangup* came: say whether it was that.

        The mail in hand is finished before this returns.
        """
        poller = zmq.Poller()
        if hangup:
            poller.register(hangup.fileno(), zmq.POLLIN)
        poller.register(stop.fileno(), zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        for target in self._targets:
            for socket in target.sockets:
                poller.register(socket, zmq.POLLIN)
        stopping = zmq.Poller()
        stopping.register(stop.fileno(), zmq.POLLIN)
        self._stopping = lambda: bool(stopping.poll(0))
        while not self._stopping():
            due = self._turn(time.monotonic())
            wait = min(max(due - time.monotonic(), 0), PATIENCE)
            # (Rounded up: a millisecond too early would be a round for nothing.)
            ready = dict(poller.poll(math.ceil(wait * 1000)))
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
                self._look_at = -math.inf
            if hangup and hangup.came():
                return True
        return False

    def close(self) -> None:
        """Watch no longer."""
        self._watch.stop()
        os.close(self._wake)

    # -- one turn ----------------------------------------------------------------------------------

    def _turn(self, now: float) -> float:
        """Do what is to be done, and return when there will be more."""
        due = [self._take_in(now)]
        self._pay_attention()
        due.append(self._send_canaries(now))
        due.append(self._send())
        due.append(self._keep_small())
        due.append(self._tell(now))
        return min([*due, self._alive_at + self._alive_every])

    def _take_in(self, now: float) -> float:
        if now < self._full_until and shutil.disk_usage(self._state).free <= self._free:
            return self._full_until
        try:
            self._look(now)
            self._need_room()
            for place in self._places:
                # (A long row of mails takes seconds, in which nobody would be sent anything.)
                place.work(stopping=self._stopping, between=self._send)
            if not any(place.backlog for place in self._places):
                self._rest()
        except DiskFull as error:
            self._wait_for_room(str(error))
            return self._full_until
        if self._full_until > -math.inf:
            log.info("%s: there is room again", self._state)
            self._full_until = -math.inf
        return min([self._look_at, *(place.due() for place in self._places)])

    def _send(self) -> float:
        due = [math.inf]
        for target in self._targets:
            try:
                due.append(target.turn(time.monotonic()))
            except DiskFull as error:
                self._wait_for_room(str(error))
        return min(due)

    def _pay_attention(self) -> None:
        if self._attention is None or self._full_until > -math.inf:
            return
        try:
            self._attention.turn(
                now=datetime.now(UTC), clock=time.monotonic(), waits=self._mail_waits
            )
        except DiskFull as error:
            self._wait_for_room(str(error))

    def _send_canaries(self, now: float) -> float:
        if self._canaries is None or self._full_until > -math.inf:
            return math.inf
        try:
            self._canaries.pass_on(self._targets)
            return self._canaries.send(now)
        except DiskFull as error:
            self._wait_for_room(str(error))
            return math.inf

    def _mail_waits(self, source: str) -> bool:
        """Say whether there is mail that *source* may have sent, or nobody could look for it."""
        return any(
            (place.backlog or place.trouble) and source in (s.name for s in place.sources)
            for place in self._places
        )

    def _look(self, now: float) -> None:
        if not self._watch.healthy():
            log.info("watching anew (%s)", self._watch.reason or "a folder or thread was gone")
            self._watch.rearm()
            for place in self._places:
                place.doubt()
            self._look_at = -math.inf
        everywhere = now >= self._look_at
        if everywhere:
            self._look_at = now + self._watch.interval
        began = time.monotonic()
        for place in self._places:
            if everywhere or (not place.backlog and now >= place.due()):
                place.look(started=self._started)
        if everywhere:
            self.scan_seconds = time.monotonic() - began

    def _need_room(self) -> None:
        if not any(place.backlog for place in self._places):
            return
        disk = shutil.disk_usage(self._state)
        if disk.free < min(ROOM, disk.total // 20):
            raise DiskFull(f"{self._state}: {disk.free >> 20} MB free on its disk")

    def _wait_for_room(self, why: str) -> None:
        if self._full_until == -math.inf:
            log.error("%s; no mail is taken in until there is room, none is lost", why)
        self._full_until = time.monotonic() + FULL
        self._free = shutil.disk_usage(self._state).free

    def _keep_small(self) -> float:
        try:
            return self._upkeep(time.monotonic())
        except DiskFull as error:
            self._wait_for_room(str(error))
            return math.inf

    # -- telling -----------------------------------------------------------------------------------

    def _tell(self, now: float) -> float:
        status = self.status()
        if now >= self._alive_at + self._alive_every:
            self._alive_at = now
            if self._healthy():
                notify("WATCHDOG=1")
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")
        return self._reporter.turned(self, status, now) if self._reporter else math.inf

    @property
    def watch_mode(self) -> str:
        """Whether the kernel tells us of new mail, or we have to look."""
        return self._watch.mode

    @property
    def watch_reason(self) -> str:
        """Why there is no watch; empty with one."""
        return self._watch.reason

    @property
    def is_full(self) -> bool:
        """Whether no mail is taken in until there is room."""
        return self._full_until > -math.inf

    def alarms(self) -> list[str]:
        """Return, in a few words each, what an operator should look after."""
        told = [*self._alarms(), *(alarm for place in self._places for alarm in place.alarms())]
        return told + (self._attention.alarms() if self._attention else [])

    def status(self) -> str:
        """Return how everything stands, in a line."""
        waiting = sum(place.backlog for place in self._places)
        parts = [f"{waiting} mails wait" if waiting else "no mail waits"]
        if time.monotonic() < self._full_until:
            parts.append("the disk is full")
        parts += self.alarms()
        parts += [target.status() for target in self._targets]
        if self._watch.mode == "poll":
            parts.append(self._watch.reason)
        return "; ".join(parts)

    def _woken(self) -> None:
        # Called by threads that end for good if this raises.
        with contextlib.suppress(BlockingIOError, OSError):
            os.eventfd_write(self._wake, 1)
