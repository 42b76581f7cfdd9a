"""
Quiet or withheld?  What a relay tells of its feeds, and what their sources signed about them.

A bridge gives its relay a signed head every minute (wire.md, The feed).  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mailbridge.errors import BadInput, BadProof, UnknownOrigin
from mailbridge.feed import Head, is_feed_id, read_head
from mailbridge.signing import VerifyKey, check_note

LOOK_EVERY: Final = 45.0
"""Seconds between two looks at the heads; with what a question waits, one in each minute."""
SILENCE: Final = 150.0
SILENT_LOOKS: Final = 3
"""So long, and so many looks in a row, a source may say nothing: three heads did not come."""


class Told(NamedTuple):
    """What a relay tells of one feed."""

    feed: str
    seq: int
    hash: str | None
    signed: Head | None
    """What its source said about it last; None where it said nothing, or nobody knows its key."""


def read_feeds(answer: Mapping[str, Any], keys: Mapping[str, VerifyKey]) -> list[Told]:
    """
    Return what the *answer* to `feeds` tells, signatures of heads checked with *keys*.

    Raises `BadInput`, or `BadProof` where a head is not what its source signed.
    """
    feeds = answer.get("feeds")
    if not isinstance(feeds, dict):
        raise BadInput("an answer without feeds; is that a relay?")
    found = []
    for feed, entry in sorted(feeds.items()):
        seq = entry.get("seq") if isinstance(entry, dict) else None
        if not is_feed_id(feed) or type(seq) is not int or seq < 0:
            raise BadInput(f"an answer with an odd feed, {feed[:200]!r}; is that a relay?")
        hashed = entry.get("hash")
        signed = _signed(feed, entry.get("head"), keys)
        found.append(Told(feed, seq, hashed if isinstance(hashed, str) else None, signed))
    return found


def _signed(feed: str, note: object, keys: Mapping[str, VerifyKey]) -> Head | None:
    if not isinstance(note, dict):
        return None
    try:
        check_note(note, keys, feed.partition("/")[0])
        head = read_head(note)
    except UnknownOrigin:
        return None
    except BadInput as error:
        raise BadProof(f"feed {feed}: its head was altered: {error}") from error
    if head.feed != feed:
        raise BadProof(f"feed {feed}: the head of {head.feed} is shown in its place")
    return head


class _Heard:
    """The newest that was heard of a source."""

    def __init__(self, head: Head, now: float) -> None:
        self.head: Final = head
        self.since: Final = now
        self.looks = 0
        """How often nothing newer was there since."""


class Withheld:
    """
    Tells what is withheld from what is merely late, and silence from quiet.

    A source may be sending still, so once behind is the way of things; twice is told.  What a feed
    of a former epoch lacks is no news: its source has begun anew, with what the relay had.
    """

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._heard: Final[dict[str, _Heard]] = {}
        self._said: Final[dict[str, object]] = {}

    def look(self, told: Sequence[Told], now: float, followed: Mapping[str, int]) -> list[str]:
        """
        Return what must be said, in words, about the feeds that the relay tells of.

        *now* is `time.monotonic()`; *followed* are the numbers up to which we have feeds.
        """
        lines = []
        behind = {}
        newest = newest_epochs(told, followed)
        for each in told:
            if each.signed is None or each.feed not in newest:
                continue
            if each.signed.seq > each.seq:
                behind[each.feed] = each.signed.seq
                # (It had a minute if we saw that very head before.)
                if self._before.get(each.feed, 0) > each.seq:
                    lines += self._once(
                        each.feed,
                        each.seq,
                        f"feed {each.feed}: its source has {each.signed.seq} events, only"
                        f" {each.seq} are shown: they are held or withheld",
                    )
            elif self._is_silent(each.feed, each.signed, now):
                lines += self._once(
                    each.feed,
                    "silent",
                    f"feed {each.feed}: for {SILENCE:.0f} s nothing was heard of its source: it is"
                    " away, or what it says is withheld",
                )
            else:
                self._said.pop(each.feed, None)
        for feed in sorted(newest.intersection(followed) - {each.feed for each in told}):
            lines += self._once(
                feed, "gone", f"feed {feed}: we have {followed[feed]} events of it, none are shown"
            )
        self._before = behind
        return lines

    def _is_silent(self, feed: str, head: Head, now: float) -> bool:
        heard = self._heard.get(feed)
        if heard is None or heard.head != head:
            self._heard[feed] = _Heard(head, now)
            return False
        heard.looks += 1
        # (Looks count, too: while the relay is away its sources cannot be heard.)
        return heard.looks >= SILENT_LOOKS and now - heard.since >= SILENCE

    def _once(self, feed: str, what: object, line: str) -> list[str]:
        if self._said.get(feed) == what:
            return []
        self._said[feed] = what
        return [line]


def newest_epochs(told: Sequence[Told], followed: Iterable[str]) -> set[str]:
    """Return of each entity the newest feed that it signed something in."""
    newest: dict[str, str] = {}
    for feed in (*followed, *(each.feed for each in told if each.signed)):
        # (Epochs are UTC times: the greatest id of one entity is the latest.)
        entity = feed.partition("/")[0]
        newest[entity] = max(feed, newest.get(entity, feed))
    return set(newest.values())
