"""What the mails that came lately say of the settings: names that never occur, lists unseen."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from mailbridge import trace
from mailbridge.config import Source
from mailbridge.doctor.patient import Finding, Patient, Recent
from mailbridge.doctor.states import asked
from mailbridge.sinks.show import safe

FEW: Final = 3
"""So many mails say something; one may be an accident."""

BEHIND: Final = 600.0
"""Seconds by which mails arrive before they were written, where our clock is behind."""

FRESH: Final = 7 * 86400.0
"""A confirmation that was not answered for so long has no effect any more."""

_SHOWN: Final = 3

# Mailman, Sympa, ezmlm, majordomo, smartlist.
_CONFIRM: Final = re.compile(
    r"(?i)\s*+(?:re: *+)?(?:confirm [0-9a-f]{16,}|.*\bconfirm (?:un)?subscribe\b"
    r"|.*\byour confirmation is (?:required|needed)\b|.*\bconfirmation (?:for|of) (?:un)?subscri"
    r"|auth [0-9a-z]+ (?:un)?subscribe\b|confirm [a-z]?[0-9]{6,}\b)"
)


def lists(patient: Patient) -> Iterator[Finding]:
    """The lists that a source names are those that reach it."""
    for place in patient.watched:
        seen = Counter(
            one.mail.list_id for one in patient.recent[place.path] if one.mail.list_id is not None
        )
        for source in place.sources:
            named = {name.lower() for name in source.lists}
            if source.maildir and named and seen and not named & set(seen):
                told = ", ".join(safe(name or "") for name, _ in seen.most_common(_SHOWN))
                what = (
                    f"source {source.name!r}: no mail of {', '.join(sorted(named))} in {place.path}"
                )
                yield Finding(
                    "list-unseen", f"{what}; what comes is of {told}", "write that into its lists"
                )
    yield from _other_lists(patient)


def _other_lists(patient: Patient) -> Iterator[Finding]:
    """The same of mail that is gone: what the outbox remembers of it."""
    by_source: dict[str, set[str]] = {}
    for source, code in asked(patient, "SELECT source, code FROM count WHERE n > 0"):
        by_source.setdefault(source, set()).add(code)
    gone = {str(place.path) for place in patient.watched if not patient.recent[place.path]}
    for source in patient.config.source:
        lies = source.maildir is None or source.maildir in gone
        if by_source.get(source.name) == {"other-list"} and lies:
            sql = "SELECT reason FROM mail WHERE code = 'other-list' ORDER BY taken DESC LIMIT 1"
            reason = next((str(row[0]) for row in asked(patient, sql)), "")
            what = f"source {source.name!r}: none of its mail was of its lists: {safe(reason)}"
            yield Finding("list-unseen", what, "write the List-Id that comes into its lists")


def authserv(patient: Patient) -> Iterator[Finding]:
    """Our mail server calls itself what a source says."""
    for source, mails in _by_source(patient):
        if not source.authserv_id or len(mails) < FEW:
            continue
        found = Counter(name for one in mails for name in _servers(one))
        if source.authserv_id.lower() not in found:
            names = ", ".join(safe(name) for name, _ in found.most_common(_SHOWN))
            what = f"source {source.name!r}: no mail has Authentication-Results of"
            what += f" {source.authserv_id!r} above our Received"
            told = f"what is there is of {names}" if names else "there are none at all"
            mend = "set authserv_id to your mail server's own" if names else _NO_RESULTS
            yield Finding("authserv-id", f"{what}; {told}", mend)


_NO_RESULTS: Final = "let the mail server check DKIM (opendkim, rspamd) and write them"


def hops(patient: Patient) -> Iterator[Finding]:
    """Mail is handed over by the hosts that a source names."""
    for source, mails in _by_source(patient):
        if not source.hops or len(mails) < FEW:
            continue
        found = Counter(_client(one) for one in mails)
        if not {name.lower() for name in source.hops} & set(found):
            names = ", ".join(safe(name) for name, _ in found.most_common(_SHOWN))
            what = f"source {source.name!r}: no mail was handed over by {', '.join(source.hops)}"
            mend = "name the host whose name our server verified, in its topmost Received"
            yield Finding("hops", f"{what}; it came from {names}", mend)


def clock(patient: Patient) -> Iterator[Finding]:
    """Mail does not arrive before it was written."""
    ahead = [
        one.mail.date.timestamp() - one.modified
        for mails in patient.recent.values()
        for one in mails
        if one.mail.date
    ]
    if len(ahead) >= FEW and (by := statistics.median(ahead)) > BEHIND:
        what = f"mails arrive {by / 60:.0f} minutes before they were written: this host's clock"
        mend = "let it be set by NTP: timedatectl set-ntp true"
        yield Finding("clock", f"{what} is behind", mend)


def confirmations(patient: Patient) -> Iterator[Finding]:
    """No list waits for an answer."""
    for place in patient.watched:
        waiting = [
            one
            for one in patient.recent[place.path]
            if one.modified > patient.now.timestamp() - FRESH
            and _CONFIRM.match(one.mail.subject)
            and not _is_answered(one)
        ]
        for one in waiting[:_SHOWN]:
            whom = one.mail.header("Reply-To") or one.mail.header("From") or "its sender"
            what = f"a list waits for an answer: {safe(one.mail.subject[:200])!r} in {one.path}"
            mend = f"reply to {safe(whom[:200])}, subject unchanged, or open the link in it"
            yield Finding("confirmation", what, mend)


def _is_answered(one: Recent) -> bool:
    flags = one.path.name.rpartition(":2,")[2] if ":2," in one.path.name else ""
    return "R" in flags or "T" in flags


def _by_source(patient: Patient) -> Iterator[tuple[Source, list[Recent]]]:
    for place in patient.watched:
        for source in place.sources:
            named = {name.lower() for name in source.lists}
            mails = patient.recent[place.path]
            yield source, [one for one in mails if not named or one.mail.list_id in named]


def _servers(one: Recent) -> Iterable[str]:
    """Return who wrote Authentication-Results above our own Received."""
    for name, value in (one.mail.outer or one.mail).fields:
        if name.lower() == "received":
            return
        if name.lower() == "authentication-results" and value.strip():
            yield value.partition(";")[0].split()[0].lower()


def _client(one: Recent) -> str:
    return trace.client((one.mail.outer or one.mail).fields) or "a host without a verified name"
