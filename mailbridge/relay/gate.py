"""Whose events a relay takes: keys, and which tags each may emit.  Both may change at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final, TypeVar

from mailbridge.errors import NotPermitted, UnknownOrigin
from mailbridge.event import LANIAKEA_ARCHIVE, SignedEvent, VerifiedEvent
from mailbridge.keyring import Policy, TrustedKeys, believed, state_dirs
from mailbridge.signing import UNPROVED, Proved, VerifyKey, check_note, verify

T = TypeVar("T")


class Gate:
    """
    The keys in `<state>/keys/trusted`, the *own* ones, and `<state>/policy.toml`.

    The own ones may emit any tag; Laniakea's of the archive only where they *stand in* for it, or
    a line of theirs says so.
    """

    def __init__(
        self, state: Path, relay: str, own: Mapping[str, VerifyKey], *, stand_in: bool = False
    ) -> None:
        self._trusted: Final = TrustedKeys([state_dirs(state)[1]])
        self._policy: Final = Policy(state / "policy.toml")
        self._relay: Final = relay
        self._own: Final = dict(own)
        self._stand_in: Final = stand_in
        self._read: Mapping[str, VerifyKey] | None = None
        self._keys: dict[str, VerifyKey] = {}

    def keys(self) -> Mapping[str, VerifyKey]:
        """Return the keys of sources by entity, as they are now."""
        trusted = self._trusted.current()
        if trusted is not self._read:
            self._read = trusted
            # (A key that was lost is lost, even if it is our own bridge's.)
            self._keys = {**trusted, **believed(self._own, self._trusted.revoked)}
            # What we signed is what somebody else emitted: if his key is gone, so is his event.
            self._keys.pop(self._relay, None)
        return self._keys

    def admit(self, event: SignedEvent, known: AbstractSet[Proved] = UNPROVED) -> VerifiedEvent:
        """
        Vouch for *event*, and that who emitted it may emit its tag.

        Signatures that are *known* to fit are not checked again.

        Raises `UnknownOrigin`, `NotPermitted` (both may change) or `BadSignature`.
        """
        return self._twice(lambda: self._admitted(event, known))

    def check_note(self, fields: Mapping[str, Any], entity: str) -> None:
        """
        Return if *entity*, a source of ours, signed *fields*: a head, or a canary.

        Raises `UnknownOrigin` (that may change), `BadSignature` or `MalformedEvent`.
        """
        self._twice(lambda: check_note(fields, self.keys(), entity))

    def _twice(self, do: Callable[[], T]) -> T:
        """*do*; and where that turns somebody away, look at keys and policy, and do it again."""
        try:
            return do()
        except (UnknownOrigin, NotPermitted):
            self._trusted.doubt()
            self._policy.doubt()
            return do()

    def _admitted(self, event: SignedEvent, known: AbstractSet[Proved]) -> VerifiedEvent:
        keys = self.keys()
        verified = verify(event, keys, known=known)
        emitters = [event.feed.entity] if event.feed else [e for e in event.signatures if e in keys]
        if not any(self._may(entity, event.tag) for entity in emitters):
            raise NotPermitted(
                f"{', '.join(emitters)} may not emit {event.tag};"
                " a line in policy.toml lets it ('mailbridge key trust FILE --tags')"
            )
        return verified

    def _may(self, entity: str, tag: str) -> bool:
        if entity not in self._own:
            return self._policy.allows(entity, tag)
        is_laniakeas = tag.startswith(f"{LANIAKEA_ARCHIVE}.")
        return not is_laniakeas or self._stand_in or self._policy.names(entity, tag)
