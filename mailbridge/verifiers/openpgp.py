"""Who can check signatures here: pysequoia (the extra `[openpgp]`), gpgv, or both."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

from mailbridge.errors import ConfigError, Unchecked
from mailbridge.verifiers import OpenPGP
from mailbridge.verifiers.files import Files
from mailbridge.verifiers.gpgv import Gpgv


def is_possible() -> bool:
    """Say whether anybody here can check a signature."""
    return _has_pysequoia() or shutil.which("gpgv") is not None


def _has_pysequoia() -> bool:
    return importlib.util.find_spec("pysequoia") is not None


def openpgp(paths: Sequence[str], where: str) -> OpenPGP:
    """
    Return a verifier with the keyrings *paths*, which the setting *where* names.

    Raises `ConfigError` where one of them cannot be read or holds no key, and where nobody here
    can verify.
    """
    files = Files([Path(path).expanduser() for path in paths])
    try:
        contents = files.read()
    except Unchecked as error:
        raise ConfigError(f"{where}: {error}") from error
    program = shutil.which("gpgv")
    armored = [path for path, raw in zip(paths, contents, strict=True) if raw[:5] == b"-----"]
    if _has_pysequoia():
        from mailbridge.verifiers.sequoia import Sequoia  # noqa: PLC0415 - the extra is here

        # (Each remembers by itself what it read: the files are looked at once more.)
        second = Gpgv(Files(files.paths), program) if program and not armored else None
        sequoia = Sequoia(files, second)
        try:
            sequoia.load(contents)
        except Unchecked as error:
            raise ConfigError(f"{where}: {error}") from error
        return sequoia
    if program is None:
        raise ConfigError(
            f"{where}: nobody here can check a signature; install gpgv or mailbridge[openpgp]"
        )
    if armored:
        raise ConfigError(
            f"{where}: {armored[0]}: gpgv reads none in armor; 'gpg --dearmor' makes one it reads"
        )
    return Gpgv(files, program)
