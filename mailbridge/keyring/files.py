"""Key files: Laniakea's text format (wire.md, Key files), read leniently, written in one form."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mailbridge.errors import MailbridgeError, NeedsOperator, not_done
from mailbridge.signing import SigningKey, VerifyKey, from_base64, is_entity

SECRET: Final = ".key_secret"  # noqa: S105 - the end of a file's name
PUBLIC: Final = ".key"

_MAX_KEY_FILE: Final = 64 * 1024
_ENTRY: Final = re.compile(
    r"""([A-Za-z0-9_.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^#"']*?))\s*(?:#.*)?"""
)
_SECTION: Final = re.compile(r"([A-Za-z0-9_.-]+)\s*(?:#.*)?")
_LAYOUT: Final = """\
# {comment}
metadata
    id = "{id}"
    name = "{name}"
curve
    public-key = ""
ed
    verify-key = "{verify_key}"
"""


def read_public(path: Path) -> VerifyKey:
    """
    Return the public key in the key file *path*; a secret key file has it too.

    Raises `NeedsOperator` where there is none.
    """
    return _public(path, _entries(path, read_text(path)))


def read_secret(path: Path) -> SigningKey:
    """
    Return the key in the secret key file *path*.

    Raises `NeedsOperator` where there is none, or where others than its owner may touch it; in
    `$CREDENTIALS_DIRECTORY` systemd has seen to that.
    """
    closed = path.parent == credentials_directory()
    entries = _entries(path, read_text(path, closed=not closed))
    seed = entries.get(("ed", "signing-key"), "")
    if not seed:
        raise NeedsOperator(f"{path}: no secret key file: ed/signing-key is missing")
    try:
        key = SigningKey(_entity(path, entries), from_base64(seed))
    except (MailbridgeError, ValueError) as error:
        # (Never with the text: it is the secret.)
        raise NeedsOperator(f"{path}: ed/signing-key is no ed25519 seed in base64") from error
    if ("ed", "verify-key") in entries and _public(path, entries) != key.verify_key:
        raise NeedsOperator(f"{path}: signing-key and verify-key do not belong together")
    return key


def public_text(key: VerifyKey, name: str = "") -> str:
    """Return the public key file of *key*, which people call *name*."""
    return _layout(key, name, f"Public key of {key.entity}. Give it to whoever shall trust it.")


def write_pair(directory: Path, key: SigningKey, name: str = "") -> tuple[Path, Path]:
    """
    Write `<ID>.key_secret`, closed from its first byte, and `<ID>.key`; return their paths.

    Raises `NeedsOperator` where one of them is there already: a key is never overwritten.
    """
    secret, public = (directory / f"{key.entity}{suffix}" for suffix in (SECRET, PUBLIC))
    text = _layout(key.verify_key, name, f"SECRET key of {key.entity}. Nobody else may have it.")
    make_directory(directory)
    for path in (secret, public):
        if path.exists():
            raise NeedsOperator(f"{path} is there already and stays; take another ID or --dir")
    write_new(secret, f'{text}    signing-key = "{key.seed_base64}"\n', 0o600)
    write_public(public, key.verify_key, name)
    return secret, public


def write_public(path: Path, key: VerifyKey, name: str = "") -> None:
    """
    Write the public key file *path*, unless it holds this very key already.

    Raises `NeedsOperator` where it holds another one.
    """
    make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        write_new(path, public_text(key, name), 0o644)
        return
    if read_public(path) != key:
        raise NeedsOperator(
            f"{path} holds another key for {key.entity}; rotation takes a new ID,"
            " a mistake is mended by removing that file"
        )


def credentials_directory() -> Path | None:
    """Return where systemd put this service's credentials, or None."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


def _layout(key: VerifyKey, name: str, comment: str) -> str:
    # (The format knows no escapes.)
    called = re.sub(r'["\x00-\x1f\x7f]+', " ", name).strip() or key.entity
    return _LAYOUT.format(comment=comment, id=key.entity, name=called, verify_key=key.base64)


def read_text(path: Path, *, closed: bool = False) -> str:
    """
    Return what stands in the key file *path*, of at most 64 KiB.

    Raises `NeedsOperator` where it is none, or is not *closed* to others though it must be;
    `StorageFailed`.
    """
    try:
        # (O_NONBLOCK: a FIFO in a directory of keys must not hang us.)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise NeedsOperator(f"{path}: no key file: not a regular file")
            if closed and mode & 0o077:
                raise NeedsOperator(f"{path}: others may touch this secret key; chmod 600 {path}")
            raw = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise not_done(f"{path}: cannot be read", error) from error
    if len(raw) > _MAX_KEY_FILE:
        raise NeedsOperator(f"{path}: no key file: larger than {_MAX_KEY_FILE} bytes")
    return raw.decode("utf-8", "replace")


def _entries(path: Path, text: str) -> dict[tuple[str, str], str]:
    entries: dict[tuple[str, str], str] = {}
    section = ""
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if entry := _ENTRY.fullmatch(words):
            entries.setdefault((section, entry[1]), entry[2] or entry[3] or entry[4] or "")
        elif begins := _SECTION.fullmatch(words):
            section = begins[1]
        else:
            raise NeedsOperator(f"{path}:{number}: no key file: neither section nor name = value")
    return entries


def _entity(path: Path, entries: Mapping[tuple[str, str], str]) -> str:
    entity = entries.get(("metadata", "id"), "")
    if not is_entity(entity):
        raise NeedsOperator(f"{path}: no key file: metadata/id is missing or no entity's name")
    return entity


def _public(path: Path, entries: Mapping[tuple[str, str], str]) -> VerifyKey:
    entity = _entity(path, entries)
    try:
        return VerifyKey(entity, from_base64(entries.get(("ed", "verify-key"), "")))
    except (MailbridgeError, ValueError) as error:
        raise NeedsOperator(
            f"{path}: no key file: ed/verify-key is no ed25519 key in base64"
        ) from error


def make_directory(directory: Path) -> None:
    """Make *directory*, for its owner alone, where it is missing.  Raises `NeedsOperator`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise not_done(f"{directory}: cannot be made", error) from error


@contextlib.contextmanager
def written(path: Path, text: str, mode: int) -> Iterator[Path]:
    """
    Give a file beside *path* with *text*, on disk, born with *mode*; gone afterwards.

    Raises `StorageFailed` or `NeedsOperator`; but `FileExistsError` as it comes.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        yield temporary
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise
    except OSError as error:
        raise not_done(f"{path}: cannot be written", error) from error
    finally:
        with contextlib.suppress(OSError):
            # (It holds nothing that must not be there; the disk is the trouble being told.)
            temporary.unlink(missing_ok=True)


def write_new(path: Path, text: str, mode: int) -> None:
    """
    Write *path*, born with *mode*, whole or not at all; its directory is made where it is missing.

    Raises `FileExistsError` where it is there already; `NeedsOperator`, `StorageFailed`.
    """
    make_directory(path.parent)
    with written(path, text, mode) as temporary:
        # (A link, unlike a rename, does not overwrite.)
        path.hardlink_to(temporary)
