"""dak did what a .dak-commands file asked: who may upload which package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge import dak
from mailbridge.changes import numbers
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, Event, Payload


class UploadPermissionChanged(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """A key may upload packages that it might not before, or the other way round."""

    NAME = "upload-permission-changed"

    fingerprint: str
    allowed: list[str]
    denied: list[str]
    uid: str | None = None
    """Whose key it is."""
    removed: int | None = None
    """How many permissions it lost where all were taken away at once, and none is named."""


FAMILY = Family.DAK
PAYLOADS = (UploadPermissionChanged,)
ATTESTED = "documentation only"

UNCHANGED: Final = NoEvent("no-change", "commands to dak that changed no permission")
MAX_BLOCKS: Final = 100
MAX_LINES: Final = 10_000

_FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{16,64}")
_ENTRIES: Final = re.compile(r"(\d{1,9}) acl entries removed\.?")


class _Block:
    """What one command changed, while its lines are read."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.uid: str | None = None
        self.words: dict[str, list[str]] = {"Allowed": [], "Denied": []}
        self.removed: int | None = None

    @property
    def changed(self) -> bool:
        return any(self.words.values()) or bool(self.removed)


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return an event for each key whose permissions changed."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "results":
        return None
    blocks = [block for block in _blocks(mail.ended_lines) if block.changed]
    return [_event(mail, block) for block in blocks] or UNCHANGED


def _event(mail: Mail, block: _Block) -> Event:
    clip = Clip()
    payload = UploadPermissionChanged(
        fingerprint=clip.word(block.fingerprint),
        uid=clip.line(block.uid) if block.uid else None,
        allowed=clip.words(block.words["Allowed"]),
        denied=clip.words(block.words["Denied"]),
        removed=block.removed,
        truncated=clip.truncated,
    )
    known = {
        "fingerprint": block.fingerprint,
        "allowed": sorted(set(block.words["Allowed"])),
        "denied": sorted(set(block.words["Denied"])),
        "removed": block.removed,
        # What was allowed, denied and allowed again is three pieces of news.
        "message_id": mail.message_id,
    }
    return Event(payload=payload, identity=known)


def _blocks(text: str) -> list[_Block]:
    found: list[_Block] = []
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        raise MalformedMail(f"results of more than {MAX_LINES} lines")
    for line in lines:
        name, _, value = (part.strip() for part in line.partition(":"))
        if name in {"Fingerprint", "Removed"} and _FINGERPRINT.fullmatch(value.rstrip(".")):
            found.append(_Block(value.rstrip(".").upper()))
            if len(found) > MAX_BLOCKS:
                raise MalformedMail(f"results of more than {MAX_BLOCKS} commands")
        elif found and name == "Uid":
            found[-1].uid = value
        elif found and name in found[-1].words and value:
            found[-1].words[name].append(value)
        elif found and (entries := _ENTRIES.fullmatch(line.strip())):
            found[-1].removed = numbers([entries[1]])[0]
    return found
