"""
`mailbridge ingest -`: what an MTA pipes a mail into.

Started for every mail, so the standard library's small modules have to do: neither argparse nor
pathlib nor the configuration's own reader.  Key and database are not touched.
"""

# ruff: noqa: PTH111, PTH113, PTH118, PTH123

from __future__ import annotations

import os
import sys

from mailbridge.errors import ConfigError, MailbridgeError, TryAgain, UsageError
from mailbridge.maildir.store import store_mail

# What type checkers take for `typing.TYPE_CHECKING`, without importing `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

TRY_AGAIN = 75

# These say what `config` says; a test holds them together.
_SYSTEM_CONFIG = "/etc/mailbridge/mailbridge.toml"
_SYSTEM_STATE = "/var/lib/mailbridge"
_MAX_MAIL = "25M"
_DIGITS = 9


def pipe(words: Sequence[str], config: str | None) -> int:
    """
    Store the mail on standard input durably in the spool; return 0, or 75 if it is not stored.

    *words* are the options: `--state DIR`, or `--maildir DIR` for another spool.  Whatever goes
    wrong is one line on standard error, and never raised.
    """
    try:
        maildir, limit = _spool(words, config)
        if sys.stdin is None:
            raise TryAgain("standard input is closed: no mail stored")
        # Whatever has to be made on the way to the spool is ours alone, as the spool is.
        umask = os.umask(0o077)
        try:
            # Unbuffered: `sys.stdin.buffer` does not look for signals between its system calls,
            # and who was told to end would wait for the MTA for ever.
            with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stdin:
                path, size = store_mail(maildir, stdin, limit=limit)
        finally:
            os.umask(umask)
        if size > limit:
            _say(f"{path}: {size} bytes, more than max_mail; only its beginning is kept")
    except MailbridgeError as error:
        _say(str(error))
        return TRY_AGAIN
    except KeyboardInterrupt:
        _say("interrupted: no mail stored")
        return TRY_AGAIN
    except BaseException as error:  # noqa: BLE001 - anything but 0 and 75 bounces the mail
        _say(f"a bug: {error!r}: no mail stored")
        return TRY_AGAIN
    return 0


def _spool(words: Sequence[str], config: str | None) -> tuple[str, int]:
    """Return (the Maildir to store into, the largest mail the bridge will take)."""
    given: dict[str, str] = {}
    left = [word for word in words if word != "-"]
    while left:
        name, is_joined, value = left.pop(0).partition("=")
        if name not in ("--state", "--maildir", "-c", "--config"):
            raise UsageError(f"ingest -: {name[:80]!r}: no such option; --state DIR, --maildir DIR")
        if not is_joined:
            value = left.pop(0) if left else ""
        if not value:
            raise UsageError(f"ingest -: {name} needs a value")
        given[{"-c": "--config"}.get(name, name)] = value
    settings = _settings(given.get("--config", config) or default_config())
    maildir = given.get("--maildir")
    if not maildir:
        state = given.get("--state") or settings.get("state") or default_state()
        maildir = os.path.join(state, "Maildir")
    return maildir, size(settings.get("max_mail", _MAX_MAIL))


def _settings(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    import tomllib

    try:
        with open(path, "rb") as file:
            settings = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}: no mail stored") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no TOML: {error}: no mail stored") from error
    for key in ("state", "max_mail"):
        if not isinstance(settings.get(key, ""), str):
            raise ConfigError(f"{path}: {key}: a string expected: no mail stored")
    return settings


def default_config() -> str | None:
    """Return the configuration file that is there without `-c`, or None, as `config` does."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    for path in (os.path.join(home, "mailbridge", "mailbridge.toml"), _SYSTEM_CONFIG):
        if os.path.isfile(path):
            return path
    return None


def default_state() -> str:
    """Return the state directory of a service, else of this user, as `config` does."""
    if os.geteuid() == 0 or os.access(_SYSTEM_STATE, os.W_OK):
        return _SYSTEM_STATE
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "mailbridge")


def size(text: str) -> int:
    """
    Return the bytes of *text*, as `25M`, as `config` does.  Raises `ConfigError`.

    >>> size("25M") == 25 * 1024 * 1024
    True
    """
    number = text.strip().removesuffix("B").removesuffix("i")
    unit = number[-1:] if number[-1:] in ("K", "M", "G") else ""
    number = number.removesuffix(unit).strip()
    digits = number.isascii() and number.isdecimal() and len(number) <= _DIGITS
    if not (digits and int(number)):
        raise ConfigError(f"max_mail: {text!r}: a number and K, M or G, as '25M'")
    return int(number) << 10 * " KMG".index(unit or " ")


def _say(text: str) -> None:
    try:
        print("mailbridge:", " ".join(text.split()), file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        # Standard error is closed or gone; the status says what matters to an MTA.
        return
