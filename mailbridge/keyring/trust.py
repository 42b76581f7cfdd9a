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

import msgspec

from mailbridge.errors import ConfigError, NeedsOperator, StorageFailed, not_done
from mailbridge.event import NAMESPACE, TEST_NAMESPACE
from mailbridge.keyring.files import PUBLIC, read_public, written
from mailbridge.signing import Last, VerifyKey, is_entity

REVOKED: Final = ".revoked"
"""Ending of the files that say how far a lost key is believed."""

CHECK_EVERY: Final = 1.0
"""Seconds between two looks at a directory: a change of keys or policy counts within 2 s."""

DOUBT_EVERY: Final = 0.05
"""The same where somebody would be turned away: he waits a minute for what is there already."""

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


# -- revocations -----------------------------------------------------------------------------------


class _Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file `ID.revoked`, beside keys: JSON."""

    entity: str
    time: str
    feed: str = ""
    seq: int = 0
    hash: str = ""
    reason: str = ""


def revocations(directory: Path) -> dict[str, Last]:
    """
    Return the newest event still believed of each key that a file in *directory* revokes.

    What such a file says wrongly is logged, and nothing of that entity is believed: its name alone
    says that a key was lost.  Raises `StorageFailed` where they cannot be read just now.
    """
    found: dict[str, Last] = {}
    for path in sorted(directory.glob(f"*{REVOKED}")):
        entity = path.name.removesuffix(REVOKED)
        try:
            told = msgspec.json.decode(path.read_bytes(), type=_Revocation)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise not_done(f"{path}: cannot be read", error) from error
        except msgspec.DecodeError as error:
            _log.error("%s: nothing of %s is believed: %s", path, entity, error)
            found[entity] = Last("", 0, "")
        else:
            found[entity] = Last(told.feed, told.seq, told.hash)
    return found


def revoke(directory: Path, entity: str, last: Last, *, time: str, reason: str = "") -> Path:
    """
    Write to *directory* that nothing of *entity* behind *last* is believed, and return the file.

    An earlier revocation of it is replaced.  Raises `StorageFailed` or `NeedsOperator`.
    """
    told = _Revocation(entity, time, last.feed, last.seq, last.hash, reason)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{entity}{REVOKED}"
    text = msgspec.json.format(msgspec.json.encode(told), indent=2).decode()
    with written(path, f"{text}\n", 0o644) as new:
        new.rename(path)
    return path


def believed(keys: Mapping[str, VerifyKey], revoked: Mapping[str, Last]) -> dict[str, VerifyKey]:
    """Return *keys*, those that were *revoked* believed no further than told there."""
    return {
        entity: VerifyKey(entity, bytes(key), revoked=revoked[entity]) if entity in revoked else key
        for entity, key in keys.items()
    }


class Seen(NamedTuple):
    """What tells that a file is another than before."""

    path: Path
    inode: int
    mtime: int
    size: int


def look(paths: Sequence[Path]) -> tuple[Seen, ...]:
    """Return what tells whether one of *paths* has changed; those that are missing do not count."""
    seen = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            seen.append(Seen(path, found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(seen)


class TrustedKeys:
    """The keys of some directories, read again when something there has changed."""

    def __init__(
        self, directories: Sequence[Path], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directories: Final = tuple(directories)
        self._clock: Final = clock
        self._looked = -math.inf
        self._seen: tuple[Seen, ...] | None = None
        self._keys: Mapping[str, VerifyKey] = {}
        self._revoked: dict[str, Last] = {}

    @property
    def revoked(self) -> Mapping[str, Last]:
        """What was revoked, as of the last `current`."""
        return self._revoked

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

    def doubt(self) -> None:
        """Have `current` look again, unless it did just now."""
        if self._clock() - self._looked >= DOUBT_EVERY:
            self._looked = -math.inf

    def _refresh(self) -> None:
        files = [
            path
            for directory in self._directories
            for ending in (PUBLIC, REVOKED)
            for path in sorted(directory.glob(f"*{ending}"))
        ]
        # (Looked at first, read second: a file that changes in between is read again.)
        seen = look(files)
        if seen == self._seen:
            return
        keys: dict[str, VerifyKey] = {}
        revoked: dict[str, Last] = {}
        for directory in self._directories:
            keys = trusted(directory) | keys
            revoked |= revocations(directory)
        self._seen, self._revoked, self._keys = seen, revoked, believed(keys, revoked)


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
        self._seen = look([path])
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

    def doubt(self) -> None:
        """Have the next question look again, unless the last did just now."""
        if self._clock() - self._looked >= DOUBT_EVERY:
            self._looked = -math.inf

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked < CHECK_EVERY:
            return
        self._looked = now
        try:
            seen = look([self._path])
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
