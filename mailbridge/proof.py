"""Provenance: what backs an event, as two claims that the bridge signs (design.md, Provenance)."""

from __future__ import annotations

from typing import Final, Literal

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


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """The two claims, as `data.provenance` carries them."""

    sent_by: SentBy
    signed_by: SignedBy


UNCHECKED: Final = SignedBy(how="none", status="none")
"""Nobody looked at a signature inside, or there is none."""


def reaches(how: How, required: How) -> bool:
    """
    Say whether *how* is as strong as *required*, or stronger.

    >>> reaches("channel", "none"), reaches("channel", "dkim")
    (True, False)
    """
    return STRENGTH.index(how) >= STRENGTH.index(required)
