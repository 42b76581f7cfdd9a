"""What the outbox knows of news that are out, beyond the events themselves."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from mailbridge.proof import Backing, How, Provenance
from mailbridge.upload import Upload

Run = Callable[..., sqlite3.Cursor]
"""Runs one statement on the outbox."""


class _Data(msgspec.Struct):
    provenance: Provenance


class _Event(msgspec.Struct):
    """As much of an event of ours as tells what backs it."""

    data: _Data


class Out(NamedTuple):
    """News that are out."""

    tag: str
    """Under which they went out."""
    backing: Backing
    """The strongest that was ever told of them."""


class Backings:
    """
    What backs the news that are out.

    An event tells it; only where somebody told more since, or the event went with a former feed,
    is it remembered here.
    """

    def __init__(self, run: Run) -> None:
        self._run: Final = run

    def of(self, news: str) -> Out | None:
        """Return what is known of the news with this uuid; None of what we never emitted."""
        wanted = uuid.UUID(news).bytes
        row = self._run("SELECT tag, how, signed FROM backing WHERE uuid = ?", wanted).fetchone()
        if row:
            return Out(row[0], Backing(row[1], bool(row[2])))
        row = self._run("SELECT tag, raw, how, signed FROM event WHERE uuid = ?", wanted).fetchone()
        if row is None:
            return None
        tag, raw, how, signed = row
        # (Compacted or taken away, it does not tell it any more.)
        backing = (backing_told(raw) if raw else None) or (how and Backing(how, bool(signed)))
        return Out(tag, backing) if backing else None

    def note(self, news: str, out: Out) -> None:
        """Remember *out* of the news with this uuid; inside a transaction."""
        how: How = out.backing.how
        self._run(
            "INSERT OR REPLACE INTO backing (uuid, tag, how, signed) VALUES (?, ?, ?, ?)",
            *(uuid.UUID(news).bytes, out.tag, how, int(out.backing.is_signed)),
        )

    def outlive(self) -> None:
        """Remember it of all events that are in `former` as well; inside a transaction."""
        rows: list[tuple[Any, ...]] = self._run(
            "SELECT uuid FROM event WHERE uuid IN former AND uuid NOT IN (SELECT uuid FROM backing)"
        ).fetchall()
        for (raw,) in rows:
            news = str(uuid.UUID(bytes=raw))
            if out := self.of(news):
                self.note(news, out)


class StandIns:
    """The uploads that went out under Laniakea's own tags, and whether more of them may."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run

    def note(self, upload: Upload) -> None:
        """Remember that *upload* went out so; inside a transaction."""
        self._run("INSERT OR IGNORE INTO stood_in VALUES (?, ?, ?, ?, ?)", *upload)

    def knows(self, upload: Upload) -> bool:
        """
        Say whether an upload went out so that may be *upload*.

        Both are of one repository and have one name, or one source and version; of their suites
        one is enough where the other is not known.
        """
        row = self._run(
            "SELECT 1 FROM stood_in WHERE repo = ?1 AND (suite = ?3 OR suite = '' OR ?3 = '')"
            " AND ((upload = ?2 AND upload <> '')"
            " OR (source = ?4 AND version = ?5 AND source <> '' AND version <> '')) LIMIT 1",
            *upload,
        ).fetchone()
        return row is not None

    def stop(self, why: str) -> None:
        """Remember that no more may, and why; inside a transaction."""
        self._run("INSERT OR IGNORE INTO meta (key, value) VALUES ('stand-in-off', ?)", why)

    def stopped(self) -> str | None:
        """Return why no more may, or None."""
        row = self._run("SELECT value FROM meta WHERE key = 'stand-in-off'").fetchone()
        return str(row[0]) if row else None

    def begin_again(self) -> None:
        """Forget that no more may: a person started the service again; inside a transaction."""
        self._run("DELETE FROM meta WHERE key = 'stand-in-off'")


def backing_told(raw: bytes) -> Backing | None:
    """Return what the event *raw* tells that backs it; None where it is no news of a mail."""
    try:
        return msgspec.json.decode(raw, type=_Event).data.provenance.backing
    except msgspec.DecodeError:
        # An operator's own event says nothing of any mail; nor does one that the disk has altered.
        return None
