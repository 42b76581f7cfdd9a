"""
The doctor: names what is wrong with a set-up, and the mend, in a line each.

It looks and changes nothing: databases are opened read-only, of the relay it asks what it would
answer to anybody.  Each check is a function that yields findings; one that cannot look says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mailbridge.doctor import hosts, maildirs, mails, relays, sources, states, units
from mailbridge.doctor.patient import Finding, Host, Patient
from mailbridge.errors import MailbridgeError

__all__ = ["CHECKS", "Finding", "Host", "Patient", "examined"]

Check = Callable[[Patient], Iterator[Finding]]

CHECKS: Final[tuple[Check, ...]] = (
    hosts.watchdog,
    hosts.inotify,
    hosts.disk,
    hosts.other_bridges,
    states.keys,
    states.outbox,
    states.journal,
    states.quarantine,
    states.clock,
    states.services,
    maildirs.places,
    maildirs.stranded,
    sources.words,
    sources.keyrings,
    sources.dkim,
    sources.silent,
    mails.lists,
    mails.authserv,
    mails.hops,
    mails.clock,
    mails.confirmations,
    units.shipped,
    relays.ports,
    relays.targets,
    relays.policy,
)


def examined(patient: Patient) -> Iterator[Finding]:
    """Yield what is wrong with *patient*, one finding for each thing that somebody has to mend."""
    for check in CHECKS:
        try:
            yield from check(patient)
        except (MailbridgeError, OSError) as error:
            what = f"{check.__name__} could not be looked at: {error}"
            yield Finding("not-looked-at", what, "run doctor as the service's user, or as root")
