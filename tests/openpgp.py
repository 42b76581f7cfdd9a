"""Keys and signatures made by GnuPG for a test, and thrown away with its home."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PAST: Final = "20200101T120000"
"""When what is to have expired by now was made."""


class GnuPG:
    """A home with secret keys."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, *words: str, data: bytes = b"", at: str | None = None) -> bytes:
        """Run gpg with *words*, *data* on its standard input, as if it were *at*."""
        clock = ["--faked-system-time", f"{at}!"] if at else []
        options = ["--batch", "--quiet", "--yes", "--no-tty", "--pinentry-mode", "loopback"]
        done = subprocess.run(
            ["gpg", *options, "--passphrase", "", *clock, *words],
            input=data,
            capture_output=True,
            check=False,
            env={**os.environ, "GNUPGHOME": str(self._home)},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, name: str, *, expires: str = "never", at: str | None = None) -> str:
        """Make a key for *name* and return its fingerprint."""
        self.run("--quick-generate-key", name, "ed25519", "sign", expires, at=at)
        told = self.run("--with-colons", "--list-keys", f"={name}").decode()
        return next(line.split(":")[9] for line in told.splitlines() if line.startswith("fpr:"))

    def export(self, *fingerprints: str) -> bytes:
        """Return the public keys as a keyring."""
        return self.run("--export", *fingerprints)

    def revoke(self, fingerprint: str) -> None:
        """Revoke the key with the certificate that was made together with it."""
        made = (self._home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.run("--import", data=made.replace(":-----BEGIN", "-----BEGIN").encode())

    def clearsign(self, text: str, fingerprint: str, *words: str, at: str | None = None) -> bytes:
        """Return *text* clearsigned by the key."""
        return self.run(*words, "-u", fingerprint, "--clearsign", data=text.encode(), at=at)

    def detached(self, data: bytes, fingerprint: str) -> bytes:
        """Return an armored signature of *data*."""
        return self.run("-u", fingerprint, "--armor", "--detach-sign", data=data)


@contextmanager
def gnupg() -> Iterator[GnuPG]:
    """Give a home of its own, short enough for the agent's socket."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    try:
        yield GnuPG(home)
    finally:
        subprocess.run(
            ["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(home)}, check=False
        )
        shutil.rmtree(home, ignore_errors=True)
