"""
What came as a file (`export`) goes into a relay by the one way in: as its sources would submit it.

The relay judges each event by its source's signature, its own policy and the feed as it has it.
Nothing in the file is believed, least of all who carried it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from mailbridge.errors import BadInput, BadProof, MailbridgeError, NotPermitted, TryAgain
from mailbridge.event import SignedEvent, parse_json
from mailbridge.feed import read_hole
from mailbridge.reader.exported import Line
from mailbridge.relay.submit import STALE
from mailbridge.wire.sockets import WINDOW, Socket, make_context, submitter

PATIENCE: Final = 30.0
"""Seconds without an answer after which a relay is not there."""


class _Sent(NamedTuple):
    """An event on the way to the relay."""

    line: int
    event: SignedEvent


class Carried:
    """Gives the lines of a file to the relay whose submit socket is *endpoint*."""

    def __init__(self, endpoint: str) -> None:
        """Raises `ConfigError` for no endpoint."""
        self._endpoint: Final = endpoint
        self._context: Final = make_context()
        self._sent: Final[deque[_Sent]] = deque()
        self._answers: Final[dict[str, deque[dict[str, Any]]]] = {}
        self._nowhere: Final[dict[str, int]] = {}
        """The feeds in which the exporting relay had a hole: the number before which it ends."""
        self._last: Final[dict[str, int]] = {}
        """By feed: the number that came last."""
        self._wrong: Final[dict[str, MailbridgeError]] = {}
        """By feed: why no more of it can come in."""
        self.stored = 0
        """How many events were new to the relay."""
        self.known = 0
        """How many it had."""
        self.left_out = 0
        """How many have no feed and are too old to be taken without one."""
        try:
            self._socket: Final[Socket] = submitter(self._context, endpoint, "--submit")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)

    def give_all(self, lines: Iterable[Line]) -> None:
        """
        Have all of *lines* that may come in on the relay's disk when this returns.

        Raises `BadProof` or `BadInput` for the first number or line that is wrong, when what came
        before it is in; `NotPermitted`, once the rest is in, where the relay does not know a key
        or lets it not emit a tag; `TryAgain` where the relay does not answer: what it took it
        knows the next time.
        """
        try:
            for line in lines:
                self._give(line)
        except BadInput:
            # (Something before it may be wrong, too; that is to be named then.)
            self._hear_all()
            raise
        self._hear_all()
        # What is bad is told before what is merely not permitted.
        for error in sorted(self._wrong.values(), key=lambda wrong: wrong.exit_status):
            raise error

    def _give(self, line: Line) -> None:
        if line.what == "event":
            event = line.event()
            if event.feed and event.feed.id in self._wrong:
                return
            self._check_order(line, event)
            while len(self._sent) >= WINDOW:
                self._hear()
            self._socket.send_multipart([event.raw, b"ack"])
            self._sent.append(_Sent(line.number, event))
        elif line.what == "hole":
            hole = read_hole(line.fields())
            self._nowhere[hole.feed] = hole.last + 1
        elif line.what == "head":
            self._hear_all()
            self._socket.send_multipart([line.raw, b"head"])
            answer = self._answer()
            if answer.get("status") == "refused":
                raise BadProof(f"line {line.number}: a head: {answer.get('reason')}")

    def _check_order(self, line: Line, event: SignedEvent) -> None:
        if event.feed is None:
            return
        feed, seq = event.feed.id, event.feed.seq
        last = self._last.get(feed, seq - 1)
        if seq > last + 1 and self._nowhere.get(feed) != seq:
            raise BadProof(
                f"line {line.number}: feed {feed[:200]}: number {last + 1} is missing in the file"
                f" before {seq}"
            )
        self._last[feed] = max(seq, last)

    def _hear_all(self) -> None:
        while self._sent:
            self._hear()

    def _hear(self) -> None:
        """Settle the oldest event on the way: the first wrong one is to be named."""
        sent = self._sent[0]
        there = self._answers.get(sent.event.hash)
        while not there:
            answer = self._answer()
            told = answer.get("hash")
            # (Of what a relay cannot read it tells no hash; it answers in the order of its mail.)
            of = told if isinstance(told, str) else sent.event.hash
            self._answers.setdefault(of, deque()).append(answer)
            there = self._answers.get(sent.event.hash)
        answer = there.popleft()
        if not there:
            del self._answers[sent.event.hash]
        self._sent.popleft()
        self._settle(sent, answer)

    def _answer(self) -> dict[str, Any]:
        if not self._socket.poll(int(PATIENCE * 1000)):
            raise TryAgain(
                f"{self._endpoint}: no answer; is that a relay's submit socket? What it took it"
                " knows: import the file again"
            )
        return parse_json(self._socket.recv_multipart()[0])

    def _settle(self, sent: _Sent, answer: dict[str, Any]) -> None:
        status, reason = answer.get("status"), str(answer.get("reason"))[:500]
        link = sent.event.feed
        if link and link.id in self._wrong:
            # (What is behind it in the window cannot fit any more.)
            return
        where = f"feed {link.id[:200]}: number {link.seq}" if link else sent.event.uuid
        if status == "stored":
            self.stored += 1
        elif status == "duplicate":
            self.known += 1
        elif status == "refused" and link is None and reason == STALE:
            self.left_out += 1
        elif status == "held":
            self._wrong[link.id if link else sent.event.uuid] = NotPermitted(
                f"line {sent.line}: {where}: {reason}; then import the file again"
            )
        elif status == "gap" and link:
            missing = f"feed {link.id[:200]}: number {answer.get('want')} is missing"
            if self._nowhere.get(link.id) == link.seq:
                self._wrong[link.id] = BadProof(
                    f"line {sent.line}: {missing}: the relay that it was exported from does not"
                    " have it; nothing behind it came in"
                )
                return
            self._sent.clear()
            raise BadProof(
                f"line {sent.line}: {missing} here before {link.seq}, and in the file; import one"
                " that has it first"
            )
        else:
            self._sent.clear()
            raise BadProof(f"line {sent.line}: {where}: {reason}")
