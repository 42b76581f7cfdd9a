"""
Every mail of a corpus of real ones, against an oracle that reads headers and knows no recogniser.

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
from email.header import decode_header
from email.message import Message
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailbridge.bridge.compose import Examined, examine
from mailbridge.cli import main
from mailbridge.config import Source
from tests.oracle_of_trackers import told_of

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOURCE = Source(name="corpus", maildir="/nowhere")
BESIDE = Path(__file__).parent.parent.parent / "shared" / "corpus"
CORPUS = Path(os.environ.get("MAILBRIDGE_CORPUS") or BESIDE)

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus here")

DISCUSSIONS = ("xfs-discussion", "rdma-discussion-bug-cc", "rdma-discussion-bugzilla", "lists")


# -- the oracle ------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """What the headers alone tell of a mail."""

    kind: str
    facts: dict[str, Any]
    """What the event's data must hold; a set stands for a list in any order."""
    news: tuple[object, ...]
    """Mails that agree in this say the same."""


def text_of(message: Message, name: str) -> str:
    value = message.get(name, "")
    parts = []
    # compat32 gives a Header object where raw bytes stand in a header.
    for data, charset in decode_header(value):
        if isinstance(data, str):
            parts.append(data)
        elif charset in (None, "unknown-8bit"):
            parts.append(data.decode("utf-8", "replace"))
        else:
            parts.append(data.decode(charset, "replace"))
    return " ".join("".join(parts).split())


def words(text: str) -> list[str]:
    return list(dict.fromkeys(text.replace(",", " ").split()))


def first_text(message: Message) -> str:
    for part in message.walk():
        if part.get_content_type() == "text/plain":
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            return payload.decode("utf-8", "replace")
    return ""


def expected(raw: bytes) -> Expected | None:
    message = message_from_bytes(raw)
    if message.get_content_type() == "message/rfc822" and "X-BeenThere" in message:
        # A list wrapped it whole.
        message = message.get_payload(0)  # type: ignore[assignment]
    if message.get_content_type() == "multipart/report" or "X-List-Administrivia" in message:
        return None
    if laniakea := message.get("X-Laniakea-Event"):
        return expected_of_laniakea(laniakea, message)
    for name in message:
        if tracker := re.fullmatch(r"X-(\w+)-PR-Message", name, re.IGNORECASE):
            return expected_of_debbugs(tracker[1], message)
    if is_dak(message):
        return expected_of_dak(message)
    if told := told_of(message, text_of(message, "Subject"), first_text(message)):
        return Expected(*told)
    return None


def is_dak(message: Message) -> bool:
    return (
        "X-DAK" in message
        or "DAK" in [*message.get_all("X-Debian", []), *message.get_all("Debian", [])]
        or any("Launchpad" not in value for value in message.get_all("X-Katie", []))
    )


def expected_of_laniakea(event: str, message: Message) -> Expected | None:
    kinds = {"accepted": "accepted", "queued-new": "new", "rejected": "rejected"}
    kind = kinds.get(event.removeprefix("package-"))
    subject = text_of(message, "Subject")
    return Expected(f"laniakea-{kind}", {"repo": message["X-Laniakea-Repo"]}, (event, subject))


def expected_of_debbugs(project: str, message: Message) -> Expected | None:
    word, _, number = message[f"X-{project}-PR-Message"].partition(" ")
    spooled = [v for v in message.get_all("Received", []) if v.startswith("via spool by")]
    if word == "report" and spooled and "(code U" in spooled[0]:
        word = "followup"
    kind = {"they-closed": "closed", "submitter-changed": "submitter"}.get(word, word)
    subject = text_of(message, "Subject")
    if kind == "transcript":
        return expected_of_transcript(project, subject, message)
    if kind not in ("report", "followup", "closed", "forwarded", "submitter"):
        return None
    _, mark, title = subject.partition(f"Bug#{number}: ")
    facts: dict[str, Any] = {
        "tracker": "debbugs",
        "bug": int(number),
        "package": words(text_of(message, f"X-{project}-PR-Package")),
        "tags": words(text_of(message, f"X-{project}-PR-Keywords")),
    }
    if source := words(text_of(message, f"X-{project}-PR-Source")):
        facts["source"] = source
    news: tuple[object, ...] = (kind, number, text_of(message, "Message-ID"))
    if word == "closed":
        title = title.removeprefix("marked as done (").removesuffix(")")
        facts |= expected_of_closing(message)
        news = (kind, number, facts["closing_message_id"], facts.get("fixed_version"))
    if mark and kind in ("report", "followup", "closed"):
        facts["title"] = title.strip()
    return Expected(f"debbugs-{kind}", facts, news)


def expected_of_transcript(project: str, subject: str, message: Message) -> Expected:
    told = re.fullmatch(r"Processed(?: \(with (\d+) errors?\))?: (.*)", subject)
    assert told
    packages = words(text_of(message, f"X-{project}-PR-Package"))
    facts: dict[str, Any] = {
        "errors": int(told[1] or 0),
        "title": told[2],
        "package": packages[:200],
    }
    # A transcript ends with the address of each bug that it touched, and of the one written to.
    text = first_text(message)
    touched = re.findall(r"(?m)^(\d+): https?://", text)
    if 0 < len(touched) <= 100 and " by -1\n" not in text:
        facts["bugs"] = {int(bug) for bug in touched}
    return Expected("debbugs-transcript", facts, ("transcript", text_of(message, "Message-ID")))


def expected_of_closing(message: Message) -> dict[str, Any]:
    *_, closing = [p for p in message.walk() if p.get_content_type() == "message/rfc822"]
    inner = closing.get_payload(0)
    assert isinstance(inner, Message)
    facts: dict[str, Any] = {"closing_message_id": inner["Message-ID"].strip("<> \n")}
    fixed = re.fullmatch(r"Bug#\d+: fixed in (\S+) (\S+)", text_of(inner, "Subject"))
    if fixed and is_dak(inner):
        facts |= {"via": "upload", "fixed_source": fixed[1], "fixed_version": fixed[2]}
    elif not is_dak(inner):
        facts["via"] = "mail"
    return facts


def expected_of_dak(message: Message) -> Expected | None:
    subject = re.sub(r"^(\[[^]]*\] )+", "", text_of(message, "Subject"))
    announced = re.fullmatch(
        r"(?:Accepted|Installed) (\S+) (\S+) \(([^)]*)\)(?: into (.*))?", subject
    )
    upload = re.fullmatch(r"(\S+)\.changes (ACCEPTED|REJECTED|is NEW)(?: into (.*))?", subject)
    facts: dict[str, Any] = {}
    suites = None
    if announced:
        facts = {
            "source_name": announced[1],
            "source_version": announced[2],
            "architectures": set(announced[3].split()),
        }
        suites = announced[4]
    elif upload:
        facts = {"upload_name": upload[1]}
        suites = upload[3]
    else:
        return expected_of_daks_others(subject)
    kind = {"REJECTED": "rejected", "is NEW": "new"}.get(upload[2] if upload else "", "accepted")
    if suites and "->" not in suites:
        facts["suites"] = set(words(suites))
    if "Debian-Source" in message:
        facts["source_name"] = text_of(message, "Debian-Source").split()[0]
        facts["architectures"] = set(text_of(message, "Debian-Architecture").split())
    news: tuple[object, ...] = (kind, subject)
    inside = re.search(r"(?ms)^Source: (\S+)$.*?^Version: (\S+)$", first_text(message))
    if inside and inside[1] != facts.get("source_name", inside[1]):
        # A made-up mail whose subject is not that of its .changes; what was signed goes first.
        news = (kind, inside[2])
        for name in ("source_name", "source_version", "architectures"):
            facts.pop(name, None)
    if kind == "accepted" and (closes := re.search(r"(?m)^Closes: (.*)$", first_text(message))):
        facts["closes"] = {int(bug) for bug in closes[1].split()}
    return Expected(f"dak-{kind}", facts, news)


def expected_of_daks_others(subject: str) -> Expected | None:
    if queued := re.fullmatch(r"Processing of (\S+)\.changes", subject):
        return Expected("dak-queued", {"upload_name": queued[1]}, ("queued", subject))
    if fixed := re.fullmatch(r"Bug#(\d+): (fixed|Removed package\(s\) from .*)", subject):
        kind = "override" if fixed[2] == "fixed" else "removed"
        return Expected(f"dak-{kind}", {"bug": int(fixed[1])}, (kind, subject))
    return None


def is_damaged(raw: bytes) -> bool:
    """Say whether a mail is cut off in its signed part, or has what no header may have."""
    cut = b"-----BEGIN PGP SIGNED" in raw and b"-----END PGP SIGNATURE" not in raw
    return cut or b"\0" in raw.partition(b"\n\n")[0]


# -- the mails -------------------------------------------------------------------------------------


class Read(NamedTuple):
    path: Path
    raw: bytes
    examined: Examined
    expected: Expected | None

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


def test_every_mail_is_understood_as_its_headers_say(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    for read in corpus():
        kind = read.expected.kind if read.expected else "nothing"
        counts[kind, "expected"] += 1
        outcome = read.examined.outcome
        if (outcome, read.examined.kind) == ("events", kind) or (
            outcome == "ignored" and read.expected is None
        ):
            counts[kind, "right"] += 1
        elif outcome == "quarantined" and is_damaged(read.raw):
            counts[kind, "damaged"] += 1
        elif outcome == "quarantined" and read.path.suffix != ".eml":
            counts[kind, "no mail"] += 1
        else:
            wrong.append(told(read))
    columns = ("expected", "right", "damaged", "no mail")
    with capsys.disabled():
        print(f"\n{'kind':<20}{''.join(f'{column:>10}' for column in columns)}")  # noqa: T201
        for kind in sorted({kind for kind, _ in counts}):
            row = "".join(f"{counts[kind, column]:>10}" for column in columns)
            print(f"{kind:<20}{row}")  # noqa: T201

    assert wrong == []
    assert sum(counts[kind, "expected"] for kind in {k for k, _ in counts}) == len(corpus())


def test_an_event_holds_what_headers_and_subject_tell() -> None:
    wrong = []
    compared: Counter[str] = Counter()
    for read in corpus():
        if read.expected is None or read.examined.outcome != "events":
            continue
        # A mail of a tracker may tell of a change and of a comment.
        event, *_ = read.examined.events
        for key, value in read.expected.facts.items():
            compared[f"{read.expected.kind} {key}"] += 1
            actual = event.data.get(key)
            if (set(actual or ()) if isinstance(value, set) else actual) != value:
                wrong.append(f"{told(read)}: {key}: {actual!r}, expected {value!r}")

    assert wrong == []
    assert compared["debbugs-closed fixed_version"] > 50
    assert compared["dak-accepted source_version"] > 30


def test_no_discussion_that_quotes_a_tracker_gives_an_event() -> None:
    """One mail of a list in `lists` is a bug report itself, by its own headers."""
    for read in corpus():
        if read.folder in DISCUSSIONS and read.expected is None:
            assert read.examined.outcome == "ignored", told(read)
            assert read.examined.events == ()
    assert sum(r.folder in DISCUSSIONS and r.expected is not None for r in corpus()) <= 1


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
        # Which archive a mail is of may depend on the list it came by, and is part of what it says.
        news = (event.data["archive"], *read.expected.news)
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
