"""What a bridge sends to: a relay of ours or a Lighthouse, seen alike by the service loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import zmq

from mailbridge.feed import Head
from mailbridge.outbox import Stored

Sendable = Stored
"""What a target sends: the outbox's own rows."""


class Stop(Protocol):
    """What tells us to end: readable then."""

    def fileno(self) -> int:
        """Return what to poll."""


class Ledger(Protocol):
    """
    What a target may ask of the outbox, and the one thing it may tell it.

    The events are those of the current feed, numbered from 1 without a gap.
    """

    def head(self) -> Head:
        """Return the feed's head: how far it has come, by tag."""

    def signed_head(self, *, asking: bool = False) -> bytes:
        """
        Return the head of now, as canonical JSON signed by the feed's key.

        *asking*: of no events at all, for who only wants to know what a relay has.
        """

    def signed_canary(self, nonce: str) -> bytes:
        """Return a canary of now that is called *nonce*, as `signed_head` does."""

    def after(self, seq: int, limit: int) -> list[Sendable]:
        """Return the events numbered above *seq*, in order, at most *limit* of them."""

    def horizon(self) -> int:
        """Return the number up to which only uuids and hashes are kept."""

    def not_kept(self, seq: int) -> str:
        """Return in words that whoever has events up to *seq* cannot have those that follow."""

    def hash_of(self, seq: int) -> str | None:
        """Return the hash of event *seq*; None if the feed has no such event."""

    def acknowledged(self, target: str) -> int:
        """Return the number up to which *target* (its name) has everything; 0 at first."""

    def acknowledge(self, target: str, seq: int) -> None:
        """Remember that *target* has everything up to *seq*.  Never goes back."""

    def targets(self) -> dict[str, int]:
        """Return who was ever sent to, and the number up to which each has everything."""


class Target(Protocol):
    """
    One receiver of the feed.  It lives in the loop's only thread and must never block.

    Made with its `Ledger`, it connects, and from then on is told of the time.  Times are
    `time.monotonic()`.  What cannot be mended here is raised as `NeedsOperator`.
    """

    @property
    def name(self) -> str:
        """What the outbox remembers it by: stable over restarts, as `tcp://127.0.0.1:5581`."""

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        """The sockets whose readability calls for a `turn`."""

    def turn(self, now: float) -> float:
        """
        Take whatever has arrived, send whatever is due and fits the window.

        Returns when the next turn is due, at the latest, if nothing arrives before (infinity: not
        at all).  Called after every arrival, after every commit to the outbox, and at that time.
        """

    @property
    def acked(self) -> int:
        """The number up to which it has everything, as far as we know."""

    @property
    def trouble(self) -> bool:
        """Whether it does not take our events just now."""

    @property
    def resent(self) -> int:
        """How many events went out again because no answer came."""

    def canary(self, nonce: str) -> bool:
        """Send it a canary.  False: it is nobody who answers to such."""

    def echoed(self) -> list[str]:
        """Return the canaries that came back since this was asked last."""

    def status(self) -> str:
        """Return, in a few words for a person, how it stands: `all received`, `does not answer`."""

    def close(self) -> None:
        """Close the sockets without lingering.  What is not acknowledged goes out next time."""
