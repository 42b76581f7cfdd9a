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
    from mailbridge.journal import Journal

    with Journal.open(path, readonly=True) as journal:
        feeds = {feed: state.head.seq for feed, state in journal.feeds().items()}
        return {"events": journal.head(), "feeds": feeds}


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
        lines.append(f"journal  {journal['events']} events")
        lines += [f"         {seq} of {feed}" for feed, seq in journal["feeds"].items()]
    return lines
