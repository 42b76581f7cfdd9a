"""
The relay: takes signed events, journals them, publishes each once, and lets readers catch up.

One thread does it all.  What arrives together becomes durable together, in one transaction; only
then it is acknowledged, then published, then given to the readers that wait.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import zmq

from mailbridge import config, failpoint, keyring
from mailbridge.errors import MailbridgeError, StorageFailed
from mailbridge.journal import Batch, Journal
from mailbridge.relay.claims import Claims
from mailbridge.relay.gate import Gate
from mailbridge.relay.read import Reads
from mailbridge.relay.submit import Answer, Submissions
from mailbridge.signing import VerifyKey
from mailbridge.wire import sockets

JOURNAL: Final = "journal.db"

# One turn takes at most this; the rest waits in the queues of ZeroMQ, and then in TCP's.
_BATCH: Final = 512
_BATCH_BYTES: Final = 16 * 1024 * 1024
_REQUESTS: Final = 64

_FRAMES: Final = 72
"""Frames of one message that are looked at; the rest is dropped unread."""

# Subscribers that lost us come back within this; what is published before they do is lost on them.
_RESUME_SECONDS: Final = 1.0
_LINGER_MS: Final = 500
_PRUNE_SECONDS: Final = 600.0
_SPEAK_SECONDS: Final = 10.0
_PULSE_SECONDS: Final = 5.0

STUCK_SECONDS: Final = 60.0
"""Without one turn in so long the thread hangs: a disk that is merely slow does not take it."""

_log = logging.getLogger(__name__)


class Endpoints(NamedTuple):
    """Where a relay listens, as bound."""

    submit: str
    publish: str
    read: str


class _Message(NamedTuple):
    """What came through a ROUTER."""

    peer: bytes
    frames: Sequence[bytes]


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
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """
        *own* keys, an embedded bridge's, may emit any tag, but Laniakea's of the archive only if
        they *stand in* for it.

        *on_failure* is called, in the relay's thread, if that ends by itself; `failure` says why.
        """
        self._state: Final = state
        self._settings: Final = settings
        self._own: Final = dict(own or {})
        self._stand_in: Final = stand_in
        self._on_failure: Final = on_failure
        self._now: Final = now
        self._keep: Final = timedelta(seconds=config.duration(settings.keep, "relay.keep"))
        self._thread: threading.Thread | None = None
        self._spoke: dict[str, float] = {}
        self._stopping = threading.Event()
        self._turned = time.monotonic()
        self.failure: BaseException | None = None
        """What ended the thread, if it was not `stop`."""
        self.counts: Final[Counter[str]] = Counter()
        """How many submissions had which outcome since the start."""

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
        self._open: list[sockets.Socket] = []
        try:
            self.endpoints = self._bind()
        except BaseException:
            self._close()
            raise
        self.key = secret.verify_key
        failpoint.reached("relay-bound")
        claims = Claims(self._journal, gate)
        self._submissions = Submissions(self._journal, gate, secret, claims)
        self._reads = Reads(self._journal, gate, secret, claims, self._answer_reader)
        self._published = self._journal.published()
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
                batch.published(self._published)
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
        poller = zmq.Poller()
        for watched in (self._submit, self._read, self._wake):
            poller.register(watched, zmq.POLLIN)
        began = time.monotonic()
        resume = began + _RESUME_SECONDS if self._published < self._journal.newest() else math.inf
        prune = began
        while not self._stopping.is_set():
            due = min(self._reads.next_deadline(), resume, prune)
            self._turned = time.monotonic()
            wait = max(0.0, min(due - self._turned, _PULSE_SECONDS))
            ready = {watched for watched, _ in poller.poll(math.ceil(wait * 1000))}
            if self._submit in ready:
                self._take_submissions()
            if self._read in ready:
                self._take_requests()
            now = time.monotonic()
            self._reads.expire(now)
            if now >= resume:
                self._publish_rest()
                resume = math.inf
            if now >= prune:
                pruned = self._journal.prune(self._now() - self._keep)
                prune = now if pruned else now + _PRUNE_SECONDS

    def _take_submissions(self) -> None:
        arrived = self._arrived()
        failpoint.reached("relay-received")
        now = self._now()
        answers: list[tuple[bytes, bytes]] = []
        publish: list[tuple[bytes, bytes]] = []
        with self._journal.batch(now) as batch:
            for message in arrived:
                answer = self._settle(message, batch, now, publish)
                if answer is not None:
                    answers.append((message.peer, answer))
            if publish:
                # What went out before: so the mark reaches the disk without an fsync of its own.
                batch.published(self._published)
        failpoint.reached("relay-stored")
        for told in answers:
            _send(self._submit, told)
        failpoint.reached("relay-answered")
        if publish:
            self._publish_first(publish)
            failpoint.reached("relay-published")
            self._reads.wake()

    def _arrived(self) -> list[_Message]:
        arrived: list[_Message] = []
        size = 0
        while len(arrived) < _BATCH and size < _BATCH_BYTES:
            message = _receive(self._submit)
            if message is None:
                break
            arrived.append(message)
            size += sum(map(len, message.frames))
        return arrived

    def _settle(
        self, message: _Message, batch: Batch, now: datetime, publish: list[tuple[bytes, bytes]]
    ) -> bytes | None:
        """Return what to answer, if the source wants to know; add to *publish* what goes out."""
        body, word = (*message.frames, b"", b"")[:2]
        if word == b"head":
            return self._submissions.head(body, batch)
        if word == b"ask":
            return self._submissions.question(body)
        taken = self._submissions.event(body, batch, now)
        self._count(taken.answer)
        if taken.publish:
            publish.append(taken.publish)
        return msgspec.json.encode(taken.answer) if word == b"ack" else None

    def _publish_first(self, frames: Sequence[tuple[bytes, bytes]]) -> None:
        newest = self._journal.newest()
        if newest - self._published > len(frames):
            # (From before a crash, not resumed yet; or links of a feed that readers do not see.)
            self._publish_rest()
            return
        for message in frames:
            _send(self._publish, message)
            failpoint.reached("relay-publishing")
        self._published = newest

    def _publish_rest(self) -> None:
        while rows := self._journal.frames(self._published, _BATCH):
            for pos, tag, raw in rows:
                _send(self._publish, (tag.encode(), raw))
                self._published = pos
        self._published = self._journal.newest()

    def _take_requests(self) -> None:
        for _ in range(_REQUESTS):
            message = _receive(self._read)
            if message is None:
                return
            if message.frames:
                self._take_request(message)

    def _take_request(self, message: _Message) -> None:
        try:
            self._reads.take(message.peer, message.frames, time.monotonic())
        except MailbridgeError:
            raise
        except Exception:  # noqa: BLE001
            # A bug that a stranger's bytes can reach must not be his switch to turn us off.
            _log.exception("a bug, set off by a reader's question")

    def _answer_reader(self, frames: Sequence[bytes]) -> None:
        # (To a reader that is gone, or does not fetch, ROUTER drops it.  He asks again.)
        failpoint.reached("relay-read")
        _send(self._read, frames)

    def _count(self, answer: Answer) -> None:
        self.counts[answer.status] += 1
        if answer.status in ("stored", "duplicate"):
            _log.debug("%s uuid=%s feed=%s seq=%s", *answer_facts(answer))
            return
        # Whoever sends garbage must not fill the log with it.
        now = time.monotonic()
        if now - self._spoke.get(answer.status, -math.inf) >= _SPEAK_SECONDS:
            self._spoke[answer.status] = now
            _log.warning("%s uuid=%s feed=%s seq=%s: %s", *answer_facts(answer), answer.reason)

    # -- opening and closing -----------------------------------------------------------------------

    def _bind(self) -> Endpoints:
        self._submit = self._opened(sockets.submit_server(self._context))
        self._publish = self._opened(sockets.publish_server(self._context))
        self._read = self._opened(sockets.read_server(self._context))
        return Endpoints(
            sockets.bind(self._submit, self._settings.submit, "submit"),
            sockets.bind(self._publish, self._settings.publish, "publish"),
            sockets.bind(self._read, self._settings.read, "read"),
        )

    def _opened(self, socket: sockets.Socket) -> sockets.Socket:
        self._open.append(socket)
        return socket

    def _close(self) -> None:
        for socket in self._open:
            # (Not for ever: what was just published and answered shall get out.)
            socket.close(linger=_LINGER_MS)
        self._context.term()
        self._journal.close()
        os.close(self._wake)


# Plain integers: pyzmq's enumerations, combined for every frame, cost more than the sending.
_LAST: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)


def _send(socket: sockets.Socket, frames: Sequence[bytes]) -> None:
    for frame in frames[:-1]:
        socket.send(frame, _MORE)
    socket.send(frames[-1], _LAST)


def _receive(socket: sockets.Socket) -> _Message | None:
    try:
        peer = frame = socket.recv(_LAST, copy=False)
    except zmq.Again:
        return None
    frames: list[bytes] = []
    while frame.more:
        frame = socket.recv(copy=False)
        if len(frames) < _FRAMES:
            frames.append(frame.bytes)
    return _Message(peer.bytes, frames)


def answer_facts(answer: Answer) -> tuple[object, ...]:
    """Return what a log line says of *answer*."""
    return answer.status, answer.uuid, answer.feed, answer.seq
