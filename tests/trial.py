"""
A trial: made-up mail, a service that is broken on purpose, and the oracle that judges what is left.

What every mail must become is known from the generator's own story, not from the recognisers.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from mailbridge import traffic
from mailbridge.cli.verify import _whole
from mailbridge.errors import TryAgain
from mailbridge.event import VerifiedEvent, read_event
from mailbridge.reader import listen
from mailbridge.reader.keys import Keys
from mailbridge.traffic import News, Post
from tests.daemons import LOOPBACK, PATIENCE, Daemon, make_maildir

FAULTS: Final = ("duplicate", "truncated", "redelivered")
"""What goes wrong on the way to us, besides what a test does."""

TOLD: Final = r" (events|duplicate) tag="
"""A line that the service says of each event of a mail, once it is through with that."""


class Trial:
    """A Maildir, a state, and what must become of the mails delivered so far."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int = 7,
        faults: Sequence[str] = FAULTS,
        after: str = "seen",
        state: Path | None = None,
    ) -> None:
        """*state* is where bridge and relay keep what they know, if not in *directory* too."""
        self.maildir: Final = make_maildir(directory / "Maildir")
        self.state: Final = state or directory / "state"
        self.words: Final = (
            *("--maildir", self.maildir, "--existing", "emit", "--after", after),
            *("--accept-test", "--state", self.state),
        )
        self.news: Final[dict[str, News]] = {}
        """Every piece of news that was delivered, by what makes it that news."""
        self.files = 0
        self.truncated = 0
        """How many mails were cut off, and belong in quarantine."""
        self.tried_again = 0
        """How many an operator took out of quarantine; their files stay where they are."""
        self._posts: Final = traffic.mails(seed, faults=faults)

    def deliver(self, count: int) -> list[Post]:
        """Deliver the next *count* mails, one after the other."""
        posts = list(itertools.islice(self._posts, count))
        for post in posts:
            traffic.deliver(post.raw, self.maildir, self.files)
            self.files += 1
            self.truncated += post.what.endswith(" truncated")
            for news in post.news:
                # (Who tells it first is who is quoted.)
                self.news.setdefault(news.key, news)
        return posts

    def trickle(
        self,
        daemon: Daemon,
        count: int,
        *,
        at_once: int = 1,
        between: Callable[[], None] = lambda: None,
        unless: str = "(?!)",
    ) -> bool:
        """
        Deliver *count* mails, the next when *daemon* is through with some, and *between* is done.

        False: before that it ended, or said *unless*.
        """
        told = 0
        for _ in range(0, count, at_once):
            # (Of a file that it had before to the last byte nothing is said.)
            new = [post for post in self.deliver(at_once) if not post.what.endswith(" duplicate")]
            told += sum(len(post.news) for post in new)
            if not daemon.counted(TOLD, told, unless=unless):
                return False
            between()
        return True

    def run(self, **how: Any) -> Daemon:
        """Start bridge and relay in one process, to be broken as *how* says."""
        return Daemon("run", *self.words, *LOOPBACK, **how)

    def recover(self, *, put_aside: bool = False) -> None:
        """
        Start it once more, with nothing in its way, and hold what is left to the oracle.

        Where three deaths may have made a mail suspect, which is *put_aside* then, an operator
        has it looked at again.
        """
        self.last_one()
        with self.run() as daemon:
            url = daemon.ready()["read"]
            while put_aside and self.verdicts() < self.files:
                with contextlib.suppress(TimeoutError):
                    daemon.outlive(0.05)
                    raise AssertionError(daemon.said)
            if put_aside:
                self.try_again()
            self.arrive(url, self.state)
            assert daemon.stop() == 0, daemon.said
        self.judge()

    def verdicts(self) -> int:
        """Return how many files have their verdict."""
        with looking(self.state / "outbox.db") as outbox:
            return int(outbox.execute("SELECT coalesce(sum(n), 0) FROM count").fetchone()[0])

    def try_again(self) -> None:
        """Do as an operator does with mails that three deaths made suspect: look at them."""
        with looking(self.state / "outbox.db") as outbox:
            rows = outbox.execute("SELECT sha256 FROM mail WHERE code = 'crashed'")
            names = [bytes(sha256).hex() for (sha256,) in rows]
        if names:
            again = ("quarantine", "retry", "--accept-test", *names)
            with Daemon(*again, "--state", self.state) as retry:
                assert retry.wait() == 0, retry.said
            self.tried_again += len(names)

    def last_one(self) -> None:
        """
        Deliver mail until there is one that tells news.

        Mails are taken in the order of their delivery: once it arrived, all are through.
        """
        known = len(self.news)
        while len(self.news) == known:
            self.deliver(1)

    def arrive(
        self, url: str, state: Path, *, timeout: float = PATIENCE, only: int | None = None
    ) -> list[VerifiedEvent]:
        """
        Wait, as a reader, until as many events are there as must be (or *only* so many).

        Raises `TryAgain`.
        """
        events = listen(url, state=state, since="start", timeout=timeout)
        return [next(events) for _ in range(len(self.news) if only is None else only)]

    def arrive_or_die(
        self, daemon: Daemon, url: str | None = None, state: Path | None = None
    ) -> bool:
        """Wait until all events are there.  False: *daemon* ended before."""
        while daemon.counted("^ready ", 1) and not daemon.ended:
            url = url or daemon.ready()["read"]
            with contextlib.suppress(TryAgain):
                self.arrive(url, state or self.state, timeout=0.5)
                return True
        return False

    def judge(self, relay: Path | None = None) -> None:
        """Hold all that is on the disk, now that nothing runs, against what was delivered."""
        self.judge_events(relay or self.state)
        self.judge_mails()

    def judge_events(self, relay: Path) -> None:
        """Hold what the *relay* has against what was delivered: each once, whole, not forked."""
        url = (relay / "journal.db").as_uri()
        events = list(stored(relay / "journal.db"))
        wrong = differences(events, self.news.values())
        assert not wrong, "\n".join(wrong)
        feeds: dict[str, list[int]] = defaultdict(list)
        for event in events:
            feeds[event["feed"]["id"]].append(event["feed"]["seq"])
        for feed, numbers in feeds.items():
            assert numbers == [*range(1, len(numbers) + 1)], feed
        # What `mailbridge verify` asks: every signature and every link, as a reader sees them.
        assert _whole(url, Keys(url, state=relay)).events == len(events)
        with looking(relay / "journal.db") as journal:
            assert journal.execute("SELECT count(*) FROM fork").fetchone() == (0,)
            assert list(journal.execute("PRAGMA quick_check")) == [("ok",)]

    def judge_mails(self) -> None:
        """Hold the verdicts against the mails: each file has one, and none is in the way."""
        with looking(self.state / "outbox.db") as outbox:
            verdicts = dict(outbox.execute("SELECT verdict, sum(n) FROM count GROUP BY verdict"))
            assert sum(verdicts.values()) == self.files, verdicts
            assert verdicts.get("quarantined", 0) == self.truncated, verdicts
            assert outbox.execute("SELECT count(*) FROM file").fetchone() == (self.files,)
            assert outbox.execute("SELECT count(*) FROM attempt").fetchone() == (0,)
            assert list(outbox.execute("PRAGMA quick_check")) == [("ok",)]
        waiting = [path.name for path in (self.maildir / "new").iterdir()]
        assert len(waiting) == self.truncated + self.tried_again
        assert len(list((self.state / "quarantine").glob("*.eml"))) == self.truncated


def stored(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the events in a relay's file as they lie there: every link of every feed."""
    with looking(journal) as db:
        for pos, raw in db.execute("SELECT pos, bytes FROM event ORDER BY pos"):
            event = read_event(raw)
            assert event.feed, pos
            link = {"id": event.feed.id, "seq": event.feed.seq, "prev": event.feed.prev}
            yield {"tag": event.tag, "uuid": event.uuid, "data": event.data, "feed": link}


def differences(events: Sequence[dict[str, Any]], expected: Any) -> list[str]:
    """Return what of *expected* (news) is not exactly one of *events*, and which are too many."""
    # (By what most news name, so that of thousands not each is held against each.)
    shelves: dict[tuple[object, ...], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        for shelf in {_shelf(event["tag"], event["data"]), (event["tag"],)}:
            shelves[shelf].append(event)
    wrong: list[str] = []
    found: set[str] = set()
    for news in expected:
        shelf = _shelf(news.tag, news.data)
        fitting = [event for event in shelves[shelf] if contains(event["data"], news.data)]
        fresh = [event["uuid"] for event in fitting if event["uuid"] not in found]
        if not fresh:
            wrong.append(f"no event tells: {news.key}")
        # (Two news may read alike: they came in this order.  What is too much is left over.)
        found.update(fresh[:1])
    rest = [event for event in events if event["uuid"] not in found]
    return [*wrong, *(f"nobody expected {event['tag']} {event['data']}" for event in rest)]


def contains(whole: Any, part: Any) -> bool:
    """Say whether *part* is in *whole*: of objects each key, of the rest all."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    return bool(whole == part)


def _shelf(tag: str, data: dict[str, Any]) -> tuple[object, ...]:
    named = [data[key] for key in ("bug", "source_name") if key in data]
    return (tag, *named[:1])


@contextlib.contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database to look and no more."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        yield db


def together(trials: Sequence[tuple[str, Callable[[], None]]]) -> None:
    """Do all of *trials*, two at a time: a start is mostly Python's.  Tell by name what failed."""
    failed = []
    with ThreadPoolExecutor(2) as threads:
        done = [(name, threads.submit(do)) for name, do in trials]
        for name, future in done:
            error = future.exception()
            if error is not None:
                failed.append("".join([f"{name}\n", *traceback.format_exception(error)]))
    assert not failed, "\n\n".join(failed)
