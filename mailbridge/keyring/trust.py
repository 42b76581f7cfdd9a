"""Whom we trust: directories of public keys, and policy.toml, which says who may emit what."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge.errors import ConfigError, NeedsOperator, StorageFailed, not_done
from mailbridge.event import NAMESPACE, TEST_NAMESPACE
from mailbridge.keyring.files import PUBLIC, read_public, written
from mailbridge.signing import VerifyKey, is_entity

CHECK_EVERY: Final = 1.0
"""Seconds between two looks at a directory: a change of keys or policy counts within 2 s."""

_log = logging.getLogger(__name__)


def state_dirs(state: Path) -> tuple[Path, Path]:
    """Return where *state* keeps public keys: its own, and those that were trusted."""
    return state / "keys", state / "keys" / "trusted"


def trusted(directory: Path) -> dict[str, VerifyKey]:
    """
    Return the keys in the `*.key` files of *directory*, by entity; of a missing one, none.

    A bad file is logged and left out; so are two that name different keys for one entity, since
    nobody can tell which was meant.  Raises `StorageFailed` where they cannot be read just now.
    """
    keys: dict[str, VerifyKey] = {}
    torn: set[str] = set()
    for path in sorted(directory.glob(f"*{PUBLIC}")):
        try:
            key = read_public(path)
        except NeedsOperator as error:
            _log.error("key left out: %s", error)
            continue
        if keys.setdefault(key.entity, key) != key:
            _log.error("keys left out: %s: two files with different keys for it", key.entity)
            torn.add(key.entity)
    return {entity: key for entity, key in keys.items() if entity not in torn}


class _Seen(NamedTuple):
    """What tells that a file is another than before."""

    path: Path
    inode: int
    mtime: int
    size: int


def _look(paths: Sequence[Path]) -> tuple[_Seen, ...]:
    seen = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            seen.append(_Seen(path, found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(seen)


class TrustedKeys:
    """The keys of some directories, read again when something there has changed."""

    def __init__(
        self, directories: Sequence[Path], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directories: Final = tuple(directories)
        self._clock: Final = clock
        self._looked = -math.inf
        self._seen: tuple[_Seen, ...] | None = None
        self._keys: Mapping[str, VerifyKey] = {}

    def current(self) -> Mapping[str, VerifyKey]:
        """Return the keys by entity; of two directories with one entity, the first decides."""
        now = self._clock()
        if now - self._looked < CHECK_EVERY:
            return self._keys
        self._looked = now
        try:
            self._refresh()
        except (OSError, StorageFailed) as error:
            # From a disk that does not answer just now nothing follows for whom we trust.
            _log.error("keys not read again, those of before hold: %s", error)
        return self._keys

    def _refresh(self) -> None:
        files = [path for d in self._directories for path in sorted(d.glob(f"*{PUBLIC}"))]
        # (Looked at first, read second: a file that changes in between is read again.)
        seen = _look(files)
        if seen == self._seen:
            return
        keys: dict[str, VerifyKey] = {}
        for directory in self._directories:
            keys = trusted(directory) | keys
        self._seen, self._keys = seen, keys


# -- policy.toml -----------------------------------------------------------------------------------


def read_policy(path: Path) -> dict[str, list[str]]:
    """
    Return what *path* (policy.toml) says: patterns of tags by entity; of a missing file, nothing.

    Raises `ConfigError`, or `StorageFailed` where the disk does not give it just now.
    """
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise not_done(f"{path}: cannot be read", error) from error
    except ValueError as error:
        raise ConfigError(f"{path}: no TOML: {error}") from error
    for entity, patterns in tree.items():
        if not is_entity(entity):
            raise ConfigError(f"{path}: {entity!r} is no entity; a name with dots needs quotes")
        if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
            raise ConfigError(
                f'{path}: {entity}: a list of tags expected, as "{entity}" = ["org.example.*"]'
            )
    return tree


def allow(path: Path, entity: str, patterns: Sequence[str]) -> None:
    """
    Add the line to *path* (policy.toml) that lets *entity* emit the tags *patterns*.

    Raises `NeedsOperator` where it has another line already.
    """
    there = read_policy(path).get(entity)
    if there == list(patterns):
        return
    if there is not None:
        raise NeedsOperator(f"{path} has a line for {entity} already; edit it there: {there}")
    line = f'"{entity}" = [{", ".join(_toml(pattern) for pattern in patterns)}]\n'
    before = path.read_text("utf-8") if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path, before + line, 0o644) as temporary:
        temporary.rename(path)


class Policy:
    """
    Which trusted key may emit what, as policy.toml says, read again when that has changed.

    Without a line of its own a key may emit any tag outside our namespaces; ours by a line only.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises `ConfigError` where *path* is wrong from the start."""
        self._path: Final = path
        self._clock: Final = clock
        self._looked = clock()
        self._seen = _look([path])
        self._lines = read_policy(path)

    def allows(self, entity: str, tag: str) -> bool:
        """Say whether *entity* may emit *tag*."""
        self._refresh()
        patterns = self._lines.get(entity)
        if patterns is None:
            # (With the dot: the namespace itself is ours as well, `_lk.mailbridgefoo` is not.)
            return not f"{tag}.".startswith((f"{NAMESPACE}.", f"{TEST_NAMESPACE}."))
        return any(fnmatchcase(tag, pattern) for pattern in patterns)

    def names(self, entity: str, tag: str) -> bool:
        """Say whether a line of *entity* itself allows *tag*."""
        self._refresh()
        return any(fnmatchcase(tag, pattern) for pattern in self._lines.get(entity, ()))

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked < CHECK_EVERY:
            return
        self._looked = now
        try:
            seen = _look([self._path])
            if seen != self._seen:
                self._lines = self._as_it_is_now()
                self._seen = seen
        except (StorageFailed, OSError) as error:
            _log.error("policy not read just now, the last one holds: %s", error)

    def _as_it_is_now(self) -> dict[str, list[str]]:
        try:
            return read_policy(self._path)
        except NeedsOperator as error:
            # A slip of the editor must not stop a relay: what held before holds on.
            _log.error("policy not read again, the last one holds: %s", error)
            return self._lines


def _toml(text: str) -> str:
    if re.search(r'["\\\x00-\x1f\x7f]', text):
        raise NeedsOperator(f"{text!r} is no pattern of tags")
    return f'"{text}"'
