"""`mailbridge quarantine`: the mails that should have been understood and were not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bridge.serve import Bridge
    from mailbridge.config import Config
    from mailbridge.outbox import Quarantined

SUMMARY = "Mails that were not understood: list, show, retry, drop"
GROUP = "understand a mail"
EXAMPLE = "mailbridge quarantine retry --all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `quarantine`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|retry|drop")

    def action(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        added = actions.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  mailbridge quarantine {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
        added.add_argument("--entity", metavar="ID", help=argparse.SUPPRESS)
        return added

    list_ = action("list", "List them, oldest first, each with its reason", "list --json")
    list_.add_argument("--json", action="store_true", help="one JSON object a mail")
    show = action("show", "Print one mail as it came", "show 3f9a | less")
    show.add_argument("mail", metavar="SHA256", help="the beginning of its sha256 is enough")
    retry = action("retry", "Look at them again, after an update or a new setting", "retry --all")
    retry.add_argument("mails", nargs="*", metavar="SHA256", help="which")
    retry.add_argument("--all", action="store_true", help="all of them")
    retry.add_argument("--accept-test", action="store_true", help="take made-up mail")
    drop = action("drop", "Give them up; the originals stay where they are", "drop 3f9a")
    drop.add_argument("mails", nargs="*", metavar="SHA256", help="which")
    drop.add_argument("--all", action="store_true", help="all of them")


def run(arguments: argparse.Namespace) -> int:
    """List, show, retry or drop.  `retry` ends with 65 if a mail is still not understood."""
    import logging
    import sys

    from mailbridge.bridge.serve import bridge
    from mailbridge.cli._gateway import configured
    from mailbridge.errors import UsageError
    from mailbridge.service import set_up_logging

    set_up_logging()
    logging.getLogger("mailbridge").setLevel(logging.ERROR)
    config = configured(arguments)
    test = arguments.action == "retry" and arguments.accept_test
    with bridge(config, accept_test=test, sending=False) as ours:
        kept = ours.state.outbox.quarantined()
        if arguments.action == "list":
            for mail in kept:
                print(_as_json(ours, mail) if arguments.json else _line(mail))
            print(f"{len(kept)} mails in quarantine", file=sys.stderr)
            return 0
        if arguments.action == "show":
            _show(ours.state.quarantine.mail(_pick(kept, arguments.mail).sha256))
            return 0
        if not arguments.all and not arguments.mails:
            raise UsageError(f"{arguments.action}: which? name them by SHA256, or say --all")
        chosen = kept if arguments.all else [_pick(kept, word) for word in arguments.mails]
        if arguments.action == "drop":
            return max([_drop(ours, mail) for mail in chosen], default=0)
        return max([_retry(config, ours, mail) for mail in chosen], default=0)


def _show(raw: bytes) -> None:
    """Write *raw* as it is, unless a terminal would obey what is in it."""
    import sys

    from mailbridge.sinks.show import safe

    if not sys.stdout.isatty():
        sys.stdout.buffer.write(raw)
        return
    for line in raw.decode("utf-8", "replace").splitlines():
        print(safe(line.expandtabs()))


def _retry(config: Config, ours: Bridge, mail: Quarantined) -> int:
    from mailbridge.service import one_line

    names = mail.route.split(",")
    sources = tuple(source for source in config.source if source.name in names)
    told, verdict = ours.try_again(mail, sources or ours.places[0].sources)
    print(one_line(f"{mail.sha256[:12]}  {verdict}  {told}"))
    return 65 if verdict == "quarantined" else 0


def _drop(ours: Bridge, mail: Quarantined) -> int:
    from mailbridge.outbox import Verdict
    from mailbridge.service import one_line

    ours.state.outbox.expire(mail, Verdict("ignored", "dropped", mail.reason))
    if not ours.state.outbox.is_quarantined(mail.sha256):
        ours.state.quarantine.release(mail.sha256)
    print(one_line(f"{mail.sha256[:12]}  dropped  {mail.reason}"))
    return 0


def _pick(kept: list[Quarantined], word: str) -> Quarantined:
    from mailbridge.errors import UsageError

    found = [mail for mail in kept if mail.sha256.startswith(word.lower())]
    if len(found) != 1:
        raise UsageError(
            f"{word[:80]!r}: {'no' if not found else 'more than one'} mail in quarantine;"
            " 'mailbridge quarantine list' shows them"
        )
    return found[0]


def _line(mail: Quarantined) -> str:
    from mailbridge.service import one_line

    when = mail.taken.astimezone().isoformat(sep=" ", timespec="minutes")
    return one_line(f"{mail.sha256[:12]}  {when}  {mail.route}  {mail.code}  {mail.reason}")


def _as_json(ours: Bridge, mail: Quarantined) -> str:
    import json

    import msgspec

    return json.dumps(msgspec.to_builtins(ours.state.quarantine.note(mail.sha256)))
