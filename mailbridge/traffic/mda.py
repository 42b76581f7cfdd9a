"""Delivery into a Maildir, as a mail delivery agent does it.  Written apart from our own reader."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mailbridge.errors import StorageFailed


def deliver(raw: bytes, maildir: Path, number: int) -> Path:
    """
    Put *raw* into *maildir* and return its file in `new/`; whoever looks sees all of it or nothing.

    Every other *number* is moved in by a hard link, as Postfix and getmail do, the rest by a
    rename, as procmail and Dovecot do.  A missing Maildir is made.  Raises `StorageFailed`.
    """
    name = f"{time.time_ns()}.{os.getpid()}_{number}.generated"
    written, arrived = maildir / "tmp" / name, maildir / "new" / name
    try:
        maildir.parent.mkdir(parents=True, exist_ok=True)
        for folder in ("", "tmp", "new", "cur"):
            (maildir / folder).mkdir(mode=0o700, exist_ok=True)
        with written.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        if number % 2:
            written.rename(arrived)
        else:
            arrived.hardlink_to(written)
            written.unlink()
    except OSError as error:
        raise StorageFailed(f"{maildir}: cannot deliver: {error.strerror}") from error
    return arrived
