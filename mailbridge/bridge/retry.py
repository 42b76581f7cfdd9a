"""A mail in quarantine, looked at again: after an upgrade, or with other settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mailbridge import maildir
from mailbridge.bridge.deliver import Delivery, Gateway
from mailbridge.bridge.quarantine import Note
from mailbridge.bridge.state import State
from mailbridge.config import Source
from mailbridge.errors import MailbridgeError, NeedsOperator
from mailbridge.outbox import Quarantined


def try_again(
    mail: Quarantined, sources: tuple[Source, ...], state: State, gateway: Gateway
) -> tuple[str, str]:
    """
    Deliver *mail* again, as *sources*' mail, and return (what became of it, its verdict).

    It leaves the quarantine with any other verdict than `quarantined`, and the counts tell of it
    once, however often it is tried.  Of what was too large the whole is looked for in its Maildir.
    """
    try:
        note, raw = state.quarantine.note(mail.sha256), state.quarantine.mail(mail.sha256)
    except NeedsOperator as error:
        return f"{error}; 'drop' gives it up", "quarantined"
    if note.size is not None:
        whole = _whole(note, raw, gateway.max_mail)
        if whole is None:
            words = "only its beginning is kept; raise max_mail, or `ingest` the file"
            return f"{words} ({note.file})" if note.file else words, "quarantined"
        raw = whole
    [outcome] = gateway.deliver(
        [
            Delivery(
                raw,
                sources,
                note.received or datetime.now(UTC),
                where=note.file,
                backfill=note.backfill,
                again=True,
            )
        ]
    )
    verdict = outcome.verdict
    route = ",".join(source.name for source in outcome.sources)
    same = (hashlib.sha256(raw).hexdigest(), route) == (mail.sha256, mail.route)
    state.outbox.tried_again(mail, verdict, replaced=same)
    if not state.outbox.is_quarantined(mail.sha256):
        # (Else other sources wait for the same bytes.)
        state.quarantine.release(mail.sha256)
    return verdict.reason or " ".join(outcome.uuids), verdict.verdict


def _whole(note: Note, beginning: bytes, limit: int) -> bytes | None:
    """Return the mail of which *beginning* is kept, if it is still there and not too large now."""
    for path in _places(Path(note.file)) if note.file else ():
        try:
            raw = maildir.read(path, limit=limit)
        except MailbridgeError:
            continue
        if raw.startswith(beginning):
            return raw
    return None


def _places(path: Path) -> Iterator[Path]:
    """Yield where the file *path* may be: there, or in its Maildir as a mail reader moves it."""
    yield path
    base = path.name.partition(":2,")[0]
    for folder in ("cur", "new"):
        directory = path.parent.parent / folder
        if directory.is_dir():
            yield from (found for found in directory.iterdir() if found.name.startswith(base))
