"""What `export` writes travels on a stick, and `import` believes nothing of it but signatures."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from mailbridge import keyring
from mailbridge.cli import main
from mailbridge.event import SignedEvent, canonical
from mailbridge.feed import Hole, read_head
from mailbridge.journal import Journal
from mailbridge.reader import listen
from mailbridge.signing import SigningKey, sign_note
from mailbridge.testing import RelayForTests, mailbridge_relay
from tests.conftest import NOON
from tests.feeds import Source

relay = mailbridge_relay

CLOSED = "_lk.mailbridge.bug-closed"
ONE = "mailbridge.lists.example.org"
OTHER = "mailbridge.other.example.org"
FEED = f"{ONE}/20261120T120000Z"
OTHERS_FEED = f"{OTHER}/20261120T120000Z"

Lines = list[bytes]


def journal_of(path: Path, events: Iterable[SignedEvent], *notes: bytes) -> str:
    """Make a journal that holds *events* and the signed heads *notes*, and return its URL."""
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        for event in events:
            batch.append(event, event.raw)
        for note in notes:
            batch.note(read_head(json.loads(note)), note)
    return path.as_uri()


def trusting(state: Path, *entities: str) -> Path:
    """Make a state that trusts *entities*, whatever they emit."""
    for entity in entities or (ONE, OTHER):
        public = keyring.state_dirs(state)[1] / f"{entity}.key"
        keyring.write_public(public, Source(entity).key.verify_key)
        keyring.allow(state / "policy.toml", entity, ["*"])
    return state


def exported(url: str, file: Path, *words: str) -> Lines:
    assert main(["export", url, "-o", str(file), *words]) == 0
    return file.read_bytes().splitlines()


def imported(
    lines: Lines, state: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str]:
    """Return the status of importing *lines*, and all that was said."""
    file = state.parent / "carried.export"
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    capsys.readouterr()
    status = main(["import", str(file), *(words or ("--state", str(state)))])
    told = capsys.readouterr()
    return status, told.out + told.err


def journaled(state: Path) -> list[tuple[str, int]]:
    with Journal.open(state / "journal.db", readonly=True) as journal:
        return [(feed, at.head.seq) for feed, at in journal.feeds().items() if at.head.seq]


@pytest.fixture
def two_feeds(tmp_path: Path) -> str:
    """The URL of a journal with two feeds, of which each hides something of the other."""
    one, two = Source(), Source(OTHER)
    events = [*one.events(3), two.event(101, uuid_of=1), two.event(102), two.event(103)]
    events += [one.event(4), one.event(5, uuid_of=102)]
    return journal_of(tmp_path / "a.db", events, one.signed_head(), two.signed_head())


def test_what_one_relay_exports_another_imports_and_its_readers_can_prove_it(
    two_feeds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = exported(two_feeds, tmp_path / "events.export")
    state = trusting(tmp_path / "b")

    status, said = imported(lines, state, capsys)

    assert status == 0
    assert "8 events were new" in said
    assert journaled(state) == [(FEED, 5), (OTHERS_FEED, 3)]
    url = (state / "journal.db").as_uri()
    assert main(["verify", url, "--state", str(state)]) == 0
    events = listen(url, since="start", state=state, timeout=5)
    assert [next(events).data["number"] for _ in range(6)] == [1, 2, 3, 102, 103, 4]


def test_an_export_is_verified_as_a_file_and_on_standard_input(
    two_feeds: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = exported(two_feeds, tmp_path / "events.export")
    state = str(trusting(tmp_path / "b"))

    assert main(["verify", str(tmp_path / "events.export"), "--state", state]) == 0

    out = capsys.readouterr().out
    assert f"feed {FEED}: whole up to number 5" in out
    assert "8 events" in out
    stdin = io.TextIOWrapper(io.BytesIO(b"\n".join(lines) + b"\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["verify", "-", "--state", state]) == 0


def test_what_is_imported_twice_is_there_once(
    two_feeds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = exported(two_feeds, tmp_path / "events.export")
    state = trusting(tmp_path / "b")
    imported(lines, state, capsys)

    status, said = imported(lines, state, capsys)

    assert status == 0
    assert "0 events were new, 8 were there already" in said


def test_an_import_goes_through_a_relay_that_runs(
    two_feeds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = trusting(tmp_path / "b")
    lines = exported(two_feeds, tmp_path / "events.export")

    with RelayForTests(state) as relay:
        status, _ = imported(lines, state, capsys, "--submit", relay.submit)

        assert status == 0
        assert [event.data["number"] for event in _some(relay, 6)] == [1, 2, 3, 102, 103, 4]
        assert main(["verify", relay.url, "--state", str(state)]) == 0


def test_what_a_running_relay_exports_ends_where_its_feeds_end(
    relay: RelayForTests, tmp_path: Path
) -> None:
    for bug in range(3):
        relay.emit(CLOSED, {"bug": bug})
    relay.emit("org.example.job-done", {}, feed=False)

    lines = exported(relay.url, tmp_path / "events.export")

    end = json.loads(lines[-1])["end"]
    assert end["events"] == 4
    assert [place[0] for place in end["feeds"].values()] == [3]


def _some(relay: RelayForTests, count: int) -> list[SignedEvent]:
    events = relay.listen(since="start")
    return [next(events) for _ in range(count)]


# -- what must not come in -------------------------------------------------------------------------


def _tamper(lines: Lines) -> Lines:
    return [*lines[:3], lines[3].replace(b'"number":3', b'"number":7'), *lines[4:]]


def _cut_off(lines: Lines) -> Lines:
    return lines[:3]


def _leave_out(lines: Lines) -> Lines:
    return [*lines[:3], *lines[4:]]


def _reorder(lines: Lines) -> Lines:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def _splice(lines: Lines) -> Lines:
    """The same number by the same source, in a life of its outbox that never was."""
    source = Source()
    source.events(2)
    return [*lines[:3], source.signed(33, feed=source.head.link(CLOSED)).raw, *lines[4:]]


def _garble(lines: Lines) -> Lines:
    return [*lines[:3], b"\xff{", *lines[4:]]


def _shorten(lines: Lines) -> Lines:
    """Cut off, and an end made up that fits."""
    kept = [lines[0], *lines[1:3]]
    hashed = json.loads(lines[3])["feed"]["prev"]
    end = {"end": {"events": 2, "feeds": {FEED: [2, hashed]}}}
    return [*kept, lines[-2], canonical(end)]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """An export of one feed with five events: line 1 begins it, line 4 is number 3."""
    source = Source()
    events = source.events(5)
    url = journal_of(tmp_path / "a.db", events, source.signed_head())
    return exported(url, tmp_path / "events.export", "--feed", FEED)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_tamper, "number 3"),
        (_cut_off, "cut off behind line 3"),
        (_leave_out, "number 3 is missing"),
        (_reorder, "number 3 is missing"),
        (_splice, "number 4"),
        (_garble, "line 4"),
        (_shorten, "number 3 is missing"),
    ],
)
def test_a_file_that_was_harmed_is_named_at_its_first_wrong_number(
    lines: Lines,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Lines], Lines],
    told: str,
) -> None:
    file = tmp_path / "harmed.export"
    file.write_bytes(b"".join(line + b"\n" for line in harm(lines)))
    capsys.readouterr()

    status = main(["verify", str(file), "--state", str(trusting(tmp_path / "b"))])

    out = capsys.readouterr().out
    assert status == 65
    assert told in out
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("harm", "told", "kept"),
    [
        (_tamper, "line 4: feed {}: number 3", 2),
        (_cut_off, "cut off behind line 3", 2),
        (_leave_out, "line 4: feed {}: number 3 is missing", 2),
        (_reorder, "line 4: feed {}: number 3 is missing", 2),
        # (Its source signed it: only what comes behind tells that it contradicts itself.)
        (_splice, "line 5: feed {}: number 4", 3),
        (_garble, "line 4", 2),
    ],
)
def test_of_a_harmed_file_nothing_wrong_gets_in(  # noqa: PLR0913, PLR0917 - what it is about
    lines: Lines,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Lines], Lines],
    told: str,
    kept: int,
) -> None:
    state = trusting(tmp_path / "b")

    status, said = imported(harm(lines), state, capsys)

    assert status == 65
    assert told.format(FEED) in said
    assert journaled(state) == [(FEED, kept)]


def test_a_head_that_was_altered_is_refused(
    lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = [*lines[:-2], lines[-2].replace(b'"seq":5', b'"seq":6'), lines[-1]]

    status, said = imported(altered, trusting(tmp_path / "b"), capsys)

    assert status == 65
    assert "line 7: a head" in said


def test_a_key_that_is_not_known_here_is_told_with_what_to_do(
    two_feeds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is by others comes in all the same."""
    lines = exported(two_feeds, tmp_path / "events.export")
    state = trusting(tmp_path / "b", OTHER)

    status, said = imported(lines, state, capsys)

    assert status == 77
    assert f"feed {FEED}: number 1" in said
    assert "mailbridge key trust FILE" in said
    assert journaled(state) == [(OTHERS_FEED, 3)]
    trusting(state, ONE)
    assert imported(lines, state, capsys)[0] == 0
    assert journaled(state) == [(OTHERS_FEED, 3), (FEED, 5)] or journaled(state) == [
        (FEED, 5),
        (OTHERS_FEED, 3),
    ]


def test_a_key_in_the_file_is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A carrier may write what he wants into the first line, and sign whatever he wants."""
    source = Source()
    forged = Source()
    forged.key = SigningKey(ONE, b"\x01" * 32)  # type: ignore[misc]  # another hand
    url = journal_of(tmp_path / "a.db", forged.events(2))
    lines = exported(url, tmp_path / "events.export")
    told = json.loads(lines[0])
    told["keys"] = {ONE: forged.key.verify_key.base64}
    state = trusting(tmp_path / "b", source.key.entity)

    status, said = imported([canonical(told), *lines[1:]], state, capsys)

    assert status == 65
    assert "line 2" in said
    assert journaled(state) == []


def test_what_nobody_has_is_told_and_nothing_behind_it_gets_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    events = source.events(4)
    path = tmp_path / "a.db"
    relay = SigningKey("relay.example.org", bytes(range(32)))
    with Journal.open(path) as journal, journal.batch(NOON) as batch:
        batch.append(events[0], events[0].raw)
        hole = Hole(feed=FEED, first=2, last=3, hash=events[2].hash, time=None)
        fields = {"feed": FEED, "first": 2, "last": 3, "hash": events[2].hash}
        batch.skip(hole, sign_note({"hole": fields}, relay))
        batch.append(events[3], events[3].raw)
    lines = exported(path.as_uri(), tmp_path / "events.export")
    state = trusting(tmp_path / "b")

    assert main(["verify", str(tmp_path / "events.export"), "--state", str(state)]) == 65
    assert "number 2 is missing, up to 3" in capsys.readouterr().out
    status, said = imported(lines, state, capsys)

    assert status == 65
    assert f"feed {FEED}: number 2 is missing" in said
    assert journaled(state) == [(FEED, 1)]


def test_a_part_that_begins_behind_what_is_there_does_not_get_in(
    lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = trusting(tmp_path / "b")

    status, said = imported([lines[0], *lines[3:]], state, capsys)

    assert status == 65
    assert f"line 2: feed {FEED}: number 1 is missing here before 3" in said
    assert journaled(state) == []


def test_an_old_event_without_a_feed_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    events = [source.event(1), source.signed(2, time="2019-01-01T00:00:00+00:00")]
    lines = exported(journal_of(tmp_path / "a.db", events), tmp_path / "events.export")

    status, said = imported(lines, trusting(tmp_path / "b"), capsys)

    assert status == 0
    assert "1 events were new" in said
    assert "1 were left out" in said


# -- parts -----------------------------------------------------------------------------------------


def test_one_feed_alone_is_exported_with_what_readers_are_not_shown_of_it(
    two_feeds: str, tmp_path: Path
) -> None:
    lines = exported(two_feeds, tmp_path / "events.export", "--feed", OTHERS_FEED)

    numbers = [json.loads(line)["data"]["number"] for line in lines[1:-2]]
    assert numbers == [101, 102, 103]


def test_an_export_from_a_later_place_says_where_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    url = journal_of(tmp_path / "a.db", source.events(5))
    with Journal.open(tmp_path / "a.db", readonly=True) as journal:
        cursor = f"{journal.id}-3"

    exported(url, tmp_path / "events.export", "--from", cursor)

    state = str(trusting(tmp_path / "b"))
    assert main(["verify", str(tmp_path / "events.export"), "--state", state]) == 0
    assert f"feed {FEED}: whole from number 4 up to number 5" in capsys.readouterr().out


def test_of_a_journal_that_was_pruned_what_is_left_is_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    path = tmp_path / "a.db"
    url = journal_of(path, source.events(3))
    with Journal.open(path) as journal:
        with journal.batch(NOON + timedelta(days=2)) as batch:
            for event in source.events(2):
                batch.append(event, event.raw)
        journal.prune(NOON + timedelta(days=1))

    lines = exported(url, tmp_path / "events.export")

    assert [json.loads(line)["feed"]["seq"] for line in lines[1:-1]] == [4, 5]
    assert "numbers 4 to 5" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["DELETE FROM event WHERE pos = 3", "DELETE FROM event"])
def test_a_journal_with_a_hole_that_it_does_not_tell_of_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    path = tmp_path / "a.db"
    url = journal_of(path, Source().events(5))
    with sqlite3.connect(path) as db:
        db.execute(harm)
    db.close()

    assert main(["export", url, "-o", str(tmp_path / "events.export")]) == 65

    assert "is missing" in capsys.readouterr().err
    assert [each.name for each in tmp_path.glob("*export*")] == []


def test_an_export_can_be_written_to_a_pipe(
    two_feeds: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["export", two_feeds, "-o", "-"]) == 0

    lines = capsysbinary.readouterr().out.splitlines()
    assert b'"export"' in lines[0]
    assert len(lines) == 1 + 8 + 2 + 1


def test_a_feed_that_is_not_there_is_told(two_feeds: str, tmp_path: Path) -> None:
    words = ["-o", str(tmp_path / "x"), "--feed", "nobody.example.org/20261120T120000Z"]

    assert main(["export", two_feeds, *words]) == 2


@pytest.mark.parametrize(
    ("lines_of", "told"),
    [
        ([b'{"export":{"version":2}}'], "version 2"),
        ([b'{"export":{"version":1}}', b'{"end":{"events":0,"feeds":{}}}', b"{}"], "line 3"),
        ([b'{"export":{"version":1}}', b'{"export":{"version":1}}'], "line 2"),
        ([b'{"export":[]}'], "version None"),
        ([b'{"export":'], "line 1"),
    ],
)
def test_a_file_that_is_no_export_of_ours_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines_of: Lines, told: str
) -> None:
    status, said = imported(lines_of, trusting(tmp_path / "b"), capsys)

    assert status == 65
    assert told in said


def test_a_relay_that_does_not_answer_is_75(
    lines: Lines,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailbridge.relay.carried.PATIENCE", 0.1)

    status, said = imported(lines, tmp_path / "b", capsys, "--submit", "tcp://127.0.0.1:9")

    assert status == 75
    assert "import the file again" in said
