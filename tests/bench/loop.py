"""
The whole loop under load: generate, Maildir, bridge, relay, reader, and every event held to the
story that its mail is from.

Not part of the gate, because a busy machine would make it red for nothing.  Run it by name:
`python -m tests.bench.loop --minutes 5 --rate 500 --seed 1`.

Bridge, relay and reader are processes of their own.  The mails are written beforehand, beside the
Maildir, and delivered by rename or link: what is measured is what takes them in.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from mailbridge import traffic
from mailbridge.config import size
from mailbridge.event import TEST_NAMESPACE, read_event
from mailbridge.traffic import FAULTS, News
from tests.daemons import LOOPBACK, Daemon, make_maildir
from tests.trial import contains

PATIENCE: Final = 900.0
"""A guard against hanging, in seconds without any mail or event that is new."""

STEP: Final = 0.002
"""Seconds between two looks at the clock while mails are delivered."""

QUARANTINED: Final = (" truncated", " oversize")
"""What the names of mails end in that nobody can make news of."""


class Prepared(NamedTuple):
    """Mails that lie ready, and what must become of them."""

    mails: Sequence[Path]
    news: Sequence[News]
    faults: Counter[str]
    quarantined: int


class Spent:
    """The processor's seconds of processes, told when each has ended: its own children included."""

    def __init__(self) -> None:
        self.seconds: Final[dict[str, float]] = {}
        self._last = self._all()

    def ended(self, name: str) -> None:
        """Note what *name* took, which has ended since anything else did."""
        now = self._all()
        self.seconds[name] = now - self._last
        self._last = now

    @staticmethod
    def _all() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


class Figures(NamedTuple):
    """What a run showed."""

    rows: Sequence[tuple[str, str]]
    wrong: Sequence[str]


def main(words: Sequence[str] | None = None) -> int:
    """Run the loop and print its table; 1: what came is not what was expected."""
    arguments = _arguments(words)
    with tempfile.TemporaryDirectory(prefix="mailbridge-loop-", dir=arguments.dir) as name:
        figures = _run(Path(name), arguments)
    width = max(len(key) for key, _ in figures.rows)
    for key, told in figures.rows:
        print(f"{key:<{width}}  {told}")  # noqa: T201 - its output
    for line in figures.wrong[:20]:
        print(line[:500], file=sys.stderr)  # noqa: T201 - its output
    return 1 if figures.wrong else 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.loop", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=500.0, help="mails a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mix", choices=("usual", "all"), default="usual")
    parser.add_argument("--faults", choices=("all", "none"), default="all")
    parser.add_argument("--sign", action="store_true", help="and let the bridge check signatures")
    parser.add_argument("--max-mail", default="128K", help="what the bridge takes")
    parser.add_argument("--after", default="seen", help="what becomes of a mail that is done")
    parser.add_argument("--dir", type=Path, help="on the disk that is to be measured")
    return parser.parse_args(words)


def _run(directory: Path, arguments: argparse.Namespace) -> Figures:
    began = time.monotonic()
    prepared = _prepare(directory, arguments)
    made = time.monotonic() - began
    maildir = make_maildir(directory / "Maildir")
    state, relay = directory / "bridge", directory / "relay"
    events = directory / "events.jsonl"
    spent = Spent()
    with (
        _gateway(directory, arguments, maildir, spent) as (outbox, read),
        _reading(read, relay, events, spent),
    ):
        first = time.monotonic()
        most = _deliver(prepared.mails, maildir, arguments.rate, outbox)
        delivered = time.monotonic() - first
        _wait(outbox, relay / "journal.db", events, len(prepared.mails))
        whole = time.monotonic() - first
    told = [read_event(line) for line in events.read_bytes().splitlines()]
    wrong = _differences([(e.tag, e.uuid, dict(e.data)) for e in told], prepared.news)
    verdicts = _verdicts(state / "outbox.db")
    if verdicts["quarantined"] != prepared.quarantined:
        wrong.append(f"{verdicts['quarantined']} quarantined, not {prepared.quarantined}")
    count = len(prepared.mails)
    took = {key: 1000 * spent.seconds[key] / count for key in ("bridge", "relay", "reader")}
    late = whole - delivered
    rows = (
        ("mails", f"{count}, {_listed(prepared.faults)}"),
        ("events", f"{len(told)}, expected {len(prepared.news)}"),
        ("sets equal", "no" if wrong else "yes"),
        ("verdicts", _listed(verdicts)),
        ("rate asked for", f"{arguments.rate:.0f} mails/s"),
        ("rate delivered", f"{count / delivered:.1f} mails/s"),
        ("rate held, to the reader", f"{count / whole:.1f} mails/s"),
        ("backlog, the most", f"{most} mails"),
        ("lag at the end", f"{late:.2f} s"),
        ("duration", f"{whole:.1f} s (and {made:.1f} s to write the mails beforehand)"),
        ("processor, ms/mail", ", ".join(f"{each:.2f} {name}" for name, each in took.items())),
        ("machine", f"{os.cpu_count()} cores, {platform.python_version()}"),
    )
    return Figures(rows, wrong)


# -- mails -----------------------------------------------------------------------------------------


def _prepare(directory: Path, arguments: argparse.Namespace) -> Prepared:
    """Write as many mails as come in the time, and remember what they must become."""
    ready = directory / "ready"
    ready.mkdir()
    key = traffic.Key() if arguments.sign else None
    if key:
        (directory / "made-up.gpg").write_bytes(key.keyring)
    posts = traffic.mails(
        arguments.seed,
        mix=traffic.EVERYTHING if arguments.mix == "all" else traffic.MIX,
        faults=FAULTS if arguments.faults == "all" else (),
        max_mail=size(arguments.max_mail),
        key=key,
    )
    mails: list[Path] = []
    news: dict[str, News] = {}
    faults: Counter[str] = Counter()
    quarantined = 0
    for post in itertools.islice(posts, round(arguments.minutes * 60 * arguments.rate)):
        path = ready / f"{1_700_000_000 + len(mails)}.M{len(mails)}.loop"
        path.write_bytes(post.raw)
        mails.append(path)
        faults.update(fault for fault in FAULTS if fault in post.what)
        quarantined += post.what.endswith(QUARANTINED)
        quarantined += bool(key) and post.what == "dak announce tampered"
        news.update({told.key: told for told in post.news})
    os.sync()
    return Prepared(mails, list(news.values()), faults, quarantined)


def _deliver(mails: Sequence[Path], maildir: Path, rate: float, outbox: Path) -> int:
    """Deliver *mails* at *rate*, and return how many of them waited at most."""
    began = looked = time.monotonic()
    most = done = 0
    while done < len(mails):
        now = time.monotonic()
        due = min(len(mails), int((now - began) * rate) + 1)
        for number in range(done, due):
            path = mails[number]
            arrived = maildir / "new" / path.name
            if number % 2:
                path.rename(arrived)
            else:
                arrived.hardlink_to(path)
                path.unlink()
        done = due
        if now - looked > 1.0:
            looked = now
            most = max(most, done - sum(_verdicts(outbox).values()))
        time.sleep(STEP)
    return most


# -- processes -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _gateway(
    directory: Path, arguments: argparse.Namespace, maildir: Path, spent: Spent
) -> Iterator[tuple[Path, str]]:
    """Have a relay and a bridge that it trusts; give the bridge's outbox, and where to read."""
    state, relay = directory / "bridge", directory / "relay"
    config = directory / "mailbridge.toml"
    keyrings = [str(directory / "made-up.gpg")] if arguments.sign else []
    config.write_text(
        f"entity = 'mailbridge.loop'\nstate = {json.dumps(str(state))}\n"
        f"max_mail = {json.dumps(arguments.max_mail)}\n[[source]]\nname = 'loop'\n"
        f"maildir = {json.dumps(str(maildir))}\nrequire = 'channel'\n"
        f"after = {json.dumps(arguments.after)}\nkeyrings = {json.dumps(keyrings)}\n"
    )
    with Daemon("relay", "--state", relay, *LOOPBACK) as server:
        bound = server.ready()
        bridge = ("-c", config, "bridge", "--accept-test", "--submit", bound["submit"])
        with Daemon(*bridge) as unknown:
            key = state / "keys" / f"{unknown.ready()['key']}.key"
            _ended(unknown)
        tags = f"{TEST_NAMESPACE}.*"
        with Daemon("key", "trust", key, "--state", relay, "--tags", tags) as trust:
            trust.wait()
        with Daemon(*bridge) as daemon:
            daemon.ready()
            spent.ended("to set it up")
            yield state / "outbox.db", bound["read"]
            _ended(daemon)
            spent.ended("bridge")
        _ended(server)
        spent.ended("relay")


@contextlib.contextmanager
def _reading(url: str, relay: Path, events: Path, spent: Spent) -> Iterator[None]:
    """Have `tail` verify every event, and write what it is given to *events*."""
    words = [sys.executable, "-m", "mailbridge", "tail", url, "--json", "--from", "start"]
    words += ["--keys", str(relay / "keys" / "trusted")]
    with events.open("wb") as file, subprocess.Popen(words, stdout=file) as reader:
        yield
        reader.terminate()
        reader.wait()
        spent.ended("reader")


def _wait(outbox: Path, journal: Path, events: Path, mails: int) -> None:
    """Wait until every mail has its verdict, and the reader has all that the relay has."""
    known: tuple[int, int] = (-1, -1)
    since, lines = time.monotonic(), _Lines(events)
    while True:
        through = sum(_verdicts(outbox).values())
        if (now := (through, lines.count())) != known:
            known, since = now, time.monotonic()
        if through >= mails and known[1] == _count(journal, outbox):
            return
        if time.monotonic() - since > PATIENCE:
            raise AssertionError(f"{through} of {mails} mails are through, and no more come")
        time.sleep(0.05)


def _ended(daemon: Daemon) -> None:
    if daemon.stop() != 0:
        raise AssertionError(daemon.said)


def _verdicts(outbox: Path) -> Counter[str]:
    with _looking(outbox) as db:
        found = db.execute("SELECT verdict, sum(n) FROM count GROUP BY verdict")
        return Counter(dict(found.fetchall()))


def _count(journal: Path, outbox: Path) -> int | None:
    """Return how many events the relay has; None while the bridge has more of them."""
    with _looking(outbox) as db:
        (made,) = db.execute("SELECT count(*) FROM event").fetchone()
    with _looking(journal) as db:
        (had,) = db.execute("SELECT count(*) FROM event").fetchone()
    return int(had) if had == made else None


class _Lines:
    """How many lines a file has that grows."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._read = self._found = 0

    def count(self) -> int:
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        self._found += new.count(b"\n")
        return self._found


@contextlib.contextmanager
def _looking(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        yield db


# -- comparing -------------------------------------------------------------------------------------


def _differences(
    events: Sequence[tuple[str, str, dict[str, Any]]], news: Sequence[News]
) -> list[str]:
    """Return what of *news* is not exactly one of *events*, and which of these are too many."""
    # (By what names it: of many thousands not each can be held against each.)
    shelves: dict[tuple[object, ...], list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    ways: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for told in news:
        ways[told.tag].add(_names(told))
    for tag, uuid, data in events:
        for names in ways[tag]:
            shelves[_shelf(tag, data, names)].append((uuid, data))
    wrong: list[str] = []
    found: set[str] = set()
    for told in news:
        shelf = shelves[_shelf(told.tag, told.data, _names(told))]
        fresh = [uuid for uuid, data in shelf if uuid not in found and contains(data, told.data)]
        if len(fresh) != 1:
            wrong.append(f"{len(fresh)} events instead of one: {told.key}")
        found.update(fresh)
    wrong += [f"nobody expected {tag} {data}" for tag, uuid, data in events if uuid not in found]
    doubled = len(events) - len({uuid for _, uuid, _ in events})
    return [*wrong, f"{doubled} events came twice"] if doubled else wrong


def _names(told: News) -> tuple[str, ...]:
    known = ("bug", "source_name", "source_version", "upload_name", "title")
    return tuple(name for name in known if name in told.data)


def _shelf(tag: str, data: dict[str, Any], names: Sequence[str]) -> tuple[object, ...]:
    return (tag, *((name, data.get(name)) for name in names))


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
