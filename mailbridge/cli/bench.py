"""`mailbridge bench`: figures of this installation, each beside the bare library calls in it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbridge.bench import Figure

SUMMARY = "Measure this installation"
GROUP = "test and operate"
EXAMPLE = "mailbridge bench --mails 5000"

_QUIET = 40
"""Mails of a list without news for each other mail: 80,000, unless somebody says otherwise."""


_LONG = 3
"""Mails of a back-fill for each that is asked for: a short row tells how one begins and ends."""

_ON_BUS = 4
"""Events that a relay takes and gives for each mail."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `bench`."""
    parser.add_argument(
        "--mails",
        type=int,
        default=2000,
        metavar="N",
        help="made-up mails to measure with (default: 2000)",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=None,
        metavar="DIR",
        help="measure on the disk of this directory (default: where temporary files go)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line for each figure"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; in a throw-away directory, beside whatever runs here."""
    import logging
    import tempfile

    import msgspec

    from mailbridge.errors import StorageFailed, UsageError

    if arguments.mails < 1:
        raise UsageError("--mails: at least one")
    # (mail-parser tells of each part it cannot show; here nobody wants to know.)
    logging.disable(logging.WARNING)
    figures = []
    try:
        with tempfile.TemporaryDirectory(prefix="mailbridge-bench-", dir=arguments.dir) as name:
            for figure in _measured(arguments.mails, Path(name)):
                figures.append(figure)
                if arguments.json:
                    print(msgspec.json.encode(figure).decode(), flush=True)
    except OSError as error:
        raise StorageFailed(f"{arguments.dir or tempfile.gettempdir()}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    if not arguments.json:
        _print_table(figures)
    return 0


def _measured(mails: int, directory: Path) -> Iterator[Figure]:
    import itertools

    from mailbridge import bench, traffic
    from mailbridge.verifiers import openpgp

    _say(f"making up {_LONG * mails} mails")
    row = [post.raw for post in itertools.islice(traffic.mails(1), _LONG * mails)]
    raws = row[:mails]
    _say("recognising mail")
    yield from bench.measure_recognise(raws)
    _say("back-fill into an outbox")
    figures, events = bench.measure_backfill(row, directory)
    yield from figures
    if openpgp.is_possible():
        _say("back-fill of signed uploads")
        yield bench.measure_checked(_LONG * mails, directory)
    _say("a list without news")
    yield bench.measure_quiet(_QUIET * mails, directory)
    _say("a relay, and reading from it")
    yield from bench.measure_bus(events, directory, n=_ON_BUS * mails)
    _say("latency from a rename to a reader")
    yield from bench.measure_latency(directory, n=max(10, min(200, mails // 10)))
    _say("start-up")
    yield from bench.measure_startup(raws[0], directory, runs=max(3, min(15, mails // 100)))


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what} ...", end="", file=sys.stderr, flush=True)


def _print_table(figures: Sequence[Figure]) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    rows = [
        (
            *(f.name, f"{f.n:,}", _number(f.value, f.unit), _number(f.floor, f.unit)),
            *(_number(f.bare, f.unit), f"{f.ratio:.2f}", _parts(f)),
        )
        for f in figures
    ]
    heads = ("what", "of", "figure", "floor", "bare calls alone", "ratio", "bare calls, ms each")
    if not sys.stdout.isatty():
        for row in (heads, *rows):
            print("\t".join(row))
        return
    from rich.table import Table

    from mailbridge.sinks.tail import Screen

    table = Table(box=None, pad_edge=False, header_style="bold")
    for head, align in zip(heads, ("left", *["right"] * 5, "left"), strict=True):
        table.add_column(head, justify=align)  # type: ignore[arg-type]  # a str is not a Literal
    for row in rows:
        table.add_row(*row)
    Screen().print(table)


def _number(value: float, unit: str) -> str:
    return f"{value:,.1f} ms" if unit == "ms" else f"{value:,.0f} {unit}"


def _parts(figure: Figure) -> str:
    return "; ".join(f"{call} {ms:.3g}" for call, ms in figure.parts.items())
