"""`mailbridge explain`: what a mail becomes and why, for people and for programs."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mailbridge.bridge.compose import Composed, Examined
    from mailbridge.bridge.prove import Prover
    from mailbridge.config import Config, Source
    from mailbridge.rules import Rules

SUMMARY = "Show what a mail becomes and why, sending nothing"
GROUP = "understand a mail"
EXAMPLE = "mailbridge explain ~/Maildir/new/*"

BAD = 65

MISSES = 10
"""Rules that are told not to match; a site may have a hundred."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mails", nargs="*", metavar="MAIL", help="a file; '-' is standard input")
    parser.add_argument("--all", action="store_true", help="as if every kind were switched on")
    parser.add_argument("--source", metavar="NAME", help="as if it came by this source")
    parser.add_argument("--accept-test", action="store_true", help="take made-up mail too")
    parser.add_argument("--json", action="store_true", help="one JSON object a mail")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="DIR",
        help="try the rules in DIR on DIR/RULE/CASE/mail.eml; events.json beside each says what"
        " must come of it",
    )


class _Told(NamedTuple):
    name: str
    source: Source
    examined: Examined


def run(arguments: argparse.Namespace) -> int:
    import logging
    import sys

    from mailbridge import config
    from mailbridge.bridge.compose import check
    from mailbridge.bridge.prove import Prover
    from mailbridge.errors import UsageError
    from mailbridge.rules import load

    # mail-parser logs what it leaves out of a mail; nothing of that is news to us.
    logging.getLogger("mailparser").setLevel(logging.ERROR)
    if arguments.check:
        if arguments.mails:
            raise UsageError("explain: --check takes its mails from DIR, and no MAIL besides")
        from mailbridge.cli._cases import check_cases

        return check_cases(arguments.check, as_json=arguments.json)
    if not arguments.mails:
        raise UsageError("explain: no MAIL is named; '-' reads one from standard input")
    settings = config.load(arguments.config or config.default_config())
    rules = load(settings.rules)
    check(settings.source, rules)
    prover = Prover(settings.source)
    status = 0
    for name in arguments.mails:
        try:
            raw, received = _read(name)
        except OSError as error:
            words = ascii(name)[1:-1]
            print(f"mailbridge: {words}: cannot be read: {error.strerror}", file=sys.stderr)
            status = BAD
            continue
        told = _examine(
            name,
            raw,
            received,
            settings=settings,
            arguments=arguments,
            prover=prover,
            rules=rules,
        )
        if told.examined.outcome == "quarantined":
            status = BAD
        if arguments.json:
            print(_as_json(name, told.examined))
        else:
            _show(told, rules)
            if told.examined.code == "not-ours":
                _show_misses(raw, rules)
    return status


def _read(name: str) -> tuple[bytes, datetime]:
    import os
    import sys
    from datetime import UTC

    if name == "-":
        return sys.stdin.buffer.read(), datetime.now(UTC)
    # A FIFO in a Maildir has no writer: opened so, it is empty at once and holds nobody up.
    fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read(), datetime.fromtimestamp(os.fstat(fd).st_mtime, UTC)


def _examine(  # noqa: PLR0913 - a mail, and what is said of all
    name: str,
    raw: bytes,
    received: datetime,
    *,
    settings: Config,
    arguments: argparse.Namespace,
    prover: Prover,
    rules: Rules,
) -> _Told:
    from mailbridge import config
    from mailbridge.bridge.compose import examine
    from mailbridge.bridge.concern import concerned

    told = [
        _Told(
            name,
            source,
            examine(
                raw,
                source,
                received=received,
                everything=arguments.all,
                accept_test=arguments.accept_test,
                addresses=settings.addresses,
                max_mail=config.size(settings.max_mail),
                prover=prover,
                rules=rules,
            ),
        )
        for source in concerned(raw, _sources(name, settings, arguments.source))
    ]
    rank = ("events", "quarantined", "ignored")
    return min(told, key=lambda one: rank.index(one.examined.outcome))


def _sources(name: str, settings: Config, wanted: str | None) -> tuple[Source, ...]:
    """Return the sources that a mail could come by: named, or watching its folder, or all."""
    from mailbridge.config import Source
    from mailbridge.errors import UsageError

    if wanted is not None:
        found = tuple(source for source in settings.source if source.name == wanted)
        if not found:
            known = ", ".join(source.name for source in settings.source) or "none at all"
            raise UsageError(f"--source {wanted!r}: not configured; there is {known}")
        return found
    here = Path(name).absolute()
    watching = tuple(
        source
        for source in settings.source
        if source.maildir and here.is_relative_to(Path(source.maildir).absolute())
    )
    return watching or settings.source or (Source(name="explain", maildir=str(here.parent)),)


# -- for programs ----------------------------------------------------------------------------------


def _as_json(name: str, examined: Examined) -> str:
    import json

    import msgspec

    events = [
        {"tag": event.tag, "uuid": event.uuid, "author": event.author, "data": event.data}
        for event in examined.emitted
    ]
    return json.dumps(
        {
            "file": name,
            "outcome": examined.outcome,
            "family": examined.family,
            "kind": examined.kind,
            "code": examined.code,
            "reason": examined.reason,
            "provenance": msgspec.to_builtins(examined.provenance),
            "events": events,
        }
    )


# -- for people ------------------------------------------------------------------------------------

_KEPT = "a bridge keeps it: 'mailbridge quarantine list', and after a mend 'quarantine retry'"
_HINTS = {
    "generated": "to see what it would become: --accept-test",
    "malformed": "no header of it names an archive or tracker: it is counted, and not kept",
}
# Three colours need no library (ECMA-48, 8.3.117: bold, green, faint, red).
_BOLD = 1
_STYLES = {"events": 32, "ignored": 2, "quarantined": 31}


def _show(told: _Told, rules: Rules) -> None:
    from mailbridge.sinks.show import safe

    _print(safe(told.name), _BOLD)
    for number, line in enumerate(_lines(told, rules)):
        _print(f"  {safe(line)}", _STYLES[told.examined.outcome] if number == 0 else None)


def _print(line: str, style: int | None = None) -> None:
    import os
    import sys

    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "dumb")
    if style is None or plain or not sys.stdout.isatty():
        print(line)
    else:
        print(f"\x1b[{style}m{line}\x1b[0m")


def _show_misses(raw: bytes, rules: Rules) -> None:
    """Print why no rule of the site took *raw*, so that its author can mend one."""
    from mailbridge.mail import MAX_MAIL, read_mail
    from mailbridge.sinks.show import safe

    misses = rules.misses(read_mail(raw, limit=max(MAX_MAIL, len(raw))))
    for name, why in list(misses.items())[:MISSES]:
        _print(f"  not of rule {name}: {safe(why)}")
    if len(misses) > MISSES:
        _print(f"  nor of {len(misses) - MISSES} other rules")


def _lines(told: _Told, rules: Rules) -> list[str]:
    examined = told.examined
    if examined.outcome == "quarantined":
        lines = [f"would be quarantined ({examined.code}): {examined.reason}"]
        return [*lines, *_known_as(examined, rules), _KEPT]
    if examined.outcome == "ignored":
        lines = [f"nothing comes of it ({examined.code}): {examined.reason}"]
        lines += [f"it would be {' '.join(_event(event)[:1])}" for event in examined.events]
        mend = _mend(told)
        return [*lines, *_known_as(examined, rules), *([mend] if mend else [])]
    lines = [line for event in examined.emitted for line in (*_event(event), *_notes(event))]
    return [*lines, *_spoken_of(examined), *_known_as(examined, rules), *_backed(examined)]


def _event(event: Composed) -> list[str]:
    from mailbridge.sinks.show import summary

    first, *rest = summary(event.tag, event.data)
    return [f"{event.tag}: {first}", *rest, f"uuid {event.uuid}"]


def _notes(event: Composed) -> list[str]:
    """Return what the event leaves out, or takes from elsewhere than where one would look."""
    notes = []
    if event.data.get("suite_guessed"):
        notes.append(
            "the mail does not tell where it went; its suite is what the uploader asked for"
        )
    if "mail_date" not in event.data:
        notes.append("its Date is missing, or cannot be: the event says only when it arrived")
    if event.data.get("truncated"):
        notes.append(
            "the mail holds more than an event may: what is too long was cut, and the event says so"
        )
    return notes


def _spoken_of(examined: Examined) -> list[str]:
    found = {(e.data["archive"], e.data.get("url")): None for e in examined.emitted}
    return [f"speaks of {archive}{f': {url}' if url else ''}" for archive, url in found]


def _known_as(examined: Examined, rules: Rules) -> list[str]:
    from mailbridge import kinds
    from mailbridge.family import Family

    known = kinds.of_family(Family(examined.family)) if examined.family else ()
    for kind in (*known, *rules.kinds):
        if kind.name == examined.kind:
            family = f"family {kind.family}"
            return [f"recognised as {kind.name} ({family}); known from: {kind.attested}"]
    return []


def _backed(examined: Examined) -> list[str]:
    import msgspec

    from mailbridge.sinks.show import backing, signature

    data = {"provenance": msgspec.to_builtins(examined.provenance)}
    signed = signature(data)
    return [f"backed by {backing(data)}", *([f"its upload is {signed}"] if signed else [])]


def _mend(told: _Told) -> str | None:
    """Return what an operator can do to get events of a mail that gives none, if anything."""
    name, source, examined = told
    if examined.outcome == "ignored" and name.endswith(".changes"):
        return "a .changes file is no mail; what is understood is the mail that quotes it"
    if examined.code != "switched-off":
        return _HINTS.get(examined.code or "")
    names = sorted({e.name for e in examined.events})
    if not names:
        return "to see why: --all"
    words = [f'"{name}"' for name in names]
    if source.kinds and not {examined.family, examined.kind} & set(source.kinds):
        return f'to get {", ".join(names)}: add "{examined.kind}" to kinds of {source.name!r}'
    return f"to get it: emit = [{', '.join(words)}] in its [[source]]; to see it: --all"
