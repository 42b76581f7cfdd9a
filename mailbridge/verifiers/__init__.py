"""
Who signed something: OpenPGP and DKIM, checked with what an operator keeps in files.

Fail closed: what cannot be looked at (a keyring that is gone, a program that hangs) raises
`Unchecked` and is never an answer.  Each library is imported when it is used.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mailbridge.proof import SignedBy


class Checked(NamedTuple):
    """What an OpenPGP verifier says of one signature, and the very bytes it says it of."""

    claim: SignedBy
    text: bytes = b""
    """What was signed, as the verifier read it; empty where the signature does not fit."""


class OpenPGP(Protocol):
    """A set of keyrings, and somebody who can check a signature against them."""

    def check(self, block: bytes) -> Checked:
        """Check one clearsigned *block*, with nothing around it.  Raises `Unchecked`."""

    def check_detached(self, data: bytes, signature: bytes) -> Checked:
        """Check an armored *signature* of *data*.  Raises `Unchecked`."""


def bad() -> Checked:
    """A signature that does not fit, or is none."""
    return Checked(SignedBy(how="openpgp", status="bad"))


def unknown_key() -> Checked:
    """Whether it fits nobody can say: its key is in no keyring."""
    return Checked(SignedBy(how="openpgp", status="unknown-key"))


def not_convincing() -> Checked:
    """It may fit and proves nothing: a digest or a key of another age."""
    return Checked(SignedBy(how="openpgp", status="none"))
