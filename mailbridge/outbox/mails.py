"""What the outbox remembers of mails and of the files that they came as, and the counts of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge.errors import MailbridgeError
from mailbridge.outbox.rows import Rows

_AT_ONCE: Final = 500
"""SQLite takes twice as many question marks in a statement, at least."""


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


class Quarantined(NamedTuple):
    """A mail that should have been understood and was not."""

    sha256: str
    route: str
    code: str
    reason: str
    taken: datetime


class Mails(Rows):
    """The part of the outbox that is about mail."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self._life = os.urandom(8)

    def begin_life(self) -> None:
        """Count what is begun from now on as another life: a worker of ours died."""
        self._life = os.urandom(8)

    def begin_attempts(self, mails: Iterable[bytes]) -> None:
        """
        Count, on the disk, that each of *mails* (sha256) is about to be parsed; commits.

        One life of a process is one attempt: a process that could begin a mail a second time has
        not died of it.
        """
        with self.transaction():
            self.run_all(
                "INSERT INTO attempt (sha256, n, life) VALUES (?, 1, ?) ON CONFLICT (sha256)"
                " DO UPDATE SET n = n + (life <> excluded.life), life = excluded.life",
                ((sha256, self._life) for sha256 in mails),
            )

    def forgive(self, mails: Iterable[bytes]) -> None:
        """Take attempts back that failed for another reason; commits if the disk takes it."""
        with contextlib.suppress(MailbridgeError), self.transaction():
            for sha256 in mails:
                self.run("UPDATE attempt SET n = n - 1 WHERE sha256 = ?", sha256)
            self.run("DELETE FROM attempt WHERE n < 1")

    def end_attempts(self, mails: Iterable[bytes]) -> None:
        """Forget the attempts of mails that have their verdicts; inside a transaction."""
        self.run_all("DELETE FROM attempt WHERE sha256 = ?", ((sha256,) for sha256 in mails))

    def attempted(self) -> dict[bytes, int]:
        """Return every mail that was begun and not brought to its end, and how often."""
        return dict(self.run("SELECT sha256, n FROM attempt").fetchall())

    def attempts(self, sha256: bytes) -> int:
        """Return how often the mail *sha256* was begun and never brought to its end."""
        row = self.run("SELECT n FROM attempt WHERE sha256 = ?", sha256).fetchone()
        return int(row[0]) if row else 0

    def verdict_of(self, sha256: bytes, route: str) -> Verdict | None:
        """Return what became of the mail *sha256* for these sources, or None."""
        row = self.run(
            "SELECT verdict, code, reason FROM mail WHERE sha256 = ? AND route = ?", sha256, route
        ).fetchone()
        return Verdict(*row) if row else None

    def verdicts_of(self, mails: Iterable[bytes]) -> dict[tuple[bytes, str], Verdict]:
        """Return what became of each of *mails*, by its sha256 and the sources asked about it."""
        wanted = list(set(mails))
        found: dict[tuple[bytes, str], Verdict] = {}
        for at in range(0, len(wanted), _AT_ONCE):
            some = wanted[at : at + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self.run(
                f"SELECT sha256, route, verdict, code, reason FROM mail WHERE sha256 IN ({marks})",  # noqa: S608 - question marks
                *some,
            )
            found |= {(sha256, route): Verdict(*rest) for sha256, route, *rest in rows}
        return found

    def decide(self, sha256: bytes, route: str, verdict: Verdict, *, now: datetime) -> None:
        """Record what became of the mail *sha256* for these sources; inside a transaction."""
        self.run(
            "INSERT OR REPLACE INTO mail (sha256, route, verdict, code, reason, taken)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            *(sha256, route, verdict.verdict, verdict.code, verdict.reason, int(now.timestamp())),
        )

    def decide_all(self, mails: Iterable[tuple[bytes, str, Verdict]], *, now: datetime) -> None:
        """Record what became of many mails, as `decide` does; inside a transaction."""
        taken = int(now.timestamp())
        self.run_all(
            "INSERT OR REPLACE INTO mail (sha256, route, verdict, code, reason, taken)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ((sha256, route, *verdict, taken) for sha256, route, verdict in mails),
        )

    def tally(self, source: str, verdict: Verdict, by: int = 1) -> None:
        """Count one more mail or file with this verdict; inside a transaction."""
        self.run(
            "INSERT INTO count (source, verdict, code, n) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (source, verdict, code) DO UPDATE SET n = n + excluded.n",
            *(source, verdict.verdict, verdict.code, by),
        )

    def counts(self) -> list[tuple[str, str, str, int]]:
        """Return (source, verdict, code, how many) of everything that ever came."""
        return self.run(
            "SELECT source, verdict, code, n FROM count WHERE n <> 0 ORDER BY source, verdict, code"
        ).fetchall()

    def quarantined(self) -> list[Quarantined]:
        """Return the mails in quarantine, oldest first."""
        rows = self.run(
            "SELECT sha256, route, code, reason, taken FROM mail WHERE verdict = 'quarantined'"
            " ORDER BY taken, sha256"
        )
        return [
            Quarantined(sha.hex(), route, code, reason or "", datetime.fromtimestamp(taken, UTC))
            for sha, route, code, reason, taken in rows
        ]

    def in_quarantine(self) -> int:
        """Return how many mails are in quarantine."""
        return int(self._one("SELECT count(*) FROM mail WHERE verdict = 'quarantined'")[0])

    def is_quarantined(self, sha256: str) -> bool:
        """Say whether the mail *sha256* is in quarantine, for whatever sources."""
        found = self.run(
            "SELECT 1 FROM mail WHERE sha256 = ? AND verdict = 'quarantined'",
            bytes.fromhex(sha256),
        )
        return found.fetchone() is not None

    def tried_again(self, mail: Quarantined, verdict: Verdict, *, replaced: bool) -> None:
        """
        Uncount what *mail* was before it was tried again, and *verdict* decided; commits.

        Unless its entry was *replaced* (other sources were asked now, or it is the whole of what
        was cut), it leaves the quarantine.
        """
        with self.transaction():
            self.tally(mail.route, Verdict("quarantined", mail.code), -1)
            if not replaced:
                self._redecide(mail, verdict)

    def expire(self, mail: Quarantined, verdict: Verdict) -> None:
        """Give *mail*, which leaves the quarantine, its *verdict*, which is counted; commits."""
        with self.transaction():
            if self._redecide(mail, verdict):
                self.tally(mail.route, Verdict("quarantined", mail.code), -1)
                self.tally(mail.route, verdict)

    def _redecide(self, mail: Quarantined, verdict: Verdict) -> bool:
        if verdict.verdict == "quarantined":
            # (For other sources it is in quarantine still.)
            return (
                self.run(
                    "DELETE FROM mail WHERE sha256 = ? AND route = ? AND verdict = 'quarantined'",
                    *(bytes.fromhex(mail.sha256), mail.route),
                ).rowcount
                > 0
            )
        return (
            self.run(
                "UPDATE mail SET verdict = ?, code = ?, reason = ? WHERE sha256 = ? AND route = ?"
                " AND verdict = 'quarantined'",
                *(*verdict, bytes.fromhex(mail.sha256), mail.route),
            ).rowcount
            > 0
        )

    # -- files -------------------------------------------------------------------------------------

    def place(self, path: bytes) -> int | None:
        """Return the number of the Maildir *path*, or None if it was never seen before."""
        row = self.run("SELECT id FROM place WHERE path = ?", path).fetchone()
        return int(row[0]) if row else None

    def add_place(self, path: bytes, *, now: datetime) -> int:
        """Remember the Maildir *path* from *now* on; inside a transaction."""
        cursor = self.run(
            "INSERT INTO place (path, since) VALUES (?, ?)", path, int(now.timestamp())
        )
        return int(cursor.lastrowid or 0)

    def file(self, key: FileKey) -> tuple[str, int] | None:
        """Return (verdict, when: Unix time) of a delivery, or None if it is new."""
        row = self.run(
            "SELECT verdict, done FROM file WHERE place = ? AND base = ? AND inode = ?", *key
        ).fetchone()
        return (str(row[0]), int(row[1])) if row else None

    def file_done(self, key: FileKey, verdict: Verdict, *, now: datetime) -> None:
        """Remember a delivery's verdict; inside a transaction."""
        self.run(
            "INSERT OR REPLACE INTO file (place, base, inode, verdict, done)"
            " VALUES (?, ?, ?, ?, ?)",
            *(*key, verdict.verdict, int(now.timestamp())),
        )

    def files_done(
        self, place: int, files: Iterable[tuple[bytes, int]], verdict: Verdict, *, now: datetime
    ) -> int:
        """Remember one verdict for many *files* (base, inode); inside a transaction."""
        done = int(now.timestamp())
        return self.run_all(
            "INSERT OR REPLACE INTO file (place, base, inode, verdict, done)"
            " VALUES (?, ?, ?, ?, ?)",
            ((place, base, inode, verdict.verdict, done) for base, inode in files),
        ).rowcount

    def files(self, place: int) -> set[tuple[bytes, int]]:
        """Return every delivery (base, inode) of *place* that has a verdict."""
        with self._told:
            return set(self._db.execute("SELECT base, inode FROM file WHERE place = ?", (place,)))

    def known_files(self, place: int, files: Sequence[tuple[bytes, int]]) -> set[tuple[bytes, int]]:
        """Return those of *files* (base, inode), a few hundred, that have a verdict."""
        marks = ",".join("?" * len(files))
        return set(
            self.run(
                f"SELECT base, inode FROM file WHERE place = ? AND base IN ({marks})",  # noqa: S608 - question marks
                *(place, *(base for base, _ in files)),
            )
        )

    def forget_file(self, key: FileKey) -> None:
        """Forget a delivery whose file we removed; inside a transaction."""
        self.run("DELETE FROM file WHERE place = ? AND base = ? AND inode = ?", *key)

    def forget_files(self, place: int, *, before: int) -> None:
        """Forget the deliveries that were done *before* (Unix time); inside a transaction."""
        self.run("DELETE FROM file WHERE place = ? AND done < ?", place, before)
