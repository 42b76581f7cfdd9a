"""Signatures: frozen vectors, agreement with signedjson both ways, and what must never verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from signedjson.key import decode_signing_key_base64, decode_verify_key_bytes
from signedjson.sign import SignatureVerifyException, sign_json, verify_signed_json

from mailbridge.errors import BadSignature, MalformedEvent, NotPermitted, UnknownOrigin
from mailbridge.event import VerifiedEvent, canonical, digest, preimage, read_event
from mailbridge.signing import (
    KEY_ID,
    SigningKey,
    VerifyKey,
    check_note,
    from_base64,
    is_entity,
    sign_fields,
    sign_note,
    unpadded,
    verify,
)

WIRE: Final = Path(__file__).parent.parent / "fixtures" / "_wire"
LISTS: Final = "mailbridge.lists.example.org"
RELAY: Final = SigningKey("relay.example.org", bytes(range(32, 64)))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
payloads = st.dictionaries(texts, values, max_size=4)


def fields(data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "_lk.mailbridge.bug-closed",
        "tag": "_lk.mailbridge.bug-closed",
        "uuid": "11111111-2222-5333-8444-555555555555",
        "format": "1.0",
        "time": "2026-11-20T12:00:00+00:00",
        "data": data or {},
        **more,
    }


def keys(*signers: SigningKey) -> dict[str, VerifyKey]:
    return {key.entity: key.verify_key for key in signers}


# -- frozen ----------------------------------------------------------------------------------------


@pytest.mark.fault(110)
@pytest.mark.parametrize("path", sorted(WIRE.glob("event-*.json")), ids=lambda path: path.stem)
def test_the_signed_bytes_are_frozen(path: Path) -> None:
    vector = json.loads(path.read_text("utf-8"))
    source = SigningKey(vector["entity"], from_base64(vector["seed"]))
    relay = SigningKey(vector["relay"]["entity"], from_base64(vector["relay"]["seed"]))

    raw, hashed = sign_fields(vector["fields"], source)
    relayed, hashed_there = sign_fields(json.loads(raw), relay)

    assert source.verify_key.base64 == vector["verify_key"]
    assert preimage(vector["fields"]).decode() == vector["preimage"]
    assert hashed == hashed_there == digest(vector["preimage"].encode()) == vector["hash"]
    assert source.sign(vector["preimage"].encode()) == vector["signature"]
    assert raw.decode() == vector["signed"]
    assert relayed.decode() == vector["relay"]["signed"]
    assert verify(read_event(relayed), keys(source)).hash == vector["hash"]


# -- with others -----------------------------------------------------------------------------------


@given(payloads, st.binary(min_size=32, max_size=32))
def test_what_we_sign_an_independent_verifier_accepts(data: dict[str, Any], seed: bytes) -> None:
    key = SigningKey(LISTS, seed)

    raw, _ = sign_fields(fields(data), key)

    theirs = decode_verify_key_bytes(KEY_ID, bytes(key.verify_key))
    verify_signed_json(json.loads(raw), LISTS, theirs)


@given(payloads, st.binary(min_size=32, max_size=32))
def test_what_an_independent_signer_signs_we_accept(data: dict[str, Any], seed: bytes) -> None:
    key = SigningKey(LISTS, seed)
    theirs = decode_signing_key_base64("ed25519", "0", key.seed_base64)

    signed = sign_json(fields(data, unsigned={"age": 1}), LISTS, theirs)

    assert verify(read_event(json.dumps(signed).encode()), keys(key)).data == data


@given(payloads)
def test_a_relays_signature_leaves_the_sources_alone(data: dict[str, Any]) -> None:
    source = SigningKey(LISTS, bytes(32))
    raw, hashed = sign_fields(fields(data), source)

    relayed, hashed_there = sign_fields(json.loads(raw), RELAY)

    event = verify(read_event(relayed), keys(source))
    assert hashed == hashed_there == event.hash
    assert event.signatures[LISTS] == json.loads(raw)["signatures"][LISTS]
    assert isinstance(verify(read_event(relayed), keys(RELAY)), VerifiedEvent)
    for key in (source, RELAY):
        theirs = decode_verify_key_bytes(KEY_ID, bytes(key.verify_key))
        verify_signed_json(json.loads(relayed), key.entity, theirs)


@given(payloads, payloads)
def test_other_words_under_the_same_signature_never_verify(
    data: dict[str, Any], other: dict[str, Any]
) -> None:
    assume(canonical(data) != canonical(other))
    key = SigningKey(LISTS, bytes(32))
    signed = json.loads(sign_fields(fields(data), key)[0]) | {"data": other}

    with pytest.raises(BadSignature):
        verify(read_event(canonical(signed)), keys(key))
    with pytest.raises(SignatureVerifyException):
        verify_signed_json(signed, LISTS, decode_verify_key_bytes(KEY_ID, bytes(key.verify_key)))


# -- whom to believe -------------------------------------------------------------------------------


def test_a_signature_with_padding_is_accepted(signer: SigningKey) -> None:
    signed = json.loads(sign_fields(fields(), signer)[0])
    signed["signatures"][signer.entity][KEY_ID] += "=="

    verify(read_event(canonical(signed)), keys(signer))


@pytest.mark.parametrize("signature", ["", "=", "AAAA", "ä", "A" * 86, "A" * 87, "\x00"])
def test_a_signature_that_is_none_is_bad(signer: SigningKey, signature: str) -> None:
    signed = fields(signatures={signer.entity: {KEY_ID: signature}})

    with pytest.raises(BadSignature):
        verify(read_event(canonical(signed)), keys(signer))


def test_a_key_version_other_than_0_is_bad(signer: SigningKey) -> None:
    signed = json.loads(sign_fields(fields(), signer)[0])
    signed["signatures"][signer.entity] = {"ed25519:1": signed["signatures"][signer.entity][KEY_ID]}

    with pytest.raises(BadSignature, match="version"):
        verify(read_event(canonical(signed)), keys(signer))


def test_an_event_that_only_strangers_signed_is_of_unknown_origin(signer: SigningKey) -> None:
    raw, _ = sign_fields(fields(), RELAY)

    with pytest.raises(UnknownOrigin, match=r"relay\.example\.org.*key trust"):
        verify(read_event(raw), keys(signer))
    with pytest.raises(UnknownOrigin, match="nobody"):
        verify(read_event(canonical(fields(signatures={}))), keys(signer))


def test_a_bad_signature_beside_a_good_one_is_fatal(signer: SigningKey) -> None:
    signed = json.loads(sign_fields(fields(), signer)[0])
    signed["signatures"][RELAY.entity] = {KEY_ID: unpadded(bytes(64))}

    with pytest.raises(BadSignature, match="relay"):
        verify(read_event(canonical(signed)), keys(signer, RELAY))


def test_a_feed_counts_only_if_its_own_entity_signed(signer: SigningKey) -> None:
    """Else any trusted key could write into another one's feed."""
    feed = {"id": f"{LISTS}/20261120T101500Z", "seq": 1, "prev": None, "tag_seq": 1}
    raw, _ = sign_fields(fields(feed=feed), RELAY)

    with pytest.raises(UnknownOrigin):
        verify(read_event(raw), keys(signer, RELAY))


def test_a_signature_of_one_entity_is_none_of_another(signer: SigningKey) -> None:
    signed = json.loads(sign_fields(fields(), signer)[0])
    signed["signatures"] = {RELAY.entity: signed["signatures"][signer.entity]}

    with pytest.raises(BadSignature):
        verify(read_event(canonical(signed)), keys(RELAY))


# -- notes and keys --------------------------------------------------------------------------------


def test_a_signed_head_is_believed_of_its_own_entity_alone(signer: SigningKey) -> None:
    head = {"head": {"feed": f"{LISTS}/20261120T101500Z", "seq": 3, "hash": "x"}}
    signed = json.loads(sign_note(head, signer))

    check_note(signed, keys(signer), signer.entity)
    with pytest.raises(UnknownOrigin):
        check_note(signed, {}, signer.entity)
    with pytest.raises(MalformedEvent):
        check_note(signed, keys(RELAY), RELAY.entity)
    with pytest.raises(BadSignature):
        check_note(signed | {"head": {}}, keys(signer), signer.entity)


@pytest.mark.parametrize("signatures", [None, [], {LISTS: 1}, {LISTS: {KEY_ID: 1}}])
def test_odd_signatures_of_a_head_are_malformed(signer: SigningKey, signatures: object) -> None:
    with pytest.raises(MalformedEvent):
        check_note({"head": {}, "signatures": signatures}, keys(signer), signer.entity)


def test_a_secret_key_shows_its_name_alone(signer: SigningKey) -> None:
    assert repr(signer) == f"SigningKey({signer.entity})"
    assert signer.seed_base64 not in f"{signer!s}{vars(type(signer))}"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "ä", "a" * 201])
def test_what_cannot_be_a_file_name_is_no_entity(name: str) -> None:
    assert not is_entity(name)
    with pytest.raises(NotPermitted):
        VerifyKey(name, bytes(32))


@given(st.binary(max_size=80))
def test_base64_goes_there_and_back_padded_or_not(raw: bytes) -> None:
    assert from_base64(unpadded(raw)) == raw
    assert from_base64(unpadded(raw) + "=" * (-len(unpadded(raw)) % 4)) == raw
