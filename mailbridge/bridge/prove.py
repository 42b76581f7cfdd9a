"""
What backs a mail: the strongest claim that holds, and nothing that it says beyond what it covers.

A signature proves the bytes under it.  So a claim counts only if the mail would say the same news
without all that the claim leaves open: headers outside a DKIM signature, any header where the
archive signed the body alone, text that the .changes' signature does not cover.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mailbridge import armor, kinds, pgpmime, trace
from mailbridge.config import Source
from mailbridge.family import Family
from mailbridge.mail import Mail, read_mail
from mailbridge.mime import decoded
from mailbridge.payloads import Event, PackageUploadAccepted
from mailbridge.proof import UNCHECKED, Provenance, SentBy, SignedBy
from mailbridge.verifiers import OpenPGP

if TYPE_CHECKING:
    # Where no source names keys, nobody has to load what checks signatures.
    from mailbridge.verifiers.dkim import Dkim
    from mailbridge.verifiers.dnskeys import DnsKeys

_MARKERS: Final = frozenset(("x-dak", "x-katie", "x-debian", "x-laniakea-event"))
"""Headers that say whose a mail is and nothing that its subject need not say too; nobody signs
them."""


class _Means(NamedTuple):
    keyrings: OpenPGP | None
    archive: OpenPGP | None
    dkim: Dkim | None


_NONE: Final = _Means(None, None, None)


def stated(source: Source) -> Provenance:
    """Return what backs any mail of *source*: what its operator states."""
    # Whoever gets here has passed the source's List-Ids, if it has any.
    if source.require == "channel":
        return Provenance(sent_by=SentBy(how="channel", who=source.name), signed_by=UNCHECKED)
    return Provenance(sent_by=SentBy(how="none"), signed_by=UNCHECKED)


class Prover:
    """The keyrings and keys that some sources name, ready to be asked."""

    def __init__(self, sources: Iterable[Source] = (), *, dns: DnsKeys | None = None) -> None:
        """
        Read what *sources* name.  Raises `ConfigError` as something of it is missing.

        Sources that allow it ask *dns* for keys: whoever this host's resolv.conf names.
        """
        sources = tuple(sources)
        if dns is None and any(source.dkim_dns for source in sources):
            from mailbridge.verifiers.dnskeys import DnsKeys  # noqa: PLC0415 - see above

            dns = DnsKeys()
        self._means: Final = {source.name: _means(source, dns) for source in sources}

    def prove(
        self, mail: Mail, source: Source, site: kinds.Site, found: kinds.Outcome
    ) -> Provenance:
        """
        Return both claims about *mail*, in which *found* was recognised.

        Raises `Unchecked` for what could not be looked at, `MalformedMail` for an armor cut off.
        """
        means = self._means.get(source.name, _NONE)
        claims = (
            # (A rule reads headers, and none is under that signature.)
            _archive(None if found.family == Family.SITE else means.archive, mail, found.events),
            _dkim(means.dkim, mail, site, found),
            _authres(source, mail, site, found),
            _hop(source, mail),
        )
        return Provenance(
            sent_by=next((claim for claim in claims if claim), stated(source).sent_by),
            signed_by=_signed_by(means.keyrings, mail, found.events),
        )


def _means(source: Source, dns: DnsKeys | None) -> _Means:
    if not (source.keyrings or source.archive_keyring or source.dkim_keys or source.dkim_dns):
        return _NONE
    from mailbridge.verifiers.dkim import Dkim  # noqa: PLC0415 - see above
    from mailbridge.verifiers.openpgp import openpgp  # noqa: PLC0415

    where = f"source {source.name!r}"
    dkim = None
    if source.dkim_keys or source.dkim_dns:
        keys = Path(source.dkim_keys).expanduser() if source.dkim_keys else None
        key = "dkim_keys" if keys else "dkim_dns"
        allowed = dns if source.dkim_dns else None
        dkim = Dkim(keys, source.dkim_domains, f"{where}: {key}", dns=allowed)
    return _Means(
        openpgp(source.keyrings, f"{where}: keyrings") if source.keyrings else None,
        openpgp([source.archive_keyring], f"{where}: archive_keyring")
        if source.archive_keyring
        else None,
        dkim,
    )


# -- who signed what is inside -----------------------------------------------------------------


def _signed_by(keyrings: OpenPGP | None, mail: Mail, events: Sequence[Event]) -> SignedBy:
    texts = {event.signed for event in events if event.signed is not None}
    if keyrings is None or not texts:
        return UNCHECKED
    claims = [_signature_of(text, mail, keyrings) for text in texts]
    return next((claim for claim in claims if claim.status != "good"), claims[0])


def _signature_of(text: str, mail: Mail, keyrings: OpenPGP) -> SignedBy:
    """Return who signed *text*, which a kind read from an armor in *mail*."""
    for content, charset in mail.contents:
        block = armor.block(content)
        if block is None:
            continue
        lines = armor.signed_lines(_lines(block, charset)) or []
        if armor.plain(lines) != text:
            continue
        claim, signed = keyrings.check(block)
        fits = armor.plain(_lines(signed, charset)) == text
        if claim.status in ("good", "expired", "revoked") and signed and not fits:
            # What was verified is not what we read: one of us is being led astray.
            return SignedBy(how="openpgp", status="bad")
        return claim
    return SignedBy(how="openpgp", status="bad")


def _lines(data: bytes, charset: str | None) -> list[str]:
    return decoded(data, charset).replace("\r\n", "\n").split("\n")


# -- who sent it -------------------------------------------------------------------------------


def _archive(archive: OpenPGP | None, mail: Mail, events: Sequence[Event]) -> SentBy | None:
    """
    The archive signed the body.  No header is under that signature, the subject is not: so it backs
    an upload that went where its own .changes asks, and no more.
    """
    signed = pgpmime.signed_part(mail) if archive else None
    if archive is None or signed is None:
        return None
    claim = archive.check_detached(signed.data, signed.signature).claim
    if claim.status != "good" or read_mail(signed.data).text != mail.text:
        return None
    if not all(_is_as_asked(event) for event in events):
        return None
    return SentBy(how="archive-signature", who=claim.fingerprint)


def _is_as_asked(event: Event) -> bool:
    told = event.payload
    if not isinstance(told, PackageUploadAccepted) or not told.source_name:
        return False
    named = told.upload_name.startswith(f"{told.source_name}_")
    return named and set(told.suites or ()) == set((told.distribution or "").split())


def _dkim(dkim: Dkim | None, mail: Mail, site: kinds.Site, found: kinds.Outcome) -> SentBy | None:
    signature = dkim.check(mail.raw) if dkim else None
    if signature is None or not _is_all_in(signature.headers, mail, site, found):
        return None
    return SentBy(how="dkim", who=signature.domain)


def _authres(source: Source, mail: Mail, site: kinds.Site, found: kinds.Outcome) -> SentBy | None:
    if not source.authserv_id:
        return None
    came = mail.outer or mail
    domain = trace.passed(trace.dkim_results(came.fields, source.authserv_id), source.dkim_domains)
    if domain is None:
        return None
    # Our server says that a signature holds; what it covers stands in the signature alone.
    covered = list(_covered(came, domain))
    headers = frozenset.intersection(*covered) if covered else frozenset(mail.names)
    # (A mail that a list wrapped stands in the body, which a signature covers or is none.)
    if not headers or (mail.outer is None and not _is_all_in(headers, mail, site, found)):
        return None
    return SentBy(how="authres", who=domain)


def _hop(source: Source, mail: Mail) -> SentBy | None:
    client = trace.client((mail.outer or mail).fields)
    if client is None or client not in [name.lower() for name in source.hops]:
        return None
    return SentBy(how="hop", who=client)


def _covered(mail: Mail, domain: str) -> Iterator[frozenset[str]]:
    """Yield what each DKIM signature of *domain* covers: nothing, if part of the body is open."""
    there = Counter(name.lower() for name, _ in mail.fields)
    for value in mail.headers("DKIM-Signature"):
        pairs = (part.partition("=") for part in re.sub(r"\s", "", value).split(";"))
        tags = {key: told.lower() for key, _, told in pairs}
        if tags.get("d") == domain:
            signed = Counter(tags.get("h", "").split(":"))
            once = {name for name, times in signed.items() if there[name] <= times}
            yield frozenset() if "l" in tags else frozenset(once)


def _is_all_in(headers: frozenset[str], mail: Mail, site: kinds.Site, found: kinds.Outcome) -> bool:
    """Say whether *mail* is what was *found* by its body and these *headers* alone."""
    kept = headers | _MARKERS
    fields = [(name, value) for name, value in mail.fields if name.lower() in kept]
    told = kinds.recognise(Mail(mail.raw, fields, mail.body, outer=mail.outer), site)
    return (told.archive, told.events) == (found.archive, found.events)
