"""`mailbridge prune`: make outbox, quarantine and journal as small as the settings allow, now."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.serve import Bridge
    from mailbridge.config import Config

SUMMARY = "Drop what is older than the settings keep, and give the room back"
GROUP = "test and operate"
EXAMPLE = "mailbridge prune --dry-run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prune`."""
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
    parser.add_argument("--dry-run", action="store_true", help="say what would go; change nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Prune what is in this state; a bridge and a relay may run, and do the same by themselves."""
    import json
    import logging

    from mailbridge.bridge.serve import bridge
    from mailbridge.cli._gateway import configured
    from mailbridge.errors import NeedsOperator
    from mailbridge.service import set_up_logging

    set_up_logging()
    logging.getLogger("mailbridge").setLevel(logging.WARNING)
    config = configured(arguments)
    state = config.state_dir
    told: dict[str, int | str] = {}
    if (state / "outbox.db").exists():
        with bridge(config, accept_test=False, sending=False) as ours:
            told |= _outbox(ours, dry=arguments.dry_run)
    if (state / "journal.db").exists():
        told |= _journal(config, dry=arguments.dry_run)
    if not told:
        raise NeedsOperator(f"{state}: nothing has run here yet; --state names another place")
    if arguments.json:
        print(json.dumps(told))
    else:
        print("\n".join(_lines(told, dry=arguments.dry_run)))
    return 0


def _outbox(ours: Bridge, *, dry: bool) -> dict[str, int | str]:
    ageing = ours.state.outbox.ageing
    expiring = ours.upkeep.expiring()
    if dry:
        old, freed = ours.upkeep.due(), ageing.spare()
    else:
        old, before = ours.upkeep.everything(), ageing.size()
        if ageing.gives_back():
            while ageing.spare() and ageing.give_back():
                pass
        else:
            ageing.rebuild()
        freed = before - ageing.size()
    return {
        "events": old.events,
        "mails": old.mails,
        "files": old.files,
        "quarantine": expiring,
        "freed": freed,
    }


def _journal(config: Config, *, dry: bool) -> dict[str, int | str]:
    """Return how many events of the journal lose their bytes, or why that is not known."""
    from datetime import UTC, datetime, timedelta

    from mailbridge.config import duration
    from mailbridge.errors import TryAgain
    from mailbridge.journal import Journal

    before = datetime.now(UTC) - timedelta(seconds=duration(config.relay.keep))
    path = config.state_dir / "journal.db"
    if dry:
        with Journal.open(path, readonly=True) as journal:
            return {"journal": max(0, journal.at(before) - journal.horizon())}
    try:
        with Journal.open(path) as journal:
            done = 0
            while some := journal.prune(before):
                done += some
            return {"journal": done, "journal_freed": journal.give_back()}
    except TryAgain:
        return {"journal": "the relay that runs does it by itself"}


def _lines(told: dict[str, int | str], *, dry: bool) -> list[str]:
    words = {
        "events": "events that all have: only uuid and hash are kept (keep_sent)",
        "mails": "verdicts on mails (keep_sent)",
        "files": "deliveries whose file is long gone (keep_sent)",
        "quarantine": "mails in quarantine (quarantine_keep, quarantine_max)",
        "freed": "bytes of outbox.db hold nothing" if dry else "bytes of outbox.db given back",
        "journal": "events of the journal (relay.keep)",
        "journal_freed": "bytes of journal.db given back",
    }
    lines = ["would go:" if dry else "gone:"]
    for what, n in told.items():
        lines.append(f"{n:>12} {words[what]}" if isinstance(n, int) else f"     journal: {n}")
    return lines
