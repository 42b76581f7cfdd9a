"""Which verifier there is for keyrings: pysequoia (the extra `[openpgp]`), else gpgv."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

from mailbridge.errors import ConfigError, Unchecked
from mailbridge.verifiers import OpenPGP
from mailbridge.verifiers.files import Files


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
    if importlib.util.find_spec("pysequoia"):
        from mailbridge.verifiers.sequoia import Sequoia  # noqa: PLC0415 - the extra is here

        sequoia = Sequoia(files)
        try:
            sequoia.load(contents)
        except Unchecked as error:
            raise ConfigError(f"{where}: {error}") from error
        return sequoia
    program = shutil.which("gpgv")
    if program is None:
        raise ConfigError(
            f"{where}: nobody here can check a signature; install gpgv or mailbridge[openpgp]"
        )
    for path, content in zip(files.paths, contents, strict=True):
        if content.startswith(b"-----BEGIN"):
            raise ConfigError(
                f"{where}: {path}: gpgv reads none in armor; 'gpg --dearmor' makes one it reads"
            )
    from mailbridge.verifiers.gpgv import Gpgv  # noqa: PLC0415 - as above

    return Gpgv(files, program)
