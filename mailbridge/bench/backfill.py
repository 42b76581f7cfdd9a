"""Back-fill: old mail into an outbox, with everything on: quarantine, counts, full fsync."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailbridge import traffic
from mailbridge.bench import bare
from mailbridge.bench.figure import Figure, Round, chunks, rate, seconds
from mailbridge.bridge.deliver import LONG_BATCH, Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.workers import Setup, Workers, allowed
from mailbridge.config import Source
from mailbridge.mail import MAX_MAIL
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey

_PART: Final = 0.7
"""Of what all processors could do if the bare calls were all there is to do."""
_CHECKED: Final = 0.85
"""Of what a back-fill does that checks no signature."""

_WARM: Final = 16
"""One in so many mails comes before it counts: what is loaded once is loaded by then."""


def measure_backfill(
    mails: Sequence[bytes], directory: Path
) -> tuple[tuple[Figure, Figure], list[bytes]]:
    """
    Return how many *mails* a second come into an outbox in *directory*, and its events.

    Twice: beside the bare calls in it, and beside a script that does a part of them.
    """
    numbers = itertools.count()
    rounds: list[Round] = []
    scripts: list[Round] = []
    events: list[bytes] = []
    source = Source(name="bench", maildir=str(directory))
    warm, mails = _split(mails)
    with gateway(directory / "backfill", (source,)) as (ours, outbox):
        _delivered(ours, warm, source)
        events += [event.raw for event in outbox.after(0, 2 * len(warm) + 1)]
        for part in chunks(mails):
            took, outcomes = _delivered(ours, part, source)
            new = [event.raw for event in outbox.after(len(events), 2 * len(part) + 1)]
            events += new
            path = directory / f"bare-{next(numbers)}.db"
            rounds.append(Round(len(part), took, _bare(part, outcomes, new, path)))
            script = seconds(lambda: bare.script(part))  # noqa: B023
            scripts.append(Round(len(part), took, {"email, Changes, json, PUB": script}))
    figures = (
        rate("back-fill", "mails/s", rounds, limit=1 / (_PART * allowed())),
        rate("back-fill, beside a script", "mails/s", scripts, limit=1),
    )
    return figures, events


def measure_checked(mails: int, directory: Path) -> Figure:
    """
    Return how many of so many *mails* a second come in where the signatures in them are checked.

    Raises `ConfigError` where nobody here can check one.
    """
    key = traffic.Key()
    raws: Sequence[bytes] = [
        post.raw for post in itertools.islice(traffic.mails(1, key=key), mails)
    ]
    file = directory / "keyring.gpg"
    file.write_bytes(key.keyring)
    plain = Source(name="bench", maildir=str(directory))
    checked = Source(name="bench", maildir=str(directory), keyrings=(str(file),))
    rounds: list[Round] = []
    warm, raws = _split(raws)
    with (
        gateway(directory / "plain", (plain,)) as (ours, _),
        gateway(directory / "checked", (checked,)) as (checking, _),
    ):
        _delivered(ours, warm, plain)
        _delivered(checking, warm, checked)
        for part in chunks(raws):
            unchecked, _ = _delivered(ours, part, plain)
            took, _ = _delivered(checking, part, checked)
            rounds.append(Round(len(part), took, {"back-fill, nothing checked": unchecked}))
    return rate("back-fill, signatures checked", "mails/s", rounds, limit=1 / _CHECKED)


@contextmanager
def gateway(directory: Path, sources: tuple[Source, ...]) -> Iterator[tuple[Gateway, Outbox]]:
    """Give a gateway in *directory* and its outbox, with as many workers as processors."""
    directory.mkdir()
    workers = None
    if allowed() > 1:
        setup = Setup(
            sources=sources, addresses=False, accept_test=True, max_mail=MAX_MAIL, changes_cap=None
        )
        workers = Workers(setup, allowed())
        # (What they need to start is paid once for all the mails of an archive.)
        for answer in [workers.submit(()) for _ in range(2 * workers.count)]:
            answer.result()
    with Outbox(directory / "outbox.db", bench_key(), now=datetime.now(UTC)) as outbox:
        ours = Gateway(
            outbox,
            Quarantine(directory / "quarantine"),
            Settings(accept_test=True, origin="bench.example.org"),
            prover=Prover(sources),
            workers=workers,
        )
        yield ours, outbox
        ours.rest()


def _split(mails: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Return the mails that come before it counts, and those that count."""
    warm = len(mails) // _WARM
    return mails[:warm], mails[warm:]


def _delivered(
    ours: Gateway, mails: Sequence[bytes], source: Source
) -> tuple[float, list[Outcome]]:
    now = datetime.now(UTC)
    deliveries = [Delivery(raw, (source,), now, backfill=True) for raw in mails]
    outcomes: list[Outcome] = []
    took = seconds(lambda: outcomes.extend(ours.deliver(deliveries, many=True)))
    return took, outcomes


def _bare(
    mails: Sequence[bytes], outcomes: Sequence[Outcome], events: Sequence[bytes], path: Path
) -> dict[str, float]:
    # A mail of no interest needs its headers only; an event is written twice: to sign it, signed.
    read = [
        raw
        for raw, outcome in zip(mails, outcomes, strict=True)
        if (verdict := outcome.verdict).verdict in ("events", "quarantined")
        or verdict.code == "same-news"
    ]
    paragraphs: list[str] = []
    told = bare.parsed(events)
    # (Two commits a batch: a mail's attempt must be on the disk before it is read.)
    batch = max(1, LONG_BATCH * len(events) // len(mails))
    return {
        "email: headers": seconds(lambda: bare.headers(mails)),
        "mail-parser": seconds(lambda: paragraphs.extend(bare.bodies(read))),
        "python-debian": seconds(lambda: bare.changes(paragraphs)),
        "json": 2 * seconds(lambda: bare.canonical(told)),
        "sign": seconds(lambda: bare.signed(events)),
        "SQLite, fsync": seconds(lambda: bare.stored(path, events, batch=batch, commits=2)),
    }


def bench_key() -> SigningKey:
    """Return a key that signs nothing but figures."""
    return SigningKey("mailbridge.bench.example.org", bytes(range(32)))
