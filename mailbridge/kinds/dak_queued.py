"""
The queue daemon took an upload in, or could not: long before the archive decides.

Its mails have no MIME headers, sometimes no subject, and may speak of several uploads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge import dak
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import REASON, Clip, Event, Payload


class PackageUploadReceived(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """An upload reached the queue of the archive, or failed to; nobody decided about it yet."""

    NAME = "package-upload-received"

    upload_name: str
    source_names: list[str]
    success: bool
    files: list[str]
    reason: str | None = None
    """Why it failed, in the daemon's words."""
    host: str | None = None
    """Where the daemon runs."""


FAMILY = Family.DAK
PAYLOADS = (PackageUploadReceived,)
ATTESTED = "real mails"

COMMANDS: Final = NoEvent("commands", "commands to the queue daemon; no upload")
MAX_UPLOADS: Final = 50

_UPLOADED: Final = re.compile(r"/?(\S+)\.changes uploaded successfully to \S+")
_NAMED: Final = re.compile(r"/?(\S+)\.changes\b.*")
_HOST: Final = re.compile(r"\s*Your \S+ queue daemon \(running on host (\S+)\)")


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return an event for each upload that was taken in, or the one that was not."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "queued":
        return None
    file = notice.told.get("file") or ""
    if file.endswith("commands"):
        return COMMANDS
    text, host = _without_greetings(mail.ended_lines)
    uploads = _uploads(text)
    if uploads:
        return [_event(mail, name, files, host=host) for name, files in uploads]
    named = next((found[1] for line in text.split("\n") if (found := _NAMED.match(line))), "")
    name = file.removesuffix(".changes") or named
    if not name:
        raise MalformedMail("the queue daemon speaks of no upload")
    if text is mail.ended_lines:
        # What it did may stand below.
        raise MalformedMail("the queue daemon's mail is cut off: it does not end with greetings")
    return [_event(mail, name, [], host=host, reason=text.strip())]


def _event(
    mail: Mail, name: str, files: list[str], *, host: str | None, reason: str | None = None
) -> Event:
    clip = Clip()
    payload = PackageUploadReceived(
        upload_name=clip.word(name.rpartition("/")[2]),
        # It puts them in no order.
        source_names=clip.words(sorted(set((mail.header("X-Debian-Package") or "").split()))),
        success=reason is None,
        files=clip.words(files),
        reason=None if reason is None else clip.text(reason, REASON),
        host=clip.word(host) if host else None,
        truncated=clip.truncated,
    )
    known = {
        "upload_name": payload.upload_name,
        "success": payload.success,
        "files": sorted(files),
        "reason": payload.reason,
        # One file is tried, and fails, again and again.
        "message_id": mail.message_id,
    }
    return Event(payload=payload, identity=known)


def _uploads(text: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if (uploaded := _UPLOADED.fullmatch(line.rstrip())) and len(found) < MAX_UPLOADS:
            found.append((uploaded[1], []))
        elif line.startswith("  ") and found and len(line.split()) == 1:
            found[-1][1].append(line.strip())
    return found


def _without_greetings(text: str) -> tuple[str, str | None]:
    before, greeting, after = f"\n{text}".rpartition("\nGreetings,")
    if not greeting:
        return text, None
    host = _HOST.match(after)
    return before, host[1] if host else None
