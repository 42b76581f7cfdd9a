"""
Quiet or withheld?  What a relay tells of its feeds, and what their sources signed about them.

A bridge gives its relay a signed head every minute (wire.md, The feed).  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from mailbridge.errors import BadInput, BadProof, UnknownOrigin
from mailbridge.feed import Head, is_feed_id, read_head
from mailbridge.signing import VerifyKey, check_note


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


class Withheld:
    """Remembers which heads a relay lagged behind: once is the way of things, twice is told."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._said: Final[dict[str, int]] = {}

    def look(self, told: Sequence[Told]) -> list[str]:
        """Return what must be said, in words, about the feeds that the relay tells of."""
        lines = []
        behind = {}
        for each in told:
            signed = each.signed.seq if each.signed else 0
            if signed <= each.seq:
                continue
            behind[each.feed] = signed
            # (The source may be sending still; it had a minute if we saw that very head before.)
            long_ago = self._before.get(each.feed, signed) > each.seq
            if each.feed in self._before and long_ago and self._said.get(each.feed) != each.seq:
                self._said[each.feed] = each.seq
                lines.append(
                    f"feed {each.feed}: its source has {signed} events, only {each.seq} are shown:"
                    " they are held or withheld"
                )
        self._before = behind
        return lines
