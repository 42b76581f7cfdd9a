"""What readers ask and get: events by cursor, waiting where there are none; feeds, keys, times."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mailbridge.errors import MalformedEvent, RelayGone
from mailbridge.event import parse_json
from mailbridge.journal import REDACTED, Damaged, Journal
from mailbridge.relay.claims import Claims
from mailbridge.relay.gate import Gate
from mailbridge.signing import SigningKey, sign_note

MAX_REQUEST: Final = 256 * 1024
MAX_LIMIT: Final = 2000
MAX_WAIT: Final = 60.0
MAX_PATTERNS: Final = 64
MAX_PATTERN: Final = 200
"""No tag is longer; Python takes half a second to prepare a pattern of 200,000, and keeps it."""
SPEAK_EVERY: Final = 60.0
"""Seconds between two log lines about what readers are not given."""

MAX_UUIDS: Final = 2000
MAX_REDACTED: Final = 1000
"""Numbers of a feed that others are told to have been taken away."""
MAX_FORKS: Final = 8
"""Feeds of which a proof that they forked goes along."""

MAX_ANSWER: Final = 1024 * 1024
"""
Bytes of an answer, a quarter of what wire.md allows: who asks and asks and fetches nothing makes us
keep as many answers as the socket's queue holds.
"""
_HEADER_ROOM: Final = 128 * 1024

WAITING_EACH: Final = 4
"""How many requests of one peer may wait at once."""
WAITING_ALL: Final = 4096

_log = logging.getLogger(__name__)

Code = Literal["bad-request", "wrong-journal", "pruned", "contradicted", "damaged", "busy"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question of a reader (wire.md, Read).  Words we do not know are a later version's."""

    id: str | int | None = None
    op: Literal["read", "feeds", "feed", "at", "has", "keys"]
    after: str | int | None = None
    tags: tuple[str, ...] = ()
    limit: int = 500
    wait: float = 0
    have: dict[str, tuple[int, str | None]] = {}
    feed: str = ""
    time: str = ""
    uuids: tuple[str, ...] = ()
    packed: bool = False
    """The events of an answer to `read` shall come in one frame, `sizes` telling where each ends:
    a hundred thousand frames a second are more than ZeroMQ carries."""


class _Refused(Exception):
    """Ends a request with an error for its reader."""

    def __init__(self, code: Code, reason: str, **more: object) -> None:
        super().__init__(reason)
        self.code: Final = code
        self.more: Final = more


class _Place(NamedTuple):
    """What waiting readers may have in common: then one look at the journal serves them all."""

    after: int
    tags: tuple[str, ...]
    limit: int


class _Waiting(NamedTuple):
    """One request with nothing to give yet."""

    deadline: float
    number: int
    peer: bytes
    id: str | int | None
    packed: bool


Send = Callable[[Sequence[bytes]], None]


class Reads:
    """Answers readers from the journal.  *send* takes the frames, the peer's identity first."""

    def __init__(
        self, journal: Journal, gate: Gate, key: SigningKey, claims: Claims, send: Send
    ) -> None:
        self._journal: Final = journal
        self._gate: Final = gate
        self._key: Final = key
        self._claims: Final = claims
        self._send: Final = send
        self._waiting: Final[dict[_Place, dict[int, _Waiting]]] = {}
        self._deadlines: Final[list[tuple[_Waiting, _Place]]] = []
        self._places: Final[dict[int, _Place]] = {}
        self._by_peer: Final[Counter[bytes]] = Counter()
        self._silent_until = -math.inf
        """Every reader who comes to it again must not fill the log with a damaged event."""
        self._numbers: Final = itertools.count()
        self._operations: Final[Mapping[str, Callable[[Request], list[bytes]]]] = {
            "feeds": self._feeds,
            "feed": self._feed,
            "at": self._at,
            "has": self._has,
            "keys": self._keys,
        }

    def take(self, peer: bytes, frames: Sequence[bytes], now: float) -> None:
        """
        Answer the request in the first of *frames*, now or when there is something to give.

        Never raises for what a stranger may send.
        """
        identity: object = None
        try:
            try:
                fields = parse_json(frames[0], limit=MAX_REQUEST)
                identity = fields.get("id")
                request = msgspec.convert(fields, Request)
            except (MalformedEvent, msgspec.ValidationError) as error:
                raise _Refused("bad-request", str(error)) from error
            if request.op == "read":
                self._take_read(peer, request, frames[1:], now)
            else:
                self._send([peer, *self._operations[request.op](request)])
        except _Refused as refused:
            if not isinstance(identity, str | int):
                identity = None
            self._refuse(peer, identity, refused)

    @property
    def waiting(self) -> int:
        """How many requests wait for news."""
        return len(self._places)

    def wake(self) -> None:
        """Serve the waiting readers for whom something has come."""
        for place in list(self._waiting):
            try:
                rows, more = self._page(place)
            except _Refused as refused:
                for waiting in self._forget(place):
                    self._refuse(waiting.peer, waiting.id, refused)
                continue
            if rows:
                for waiting in self._forget(place):
                    self._send([waiting.peer, *self._read_answer(waiting, rows, more=more)])
            elif place.after < self._journal.newest():
                # Nothing of all that is for them: the next look begins behind it.
                self._move(place, place._replace(after=self._journal.newest()))

    def expire(self, now: float) -> None:
        """Answer, with nothing, those who have waited as long as they wanted."""
        while self._deadlines and self._deadlines[0][0].deadline <= now:
            waiting, _ = heapq.heappop(self._deadlines)
            place = self._places.pop(waiting.number, None)
            if place is not None:
                group = self._waiting[place]
                del group[waiting.number]
                if not group:
                    del self._waiting[place]
                self._count_down(waiting.peer)
                self._send([waiting.peer, *self._read_answer(waiting, [], more=False)])

    def next_deadline(self) -> float:
        """Return when `expire` has something to do; infinity for never."""
        return self._deadlines[0][0].deadline if self._deadlines else math.inf

    # -- read --------------------------------------------------------------------------------------

    def _take_read(
        self, peer: bytes, request: Request, proofs: Sequence[bytes], now: float
    ) -> None:
        if len(request.tags) > MAX_PATTERNS or request.limit < 1 or request.wait < 0:
            raise _Refused("bad-request", f"at most {MAX_PATTERNS} tags, limit from 1, wait from 0")
        if any(len(tag) > MAX_PATTERN for tag in request.tags):
            raise _Refused("bad-request", f"a tag has at most {MAX_PATTERN} characters")
        wrong = self._claims.compare(request.have, proofs, now)
        if wrong:
            raise _Refused("contradicted", _contradicted(wrong[0]), feeds=wrong)
        place = _Place(self._position(request.after), request.tags, min(request.limit, MAX_LIMIT))
        rows, more = self._page(place)
        if rows or not request.wait:
            self._send([peer, *self._read_answer(request, rows, more=more)])
            return
        if self._by_peer[peer] >= WAITING_EACH or len(self._places) >= WAITING_ALL:
            raise _Refused("busy", "too many readers wait here; ask again later")
        deadline = now + min(request.wait, MAX_WAIT)
        waiting = _Waiting(deadline, next(self._numbers), peer, request.id, request.packed)
        place = place._replace(after=self._journal.newest())
        self._waiting.setdefault(place, {})[waiting.number] = waiting
        self._places[waiting.number] = place
        self._by_peer[peer] += 1
        heapq.heappush(self._deadlines, (waiting, place))

    def _page(self, place: _Place) -> tuple[list[tuple[int, bytes]], bool]:
        try:
            rows, more = self._journal.page(*place, MAX_ANSWER - _HEADER_ROOM)
        except RelayGone as error:
            raise _Refused("pruned", str(error)) from error
        except Damaged as error:
            raise self._damaged(error) from error
        for feed in self._claims:
            # Without its events a reader would miss them unnoticed: up to there, and no further.
            stop = self._journal.of_feed(feed, place.after).intersection(pos for pos, _ in rows)
            if stop:
                rows, more = [row for row in rows if row[0] < min(stop)], True
                if not rows:
                    raise _Refused("contradicted", _contradicted(feed))
        return rows, more

    def _damaged(self, error: Damaged) -> _Refused:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + SPEAK_EVERY
            _log.error("a reader is not served: %s", error)
        return _Refused("damaged", "an event was damaged on this relay's disk; tell its operator")

    def _read_answer(
        self, asked: Request | _Waiting, rows: Sequence[tuple[int, bytes]], *, more: bool
    ) -> list[bytes]:
        journal = self._journal.id
        header: dict[str, object] = {
            "id": asked.id,
            "cursors": [f"{journal}-{pos}" for pos, _ in rows],
            "head": f"{journal}-{self._journal.newest()}",
            "more": more,
        }
        frames = [raw for _, raw in rows]
        if asked.packed and frames:
            header["sizes"] = [len(raw) for raw in frames]
            frames = [b"".join(frames)]
        return [msgspec.json.encode(header), *frames]

    def _position(self, cursor: str | int | None) -> int:
        if cursor is None:
            return self._journal.horizon()
        journal, _, number = str(cursor).partition("-")
        if not (number.isascii() and number.isdecimal() and len(number) < 17):  # noqa: PLR2004 - 2^53
            raise _Refused("bad-request", f"{str(cursor)[:60]!r} is no cursor")
        position = int(number)
        if journal != self._journal.id:
            raise _Refused(
                "wrong-journal",
                f"the cursor is of journal {journal[:40]!r}, this one is {self._journal.id};"
                " go on from your feed positions",
            )
        if position > self._journal.newest():
            raise _Refused(
                "wrong-journal",
                f"the cursor is ahead of this journal, which ends at {self._journal.newest()}:"
                " it was restored from a backup; go on from your feed positions",
            )
        if position < self._journal.horizon():
            raise _Refused("pruned", "what came behind the cursor was pruned in the meantime")
        return position

    # -- the other operations ----------------------------------------------------------------------

    def _feeds(self, request: Request) -> list[bytes]:
        feeds: dict[str, dict[str, object]] = {}
        for feed, (head, note) in self._journal.heads().items():
            feeds[feed] = {"seq": head.seq, "hash": head.hash, "tags": head.tags}
            feeds[feed]["head"] = msgspec.Raw(note) if note else None
            if self._claims.get(feed):
                feeds[feed]["contradicted"] = True
        for feed, canary in self._journal.remembered("canary").items():
            if feed in feeds:
                feeds[feed]["canary"] = msgspec.Raw(canary.encode())
        for feed, seqs in redactions(self._journal).items():
            if feed in feeds:
                feeds[feed]["redacted"] = sorted(seqs)[-MAX_REDACTED:]
        forks = self._journal.evidence(MAX_FORKS)
        header = {"id": request.id, "feeds": feeds, "forks": list(forks)}
        return [msgspec.json.encode(header), *forks.values()]

    def _feed(self, request: Request) -> list[bytes]:
        state = self._journal.heads().get(request.feed)
        after = request.after or 0
        if state is None or not isinstance(after, int) or after < 0 or request.limit < 1:
            raise _Refused("bad-request", "a known feed, a number to begin behind, and a limit")
        if self._claims.get(request.feed):
            raise _Refused("contradicted", _contradicted(request.feed))
        limit = min(request.limit, MAX_LIMIT)
        try:
            links = self._journal.links(request.feed, after, limit, MAX_ANSWER - _HEADER_ROOM)
        except RelayGone as error:
            kept = self._journal.kept_from(request.feed, after)
            raise _Refused("pruned", str(error), begins=kept) from error
        except Damaged as error:
            raise self._damaged(error) from error
        head = {"seq": state.head.seq, "hash": state.head.hash}
        header = {"id": request.id, **links.told(), **head}
        return [msgspec.json.encode(header), *links.frames()]

    def _at(self, request: Request) -> list[bytes]:
        try:
            when = datetime.fromisoformat(request.time)
            position = self._journal.at(when if when.tzinfo else when.replace(tzinfo=UTC))
        except (ValueError, OverflowError) as error:
            raise _Refused("bad-request", f"{request.time[:60]!r} is no time") from error
        position = max(position, self._journal.horizon())
        return [msgspec.json.encode({"id": request.id, "cursor": f"{self._journal.id}-{position}"})]

    def _has(self, request: Request) -> list[bytes]:
        if len(request.uuids) > MAX_UUIDS:
            raise _Refused("bad-request", f"at most {MAX_UUIDS} uuids at once")
        known = self._journal.has(request.uuids)
        return [msgspec.json.encode({"id": request.id, "uuids": known})]

    def _keys(self, request: Request) -> list[bytes]:
        sources = {entity: key.base64 for entity, key in self._gate.keys().items()}
        relay = {self._key.entity: self._key.verify_key.base64}
        # Signed, the question's id included: a reader that knows our key by its fingerprint may
        # then believe the keys of our sources, whoever sits in between.
        answer = {"id": request.id, "relay": relay, "sources": sources}
        return [sign_note(answer, self._key)]

    # -- waiting -----------------------------------------------------------------------------------

    def _forget(self, place: _Place) -> list[_Waiting]:
        group = list(self._waiting.pop(place).values())
        for waiting in group:
            # (Its deadline stays in the heap, and means nothing any more.)
            del self._places[waiting.number]
            self._count_down(waiting.peer)
        return group

    def _move(self, place: _Place, to: _Place) -> None:
        group = self._waiting.pop(place)
        self._waiting.setdefault(to, {}).update(group)
        for number in group:
            self._places[number] = to

    def _count_down(self, peer: bytes) -> None:
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]

    def _refuse(self, peer: bytes, identity: Any, refused: _Refused) -> None:  # noqa: ANN401 - echoed
        header = {"id": identity, "error": refused.code, "reason": str(refused), **refused.more}
        self._send([peer, msgspec.json.encode(header)])


def redactions(journal: Journal) -> dict[str, set[int]]:
    """Return the numbers of each feed that its own source took away."""
    found: dict[str, set[int]] = {}
    for place in journal.remembered(REDACTED):
        feed, _, seq = place.partition(" ")
        found.setdefault(feed, set()).add(int(seq))
    return found


def _contradicted(feed: str) -> str:
    return f"feed {feed} is not served: a reader holds more of it, or something else, than we do"
