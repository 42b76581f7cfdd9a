"""A new key for a bridge: its feed ends with an event that names it, and the next goes on there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from mailbridge import failpoint, keyring
from mailbridge.bridge.own import NextKey
from mailbridge.bridge.sending import PATIENCE, send_all
from mailbridge.bridge.state import State
from mailbridge.errors import NeedsOperator, TryAgain
from mailbridge.event import FORMAT, NAMESPACE, event_uuid
from mailbridge.outbox import SenderLock
from mailbridge.signing import SigningKey
from mailbridge.wire.sockets import Curve

RETIRED: Final = ".retired"
"""Ending of a secret key that signs no more.  Its public half stays: what it signed is read."""

_TAG: Final = f"{NAMESPACE}.{NextKey.NAME}"


def rotate(
    state: State,
    new_id: str,
    relays: Sequence[str],
    *,
    timeout: float = PATIENCE,
    curve: Curve | None = None,
) -> SigningKey:
    """
    Give the outbox of *state* the key *new_id*, made where it is missing, and return it.

    Each of *relays* has the whole old feed by then, its last event being `next-key`.  May be called
    again after whatever ended it: it goes on where it was.

    Raises `TryAgain` where a bridge runs on this state, or a relay does not answer; `NeedsOperator`
    where the old feed names another key already.
    """
    lock = SenderLock(state.directory)
    try:
        key = _named(state, new_id)
        try:
            send_all(state.outbox, relays, patience=timeout, curve=curve)
        except TryAgain as error:
            raise TryAgain(
                f"{error}; the old key signs on until the relay has its last event: run this again"
            ) from error
        failpoint.reached("last-event-sent")
        state.outbox.succeed(key, now=datetime.now(UTC))
        failpoint.reached("key-succeeded")
        _retire(state.directory / "keys" / f"{state.key.entity}{keyring.SECRET}")
    finally:
        lock.release()
    return key


def _named(state: State, new_id: str) -> SigningKey:
    """Return the new key, once the old feed ends with an event that names it."""
    secret = state.directory / "keys" / f"{new_id}{keyring.SECRET}"
    told = _told(state)
    if told and told["entity"] != new_id:
        raise NeedsOperator(
            f"{state.outbox.feed}: its last event names {told['entity']} as the next key's;"
            f" run 'key rotate {told['entity']}' to its end"
        )
    if new_id == state.key.entity:
        raise NeedsOperator(f"{new_id} is the key in use; a new key needs a new name")
    if secret.exists():
        key = keyring.read_secret(secret)
    elif told:
        raise NeedsOperator(f"{secret}: the key that the last event names is gone; put it back")
    else:
        key = SigningKey.generate(new_id)
        keyring.write_pair(secret.parent, key)
    failpoint.reached("next-key-made")
    if told is None:
        with state.outbox.transaction():
            state.outbox.emit(_event(state.key.entity, key), mail=None, backfill=False)
    elif told["key"] != key.verify_key.base64:
        raise NeedsOperator(f"{secret}: is not the key that the last event names; put that back")
    failpoint.reached("next-key-named")
    return key


def _told(state: State) -> dict[str, Any] | None:
    """Return what the feed's last event says, if it is `next-key`."""
    seq = state.outbox.head().seq
    last = state.outbox.after(seq - 1, 1) if seq else []
    if not last or last[0].tag != _TAG:
        return None
    fields: dict[str, Any] = msgspec.json.decode(last[0].raw)
    told: dict[str, Any] = fields["data"]
    return told


def _event(entity: str, key: SigningKey) -> dict[str, Any]:
    payload = NextKey(entity=key.entity, key=key.verify_key.base64)
    said = {"old": entity, "new": key.entity, "key": key.verify_key.base64}
    return {
        "id": _TAG,
        "tag": _TAG,
        "uuid": event_uuid("mailbridge", NextKey.NAME, said),
        "format": FORMAT,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "data": msgspec.to_builtins(payload),
    }


def _retire(secret: Path) -> None:
    # (Two secret keys in a state, and nobody could tell which is meant.)
    if secret.exists():
        secret.rename(secret.with_name(secret.name + RETIRED))
