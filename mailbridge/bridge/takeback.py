"""Taking an event back that nobody has: what `outbox drop` makes sure of before it does it."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Final

from mailbridge.bridge.asking import ask_head
from mailbridge.bridge.curve import curve_of
from mailbridge.bridge.state import State
from mailbridge.config import Config
from mailbridge.errors import NeedsOperator, TryAgain
from mailbridge.journal import Journal
from mailbridge.outbox import SenderLock, Stored
from mailbridge.wire.sockets import Curve, make_context

log = logging.getLogger("mailbridge.takeback")

TIMEOUT: Final = 5.0
"""Seconds that a relay has to tell how far it is."""


def take_back(config: Config, state: State, seq: int, *, offline: bool) -> Stored:
    """
    Drop event *seq* from the outbox (`Outbox.drop`), once each relay said that it has it not.

    Raises `TryAgain` while a bridge runs on this state or a relay does not answer, unless
    *offline*; `NeedsOperator` where somebody has it.
    """
    lock = SenderLock(state.directory)
    try:
        path = state.directory / "journal.db"
        embedded = path.exists() and not config.submit.to
        if embedded:
            # (The relay in the bridge's own process is stopped, as that is.)
            with Journal.open(path, readonly=True) as journal:
                there = journal.feeds().get(state.outbox.feed)
                _check(str(path), there.head.seq if there else 0, seq)
        if not offline:
            if config.submit.lighthouse:
                raise TryAgain(
                    f"lighthouse {config.submit.lighthouse.submit} cannot be asked what it"
                    " published; --offline is your word that it was not this event"
                )
            relays = () if embedded else config.submit.to or (config.relay.submit,)
            _ask(state, relays, seq, curve_of(config.submit, state.directory, state.key.entity))
        dropped = state.outbox.drop(seq)
    finally:
        lock.release()
    log.warning("dropped seq=%d tag=%s uuid=%s", dropped.seq, dropped.tag, dropped.uuid)
    return dropped


def _ask(state: State, relays: tuple[str, ...], seq: int, curve: Curve | None) -> None:
    with ExitStack() as stack:
        context = make_context()
        stack.callback(context.term)
        for relay in relays:
            try:
                answer = ask_head(context, relay, state.outbox, timeout=TIMEOUT, curve=curve)
            except TryAgain as error:
                raise TryAgain(
                    f"{relay} does not answer, and may have event {seq}; start it, or --offline is"
                    " your word that it has it not"
                ) from error
            newest = answer.feeds.get(state.outbox.feed, (0, None))[0]
            _check(relay, max(newest, answer.seq or 0), seq)


def _check(name: str, there: int, seq: int) -> None:
    if there >= seq:
        raise NeedsOperator(
            f"event {seq} cannot be taken back: {name} has the feed up to {there}; redact it"
            " instead"
        )
