"""Events: canonical bytes, the frozen uuid recipe, and what strangers may send us."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Final

import pytest
from canonicaljson import encode_canonical_json
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from mailbridge import event
from mailbridge.errors import MalformedEvent, NotCanonical
from mailbridge.event import (
    FORMAT,
    MAX_FRAME_BYTES,
    canonical,
    digest,
    event_uuid,
    is_tag,
    parse_json,
    preimage,
    read_event,
)

WIRE: Final = Path(__file__).parent.parent / "fixtures" / "_wire"

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def fields(**changed: Any) -> dict[str, Any]:
    whole = {
        "id": "_lk.mailbridge.bug-closed",
        "tag": "_lk.mailbridge.bug-closed",
        "uuid": "11111111-2222-5333-8444-555555555555",
        "format": FORMAT,
        "time": "2026-11-20T12:00:00+00:00",
        "data": {},
        "signatures": {},
    }
    return {key: value for key, value in (whole | changed).items() if value is not ...}


def wire(**changed: Any) -> bytes:
    return json.dumps(fields(**changed)).encode()


@pytest.mark.parametrize("where", ["data", "zone"])
def test_what_reads_like_the_signatures_of_an_event_stays_in_what_is_signed(where: str) -> None:
    signatures = {"a.example.org": {"ed25519:0": "c2lnbmF0dXJl"}}
    told = fields(signatures=signatures) | {where: {"signatures": signatures, "tag": "x"}}

    event = read_event(canonical(told))

    assert event.signatures == signatures
    assert event.preimage == preimage(told)


@given(values)
def test_canonical_json_is_what_an_independent_writer_writes(value: Any) -> None:
    assert canonical(value) == encode_canonical_json(value)


@given(st.dictionaries(texts, values, max_size=5))
def test_canonical_json_reads_back_and_has_one_form(value: dict[str, Any]) -> None:
    raw = canonical(value)

    assert parse_json(raw) == value
    assert canonical(parse_json(raw)) == raw


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, {1, 2}, b"x", {None: 1, "a": 2}]
)
def test_what_has_no_canonical_json_is_refused(value: object) -> None:
    with pytest.raises(NotCanonical):
        canonical(value)


def test_what_refers_to_itself_or_is_too_deep_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]

    for value in (endless, deep):
        with pytest.raises(NotCanonical):
            canonical(value)
    while isinstance(deep, list):  # else freeing it recurses, too
        deep = deep.pop()


@pytest.mark.fault(110)
@pytest.mark.parametrize(
    "vector",
    json.loads((WIRE / "uuid.json").read_text("utf-8")),
    ids=lambda vector: f"{vector['name']}-{vector['uuid'][:8]}",
)
def test_the_uuid_recipe_is_frozen(vector: dict[str, Any]) -> None:
    made = event_uuid(vector["archive"], vector["name"], vector["identity"])

    assert made == vector["uuid"]


@given(texts, texts, st.dictionaries(texts, values, max_size=4), texts)
def test_a_fact_that_nobody_told_does_not_change_the_uuid(
    archive: str, name: str, identity: dict[str, Any], fact: str
) -> None:
    identity = {key: value for key, value in identity.items() if key != fact}

    assert event_uuid(archive, name, identity | {fact: None}) == event_uuid(archive, name, identity)
    assert event_uuid(archive, name, identity | {fact: 1}) != event_uuid(archive, name, identity)


def test_an_event_is_read_with_its_very_bytes() -> None:
    raw = wire(unsigned={"x": 1}, author="Zoë", data={"a": [1]})

    event = read_event(raw)

    assert event.raw == raw
    assert event.preimage == preimage(fields(author="Zoë", data={"a": [1]}))
    assert b"unsigned" not in event.preimage
    assert b"signatures" not in event.preimage
    assert event.hash == digest(event.preimage)
    assert (event.author, event.data, event.feed) == ("Zoë", {"a": [1]}, None)


def test_an_event_of_lighthouses_own_clients_needs_no_id() -> None:
    assert read_event(wire(id=...)).tag == "_lk.mailbridge.bug-closed"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"7",
        b"null",
        b"[]",
        b'"a"',
        b"{",
        b"\xff{}",
        b"\xef\xbb\xbf{}",
        b'{"a":1} {}',
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"a":1,"a":2}',
        b'{"data":{"a":1,"a":2}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 500_000 + b"}",
        b'{"a":"' + b" " * MAX_FRAME_BYTES + b'"}',
        b'{"a":"\n"}',
        b"{'a':1}",
        b'{"a":\x00}',
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_two_readers_could_understand_differently_is_no_json(raw: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse_json(raw)
    with pytest.raises(MalformedEvent):
        read_event(raw)


@pytest.mark.parametrize(
    "changed",
    [
        {"tag": ...},
        {"tag": 1},
        {"id": "_lk.mailbridge.bug-reported"},
        {"tag": "a b", "id": "a b"},
        {"tag": "", "id": ""},
        {"tag": "a..b", "id": "a..b"},
        {"tag": "ä.b", "id": "ä.b"},
        {"tag": "x" * 201, "id": "x" * 201},
        {"uuid": ...},
        {"uuid": "no"},
        {"uuid": "{11111111-2222-5333-8444-555555555555}"},
        {"format": "2.0"},
        {"format": 1.0},
        {"time": 5},
        {"data": []},
        {"data": {"a": "\ud800"}},
        {"signatures": ...},
        {"signatures": {"a": "b"}},
        {"signatures": {"a": {"ed25519:0": 1}}},
        {"author": {"name": "x"}},
        {"feed": {}},
        {"feed": {"id": "a/b", "seq": "1", "prev": None, "tag_seq": 1}},
        {"feed": {"id": "a/b", "seq": True, "prev": None, "tag_seq": 1}},
        {"feed": {"id": "a/b", "seq": 1, "prev": None, "tag_seq": 1, "more": 1}},
    ],
    ids=str,
)
def test_an_event_without_what_the_wire_requires_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvent):
        read_event(wire(**changed))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvent):
        read_event(raw)


@given(st.dictionaries(st.sampled_from([*fields(), "feed", "author", "origin"]), values))
def test_any_json_is_an_event_whose_hash_holds_or_malformed(changed: dict[str, Any]) -> None:
    raw = canonical(fields() | changed)
    try:
        event = read_event(raw)
    except MalformedEvent:
        return
    assert event.hash == digest(preimage(json.loads(raw)))


@given(
    st.dictionaries(
        texts, values | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**70)
    )
)
def test_the_quick_way_to_read_canonical_bytes_gives_what_the_long_way_does(
    data: dict[str, Any],
) -> None:
    raw = canonical(fields(data=data, unsigned={"x": 1}))

    def read(raw: bytes) -> dict[str, Any] | None:
        try:
            return structs.asdict(read_event(raw)) | {"raw": b""}
        except MalformedEvent:
            return None

    assert read(raw) == read(raw + b" ")


@given(st.integers(1, 2000))
def test_json_of_any_depth_is_read_or_refused(depth: int) -> None:
    raw = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    try:
        value = parse_json(raw)
        canonical(value)
    except (MalformedEvent, NotCanonical):
        assert depth > 100


def test_an_error_quotes_little_of_what_a_stranger_sent() -> None:
    with pytest.raises(MalformedEvent) as caught:
        read_event(wire(tag="x y" * 100_000, id="z" * 100_000))

    assert len(str(caught.value)) < 400


@given(texts)
def test_a_tag_is_ascii_words_and_dots(text: str) -> None:
    if is_tag(text):
        assert text.replace(".", "").replace("-", "").replace("_", "").isalnum() or "." not in text
        assert text.isascii()
        assert not text.startswith(".")


@given(texts)
def test_a_uuid_is_made_as_the_standard_library_makes_it(text: str) -> None:
    named = canonical(["Debian", "x", {"a": text}]).decode()

    assert event_uuid("Debian", "x", {"a": text}) == str(uuid.uuid5(event._IDENTITY, named))
