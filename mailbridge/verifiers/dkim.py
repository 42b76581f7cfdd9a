"""
DKIM by dkimpy (the extra `[dkim]`), with keys that an operator keeps in files: no DNS.

A signature that leaves the end of the body open, or a header that stands twice and was signed
once, is none: the part that nobody signed is the part that would be read.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge.errors import ConfigError, Unchecked

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


class Signature(NamedTuple):
    """A DKIM signature that holds."""

    domain: str
    headers: frozenset[str]
    """The names of the headers that it covers, in lower case."""


class Dkim:
    """Somebody who can check the signatures of some domains."""

    def __init__(self, keys: Path, domains: Sequence[str], where: str) -> None:
        """*keys* holds files SELECTOR.DOMAIN.  Raises `ConfigError` as nothing can be checked."""
        self._keys: Final = keys
        self._domains: Final = tuple(domain.lower() for domain in domains)
        if not importlib.util.find_spec("dkim"):
            raise ConfigError(f"{where}: nobody here can check DKIM; install mailbridge[dkim]")
        if not keys.is_dir():
            raise ConfigError(f"{where}: {keys}: no directory; it holds files SELECTOR.DOMAIN")

    def check(self, raw: bytes) -> Signature | None:
        """Return the first good signature of *raw*, a whole mail, by one of the domains."""
        import dkim  # noqa: PLC0415 - the extra is here

        if not self._keys.is_dir():
            raise Unchecked(f"{self._keys}: the DKIM keys are gone")
        if len(raw) > MAX_MAIL:
            return None
        for index in range(MAX_SIGNATURES):
            try:
                verifier = dkim.DKIM(raw, logger=_SILENT, minkey=MIN_KEY)
                if verifier.verify_headerprep(index) is False:
                    return None
                domain = _text(verifier.domain)
                if domain in self._domains and self._holds(verifier, index):
                    return Signature(domain, frozenset(map(_text, verifier.include_headers)))
            except (dkim.DKIMException, ArithmeticError, LookupError, TypeError, ValueError):
                # It is none; the next may be one.
                continue
        return None

    def _holds(self, verifier: object, index: int) -> bool:
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
        return bool(verifier.verify(index, dnsfunc=self._key))

    def _key(self, name: bytes, timeout: float = 0) -> bytes | None:  # noqa: ARG002 - dkimpy's form
        """Return the record that DNS would have under *name*, SELECTOR._domainkey.DOMAIN."""
        selector, _, domain = _text(name).rstrip(".").partition("._domainkey.")
        if not _NAME.fullmatch(selector):
            return None
        try:
            told = (self._keys / f"{selector}.{domain}").read_text("ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Unchecked(f"{self._keys / f'{selector}.{domain}'}: cannot be read") from error
        # As it stands in a zone: in quoted pieces, or bare.
        return "".join(_QUOTED.findall(told) or told.split("\n")).strip().encode("ascii")


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip().lower()
