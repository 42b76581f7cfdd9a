"""
Reading what flows: verified events, resumable, from any point in the past on.

    for event in listen("tcp://relay.example.org:5583", tags=["_lk.mailbridge.bug-*"], since="2h"):
        print(event.tag, event.data["title"])
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from mailbridge import config
from mailbridge.event import SignedEvent, VerifiedEvent
from mailbridge.reader.events import Events
from mailbridge.reader.keys import Confirm, Introduction, Keys, KnownRelays
from mailbridge.reader.place import parse

__all__ = [
    "Confirm",
    "Events",
    "Introduction",
    "Keys",
    "KnownRelays",
    "alisten",
    "listen",
    "open_events",
]

_ENDED: Final = None


def open_events(  # noqa: PLR0913 - the options of `tail`, one by one
    url: str = config.READ,
    *,
    tags: Sequence[str] = (),
    since: str | datetime = "now",
    keys: str | Path | None = None,
    pin: str | None = None,
    state: Path | None = None,
    cursor_file: str | Path | None = None,
    timeout: float | None = None,
    unverified: bool = False,
    confirm: Confirm | None = None,
    follow: bool = True,
) -> Events:
    """
    Return the iterator behind `listen`, for who has to `stop` it, or to say when all is `handled`.

    *unverified* lets events of unknown origin pass; they are no `VerifiedEvent`.  *confirm* asks
    a person about a relay that is met for the first time.  Without *follow* it ends where nothing
    more is there yet.
    """
    trusted = Keys(
        url,
        state=state or config.default_state(),
        directory=Path(keys) if keys is not None else None,
        pin=pin,
        confirm=confirm,
    )
    start = parse(since, lambda: datetime.now(UTC)) if isinstance(since, str) else since
    return Events(
        url,
        trusted,
        tags=tags,
        since=start,
        cursor_file=Path(cursor_file) if cursor_file is not None else None,
        timeout=timeout,
        unverified=unverified,
        follow=follow,
    )


def listen(  # noqa: PLR0913 - each has a default that does
    url: str = config.READ,
    *,
    tags: Sequence[str] = (),
    since: str | datetime = "now",
    keys: str | Path | None = None,
    pin: str | None = None,
    state: Path | None = None,
    cursor_file: str | Path | None = None,
    timeout: float | None = None,
) -> Iterator[VerifiedEvent]:
    """
    Give the events of *url* as they come, verified, each once, with none missing.

    *url* is a relay's read socket or `file:///…/journal.db`.  *tags* are patterns as of file names;
    none: all.  *since* is `now`, `start`, a cursor, `2h`, or a time: from `start` on each feed is
    proved from its beginning, else from its first event that comes.  *keys* is a directory of
    public keys to believe; without it the local state's and those of known relays, or of the one
    whose fingerprint is *pin*.  *cursor_file* remembers how far you came: an event counts as
    handled when you ask for the next, so one at which you break off comes again.

    Raises `UnknownOrigin` for an event of nobody we know, `BadProof` where a feed has a hole or a
    fork or an event was altered, `TryAgain` when *timeout* seconds are over.  A relay that is away
    is waited for; its log line is all you see of it, and of events that a relay admits to lack.
    """
    with open_events(
        url,
        tags=tags,
        since=since,
        keys=keys,
        pin=pin,
        state=state,
        cursor_file=cursor_file,
        timeout=timeout,
    ) as events:
        for event in events:
            # (What was taken away tells nothing that anybody could do.)
            if event.redacted is None:
                # (Without `unverified` there are no others.)
                yield cast(VerifiedEvent, event)


async def alisten(  # noqa: PLR0913 - as `listen`
    url: str = config.READ,
    *,
    tags: Sequence[str] = (),
    since: str | datetime = "now",
    keys: str | Path | None = None,
    pin: str | None = None,
    state: Path | None = None,
    cursor_file: str | Path | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - of the whole reading, as in `listen`
) -> AsyncIterator[VerifiedEvent]:
    """Give what `listen` gives, to asynchronous code.  Cancelling it ends it at once."""
    loop = asyncio.get_running_loop()
    events = open_events(
        url,
        tags=tags,
        since=since,
        keys=keys,
        pin=pin,
        state=state,
        cursor_file=cursor_file,
        timeout=timeout,
    )
    # (One thread of our own: SQLite and ZeroMQ want the one that began.)
    with ThreadPoolExecutor(1, "mailbridge-listen") as thread:
        try:
            while True:
                event: SignedEvent | None = await loop.run_in_executor(thread, next, events, _ENDED)
                if event is _ENDED:
                    return
                if event.redacted is None:
                    yield cast(VerifiedEvent, event)
        finally:
            events.stop()
            # (Behind what still runs there; leaving the context waits for it.)
            thread.submit(events.close)
