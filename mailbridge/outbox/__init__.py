"""
The outbox: which mails are done, and the numbered, linked, signed events they became.  SQLite.

"This mail is done" and its events are one transaction, on the disk before it returns; whoever
sends reads here, so what was sent is never unsaid by a crash.  Several processes may write side by
side, because numbering reads the feed's head inside the transaction; only the sender holds a lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from mailbridge import failpoint
from mailbridge.errors import MailbridgeError, NeedsOperator
from mailbridge.event import MAX_EVENT_BYTES
from mailbridge.feed import Head, feed_id
from mailbridge.outbox.file import (
    MIGRATIONS,
    PRAGMAS,
    SCHEMA,
    SCHEMA_VERSION,
    DiskFull,
    SenderLock,
    Told,
    connect,
    entity_of,
    keep_copy,
)
from mailbridge.outbox.news import Backings, Out, StandIns, Upload
from mailbridge.signing import SigningKey, sign_fields, sign_note

log = logging.getLogger("mailbridge.outbox")

__all__ = [
    "DiskFull",
    "FileKey",
    "Out",
    "Outbox",
    "Quarantined",
    "SenderLock",
    "Stored",
    "Upload",
    "Verdict",
    "entity_of",
]


class FileKey(NamedTuple):
    """One delivery: what stays the same of a file while mail readers rename it."""

    place: int
    base: bytes
    inode: int


class Verdict(NamedTuple):
    """What became of a mail, or of a file that is none."""

    verdict: str
    """`events`, `duplicate`, `ignored`, `quarantined` or `existing`."""
    code: str = ""
    """The counted reason, in kebab-case."""
    reason: str | None = None
    """The same for a person."""


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


class Quarantined(NamedTuple):
    """A mail that should have been understood and was not."""

    sha256: str
    route: str
    code: str
    reason: str
    taken: datetime


class Outbox:
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
        self.path: Final = path
        self._key: Final = key
        self._life: Final = os.urandom(8)
        self._told: Final = Told(path)
        self._db: Final = connect(path)
        self.backings: Final = Backings(self._run)
        """What backs the news that are out."""
        self.stand_ins: Final = StandIns(self._run)
        """What went out in another's name, and whether more may."""
        try:
            self._prepare(now)
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it.  What is committed stays."""
        self._db.close()

    def _prepare(self, now: datetime) -> None:
        with self._told:
            for pragma in PRAGMAS:
                self._db.execute(f"PRAGMA {pragma}")
        with self.transaction():
            version = int(self._one("PRAGMA user_version")[0])
            if version > SCHEMA_VERSION:
                raise NeedsOperator(
                    f"{self.path}: made by a newer mailbridge (schema {version}, we know"
                    f" {SCHEMA_VERSION}); use that one"
                )
            if version < SCHEMA_VERSION:
                self._bring_up(version)
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

    def _bring_up(self, version: int) -> None:
        """Bring the file, empty or of *version*, to our form; inside a transaction."""
        if version and self.path:
            log.info("the outbox as it was is kept in %s", keep_copy(self.path, version))
        steps = [MIGRATIONS[older] for older in range(version or 1, SCHEMA_VERSION)]
        for step in steps if version else [SCHEMA, *steps]:
            for statement in step.split(";"):
                self._run(statement)
        self._run(f"PRAGMA user_version={SCHEMA_VERSION}")

    # -- transactions ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the only right to write until the end, then commit to the disk; or undo it all."""
        with self._told:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                failpoint.reached("outbox-commit")
                self._db.execute("COMMIT")
                failpoint.reached("outbox-committed")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # -- the feed ----------------------------------------------------------------------------------

    @property
    def feed(self) -> str:
        """The id of the current feed."""
        return self._get("feed") or ""

    def head(self) -> Head:
        """Return how far the feed has come, with its counts by tag."""
        seq, newest = self._newest()
        tags = {str(tag): int(n) for tag, n in self._run("SELECT tag, n FROM tag ORDER BY tag")}
        return Head(feed=self.feed, seq=seq, hash=newest, tags=tags)

    def signed_head(self, now: datetime | None = None) -> bytes:
        """Return the head of *now* as canonical JSON, signed."""
        told = msgspec.structs.replace(
            self.head(), time=(now or datetime.now(UTC)).isoformat(timespec="milliseconds")
        )
        return sign_note({"head": msgspec.to_builtins(told)}, self._key)

    def emit(self, fields: Mapping[str, Any], *, mail: bytes | None, backfill: bool) -> bool:
        """
        Number, link and sign the event *fields* (all but `feed`), inside a transaction.

        False if its uuid is known already: then nothing changes.
        """
        wanted = uuid.UUID(fields["uuid"]).bytes
        if self._knows(wanted):
            return False
        tag = str(fields["tag"])
        seq, newest = self._newest()
        row = self._run("SELECT n FROM tag WHERE tag = ?", tag).fetchone()
        link = Head(feed=self.feed, seq=seq, hash=newest, tags={tag: row[0] if row else 0}).link(
            tag
        )
        raw, hashed = sign_fields({**fields, "feed": msgspec.to_builtins(link)}, self._key)
        if len(raw) > MAX_EVENT_BYTES:
            raise AssertionError(f"{tag} {fields['uuid']}: {len(raw)} bytes were let through")
        self._run(
            "INSERT INTO event (seq, uuid, tag, hash, raw, backfill, mail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(link.seq, wanted, tag, hashed, raw, int(backfill), mail),
        )
        self._run(
            "INSERT INTO tag (tag, n) VALUES (?, 1) ON CONFLICT (tag) DO UPDATE SET n = n + 1", tag
        )
        return True

    def after(self, seq: int, limit: int) -> list[Stored]:
        """Return the events numbered above *seq*, in order, at most *limit* of them."""
        rows = self._run(
            "SELECT seq, uuid, tag, hash, raw, backfill FROM event WHERE seq > ?"
            " ORDER BY seq LIMIT ?",
            *(seq, limit),
        )
        return [Stored(n, str(uuid.UUID(bytes=u)), t, h, r, bool(b)) for n, u, t, h, r, b in rows]

    def all(self) -> Iterator[Stored]:
        """Yield every event of the feed, in order."""
        seq = 0
        while page := self.after(seq, 500):
            yield from page
            seq = page[-1].seq

    def hash_of(self, seq: int) -> str | None:
        """Return the hash of event *seq*, or None if there is no such event."""
        row = self._run("SELECT hash FROM event WHERE seq = ?", seq).fetchone()
        return row[0] if row else None

    def uuids_of(self, sha256: bytes) -> list[str]:
        """Return the uuids of the events that the mail *sha256* became."""
        rows = self._run("SELECT uuid FROM event WHERE mail = ? ORDER BY seq", sha256)
        return [str(uuid.UUID(bytes=row[0])) for row in rows]

    def acknowledged(self, target: str) -> int:
        """Return the number up to which *target* has everything."""
        row = self._run("SELECT acked FROM target WHERE name = ?", target).fetchone()
        return int(row[0]) if row else 0

    def acknowledge(self, target: str, seq: int) -> None:
        """Remember that *target* has everything up to *seq*; commits.  Never goes back."""
        with self.transaction():
            self._run(
                "INSERT INTO target (name, acked) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET acked = max(acked, excluded.acked)",
                *(target, seq),
            )

    def targets(self) -> dict[str, int]:
        """Return who was ever sent to, and the number up to which each has everything."""
        return dict(self._run("SELECT name, acked FROM target ORDER BY name").fetchall())

    def ancestors(self) -> frozenset[str]:
        """Return the ids of the feeds that came before this one, as far as was known."""
        return frozenset((self._get("ancestors") or "").split())

    def begin_epoch(
        self, *, prev: str | None, known: Iterable[str], ancestors: Iterable[str], now: datetime
    ) -> None:
        """
        Begin a new feed after those of *ancestors*, its first event linked to *prev*.

        Events whose uuid the relays lack (it is not *known*) are numbered and signed again in it;
        of all others the uuid stays, so that no mail makes them again.
        """
        born = now
        while feed_id(self._key.entity, born) in (self.feed, *ancestors):
            born += timedelta(seconds=1)
        with self.transaction():
            self._run("CREATE TEMP TABLE again AS SELECT * FROM event")
            for text in known:
                self._run("INSERT OR IGNORE INTO former VALUES (?)", uuid.UUID(text).bytes)
            self.backings.outlive()
            self._run("DELETE FROM event")
            self._run("DELETE FROM tag")
            self._run("DELETE FROM target")
            before = {*self.ancestors(), *ancestors, self.feed}
            self._set("ancestors", " ".join(sorted(before)))
            self._set("feed", feed_id(self._key.entity, born))
            self._set("prev", prev or "")
            rows = self._run(
                "SELECT raw, backfill, mail FROM temp.again WHERE uuid NOT IN former ORDER BY seq"
            )
            for raw, backfill, mail in rows:
                fields = msgspec.json.decode(raw, type=dict[str, Any])
                for signed in ("feed", "signatures", "unsigned"):
                    fields.pop(signed, None)
                self.emit(fields, mail=mail, backfill=bool(backfill))
            self._run("DROP TABLE temp.again")

    # -- mails -------------------------------------------------------------------------------------

    def begin_attempts(self, mails: Iterable[bytes]) -> None:
        """
        Count, on the disk, that each of *mails* (sha256) is about to be parsed; commits.

        One life of a process is one attempt: a process that could begin a mail a second time has
        not died of it.
        """
        with self.transaction():
            for sha256 in mails:
                self._run(
                    "INSERT INTO attempt (sha256, n, life) VALUES (?, 1, ?) ON CONFLICT (sha256)"
                    " DO UPDATE SET n = n + (life <> excluded.life), life = excluded.life",
                    *(sha256, self._life),
                )

    def forgive(self, mails: Iterable[bytes]) -> None:
        """Take attempts back that failed for another reason; commits if the disk takes it."""
        with contextlib.suppress(MailbridgeError), self.transaction():
            for sha256 in mails:
                self._run("UPDATE attempt SET n = n - 1 WHERE sha256 = ?", sha256)
            self._run("DELETE FROM attempt WHERE n < 1")

    def end_attempt(self, sha256: bytes) -> None:
        """Forget the attempts of a mail that has its verdict; inside a transaction."""
        self._run("DELETE FROM attempt WHERE sha256 = ?", sha256)

    def attempts(self, sha256: bytes) -> int:
        """Return how often the mail *sha256* was begun and never brought to its end."""
        row = self._run("SELECT n FROM attempt WHERE sha256 = ?", sha256).fetchone()
        return int(row[0]) if row else 0

    def verdict_of(self, sha256: bytes, route: str) -> Verdict | None:
        """Return what became of the mail *sha256* for these sources, or None."""
        row = self._run(
            "SELECT verdict, code, reason FROM mail WHERE sha256 = ? AND route = ?", sha256, route
        ).fetchone()
        return Verdict(*row) if row else None

    def decide(self, sha256: bytes, route: str, verdict: Verdict, *, now: datetime) -> None:
        """Record what became of the mail *sha256* for these sources; inside a transaction."""
        self._run(
            "INSERT OR REPLACE INTO mail (sha256, route, verdict, code, reason, taken)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            *(sha256, route, verdict.verdict, verdict.code, verdict.reason, int(now.timestamp())),
        )

    def tally(self, source: str, verdict: Verdict, by: int = 1) -> None:
        """Count one more mail or file with this verdict; inside a transaction."""
        self._run(
            "INSERT INTO count (source, verdict, code, n) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (source, verdict, code) DO UPDATE SET n = n + excluded.n",
            *(source, verdict.verdict, verdict.code, by),
        )

    def counts(self) -> list[tuple[str, str, str, int]]:
        """Return (source, verdict, code, how many) of everything that ever came."""
        return self._run(
            "SELECT source, verdict, code, n FROM count WHERE n <> 0 ORDER BY source, verdict, code"
        ).fetchall()

    def quarantined(self) -> list[Quarantined]:
        """Return the mails in quarantine, oldest first."""
        rows = self._run(
            "SELECT sha256, route, code, reason, taken FROM mail WHERE verdict = 'quarantined'"
            " ORDER BY taken, sha256"
        )
        return [
            Quarantined(sha.hex(), route, code, reason or "", datetime.fromtimestamp(taken, UTC))
            for sha, route, code, reason, taken in rows
        ]

    def release(self, quarantined: Quarantined, verdict: Verdict) -> None:
        """Give a mail that was in quarantine its new verdict, in the counts as well; commits."""
        with self.transaction():
            self._run(
                "UPDATE mail SET verdict = ?, code = ?, reason = ? WHERE sha256 = ? AND route = ?"
                " AND verdict = 'quarantined'",
                *(*verdict, bytes.fromhex(quarantined.sha256), quarantined.route),
            )
            self.tally(quarantined.route, Verdict("quarantined", quarantined.code), -1)

    # -- files -------------------------------------------------------------------------------------

    def place(self, path: bytes) -> int | None:
        """Return the number of the Maildir *path*, or None if it was never seen before."""
        row = self._run("SELECT id FROM place WHERE path = ?", path).fetchone()
        return int(row[0]) if row else None

    def add_place(self, path: bytes, *, now: datetime) -> int:
        """Remember the Maildir *path* from *now* on; inside a transaction."""
        cursor = self._run(
            "INSERT INTO place (path, since) VALUES (?, ?)", path, int(now.timestamp())
        )
        return int(cursor.lastrowid or 0)

    def file(self, key: FileKey) -> tuple[str, int] | None:
        """Return (verdict, when: Unix time) of a delivery, or None if it is new."""
        row = self._run(
            "SELECT verdict, done FROM file WHERE place = ? AND base = ? AND inode = ?", *key
        ).fetchone()
        return (str(row[0]), int(row[1])) if row else None

    def file_done(self, key: FileKey, verdict: Verdict, *, now: datetime) -> None:
        """Remember a delivery's verdict; inside a transaction."""
        self._run(
            "INSERT OR REPLACE INTO file (place, base, inode, verdict, done)"
            " VALUES (?, ?, ?, ?, ?)",
            *(*key, verdict.verdict, int(now.timestamp())),
        )

    def files_done(
        self, place: int, files: Iterable[tuple[bytes, int]], verdict: Verdict, *, now: datetime
    ) -> int:
        """Remember one verdict for many *files* (base, inode); inside a transaction."""
        done = int(now.timestamp())
        with self._told:
            return self._db.executemany(
                "INSERT OR REPLACE INTO file (place, base, inode, verdict, done)"
                " VALUES (?, ?, ?, ?, ?)",
                ((place, base, inode, verdict.verdict, done) for base, inode in files),
            ).rowcount

    def files(self, place: int) -> set[tuple[bytes, int]]:
        """Return every delivery (base, inode) of *place* that has a verdict."""
        with self._told:
            return set(self._db.execute("SELECT base, inode FROM file WHERE place = ?", (place,)))

    def forget_file(self, key: FileKey) -> None:
        """Forget a delivery whose file we removed; inside a transaction."""
        self._run("DELETE FROM file WHERE place = ? AND base = ? AND inode = ?", *key)

    def forget_files(self, place: int, *, before: int) -> None:
        """Forget the deliveries that were done *before* (Unix time); inside a transaction."""
        self._run("DELETE FROM file WHERE place = ? AND done < ?", place, before)

    # -- within ------------------------------------------------------------------------------------

    def _newest(self) -> tuple[int, str | None]:
        row = self._run("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, self._get("prev") or None)

    def _knows(self, wanted: bytes) -> bool:
        found = self._run(
            "SELECT 1 FROM event WHERE uuid = ? UNION ALL SELECT 1 FROM former WHERE uuid = ?",
            *(wanted, wanted),
        )
        return found.fetchone() is not None

    def _get(self, key: str) -> str | None:
        row = self._run("SELECT value FROM meta WHERE key = ?", key).fetchone()
        return str(row[0]) if row else None

    def _set(self, key: str, value: str) -> None:
        self._run("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", key, value)

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._run(sql).fetchone()
        return row

    def _run(self, sql: str, *values: object) -> sqlite3.Cursor:
        with self._told:
            return self._db.execute(sql, values)
