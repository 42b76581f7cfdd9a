"""
Bridge, wire, relay and reader in one process, without sockets and threads: a test is the clock.

Outbox, gateway, target, journal, gate, intake and reader are our own, on files of their own; what
is made up is the wire between them, and the clock of the one who sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import pytest
import zmq

from mailbridge import failpoint, keyring
from mailbridge.bridge import submit
from mailbridge.bridge.deliver import Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.submit import RelayTarget
from mailbridge.config import Source
from mailbridge.event import read_event
from mailbridge.journal import Journal
from mailbridge.outbox import FileKey, Outbox
from mailbridge.reader import open_events
from mailbridge.relay.claims import Claims
from mailbridge.relay.gate import Gate
from mailbridge.relay.intake import Intake
from mailbridge.relay.publish import Publisher
from mailbridge.relay.submit import Submissions
from mailbridge.signing import SigningKey

BRIDGE: Final = SigningKey("mailbridge.lists.example.org", bytes(range(32)))
RELAY: Final = SigningKey("relay.example.org", bytes(range(32, 64)))
SOURCE: Final = Source(name="made-up", maildir="/nowhere")

Frames = Sequence[bytes]


class Died(BaseException):
    """What a process does that is killed: nothing of it runs any more."""


class Fuse:
    """Where whoever runs is to die, as `failpoint` says it to a process."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def set(self, place: str, times: int) -> None:
        """Let it die when it comes by *place* so often."""
        self._left = {place: times}

    def out(self) -> None:
        """Let it live."""
        self._left = {}

    def reached(self, place: str) -> None:
        """Die, if it is time."""
        if place in self._left:
            self._left[place] -= 1
            if self._left[place] == 0:
                raise Died


class Wire:
    """What is on its way between bridge and relay."""

    def __init__(self) -> None:
        self.up: Final[deque[Frames]] = deque()
        self.down: Final[deque[Frames]] = deque()

    # As a bridge's socket, and as what watches over it:

    def send_multipart(self, frames: Frames, _flags: int) -> None:
        """Take what the bridge sends."""
        self.up.append(frames)

    def recv_multipart(self, _flags: int) -> Frames:
        """Give what the relay answered."""
        if not self.down:
            raise zmq.Again
        return self.down.popleft()

    def close(self, linger: int = 0) -> None:
        """End nothing: what is on its way is on its way."""

    def turn(self, _now: float) -> str:
        """Let it in."""
        return ""

    due: Final = float("inf")


class Subscriber:
    """What came out on PUB."""

    def __init__(self) -> None:
        self.events: Final[list[bytes]] = []

    def send(self, frame: bytes, flags: int) -> None:
        """Take a frame; the last of a message is the event."""
        if not flags & zmq.SNDMORE:
            self.events.append(frame)


class Bridge:
    """From mails to what is sent of them."""

    def __init__(self, state: Path, wire: Wire) -> None:
        now = datetime.now(UTC)
        self.outbox: Final = Outbox(state / "outbox.db", BRIDGE, now=now)
        self._gateway: Final = Gateway(self.outbox, Quarantine(state / "quarantine"), Settings())
        with self.outbox.transaction():
            place = self.outbox.place(b"/nowhere")
            self._place: Final = place or self.outbox.add_place(b"/nowhere", now=now)
        self.target: Final = RelayTarget(cast(Any, wire), "tcp://127.0.0.1:1", self.outbox)

    def deliver(self, mails: Sequence[tuple[int, bytes]]) -> list[Outcome]:
        """Bring *mails*, each with the number of its file, to their verdicts."""
        now = datetime.now(UTC)
        return self._gateway.deliver(
            [Delivery(raw, (SOURCE,), now, file=self.file(n)) for n, raw in mails]
        )

    def emit(self, uuid: str, tag: str, data: dict[str, Any]) -> bool:
        """Give out an event of one's own; say whether it is new."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        fields = {"id": tag, "tag": tag, "uuid": uuid, "format": "1.0", "time": time, "data": data}
        with self.outbox.transaction():
            return self.outbox.emit(fields, mail=None, backfill=False)

    def compact(self) -> int:
        """Keep of what was received no more than is needed; return of how many events."""
        return self.outbox.ageing.compact(datetime.now(UTC) + timedelta(days=1))

    def file(self, number: int) -> FileKey:
        """Return what the outbox knows file *number* by."""
        return FileKey(self._place, b"%d" % number, number)

    def close(self) -> None:
        """End.  What is in no transaction stays."""
        self.outbox.close()


class Relay:
    """From what is submitted to the journal, and from there to PUB."""

    def __init__(self, state: Path, wire: Wire) -> None:
        self.subscriber: Final = Subscriber()
        self.journal: Final = Journal.open(state / "journal.db")
        gate = Gate(state, RELAY.entity, {BRIDGE.entity: BRIDGE.verify_key})
        submissions = Submissions(self.journal, gate, RELAY, Claims(self.journal, gate))
        self._wire: Final = wire
        self._publisher: Final = Publisher(cast(Any, self.subscriber), self.journal)
        self._intake: Final = Intake(
            self.journal,
            submissions,
            self._publisher,
            now=lambda: datetime.now(UTC),
            on_news=lambda: None,
        )

    def resume(self) -> None:
        """Publish what the one before did not come to."""
        self._publisher.publish_rest()

    def serve(self, most: int) -> None:
        """Do with what arrived, at most so much of it, what a relay's turn does."""
        arrived = [self._wire.up.popleft() for _ in range(min(most, len(self._wire.up)))]
        failpoint.reached("relay-received")
        journaled = self._intake.journal(self._intake.read(arrived))
        failpoint.reached("relay-stored")
        self._wire.down.extend([answer] for answer in journaled.answers if answer is not None)
        failpoint.reached("relay-answered")
        self._intake.publish(journaled.publish)

    def events(self) -> list[bytes]:
        """Return what readers are given, in order."""
        rows = self.journal.frames(0, 1_000_000)
        return [raw for _, _, raw in rows if raw is not None]

    def close(self) -> None:
        """End.  What is in no transaction stays."""
        self.journal.close()


class Reader:
    """Somebody who handles events and remembers how far he came."""

    def __init__(self, state: Path) -> None:
        self._url: Final = (state / "journal.db").as_uri()
        self._keys: Final = state / "readers-keys"
        self._cursor: Final = state / "cursor"
        keyring.write_public(self._keys / f"{BRIDGE.entity}.key", BRIDGE.verify_key)

    def read(self, most: int, *, dies: bool) -> list[bytes]:
        """Handle at most so many events; with *dies* end over the last of them."""
        handled: list[bytes] = []
        with open_events(
            self._url, keys=self._keys, since="start", cursor_file=self._cursor, follow=False
        ) as events:
            while len(handled) < most and (event := next(events, None)):
                handled.append(event.raw)
            if not dies:
                events.handled()
        return handled


@cache
def named(raw: bytes) -> str:
    """Return what an event tells, in a word."""
    data = read_event(raw).data
    return str(data.get("source_name") or data["built"])


@contextmanager
def in_one_process(wire: Wire, fuse: Fuse) -> Iterator[None]:
    """Have a bridge send by *wire* and everybody die by *fuse*."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit, "submitter", lambda *_words, **_named: wire)
        patch.setattr(submit, "Entrance", lambda *_words: wire)
        patch.setattr(failpoint, "reached", fuse.reached)
        yield
