"""A service's own secret key: where it is, and how it is made at the first start."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from mailbridge.errors import NeedsOperator
from mailbridge.keyring.files import (
    PUBLIC,
    SECRET,
    credentials_directory,
    read_secret,
    write_pair,
    write_public,
)
from mailbridge.signing import SigningKey, from_base64

Prefix = Literal["mailbridge", "relay", "emit"]

CREDENTIAL: Final = "signing.key"


def default_entity(prefix: Prefix, state: Path) -> str | None:
    """
    Return the entity that the keys there decide on: the credential's or that in *state*; or None.

    Raises `NeedsOperator` where several keys in *state* could be meant.
    """
    credential = _credential(prefix)
    if credential:
        return credential.entity
    found = sorted(path.name.removesuffix(SECRET) for path in _secrets(state, prefix))
    if len(found) > 1:
        raise NeedsOperator(
            f"{state / 'keys'} has several keys: {', '.join(found)};"
            ' say which in the configuration: entity = "...", or move the others away'
        )
    return found[0] if found else None


def load(state: Path, prefix: Prefix, entity: str | None = None) -> SigningKey | None:
    """
    Return the secret key of the bridge (`mailbridge`) or the relay, or None where it has none yet.

    Raises `NeedsOperator` where there is one that may not or cannot be used.
    """
    credential = _credential(prefix)
    if credential:
        if entity and credential.entity != entity:
            raise NeedsOperator(
                f"the credential {CREDENTIAL} is the key of {credential.entity},"
                f" the configuration says entity = {entity!r}"
            )
        key = credential
    else:
        entity = entity or default_entity(prefix, state)
        path = state / "keys" / f"{entity}{SECRET}"
        if not entity or not path.exists():
            return None
        key = read_secret(path)
    # (A crash may have come between the two files of a pair; a credential comes without.)
    write_public(state / "keys" / f"{key.entity}{PUBLIC}", key.verify_key)
    return key


def ensure(
    state: Path,
    prefix: Prefix,
    entity: str | None = None,
    *,
    qualified: Callable[[], str | None],
) -> SigningKey:
    """
    Return what `load` finds; where that is nothing, make the pair in *state* and return the key.

    *qualified* tells this host's qualified name (`config.qualified_name`).  Without one the new
    entity is `<prefix>.<host>-<4 hex of the key>`: Lighthouse trusts by name, and two hosts that
    are both `debian` would be one to it.
    """
    key = load(state, prefix, entity)
    if key is None:
        key = _new_key(prefix, entity or None, qualified)
        try:
            write_pair(state / "keys", key)
        except (FileExistsError, NeedsOperator):
            # Another process of ours was faster; what it wrote is whole.
            key = load(state, prefix, entity)
            if key is None:
                raise
    return key


def _new_key(prefix: Prefix, entity: str | None, qualified: Callable[[], str | None]) -> SigningKey:
    host = qualified()
    if entity or host:
        return SigningKey.generate(entity or f"{prefix}.{host}")
    key = SigningKey.generate(prefix)
    short = re.sub(r"[^A-Za-z0-9_-]+", "-", os.uname().nodename.partition(".")[0]).strip("-")
    name = f"{prefix}.{short[:60] or 'localhost'}-{bytes(key.verify_key)[:2].hex()}"
    return SigningKey(name, from_base64(key.seed_base64))


def _credential(prefix: Prefix) -> SigningKey | None:
    directory = credentials_directory()
    if directory is None or not (directory / CREDENTIAL).exists():
        return None
    key = read_secret(directory / CREDENTIAL)
    # (A credential is a service's: the relay's by its name, else the bridge's.)
    owner = "relay" if key.entity.startswith("relay.") else "mailbridge"
    return key if prefix == owner else None


def _secrets(state: Path, prefix: Prefix) -> Iterator[Path]:
    return (state / "keys").glob(f"{prefix}.*{SECRET}")
