"""Is that all of it, unaltered?  Asked of lines without a relay: an export's, or `tail`'s."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from mailbridge.errors import BadInput, BadProof, BadSignature
from mailbridge.event import FeedLink, VerifiedEvent
from mailbridge.feed import Head, Hole, read_head, read_hole
from mailbridge.reader.chain import Chain, Step
from mailbridge.reader.exported import Line
from mailbridge.reader.keys import Keys
from mailbridge.signing import check_note


class Check:
    """Follows the feeds in lines, and keeps of each the newest place alone."""

    def __init__(self, keys: Keys, *, filtered: bool = False) -> None:
        """*filtered*: events of some tags are left out."""
        self._keys: Final = keys
        self._chain: Final = Chain(filtered=filtered)
        self._filtered: Final = filtered
        self._holes: Final[dict[str, Hole]] = {}
        self._missing: Final[list[str]] = []
        self.events = 0
        self.begins: Final[dict[str, int]] = {}
        """The first number that was seen of each feed."""

    @property
    def feeds(self) -> dict[str, int]:
        """The last number of each."""
        return {feed: at.newest.seq for feed, at in self._chain.positions.items()}

    def take_all(self, lines: Iterable[Line]) -> None:
        """
        Check all of *lines*.

        Raises `BadProof`, which names the first number that is wrong, `BadInput`, which names the
        line, or `UnknownOrigin`.
        """
        for line in lines:
            try:
                self._take(line)
            except BadProof:
                raise
            except BadInput as error:
                where = f"line {line.number}: "
                raise BadInput(f"{where}{str(error).removeprefix(where)}") from error
        if self._missing:
            raise BadProof(self._missing[0])

    def _take(self, line: Line) -> None:
        if line.what == "event":
            self._event(line)
        elif line.what == "head":
            self._head(line.fields())
        elif line.what == "hole":
            note = line.fields()
            hole = read_hole(note)
            self._keys.check_relay(note)
            self._holes[hole.feed] = hole
        elif line.what == "end":
            self._end(line.fields().get("end"))

    def _event(self, line: Line) -> None:
        event = line.event()
        link = event.feed
        try:
            verified = self._keys.vouch(event)
        except BadSignature as error:
            if link is None:
                raise
            raise BadProof(f"feed {link.id[:200]}: number {link.seq} was altered") from error
        self.events += 1
        if link is not None:
            self._follow(verified, link)

    def _follow(self, event: VerifiedEvent, link: FeedLink) -> None:
        hole = self._holes.get(link.id)
        if link.id not in self._chain.positions and hole and hole.first == 1 < link.seq:
            self._chain.begin_at_nothing(link.id)
            self.begins[link.id] = 1
        step = self._chain.step(event, link)
        if step is Step.HOLE and not self._filtered:
            self._skip(link)
            step = self._chain.step(event, link)
        if step is Step.UNKNOWN:
            self._chain.begin(event, link)
            self.begins[link.id] = link.seq
        elif step is Step.NEXT:
            self._chain.advance(event, link)
        elif step is Step.LATE:
            self._chain.fill_late(link)
        elif step is Step.HOLE:
            at = self._chain.positions[link.id]
            if not self._filtered:
                raise BadProof(
                    f"feed {link.id}: number {at.newest.seq + 1} is missing before {link.seq}"
                )
            if event.tag in at.newest.tags or at.whole:
                raise BadProof(
                    f"feed {link.id}: before number {link.seq} an event {event.tag} is missing"
                )
            # (The first that we see of this tag, somewhere in a feed: nobody can tell.)
            self._chain.advance(event, link)

    def _skip(self, link: FeedLink) -> None:
        """Go on behind what a relay signed to be missing; it is a finding all the same."""
        hole = self._holes.get(link.id)
        wanted = self._chain.positions[link.id].newest.seq + 1
        if hole is None or hole.last != link.seq - 1 or not hole.first <= wanted:
            return
        self._chain.skip(link.id, hole.last, hole.hash)
        self._missing.append(
            f"feed {link.id}: number {wanted} is missing, up to {hole.last}: a relay says that"
            " nobody has them"
        )

    def _head(self, note: dict[str, Any]) -> None:
        head = read_head(note)
        try:
            check_note(note, self._keys.current(), head.feed.partition("/")[0])
        except BadSignature as error:
            raise BadProof(f"feed {head.feed}: its head was altered: {error}") from error
        self._compare(head)

    def _compare(self, head: Head) -> None:
        at = self._chain.positions.get(head.feed)
        last = at.newest.seq if at else 0
        if head.seq > last:
            raise BadProof(
                f"feed {head.feed}: number {last + 1} is missing: its source signed that it has"
                f" {head.seq}"
            )
        if at and head.seq == last and head.hash not in (None, at.newest.hash):
            raise BadProof(f"feed {head.feed}: number {last} is another event in its source's head")

    def _end(self, told: object) -> None:
        fields = told if isinstance(told, dict) else {}
        count, feeds = fields.get("events"), fields.get("feeds")
        for feed, place in sorted(feeds.items()) if isinstance(feeds, dict) else ():
            at = self._chain.positions.get(feed)
            last = at.newest.seq if at else 0
            if not isinstance(place, list) or len(place) != 2 or place[0] != last:  # noqa: PLR2004
                raise BadProof(
                    f"feed {feed[:200]}: number {last + 1} is missing, or the end is of another"
                    f" export: it tells of {str(place)[:80]}"
                )
            if at and place[1] not in (None, at.newest.hash):
                raise BadProof(f"feed {feed[:200]}: number {last} is not what the end tells")
        if count != self.events:
            raise BadInput(f"{self.events} events, and the end tells of {str(count)[:40]}")
