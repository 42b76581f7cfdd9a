"""`mailbridge ingest`: mail taken once, from files, an mbox, a Maildir.  (The pipe is `_pipe`.)"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.deliver import Delivery, Outcome
    from mailbridge.bridge.foresee import Tally
    from mailbridge.bridge.serve import Watched
    from mailbridge.config import Config

SUMMARY = "Take mail once: from a pipe, files, an mbox, a Maildir"
GROUP = "run the gateway"
EXAMPLE = "mailbridge ingest --mbox 2026-November.mbox --json"

_UNREADABLE = 65


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ingest`."""
    from mailbridge.cli._gateway import add_state_options

    parser.add_argument(
        "mails", nargs="*", metavar="FILE", help="a file with one mail; '-', alone: the pipe"
    )
    parser.add_argument(
        "--mbox",
        action="extend",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="mboxes, as list archives offer them (repeatable)",
    )
    parser.add_argument(
        "--maildir",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a Maildir with everything in it (repeatable); it is not changed",
    )
    parser.add_argument("--subfolders", action="store_true", help="its Maildir++ folders as well")
    parser.add_argument(
        "--as-new", action="store_true", help="as news: do not mark the events as backfill"
    )
    parser.add_argument(
        "--submit",
        nargs="?",
        const="",
        metavar="ENDPOINT",
        help="send now, and wait until it is received (default: as configured)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only tell what would come of them, as if they were the first mails ever;"
        " no state is made, changed or looked at",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a mail; of a dry run, one in all"
    )
    add_state_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bring every mail to its verdict; 0 if all could be read, 65 if not."""
    import logging
    import sys
    from collections import Counter

    from mailbridge.bridge.serve import bridge, watched, with_maildirs
    from mailbridge.bridge.state import SPOOL
    from mailbridge.cli._gateway import configured
    from mailbridge.cli._progress import progress
    from mailbridge.config import Source
    from mailbridge.errors import UsageError
    from mailbridge.service import one_line, set_up_logging

    set_up_logging()
    # What becomes of each mail is told by `--json` and in sum; a line for each is for a service.
    logging.getLogger("mailbridge").setLevel(logging.ERROR)
    if arguments.submit and "://" not in arguments.submit:
        # `--submit FILE`: nobody means an endpoint by that.
        arguments.mails.insert(0, arguments.submit)
        arguments.submit = ""
    if not arguments.mails + arguments.mbox + arguments.maildir:
        raise UsageError("ingest: name a FILE, --mbox FILE or --maildir DIR; '-' is the pipe")
    if arguments.dry_run and arguments.submit is not None:
        raise UsageError("ingest: --dry-run sends nothing; leave --submit out")
    template = Source(name="", subfolders=arguments.subfolders)
    config = with_maildirs(configured(arguments), arguments.maildir, template)
    places = watched(config, config.state_dir / SPOOL)
    verdicts = Counter[str]()
    unreadable: list[str] = []
    if arguments.dry_run:
        _dry_run(config, places, arguments, unreadable)
        return _UNREADABLE if unreadable else 0
    with bridge(config, accept_test=arguments.accept_test, sending=False) as ours:
        mails = _named(places, arguments, unreadable, limit=ours.gateway.max_mail)
        with progress("taking in", lambda: _size(arguments), printing=arguments.json) as taken:
            for mail, outcome in ours.gateway.deliver_each(mails):
                verdicts[outcome.verdict.verdict] += 1
                if arguments.json:
                    print(_as_json(mail, outcome), flush=True)
                taken(len(mail.raw))
        for line in unreadable:
            print(f"mailbridge: {one_line(line)}", file=sys.stderr)
        told = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
        print(f"{verdicts.total()} mails: {told or 'nothing'}", file=sys.stderr)
        if arguments.submit is not None:
            from mailbridge.cli._send import send

            print(send(config, ours, arguments.submit), file=sys.stderr)
        elif verdicts["events"]:
            print("the bridge of this state sends them, when it runs", file=sys.stderr)
    return _UNREADABLE if unreadable else 0


def _named(
    places: list[Watched], arguments: argparse.Namespace, unreadable: list[str], *, limit: int
) -> Iterator[Delivery]:
    """Yield the mails that *arguments* name; what cannot be read goes to *unreadable*."""
    import os

    from mailbridge.bridge.mailbox import of_file, of_maildir, of_mbox
    from mailbridge.errors import BadInput

    spool = places[0].sources
    wanted = [(spool, of_file(Path(name), limit=limit)) for name in arguments.mails]
    wanted += [(spool, of_mbox(path, limit=limit)) for path in arguments.mbox]
    for path in arguments.maildir:
        real = Path(os.path.realpath(path.expanduser()))
        place = next(place for place in places if place.path == real)
        mails = of_maildir(real, subfolders=arguments.subfolders, limit=limit)
        wanted.append((place.sources, mails))
    for sources, mails in wanted:
        try:
            for taken in mails:
                mail = taken.delivery(sources, backfill=not arguments.as_new)
                # (What is named here a second time may be backed by what is configured since.)
                yield mail._replace(confirm=True)
        except BadInput as error:
            unreadable.append(str(error))


def _size(arguments: argparse.Namespace) -> int:
    """Return about how many bytes there are to take in; 0 if nobody can say, as of a pipe."""
    from mailbridge.maildir import scan_maildir

    files = [Path(name) for name in arguments.mails] + arguments.mbox
    for path in arguments.maildir:
        files += [found.path for found in scan_maildir(path, subfolders=arguments.subfolders)]
    total = 0
    for path in files:
        try:
            size = path.stat().st_size
        except OSError:
            # Gone, or never there: who reads it says so.
            continue
        if not (size or path.is_file()):
            return 0
        total += size
    return total


# -- what would come of them -----------------------------------------------------------------------


def _dry_run(
    config: Config, places: list[Watched], arguments: argparse.Namespace, unreadable: list[str]
) -> None:
    """Print what would come of the mails that *arguments* name."""
    import sys

    from mailbridge import config as configuration
    from mailbridge.bridge import compose
    from mailbridge.bridge.foresee import Foresight, Tally
    from mailbridge.bridge.prove import Prover
    from mailbridge.bridge.serve import settings
    from mailbridge.cli._progress import progress
    from mailbridge.service import one_line

    configuration.check(config)
    settled = settings(config, accept_test=arguments.accept_test)
    compose.check(config.source, settled.rules)
    foresight = Foresight(settled, Prover(config.source))
    tally = Tally()
    with progress("looking at", lambda: _size(arguments)) as looked:
        mails = _named(places, arguments, unreadable, limit=settled.max_mail)
        for mail, foreseen in foresight.foresee(mails):
            tally.count(foreseen)
            looked(len(mail.raw))
    for line in unreadable:
        print(f"mailbridge: {one_line(line)}", file=sys.stderr)
    if arguments.json:
        print(_tally_as_json(tally, unreadable))
    else:
        _print_tally(tally)
        print("a dry run: nothing was written, and no state was looked at", file=sys.stderr)


def _tally_as_json(tally: Tally, unreadable: list[str]) -> str:
    import json

    told = {
        "mails": tally.mails,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "kinds": [
            {"outcome": row[0], "kind": row[1], "tag": row[2], "mails": n, "events": out}
            for row, n, out in _rows(tally)
        ],
        "reasons": [
            {"outcome": key[0], "code": key[1], "reason": tally.words[key], "mails": n}
            for key, n in tally.reasons.most_common()
        ],
        "unreadable": unreadable,
    }
    return json.dumps(told, ensure_ascii=False)


def _rows(tally: Tally) -> Iterator[tuple[tuple[str, str | None, str | None], int, int]]:
    """Yield outcome, kind and tag with their mails and events: what gives news first."""
    order = ("events", "duplicate", "quarantined", "ignored")
    found = sorted(
        tally.of, key=lambda r: (order.index(r[0]), -tally.of[r], r[1] or "", r[2] or "")
    )
    yield from ((row, tally.of[row], tally.events[row]) for row in found)


def _print_tally(tally: Tally) -> None:
    rows = [
        (outcome, kind or "-", tag or "-", f"{n:,}", f"{out:,}")
        for (outcome, kind, tag), n, out in _rows(tally)
    ]
    _print_table(("outcome", "kind", "tag", "mails", "events"), rows)
    reasons = [
        (outcome, code, tally.words[outcome, code], f"{n:,}")
        for (outcome, code), n in tally.reasons.most_common()
    ]
    if reasons:
        print()
        _print_table(("outcome", "code", "why, of the first", "mails"), reasons)
    print(f"\n{tally.mails:,} mails, {tally.events.total():,} events")


def _print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print *rows*: columns for a person at a terminal, else parted by tabs."""
    import sys

    from mailbridge.sinks.show import safe

    clean = [heads, *(tuple(map(safe, row)) for row in rows)]
    if not sys.stdout.isatty():
        for row in clean:
            print("\t".join(row))
        return
    from rich.table import Table
    from rich.text import Text

    from mailbridge.sinks.tail import Screen

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head in ("mails", "events") else "left")
    for row in clean[1:]:
        table.add_row(*map(Text, row))
    Screen().print(table)


def _as_json(mail: Delivery, outcome: Outcome) -> str:
    import json

    told = {
        "file": mail.where,
        "source": ",".join(source.name for source in outcome.sources),
        "outcome": outcome.verdict.verdict,
        "uuids": outcome.uuids,
        "reason": outcome.verdict.reason,
    }
    return json.dumps(told, ensure_ascii=False)
