"""Programs with news of their own: kept, sent, acknowledged, each once at a reader."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Final

import pytest

from mailbridge import emit, keyring, listen
from mailbridge.cli import main
from mailbridge.errors import BadInput, NeedsOperator, NotPermitted, TryAgain
from mailbridge.testing import RelayForTests, mailbridge_relay
from tests.daemons import PATIENCE

relay = mailbridge_relay

ENTITY: Final = "emit.builder.example.org"
BUILT: Final = "org.example.built"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "emitter"


def trust(relay: RelayForTests, state: Path) -> None:
    """Let what is emitted from *state* into *relay*, as its operator does."""
    key = state / "keys" / f"{ENTITY}.key"
    assert main(["key", "trust", str(key), "--state", str(relay.state)]) == 0


def key_made(state: Path) -> None:
    keyring.ensure(state, "emit", ENTITY, qualified=lambda: None)


def told(relay: RelayForTests, count: int) -> list[tuple[str, object]]:
    events = listen(relay.url, state=relay.state, since="start", timeout=PATIENCE)
    return [(event.uuid, event.data) for _, event in zip(range(count), events, strict=False)]


def test_what_is_emitted_is_at_a_reader_when_emit_returns(
    relay: RelayForTests, state: Path
) -> None:
    key_made(state)
    trust(relay, state)

    first = emit(BUILT, {"package": "hello"}, to=relay.submit, state=state)
    second = emit(BUILT, {"package": "hello"}, to=relay.submit, state=state)

    assert told(relay, 2) == [(first, {"package": "hello"}), (second, {"package": "hello"})]


def test_the_same_uuid_again_changes_nothing(relay: RelayForTests, state: Path) -> None:
    key_made(state)
    trust(relay, state)
    name = str(uuid.uuid4())

    for _ in range(2):
        emit(BUILT, {"n": 1}, uuid=name, to=relay.submit, state=state)
    last = emit(BUILT, {"n": 2}, to=relay.submit, state=state)

    assert told(relay, 2) == [(name, {"n": 1}), (last, {"n": 2})]


def test_without_a_relay_it_is_kept_and_goes_out_with_the_next(
    relay: RelayForTests, state: Path
) -> None:
    key_made(state)
    trust(relay, state)
    with pytest.raises(TryAgain, match="sent when it answers"):
        emit(BUILT, {"n": 1}, to="tcp://127.0.0.1:9", state=state, timeout=0.1)

    emit(BUILT, {"n": 2}, to=relay.submit, state=state)

    assert [data for _, data in told(relay, 2)] == [{"n": 1}, {"n": 2}]


def test_a_key_that_is_not_trusted_is_told_at_once_what_to_do(
    relay: RelayForTests, state: Path
) -> None:
    key_made(state)
    with pytest.raises(NotPermitted, match=f"mailbridge key trust .*{ENTITY}.key"):
        emit(BUILT, {"n": 1}, to=relay.submit, state=state)
    trust(relay, state)

    # (The relay looks at its keys again within two seconds.)
    while not sent(relay, state):
        pass

    assert [data for _, data in told(relay, 2)] == [{"n": 1}, {"n": 2}]


def sent(relay: RelayForTests, state: Path) -> bool:
    try:
        emit(BUILT, {"n": 2}, uuid=str(uuid.UUID(int=2)), to=relay.submit, state=state)
    except NotPermitted:
        return False
    return True


@pytest.mark.parametrize(
    ("tag", "data", "more"),
    [
        ("no tag", {}, {}),
        (BUILT, {"tag": "x"}, {}),
        (BUILT, {"ratio": 0.5}, {}),
        (BUILT, {"text": "\ud800"}, {}),
        (BUILT, {"text": "x" * 300_000}, {}),
        (BUILT, {"many": [{"n": 2**60}]}, {}),
        (BUILT, {}, {"uuid": "1"}),
    ],
)
def test_what_can_be_no_event_is_refused_and_not_kept(
    state: Path, tag: str, data: dict[str, object], more: dict[str, str]
) -> None:
    with pytest.raises(BadInput):
        emit(tag, data, to="tcp://127.0.0.1:9", state=state, entity=ENTITY, timeout=0.1, **more)
    with pytest.raises(TryAgain, match="; 1 events wait"):
        emit(BUILT, {}, to="tcp://127.0.0.1:9", state=state, timeout=0.1)


def test_a_state_of_another_entity_is_left_alone(state: Path) -> None:
    with pytest.raises(TryAgain):
        emit(BUILT, {}, to="tcp://127.0.0.1:9", state=state, entity=ENTITY, timeout=0.1)
    with pytest.raises(NeedsOperator, match=ENTITY):
        emit(BUILT, {}, state=state, entity="emit.other.example.org")


def test_the_command_takes_words_json_and_lines(
    relay: RelayForTests, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_made(state)
    trust(relay, state)
    capsys.readouterr()
    common = ["--submit", relay.submit, "--state", str(state)]

    assert main(["emit", BUILT, "package=hello", "seconds:=42", "note=a=b", *common]) == 0
    lines = "".join(json.dumps({"n": n}) + "\n\n" for n in range(3))
    piped = subprocess.run(
        [sys.executable, "-m", "mailbridge", "emit", BUILT, "-", *common],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )

    uuids = [*capsys.readouterr().out.split(), *piped.stdout.split()]
    data = [{"package": "hello", "seconds": 42, "note": "a=b"}, *({"n": n} for n in range(3))]
    assert told(relay, 4) == list(zip(uuids, data, strict=True))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["x"], 2, "KEY=text"),
        (["x:={"], 2, "no JSON"),
        (["-", "--uuid", "1"], 2, "--uuid"),
        (["x=1", "--timeout", "0.1", "--submit", "tcp://127.0.0.1:9"], 75, "next 'emit'"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(
    state: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
) -> None:
    assert main(["emit", BUILT, *words, "--state", str(state)]) == status
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1]


def test_programs_that_emit_at_once_from_one_state_all_end_well(
    relay: RelayForTests, state: Path
) -> None:
    key_made(state)
    trust(relay, state)
    words = ("--submit", relay.submit, "--state", str(state))
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "mailbridge", "emit", BUILT, f"n:={n}", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(4)
    ]
    for program in programs:
        _, error = program.communicate(timeout=PATIENCE)
        assert program.returncode == 0, error

    said = [data for _, data in told(relay, 4)]
    assert sorted(str(data) for data in said) == [str({"n": n}) for n in range(4)]
