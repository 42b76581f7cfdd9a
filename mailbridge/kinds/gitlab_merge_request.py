"""A GitLab tells of a merge request: created, commented on, changed, closed, merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mailbridge import gitlab
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Bug, Clip, Event


class _MergeRequest(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """What every event about a merge request tells; `bug` and `iid` are its number."""

    project: str
    iid: int


class MergeRequestCreated(_MergeRequest, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asks to merge a branch."""

    NAME = "merge-request-created"


class MergeRequestChanged(_MergeRequest, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody changed a merge request: its commits, who reviews it, its milestone."""

    NAME = "merge-request-changed"


class MergeRequestClosed(_MergeRequest, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody closed a merge request without merging it."""

    NAME = "merge-request-closed"


class MergeRequestMerged(_MergeRequest, frozen=True, kw_only=True, omit_defaults=True):
    """A merge request was merged."""

    NAME = "merge-request-merged"


class MergeRequestCommented(_MergeRequest, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wrote to a merge request.  The text itself stays in GitLab."""

    NAME = "merge-request-commented"


FAMILY = Family.GITLAB
PAYLOADS = (
    MergeRequestCreated,
    MergeRequestChanged,
    MergeRequestClosed,
    MergeRequestMerged,
    MergeRequestCommented,
)
ATTESTED = "rendered from the sender's templates"

_KINDS: Final[dict[gitlab.What, type[_MergeRequest]]] = {
    "created": MergeRequestCreated,
    "changed": MergeRequestChanged,
    "closed": MergeRequestClosed,
    "merged": MergeRequestMerged,
    "commented": MergeRequestCommented,
}


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return what happened to the merge request."""
    # (Nobody sends a mail about both; it would be about the issue, which may be confidential.)
    if not mail.has("X-GitLab-MergeRequest-IID") or mail.has("X-GitLab-Issue-IID"):
        return None
    clip = Clip()
    notice = gitlab.notice(mail, "MergeRequest", clip)
    if isinstance(notice, NoEvent):
        return notice
    payload = _KINDS[notice.what](**notice.told, truncated=clip.truncated)
    return [Event(payload=payload, identity=notice.known, author=notice.author)]
