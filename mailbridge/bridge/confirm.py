"""News that came again, better backed than before: an event of its own (design.md, Identity)."""

from __future__ import annotations

from typing import Any

import msgspec

from mailbridge.bridge.compose import Composed
from mailbridge.bridge.own import EventConfirmed
from mailbridge.event import event_uuid
from mailbridge.outbox import Out


def confirmation(event: Composed, out: Out) -> Composed | None:
    """
    Return what is to be told where *event* came again and is *out* already.

    None unless one of its claims is stronger than all that was ever told of it.  Two mails that
    back one event by the same claims give one confirmation, by its uuid.
    """
    if not event.common.provenance.backing.exceeds(out.backing):
        return None
    told = EventConfirmed(confirms=event.uuid, of=out.tag)
    data: dict[str, Any] = msgspec.to_builtins(event.common) | msgspec.to_builtins(told)
    known = {"confirms": event.uuid, "provenance": data["provenance"]}
    return Composed(
        uuid=event_uuid(event.common.archive, told.NAME, known),
        name=told.NAME,
        tag=f"{event.namespace}.{told.NAME}",
        namespace=event.namespace,
        author=None,
        data=data,
        common=event.common,
        on=event.on,
    )


def strongest(events: list[Composed]) -> tuple[Composed, ...]:
    """
    Return each piece of news among *events* once, as the source tells it that backs it best.

    Of equals the first: one mail that several sources take is one delivery, and confirms nothing.
    """
    found: dict[str, Composed] = {}
    for event in events:
        other = found.setdefault(event.uuid, event)
        if event.common.provenance.backing.exceeds(other.common.provenance.backing):
            found[event.uuid] = event
    return tuple(found.values())
