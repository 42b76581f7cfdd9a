"""
DKIM by dkimpy (the extra `[dkim]`), with keys that an operator keeps in files; of the DNS only
where a source allows it.

A signature that leaves the end of the body open, or a header that stands twice and was signed
once, is none: the part that nobody signed is the part that would be read.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge.errors import ConfigError, Unchecked
from mailbridge.verifiers.dnskeys import DnsKeys

MAX_SIGNATURES: Final = 5
MIN_KEY: Final = 1024
MAX_MAIL: Final = 512 * 1024
"""Nothing larger is looked at: dkimpy's time on blank lines goes by their square."""

_ALGORITHMS: Final = (b"rsa-sha256", b"ed25519-sha256")
# What dkimpy has to say of a stranger's header is no news to a log.
_SILENT: Final = logging.getLogger("dkimpy.silent")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,250}[a-z0-9])?")
_QUOTED: Final = re.compile(r'"([^"]*)"')


_Record = Callable[[str], bytes | None]


class Signature(NamedTuple):
    """A DKIM signature that holds."""

    domain: str
    headers: frozenset[str]
    """The names of the headers that it covers, in lower case."""


class Dkim:
    """Somebody who can check the signatures of some domains."""

    def __init__(
        self, keys: Path | None, domains: Sequence[str], where: str, *, dns: DnsKeys | None = None
    ) -> None:
        """
        *keys* holds files SELECTOR.DOMAIN; with *dns* what is not in it is asked for there.

        Raises `ConfigError` as nothing can be checked.
        """
        self._keys: Final = keys
        self._dns: Final = dns
        self._domains: Final = tuple(domain.lower() for domain in domains)
        if not all(map(importlib.util.find_spec, ("dkim", "dns") if dns else ("dkim",))):
            raise ConfigError(f"{where}: nobody here can check DKIM; install mailbridge[dkim]")
        if keys and not keys.is_dir():
            raise ConfigError(f"{where}: {keys}: no directory; it holds files SELECTOR.DOMAIN")

    def check(self, raw: bytes) -> Signature | None:
        """
        Return the first good signature of *raw*, a whole mail, by one of the domains.

        Raises `Unchecked` where none is, and the key of one could not be looked at.
        """
        import dkim  # noqa: PLC0415 - the extra is here

        if self._keys and not self._keys.is_dir():
            raise Unchecked(f"{self._keys}: the DKIM keys are gone")
        if len(raw) > MAX_MAIL:
            return None
        record = self._dns.for_one_mail() if self._dns else None
        doubt: Unchecked | None = None
        for index in range(MAX_SIGNATURES):
            try:
                verifier = dkim.DKIM(raw, logger=_SILENT, minkey=MIN_KEY)
                if verifier.verify_headerprep(index) is False:
                    break
                domain = _text(verifier.domain)
                if domain in self._domains and self._holds(verifier, index, record):
                    return Signature(domain, frozenset(map(_text, verifier.include_headers)))
            except (dkim.DKIMException, ArithmeticError, LookupError, TypeError, ValueError):
                # It is none; the next may be one.
                continue
            except Unchecked as error:
                doubt = error
        if doubt:
            raise doubt
        return None

    def _holds(self, verifier: object, index: int, record: _Record | None) -> bool:
        import dkim  # noqa: PLC0415 - as above

        if not isinstance(verifier, dkim.DKIM):
            return False
        fields = verifier.signature_fields
        if b"l" in fields or fields[b"a"].lower() not in _ALGORITHMS:
            return False
        signed = Counter(map(_text, verifier.include_headers))
        there = Counter(_text(name) for name, _ in verifier.headers)
        if "from" not in signed or any(there[name] > signed[name] for name in signed):
            return False

        def key(name: bytes, timeout: float = 0) -> bytes | None:  # noqa: ARG001 - dkimpy's form
            """Return the record of *name*, SELECTOR._domainkey.DOMAIN."""
            selector, _, domain = _text(name).rstrip(".").partition("._domainkey.")
            if not _NAME.fullmatch(selector) or domain not in self._domains:
                return None
            told = self._in_file(selector, domain)
            if told is None and record:
                return record(f"{selector}._domainkey.{domain}.")
            return told

        return bool(verifier.verify(index, dnsfunc=key))

    def _in_file(self, selector: str, domain: str) -> bytes | None:
        if self._keys is None:
            return None
        path = self._keys / f"{selector}.{domain}"
        try:
            told = path.read_text("ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Unchecked(f"{path}: cannot be read") from error
        # As it stands in a zone: in quoted pieces, or bare.
        return "".join(_QUOTED.findall(told) or told.split("\n")).strip().encode("ascii")


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip().lower()
