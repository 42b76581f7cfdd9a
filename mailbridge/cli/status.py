"""`mailbridge status`: how far each part is behind."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailbridge.config import Config

SUMMARY = "How far each part is behind"
GROUP = "test and operate"
EXAMPLE = "mailbridge status --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print what the databases of this state say."""
    import json

    from mailbridge.cli._gateway import configured
    from mailbridge.errors import NeedsOperator

    config = configured(arguments)
    state = config.state_dir
    if not (state / "outbox.db").exists() and not (state / "journal.db").exists():
        raise NeedsOperator(f"{state}: nothing has run here yet; --state names another place")
    told = {"state": str(state), "running": _is_running(state)}
    if (state / "outbox.db").exists():
        told["outbox"] = _outbox(config)
    if (state / "journal.db").exists():
        told["journal"] = _journal(state / "journal.db")
    if arguments.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        print("\n".join(_lines(told)))
    return 0


def _outbox(config: Config) -> dict[str, Any]:
    from mailbridge.bridge.state import opened

    with opened(config) as state:
        head = state.outbox.head()
        return {
            "feed": head.feed,
            "events": head.seq,
            "unacknowledged": {
                name: head.seq - acked for name, acked in state.outbox.targets().items()
            },
            "mails": [
                {"source": source, "verdict": verdict, "code": code, "count": n}
                for source, verdict, code, n in state.outbox.counts()
            ],
            "quarantined": len(state.outbox.quarantined()),
            "stand_in_off": state.outbox.stand_ins.stopped(),
        }


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


def _lines(told: dict[str, Any]) -> list[str]:
    lines = [f"{told['state']}: {'a bridge runs' if told['running'] else 'no bridge runs'}"]
    if outbox := told.get("outbox"):
        lines.append(f"outbox   {outbox['events']} events in {outbox['feed']}")
        lines += [
            f"         {behind} not acknowledged by {name}"
            for name, behind in outbox["unacknowledged"].items()
        ]
        lines += [
            f"mails    {one['count']:>8} {one['verdict']} {one['code']} ({one['source']})"
            for one in outbox["mails"]
        ]
        if outbox["stand_in_off"]:
            lines.append(f"         nothing goes out under _lk.archive.*: {outbox['stand_in_off']}")
        lines += [
            f"         nothing can come of digests: subscribe {one['source']!r} to individual mails"
            for one in outbox["mails"]
            if one["code"] == "digest"
        ]
        if outbox["quarantined"]:
            lines.append(f"         {outbox['quarantined']} wait in 'mailbridge quarantine list'")
    if journal := told.get("journal"):
        lines += _journal_lines(journal)
    return lines


def _journal_lines(journal: dict[str, Any]) -> list[str]:
    lines = [f"journal  {journal['events']} events"]
    for feed, seq in journal["feeds"].items():
        lines.append(f"         {seq} of {feed}")
        for first, last in journal["missing"].get(feed, ()):
            lines.append(f"         of these {first} to {last} are missing, and nobody had them")
        lines += [
            f"         two events have its number {number}: the proof is kept"
            for number in journal["forks"].get(feed, ())
        ]
    for kind in ("upstream", "peer"):
        for name, seen in journal[kind].items():
            how = "there" if seen["up"] else "not there"
            when = f"heard last {seen['seen']}" if seen["seen"] else "never heard"
            lines.append(f"{kind:<8} {name}: {how}, {when}, {seen['events']} events new to us")
    return lines
