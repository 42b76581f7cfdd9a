"""Transitions that dak watched over are completed."""

from __future__ import annotations

from collections.abc import Sequence

from mailbridge import dak
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, Event, Payload


class TransitionCompleted(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """Transitions have ended: uploads that they held back may go on."""

    NAME = "transition-completed"

    names: list[str]


FAMILY = Family.DAK
PAYLOADS = (TransitionCompleted,)
ATTESTED = "documentation only"


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the event of all transitions that a mail names."""
    notice = dak.notice(mail)
    if notice is None or notice.what != "transition":
        return None
    clip = Clip()
    told = [name.strip() for name in (notice.told.get("names") or "").split(",")]
    names = clip.words(dict.fromkeys(told))
    if not names:
        raise MalformedMail("transitions are completed, and none is named")
    payload = TransitionCompleted(names=names, truncated=clip.truncated)
    # A transition of one name may come again.
    known = {"names": sorted(names), "message_id": mail.message_id}
    return [Event(payload=payload, identity=known)]
