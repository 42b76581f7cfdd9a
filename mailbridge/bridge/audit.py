"""
Mails, outbox and journal compared: what is missing, extra, doubled, or not what it should be.

Nothing is changed.  Both may be in use: what came since the look began is left for the next one.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from mailbridge import maildir
from mailbridge.bridge.serve import Watched
from mailbridge.bridge.state import State
from mailbridge.errors import MailbridgeError, NeedsOperator
from mailbridge.event import read_event
from mailbridge.feed import Head
from mailbridge.journal import Reading
from mailbridge.reader.heads import read_feeds
from mailbridge.signing import VerifyKey, verify
from mailbridge.wire.read import Asks, Refused

_PAGE: Final = 500


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    what: str
    """`missing`, `extra`, `doubled`, `different` or `damaged`."""
    where: str
    """`mails`, `quarantine`, `outbox` or `journal`."""
    told: str


class Numbered(NamedTuple):
    """An event of a feed, as a journal has it."""

    seq: int
    uuid: str
    tag: str
    hash: str


class Feeds(Protocol):
    """Where the events of the outbox should be: a relay, or its journal."""

    def heads(self) -> dict[str, int]:
        """Return the last number of every feed."""

    def numbered(self, feed: str, last: int) -> Iterator[Numbered]:
        """Yield the events of *feed* up to number *last* that it can tell of, in order."""

    @property
    def untold(self) -> int:
        """The number up to which it could not tell of that feed any more."""


class JournalFile:
    """The journal *path*: numbers, uuids and hashes stay there even where bytes were pruned."""

    untold: Final = 0

    def __init__(self, path: Path) -> None:
        self._path: Final = path

    def heads(self) -> dict[str, int]:
        """Return the last number of every feed."""
        with Reading(self._path) as journal:
            return {feed: at.head.seq for feed, at in journal.feeds().items()}

    def numbered(self, feed: str, last: int) -> Iterator[Numbered]:
        """Yield the events of *feed* up to number *last*, in order."""
        with Reading(self._path) as journal:
            after = 0
            while rows := journal.numbered(feed, after, _PAGE):
                for row in rows:
                    if row[0] > last:
                        return
                    yield Numbered(*row)
                after = rows[-1][0]


class RelayFeeds:
    """A relay that is asked."""

    def __init__(self, asks: Asks, keys: dict[str, VerifyKey]) -> None:
        self._asks: Final = asks
        self._keys: Final = keys
        self.untold = 0

    def heads(self) -> dict[str, int]:
        """Return the last number of every feed."""
        told = read_feeds(self._asks.ask("feeds", {}).header, self._keys)
        return {each.feed: each.seq for each in told}

    def numbered(self, feed: str, last: int) -> Iterator[Numbered]:
        """Yield the events of *feed* up to number *last* that were not pruned there, in order."""
        after = self.untold = 0
        while after < last:
            fields = {"feed": feed, "after": after, "limit": _PAGE}
            try:
                answer = self._asks.ask("feed", fields)
            except Refused as refused:
                if refused.code != "pruned":
                    raise
                after += _PAGE
                self.untold = min(after, last)
                continue
            seqs = answer.header.get("seqs")
            raws = answer.frames[: len(seqs) if isinstance(seqs, list) else 0]
            if not raws:
                return
            for event in map(read_event, raws):
                if event.feed is None or event.feed.seq <= after or event.feed.seq > last:
                    return
                after = event.feed.seq
                yield Numbered(after, event.uuid.lower(), event.tag, event.hash)


class Audit:
    """One look at everything.  *findings* and *counts* are what came of it."""

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._outbox: Final = state.outbox
        self._run: Final = state.outbox.run
        self.findings: Final[list[Finding]] = []
        self.counts: Final[Counter[str]] = Counter()
        """How much of each was looked at, and what waits."""

    def mails(self, places: Sequence[Watched]) -> None:
        """Look whether each file in *places* has a verdict or waits, and whether counts add up."""
        looked = {place.path: any(s.subfolders for s in place.sources) for place in places}
        for (path,) in self._run("SELECT path FROM place ORDER BY id").fetchall():
            # (Those that were named on a command line are in no configuration.)
            looked.setdefault(Path(os.fsdecode(path)), False)
        for path, subfolders in looked.items():
            known = self._outbox.place(os.fsencode(path))
            done = self._outbox.files(known) if known is not None else set()
            try:
                for one in maildir.scan_maildir(path, subfolders=subfolders):
                    self.counts["files"] += 1
                    if (os.fsencode(one.base), one.inode) not in done:
                        self.counts["files that wait"] += 1
            except MailbridgeError as error:
                self._find("damaged", "mails", f"cannot be looked into: {error}")
        self._check_counts()
        self._check_news()

    def quarantine(self) -> None:
        """Look whether each mail in quarantine has its row, its file and its note."""
        kept = {mail.sha256 for mail in self._outbox.quarantined()}
        self.counts["mails in quarantine"] = len(kept)
        for sha256 in sorted(kept):
            try:
                raw, note = self._state.quarantine.mail(sha256), self._state.quarantine.note(sha256)
            except NeedsOperator as error:
                self._find("missing", "quarantine", str(error))
                continue
            if note.size is None and hashlib.sha256(raw).hexdigest() != sha256:
                self._find("damaged", "quarantine", f"{sha256}.eml is not the mail that came")
        directory = self._state.directory / "quarantine"
        names = {path.stem for path in directory.glob("[0-9a-f]*.eml")}
        for name in sorted(names - kept):
            self._find("extra", "quarantine", f"{name}.eml: the outbox knows of no such mail")

    def outbox(self) -> Head:
        """Look whether each event has its number, link, hash and signature; return the head."""
        keys = {self._state.key.entity: self._state.key.verify_key}
        head = self._outbox.head()
        rows = self._run("SELECT seq, uuid, hash, raw FROM event ORDER BY seq")
        last, before = 0, None
        for seq, raw_uuid, hashed, raw in rows:
            if seq != last + 1:
                self._find("missing", "outbox", f"{head.feed}: events {last + 1} to {seq - 1}")
                before = None
            if raw and (wrong := _wrong(raw, seq, raw_uuid, hashed, before, keys)):
                self._find("damaged", "outbox", f"{head.feed}: event {seq}: {wrong}")
            last, before = seq, hashed
            self.counts["events in the outbox"] += 1
        counted, there = self._run(
            "SELECT (SELECT coalesce(sum(n), 0) FROM tag), (SELECT count(*) FROM event)"
        ).fetchone()
        if counted != there:
            told = f"{head.feed}: its tags count {counted} events, {there} are there"
            self._find("different", "outbox", told)
        return head

    def journal(self, theirs: Feeds, head: Head, *, received: int) -> None:
        """
        Compare with what *theirs* has of us, up to the *head* of the outbox.

        Up to number *received* it once said that it has everything; what is behind that waits.
        """
        heads = theirs.heads()
        ours = f"{self._state.key.entity}/"
        for feed, last in sorted(heads.items()):
            if feed == head.feed:
                if last > self._outbox.head().seq:
                    numbers = f"{self._outbox.head().seq + 1} to {last}"
                    self._find("extra", "journal", f"{feed}: {numbers}: the outbox lacks them")
            elif feed.startswith(ours) and last:
                self._former(theirs, feed, last)
        there = heads.get(head.feed, 0)
        self._current(theirs, head, min(there, head.seq))
        if there < min(received, head.seq):
            numbers = f"{there + 1} to {min(received, head.seq)}"
            self._find("missing", "journal", f"{head.feed}: {numbers}, which it once had received")
        self.counts["events that wait to be sent"] = max(0, head.seq - max(there, received))

    # -- within ------------------------------------------------------------------------------------

    def _find(self, what: str, where: str, told: str) -> None:
        self.findings.append(Finding(what, where, told))

    def _check_counts(self) -> None:
        """Each verdict that stands was counted once; a mail that came again as a duplicate."""
        # (One statement: somebody else may count meanwhile.)
        rows = self._run(
            "SELECT route, mail.verdict, mail.code, count(*), coalesce(n, 0) FROM mail"
            " LEFT JOIN count ON source = route AND count.verdict = mail.verdict"
            " AND count.code = mail.code GROUP BY route, mail.verdict, mail.code"
        )
        for route, verdict, code, n, counted in rows:
            self.counts["mails with a verdict"] += n
            if counted < n:
                told = f"{route}: {n} mails are {verdict} {code}".rstrip()
                self._find("different", "mails", f"{told}, {counted} were counted")

    def _check_news(self) -> None:
        """A mail that became events has some, as long as none was compacted or begun anew."""
        if self._outbox.horizon() or self._outbox.ancestors():
            return
        rows = self._run(
            "SELECT sha256, route FROM mail WHERE verdict = 'events'"
            " AND sha256 NOT IN (SELECT mail FROM event WHERE mail IS NOT NULL)"
        )
        for sha256, route in rows:
            told = f"{route}: the mail {sha256.hex()} became events, and none is there"
            self._find("missing", "outbox", told)

    def _current(self, theirs: Feeds, head: Head, last: int) -> None:
        seen: dict[tuple[str, str], int] = {}
        expected = 0
        for there in theirs.numbered(head.feed, last):
            expected = expected or theirs.untold + 1
            if there.seq > expected:
                numbers = f"{expected} to {there.seq - 1}"
                self._find("missing", "journal", f"{head.feed}: {numbers}: the outbox has them")
            expected = there.seq + 1
            self.counts["events compared"] += 1
            ours = self._outbox.hash_of(there.seq)
            if ours is None:
                self._find("missing", "outbox", f"{head.feed}: {there.seq}: the journal has it")
            elif ours != there.hash:
                told = f"{head.feed}: {there.seq} is another event than in the outbox"
                self._find("different", "journal", told)
            twin = seen.setdefault((there.tag, there.uuid), there.seq)
            if twin != there.seq:
                told = f"{there.seq} says what {twin} said ({there.tag} {there.uuid})"
                self._find("doubled", "journal", f"{head.feed}: {told}")
        expected = expected or theirs.untold + 1
        if expected <= last:
            numbers = f"{expected} to {last}"
            self._find("missing", "journal", f"{head.feed}: {numbers}: the outbox has them")

    def _former(self, theirs: Feeds, feed: str, last: int) -> None:
        """Every event of ours in a former feed is one of which we still know that it went out."""
        strange = 0
        for there in theirs.numbered(feed, last):
            wanted = uuid.UUID(there.uuid).bytes
            known = self._run(
                "SELECT 1 FROM event WHERE uuid = ? UNION ALL SELECT 1 FROM former WHERE uuid = ?",
                *(wanted, wanted),
            )
            strange += known.fetchone() is None
        if feed not in self._outbox.ancestors():
            self._find("extra", "journal", f"{feed}: the outbox knows of no such feed")
        elif strange:
            self._find("extra", "journal", f"{feed}: {strange} events the outbox knows nothing of")


def _wrong(  # noqa: PLR0913, PLR0917 - a row, and what it is held against
    raw: bytes,
    seq: int,
    raw_uuid: bytes,
    hashed: str,
    before: str | None,
    keys: dict[str, VerifyKey],
) -> str | None:
    try:
        event = verify(read_event(raw), keys)
    except MailbridgeError as error:
        return str(error)
    link = event.feed
    if link is None or link.seq != seq:
        return "its bytes have another number"
    if event.hash != hashed or uuid.UUID(event.uuid).bytes != raw_uuid:
        return "its bytes are another event's"
    if before is not None and link.prev != before:
        return "it does not follow the one before"
    return None
