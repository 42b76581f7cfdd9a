"""
OpenPGP by gpgv, which every Debian has: 3 ms a check, 20 with a distribution's keyring.

Its status lines are bytes, and only the first words of a line that gpgv itself began count: a name
in a key can hold anything, `\\n[GNUPG:] GOODSIG` included.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from mailbridge.errors import Unchecked
from mailbridge.proof import SignedBy
from mailbridge.verifiers import Checked, bad, not_convincing, unknown_key
from mailbridge.verifiers.files import Files

TIMEOUT: Final = 10.0
"""Seconds; a distribution's keyring takes 0.02."""

_STRONG: Final = (b"8", b"9", b"10", b"12", b"14")
"""SHA-256, -384, -512, SHA3-256, -512 (RFC 9580, 9.5)."""

_REFUSALS: Final = (b"BADSIG", b"ERRSIG", b"EXPSIG", b"REVKEYSIG", b"NODATA", b"ERROR")
_NO_PUBKEY: Final = b"9"
_UNSUPPORTED: Final = b"4"

_Status = dict[bytes, list[list[bytes]]]


class Gpgv:
    """An `OpenPGP` verifier."""

    def __init__(self, files: Files, program: str, *, timeout: float = TIMEOUT) -> None:
        self._files: Final = files
        self._program: Final = program
        self._timeout: Final = timeout

    def check(self, block: bytes) -> Checked:
        """Check one clearsigned *block*, with nothing around it.  Raises `Unchecked`."""
        with tempfile.NamedTemporaryFile(prefix="mailbridge-") as signed:
            Path(signed.name).write_bytes(block)
            return self._run(["--output", "-", signed.name], b"")

    def check_detached(self, data: bytes, signature: bytes) -> Checked:
        """Check an armored *signature* of *data*.  Raises `Unchecked`."""
        with tempfile.NamedTemporaryFile(prefix="mailbridge-") as detached:
            Path(detached.name).write_bytes(signature)
            claim, _ = self._run([detached.name, "-"], data)
            fits = claim.status in ("good", "expired", "revoked")
            return Checked(claim, data if fits else b"")

    def _run(self, words: list[str], data: bytes) -> Checked:
        if self._files.changed():
            self._files.read()  # it is there, and not empty: gpgv would say "unknown key"
        rings = [word for path in self._files.paths for word in ("--keyring", str(path.absolute()))]
        with tempfile.TemporaryFile() as status:
            fd = status.fileno()
            try:
                done = subprocess.run(  # noqa: S603 - found at start, no shell
                    [self._program, "--status-fd", str(fd), *rings, *words],
                    input=data,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(fd,),
                    timeout=self._timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise Unchecked(f"gpgv: no answer within {self._timeout:g} s") from error
            except OSError as error:
                raise Unchecked(f"{self._program}: {error.strerror}") from error
            status.seek(0)
            told = _parse(status.read())
        if done.returncode < 0 or not told:
            raise Unchecked(f"gpgv: ended with {done.returncode} and said nothing")
        return _judged(done.returncode, told, done.stdout)


def _parse(status: bytes) -> _Status:
    found: _Status = defaultdict(list)
    for line in status.split(b"\n"):
        words = line.split(b" ")
        if words[0] == b"[GNUPG:]" and len(words) > 1:
            found[words[1]].append(words[2:])
    return found


def _judged(status: int, told: _Status, text: bytes) -> Checked:
    """
    Return what gpgv's words mean.

    Good is what it ends with 0 for, with one NEWSIG, GOODSIG and VALIDSIG each, a strong digest,
    and no word of a doubt; but for one: a key that expired after it signed.
    """
    if len(told[b"VALIDSIG"]) != 1 or len(told[b"NEWSIG"]) != 1:
        return _refused(told)
    (valid,) = told[b"VALIDSIG"]
    if len(valid) < 10 or valid[7] not in _STRONG:  # noqa: PLR2004 - GnuPG's doc/DETAILS
        return not_convincing()
    claim = SignedBy(how="openpgp", status="good", fingerprint=valid[9].decode("ascii", "replace"))
    if told[b"REVKEYSIG"]:
        return Checked(msgspec.structs.replace(claim, status="revoked"), text)
    if told[b"EXPSIG"] or (told[b"EXPKEYSIG"] and not _in_time(int(valid[2]), told)):
        return Checked(msgspec.structs.replace(claim, status="expired"), text)
    signed = len(told[b"GOODSIG"]) + len(told[b"EXPKEYSIG"])
    if status != 0 or signed != 1 or any(told[word] for word in _REFUSALS):
        return _refused(told)
    return Checked(claim, text)


def _refused(told: _Status) -> Checked:
    if len(told[b"NEWSIG"]) == len(told[b"ERRSIG"]) == 1 and len(told[b"ERRSIG"][0]) > 5:  # noqa: PLR2004
        if told[b"ERRSIG"][0][5] == _NO_PUBKEY:
            return unknown_key()
        if told[b"ERRSIG"][0][5] == _UNSUPPORTED:
            return not_convincing()
    return bad()


def _in_time(signed: int, told: _Status) -> bool:
    """Say whether a key that has expired by now had not when it *signed*."""
    ends = [int(words[0]) for words in told[b"KEYEXPIRED"] if words and words[0].isdigit()]
    return bool(ends) and signed < min(ends)
