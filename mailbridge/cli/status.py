"""`mailbridge status`: how each part stands, and how far it is behind."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailbridge.config import Config
    from mailbridge.outbox import Outbox

SUMMARY = "How far each part is behind"
GROUP = "test and operate"
EXAMPLE = "mailbridge status --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print what the databases of this state say, and what runs there."""
    import json

    from mailbridge.cli._gateway import configured, relay_state
    from mailbridge.cli._status import lines
    from mailbridge.errors import NeedsOperator

    config = configured(arguments)
    state = config.state_dir
    relay = relay_state(state)
    if not (state / "outbox.db").exists() and relay is None:
        raise NeedsOperator(f"{state}: nothing has run here yet; --state names another place")
    told: dict[str, Any] = {"state": str(state), "running": _is_running(state)}
    told["bridge"] = _live(state, "bridge")
    told["relay"] = _live(relay or state, "relay")
    if (state / "outbox.db").exists():
        told["outbox"] = _outbox(config)
    if relay is not None:
        told["journal"] = {"path": str(relay / "journal.db"), **_journal(relay / "journal.db")}
    if arguments.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        print("\n".join(lines(told)))
    return 0


def _live(state: Path, part: str) -> dict[str, Any] | None:
    """Return what a service that runs says of itself, and how it does."""
    import msgspec

    from mailbridge.health import told_by

    told = told_by(state, "bridge" if part == "bridge" else "relay")
    if told is None:
        return None
    facts: dict[str, Any] = msgspec.to_builtins(told.facts)
    return {"runs": told.runs, "hangs": told.hangs, "age": round(told.age, 1), **facts}


def _outbox(config: Config) -> dict[str, Any]:
    import time

    from mailbridge.bridge.state import opened

    with opened(config) as state:
        outbox = state.outbox
        head = outbox.head()
        mails = [
            {"source": source, "verdict": verdict, "code": code, "count": n}
            for source, verdict, code, n in outbox.counts()
        ]
        targets = outbox.targets()
        return {
            "feed": head.feed,
            "events": head.seq,
            "unacknowledged": {name: head.seq - acked for name, acked in targets.items()},
            "oldest": {
                name: round(max(0.0, time.time() - made.timestamp()))
                for name, acked in targets.items()
                if acked < head.seq and (made := outbox.made(acked + 1))
            },
            "mails": mails,
            "sources": _by_source(mails),
            "silent": _silent(outbox),
            "quarantined": outbox.in_quarantine(),
            "stand_in_off": outbox.stand_ins.stopped(),
        }


def _by_source(mails: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return how many mails of each source were seen, and how many had which verdict."""
    found: dict[str, dict[str, int]] = {}
    for one in mails:
        source = found.setdefault(one["source"], {"seen": 0})
        source["seen"] += one["count"]
        source[one["verdict"]] = source.get(one["verdict"], 0) + one["count"]
    return found


def _silent(outbox: Outbox) -> dict[str, str]:
    """Return since when the sources have been silent that were told to be."""
    from mailbridge.bridge.silence import SILENT, iso
    from mailbridge.outbox.notes import Notes

    return {name: iso(int(since)) for name, since in Notes(outbox.run, SILENT).all().items()}


def _journal(path: Path) -> dict[str, Any]:
    import json

    from mailbridge.journal import Journal

    with Journal.open(path, readonly=True) as journal:
        feeds = {feed: state.head.seq for feed, state in journal.feeds().items()}
        holes = {feed: [hole[:2] for hole in journal.holes(feed)] for feed in feeds}
        forks = {feed: sorted({seq for seq, _ in journal.forks(feed)}) for feed in feeds}
        return {
            "events": journal.head(),
            "feeds": feeds,
            "missing": {feed: found for feed, found in holes.items() if found},
            "forks": {feed: found for feed, found in forks.items() if found},
            **{
                kind: {name: json.loads(seen) for name, seen in journal.remembered(kind).items()}
                for kind in ("upstream", "peer")
            },
        }


def _is_running(state: Path) -> bool:
    """Say whether a bridge holds the lock.  (To try it would keep one from starting just then.)"""
    try:
        lock = (state / "outbox.lock").stat()
        held = Path("/proc/locks").read_text("ascii")
    except OSError:
        return False
    return any(line.split()[5].endswith(f":{lock.st_ino}") for line in held.splitlines())
