"""A GitLab tells of an issue: created, commented on, changed, closed.  No confidential ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mailbridge import gitlab
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Bug, Clip, Event


class _Issue(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """What every event about an issue tells; `bug` and `iid` are its number."""

    project: str
    iid: int


class IssueCreated(_Issue, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody opened an issue."""

    NAME = "issue-created"


class IssueChanged(_Issue, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody changed an issue: who has it, its milestone, its labels, whether it is open."""

    NAME = "issue-changed"


class IssueClosed(_Issue, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody closed an issue."""

    NAME = "issue-closed"


class IssueCommented(_Issue, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wrote to an issue.  The text itself stays in the tracker."""

    NAME = "issue-commented"


FAMILY = Family.GITLAB
PAYLOADS = (IssueCreated, IssueChanged, IssueClosed, IssueCommented)
ATTESTED = "real mails"

_KINDS: Final[dict[gitlab.What, type[_Issue]]] = {
    "created": IssueCreated,
    "closed": IssueClosed,
    "commented": IssueCommented,
}


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return what happened to the issue; nothing of one that is confidential."""
    if mail.header("X-GitLab-Issue-IID") is None:
        return None
    clip = Clip()
    notice = gitlab.notice(mail, "Issue", clip)
    if isinstance(notice, NoEvent):
        return notice
    payload = _KINDS.get(notice.what, IssueChanged)(**notice.told, truncated=clip.truncated)
    return [Event(payload=payload, identity=notice.known, author=notice.author)]
