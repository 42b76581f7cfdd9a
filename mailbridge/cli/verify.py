"""`mailbridge verify`: is it all there, unaltered, and signed by whom we trust?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mailbridge.reader.heads import Told
    from mailbridge.reader.keys import Keys

SUMMARY = "Check signatures and feeds, of a relay, a file or standard input"
GROUP = "keys, trust, proof"
EXAMPLE = "mailbridge tail --json --from start --timeout 5 | mailbridge verify -"


class Checked(NamedTuple):
    """What was found to be right."""

    events: int
    feeds: dict[str, int]
    """The last number of each."""
    begins: Mapping[str, int] = MappingProxyType({})
    """The first that was seen of each, where it may be another than 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL|FILE|-",
        nargs="?",
        help="tcp://HOST:5583, file:///.../journal.db, an export, or - for JSON lines (an export,"
        " or tail's) on standard input (default: this machine's relay)",
    )
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="PATTERN",
        help="the file or standard input holds these tags alone (repeatable)",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--keys", type=Path, metavar="DIR", help="believe these public keys alone")
    trust.add_argument("--pin", metavar="FINGERPRINT", help="believe the relay with this key")
    parser.add_argument("--state", type=Path, metavar="DIR", help="the state directory")
    parser.add_argument("--json", action="store_true", help="one JSON object for all of it")


def run(arguments: argparse.Namespace) -> int:
    from mailbridge import config, service
    from mailbridge.cli.tail import here
    from mailbridge.errors import BadInput, UsageError
    from mailbridge.journal import Damaged
    from mailbridge.reader.keys import Keys
    from mailbridge.wire.read import Refused

    service.set_up_logging()
    loaded = config.load(arguments.config or config.default_config())
    url = arguments.url or here(loaded.relay.read)
    of_lines = "://" not in url
    if arguments.tag and not of_lines:
        raise UsageError("--tag is for lines of tail: of a relay or a journal all is checked")
    keys = Keys(
        url,
        state=arguments.state or loaded.state_dir,
        directory=arguments.keys,
        pin=arguments.pin,
    )
    try:
        checked = _lines(url, keys, arguments.tag) if of_lines else _whole(url, keys)
    except (BadInput, Damaged, Refused) as error:
        if isinstance(error, Refused) and error.code != "damaged":
            raise
        _tell(arguments, ok=False, finding=str(error))
        return BadInput.exit_status
    _tell(arguments, ok=True, checked=checked)
    return 0


def _whole(url: str, keys: Keys) -> Checked:
    """Check all that *url* has.  Raises `BadInput` for the first thing that is wrong."""
    import time

    from mailbridge.errors import BadProof
    from mailbridge.reader import Events, exported

    told: Sequence[Told] = ()
    with Events(url, keys, since="start", timeout=None, follow=False) as events:
        count = sum(1 for _ in events)
        behind: Sequence[Told] = ()
        for look in range(exported.LOOKS):
            if look:
                # (What is on its way there yet is not withheld.)
                time.sleep(exported.LOOK_EVERY)
            # (Told first, read then: what comes meanwhile is found by the next one who looks.)
            told = events.tell()
            count += sum(1 for _ in events)
            events.finish(told)
            if events.alarms:
                raise BadProof(events.alarms[0])
            behind = [each for each in told if each.signed and each.signed.seq > each.seq]
            if not behind:
                break
        else:
            first = behind[0]
            raise BadProof(
                f"feed {first.feed}: number {first.seq + 1} is missing: its source signed that it"
                f" has {first.signed.seq if first.signed else 0}"
            )
    _warn_of_silence(told)
    return Checked(count, {each.feed: each.seq for each in told})


def _warn_of_silence(told: Sequence[Told]) -> None:
    """Tell of the sources that signed nothing for long: what they do may be withheld."""
    import logging
    from datetime import UTC, datetime

    from mailbridge.reader.heads import SILENCE, newest_epochs

    newest = newest_epochs(told, ())
    for each in told:
        if each.feed not in newest or not each.signed or not each.signed.time:
            continue
        try:
            heard = datetime.fromisoformat(each.signed.time).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
        if (datetime.now(UTC) - heard).total_seconds() > SILENCE:
            logging.getLogger(__name__).warning(
                "feed %s: nothing was heard of its source since %s: it is away, or what it says"
                " is withheld",
                *(each.feed, heard.isoformat(timespec="seconds")),
            )


def _lines(name: str, keys: Keys, tags: list[str]) -> Checked:
    """Check the lines of the file *name*.  Raises `BadInput` for the first that is wrong."""
    from mailbridge.cli.import_ import opened
    from mailbridge.reader.check import Check
    from mailbridge.reader.exported import read_lines

    check = Check(keys, filtered=bool(tags))
    with opened(name) as stream:
        check.take_all(read_lines(stream))
    return Checked(check.events, check.feeds, check.begins)


def _tell(
    arguments: argparse.Namespace,
    *,
    ok: bool,
    finding: str | None = None,
    checked: Checked | None = None,
) -> None:
    from mailbridge.event import canonical
    from mailbridge.service import one_line
    from mailbridge.sinks.show import safe_json

    found = checked or Checked(0, {})
    if arguments.json:
        told = {"ok": ok, "finding": finding, "events": found.events, "feeds": found.feeds}
        print(safe_json(canonical(told)).decode())
    elif not ok:
        print(one_line(f"wrong: {finding}"))
    else:
        for feed, last in sorted(found.feeds.items()):
            first = found.begins.get(feed, 1)
            begin = f"from number {first} " if first > 1 else ""
            print(one_line(f"feed {feed}: whole {begin}up to number {last}"))
        print(f"{found.events} events, all signed by whom we trust")
