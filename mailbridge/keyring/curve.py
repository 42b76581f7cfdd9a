"""
CurveZMQ key pairs, and whom a relay lets connect by them.

A public half is one line of Z85 (ZeroMQ RFC 32), 40 characters, with `#` comments around it; the
secret half likewise, in a file that only its owner may touch.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from nacl.public import PrivateKey

from mailbridge.errors import ConfigError, NeedsOperator, StorageFailed
from mailbridge.keyring.files import read_text, write_new
from mailbridge.keyring.trust import CHECK_EVERY, Seen, look

CURVE_PUBLIC: Final = ".curve"
CURVE_SECRET: Final = ".curve_secret"  # noqa: S105 - the end of a file's name

_ALPHABET: Final = (
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)
_Z85: Final = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_WORD: Final = 2**32

_log = logging.getLogger(__name__)


class CurvePair(NamedTuple):
    """Both halves in Z85, as ZeroMQ takes them."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        """Return the public half: the other must not get into a log."""
        return f"CurvePair({self.public.decode()})"


def z85(raw: bytes) -> bytes:
    """
    Return *raw*, of a multiple of 4 bytes, in Z85 (ZeroMQ RFC 32).

    >>> z85(bytes.fromhex("864fd26fb559f75b"))
    b'HelloWorld'
    """
    text = bytearray()
    for at in range(0, len(raw), 4):
        word = int.from_bytes(raw[at : at + 4], "big")
        text += bytes(_ALPHABET[word // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return bytes(text)


def ensure_curve(state: Path, entity: str) -> CurvePair:
    """
    Return the pair of *entity* in *state*; made where it has none, its secret closed from birth.

    Raises `NeedsOperator` where a file of it cannot be used, `StorageFailed`.
    """
    secret, public = curve_paths(state, entity)
    if not secret.exists():
        born = z85(bytes(PrivateKey.generate())).decode()
        try:
            comment = f"# SECRET CurveZMQ key of {entity}. Nobody else may have it.\n"
            write_new(secret, f"{comment}{born}\n", 0o600)
        except FileExistsError:
            # Another process of ours was faster; what it wrote is whole.
            _log.debug("%s was made by another process", secret)
    key = _only_line(secret, read_text(secret, closed=True))
    pair = CurvePair(z85(bytes(PrivateKey(_raw(key)).public_key)), key)
    comment = f"# CurveZMQ key of {entity}. Give it to whoever shall know it.\n"
    try:
        write_new(public, f"{comment}{pair.public.decode()}\n", 0o644)
    except FileExistsError as error:
        if read_curve(public) != pair.public:
            raise NeedsOperator(
                f"{public}: does not belong to {secret.name}; remove it, it is made again"
            ) from error
    return pair


def curve_paths(state: Path, entity: str) -> tuple[Path, Path]:
    """Return where the secret and the public half of *entity* lie in *state*."""
    keys = state / "keys"
    return keys / f"{entity}{CURVE_SECRET}", keys / f"{entity}{CURVE_PUBLIC}"


def read_curve(path: Path) -> bytes:
    """Return the public key, Z85, in the file *path*.  Raises `NeedsOperator`."""
    if path.name.endswith(CURVE_SECRET):
        raise NeedsOperator(f"{path}: is a SECRET key; the public half ends in {CURVE_PUBLIC}")
    return _only_line(path, read_text(path))


def curve_server(value: str) -> bytes:
    """
    Return the relay's public key that a setting's *value* is or, as a path, names; in Z85.

    Raises `ConfigError` where it is neither.
    """
    text = value.strip().encode()
    if _is_key(text):
        return text
    path = Path(value).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"submit.curve_server: {value[:80]!r}: neither 40 characters of Z85 nor a file; the"
            " relay's 'mailbridge key curve' prints both"
        )
    return read_curve(path)


def allow_curve(state: Path, path: Path) -> Path:
    """
    Let who has the key in the file *path* connect to the relay of *state*; return where it is kept.

    Raises `NeedsOperator` where *path* holds no public key, or another one is kept by its name.
    """
    key = read_curve(path)
    kept = curve_clients(state) / f"{path.name.removesuffix(CURVE_PUBLIC)}{CURVE_PUBLIC}"
    try:
        write_new(kept, f"{key.decode()}\n", 0o644)
    except FileExistsError as error:
        if read_curve(kept) != key:
            raise NeedsOperator(
                f"{kept} holds another key; remove it, or give the new file another name"
            ) from error
    return kept


def curve_clients(state: Path) -> Path:
    """Return the directory whose `*.curve` files say who may connect to the relay of *state*."""
    return state / "keys" / "curve"


class CurveClients:
    """Who may connect, by the files in a directory, read again when something has changed."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory: Final = directory
        self._clock: Final = clock
        self._looked = -math.inf
        self._seen: tuple[Seen, ...] | None = None
        self._names: dict[bytes, str] = {}

    def current(self) -> Mapping[bytes, str]:
        """Return the names of the files by the key, Z85, in them; not older than 2 s."""
        now = self._clock()
        if now - self._looked < CHECK_EVERY:
            return self._names
        self._looked = now
        try:
            self._refresh()
        except (OSError, StorageFailed) as error:
            # (As with the other keys: from a disk that is in trouble nothing follows.)
            _log.error("CURVE keys not read again, those of before hold: %s", error)
        return self._names

    def _refresh(self) -> None:
        files = sorted(self._directory.glob(f"*{CURVE_PUBLIC}"))
        # (Looked at first, read second: a file that changes in between is read again.)
        seen = look(files)
        if seen == self._seen:
            return
        names = {}
        for path in files:
            try:
                names[read_curve(path)] = path.stem
            except NeedsOperator as error:
                _log.error("CURVE key left out: %s", error)
        self._seen, self._names = seen, names


def _only_line(path: Path, text: str) -> bytes:
    lines = (line.strip() for line in text.lstrip("\ufeff").splitlines())
    # (A key may begin with a `#` as well.)
    found = [
        line.encode()
        for line in lines
        if line and (not line.startswith("#") or _is_key(line.encode()))
    ]
    if len(found) != 1 or not _is_key(found[0]):
        # (Never with the text: it may be a secret.)
        raise NeedsOperator(f"{path}: no CurveZMQ key file: one line of 40 characters Z85 expected")
    return found[0]


def _is_key(text: bytes) -> bool:
    if not _Z85.fullmatch(text):
        return False
    return all(_word(text[at : at + 5]) < _WORD for at in range(0, len(text), 5))


def _raw(text: bytes) -> bytes:
    words = (_word(text[at : at + 5]) for at in range(0, len(text), 5))
    return b"".join(word.to_bytes(4, "big") for word in words)


def _word(five: bytes) -> int:
    value = 0
    for character in five:
        value = value * 85 + _ALPHABET.index(character)
    return value
