"""
Our relay as a target: every event is sent until the relay says that it is on its disk.

Before the first event the relay is asked how far it has this feed.  If it is further than we are,
or has another history, our outbox is lost or restored: then nothing is sent (wire.md, The feed).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from typing import Final

import msgspec
import zmq

from mailbridge import failpoint
from mailbridge.bridge.curve import Entrance
from mailbridge.bridge.target import Ledger
from mailbridge.errors import MalformedEvent, NeedsOperator
from mailbridge.event import parse_json
from mailbridge.feed import Head
from mailbridge.wire.sockets import WINDOW, Context, Curve, submitter

log = logging.getLogger("mailbridge.submit")

RESEND: Final = 0.5
RESEND_MAX: Final = 30.0
"""Seconds of silence before the same bytes go out again: doubled each time, up to the second."""

HELD: Final = 60.0
"""Seconds after which a relay that would not have an event is asked again."""

HEAD_EVERY: Final = 60.0
"""Seconds between signed heads, by which a reader tells "quiet" from "withheld"."""

NEW_EPOCH: Final = (
    "nothing is sent; if the outbox was lost or restored, start once with --new-epoch"
)


class Answer(msgspec.Struct, kw_only=True):
    """What a relay answers to an event or a head; what its status does not need is absent."""

    status: str
    uuid: str | None = None
    feed: str | None = None
    seq: int | None = None
    hash: str | None = None
    want: int | None = None
    nonce: str | None = None
    reason: str | None = None
    feeds: dict[str, tuple[int, str | None]] = msgspec.field(default_factory=dict)
    claimed: tuple[int, str] | None = None


class RelayTarget:
    """One relay of ours that everything in the outbox goes to.  See `target.Target`."""

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        context: Context,
        endpoint: str,
        ledger: Ledger,
        *,
        name: str = "",
        ancestors: Collection[str] = (),
        curve: Curve | None = None,
    ) -> None:
        """
        Connect to *endpoint*, remembered by *name* where its port may change.

        *ancestors* are the former feeds of this entity that we know of.
        """
        self.name: Final = name or endpoint
        self._ledger: Final = ledger
        self._ancestors: Final = ancestors
        self._feed: Final = ledger.head().feed
        self._known: Final = ledger.acknowledged(self.name)
        # (Behind what may fail: an open socket keeps its context from ending.)
        self._socket: Final = submitter(context, endpoint, curve=curve)
        self._entrance: Final = Entrance(self._socket, endpoint, curve)
        self._agreed = False
        """The relay's head is known, and ours goes on from there."""
        self._owed = False
        """It was not told yet what we have."""
        self._acked = 0
        self._sent = 0
        self._window = 1
        """1 until the relay answers: what is not heard need not be said 64 times."""
        self._patience = RESEND
        self._resend_at = -math.inf
        self._head_at = -math.inf
        self._held_until = -math.inf
        self._gap_at = -math.inf
        self._reason = ""
        self._lacks = ""
        """What the relay wants and we do not keep any more, for a person."""
        self._canary = ""
        """One that it is still to be given."""
        self._echoed: list[str] = []
        self.resent = 0
        """How many events went out again because no answer came."""

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        """Its socket, and what tells of handshakes."""
        return (self._socket, self._entrance.socket)

    def turn(self, now: float) -> float:
        """Take what the relay said, send what is due, and return when the next turn is."""
        before = self._acked
        if refused := self._entrance.turn(now):
            self._refused(refused, now)
        while (answer := self._receive()) is not None:
            self._take(answer, now)
        if self._acked > before:
            failpoint.reached("answered")
            self._ledger.acknowledge(self.name, self._acked)
            failpoint.reached("acknowledged")
        if now >= self._held_until:
            self._send_due(now)
        due = max(self._head_at, self._held_until)
        if not self._agreed or self._sent > self._acked:
            due = min(due, max(self._resend_at, self._held_until))
        return min(due, self._entrance.due)

    def status(self) -> str:
        """Return how far the relay is, or what is wrong with it."""
        waiting = self.waiting
        if self._reason or not self._agreed:
            return f"{self.name} {self._reason or 'was not heard of yet'}; {waiting} events wait"
        return f"{waiting} events on the way" if waiting else "all received"

    @property
    def acked(self) -> int:
        """The number up to which the relay has everything, as far as we know."""
        return self._acked if self._agreed else self._known

    @property
    def trouble(self) -> bool:
        """Whether the relay does not answer, or does not take our events."""
        return bool(self._reason)

    def canary(self, nonce: str) -> bool:
        """Send a canary, which the relay answers once its disk has done its part."""
        # (One that does not answer is not given a heap of them: the last will do.)
        self._canary = nonce
        return True

    def echoed(self) -> list[str]:
        """Return the canaries that came back since this was asked last."""
        echoed, self._echoed = self._echoed, []
        return echoed

    @property
    def waiting(self) -> int:
        """How many events the relay has not acknowledged."""
        return self._ledger.head().seq - self._acked

    @property
    def is_held(self) -> bool:
        """Whether the relay does not let us emit what comes next, until somebody permits it."""
        return self._reason.startswith("holds")

    @property
    def settled(self) -> bool:
        """Whether the relay has everything that is in the outbox."""
        return self._agreed and not self.waiting

    def close(self) -> None:
        """Close the sockets."""
        self._entrance.close()
        self._socket.close(linger=0)

    # -- sending -----------------------------------------------------------------------------------

    def _send_due(self, now: float) -> None:
        self._tell_head(now)
        if not self._agreed:
            return
        if self._canary and self._give([self._ledger.signed_canary(self._canary), b"canary"]):
            self._canary = ""
        if self._sent > self._acked and now >= self._resend_at:
            self.resent += self._sent - self._acked
            self._sent, self._window = self._acked, 1
            self._silence(now)
        room = self._acked + self._window - self._sent
        if room <= 0:
            return
        for event in self._ledger.after(self._sent, room):
            if not self._give([event.raw, b"ack"]):
                return
            if self._sent == self._acked:
                self._resend_at = now + self._patience
            self._sent = event.seq
            failpoint.reached("sent")

    def _tell_head(self, now: float) -> None:
        owed = self._owed and not self.waiting
        unanswered = not self._agreed and now >= self._resend_at
        if not owed and not unanswered and now < self._head_at:
            return
        # (Before it is clear that this feed goes on, nobody shall wait for what it has.)
        self._give([self._ledger.signed_head(asking=not self._agreed), b"head"])
        failpoint.reached("head-sent")
        self._head_at = now + HEAD_EVERY
        if self._agreed:
            self._owed = False
        else:
            self._silence(now)

    def _silence(self, now: float) -> None:
        """Wait twice as long as before for the next answer."""
        if self._patience > 4 * RESEND and not self._reason:
            self._reason = "does not answer"
            log.warning("%s does not answer; mail is taken in, events wait", self.name)
        self._resend_at = now + self._patience
        self._patience = min(2 * self._patience, RESEND_MAX)

    def _refused(self, why: str, now: float) -> None:
        """Tell once that it does not let us in; the events wait."""
        if why != self._reason:
            log.error("%s %s; events wait", self.name, why)
        self._reason = why
        # (Once it does, nobody shall have to wait for a timer that silence made long.)
        self._patience = min(self._patience, 4 * RESEND)
        self._resend_at = min(self._resend_at, now + self._patience)

    def _give(self, frames: list[bytes]) -> bool:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            # Its queue is full, or nobody is connected: the resend timer comes round.
            return False
        return True

    # -- answers -----------------------------------------------------------------------------------

    def _receive(self) -> Answer | None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            try:
                return msgspec.convert(parse_json(frames[0]), Answer)
            except (MalformedEvent, msgspec.ValidationError) as error:
                log.warning("%s answers nonsense: %s", self.name, error)

    def _take(self, answer: Answer, now: float) -> None:
        # (Behind an event that is held come as many gaps as the window had events: no news.)
        if self._reason and not (self._lacks or answer.status == "held" or now < self._held_until):
            log.info("%s answers", self.name)
            self._reason = ""
        match answer.status:
            case "head":
                self._agree(answer, now)
            case "held":
                self._hold(answer, now)
            case "stored" | "duplicate":
                self._acknowledge(answer, now)
            case "gap":
                self._go_back(answer, now)
            case "canary":
                self._echoed.append(answer.nonce or "")
            case "refused":
                raise NeedsOperator(
                    f"{self.name} refuses event {answer.seq} ({answer.uuid}) for good:"
                    f" {answer.reason}; {NEW_EPOCH}"
                )
            case other:
                log.warning("%s answers %r, which we do not know", self.name, other)

    def _agree(self, answer: Answer, now: float) -> None:
        """Go on where the relay is; or raise `NeedsOperator`, because it knows another history."""
        ours = self._ledger.head()
        if answer.feed != ours.feed:
            return
        theirs, newest = answer.seq or 0, self._compared(answer, ours)
        if theirs < self._ledger.horizon() <= newest:
            if not self._agreed:
                log.warning(
                    "%s lacks events of %s behind number %d that are not kept here any more",
                    *(self.name, ours.feed, theirs),
                )
            theirs = newest
        if theirs < self._ledger.horizon():
            self._lack(theirs, now)
            return
        if self._lacks:
            log.info("%s has what it lacked", self.name)
            self._lacks = self._reason = ""
        if not self._agreed or theirs < self._acked:
            if theirs < max(self._acked, self._known):
                log.warning("%s lost what came after %d; sending it again", self.name, theirs)
            self._acked = self._sent = theirs
        if not self._agreed:
            self._agreed, self._owed = True, True
        self._heard(now)

    def _compared(self, answer: Answer, ours: Head) -> int:
        """Return the newest number that the relay has; raise if it is not of our history."""
        theirs = answer.seq or 0
        # (Of a feed without events it knows the head alone: nothing of that was lost.)
        strange = [
            feed
            for feed, (seq, _) in answer.feeds.items()
            if seq and feed != ours.feed and feed not in self._ancestors
        ]
        if strange:
            raise NeedsOperator(
                f"{self.name} has the feed {strange[0]}, of which our outbox knows nothing;"
                f" {NEW_EPOCH}"
            )
        if answer.claimed and self._ledger.hash_of(answer.claimed[0]) != answer.claimed[1]:
            # (Both of us were restored, and agree; who read meanwhile knows better.)
            raise NeedsOperator(
                f"a reader of {self.name} holds another event {answer.claimed[0]} of {ours.feed}"
                f" than our outbox; {NEW_EPOCH}"
            )
        # (Where something is missing there, it wants that first, and has more than it says.)
        newest = answer.feeds.get(ours.feed, (theirs, answer.hash))
        for seq, hashed in ((theirs, answer.hash), newest):
            if seq > ours.seq:
                raise NeedsOperator(
                    f"{self.name} has {ours.feed} up to {seq}, our outbox ends at {ours.seq};"
                    f" {NEW_EPOCH}"
                )
            if seq and self._ledger.hash_of(seq) != hashed:
                raise NeedsOperator(
                    f"{self.name} has another event {seq} of {ours.feed} than our outbox;"
                    f" {NEW_EPOCH}"
                )
        return newest[0]

    def _acknowledge(self, answer: Answer, now: float) -> None:
        seq = answer.seq or 0
        # The hash, so that a stray answer clears nothing.
        if (
            answer.feed == self._feed
            and seq > self._acked
            and self._ledger.hash_of(seq) == answer.hash
        ):
            self._acked = seq
            self._sent = max(self._sent, seq)
            self._heard(now)

    def _go_back(self, answer: Answer, now: float) -> None:
        want = answer.want or 0
        if answer.feed != self._feed or want < 1:
            return
        if want > self._ledger.head().seq + 1:
            raise NeedsOperator(
                f"{self.name} wants event {want} of {answer.feed}, our outbox ends at"
                f" {self._ledger.head().seq}; {NEW_EPOCH}"
            )
        if want - 1 < self._ledger.horizon():
            self._lack(want - 1, now)
            return
        # A window that arrives behind a gap brings as many of these answers as it has events.
        if want - 1 == self._acked and now < max(self._gap_at, self._held_until):
            return
        self._acked = self._sent = want - 1
        self._gap_at = now + RESEND
        self._heard(now)

    def _lack(self, theirs: int, now: float) -> None:
        """Send nothing, and ask each minute whether somebody else gave it what we cannot give."""
        lacks = self._ledger.not_kept(theirs)
        if lacks != self._lacks:
            log.error("%s wants what we do not have: %s", self.name, lacks)
        self._lacks, self._reason = lacks, f"wants what we do not have: {lacks}"
        self._agreed = False
        self._acked = self._sent = theirs
        self._window = 1
        self._held_until = self._resend_at = now + HELD

    def _hold(self, answer: Answer, now: float) -> None:
        if not self._reason.startswith("holds"):
            log.error("%s will not have our events yet: %s", self.name, answer.reason)
        self._reason = f"holds our events off: {answer.reason}"
        self._sent, self._window = self._acked, 1
        self._held_until = self._resend_at = now + HELD

    def _heard(self, now: float) -> None:
        self._window = WINDOW
        self._patience = RESEND
        self._resend_at = now + RESEND
