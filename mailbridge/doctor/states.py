"""The state: its keys, its databases, what they tell, and who works on it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mailbridge import keyring
from mailbridge.doctor.hosts import holder_of
from mailbridge.doctor.patient import Finding, Patient
from mailbridge.errors import MailbridgeError, NeedsOperator, NotPermitted
from mailbridge.health.state import unready
from mailbridge.journal.file import SCHEMA as JOURNAL_VERSION
from mailbridge.keyring.files import credentials_directory
from mailbridge.outbox import entity_of
from mailbridge.outbox.file import FORM

AHEAD: Final = timedelta(minutes=5)
"""A clock that was set back by less is nobody's trouble."""


def keys(patient: Patient) -> Iterator[Finding]:
    """The outbox has its key, one and no other, and it is shut."""
    found = sorted((patient.state / "keys").glob("mailbridge.*.key_secret"))
    for path in found:
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            what = f"{path}: others may read the secret key (mode {mode:04o})"
            yield Finding("key-open", what, f"chmod 600 {path}, and think of who could read it")
    owner = _owner(patient)
    wanted = patient.config.entity or owner
    names = [path.name.removesuffix(".key_secret") for path in found]
    if owner and patient.config.entity not in ("", owner):
        what = f"the outbox is that of {owner}, the configuration says {patient.config.entity!r}"
        yield Finding("entity", what, f"set entity = {owner!r}, or name another state")
    elif len(names) > 1 and not wanted:
        what = f"{patient.state / 'keys'} has several keys: {', '.join(names)}"
        yield Finding("two-keys", what, 'say which in the configuration: entity = "..."')
    elif wanted and wanted not in names and owner and credentials_directory() is None:
        what = f"the key {wanted}.key_secret of the outbox is not in {patient.state / 'keys'}"
        mend = "put it back from a backup; events signed by another nobody would believe"
        if not patient.host.path(_CREDENTIAL).exists():
            yield Finding("key-missing", what, mend)
    for path in sorted((patient.state / "keys" / "trusted").glob("*.key")):
        try:
            keyring.read_public(path)
        except (NeedsOperator, NotPermitted) as error:
            yield Finding("bad-key", f"a trusted key cannot be read: {error}", f"mend or rm {path}")


_CREDENTIAL: Final = "/etc/credstore/mailbridge.signing.key"


def outbox(patient: Patient) -> Iterator[Finding]:
    """The outbox is whole, and one that this program knows."""
    path = patient.state / "outbox.db"
    if path.exists():
        mend = "restore a backup of the state, then start once with --new-epoch"
        yield from _database(path, FORM.version, "outbox-damaged", mend)


def journal(patient: Patient) -> Iterator[Finding]:
    """So is the journal."""
    path = (patient.relay_state or patient.state) / "journal.db"
    if path.exists():
        mend = "restore a backup, or move it away: the sources send again what they have"
        yield from _database(path, JOURNAL_VERSION, "journal-damaged", mend)


def quarantine(patient: Patient) -> Iterator[Finding]:
    """No mail waits for somebody to look at it."""
    count = _one(patient, "SELECT count(*) FROM mail WHERE verdict = 'quarantined'")
    if count:
        what = f"{count} mail(s) in quarantine: they should have been understood"
        yield Finding("quarantine", what, "'mailbridge quarantine list' tells why")
    for (source,) in _rows(patient, "SELECT DISTINCT source FROM count WHERE code = 'digest'"):
        what = f"source {source!r} gets digests, of which nothing can come"
        yield Finding("digests", what, "subscribe its address to individual mails")
    why = _one(patient, "SELECT value FROM meta WHERE key = 'stand-in-off'")
    if why:
        what = f"nothing goes out under _lk.archive.*: {why}"
        yield Finding("stand-in", what, "switch the mailgun off that hears us, then restart")


def clock(patient: Patient) -> Iterator[Finding]:
    """Nothing that we did lies in the future."""
    newest = _one(patient, "SELECT max(made) FROM event") or 0
    taken = _one(patient, "SELECT max(taken) FROM mail") or 0
    last = datetime.fromtimestamp(max(newest, taken), UTC)
    if last > patient.now + AHEAD:
        what = f"this host's clock says {patient.now:%Y-%m-%d %H:%M} UTC, our last mail is of"
        what += f" {last:%Y-%m-%d %H:%M}: it was set back, or is wrong"
        yield Finding("clock", what, "let it be set by NTP: timedatectl set-ntp true")


def services(patient: Patient) -> Iterator[Finding]:
    """Who should run does, and is in no trouble that is not told elsewhere."""
    runs = holder_of(patient, patient.state / "outbox.lock") is not None
    if not runs and (patient.state / "outbox.db").exists():
        what = f"{patient.state}: no bridge runs, so mail waits"
        yield Finding("no-bridge", what, "systemctl start mailbridge; systemctl status tells why")
    for part, told in (("bridge", patient.bridge), ("relay", patient.relay)):
        if told and told.hangs:
            what = f"the {part} (process {told.facts.process[0]}) said nothing for {told.age:.0f} s"
            yield Finding("hangs", what, "look into its log, and restart it")
    facts = patient.bridge_facts
    if runs and facts and patient.bridge and not patient.bridge.hangs:
        for why in unready(facts, patient.now.timestamp()):
            if "does not answer" not in why and "holds our events" not in why:
                yield Finding("not-ready", f"mail becomes no events: {why}", "see its log")


# -- databases -------------------------------------------------------------------------------------


def _database(path: Path, version: int, code: str, mend: str) -> Iterator[Finding]:
    try:
        with contextlib.closing(_opened(path)) as db:
            found = db.execute("PRAGMA user_version").fetchone()[0]
            if found > version:
                what = f"{path}: made by a newer mailbridge (schema {found}, we know {version})"
                yield Finding("newer", what, "install that version again")
                return
            said = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said != "ok":
        yield Finding(code, f"{path}: damaged ({' '.join(said.split())[:200]})", mend)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)


def _rows(patient: Patient, sql: str) -> list[tuple[Any, ...]]:
    """Return what the outbox says; nothing where it cannot be asked."""
    path = patient.state / "outbox.db"
    if not path.exists():
        return []
    try:
        with contextlib.closing(_opened(path)) as db:
            return db.execute(sql).fetchall()
    except sqlite3.DatabaseError:
        # (Damage is told by `outbox`; a table that is not there is of an older version.)
        return []


def _one(patient: Patient, sql: str) -> Any:  # noqa: ANN401 - SQLite's
    rows = _rows(patient, sql)
    return rows[0][0] if rows else None


def asked(patient: Patient, sql: str) -> list[tuple[Any, ...]]:
    """Return what the outbox answers to *sql*, read-only; nothing where it cannot be asked."""
    return _rows(patient, sql)


def _owner(patient: Patient) -> str | None:
    try:
        return entity_of(patient.state / "outbox.db")
    except MailbridgeError:
        return None
