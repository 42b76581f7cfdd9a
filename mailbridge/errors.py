"""Everything that is raised on purpose, and the exit status each stands for (sysexits.h)."""

from __future__ import annotations

import errno


class MailbridgeError(Exception):
    """
    Base of all: its text is one line for the person at the terminal: what, where, what next.

    `exit_status` is what a command ends with when nobody handles it.
    """

    exit_status = 70


class UsageError(MailbridgeError):
    """Raised when a command was called with words that do not fit together."""

    exit_status = 2


class BadInput(MailbridgeError):
    """Raised when a mail, an event or a proof is bad for good: trying again cannot help."""

    exit_status = 65


class MalformedMail(BadInput):
    """Raised when bytes are no mail we dare to parse, or one that should be understood is not."""


class MalformedEvent(BadInput):
    """Raised when bytes are not an event as wire.md describes it."""


class NotCanonical(BadInput):
    """Raised when a value has no canonical JSON: NaN, a lone surrogate, too deep."""


class UnknownOrigin(MailbridgeError):
    """Raised when nobody we trust signed an event."""

    exit_status = 77


class BadSignature(BadInput):
    """Raised when a signature by an entity we know does not fit the bytes."""


class BadProof(BadInput):
    """Raised when a feed does not prove what it should: a gap, a fork, a wrong link."""


class NotPermitted(MailbridgeError):
    """Raised when a key, a file or a socket may not be used by us or by the peer."""

    exit_status = 77


class RelayGone(MailbridgeError):
    """Raised when a relay is gone for good, or says that it cannot serve us."""

    exit_status = 69


class StorageFailed(MailbridgeError):
    """Raised when a disk does not take or give what it should: full, broken, read-only."""

    exit_status = 74


_PASSING = frozenset(
    (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)


def not_done(what: str, error: OSError) -> StorageFailed | NeedsOperator:
    """
    Return *error* as one of ours, *what* being what could not be done.

    A full or broken disk, or no descriptors left, may pass, and must keep no service from being
    restarted; anything else (no permission, no such file) only a person can mend.
    """
    wrong = StorageFailed if error.errno in _PASSING else NeedsOperator
    return wrong(f"{what}: {error.strerror}")


class TryAgain(MailbridgeError):
    """Raised when the same call may go through later: a port in use, a relay not there yet."""

    exit_status = 75


class ToldToEnd(TryAgain):
    """Raised when what was waited for may still come, but we were told to end: that went well."""

    exit_status = 0


class Unchecked(TryAgain):
    """Raised when nobody could look at a signature: a keyring is gone, a verifier hangs."""


class NeedsOperator(MailbridgeError):
    """Raised when configuration or state is such that only a person can mend it."""

    exit_status = 78


class ConfigError(NeedsOperator):
    """Raised when the configuration is wrong; the text names file, key and the mend."""
