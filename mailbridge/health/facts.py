"""What a bridge and a relay say of themselves, as values: written by them, read by everybody."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from mailbridge.errors import BadInput


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """The last note that came back from where we sent it: that way is free."""

    back: float
    """When: Unix time."""
    took: float
    """Seconds from its file in the spool until then."""


class PlaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One Maildir."""

    path: str
    sources: tuple[str, ...]
    spool: bool = False
    backlog: int = 0
    """Mails that are known to wait."""
    stranded: int = 0
    """Files that a broken delivery left in its `tmp/`."""
    trouble: str = ""
    """Why it cannot be looked into; empty if it can."""


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A source that should speak."""

    name: str
    expected: str
    """How often, as the configuration has it."""
    heard: float
    """When its last mail arrived, or from when on one is expected: Unix time."""
    silent: bool = False


class ListFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A list that numbers its mails."""

    list_id: str
    newest: int
    waiting: int = 0
    """Numbers that may still come late."""
    missing: int = 0
    """Mails that were told as missing, ever."""


class VerdictFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How many mails of a source had one verdict."""

    source: str
    verdict: str
    code: str
    count: int


class TargetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Whom events are sent to."""

    name: str
    status: str
    trouble: bool = False
    """It does not take our events just now."""
    waiting: int = 0
    """Events that it has not acknowledged."""
    oldest: float | None = None
    """When the oldest of them was made: Unix time."""
    resent: int = 0
    """How many events went out again, since the start, because no answer came."""
    canary: Canary | None = None
    echoes: bool = False
    """It answers to canaries."""


class BridgeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a bridge stands."""

    entity: str
    feed: str
    version: str
    started: float
    process: tuple[int, int]
    """Its number, and when it began in the kernel's ticks: numbers are used again."""
    time: float
    """When this was so."""
    ready: bool
    status: str
    """All of it in a line, as systemd is told."""
    watch: str
    """`inotify` or `poll`."""
    watch_reason: str
    scan_seconds: float
    """How long the last look through all Maildirs took."""
    disk_free: int
    disk_full: bool
    """No mail is taken in until there is room."""
    events: int
    """How many the feed has."""
    quarantined: int
    alarms: tuple[str, ...] = ()
    places: tuple[PlaceFacts, ...] = ()
    sources: tuple[SourceFacts, ...] = ()
    lists: tuple[ListFacts, ...] = ()
    verdicts: tuple[VerdictFacts, ...] = ()
    targets: tuple[TargetFacts, ...] = ()
    canary: Canary | None = None
    """Of the Maildir: it was delivered into the spool and found there."""


class RelayFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a relay stands."""

    entity: str
    version: str
    started: float
    process: tuple[int, int]
    time: float
    submit: str
    publish: str
    read: str
    events: int
    """The position of the newest in the journal."""
    published: int
    """The position up to which all went out on PUB."""
    disk_free: int
    readers: int
    """How many wait for news just now."""
    submissions: dict[str, int] = {}
    """How many events had which outcome, since the start."""
    feeds: dict[str, int] = {}
    """The newest number of each."""
    missing: dict[str, int] = {}
    """By how many events the journal is behind what the source says it has."""
    contradicted: tuple[str, ...] = ()
    """Feeds that are not served, because a reader holds something else."""
    alarms: tuple[str, ...] = ()
    """What an operator should look after besides."""


Facts = BridgeFacts | RelayFacts


_Kind = TypeVar("_Kind", BridgeFacts, RelayFacts)


def read(kind: type[_Kind], raw: bytes) -> _Kind:
    """Return the facts of this *kind* in *raw*.  Raises `BadInput`."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise BadInput(f"no facts of a service: {error}") from error
