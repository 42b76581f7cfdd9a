"""
A feed as a file that travels without a network: `mailbridge export`, `import`, `verify FILE`.

JSON lines.  The first is `{"export": {"version": 1, "from": …, "feed": …, "time": …}}`, the last
`{"end": {"events": N, "feeds": {ID: [SEQ, HASH]}}}`.  In between: each event's stored bytes, one a
line, those that readers are not shown included, in the journal's order, so that each feed is
gapless; what relays signed about numbers that nobody has, `{"hole": …, "signatures": …}`, before
the event behind it; and behind all events what sources signed about how far they are, `{"head": …,
"signatures": …}`.  Nobody signs the first and last line: they only tell of a copy that was cut off.
No key is in it, and none would be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, Any, Final, Literal, NamedTuple, cast

from mailbridge.errors import BadInput, BadProof, MalformedEvent, UsageError
from mailbridge.event import MAX_FRAME_BYTES, SignedEvent, canonical, parse_json, read_event
from mailbridge.feed import Hole, read_hole
from mailbridge.reader.heads import read_feeds
from mailbridge.reader.patience import Patience
from mailbridge.reader.place import Start
from mailbridge.wire.read import Refused

VERSION: Final = 1

LIMIT: Final = 500
"""Events asked for at once."""

LOOKS: Final = 5
LOOK_EVERY: Final = 0.5
"""How often, and after how many seconds, a relay is asked again that has less than was signed."""

What = Literal["export", "event", "hole", "head", "end"]

_NOTES: Final[Mapping[bytes, What]] = {
    # (A relay stores events with sorted keys, and each has `data`, which comes before all these.)
    b'{"export":': "export",
    b'{"hole":': "hole",
    b'{"head":': "head",
    b'{"end":': "end",
}


class Line(NamedTuple):
    """One line of such a file."""

    number: int
    """From 1."""
    what: What
    raw: bytes

    def event(self) -> SignedEvent:
        """Return the event that it is.  Raises `BadInput`, which names the line."""
        try:
            return read_event(self.raw)
        except MalformedEvent as error:
            raise MalformedEvent(f"line {self.number}: {error}") from error

    def fields(self) -> dict[str, Any]:
        """Return the object that it is.  Raises `BadInput`, which names the line."""
        try:
            return parse_json(self.raw)
        except MalformedEvent as error:
            raise MalformedEvent(f"line {self.number}: {error}") from error


def read_lines(stream: IO[bytes]) -> Iterator[Line]:
    """
    Yield the lines of *stream*, one in memory at a time; events alone are fine, too.

    Raises `BadInput` where a file that begins as an export does not end as one, or is of a version
    that is not known here.
    """
    begun = ended = False
    number = 0
    # (A line longer than any event is cut here and refused by whoever looks into it.)
    while raw := stream.readline(MAX_FRAME_BYTES + 2):
        number += 1
        line = Line(number, _what(raw), raw.rstrip(b"\r\n"))
        if ended:
            raise BadInput(f"line {number}: behind the end of the export")
        if line.what == "export":
            if number > 1:
                raise BadInput(f"line {number}: an export begins in the middle of the file")
            _check_version(line.fields().get("export"))
            begun = True
        ended = line.what == "end"
        yield line
    if begun and not ended:
        raise BadInput(f"cut off behind line {number}: the end of the export is missing")


def _what(raw: bytes) -> What:
    for begin, what in _NOTES.items():
        if raw.startswith(begin):
            return what
    return "event"


def _check_version(told: object) -> None:
    version = told.get("version") if isinstance(told, dict) else None
    if version != VERSION:
        raise BadInput(
            f"line 1: an export of version {version!r:.40}, this program knows {VERSION}"
        )


class Export:
    """Writes what a relay or a journal has to a stream, as it is: whoever reads it checks it."""

    def __init__(self, relay: Patience, write: Callable[[bytes], object]) -> None:
        self._relay: Final = relay
        self._write: Final = write
        self._hashes: Final[dict[str, str]] = {}
        self.events = 0
        """How many were written."""
        self.last: Final[dict[str, int]] = {}
        """Up to which number each feed was written."""
        self.begins: Final[dict[str, int]] = {}
        """The feeds that begin above number 1 in the file, and where."""

    def run(self, since: Start, feed: str | None, now: datetime) -> None:
        """
        Write all from *since* on, or what there is of *feed*.

        Raises `BadProof` where the relay has a hole that it does not tell of, `UsageError` for a
        feed it does not have, and what asking raises.
        """
        told = since if isinstance(since, str) else since.isoformat(timespec="seconds")
        begin = {"version": VERSION, "from": told, "feed": feed, "time": now.isoformat()}
        self._line(canonical({"export": begin}))
        if feed is None:
            self._all(since)
        else:
            self._one(since, feed)
        self._finish(feed, whole=since == "start")
        feeds = {feed: [seq, self._hashes.get(feed)] for feed, seq in self.last.items()}
        self._line(canonical({"end": {"events": self.events, "feeds": feeds}}))

    def _all(self, since: Start) -> None:
        for event in self._shown(since):
            link = event.feed
            if link is None:
                self._event(event)
            elif link.seq > self._begun(link.id, link.seq, whole=since == "start"):
                self._fill(link.id, link.seq - 1)
                self._event(event)

    def _one(self, since: Start, feed: str) -> None:
        if since == "start":
            return
        links = (event.feed for event in self._shown(since) if event.feed)
        first = next((link.seq for link in links if link.id == feed), None)
        if first is None:
            raise UsageError(f"{self._relay.url}: has nothing of {feed[:200]} since then")
        self._begun(feed, first, whole=False)

    def _begun(self, feed: str, seq: int, *, whole: bool) -> int:
        """Return up to which number *feed*, of which number *seq* was met, is in the file."""
        if feed not in self.last:
            self.last[feed] = 0 if whole and self._reaches_back(feed) else seq - 1
            if self.last[feed]:
                self.begins[feed] = seq
        return self.last[feed]

    def _reaches_back(self, feed: str) -> bool:
        try:
            self._relay.ask("feed", {"feed": feed, "after": 0, "limit": 1})
        except Refused as refused:
            if refused.code != "pruned":
                raise
            return False
        return True

    def _shown(self, since: Start) -> Iterator[SignedEvent]:
        """Yield what readers are shown from *since* on."""
        cursor = self._cursor(since)
        while True:
            answer = self._relay.ask("read", {"after": cursor, "tags": [], "limit": LIMIT})
            cursors = answer.header.get("cursors")
            if not isinstance(cursors, list) or len(cursors) != len(answer.frames):
                raise BadInput(
                    f"{self._relay.url}: an answer without its cursors; is that a relay?"
                )
            if not answer.frames:
                return
            yield from map(read_event, answer.frames)
            cursor = cursors[-1]

    def _cursor(self, since: Start) -> Any:  # noqa: ANN401 - echoed to who made it
        if since == "start":
            return None
        if since == "now":
            raise UsageError("--from now: there is nothing yet; a time, or start")
        if isinstance(since, str):
            return since
        return self._relay.ask("at", {"time": since.isoformat()}).header.get("cursor")

    def _fill(self, feed: str, last: int) -> None:
        """Write the links of *feed* behind what was written, up to number *last*."""
        while (have := self.last[feed]) < last:
            limit = min(LIMIT, last - have)
            answer = self._relay.ask("feed", {"feed": feed, "after": have, "limit": limit})
            seqs = answer.header.get("seqs")
            holes = _holes(feed, answer.header.get("holes"))
            for raw in answer.frames[: len(seqs) if isinstance(seqs, list) else 0]:
                event = read_event(raw)
                if event.feed is None or event.feed.id != feed or event.feed.seq > last:
                    break
                self._skip(feed, event.feed.seq - 1, holes)
                if event.feed.seq == self.last[feed] + 1:
                    self._event(event)
            if self.last[feed] == have:
                self._skip(feed, last, holes)
            if self.last[feed] == have:
                raise BadProof(
                    f"feed {feed}: number {have + 1} is missing: {self._relay.url} shows number"
                    f" {last + 1} and cannot give what comes before"
                )

    def _skip(self, feed: str, last: int, holes: Sequence[tuple[Hole, bytes]]) -> None:
        wanted = self.last[feed] + 1
        for hole, note in holes:
            if hole.first <= wanted <= min(hole.last, last):
                self._line(note)
                self.last[feed] = min(hole.last, last)

    def _finish(self, only: str | None, *, whole: bool) -> None:
        """Write what is left of each feed, and then how far their sources say that they are."""
        notes: list[tuple[dict[str, Any], int]] = []
        for look in range(LOOKS):
            feeds = self._relay.ask("feeds", {}).header
            told = read_feeds(feeds, {})
            if only is not None and only not in {each.feed for each in told}:
                raise UsageError(f"{self._relay.url}: has no feed {only[:200]}")
            notes.clear()
            for each in told:
                if only not in (None, each.feed) or not each.seq:
                    continue
                if each.feed not in self.last:
                    if not whole or not self._reaches_back(each.feed):
                        continue
                    self.last[each.feed] = 0
                self._fill(each.feed, each.seq)
                entry = cast(dict[str, Any], feeds["feeds"])[each.feed]
                note = entry.get("head")
                if isinstance(note, dict):
                    notes.append((note, each.seq))
            # (What is on its way there yet is no hole.)
            if look + 1 == LOOKS or all(_seq(note) <= seq for note, seq in notes):
                break
            self._relay.asks.pause(LOOK_EVERY)
        for note, _ in notes:
            self._line(canonical(note))

    def _event(self, event: SignedEvent) -> None:
        self._line(event.raw)
        self.events += 1
        if event.feed:
            self.last[event.feed.id] = event.feed.seq
            self._hashes[event.feed.id] = event.hash

    def _line(self, raw: bytes) -> None:
        if b"\n" in raw:
            raise BadInput(f"{self._relay.url}: gives bytes that are no line of JSON")
        self._write(raw + b"\n")


def _holes(feed: str, told: object) -> list[tuple[Hole, bytes]]:
    notes = [note for note in told if isinstance(note, dict)] if isinstance(told, list) else []
    read = [(read_hole(note), canonical(note)) for note in notes]
    return [(hole, note) for hole, note in read if hole.feed == feed]


def _seq(note: Mapping[str, Any]) -> int:
    head = note.get("head")
    seq = head.get("seq") if isinstance(head, dict) else None
    return seq if type(seq) is int else 0
