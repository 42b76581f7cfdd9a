"""Two truths of one source: the proof that its relay keeps, checked as the source's own word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from mailbridge.errors import BadInput, UnknownOrigin
from mailbridge.event import parse_json, read_event
from mailbridge.feed import read_head
from mailbridge.reader.patience import Patience
from mailbridge.signing import VerifyKey, check_note, verify
from mailbridge.wire.read import Answer, Refused

MOST: Final = 8
"""Feeds of which a proof is looked at."""


class _Said(NamedTuple):
    """What the source of a feed signed."""

    seq: int
    hash: str | None
    before: str | None
    """Hash of the number before; None where it says nothing of it."""


def forks(answer: Answer, keys: Mapping[str, VerifyKey], relay: Patience) -> Iterator[str]:
    """
    Yield a line for each feed in the *answer* to `feeds` whose source contradicts itself.

    The relay brings what the source signed; it counts if *relay* has another event of it in the
    same place, signed as well.
    """
    told = answer.header.get("forks")
    feeds = told if isinstance(told, list) else []
    for feed, raw in list(zip(feeds, answer.frames, strict=False))[:MOST]:
        if not isinstance(feed, str):
            continue
        try:
            said = _signed(raw, feed, keys)
            other = _contradicting(said, feed, keys, relay)
        except (BadInput, UnknownOrigin, Refused):
            # (Nothing that anybody we know signed: no proof.)
            continue
        if other:
            yield (
                f"feed {feed}: number {said.seq}: two events have it, and both are signed; its"
                " source contradicts itself, or its key is in two hands; the relay keeps the proof"
            )


def _signed(raw: bytes, feed: str, keys: Mapping[str, VerifyKey]) -> _Said:
    fields = parse_json(raw)
    if "head" in fields:
        check_note(fields, keys, feed.partition("/")[0])
        head = read_head(fields)
        if head.feed != feed:
            raise BadInput(f"the head of {head.feed[:200]}")
        return _Said(head.seq, head.hash, None)
    event = verify(read_event(raw), keys)
    if event.feed is None or event.feed.id != feed:
        raise BadInput("an event of another feed")
    return _Said(event.feed.seq, event.hash, event.feed.prev)


def _contradicting(said: _Said, feed: str, keys: Mapping[str, VerifyKey], relay: Patience) -> bool:
    before = max(said.seq - 2, 0)
    links = relay.ask("feed", {"feed": feed, "after": before, "limit": 2})
    for raw in links.frames[:2]:
        there = _signed(raw, feed, keys)
        if there.seq == said.seq and there.hash != said.hash:
            return True
        if there.seq == said.seq - 1 and said.before is not None and there.hash != said.before:
            return True
    return False
