"""A new epoch: what an operator starts once, after an outbox was lost or restored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from mailbridge.bridge.asking import ask_for_epoch
from mailbridge.bridge.target import Stop
from mailbridge.errors import NeedsOperator
from mailbridge.outbox import Outbox
from mailbridge.wire.sockets import Context, Curve

log = logging.getLogger("mailbridge.epoch")

TIMEOUT: Final = 30.0
"""Seconds that a relay has to tell what it holds."""


def check(outbox: Outbox) -> None:
    """Return unless *outbox* is a backup that was put back; then raise `NeedsOperator`."""
    if moment := outbox.restored():
        raise NeedsOperator(
            f"{outbox.path}: is the backup of {moment}: what was emitted since is not in it;"
            " nothing is sent; start once with --new-epoch"
        )


def begin(  # noqa: PLR0913 - each is named at the call
    outbox: Outbox,
    context: Context,
    relays: Sequence[str],
    *,
    entity: str,
    timeout: float = TIMEOUT,
    curve: Curve | None = None,
    stop: Stop | None = None,
) -> None:
    """
    Begin a new feed, linked to the newest head that any of *relays* has of *entity*.

    What all of them have is not emitted again; without any relay (a Lighthouse keeps nothing) that
    is what was acknowledged.  Raises `TryAgain` while one of them does not answer, `ToldToEnd` as
    soon as *stop* is readable.
    """
    ours = outbox.head()
    heads: dict[str, tuple[int, str | None]] = {ours.feed: (ours.seq, ours.hash)}
    known: set[str] | None = None
    if relays:
        heads = {}
    for endpoint in relays:
        feeds, uuids = ask_for_epoch(
            context, endpoint, outbox, entity=entity, timeout=timeout, curve=curve, stop=stop
        )
        for feed, head in feeds.items():
            if head[0]:
                heads[feed] = max(heads.get(feed, head), head, key=lambda one: one[0])
        known = uuids if known is None else known & uuids
    if known is None:
        sent = min(outbox.targets().values(), default=0)
        known = outbox.uuids_up_to(sent)
    # Epochs are UTC times: the greatest id of one entity is the latest.
    prev = heads[max(heads)][1] if heads else None
    outbox.begin_epoch(prev=prev, known=known, ancestors=heads, now=datetime.now(UTC))
    log.info("new epoch %s after %s", outbox.feed, max(heads, default="nothing"))
