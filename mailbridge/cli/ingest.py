"""`mailbridge ingest`: mail taken once, from files, an mbox, a Maildir.  (The pipe is `_pipe`.)"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.deliver import Delivery, Outcome
    from mailbridge.bridge.serve import Bridge

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
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="an mbox, as list archives offer it (repeatable)",
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
    parser.add_argument("--json", action="store_true", help="one JSON object a mail")
    add_state_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bring every mail to its verdict; 0 if all could be read, 65 if not."""
    import logging
    import sys
    from collections import Counter

    from mailbridge.bridge.serve import bridge, with_maildirs
    from mailbridge.cli._gateway import configured
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
    template = Source(name="", subfolders=arguments.subfolders)
    config = with_maildirs(configured(arguments), arguments.maildir, template)
    verdicts = Counter[str]()
    unreadable: list[str] = []
    with bridge(config, accept_test=arguments.accept_test, sending=False) as ours:
        for mail, outcome in ours.gateway.deliver_each(_named(ours, arguments, unreadable)):
            verdicts[outcome.verdict.verdict] += 1
            if arguments.json:
                print(_as_json(mail, outcome), flush=True)
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
    ours: Bridge, arguments: argparse.Namespace, unreadable: list[str]
) -> Iterator[Delivery]:
    """Yield the mails that *arguments* name; what cannot be read goes to *unreadable*."""
    from mailbridge.bridge.mailbox import of_file, of_maildir, of_mbox
    from mailbridge.errors import BadInput

    limit = ours.gateway.max_mail
    spool = ours.places[0].sources
    wanted = [(spool, of_file(Path(name), limit=limit)) for name in arguments.mails]
    wanted += [(spool, of_mbox(path, limit=limit)) for path in arguments.mbox]
    for path in arguments.maildir:
        place = ours.place(path)
        mails = of_maildir(place.path, subfolders=arguments.subfolders, limit=limit)
        wanted.append((place.sources, mails))
    for sources, mails in wanted:
        try:
            for taken in mails:
                mail = taken.delivery(sources, backfill=not arguments.as_new)
                # (What is named here a second time may be backed by what is configured since.)
                yield mail._replace(confirm=True)
        except BadInput as error:
            unreadable.append(str(error))


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
