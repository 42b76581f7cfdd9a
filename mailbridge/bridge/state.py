"""The bridge's part of a state directory: outbox, key, quarantine and spool, opened together."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailbridge import failpoint, keyring
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.config import Config, qualified_name
from mailbridge.errors import NeedsOperator, StorageFailed
from mailbridge.outbox import Outbox, entity_of
from mailbridge.signing import SigningKey

SPOOL: Final = "Maildir"
OUTBOX: Final = "outbox.db"


class State:
    """An open state; closing it closes the outbox."""

    def __init__(self, directory: Path, outbox: Outbox, key: SigningKey) -> None:
        self.directory: Final = directory
        self.outbox: Final = outbox
        self.key: Final = key
        self.quarantine: Final = Quarantine(directory / "quarantine")

    @property
    def spool(self) -> Path:
        """The Maildir that `ingest -` puts mail in."""
        return self.directory / SPOOL


@contextmanager
def opened(config: Config) -> Iterator[State]:
    """
    Give the state that *config* names; make it where there is none, its key included.

    Raises `NeedsOperator` for an outbox without its key, or of another entity.
    """
    directory = config.state_dir
    make(directory)
    with _alone(directory):
        key = _key(directory, config.entity)
        failpoint.reached("key-made")
        outbox = Outbox(directory / OUTBOX, key, now=datetime.now(UTC))
    with outbox:
        yield State(directory, outbox, key)


def make(directory: Path) -> None:
    """Make the state *directory*, for us alone, where it is missing.  Raises `StorageFailed`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"{directory}: cannot be made: {error.strerror}; --state names another place"
        ) from error


def _key(directory: Path, entity: str) -> SigningKey:
    owner = entity_of(directory / OUTBOX)
    if owner is None:
        return keyring.ensure(directory, "mailbridge", entity or None, qualified=qualified_name)
    if entity and entity != owner:
        raise NeedsOperator(
            f"{directory / OUTBOX}: the outbox of {owner}, not of {entity};"
            f" set entity = {owner!r}, or give another --state"
        )
    key = keyring.load(directory, "mailbridge", owner)
    if key is None:
        raise NeedsOperator(
            f"{directory / OUTBOX}: its key {owner}.key_secret is not in {directory / 'keys'};"
            " put it back: nobody would believe events signed by a new one"
        )
    return key


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    # Two processes that make one outbox at once would make two keys for it.
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed(f"{directory}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
