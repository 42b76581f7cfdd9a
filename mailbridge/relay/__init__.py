"""
The relay: takes signed events, journals them, publishes each once, and lets readers catch up.

One thread does it all, but for waiting for the disk.  What arrives together becomes durable
together, in one transaction; only then it is acknowledged, then published, then given to the
readers that wait.  What comes while the disk works is read by then.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import zmq

from mailbridge import config, failpoint, keyring
from mailbridge.errors import MailbridgeError, StorageFailed
from mailbridge.health import Health
from mailbridge.inspection import Inspection
from mailbridge.journal import Journal
from mailbridge.relay.claims import Claims
from mailbridge.relay.door import Door
from mailbridge.relay.frames import Message, receive, send
from mailbridge.relay.gate import Gate
from mailbridge.relay.intake import Frames, Intake, Submission
from mailbridge.relay.mirror import Mirror
from mailbridge.relay.publish import Publisher
from mailbridge.relay.read import Reads
from mailbridge.relay.report import Endpoints, Reporter
from mailbridge.relay.submit import Submissions
from mailbridge.signing import VerifyKey
from mailbridge.wire import sockets

__all__ = ["JOURNAL", "STUCK_SECONDS", "Endpoints", "Relay"]

JOURNAL: Final = "journal.db"

# One turn takes at most this; the rest waits in the queues of ZeroMQ, and then in TCP's.
_BATCH: Final = 512
_BATCH_BYTES: Final = 16 * 1024 * 1024
_AHEAD: Final = 64
_REQUESTS: Final = 64

# Subscribers that lost us come back within this; what is published before they do is lost on them.
_RESUME_SECONDS: Final = 1.0
_LINGER_MS: Final = 500
_PRUNE_SECONDS: Final = 600.0
_PULSE_SECONDS: Final = 5.0

STUCK_SECONDS: Final = 60.0
"""Without one turn in so long the thread hangs: a disk that is merely slow does not take it."""

_log = logging.getLogger(__name__)


class Relay:
    """One relay on one state directory.  Its thread runs between `start` and `stop`."""

    def __init__(  # noqa: PLR0913 - each is named at the one call
        self,
        state: Path,
        settings: config.Relay,
        *,
        own: Mapping[str, VerifyKey] | None = None,
        stand_in: bool = False,
        on_failure: Callable[[], None] = lambda: None,
        health: Health | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        *own* keys, an embedded bridge's, may emit any tag, but Laniakea's of the archive only if
        they *stand in* for it.

        *on_failure* is called, in the relay's thread, if that ends by itself; `failure` says why.
        How we stand is told in *state*, and to *health*.
        """
        self._state: Final = state
        self._settings: Final = settings
        self._own: Final = dict(own or {})
        self._stand_in: Final = stand_in
        self._on_failure: Final = on_failure
        self._health: Final = health or Health()
        self._now: Final = now
        self._keep: Final = timedelta(seconds=config.duration(settings.keep, "relay.keep"))
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._turned = time.monotonic()
        self._ahead: list[tuple[Message, Submission]] = []
        """What came, and was read, while the disk worked on what had come before."""
        self.failure: BaseException | None = None
        """What ended the thread, if it was not `stop`."""

    def start(self) -> None:
        """
        Open the journal, bind the sockets, and serve from now on.

        Raises `TryAgain`, `NeedsOperator`, `NotPermitted` or `StorageFailed`, and then has nothing
        open.
        """
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"{self._state}: cannot be made: {error.strerror}") from error
        secret = keyring.ensure(self._state, "relay", qualified=config.qualified_name)
        gate = Gate(self._state, secret.entity, self._own, stand_in=self._stand_in)
        self._journal = Journal.open(self._state / JOURNAL)
        self._context = sockets.make_context()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._open = contextlib.ExitStack()
        self._inspection = Inspection(self._journal.inspector.look)
        self._claims = claims = Claims(self._journal, gate)
        self._submissions = Submissions(self._journal, gate, secret, claims)
        try:
            self._submit = self._opened(sockets.submit_server(self._context))
            self._door = self._guarded(secret.entity) if self._settings.curve else None
            self.endpoints = self._bind()
            self._publisher = Publisher(self._publish, self._journal)
            self._reads = Reads(self._journal, gate, secret, claims, self._answer_reader)
            self._intake = Intake(
                self._journal,
                self._submissions,
                self._publisher,
                now=self._now,
                on_news=self._reads.wake,
            )
            self._mirror = Mirror(
                self._context, self._settings, self._journal, self._intake, gate.keys
            )
            self._open.callback(self._mirror.close)
            self._reporter = Reporter(
                self._state, secret.entity, self.endpoints, self._journal, self._health
            )
            self._open.callback(self._reporter.close)
        except BaseException:
            self._close()
            raise
        self.key = secret.verify_key
        failpoint.reached("relay-bound")
        self._thread = threading.Thread(target=self._serve, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand and close everything.  Calling it twice, or early, is fine."""
        if self._thread is None:
            return
        self._stopping.set()
        with contextlib.suppress(OSError):
            # (Closed already, if the thread ended by itself.)
            os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._thread = None

    @property
    def counts(self) -> Counter[str]:
        """How many events had which outcome since the start."""
        return self._intake.counts

    @property
    def own_curve(self) -> sockets.Curve | None:
        """What its own process connects to it with; None where it takes anybody."""
        if not self._settings.curve:
            return None
        pair = keyring.ensure_curve(self._state, self.key.entity)
        return sockets.Curve(pair.public, *pair)

    @property
    def healthy(self) -> bool:
        """Whether its thread still does its rounds."""
        return self.failure is None and time.monotonic() - self._turned < STUCK_SECONDS

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the thread --------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._loop()
            with self._journal.batch(self._now()) as batch:
                batch.published(self._publisher.position)
        except MailbridgeError as error:
            _log.critical("the relay stops: %s", error)
            self.failure = error
        except BaseException as error:  # noqa: BLE001 - the thread ends, its owner must know why
            _log.critical("the relay stops by a bug", exc_info=error)
            self.failure = error
        finally:
            self._close()
            if self.failure:
                self._on_failure()

    def _loop(self) -> None:
        door = self._door.sockets if self._door else ()
        ours = (self._submit, self._read, self._wake, *door)
        poller, polled = zmq.Poller(), None
        began = time.monotonic()
        resume = began + _RESUME_SECONDS if self._publisher.is_behind else math.inf
        prune = began
        while not self._stopping.is_set():
            mirrored = self._mirror.turn(self._now())
            if polled != (watched := [*ours, *self._mirror.sockets]):
                poller, polled = zmq.Poller(), watched
                for one in watched:
                    poller.register(one, zmq.POLLIN)
            looked = self._inspection.turn(time.monotonic())
            due = min(self._reads.next_deadline(), resume, prune, mirrored, looked, self._report())
            self._turned = time.monotonic()
            wait = 0.0 if self._ahead else max(0.0, min(due - self._turned, _PULSE_SECONDS))
            ready = {one for one, _ in poller.poll(math.ceil(wait * 1000))}
            if self._door:
                self._door.turn()
            if self._submit in ready or self._ahead:
                self._take_submissions()
            if self._read in ready:
                self._take_requests()
            now = time.monotonic()
            self._reads.expire(now)
            if now >= resume:
                self._publisher.publish_rest()
                resume = math.inf
            if now >= prune:
                pruned = self._journal.prune(self._now() - self._keep)
                prune = now if pruned else now + _PRUNE_SECONDS
        if self._ahead:
            # (Who asked for no answer would not send it again.)
            self._take_submissions()

    def _report(self) -> float:
        return self._reporter.turned(
            time.monotonic(),
            counts=self.counts,
            published=self._publisher.position,
            readers=self._reads.waiting,
            contradicted=self._claims,
            alarms=self._inspection.alarms(),
        )

    def _take_submissions(self) -> None:
        """Journal, answer for and publish what has come; what comes meanwhile is read by then."""
        ahead, self._ahead = self._ahead, []
        arrived = self._arrived(_BATCH - len(ahead))
        failpoint.reached("relay-received")
        read = self._intake.read([message.frames for message in arrived])
        taken = [*ahead, *zip(arrived, read, strict=True)]
        journaled = self._intake.journal([one for _, one in taken], meanwhile=self._read_ahead)
        failpoint.reached("relay-stored")
        for (message, _), answer in zip(taken, journaled.answers, strict=True):
            if answer is not None:
                send(self._submit, (message.peer, answer))
        failpoint.reached("relay-answered")
        self._intake.publish(journaled.publish)

    def _read_ahead(self, is_enough: Callable[[], bool]) -> None:
        """Read some of what comes, one by one, until it *is enough*: most of that is arithmetic."""
        size = 0
        while len(self._ahead) < _AHEAD and size < _BATCH_BYTES:
            if is_enough() or self._stopping.is_set() or not (arrived := self._arrived(1)):
                return
            frames = [message.frames for message in arrived]
            self._ahead += zip(arrived, self._intake.read(frames), strict=True)
            size += sum(map(len, frames[0]))

    def _arrived(self, most: int) -> list[Message]:
        """Return what has come, at most so much."""
        arrived: list[Message] = []
        size = 0
        while len(arrived) < most and size < _BATCH_BYTES:
            message = receive(self._submit, curve=self._door is not None)
            if message is None:
                break
            if self._door and not self._door.admits(message.user):
                # (Let in once, and not allowed any more.  Silence keeps it with its source.)
                continue
            arrived.append(message)
            size += sum(map(len, message.frames))
        return arrived

    def _take_requests(self) -> None:
        for _ in range(_REQUESTS):
            message = receive(self._read)
            if message is None:
                return
            if message.frames:
                self._take_request(message)

    def _take_request(self, message: Message) -> None:
        try:
            self._reads.take(message.peer, message.frames, time.monotonic())
        except MailbridgeError:
            raise
        except Exception:  # noqa: BLE001
            # A bug that a stranger's bytes can reach must not be his switch to turn us off.
            _log.exception("a bug, set off by a reader's question")

    def _answer_reader(self, frames: Frames) -> None:
        # (To a reader that is gone, or does not fetch, ROUTER drops it.  He asks again.)
        failpoint.reached("relay-read")
        send(self._read, frames)

    # -- opening and closing -----------------------------------------------------------------------

    def _guarded(self, entity: str) -> Door:
        pair = keyring.ensure_curve(self._state, entity)
        door = Door(self._context, self._state, pair, self._submit)
        self._open.callback(door.close)
        return door

    def _bind(self) -> Endpoints:
        self._publish = self._opened(sockets.publish_server(self._context))
        self._read = self._opened(sockets.read_server(self._context))
        return Endpoints(
            sockets.bind(self._submit, self._settings.submit, "submit"),
            sockets.bind(self._publish, self._settings.publish, "publish"),
            sockets.bind(self._read, self._settings.read, "read"),
        )

    def _opened(self, socket: sockets.Socket) -> sockets.Socket:
        # (Not for ever: what was just published and answered shall get out.)
        self._open.callback(socket.close, linger=_LINGER_MS)
        return socket

    def _close(self) -> None:
        self._open.close()
        self._context.term()
        self._journal.close()
        os.close(self._wake)
