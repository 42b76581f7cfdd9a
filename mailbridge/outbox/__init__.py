"""
The outbox: which mails are done, and the numbered, linked, signed events they became.  SQLite.

"This mail is done" and its events are one transaction, on the disk before it returns; whoever
sends reads here, so what was sent is never unsaid by a crash.  Several processes may write side by
side, because numbering reads the feed's head inside the transaction; only the sender holds a lock.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from mailbridge import database
from mailbridge.errors import NeedsOperator
from mailbridge.event import MAX_EVENT_BYTES
from mailbridge.feed import Head, feed_id
from mailbridge.inspection import checksum
from mailbridge.outbox.again import give_again, taken_back
from mailbridge.outbox.ageing import Ageing
from mailbridge.outbox.file import (
    FORM,
    DiskFull,
    OutboxFailed,
    SenderLock,
    become_backup,
    entity_of,
    look_at,
)
from mailbridge.outbox.inspect import Inspector
from mailbridge.outbox.mails import FileKey, Mails, Quarantined, Verdict
from mailbridge.outbox.news import Backings, Out, StandIns, backing_told
from mailbridge.signing import SigningKey, sign_fields, sign_note
from mailbridge.upload import Upload

log = logging.getLogger("mailbridge.outbox")

__all__ = [
    "DiskFull",
    "FileKey",
    "Out",
    "Outbox",
    "OutboxFailed",
    "Quarantined",
    "SenderLock",
    "Stored",
    "Upload",
    "Verdict",
    "become_backup",
    "entity_of",
    "look_at",
]


class Stored(NamedTuple):
    """An event of the feed, ready to go out as it is."""

    seq: int
    uuid: str
    tag: str
    hash: str
    raw: bytes
    """The very bytes, our signature in them.  Sent unchanged, however often."""
    backfill: bool
    """It came from old mail; a Lighthouse never gets it."""


class Outbox(Mails):
    """
    The open outbox.  One thread uses it.

    Methods that write say so by *inside a transaction*, or commit by themselves.  All raise
    `StorageFailed` (disk), `TryAgain` (another process keeps it busy) or `NeedsOperator` (damaged).
    """

    def __init__(self, path: Path | None, key: SigningKey, *, now: datetime) -> None:
        """
        Open the outbox in *path*, or one in memory; make it, born *now*, where there is none.

        One of an older mailbridge is copied (`outbox.db.schema-N`), then brought to our form.
        Raises `NeedsOperator` where it belongs to another key or a newer mailbridge.
        """
        super().__init__(path)
        self._key: Final = key
        self._within: Head | None = None
        """The head inside a transaction that emits."""
        self._tags: set[str] = set()
        """The tags that it has more of by then."""
        self.backings: Final = Backings(self.run)
        """What backs the news that are out."""
        self.stand_ins: Final = StandIns(self.run)
        """What went out in another's name, and whether more may."""
        self.ageing: Final = Ageing(self)
        """How it stays small."""
        self.inspector: Final = Inspector(self, key.verify_key)
        """Finds what the disk has altered."""
        try:
            self._prepare(now)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the only right to write until the end, then commit to the disk; or undo it all."""
        # Another process may have written since the last one.
        self._within, self._tags = None, set()
        with super().transaction():
            yield
            # (Told once, not with each event.)
            if self._within is not None:
                told = self._within.tags
                self.run_all(
                    "INSERT OR REPLACE INTO tag (tag, n) VALUES (?, ?)",
                    [(tag, told[tag]) for tag in self._tags],
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, now: datetime) -> None:
        with self.transaction():
            version = database.bring_up(self._db, self.path, FORM)
            if version == 0:
                self._set("entity", self._key.entity)
                self._set("key", self._key.verify_key.base64)
                self._set("feed", feed_id(self._key.entity, now))
        if self._get("entity") != self._key.entity:
            raise NeedsOperator(
                f"{self.path}: the outbox of {self._get('entity')}, not of {self._key.entity};"
                " give that entity, or another --state"
            )
        if self._get("key") != self._key.verify_key.base64:
            raise NeedsOperator(
                f"{self.path}: its events are signed by another key of {self._key.entity};"
                " put that key back"
            )

    # -- the feed ----------------------------------------------------------------------------------

    @property
    def feed(self) -> str:
        """The id of the current feed."""
        return self._get("feed") or ""

    def head(self) -> Head:
        """Return how far the feed has come, with its counts by tag."""
        seq, newest = self._newest()
        tags = {str(tag): int(n) for tag, n in self.run("SELECT tag, n FROM tag ORDER BY tag")}
        return Head(feed=self.feed, seq=seq, hash=newest, tags=tags)

    def signed_head(self, now: datetime | None = None, *, asking: bool = False) -> bytes:
        """
        Return the head of *now* as canonical JSON, signed.

        *asking*: of no events at all, for who only wants to know what a relay has.
        """
        told = msgspec.structs.replace(
            Head(feed=self.feed) if asking else self.head(),
            time=(now or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        )
        return sign_note({"head": msgspec.to_builtins(told)}, self._key)

    def signed_canary(self, nonce: str, now: datetime | None = None) -> bytes:
        """Return a canary of *now* that is called *nonce*, as canonical JSON, signed."""
        time = (now or datetime.now(UTC)).isoformat(timespec="milliseconds")
        return sign_note({"canary": {"feed": self.feed, "nonce": nonce, "time": time}}, self._key)

    def emit(self, fields: Mapping[str, Any], *, mail: bytes | None, backfill: bool) -> bool:
        """
        Number, link and sign the event *fields* (all but `feed`), inside a transaction.

        False if its uuid is known already: then nothing changes.
        """
        wanted = bytes.fromhex(fields["uuid"].replace("-", ""))
        if self._knows(wanted):
            return False
        tag = str(fields["tag"])
        if self._within is None:
            self._within = self.head()
        head = self._within
        link = head.link(tag)
        raw, hashed = sign_fields({**fields, "feed": msgspec.to_builtins(link)}, self._key)
        if len(raw) > MAX_EVENT_BYTES:
            raise AssertionError(f"{tag} {fields['uuid']}: {len(raw)} bytes were let through")
        self.run(
            "INSERT INTO event (seq, uuid, tag, hash, raw, backfill, mail, made, sum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(link.seq, wanted, tag, hashed, raw, int(backfill), mail, _unix(fields["time"])),
            checksum(raw, hashed),
        )
        self._tags.add(tag)
        tags = {**head.tags, tag: link.tag_seq}
        self._within = msgspec.structs.replace(head, seq=link.seq, hash=hashed, tags=tags)
        return True

    def after(self, seq: int, limit: int) -> list[Stored]:
        """
        Return the events numbered above *seq*, in order, at most *limit* of them.

        Raises `NeedsOperator` where some of them are not kept any more (`horizon`), or damaged.
        """
        if seq < self.horizon():
            raise NeedsOperator(f"{self.path}: {self.not_kept(seq)}")
        rows = self.run(
            "SELECT seq, uuid, tag, hash, raw, backfill, sum FROM event WHERE seq > ?"
            " ORDER BY seq LIMIT ?",
            *(seq, limit),
        )
        found = []
        for n, u, tag, hashed, raw, backfill, stored in rows:
            self.inspector.demand(n, raw, hashed, stored)
            found.append(Stored(n, str(uuid.UUID(bytes=u)), tag, hashed, raw, bool(backfill)))
        return found

    def all(self) -> Iterator[Stored]:
        """Yield every event of the feed that is kept, in order."""
        seq = self.horizon()
        while page := self.after(seq, 500):
            yield from page
            seq = page[-1].seq

    def horizon(self) -> int:
        """Return the number up to which events are known by uuid and hash alone: compacted."""
        return int(self._get("horizon") or 0)

    def not_kept(self, seq: int) -> str:
        """Return in words that whoever has events up to *seq* cannot have those that follow."""
        return (
            f"events {seq + 1} to {self.horizon()} of {self.feed} were received long ago and are"
            " not kept here any more (keep_sent); a relay that has them, or an export of one, can"
            " give them; else start once with --new-epoch"
        )

    def saying(self, news: str) -> tuple[int, bytes] | None:
        """Return number and bytes of the event with the uuid *news*; None if none are kept."""
        row = self.run(
            "SELECT seq, raw FROM event WHERE uuid = ? AND raw <> x''", uuid.UUID(news).bytes
        ).fetchone()
        return (int(row[0]), bytes(row[1])) if row else None

    def redact(self, seq: int, stored: bytes) -> None:
        """
        Keep *stored* in the place of event *seq*, whose redaction it is; commits.

        What backs it is kept, and it is sent like all others, but to no Lighthouse.
        """
        with self.transaction():
            hashed, raw = self.run("SELECT hash, raw FROM event WHERE seq = ?", seq).fetchone()
            backing = backing_told(raw)
            self.run("PRAGMA secure_delete=ON")
            self.run(
                "UPDATE event SET raw = ?, sum = ?, backfill = 1, how = coalesce(?, how),"
                " signed = coalesce(?, signed) WHERE seq = ?",
                *(stored, checksum(stored, hashed)),
                *(backing and backing.how, backing and int(backing.is_signed), seq),
            )
        self.run("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def hash_of(self, seq: int) -> str | None:
        """Return the hash of event *seq*, or None if there is no such event."""
        row = self.run("SELECT hash FROM event WHERE seq = ?", seq).fetchone()
        return row[0] if row else None

    def uuids_up_to(self, seq: int) -> set[str]:
        """Return the uuids of the events up to number *seq*, kept or not."""
        rows = self.run("SELECT uuid FROM event WHERE seq <= ?", seq)
        return {str(uuid.UUID(bytes=row[0])) for row in rows}

    def made(self, seq: int) -> datetime | None:
        """Return when event *seq* was made, or None if there is no such event."""
        row = self.run("SELECT made FROM event WHERE seq = ?", seq).fetchone()
        return datetime.fromtimestamp(row[0], UTC) if row else None

    def uuids_of(self, sha256: bytes) -> list[str]:
        """Return the uuids of the events that the mail *sha256* became, while they are kept."""
        rows = self.run("SELECT uuid FROM event WHERE mail = ? ORDER BY seq", sha256)
        return [str(uuid.UUID(bytes=row[0])) for row in rows]

    def acknowledged(self, target: str) -> int:
        """Return the number up to which *target* has everything."""
        row = self.run("SELECT acked FROM target WHERE name = ?", target).fetchone()
        return int(row[0]) if row else 0

    def acknowledge(self, target: str, seq: int) -> None:
        """Remember that *target* has everything up to *seq*; commits.  Never goes back."""
        with self.transaction():
            self.run(
                "INSERT INTO target (name, acked) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET acked = max(acked, excluded.acked)",
                *(target, seq),
            )

    def targets(self) -> dict[str, int]:
        """Return who was ever sent to, and the number up to which each has everything."""
        return dict(self.run("SELECT name, acked FROM target ORDER BY name").fetchall())

    def forget_target(self, name: str) -> None:
        """Wait no longer for the target *name* to have anything; commits."""
        with self.transaction():
            self.run("DELETE FROM target WHERE name = ?", name)

    def ancestors(self) -> frozenset[str]:
        """Return the ids of the feeds that came before this one, as far as was known."""
        return frozenset((self._get("ancestors") or "").split())

    def begin_epoch(
        self, *, prev: str | None, known: Iterable[str], ancestors: Iterable[str], now: datetime
    ) -> None:
        """
        Begin a new feed after those of *ancestors*, its first event linked to *prev*.

        Events whose uuid the relays lack (it is not *known*) are numbered and signed again in it;
        of all others the uuid stays, so that no mail makes them again.  What is not kept any more
        cannot be signed again: that is logged.
        """
        born = now
        while feed_id(self._key.entity, born) in (self.feed, *ancestors):
            born += timedelta(seconds=1)
        with self.transaction():
            for text in known:
                self.run("INSERT OR IGNORE INTO former VALUES (?)", uuid.UUID(text).bytes)
            gone = self.run(
                "INSERT OR IGNORE INTO former SELECT uuid FROM event WHERE seq <= ?", self.horizon()
            ).rowcount
            self.backings.outlive()
            taken_back(self, 0)
            self.run("DELETE FROM target")
            self.run("DELETE FROM meta WHERE key IN ('horizon', 'backup')")
            before = {*self.ancestors(), *ancestors, self.feed}
            self._set("ancestors", " ".join(sorted(before)))
            self._set("feed", feed_id(self._key.entity, born))
            self._set("prev", prev or "")
            give_again(self)
        if gone:
            log.warning(
                "%d events that a relay lacks are not in the new feed: they were received long ago"
                " and are not kept any more (keep_sent)",
                gone,
            )

    def succeed(self, key: SigningKey, *, now: datetime) -> None:
        """
        Begin the feed of *key*, of another entity, linked to the head of this one; commits.

        What was emitted is remembered, so that no mail makes it again.  This object signs no more
        after that: the outbox is to be opened with *key*.
        """
        if key.entity == self._key.entity:
            raise NeedsOperator(f"{key.entity}: a new key needs a name of its own")
        with self.transaction():
            head = self.head()
            self.run("INSERT OR IGNORE INTO former SELECT uuid FROM event")
            self.backings.outlive()
            self.run("DELETE FROM event")
            self.run("DELETE FROM tag")
            self.run("DELETE FROM target")
            self.run("DELETE FROM meta WHERE key IN ('horizon', 'backup')")
            self._set("ancestors", " ".join(sorted({*self.ancestors(), head.feed})))
            self._set("prev", head.hash or "")
            self._set("entity", key.entity)
            self._set("key", key.verify_key.base64)
            self._set("feed", feed_id(key.entity, now))

    def drop(self, seq: int) -> Stored:
        """
        Take event *seq* back, which nobody has, for good, and return it; commits.

        Those behind it get new numbers, links and signatures; their uuids stay.  Its own uuid is
        remembered, so that no mail makes it again.  Raises `NeedsOperator` where a target has it,
        or there is no such event.
        """
        with self.transaction():
            for name, acked in self.targets().items():
                if acked >= seq:
                    raise NeedsOperator(f"event {seq} cannot be taken back: {name} has it")
            found = self.after(seq - 1, 1) if seq > 0 else []
            if not found:
                raise NeedsOperator(f"{self.path}: there is no event {seq} in {self.feed}")
            self.run("INSERT INTO former VALUES (?)", uuid.UUID(found[0].uuid).bytes)
            taken_back(self, seq - 1)
            give_again(self)
        return found[0]

    def restored(self) -> str | None:
        """Return when the backup was made that this outbox is, ISO 8601; None: it is none."""
        return self._get("backup")

    # -- within ------------------------------------------------------------------------------------

    def _newest(self) -> tuple[int, str | None]:
        row = self.run("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, self._get("prev") or None)

    def _knows(self, wanted: bytes) -> bool:
        found = self.run(
            "SELECT 1 FROM event WHERE uuid = ? UNION ALL SELECT 1 FROM former WHERE uuid = ?",
            *(wanted, wanted),
        )
        return found.fetchone() is not None


def _unix(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())
