"""
Whose key: the keys a reader believes (wire.md, Whose key).

With `--keys DIR` those in it, and no others.  Else those of the local state, and what a relay that
we know tells about its sources.  A relay gets known as a host does to ssh: at first contact
somebody compares its fingerprint, or a script brings it (`--pin`); `known_relays` in the state
remembers it.  What such a relay tells later it signs, question's number included.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mailbridge.errors import BadInput, MailbridgeError, NotPermitted, StorageFailed, UnknownOrigin
from mailbridge.event import SignedEvent, VerifiedEvent
from mailbridge.keyring import TrustedKeys, believed, state_dirs
from mailbridge.signing import UNPROVED, Proved, VerifyKey, check_note, from_base64, verify
from mailbridge.wire.read import Asks, Refused

_log = logging.getLogger(__name__)

Role = Literal["relay", "source"]


class Introduction(NamedTuple):
    """What a relay says about itself and its sources."""

    url: str
    relay: VerifyKey
    sources: dict[str, VerifyKey]


Confirm = Callable[[Introduction], bool]
"""Asks a person whether a relay is who it says; False: no."""


class KnownRelays:
    """The file `known_relays`: a line `URL relay|source ENTITY KEY` for each key."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path

    def keys(self, url: str, role: Role) -> dict[str, VerifyKey]:
        """Return the keys known as *role* at *url*."""
        found = {}
        for line in self._lines():
            words = line.split()
            if words[:2] == [url, role] and len(words) == 4:  # noqa: PLR2004 - see the class
                try:
                    found[words[2]] = VerifyKey(words[2], from_base64(words[3]))
                except (MailbridgeError, ValueError):
                    _log.error("%s: left out, no key: %.100s", self._path, line)
        return found

    def add(self, known: Introduction) -> None:
        """Remember what *known* says.  Raises `StorageFailed`."""
        lines = self._lines()
        for role, keys in (("relay", {known.relay.entity: known.relay}), ("source", known.sources)):
            for entity, key in keys.items():
                line = f"{known.url} {role} {entity} {key.base64}"
                if line not in lines:
                    lines.append(line)
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageFailed(f"{self._path}: cannot be written: {error.strerror}") from error

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise NotPermitted(f"{self._path}: cannot be read: {error}") from error


class Keys:
    """The keys that a reader of *url* believes, and how it comes by more."""

    def __init__(
        self,
        url: str,
        *,
        state: Path,
        directory: Path | None = None,
        pin: str | None = None,
        confirm: Confirm | None = None,
    ) -> None:
        """Raises `NotPermitted` where *directory* is none."""
        if directory is not None and not directory.is_dir():
            raise NotPermitted(f"{directory}: no such directory of keys")
        self._url: Final = url
        self._pin: Final = pin
        self._confirm: Final = confirm
        self._known: Final = KnownRelays(state / "known_relays") if directory is None else None
        self._files: Final = TrustedKeys([directory] if directory else state_dirs(state))
        self._told: dict[str, VerifyKey] = {}
        self._relays: dict[str, VerifyKey] = {}
        """The relay with the fingerprint that was brought."""
        if self._known and pin is None:
            self._told = self._known.keys(url, "source")

    def current(self) -> Mapping[str, VerifyKey]:
        """Return the keys by entity; a file here is stronger than what a relay told."""
        files = self._files.current()
        # (What was revoked here is so, whoever told us the key.)
        return {**believed(self._told, self._files.revoked), **files} if self._told else files

    def vouch(self, event: SignedEvent, proved: AbstractSet[Proved] = UNPROVED) -> VerifiedEvent:
        """
        Vouch for *event* by its source's key; for a redaction a relay's that is known here will do.

        (The hash in that is proved by the event behind it.)  Signatures that are *proved* are not
        checked again.  Raises `UnknownOrigin` or `BadSignature`.
        """
        if not event.redacted or (event.feed and event.feed.entity in event.signatures):
            return verify(event, self.current(), known=proved)
        known = {e: key for e, key in self.current().items() if e.startswith("relay.")}
        known |= self._relays | (self._known.keys(self._url, "relay") if self._known else {})
        # (Whoever owns the feed did not sign it, and need not.)
        verified = verify(msgspec.structs.replace(event, feed=None), known)
        return msgspec.structs.replace(verified, feed=event.feed)

    def check_relay(self, note: Mapping[str, Any]) -> None:
        """
        Return if what a relay signed in *note* is its word, as far as its key is known here.

        Raises `BadSignature` or `MalformedEvent`.
        """
        known = self._known.keys(self._url, "relay") if self._known else {}
        known |= self.current()
        signers = note.get("signatures")
        for entity in signers if isinstance(signers, dict) else ():
            if entity in known:
                check_note(note, known, entity)

    def meet(self, asks: Asks) -> None:
        """Check the relay against the fingerprint that was brought.  Raises `NotPermitted`."""
        if self._pin is None or self._told:
            return
        met = self._introduced(asks)
        by_fingerprint = {key.fingerprint: key for key in met.sources.values()}
        if met.relay.fingerprint == self._pin:
            self._told = met.sources
            self._relays = {met.relay.entity: met.relay}
        elif self._pin in by_fingerprint:
            # Closer still: the one source that is meant, whatever relay carries it.
            key = by_fingerprint[self._pin]
            self._told = {key.entity: key}
        else:
            raise NotPermitted(
                f"{self._url}: has the fingerprint {met.relay.fingerprint}, not {self._pin}:"
                " another relay, or somebody in between"
            )

    def learn(self, asks: Asks, missing: UnknownOrigin) -> None:
        """
        Return if the relay could tell a key that was missing, and may be believed.

        Raises *missing*, in words that say what to do, or `NotPermitted` where the relay has
        another key than before.
        """
        if self._known is None or self._pin is not None:
            raise missing
        try:
            met = self._introduced(asks)
        except Refused as refused:
            raise missing from refused
        before = self._known.keys(self._url, "relay")
        if before and met.relay not in before.values():
            raise NotPermitted(
                f"{self._url}: has another key than before ({met.relay.fingerprint}): a new relay,"
                " or somebody in between; if it is right, remove its lines from known_relays"
            )
        new = {e: key for e, key in met.sources.items() if e not in self.current()}
        if not new:
            raise missing
        if not before and not (self._confirm and self._confirm(met)):
            raise UnknownOrigin(
                f"{self._url}: its sources ({', '.join(sorted(new))[:200]}) are not known here;"
                f" compare {met.relay.fingerprint} with its operator and give it as --pin,"
                " or give their keys as --keys DIR, or --unverified"
            ) from missing
        clash = {e for e, key in self._told.items() if met.sources.get(e, key) != key}
        if clash:
            raise NotPermitted(
                f"{self._url}: tells another key than before for {', '.join(sorted(clash))[:200]};"
                " if it is right, remove its lines from known_relays"
            )
        self._known.add(met)
        self._told = {**met.sources, **self._told}

    def _introduced(self, asks: Asks) -> Introduction:
        header = dict(asks.ask("keys", {}).header)
        try:
            relay, sources = (_keys(header.get(role)) for role in ("relay", "sources"))
            if len(relay) != 1:
                raise BadInput("one key of its own expected")
            (own,) = relay.values()
            # (It signs its answer: else whoever sits in between could add sources to it.)
            check_note(header, relay, own.entity)
        except MailbridgeError as error:
            raise BadInput(f"{self._url}: cannot say who it is: {error}") from error
        return Introduction(self._url, own, sources)


def _keys(told: Any) -> dict[str, VerifyKey]:  # noqa: ANN401 - a stranger's JSON
    if not isinstance(told, dict):
        raise BadInput("keys by entity expected")
    try:
        return {entity: VerifyKey(entity, from_base64(text)) for entity, text in told.items()}
    except (TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"keys in base64 expected: {error}") from error
