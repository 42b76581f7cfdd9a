"""Events that are numbered, linked and signed once more: in a new epoch, or behind a gap."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from mailbridge.event import is_redacted
from mailbridge.inspection import is_sound

if TYPE_CHECKING:
    from mailbridge.outbox import Outbox

log = logging.getLogger("mailbridge.outbox")


def taken_back(outbox: Outbox, seq: int) -> None:
    """Remove the events above *seq* into a table of their own, as far as they are kept."""
    outbox.run("DROP TABLE IF EXISTS temp.again")
    outbox.run(
        "CREATE TEMP TABLE again AS SELECT seq, uuid, raw, backfill, mail, hash, sum FROM event"
        " WHERE seq > ? AND seq > ? ORDER BY seq",
        *(seq, outbox.horizon()),
    )
    outbox.run(
        "UPDATE tag SET n = n - (SELECT count(*) FROM event WHERE tag = tag.tag AND seq > ?)", seq
    )
    outbox.run("DELETE FROM tag WHERE n < 1")
    outbox.run("DELETE FROM event WHERE seq > ?", seq)


def give_again(outbox: Outbox) -> None:
    """Emit what was taken back, but for what is former news now, or damaged: that is logged."""
    rows = outbox.run(
        "SELECT seq, uuid, raw, backfill, mail, hash, sum FROM temp.again"
        " WHERE uuid NOT IN former ORDER BY seq"
    )
    for seq, news, raw, backfill, mail, hashed, stored in rows:
        if not is_sound(raw, hashed, stored):
            log.error(
                "event %d was damaged on the disk and is in no feed any more; its mail (sha256 %s),"
                " if it is still there, makes it again: 'mailbridge ingest'",
                *(seq, mail.hex() if mail else "not known"),
            )
            outbox.run("DELETE FROM mail WHERE sha256 = ?", mail)
            continue
        if is_redacted(raw):
            # (Of what says nothing any more nobody needs to hear again.)
            outbox.run("INSERT INTO former VALUES (?)", news)
            continue
        fields = msgspec.json.decode(raw, type=dict[str, Any])
        for signed in ("feed", "signatures", "unsigned"):
            fields.pop(signed, None)
        outbox.emit(fields, mail=mail, backfill=bool(backfill))
    outbox.run("DROP TABLE temp.again")
