"""
dak accepted an upload, or holds it in a policy queue: the announcement and the private ACCEPTED.

Both quote the .changes, so that both give one event.  Before 2012 ACCEPTED had a list of files in
its place; what that list leaves out, the event leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mailbridge import dak
from mailbridge.changes import (
    MAX_FILES,
    derived_stem,
    facts,
    identity,
    numbers,
    read_changes,
    source_url,
    upload_stem,
)
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, Event, PackageUploadAccepted, PackageUploadHeld

FAMILY = Family.DAK
PAYLOADS = (PackageUploadAccepted, PackageUploadHeld)
ATTESTED = "real mails"

# (In lists of before 2012, below the files.)
_CLOSING: Final = re.compile(r"(?m)^Closing bugs: ([0-9 ]{1,20000})$")
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~_-]*")


def recognise(mail: Mail, site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the upload's event; nothing for what is under embargo."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "accept":
        return None
    where = dak.suites(mail, notice)
    subject = dak.parse_suites(notice.told.get("suites") or "")
    if subject.is_embargoed or (where and where.is_embargoed):
        return NoEvent(*dak.EMBARGOED)
    clip = Clip()
    changes = read_changes(mail.text)
    if changes and changes.signed is None and not changes.is_whole:
        raise MalformedMail(".changes: cut off: its lists do not name the same files")
    if changes is None:
        return [_listed(mail, notice, site, archive, where or dak.Suites(), clip)]
    guessed = where is None
    if where is None:
        where = dak.Suites(tuple(changes.distributions[:1]))
    names = [file.name for file in changes.files]
    stem = dak.upload_name(mail, notice) or upload_stem(names) or derived_stem(changes)
    told = {
        "repo": site.repo or archive.lower(),
        "upload_name": clip.word(stem),
        "suite_guessed": guessed,
        **facts(changes, clip, pool_url=site.pool_url, archive=archive),
    }
    known = {**identity(changes, suites=where.meant, policy_suites=where.queues)}
    author = changes.uploader
    event = _event(told, known, where, clip, clip.line(author) if author else None)
    return [msgspec.structs.replace(event, signed=changes.signed)]


def _event(
    told: dict[str, Any], known: dict[str, Any], where: dak.Suites, clip: Clip, author: str | None
) -> Event:
    shown = clip.words(where.meant)
    told |= {
        "is_new": False,
        "suites": shown,
        "suite": shown[0] if shown else None,
        "policy_suites": clip.words(where.queues),
    }
    is_held = bool(where.waiting) and not where.suites
    if is_held:
        # Nothing is in the pool yet.
        told |= {"policy_queue": clip.word(where.queues[0]), "dsc_url": None}
    kind = PackageUploadHeld if is_held else PackageUploadAccepted
    return Event(payload=kind(**told, truncated=clip.truncated), identity=known, author=author)


def _listed(  # noqa: PLR0913, PLR0917 - what the mail tells, of one event
    mail: Mail, notice: dak.Notice, site: Site, archive: str, where: dak.Suites, clip: Clip
) -> Event:
    stem = dak.upload_name(mail, notice)
    names = _listed_names(mail.ended_lines)
    if stem is None or stem.count("_") != 2 or not names:  # noqa: PLR2004
        raise MalformedMail("an accepted upload, and no .changes in the mail that tells what it is")
    closing = _CLOSING.search(mail.ended_lines)
    told_closed = closing[1] if closing else ""
    source, version, arch = stem.split("_")
    source = dak.source_name(mail) or source
    architectures = ["source"] if any(name.endswith(".dsc") for name in names) else []
    architectures += [] if arch in ("source", "multi") else [arch]
    told = {
        "repo": site.repo or archive.lower(),
        "upload_name": clip.word(stem),
        "source_name": clip.word(source),
        "architectures": architectures,
        "files": clip.words(names),
        "dsc": next((clip.word(name) for name in names if name.endswith(".dsc")), None),
        "changes": "",
        "closes": clip.items(numbers(told_closed.split())),
        "is_source_upload": "source" in architectures,
        "is_binnmu": False,
        "url": source_url(source, archive),
    }
    known = {
        "source": source,
        "version": version,
        "architectures": sorted(architectures),
        "suites": sorted(where.meant),
        "policy_suites": sorted(where.queues) or None,
        "files": sorted([name, 0, ""] for name in names),
    }
    return _event(told, known, where, clip, None)


def _listed_names(text: str) -> list[str]:
    """Return the files in the list that ACCEPTED once had: `name`, and where it went below."""
    told = f"\n{text}".partition("\nAccepted:\n")[2]
    if told and "\nThank you for" not in told:
        raise MalformedMail("a list of accepted files, and no thanks below it: the mail is cut off")
    lines = told.split("\n")
    names: dict[str, None] = {}
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        # A file that was new to the archive had no place yet, but section and priority.
        new = line.removeprefix("(new) ").partition(" ")[0] if line.startswith("(new) ") else ""
        name = new or (line.rstrip() if below.startswith("  to ") else "")
        if _FILE.fullmatch(name):
            names[name] = None
        if len(names) > MAX_FILES:
            raise MalformedMail(f"more than {MAX_FILES} files accepted")
    return list(names)
