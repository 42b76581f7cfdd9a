"""
Any program's own events: a key, an outbox and a feed of its own, sent until a relay has them.

So a consumer can be an emitter, and a cron job can end: what it emitted is on its disk when `emit`
returns, and goes out with the next one if no relay was there.
"""

from __future__ import annotations

import time
import uuid as uuids
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from mailbridge import keyring
from mailbridge.bridge.curve import curve_of
from mailbridge.bridge.sending import send_all
from mailbridge.bridge.state import make
from mailbridge.config import Config, Submit, default_config, default_state, load, qualified_name
from mailbridge.errors import BadInput, NeedsOperator, NotPermitted, TryAgain
from mailbridge.event import FORMAT, MAX_EVENT_BYTES, canonical, is_tag
from mailbridge.outbox import Outbox, SenderLock, entity_of
from mailbridge.signing import SigningKey

TIMEOUT: Final = 10.0
"""Seconds that a relay may take to answer before the event waits for the next call."""

KEEP: Final = timedelta(days=30)
"""How long events that every relay has are kept, to be sent again."""

ENVELOPE: Final = 4 * 1024
"""Room for what an event has around its data."""

_LARGEST: Final = 2**53
_DEEPEST: Final = 32

_BUSY: Final = 0.05
"""Seconds until another process that sends from the same state is asked for again."""


def emit(  # noqa: PLR0913 - each has a default that does
    tag: str,
    data: Mapping[str, Any],
    *,
    uuid: str | None = None,
    author: str | None = None,
    to: str | None = None,
    state: str | Path | None = None,
    entity: str | None = None,
    timeout: float = TIMEOUT,
) -> str:
    """
    Emit an event of this program's own, and return its uuid once a relay has it on its disk.

    *data* is what the event says, under *tag*.  Emitting the same *uuid* again changes nothing, so
    a caller that is not sure may repeat itself; without one each call is a new event.  *to* is a
    relay's submit socket (default: this machine's, or the configured ones).  Key, outbox and feed
    live in *state* (default: `emit` in this user's state), made at the first call; *entity* names
    the key then.

    Whatever is raised but `BadInput`, the event is kept and goes out with the next call:
    `TryAgain` where no relay answers within *timeout* seconds, `NotPermitted` where the relay does
    not let this key emit it (yet).  `BadInput`: the tag or the data can be no event; nothing is
    kept.
    """
    config = load(default_config())
    with opened(Path(state) if state else default_directory(), entity) as emitter:
        told = emitter.add(tag, data, uuid=uuid, author=author)
        emitter.send([to] if to else relays(config), timeout=timeout, submit=config.submit)
    return told


def relays(config: Config) -> list[str]:
    """Return the submit sockets that *config* names, or this machine's relay's."""
    return list(config.submit.to) or [config.relay.submit]


def default_directory() -> Path:
    """Return where an emitter keeps its things if nobody says otherwise."""
    return default_state() / "emit"


class Emitter:
    """An open outbox for events of one's own."""

    def __init__(self, directory: Path, outbox: Outbox, key: SigningKey) -> None:
        self.directory: Final = directory
        self.outbox: Final = outbox
        self.key: Final = key

    def add(
        self,
        tag: str,
        data: Mapping[str, Any],
        *,
        uuid: str | None = None,
        author: str | None = None,
    ) -> str:
        """
        Number, sign and keep an event; it is on the disk when this returns.  Returns its uuid.

        Raises `BadInput` where tag, uuid or data can be no event: then nothing is kept.
        """
        if not is_tag(tag):
            raise BadInput(f"{tag[:80]!r}: no tag; dotted words, as 'org.example.built'")
        if "tag" in data:
            raise BadInput("data has a key 'tag': Laniakea's bot overwrites it; name it otherwise")
        try:
            told = str(uuids.UUID(uuid)) if uuid else str(uuids.uuid4())
        except ValueError as error:
            raise BadInput(f"{uuid!r}: no UUID") from error
        fields = {
            "id": tag,
            "tag": tag,
            "uuid": told,
            "format": FORMAT,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "origin": qualified_name(),
            "author": author,
            "data": dict(data),
        }
        fields = {key: value for key, value in fields.items() if value is not None}
        _check_numbers(data)
        size = len(canonical(fields)) + ENVELOPE
        if size > MAX_EVENT_BYTES:
            raise BadInput(f"an event of {size} bytes; {MAX_EVENT_BYTES} may go out")
        with self.outbox.transaction():
            self.outbox.emit(fields, mail=None, backfill=False)
        return told

    def send(
        self, to: list[str], *, timeout: float = TIMEOUT, submit: Submit | None = None
    ) -> None:
        """
        Return when each relay of *to* has everything; all stays kept otherwise.  What *submit*
        says of CURVE holds for each.

        Raises `TryAgain` where one does not answer within *timeout* seconds, `NotPermitted` where
        it does not take what this key emits.
        """
        lock = self._turn_to_send(to, timeout)
        if lock is None:
            return
        try:
            send_all(
                self.outbox,
                to,
                patience=timeout,
                curve=curve_of(submit or Submit(), self.directory, self.key.entity),
                hopeless=lambda relay: relay.is_held,
            )
            # (No bridge does its rounds here; at each call a little is enough.)
            self.outbox.ageing.compact(datetime.now(UTC) - KEEP)
        except TryAgain as error:
            raise TryAgain(f"{error} (the next 'emit' sends them, too)") from error
        except NotPermitted as error:
            public = self.directory / "keys" / f"{self.key.entity}.key"
            raise NotPermitted(
                f"{error}; there: 'mailbridge key trust {public} --tags PATTERN'"
            ) from error
        finally:
            lock.release()

    def _turn_to_send(self, to: list[str], timeout: float) -> SenderLock | None:
        """Wait for the right to send; None if whoever had it has sent ours, too."""
        until = time.monotonic() + timeout
        while True:
            try:
                return SenderLock(self.directory)
            except TryAgain:
                newest = self.outbox.head().seq
                if all(self.outbox.acknowledged(relay) >= newest for relay in to):
                    return None
                if time.monotonic() > until:
                    raise
            time.sleep(_BUSY)


@contextmanager
def opened(directory: Path, entity: str | None = None) -> Iterator[Emitter]:
    """
    Give the emitter in *directory*; make it, its key included, where there is none.

    Raises `NeedsOperator` where it belongs to another *entity*, or its key is missing.
    """
    make(directory)
    owner = entity_of(directory / "outbox.db")
    if owner is None:
        key = keyring.ensure(directory, "emit", entity, qualified=qualified_name)
    elif entity not in (None, owner):
        raise NeedsOperator(f"{directory}: emits as {owner}, not as {entity}; give another --state")
    else:
        loaded = keyring.load(directory, "emit", owner)
        if loaded is None:
            raise NeedsOperator(f"{directory / 'keys'}: the key of {owner} is gone; put it back")
        key = loaded
    with Outbox(directory / "outbox.db", key, now=datetime.now(UTC)) as outbox:
        yield Emitter(directory, outbox, key)


def _check_numbers(value: object, depth: int = 0) -> None:
    """Return if every verifier writes the numbers in *value* as we do; else raise `BadInput`."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _LARGEST):
        raise BadInput(
            f"{value!r}: a whole number of at most 2^53, or text: JSON writers do not agree on"
            " others, and a signature would not verify"
        )
    if isinstance(value, Mapping | list | tuple):
        if depth == _DEEPEST:
            raise BadInput(f"data is nested deeper than {_DEEPEST} levels")
        for part in value.values() if isinstance(value, Mapping) else value:
            _check_numbers(part, depth + 1)


def read_data(line: bytes) -> dict[str, Any]:
    """Return the JSON object in *line*, an event's data.  Raises `BadInput`."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadInput(f"no JSON object: {error}") from error
