"""
Launchpad tells what became of an upload, to Ubuntu or to a PPA: announcement and private copies.

Mails of Ubuntu carry the .changes as an attachment without its signature; those of a PPA tell the
names of the files, and the changelog; the announcement of what was copied from elsewhere, as from
Debian, tells the changelog and who changed it.  Before 2008 the .changes stood in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mailbridge.changes import (
    MAX_FILES,
    Changes,
    bugs_closed,
    facts,
    first_entry,
    identity,
    numbers,
    read_changes,
    upload_stem,
)
from mailbridge.errors import MalformedMail
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail, person
from mailbridge.payloads import (
    CHANGES,
    REASON,
    Clip,
    Event,
    PackageUploadAccepted,
    PackageUploadHeld,
    PackageUploadQueuedNew,
    PackageUploadRejected,
)

FAMILY = Family.LAUNCHPAD
PAYLOADS = (
    PackageUploadAccepted,
    PackageUploadHeld,
    PackageUploadQueuedNew,
    PackageUploadRejected,
)
ATTESTED = "rendered from the sender's templates"

QUEUE: Final = "unapproved"
"""Launchpad's name for the queue of what waits for approval."""

# List prefixes go before; the last of the brackets names the archive.
_SUBJECT: Final = re.compile(
    r"(?:\[[^\]]*\] ){0,5}"
    r"\[(?P<archive>~[^/\]]+/[^/\]]+/[^/\]]+|[^~/\]]+)(?:/(?P<suite>[^/\]]+))?\]"
    r" (?P<names>[^(]+?)(?: (?P<version>[^\s(]+))?"
    r" \((?P<status>New|Waiting for approval|Rejected|Accepted)\)"
)
# Before 2008; the suite stood in the .changes alone.
_OLD_SUBJECT: Final = re.compile(
    r"(?:\[[^\]]*\] ){0,5}(?:(?P<names>[a-z0-9][a-z0-9.+-]+\.changes|[a-z0-9]\S*_\S+\.changes)"
    r" (?P<what>Accepted|rejected|is NEW)"
    r"|(?P<status>Accepted|Waiting for approval):? (?P<source>[a-z0-9][a-z0-9.+-]+)"
    r" (?P<version>[0-9]\S*) \([^)]*\))"
)
_OLD: Final = {"rejected": "Rejected", "is NEW": "New"}
_FILE: Final = re.compile(r"(?: OK|NEW): (\S+)")
_COMPONENT: Final = re.compile(r" +-> Component")
_ENTRY: Final = re.compile(r"[a-z0-9][a-z0-9.+-]* \([^)\s]+\) [^;]*; ?urgency=")
_URL: Final = re.compile(r"(?m)^(https://launchpad\.net/[!-~]{1,120}/\+source/[!-~]{1,150})$")
_FIELD: Final = re.compile(r"(Date|Changed-By|Maintainer|Origin|Signed-By): (.*)")
# (As dpkg finds them for `Launchpad-Bugs-Fixed`.)
_BUG: Final = re.compile(r"(?i)lp:\s{1,80}#\d{1,9}(?:,\s{0,80}#\d{1,9})*")
_DIGITS: Final = re.compile(r"\d+")


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """What subject and headers tell of an upload."""

    reference: str
    """Launchpad's name of the archive: `ubuntu`, `~owner/ubuntu/ppa`."""
    suite: str | None
    names: str
    version: str | None
    status: str
    is_old: bool = False
    """Its .changes stands in the text, and tells the suite."""

    @property
    def source(self) -> str | None:
        """The source package, if one is named; images and the like have files and no version."""
        if self.stem:
            return self.stem.partition("_")[0]
        return self.names.partition(",")[0] if self.version else None

    @property
    def stem(self) -> str | None:
        """The .changes' name without `.changes`, in very early rejections."""
        stem = self.names.removesuffix(".changes")
        return stem if stem != self.names and "/" not in stem else None


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | None:
    """Return the upload's event."""
    told = _told(mail)
    if told is None:
        return None
    clip = Clip()
    changes = _attached(mail, told)
    if told.is_old and changes and changes.distributions:
        told = msgspec.structs.replace(told, suite=changes.distributions[0])
    if told.status in ("Accepted", "Waiting for approval"):
        return [_whole(mail, told, changes, site, clip)]
    stem = told.stem or (changes and _stem(told, [f.name for f in changes.files])) or None
    source = changes.source if changes else told.source
    version = changes.source_version if changes else told.version
    common: dict[str, Any] = {
        "repo": clip.word(site.repo or told.reference),
        "upload_name": clip.word(stem or _derived(told)),
        "suite": clip.word(told.suite) if told.suite else None,
        "source_name": clip.word(source) if source else None,
        "source_version": clip.word(version) if version else None,
        "suite_guessed": told.is_old and told.suite is not None,
        "architectures": (clip.words(changes.architectures) or None) if changes else None,
        "url": _url(mail, clip),
    }
    known = {
        "repo": told.reference,
        "upload_name": common["upload_name"],
        "source": source,
        "version": version,
        "suites": [told.suite] if told.suite else None,
        # One name may be rejected, or wait, more than once.
        "message_id": mail.message_id,
    }
    if told.status == "New":
        payload = PackageUploadQueuedNew(is_new=True, **common, truncated=clip.truncated)
        return [Event(payload=payload, identity=known)]
    reason = clip.text(_reason(mail.ended_lines), REASON)
    rejected = PackageUploadRejected(reason=reason, **common, truncated=clip.truncated)
    return [Event(payload=rejected, identity={**known, "reason": reason})]


def _told(mail: Mail) -> _Told | None:
    kind = mail.header("X-Launchpad-Notification-Type")
    katie = (mail.header("X-Katie") or "").startswith("Launchpad")
    # (What names a bug is about the bug.)
    if kind != "package-upload" and (kind or not katie or mail.has("X-Launchpad-Bug")):
        return None
    reference = mail.header("X-Launchpad-Archive")
    if reference is None and (ppa := mail.header("X-Launchpad-PPA")):
        reference = f"~{ppa}"
    found = _SUBJECT.fullmatch(mail.subject)
    if found is None and (old := _OLD_SUBJECT.fullmatch(mail.subject)):
        return _Told(
            reference=reference or "ubuntu",
            suite=None,
            names=old["names"] or old["source"],
            version=old["version"],
            status=_OLD.get(old["what"] or "", old["status"] or "Accepted"),
            is_old=True,
        )
    if found is None:
        raise MalformedMail(f"an upload with the subject {mail.subject[:80]!r}")
    version = found["version"]
    return _Told(
        reference=reference or found["archive"],
        suite=found["suite"],
        names=found["names"],
        version=None if version == "-" else version,
        status=found["status"],
    )


def _attached(mail: Mail, told: _Told) -> Changes | None:
    """Return what the attached .changes says; the mail's own text may only look like one."""
    for text in mail.texts[0 if told.is_old else 1 :]:
        if changes := read_changes(text):
            if told.is_old and changes.signed is None and not changes.is_whole:
                raise MalformedMail(".changes: cut off: its lists do not name the same files")
            return changes
    return None


def _whole(mail: Mail, told: _Told, changes: Changes | None, site: Site, clip: Clip) -> Event:
    known: dict[str, Any]
    suites = [told.suite] if told.suite else []
    author = None
    if changes:
        shown = facts(changes, clip, pool_url=site.pool_url, archive="")
        stem = _stem(told, [file.name for file in changes.files])
        known = identity(changes, suites=suites, policy_suites=[])
        author = clip.line(changes.uploader) if changes.uploader else None
    else:
        names = _files(mail.ended_lines)
        if names:
            shown = _listed(mail.ended_lines, told, names, clip)
        else:
            shown, author = _copied(mail.ended_lines, told, clip)
        stem = _stem(told, names)
        # (Of what was copied into Ubuntu itself only some of the mails name the files.)
        is_copied = told.source and not told.reference.startswith("~")
        known = {
            "source": told.source,
            "version": told.version,
            "suites": suites,
            "files": None if is_copied else sorted(names),
        }
    known["repo"] = told.reference
    signed = changes.signed if changes else None
    common: dict[str, Any] = shown | {
        "repo": clip.word(site.repo or told.reference),
        "upload_name": clip.word(stem),
        "is_new": False,
        "suites": clip.words(suites),
        "suite": clip.word(told.suite) if told.suite else None,
        "suite_guessed": told.is_old,
        "policy_suites": [],
        "url": _url(mail, clip),
    }
    if told.status == "Accepted":
        payload = PackageUploadAccepted(**common, truncated=clip.truncated)
        return Event(payload=payload, identity=known, author=author, signed=signed)
    # Nothing is in the pool yet.
    common |= {"policy_queue": QUEUE, "policy_suites": [QUEUE], "dsc_url": None}
    held = PackageUploadHeld(**common, truncated=clip.truncated)
    # What was rejected from there may be uploaded again as it is.
    known["message_id"] = mail.message_id
    return Event(payload=held, identity=known, author=author, signed=signed)


def _listed(text: str, told: _Told, names: Sequence[str], clip: Clip) -> dict[str, Any]:
    """Return what the mail of a PPA tells of an upload."""
    return _of_changelog(_changelog(text), told, names, clip)


def _copied(text: str, told: _Told, clip: Clip) -> tuple[dict[str, Any], str | None]:
    """
    Return what is told of a source package that was copied from elsewhere, and who changed it.

    The changelog, a few fields of the .changes that it once came by, and its page.
    """
    lines = text.partition("\n-- \n")[0].split("\n")
    end = next((n for n in reversed(range(len(lines))) if _URL.fullmatch(lines[n])), 0)
    start = next((n for n in reversed(range(end)) if not _FIELD.fullmatch(lines[n].rstrip())), end)
    fields = {
        found[1]: found[2] for n in lines[start:end] if (found := _FIELD.fullmatch(n.strip()))
    }
    if not fields or not told.source:
        raise MalformedMail("an upload without its .changes and its files")
    who = fields.get("Changed-By")
    changer = person(who or "")
    shown = _of_changelog(_changelog("\n".join(lines[:start])), told, [], clip) | {
        "source_maintainer": clip.line(fields["Maintainer"]) if "Maintainer" in fields else None,
        "uploader_name": clip.word(changer.name) if changer.name else None,
        "uploader_email": changer.address,
        "architectures": ["source"],
        "is_source_upload": True,
    }
    return shown, clip.line(who) if who else None


def _of_changelog(changelog: str, told: _Told, names: Sequence[str], clip: Clip) -> dict[str, Any]:
    """Return what a changelog and the names of the files tell."""
    _, distribution, urgency = first_entry(changelog)
    dsc = next((name for name in names if name.endswith(".dsc")), None)
    launchpad = [number for bug in _BUG.findall(changelog) for number in _DIGITS.findall(bug)]
    return {
        "source_name": clip.word(told.source) if told.source else None,
        "source_version": clip.word(told.version) if told.version else None,
        "files": clip.words(names),
        "changes": clip.text(changelog, CHANGES),
        "closes": clip.items(bugs_closed(changelog)),
        "launchpad_bugs": clip.items(numbers(launchpad)) or None,
        "architectures": ["source"] if dsc else None,
        "dsc": clip.word(dsc) if dsc else None,
        "distribution": clip.word(distribution) if distribution else None,
        "urgency": urgency,
        "is_source_upload": dsc is not None,
        "is_binnmu": False,
    }


def _files(text: str) -> list[str]:
    names: dict[str, None] = {}
    goes_on = False
    for line in text.split("\n"):
        if line.rstrip() == "--":
            goes_on = True
            break
        if (found := _FILE.fullmatch(line.rstrip())) and "/" not in found[1]:
            names[found[1]] = None
            goes_on = False
        elif line.strip() and not _COMPONENT.match(line):
            goes_on = True
    if names and not goes_on:
        raise MalformedMail("a list of files, and nothing below it: the mail is cut off")
    if len(names) > MAX_FILES:
        raise MalformedMail(f"more than {MAX_FILES} files")
    return list(names)


def _changelog(text: str) -> str:
    """Return the changelog, which stands unindented before the footer."""
    lines = text.partition("\n-- \n")[0].partition("\n===\n")[0].split("\n")
    start = next((n for n, line in enumerate(lines) if _ENTRY.match(line)), len(lines))
    return "\n".join(lines[start:]).strip("\n")


def _reason(text: str) -> str:
    """Return the reasons: what stands behind `Rejected:`, up to the changelog or the rule."""
    kept: list[str] = []
    for line in text.strip().removeprefix("Rejected:").strip("\n").split("\n"):
        if (
            _ENTRY.match(line)
            or line.rstrip() in ("===", "--")
            or line.startswith(("-----BEGIN PGP SIGNED", "Format: "))
        ):
            break
        kept.append(line)
    return "\n".join(kept).strip()


def _stem(told: _Told, names: Sequence[str]) -> str:
    return told.stem or upload_stem(names) or _derived(told)


def _derived(told: _Told) -> str:
    """The name that the .changes of a source upload has: nearly all that Launchpad mails of."""
    if not told.source:
        return told.names.partition(",")[0]
    version = (told.version or "").rpartition(":")[2]
    return "_".join(filter(None, [told.source, version, "source"]))


def _url(mail: Mail, clip: Clip) -> str | None:
    found = _URL.search(mail.ended_lines)
    return clip.word(found[1]) if found else None
