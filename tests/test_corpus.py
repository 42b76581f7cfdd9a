"""
Every mail of a corpus of real ones, against an oracle that knows no recogniser.

The corpus is no part of the project: real people wrote it.  `MAILBRIDGE_CORPUS` names it, or it
lies in `shared/corpus` beside the checkout; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from datetime import UTC, datetime
from email import message_from_bytes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from mailbridge import kinds
from mailbridge.bridge.compose import Examined, examine
from mailbridge.cli import main
from mailbridge.config import Source
from mailbridge.kinds import debbugs_transcript
from mailbridge.mail import read_mail
from tests.oracle import expected
from tests.oracle_of_mails import Told, first_text
from tests.oracle_of_transcripts import read as transcript

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOURCE = Source(name="corpus", maildir="/nowhere")
BESIDE = Path(__file__).parent.parent.parent / "shared" / "corpus"
CORPUS = Path(os.environ.get("MAILBRIDGE_CORPUS") or BESIDE)

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus here")

DISCUSSIONS = ("xfs-discussion", "rdma-discussion-bug-cc", "rdma-discussion-bugzilla", "lists")


def is_damaged(raw: bytes) -> bool:
    """Say whether a mail is cut off in its signed part, or has what no header may have."""
    cut = b"-----BEGIN PGP SIGNED" in raw and b"-----END PGP SIGNATURE" not in raw
    return cut or b"\0" in raw.partition(b"\n\n")[0]


# -- the mails -------------------------------------------------------------------------------------


class Read(NamedTuple):
    path: Path
    raw: bytes
    examined: Examined
    expected: Told | None

    @property
    def folder(self) -> str:
        return self.path.parent.name


@cache
def corpus() -> tuple[Read, ...]:
    found = []
    for path in sorted(CORPUS.glob("*/*")):
        raw = path.read_bytes()
        is_mail = path.suffix == ".eml"
        told = examine(raw, SOURCE, received=NOON, everything=True)
        found.append(Read(path, raw, told, expected(raw) if is_mail else None))
    return tuple(found)


def told(read: Read) -> str:
    return f"{read.folder}/{read.path.name}: {read.examined.outcome} {read.examined.reason}"


ABSENT = "(absent)"

# What the bridge adds of its own; tests of composing and of provenance look at it.
OUR_OWN = frozenset(("provenance", "mail_received"))
PROSE = frozenset(("changes", "reason"))
"""Text of many lines: compared word by word, as far as it goes where it was cut."""


def differing(read: Read) -> tuple[int, list[str]]:
    """Return how many values of the first event were compared, and which of them differ."""
    assert read.expected
    # A mail of a tracker may tell of a change and of a comment.
    event, *_ = read.examined.events
    data = dict(event.data)
    # In events about bugs `source` is what the mail tells, and the configured one's name this.
    configured = data.pop("mail_source") if "mail_source" in data else data.pop("source")
    assert configured == SOURCE.name
    facts = dict(read.expected.facts)
    if "message_id" not in facts:
        assert data.pop("message_id").startswith("sha256:")
    keys = sorted((facts.keys() | data.keys()) - OUR_OWN)
    names = tuple(event.tag.rpartition(".")[2] for event in read.examined.events)
    compared = 1
    wrong = [f"{told(read)}: {names}"] if names != read.expected.events else []
    for key in keys:
        wanted, actual = facts.get(key, ABSENT), data.get(key, ABSENT)
        if isinstance(wanted, set):
            actual = set(actual)
        if key in PROSE and isinstance(wanted, str) and isinstance(actual, str):
            actual = " ".join(actual.split())
            wanted = wanted[: len(actual)] if data.get("truncated") else wanted
        compared += values_in(wanted)
        if wanted != actual:
            wrong.append(f"{told(read)}: {key}: {actual!r}, expected {wanted!r}")
    return compared, wrong


def values_in(value: object) -> int:
    """Return how many values there are: of each change of a transcript, each of its fields."""
    if isinstance(value, dict):
        return sum(values_in(part) for part in value.values())
    if isinstance(value, list | set):
        return sum(values_in(part) for part in value) or 1
    return 1


@pytest.mark.edge(8, 15, 24, 30, 54, 58, 63, 66)
def test_every_mail_is_understood_field_by_field_as_the_oracle_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ("mails", "recognised", "damaged", "no mail", "false", "values", "differing")
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    for read in corpus():
        kind = read.expected.kind if read.expected else "(nothing)"
        counts[kind, "mails"] += 1
        found = read.examined
        if found.outcome == "quarantined" and is_damaged(read.raw):
            counts[kind, "damaged"] += 1
        elif found.outcome == "quarantined" and read.path.suffix != ".eml":
            counts[kind, "no mail"] += 1
        elif found.outcome == "ignored" and read.expected is None:
            counts[kind, "recognised"] += 1
        elif (found.outcome, found.kind) == ("events", kind):
            counts[kind, "recognised"] += 1
            compared, unlike = differing(read)
            counts[kind, "values"] += compared
            counts[kind, "differing"] += len(unlike)
            wrong += unlike
        else:
            counts[found.kind or "(nothing)", "false"] += 1
            wrong.append(told(read))
    names = sorted({kind for kind, _ in counts})
    for column in columns:
        counts["all", column] = sum(counts[kind, column] for kind in names)
    rows = []
    for kind in (*names, "all"):
        right, false = counts[kind, "recognised"], counts[kind, "false"]
        readable = counts[kind, "mails"] - counts[kind, "damaged"] - counts[kind, "no mail"]
        rates = (f"{right / max(1, whole):.0%}" for whole in (readable, right + false))
        rows.append([kind, *rates, *(str(counts[kind, column]) for column in columns)])
    with capsys.disabled():
        for kind, *row in (["\nkind", "recall", "precision", *columns], *rows):
            print(f"{kind:<20}{''.join(f'{cell:>11}' for cell in row)}")  # noqa: T201 - the table

    assert wrong == []
    assert counts["debbugs-closed", "values"] > 1_000
    assert counts["debbugs-transcript", "values"] > 1_000
    assert counts["dak-accepted", "values"] > 1_000


@pytest.mark.edge(54)
def test_each_change_of_each_transcript_is_told_however_many_an_event_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(debbugs_transcript, "CHANGES", 10_000)
    monkeypatch.setattr(debbugs_transcript, "BUGS", 10_000)
    compared = 0
    for read in corpus():
        if read.expected is None or read.expected.kind != "debbugs-transcript":
            continue
        rows, _, bugs = transcript(first_text(message_from_bytes(read.raw)))
        (event,) = kinds.recognise(read_mail(read.raw), kinds.Site()).events
        changed = event.payload
        assert isinstance(changed, debbugs_transcript.BugsChanged)

        assert [(c.bug, c.action, c.ok, c.old, c.new) for c in changed.changes] == rows, told(read)
        assert changed.bugs == bugs, told(read)
        compared += len(rows)

    assert compared > 1_000


def test_the_oracle_asks_nothing_of_the_package() -> None:
    ours = [path.read_text() for path in Path(__file__).parent.glob("oracle*.py")]

    assert len(ours) > 4
    assert not any(re.search(r"(?m)^\s*(?:import|from) mailbridge", text) for text in ours)


def test_every_mail_that_gives_no_event_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    silent = [read for read in corpus() if not read.examined.events]
    reasons = Counter((r.examined.outcome, r.examined.code, r.examined.reason) for r in silent)
    with capsys.disabled():
        for (outcome, code, reason), number in sorted(reasons.items(), key=str):
            print(f"{number:>5}  {outcome} {code}: {reason}")  # noqa: T201 - the table

    assert [told(r) for r in silent if not (r.examined.code and r.examined.reason)] == []


def test_no_discussion_that_quotes_a_tracker_gives_an_event() -> None:
    """One mail of a list in `lists` is a bug report itself, by its own headers."""
    for read in corpus():
        if read.folder in DISCUSSIONS and read.expected is None:
            assert read.examined.outcome == "ignored", told(read)
            assert read.examined.events == ()
    assert sum(r.folder in DISCUSSIONS and r.expected is not None for r in corpus()) <= 1


@pytest.mark.edge(19)
def test_mails_that_say_the_same_have_one_uuid_and_others_have_others() -> None:
    by_news: dict[tuple[object, ...], set[str]] = {}
    by_uuid: dict[str, set[tuple[object, ...]]] = {}
    mails = 0
    for read in corpus():
        if read.expected is None or read.examined.outcome != "events":
            continue
        mails += 1
        # A mail of a tracker may tell of a change and of a comment.
        event, *_ = read.examined.events
        news = read.expected.news
        by_news.setdefault(news, set()).add(event.uuid)
        by_uuid.setdefault(event.uuid, set()).add(news)

    assert {news: ids for news, ids in by_news.items() if len(ids) > 1} == {}
    assert {id_: news for id_, news in by_uuid.items() if len(news) > 1} == {}
    # There are duplicates in the corpus: lists and people forward.
    assert len(by_uuid) < mails


def test_explain_says_one_line_of_json_of_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(read.path) for read in corpus()]

    status = main(["explain", "--all", "--json", *names])

    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [line["file"] for line in lines] == names
    assert [line["outcome"] for line in lines] == [read.examined.outcome for read in corpus()]
    assert status == 65
