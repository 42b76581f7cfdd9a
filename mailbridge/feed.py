"""
Feeds: one entity's events, numbered, each naming the hash of the one before (wire.md, The feed).

Pure values.  The outbox moves a feed on, a relay and a reader check that it moved by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final

import msgspec

from mailbridge.errors import MalformedEvent
from mailbridge.event import FeedLink, SignedEvent
from mailbridge.signing import is_entity

_EPOCH: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")


def feed_id(entity: str, born: datetime) -> str:
    """Return the id of the feed of *entity* whose outbox was made at *born*, a UTC time."""
    return f"{entity}/{born:%Y%m%dT%H%M%SZ}"


def is_feed_id(text: str) -> bool:
    """Say whether *text* is `<entity>/<epoch>`."""
    entity, _, epoch = text.partition("/")
    return is_entity(entity) and _EPOCH.fullmatch(epoch) is not None


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """How far a feed has come.  Also the content of the signed head a bridge gives every 60 s."""

    feed: str
    seq: int = 0
    """Number of the newest event; 0 before the first."""
    hash: str | None = None
    """Hash of the newest event; before the first, what its `prev` will name."""
    tags: dict[str, int] = msgspec.field(default_factory=dict)
    """How many events each tag has."""
    time: str | None = None
    """When it was so: ISO 8601, UTC."""

    def link(self, tag: str) -> FeedLink:
        """Return the link that the next event, with *tag*, must carry."""
        return FeedLink(
            id=self.feed, seq=self.seq + 1, prev=self.hash, tag_seq=self.tags.get(tag, 0) + 1
        )

    def after(self, event: SignedEvent) -> Head:
        """Return the head once *event*, which fits (`fit`), stands behind this one."""
        counted = event.feed.tag_seq if event.feed else 0
        return Head(
            feed=self.feed,
            seq=self.seq + 1,
            hash=event.hash,
            tags={**self.tags, event.tag: counted},
        )

    def beyond(self, hole: Hole) -> Head:
        """Return the head once the numbers up to the end of *hole* are known to be missing."""
        return Head(feed=self.feed, seq=hole.last, hash=hole.hash, tags=self.tags)

    @property
    def unknown(self) -> int:
        """How many events of the feed no tag is known of: they are missing."""
        return self.seq - sum(self.tags.values())


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """
    Numbers of a feed that a relay does not have, and that nobody it knows could give it.

    A relay signs it (as a note, like a head): a reader then goes on behind it, and says so.
    """

    feed: str
    first: int
    last: int
    hash: str
    """What the event behind it names as the one before: the hash of number *last*."""
    time: str | None = None
    """When the relay gave up waiting: ISO 8601, UTC."""


class Fit(Enum):
    """How an event stands to a head."""

    NEXT = "next"
    BEHIND = "behind"
    """Its number is taken: the same event again, or a fork; only who kept the hash can tell."""
    GAP = "gap"
    FORK = "fork"
    """Its number is the next, but it names another predecessor or counts its tag otherwise."""


def fit(head: Head, event: SignedEvent) -> Fit:
    """Say how *event*, whose feed is that of *head*, stands to it."""
    link = event.feed
    if link is None or link.id != head.feed:
        raise MalformedEvent(f"{event.uuid} does not belong to the feed {head.feed}")
    if link.seq <= head.seq:
        return Fit.BEHIND
    if link.seq > head.seq + 1:
        return Fit.GAP
    return Fit.NEXT if _follows(head, link, event.tag) or _opens(head, link) else Fit.FORK


def _follows(head: Head, link: FeedLink, tag: str) -> bool:
    wanted = head.link(tag)
    # (What is missing may have had this tag, too.)
    most = wanted.tag_seq + max(head.unknown, 0)
    return link.prev == wanted.prev and wanted.tag_seq <= link.tag_seq <= most


def _opens(head: Head, link: FeedLink) -> bool:
    # The first event of a later epoch names the last known head of the one before.
    return head.seq == 0 and head.hash is None and link.tag_seq == 1


def read_hole(fields: Mapping[str, Any]) -> Hole:
    """Return the hole in *fields* (a parsed note about one).  Raises `MalformedEvent`."""
    try:
        hole = msgspec.convert(fields.get("hole"), Hole)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"no hole: {error}") from error
    if not is_feed_id(hole.feed) or not 1 <= hole.first <= hole.last:
        raise MalformedEvent(f"no hole: {hole.feed[:80]!r} from {hole.first} to {hole.last}")
    return hole


def read_head(fields: Mapping[str, Any]) -> Head:
    """Return the head in *fields* (a parsed signed head).  Raises `MalformedEvent`."""
    try:
        head = msgspec.convert(fields.get("head"), Head)
    except msgspec.ValidationError as error:
        raise MalformedEvent(f"no head: {error}") from error
    if not is_feed_id(head.feed) or head.seq < 0:
        raise MalformedEvent(f"no head: {head.feed[:80]!r} at {head.seq}")
    return head
