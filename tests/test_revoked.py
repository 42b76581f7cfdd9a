"""A key that was lost: what its owner said before is believed, what a thief says after is not."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from mailbridge import emit, keyring, listen
from mailbridge.cli import main
from mailbridge.errors import NotPermitted, UnknownOrigin
from mailbridge.journal import Journal
from mailbridge.signing import Last, check_note, verify
from mailbridge.testing import RelayForTests, mailbridge_relay
from tests.conftest import NOON
from tests.daemons import PATIENCE
from tests.feeds import Source

relay = mailbridge_relay

ENTITY: Final = "mailbridge.lists.example.org"
THIEF: Final = "emit.builder.example.org"


@pytest.fixture
def source() -> Source:
    return Source(ENTITY)


@pytest.fixture
def state(tmp_path: Path, source: Source) -> Path:
    """A state whose journal has five events of *source*, trusted."""
    state = tmp_path / "state"
    keyring.write_public(state / "keys" / "trusted" / f"{ENTITY}.key", source.key.verify_key)
    with Journal.open(state / "journal.db") as journal, journal.batch(NOON) as batch:
        for event in source.events(5):
            batch.append(event, event.raw)
    return state


def shown(state: Path, *, keys: Path | None = None) -> list[int]:
    """Return what a reader takes, until it refuses to."""
    found: list[int] = []
    url = (state / "journal.db").as_uri()
    events = listen(url, since="start", state=state, keys=keys, timeout=PATIENCE)
    with pytest.raises(UnknownOrigin, match=f"the key of {ENTITY} was revoked"):
        # (What it took until it raised stays in the list.)
        found.extend(event.data["number"] for event in events)
    return found


def revoke(state: Path, last: str, *words: str) -> int:
    return main(["key", "revoke", ENTITY, "--last", last, "--state", str(state), *words])


@pytest.mark.parametrize(("last", "then"), [("3", [1, 2, 3]), ("none", [])])
def test_a_reader_believes_a_lost_key_up_to_its_last_event_and_no_further(
    state: Path, last: str, then: list[int]
) -> None:
    assert revoke(state, last) == 0

    assert shown(state) == then


def test_a_reader_with_keys_of_its_own_needs_the_file_beside_them(
    state: Path, tmp_path: Path, source: Source
) -> None:
    mine = tmp_path / "mine"
    keyring.write_public(mine / "source.key", source.key.verify_key)
    assert revoke(state, "2", "--dir", str(mine)) == 0

    assert shown(state, keys=mine) == [1, 2]


def test_what_is_believed_is_told_by_feed_number_and_hash(source: Source) -> None:
    first, second, third = source.events(3)
    assert second.feed
    last = Last(second.feed.id, 2, second.hash)
    key = keyring.believed({ENTITY: source.key.verify_key}, {ENTITY: last})
    other = Source(ENTITY, epoch="20270101T000000Z").event(1)
    forged = source.signed(2, feed=source.head.link("x"), data={"number": 99})

    for event in (first, second, Source(ENTITY, epoch="20250101T000000Z").event(1)):
        assert verify(event, key).hash == event.hash
    for event in (third, other, forged, source.signed(1)):
        with pytest.raises(UnknownOrigin, match="was revoked"):
            verify(event, key)
    with pytest.raises(UnknownOrigin, match="was revoked"):
        check_note(json.loads(source.signed_head()), key, ENTITY)


def test_a_revocation_that_cannot_be_read_is_the_strictest(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (state / "keys" / "trusted" / f"{ENTITY}.revoked").write_text("{", "utf-8")

    assert shown(state) == []
    assert f"{ENTITY}.revoked: nothing of {ENTITY} is believed" in caplog.text


def test_a_relay_takes_nothing_more_of_a_lost_key_and_a_running_reader_sees_nothing(
    relay: RelayForTests, tmp_path: Path
) -> None:
    emitter = tmp_path / "emitter"
    keyring.ensure(emitter, "emit", THIEF, qualified=lambda: None)
    public = emitter / "keys" / f"{THIEF}.key"
    assert main(["key", "trust", str(public), "--state", str(relay.state)]) == 0
    emit("org.example.x", {"n": 1}, to=relay.submit, state=emitter)
    events = listen(relay.url, since="start", state=relay.state, timeout=PATIENCE)
    assert next(events).data == {"n": 1}

    words = ["key", "revoke", THIEF, "--last", "head", "--state", str(relay.state)]
    assert main(words) == 0
    # (The relay looks at its keys again within two seconds; what came before it did is shown.)
    went: list[str] = []
    with pytest.raises(NotPermitted, match="was revoked"):
        went.extend(
            emit("org.example.x", {"n": n}, to=relay.submit, state=emitter) for n in count(2)
        )
    with Journal.open(relay.state / "journal.db", readonly=True) as journal:
        assert journal.head() == 1 + len(went)


def test_the_list_tells_how_far_a_key_is_believed(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert revoke(state, "head", "--reason", "stolen “laptop”") == 0
    capsys.readouterr()
    assert main(["key", "list", "--state", str(state)]) == 0
    text = capsys.readouterr().out
    assert main(["key", "list", "--state", str(state), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert f"(revoked: believed up to number 5 of {ENTITY}/20261120T120000Z)" in text
    assert told["revoked"]["seq"] == 5


@pytest.mark.parametrize("last", ["6", "0", "x", "other/20261120T120000Z#1"])
def test_a_last_event_that_the_journal_does_not_have_is_refused(
    state: Path, capsys: pytest.CaptureFixture[str], last: str
) -> None:
    assert revoke(state, last) == 2
    assert "has" in capsys.readouterr().err
    assert not list((state / "keys" / "trusted").glob("*.revoked"))
