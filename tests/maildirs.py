"""Delivering into a Maildir as the programs do that deliver, and being somebody who may not."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mailbridge.maildir import make_maildir

MAIL: Final = b"Subject: hello\n\nworld\n"


def by_rename(maildir: Path, name: str, mail: bytes = MAIL) -> Path:
    """Deliver as Dovecot does."""
    held = maildir / "tmp" / name
    held.write_bytes(mail)
    return held.rename(maildir / "new" / name)


def by_link(maildir: Path, name: str, mail: bytes = MAIL) -> Path:
    """Deliver as Postfix does."""
    held = maildir / "tmp" / name
    held.write_bytes(mail)
    (maildir / "new" / name).hardlink_to(held)
    held.unlink()
    return maildir / "new" / name


def into_cur(maildir: Path, name: str, mail: bytes = MAIL) -> Path:
    """Deliver as Dovecot does where Sieve added a flag."""
    held = maildir / "tmp" / name
    held.write_bytes(mail)
    return held.rename(maildir / "cur" / f"{name}:2,F")


@contextmanager
def public_maildir() -> Iterator[Path]:
    """A Maildir on a way that everybody may go; pytest's own are for its user alone."""
    way = Path(tempfile.mkdtemp())
    way.chmod(0o755)
    make_maildir(way / "Maildir")
    (way / "Maildir").chmod(0o755)
    for folder in (way / "Maildir").iterdir():
        folder.chmod(0o755)
    yield way / "Maildir"
    for folder in (way / "Maildir").iterdir():
        folder.chmod(0o755)
    shutil.rmtree(way)


@contextmanager
def as_anybody() -> Iterator[None]:
    """Be no longer root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
