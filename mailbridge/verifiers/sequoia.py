"""
OpenPGP by pysequoia: 0.07 ms a check, its keyrings indexed once and read again when they change.

It says yes, or no without a reason.  The reason is looked for here, and none of them is a yes.  One
is too strict: an archive's keyring holds of each key the newest words about it alone, and pysequoia
finds none that is as old as an old upload.  Where gpgv is here too, it is asked about what was not
accepted; its clear yes or no counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pysequoia import Cert, Decrypted, Sig, verify
from pysequoia.packet import HashAlgorithm, Packet, PacketPile, SignatureType, Tag

from mailbridge.armor import SIGNATURE
from mailbridge.errors import MalformedMail, Unchecked
from mailbridge.proof import SignedBy
from mailbridge.verifiers import Checked, OpenPGP, bad, not_convincing, unknown_key
from mailbridge.verifiers.certs import certificates
from mailbridge.verifiers.files import Files

_STRONG: Final = (
    HashAlgorithm.SHA256,
    HashAlgorithm.SHA384,
    HashAlgorithm.SHA512,
    HashAlgorithm.SHA3_256,
    HashAlgorithm.SHA3_512,
)
_REVOCATIONS: Final = (SignatureType.KeyRevocation, SignatureType.SubkeyRevocation)
_BINDINGS: Final = (
    SignatureType.DirectKey,
    SignatureType.GenericCertification,
    SignatureType.PersonaCertification,
    SignatureType.CasualCertification,
    SignatureType.PositiveCertification,
    SignatureType.SubkeyBinding,
)

_V6: Final = 6
"""A key of this version has for its id the beginning of its fingerprint (RFC 9580, 5.5.4)."""

_Verify = Callable[[Sequence[Cert]], Decrypted]


class _Known(NamedTuple):
    """A certificate, and what its packets tell of its keys."""

    cert: Cert
    unrevoked: Cert | None
    """The same without its revocations, if it has any."""
    revoked: frozenset[str]
    """The fingerprints of the keys that are revoked."""
    expires: dict[str, datetime]
    """When a key expires, by its id, as the newest words about it say."""
    since: dict[str, datetime]
    """When the oldest of the words about a key were written."""


class Sequoia:
    """An `OpenPGP` verifier."""

    def __init__(self, files: Files, second: OpenPGP | None = None) -> None:
        """*second* is asked about what is not accepted."""
        self._files: Final = files
        self._second: Final = second
        self._certs: dict[str, list[bytes]] = {}
        self._parsed: dict[bytes, _Known | None] = {}

    def load(self, contents: Sequence[bytes]) -> None:
        """Take *contents* for what the files hold.  Raises `Unchecked` for what is no keyring."""
        found: dict[str, list[bytes]] = {}
        for path, content in zip(self._files.paths, contents, strict=True):
            try:
                for cert, ids in certificates(_binary(content)):
                    for key_id in ids:
                        found.setdefault(key_id, []).append(cert)
            except (MalformedMail, RuntimeError) as error:
                raise Unchecked(f"{path}: {str(error).partition(chr(10))[0]}") from error
        self._certs, self._parsed = found, {}

    def check(self, block: bytes) -> Checked:
        """Check one clearsigned *block*, with nothing around it.  Raises `Unchecked`."""
        start = block.find(b"\n" + SIGNATURE.encode())
        told = self._check(
            block[start + 1 :], lambda certs: verify(block, lambda _: list(certs)), None
        )
        if self._second and told.claim.status in ("bad", "none"):
            other = self._second.check(block)
            return other if other.claim.status in ("good", "bad") else told
        return told

    def check_detached(self, data: bytes, signature: bytes) -> Checked:
        """Check an armored *signature* of *data*.  Raises `Unchecked`."""

        def by(certs: Sequence[Cert]) -> Decrypted:
            return verify(data, lambda _: list(certs), signature=Sig.from_bytes(signature))

        told = self._check(signature, by, data)
        if self._second and told.claim.status in ("bad", "none"):
            other = self._second.check_detached(data, signature)
            return other if other.claim.status in ("good", "bad") else told
        return told

    def _check(self, armored: bytes, by: _Verify, data: bytes | None) -> Checked:
        if self._files.changed():
            self.load(self._files.read())
        signature = _signature(armored)
        if signature is None:
            return bad()
        key_id = (signature.issuer_fingerprint or signature.issuer_key_id or "")[-16:].lower()
        if signature.signature_version == _V6 and signature.issuer_fingerprint:
            key_id = signature.issuer_fingerprint[:16].lower()
        known = [one for cert in self._certs.get(key_id, ()) if (one := self._known(cert))]
        if not known:
            return not_convincing() if key_id in self._certs else unknown_key()
        told = _verified(by, [one.cert for one in known])
        revoked = frozenset[str]().union(*(one.revoked for one in known))
        if told is None:
            return _reason(signature, key_id, known, by, data)
        (sig,) = told.valid_sigs
        text = data if data is not None else told.bytes or b""
        # Whatever a key is revoked for, and since when: that is for a person to judge.
        status = "revoked" if revoked & {sig.certificate, sig.signing_key} else "good"
        return _fits(status, sig.certificate, text)

    def _known(self, raw: bytes) -> _Known | None:
        """Return the certificate in *raw*; None for one too weak to be believed."""
        if raw not in self._parsed:
            self._parsed[raw] = _parse(raw)
        return self._parsed[raw]


def _binary(content: bytes) -> bytes:
    if not content.startswith(b"-----BEGIN"):
        return content
    return b"".join(bytes(cert) for cert in Cert.split_bytes(content))


def _signature(armored: bytes) -> Packet | None:
    """Return the one signature in *armored*; None if there is none, or another beside it."""
    try:
        packets = list(PacketPile.from_bytes(armored))
    except RuntimeError:
        return None
    if [packet.tag for packet in packets] != [Tag.Signature]:
        return None
    # (Of a version that nobody knows yet it is a packet with nothing in it.)
    return packets[0] if packets[0].signature_version else None


def _verified(by: _Verify, certs: Sequence[Cert]) -> Decrypted | None:
    try:
        told = by(certs)
    except RuntimeError:
        return None
    return told if len(told.valid_sigs) == 1 else None


def _fits(status: str, fingerprint: str, text: bytes) -> Checked:
    claim = SignedBy(
        how="openpgp",
        status="revoked" if status == "revoked" else "good",
        fingerprint=fingerprint.upper(),
    )
    return Checked(claim, text)


def _reason(
    signature: Packet, key_id: str, known: Sequence[_Known], by: _Verify, data: bytes | None
) -> Checked:
    """Return why a signature by one of *known* was not accepted."""
    if signature.hash_algorithm not in _STRONG:
        return not_convincing()
    unrevoked = [one.unrevoked for one in known if one.unrevoked]
    if unrevoked and (told := _verified(by, unrevoked)):
        text = data if data is not None else told.bytes or b""
        return _fits("revoked", told.valid_sigs[0].certificate, text)
    created = signature.signature_created
    expired = [one for one in known if created and created >= one.expires.get(key_id, _NEVER)]
    until = signature.signature_expiration_time
    if expired or (until and until <= datetime.now(UTC)):
        # No fingerprint: that it fits at all was not looked at.
        return Checked(SignedBy(how="openpgp", status="expired"))
    if created and any(created < one.since.get(key_id, created) for one in known):
        return not_convincing()
    return bad()


_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def _parse(raw: bytes) -> _Known | None:
    try:
        packets = list(PacketPile.from_bytes(raw))
        cert = Cert.from_bytes(raw)
        # Raises for one whose own signatures are of an age that nobody believes any more.
        cert.expiration  # noqa: B018
        kept = [packet for packet in packets if packet.signature_type not in _REVOCATIONS]
        unrevoked = Cert.from_packets(kept) if len(kept) < len(packets) else None
    except RuntimeError:
        return None
    return _Known(cert, unrevoked, _revoked(packets, cert), *_validity(packets))


def _revoked(packets: Sequence[Packet], cert: Cert) -> frozenset[str]:
    found = {cert.fingerprint} if cert.is_revoked else set()
    key = ""
    for packet in packets:
        if packet.tag in (Tag.PublicKey, Tag.PublicSubkey):
            key = packet.fingerprint or ""
        elif packet.signature_type == SignatureType.SubkeyRevocation:
            found.add(key)
    return frozenset(found)


def _validity(packets: Sequence[Packet]) -> tuple[dict[str, datetime], dict[str, datetime]]:
    """Return when each key expires, by its newest binding; and when its oldest was made."""
    newest: dict[str, tuple[datetime, datetime]] = {}
    since: dict[str, datetime] = {}
    key = primary = packets[0]
    for packet in packets:
        if packet.tag in (Tag.PublicKey, Tag.PublicSubkey):
            key = packet
        bound = packet.signature_created
        if packet.signature_type not in _BINDINGS or bound is None or key.key_created is None:
            continue
        if packet.issuer_key_id not in (primary.key_id, None):
            continue  # somebody else's, about a name
        told = packet.key_validity_period
        until = key.key_created + told if told else _NEVER
        key_id = (key.key_id or "").lower()
        if key_id not in newest or bound >= newest[key_id][0]:
            newest[key_id] = (bound, until)
        since[key_id] = min(bound, since.get(key_id, bound))
    first = (primary.key_id or "").lower()
    end, begin = newest.get(first, (_NEVER, _NEVER))[1], since.get(first, _LONG_AGO)
    return (
        {key_id: min(until, end) for key_id, (_, until) in newest.items()},
        {key_id: max(bound, begin) for key_id, bound in since.items()},
    )
