"""Sending once what is in an outbox: `ingest --submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.serve import Bridge
    from mailbridge.config import Config


def send(config: Config, ours: Bridge, endpoint: str) -> str:
    """
    Send everything to the relays, *endpoint* or those configured, and return a line about it.

    A bridge that runs on this state does it itself.  Raises `TryAgain` if a relay does not answer.
    """
    from mailbridge.bridge.curve import curve_of
    from mailbridge.bridge.sending import send_all
    from mailbridge.errors import TryAgain
    from mailbridge.outbox import SenderLock

    try:
        lock = SenderLock(ours.state.directory)
    except TryAgain:
        return "the bridge that runs on this state sends them"
    try:
        relays = [endpoint] if endpoint else config.submit.to or [config.relay.submit]
        curve = curve_of(config.submit, ours.state.directory, ours.state.key.entity)
        send_all(ours.state.outbox, relays, curve=curve)
    finally:
        lock.release()
    return "received by the relay"
