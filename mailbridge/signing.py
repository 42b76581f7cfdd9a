"""
Signatures: ed25519 over an event's canonical bytes, as Laniakea writes them (wire.md, Signing).

Pure: keys come in as values; `keyring` reads and writes their files.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

from msgspec import Raw, json, structs

from mailbridge.abreast import abreast
from mailbridge.errors import BadSignature, MalformedEvent, NotPermitted, UnknownOrigin
from mailbridge.event import SignedEvent, VerifiedEvent, canonical, digest, preimage

# Today's Lighthouse and Mirk look a signature up under exactly this name.
KEY_ID: Final = "ed25519:0"

# Takes a canonical object apart, and puts it together again, without touching its values.
_PARTS: Final = json.Decoder(dict[str, Raw])
_SORTED: Final = json.Encoder(order="sorted")

_ENTITY: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


def is_entity(text: str) -> bool:
    """Say whether *text* can be an entity's name: what signs, and the stem of its key files."""
    return _ENTITY.fullmatch(text) is not None and not text.startswith(".")


def unpadded(raw: bytes) -> str:
    """Return *raw* as base64 without `=`."""
    return base64.b64encode(raw).rstrip(b"=").decode()


def from_base64(text: str) -> bytes:
    """
    Return the bytes of *text*, base64 with or without padding.

    Raises `ValueError` for anything else.
    """
    bare = text.rstrip("=")
    return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)


class Last(NamedTuple):
    """The newest event that is still believed of a key that was revoked; number 0: none is."""

    feed: str
    seq: int
    hash: str

    def covers(self, event: SignedEvent) -> bool:
        """
        Say whether *event* stands at or before it.

        Epochs are UTC times, so a feed with a smaller id came before.  What a thief makes with a
        number that was given long ago is a fork, which the feed itself shows.
        """
        link = event.feed
        if link is None or not self.seq:
            return False
        if link.id != self.feed:
            return link.id < self.feed
        return link.seq < self.seq or (link.seq == self.seq and event.hash == self.hash)


class VerifyKey:
    """The public key of an entity; one that was *revoked* is believed no further than told."""

    __slots__ = ("_point", "entity", "revoked")

    def __init__(self, entity: str, raw: bytes, *, revoked: Last | None = None) -> None:
        if not is_entity(entity):
            raise NotPermitted(f"{entity[:80]!r} is no entity's name: letters, digits, . _ -")
        if len(raw) != _KEY_BYTES:
            raise NotPermitted(f"key of {entity}: {len(raw)} bytes, an ed25519 key has 32")
        self.entity: Final = entity
        self.revoked: Final = revoked
        # (Many a command starts and sees no key: it need not load a library for them.)
        from nacl.signing import VerifyKey as Point  # noqa: PLC0415

        self._point: Final = Point(raw)

    def __bytes__(self) -> bytes:
        return bytes(self._point)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, VerifyKey)
            and self.entity == other.entity
            and bytes(self) == bytes(other)
        )

    def __hash__(self) -> int:
        return hash((self.entity, bytes(self)))

    def __repr__(self) -> str:
        return f"VerifyKey({self.entity} {self.fingerprint})"

    @property
    def base64(self) -> str:
        """The key as key files write it."""
        return unpadded(bytes(self))

    @property
    def fingerprint(self) -> str:
        """What people compare: `SHA256:` and unpadded base64, as ssh shows it."""
        return "SHA256:" + unpadded(hashlib.sha256(bytes(self)).digest())

    def check(self, signed: bytes, signature: str) -> None:
        """Return if *signature* (base64) is this key's over *signed*; else raise `BadSignature`."""
        from nacl.exceptions import BadSignatureError  # noqa: PLC0415 - loaded by now

        try:
            raw = from_base64(signature)
            if len(raw) != _SIGNATURE_BYTES:
                raise ValueError("not 64 bytes")
            self._point.verify(signed, raw)
        except (BadSignatureError, ValueError) as error:
            raise BadSignature(f"signature of {self.entity} does not fit the bytes") from error


class SigningKey:
    """The secret key of an entity.  Its repr shows the name alone."""

    __slots__ = ("_seed", "entity", "verify_key")

    def __init__(self, entity: str, seed: bytes) -> None:
        if len(seed) != _KEY_BYTES:
            raise NotPermitted(f"secret key of {entity[:80]!r}: an ed25519 seed has 32 bytes")
        from nacl.signing import SigningKey as Seed  # noqa: PLC0415 - as above

        self._seed: Final = Seed(seed)
        self.entity: Final = entity
        self.verify_key: Final = VerifyKey(entity, bytes(self._seed.verify_key))

    @classmethod
    def generate(cls, entity: str) -> SigningKey:
        """Return a new key for *entity*, from the system's randomness."""
        from nacl.signing import SigningKey as Seed  # noqa: PLC0415 - as above

        return cls(entity, bytes(Seed.generate()))

    def __repr__(self) -> str:
        return f"SigningKey({self.entity})"

    @property
    def seed_base64(self) -> str:
        """The secret, as the secret key file holds it."""
        return unpadded(bytes(self._seed))

    def sign(self, signed: bytes) -> str:
        """Return the signature over *signed*, unpadded base64.  The same bytes give the same."""
        return unpadded(self._seed.sign(signed).signature)


def sign_fields(fields: Mapping[str, Any], key: SigningKey) -> tuple[bytes, str]:
    """
    Return (the canonical JSON of *fields* with the signature of *key* added, the event's hash).

    Signatures that are there already stay: this is how a relay adds its own.

    Raises `NotCanonical`.
    """
    signed = preimage(fields)
    signatures = {**fields.get("signatures", {}), key.entity: {KEY_ID: key.sign(signed)}}
    if "unsigned" in fields:
        return canonical({**fields, "signatures": signatures}), digest(signed)
    # What is signed is not written a second time: the signatures go in between.
    parts = _PARTS.decode(signed)
    parts["signatures"] = Raw(canonical(signatures))
    return _SORTED.encode(parts), digest(signed)


class Proved(NamedTuple):
    """A signature that was found to be of this key, over bytes with this hash."""

    hash: str
    signature: str
    key: bytes


UNPROVED: Final[AbstractSet[Proved]] = frozenset()


def proved(events: Sequence[SignedEvent], trusted: Mapping[str, VerifyKey]) -> AbstractSet[Proved]:
    """
    Return the signatures of *events* by somebody *trusted* that fit.

    For `verify`, which need not look at these again.  What does not fit it has to find itself.
    """
    asked = [
        (event, trusted[entity], by_key[KEY_ID])
        for event in events
        # (Of what was taken away the hash is not that of the bytes that were signed.)
        if event.redacted is None
        for entity, by_key in event.signatures.items()
        if entity in trusted and KEY_ID in by_key
    ]
    found = abreast(_proved, asked)
    return {fit for fit in found if fit is not None}


def _proved(asked: tuple[SignedEvent, VerifyKey, str]) -> Proved | None:
    event, key, signature = asked
    try:
        key.check(event.preimage, signature)
    except BadSignature:
        return None
    return Proved(event.hash, signature, bytes(key))


def verify(
    event: SignedEvent, trusted: Mapping[str, VerifyKey], *, known: AbstractSet[Proved] = UNPROVED
) -> VerifiedEvent:
    """
    Vouch that somebody *trusted* signed *event*; where it has a feed, the feed's own entity.

    Signatures that are *known* to fit are not checked again.

    A relay adds its own signature, so signatures of strangers are fine as long as one origin is
    known.  A bad signature by a known origin is always fatal.

    Raises `UnknownOrigin` or `BadSignature`.
    """
    signers = [entity for entity in event.signatures if entity in trusted]
    past = [e for e in signers if (last := trusted[e].revoked) and not last.covers(event)]
    for entity in signers:
        signature = event.signatures[entity].get(KEY_ID)
        if signature is None:
            raise BadSignature(f"{entity} signed {event.uuid} with a key version other than 0")
        key = trusted[entity]
        if event.redacted or not known or Proved(event.hash, signature, bytes(key)) not in known:
            key.check(event.preimage, signature)
    # (A feed counts only if its entity signed: else any trusted key could write another's feed.)
    owner = event.feed.entity if event.feed else None
    signers = [entity for entity in signers if entity not in past]
    if past and (not signers or owner in past):
        raise UnknownOrigin(
            f"the key of {past[0]} was revoked, and {event.uuid} came after the last of its events"
            " that is believed"
        )
    if not signers or (owner is not None and owner not in signers):
        everybody = ", ".join(sorted(event.signatures))[:200] or "nobody"
        raise UnknownOrigin(
            f"no key for {owner or everybody}, who signed {event.uuid};"
            " 'mailbridge key trust FILE' adds one"
        )
    return VerifiedEvent(**structs.asdict(event))


def sign_note(fields: Mapping[str, Any], key: SigningKey) -> bytes:
    """Return *fields*, which are no event (a head), as canonical JSON signed by *key*."""
    return sign_fields(fields, key)[0]


def check_note(fields: Mapping[str, Any], trusted: Mapping[str, VerifyKey], entity: str) -> None:
    """
    Return if *entity*, one of the *trusted*, signed *fields* (a head; wire.md, The feed).

    Raises `UnknownOrigin`, `BadSignature` or `MalformedEvent`.
    """
    if entity not in trusted:
        raise UnknownOrigin(f"no key for {entity[:80]}; 'mailbridge key trust FILE' adds one")
    if trusted[entity].revoked:
        raise UnknownOrigin(f"the key of {entity[:80]} was revoked: nothing newer is believed")
    signatures = fields.get("signatures")
    by_key = signatures.get(entity) if isinstance(signatures, dict) else None
    signature = by_key.get(KEY_ID) if isinstance(by_key, dict) else None
    if not isinstance(signature, str):
        raise MalformedEvent(f"{entity[:80]} did not sign it")
    trusted[entity].check(preimage(fields), signature)
