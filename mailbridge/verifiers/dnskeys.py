"""
DKIM keys out of the DNS, by dnspython (the extra `[dkim]`), where an operator allows it.

A mail can make us ask, so what it can cost is bounded: in questions and seconds for one mail, in
answers kept, and, while nobody answers, in mails that wait for one.  What could not be asked is
`Unchecked`; an answer is as true as the resolver that gave it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from mailbridge.errors import Unchecked

if TYPE_CHECKING:
    from dns.resolver import Answer, Resolver

log = logging.getLogger("mailbridge.dkim")

SECONDS: Final = 3.0
"""What all questions for one mail may take together; a bridge has five to end in."""
QUESTIONS: Final = 3
"""For one mail; real ones need one, or two while a key is changed."""
FAILURES: Final = 2
"""So many questions in a row without an answer, and nobody is asked for a while."""
PAUSE: Final = 60.0
"""Seconds of that while; then one question tries."""

MIN_TTL: Final = 60
MAX_TTL: Final = 3600
"""Seconds that a key is believed, whatever its zone says; a revoked one no longer."""
MISSING_TTL: Final = 60
"""Seconds that a key is believed not to be there."""
KEPT: Final = 1_000
MAX_RECORD: Final = 4096
"""Bytes of one; a key of 4096 bits has 740."""

# What a UDP answer may have without fragments (DNS flag day 2020); larger ones come by TCP.
_PAYLOAD: Final = 1232


class _Known(NamedTuple):
    record: bytes | None
    until: float


class DnsKeys:
    """Who asks for keys, remembers them, and stops asking where nobody answers."""

    def __init__(
        self,
        *,
        resolver: Callable[[], Resolver] | None = None,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = SECONDS,
    ) -> None:
        self._resolver: Final = resolver or _system_resolver
        self._clock: Final = clock
        self._seconds = seconds
        self._known: Final[dict[str, _Known]] = {}
        self._failures = 0
        self._silent_until = 0.0

    def for_one_mail(self) -> Callable[[str], bytes | None]:
        """
        Return a function that gives the record of a name, SELECTOR._domainkey.DOMAIN, or None
        where it has none that is a key; for one mail, whose bounds it keeps.

        It raises `Unchecked` where nobody answers, or the mail has asked enough.
        """
        questions = 0
        end = time.monotonic() + self._seconds

        def record(name: str) -> bytes | None:
            nonlocal questions
            known = self._known.get(name)
            if known and known.until > self._clock():
                return known.record
            if questions == QUESTIONS:
                raise Unchecked(f"DNS: {name}: the mail names more than {QUESTIONS} keys")
            questions += 1
            return self._ask(name, end - time.monotonic())

        return record

    def _ask(self, name: str, seconds: float) -> bytes | None:
        import dns.exception  # noqa: PLC0415 - the extra is here
        import dns.resolver  # noqa: PLC0415

        now = self._clock()
        if now < self._silent_until:
            raise Unchecked(f"DNS: {name}: not asked: the last questions had no answer")
        if seconds <= 0:
            raise Unchecked(f"DNS: {name}: no time is left for this mail")
        try:
            answer = self._resolver().resolve(
                name, "TXT", lifetime=seconds, search=False, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return self._answered(name, None, MISSING_TTL)
        except (dns.exception.Timeout, OSError) as error:
            self._failed(now)
            raise Unchecked(f"DNS: {name}: no answer within {self._seconds:g} s") from error
        except dns.exception.DNSException as error:
            # An answer that is none costs no time: SERVFAIL, or a name that nobody can ask for.
            raise Unchecked(f"DNS: {name}: {type(error).__name__}") from error
        record = _key(answer)
        ttl = answer.chaining_result.minimum_ttl if record else MISSING_TTL
        return self._answered(name, record, min(max(ttl, MIN_TTL), MAX_TTL))

    def _answered(self, name: str, record: bytes | None, ttl: float) -> bytes | None:
        self._failures = 0
        self._known.pop(name, None)
        while len(self._known) >= KEPT:
            del self._known[next(iter(self._known))]
        self._known[name] = _Known(record, self._clock() + ttl)
        return record

    def _failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._silent_until = now + PAUSE
            log.warning("DNS does not answer: mails that need a key of it wait in quarantine")


def _key(answer: Answer) -> bytes | None:
    """Return the one DKIM record in *answer*; none if there are several: they contradict."""
    records = [b"".join(record.strings) for record in answer.rrset or ()]
    keys = [(record, _tags(record)) for record in records if len(record) <= MAX_RECORD]
    keys = [(record, tags) for record, tags in keys if b"p" in tags]
    if len(keys) != 1:
        return None
    ((record, tags),) = keys
    # RFC 6376, 3.6.1: a key under test proves nothing, and one may be for other services alone.
    if b"y" in tags.get(b"t", b"").split(b":"):
        return None
    if not {b"*", b"email"} & set(tags.get(b"s", b"*").split(b":")):
        return None
    return record


def _tags(record: bytes) -> dict[bytes, bytes]:
    pairs = (part.partition(b"=") for part in b"".join(record.split()).split(b";"))
    return {name: value for name, _, value in pairs}


def _system_resolver() -> Resolver:
    # Made for each question: what resolv.conf names may have changed since the start.
    import dns.resolver  # noqa: PLC0415 - the extra is here

    made = dns.resolver.Resolver()
    made.use_edns(0, 0, _PAYLOAD)
    return made
