"""The Maildirs: there, readable, writable where they must be, on a disk that tells of mail."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from mailbridge import config, maildir
from mailbridge.bridge.places import STRANDED
from mailbridge.bridge.serve import Watched
from mailbridge.doctor.hosts import REMOTE
from mailbridge.doctor.patient import Finding, Patient
from mailbridge.errors import MailbridgeError


def places(patient: Patient) -> Iterator[Finding]:
    """Each can be looked into, and what its source wants done with mail can be done."""
    for place in patient.watched:
        if not place.spool:
            yield from _place(patient, place)


def stranded(patient: Patient) -> Iterator[Finding]:
    """No delivery was broken off."""
    for place in patient.watched:
        try:
            count = maildir.stale(place.path, older_than=STRANDED, now=time.time())
        except MailbridgeError:
            continue
        if count:
            what = f"{place.path / 'tmp'}: {count} file(s) of deliveries that were broken off"
            mend = "move what is whole to new/, delete the rest"
            yield Finding("stranded", what, mend)


def _place(patient: Patient, place: Watched) -> Iterator[Finding]:
    names = " and ".join(repr(source.name) for source in place.sources if source.maildir)
    where = f"{place.path} (source {names})"
    blocked = _blocked(patient, place.path)
    if blocked:
        what = f"{where}: {patient.user_name} may not enter {blocked}"
        yield Finding("maildir-unreadable", what, f"setfacl -m u:{patient.user_name}:x {blocked}")
        return
    folders = [path for path in maildir.folders(place.path) if path.is_dir()]
    if not place.path.is_dir():
        mend = f"let the mail server deliver there, or make it: maildirmake.dovecot {place.path}"
        yield Finding("maildir-missing", f"{where}: does not exist", mend)
        return
    if not folders:
        what = f"{where}: is no Maildir: it has neither new/ nor cur/"
        yield Finding("no-maildir", what, "name the directory that holds new/ and cur/")
        return
    kind = patient.host.filesystem(place.path)
    if REMOTE.fullmatch(kind):
        what = f"{where}: lies on {kind}, where nobody tells of mail that others deliver"
        mend = "let mail be delivered on this host, or live with a look every 15 s"
        yield Finding("remote-maildir", what, mend)
    shut = [path for path in folders if not patient.may(path, os.R_OK | os.X_OK)]
    if shut:
        mend = f"setfacl -R -m u:{patient.user_name}:rX {place.path}"
        yield Finding(
            "maildir-unreadable", f"{where}: {patient.user_name} may not read {shut[0]}", mend
        )
    after = {config.after(source.after)[0] for source in place.sources if source.maildir}
    locked = [path for path in folders if not patient.may(path, os.W_OK)]
    if after != {"keep"} and locked and not shut:
        what = f"{where}: after = {max(after)!r}, and {patient.user_name} may not write {locked[0]}"
        mend = f"setfacl -R -m u:{patient.user_name}:rwX {place.path}, or after = 'keep'"
        yield Finding("maildir-unwritable", what, mend)


def _blocked(patient: Patient, path: Path) -> Path | None:
    """Return the first directory above *path* that we may not enter."""
    for above in reversed(path.parents):
        if above.is_dir() and not patient.may(above, os.X_OK):
            return above
    return None
