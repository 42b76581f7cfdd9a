"""Understanding: what a mail costs to recognise, and what one costs that is of no interest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailbridge import kinds
from mailbridge.bench import bare
from mailbridge.bench.backfill import gateway
from mailbridge.bench.discussion import mbox
from mailbridge.bench.figure import Figure, Round, chunks, rate, seconds
from mailbridge.bridge.deliver import LONG_BATCH, Gateway
from mailbridge.bridge.mailbox import of_mbox
from mailbridge.config import Source
from mailbridge.mail import MAX_MAIL, read_mail

_RECOGNISED: Final = 2.0
_DISMISSED: Final = 1 / 3
_QUIET: Final = 5_000
"""Mails a second."""

_SITE: Final = kinds.Site()


def measure_recognise(mails: Sequence[bytes]) -> tuple[Figure, Figure]:
    """
    Return how many of *mails* a second one process recognises, and how many it dismisses.

    The ones beside the library calls they need, the others beside the ones.
    """
    ours: list[bytes] = []
    others: list[bytes] = []
    for raw in mails:
        (ours if _outcome(raw) == "events" else others).append(raw)
    recognised: list[Round] = []
    dismissed: list[Round] = []
    rests = itertools.cycle(chunks(others or ours))
    for part, rest in zip(chunks(ours), rests, strict=False):
        recognised.append(_recognised(part))
        as_many = recognised[-1].took / len(part) * len(rest)
        away = seconds(lambda: list(map(_outcome, rest)))  # noqa: B023 - called at once
        dismissed.append(Round(len(rest), away, {"recognising as many": as_many}))
    return (
        rate("recognise", "mails/s", recognised, limit=_RECOGNISED),
        rate("dismiss", "mails/s", dismissed, limit=_DISMISSED),
    )


def _recognised(mails: Sequence[bytes]) -> Round:
    took = seconds(lambda: list(map(_outcome, mails)))
    paragraphs: list[str] = []
    calls = {
        "mail-parser": seconds(lambda: paragraphs.extend(bare.bodies(mails))),
        "python-debian": seconds(lambda: bare.changes(paragraphs)),
    }
    return Round(len(mails), took, calls)


def measure_quiet(n: int, directory: Path) -> Figure:
    """Return how many of *n* mails of a busy list, none of interest, are taken from an mbox."""
    source = Source(name="bench", maildir=str(directory))
    with gateway(directory / "quiet", (source,)) as (ours, _):
        rounds = [_quiet(part, directory, ours, source) for part in chunks(range(n))]
    return rate("a list without news", "mails/s", rounds, limit=_RECOGNISED, least=_QUIET)


def _quiet(numbers: Sequence[int], directory: Path, ours: Gateway, source: Source) -> Round:
    path = directory / "quiet.mbox"
    mbox(path, numbers)
    told: list[str] = []

    def take() -> None:
        taken = of_mbox(path, limit=MAX_MAIL)
        mails = (mail.delivery((source,), backfill=True) for mail in taken)
        told.extend(outcome.verdict.verdict for _, outcome in ours.deliver_each(mails, many=True))

    took = seconds(take)
    if told != ["ignored"] * len(numbers):
        raise AssertionError("a mail of a list that has nothing for us was of interest")
    raws = [mail.raw for mail in of_mbox(path, limit=MAX_MAIL)]
    database = directory / f"quiet-{numbers[0]}.db"
    calls = {
        "email: headers": seconds(lambda: bare.headers(raws)),
        "SQLite, fsync": seconds(
            lambda: bare.stored(database, [b""] * len(raws), batch=LONG_BATCH, commits=2)
        ),
    }
    path.unlink()
    return Round(len(raws), took, calls)


def _outcome(raw: bytes) -> str:
    return kinds.recognise(read_mail(raw), _SITE).outcome
