"""
Every mail in fixtures/ gives exactly what lies beside it.  No kind is named here.

A new case is a new folder with a `mail.eml`.  With MAILBRIDGE_WRITE_GOLDENS=1 in the environment
this test writes the other file where it is missing, for a person to read and to commit.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mailbridge import kinds
from mailbridge.bridge.compose import Examined, examine
from mailbridge.config import Source
from mailbridge.event import NAMESPACE, canonical
from mailbridge.payloads import schema

FIXTURES = Path(__file__).parent.parent / "fixtures"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SOURCE = Source(name="golden", maildir="/nowhere")

KINDS = sorted(p.parent for p in FIXTURES.glob("[!_]*/*/mail.eml"))
SILENT = sorted(p.parent for p in FIXTURES.glob("_[ir]*/*/mail.eml"))


def examined(case: Path) -> Examined:
    raw = (case / "mail.eml").read_bytes()
    return examine(raw, SOURCE, received=NOON, everything=True)


def golden(path: Path, actual: Any) -> Any:
    if not path.exists() and os.environ.get("MAILBRIDGE_WRITE_GOLDENS"):
        path.write_text(json.dumps(actual, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def name_of(case: Path) -> str:
    return f"{case.parent.name}-{case.name}"


@pytest.mark.parametrize("case", KINDS, ids=name_of)
def test_a_mail_gives_the_events_beside_it(case: Path) -> None:
    found = examined(case)
    actual = [
        {"tag": e.tag, "uuid": e.uuid, "author": e.author, "data": e.data} for e in found.events
    ]

    assert (found.outcome, found.kind) == ("events", case.parent.name.replace("_", "-"))
    assert actual == golden(case / "events.json", actual)


@pytest.mark.parametrize("case", SILENT, ids=name_of)
def test_a_mail_gives_no_event_for_the_reason_beside_it(case: Path) -> None:
    found = examined(case)
    actual = {
        "outcome": found.outcome,
        "family": found.family,
        "kind": found.kind,
        "code": found.code,
        "reason": found.reason,
    }

    assert not found.events
    assert found.outcome == ("ignored" if case.parent.name == "_ignored" else "quarantined")
    assert actual == golden(case / "outcome.json", actual)


@pytest.mark.parametrize("case", KINDS, ids=name_of)
def test_what_an_event_says_fits_the_schema_of_its_tag(case: Path) -> None:
    for event in examined(case).events:
        told = schema(kinds.payloads()[event.tag.removeprefix(f"{NAMESPACE}.")])
        jsonschema.validate(
            event.data,
            # No key beyond those that the schema names, and so none that consumers trip over.
            told | {"additionalProperties": False},
            cls=jsonschema.Draft202012Validator,
        )
        assert "tag" not in event.data
        assert canonical(event.data)


def test_every_kind_has_a_fixture_and_every_fixture_a_kind() -> None:
    assert {kind.name for kind in kinds.kinds()} == {
        case.parent.name.replace("_", "-") for case in KINDS
    }


def test_a_case_holds_its_mail_and_what_comes_of_it_and_nothing_else() -> None:
    for case in (*KINDS, *SILENT):
        beside = "outcome.json" if case.parent.name.startswith("_") else "events.json"
        assert {path.name for path in case.iterdir()} == {"mail.eml", beside}


def test_every_kind_says_what_it_is_and_how_well_it_is_attested() -> None:
    for kind in kinds.kinds():
        assert kind.summary.endswith((".", ":"))
        assert kind.attested in {
            "real mails",
            "rendered from the sender's templates",
            "documentation only",
        }
        assert kind.payloads
