"""Provenance: what backs an event, as two claims that the bridge signs (design.md, Provenance)."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

How = Literal["archive-signature", "dkim", "authres", "hop", "channel", "none"]

STRENGTH: Final[tuple[How, ...]] = (
    "none",
    "channel",
    "hop",
    "authres",
    "dkim",
    "archive-signature",
)
"""How we can know who sent a mail, from weak to strong."""


class SentBy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Did the archive or tracker send this mail, and how is it known?"""

    how: How
    who: str | None = None


class SignedBy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who signed the .changes inside: who prepared the upload, never that it was accepted."""

    how: Literal["openpgp", "none"]
    status: Literal["good", "bad", "expired", "revoked", "unknown-key", "none"]
    fingerprint: str | None = None


class Backing(NamedTuple):
    """How strong two claims are, whoever they name."""

    how: How = "none"
    """How it is known who sent the mail."""
    is_signed: bool = False
    """The signature inside is good."""

    def exceeds(self, other: Backing) -> bool:
        """
        Say whether this tells more than *other* in either claim.

        >>> Backing("dkim").exceeds(Backing("channel", True))
        True
        """
        return self.joined(other) != other

    def joined(self, other: Backing) -> Backing:
        """Return the stronger of both in each claim."""
        how = self.how if reaches(self.how, other.how) else other.how
        return Backing(how, self.is_signed or other.is_signed)


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """The two claims, as `data.provenance` carries them."""

    sent_by: SentBy
    signed_by: SignedBy

    @property
    def backing(self) -> Backing:
        """How strong they are."""
        return Backing(self.sent_by.how, self.signed_by.status == "good")


UNCHECKED: Final = SignedBy(how="none", status="none")
"""Nobody looked at a signature inside, or there is none."""


def reaches(how: How, required: How) -> bool:
    """
    Say whether *how* is as strong as *required*, or stronger.

    >>> reaches("channel", "none"), reaches("channel", "dkim")
    (True, False)
    """
    return STRENGTH.index(how) >= STRENGTH.index(required)
