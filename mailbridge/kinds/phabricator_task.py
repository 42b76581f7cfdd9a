"""A Phabricator tells of a task of Maniphest: created, commented on, changed, closed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Bug, Clip, Event


class _Task(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """What every event about a task tells; `bug` and `task` are its number."""

    task: int
    verb: str
    """Phabricator's own word, as `Raised Priority`."""
    projects: list[str]
    priority: str | None = None


class TaskCreated(_Task, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody created a task."""

    NAME = "task-created"


class TaskChanged(_Task, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody changed a task."""

    NAME = "task-changed"


class TaskClosed(_Task, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody closed a task, resolved or not."""

    NAME = "task-closed"


class TaskCommented(_Task, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wrote to a task.  The text itself stays in Phabricator."""

    NAME = "task-commented"


FAMILY = Family.PHABRICATOR
PAYLOADS = (TaskCreated, TaskChanged, TaskClosed, TaskCommented)
ATTESTED = "rendered from the sender's templates"

TRACKER: Final = "phabricator"
PRIVATE: Final = NoEvent("private", "a task of which Phabricator sends nothing in the clear")
MAX_TEXT: Final = 64 * 1024
# Statuses have verbs of their own.
CLOSINGS: Final = frozenset(
    ("closed", "resolved", "wontfix", "invalid", "duplicate", "spite", "merged", "declined")
)

_SUBJECT: Final = re.compile(
    # (Some lists put their prefix in front of "Re:", some behind it.)
    r"(?:\[[^\]]+\] ){0,5}?(?:Re: )?(?:\[[^\]]+\] ){0,5}?\[Maniphest\] "
    r"(?:\[(?P<verb>[^\]]+)\] )?T(?P<task>\d{1,9}): (?P<title>.*)"
)
_STAMP: Final = re.compile(r"(?<!\S)([a-z-]{1,40})\(([^()\s]{1,200})\)")
_PROJECT: Final = re.compile(r"<#([^<>]{1,200})>")
# No quotes before the verb: titles and comments stand between quotes.
_CLOSED: Final = re.compile(r'(?m)^[^"\n]{1,200} closed this task as "([^"\n]{1,100})"\.')
_CREATED: Final = re.compile(r'[^"\n]{1,200} created this task\.')
_DID: Final = re.compile(
    r"(?m)^(\S{1,200}) (?:added|changed|claimed|closed|created|lowered|moved"
    r"|raised|removed|renamed|reopened|triaged|updated)\b"
)
_PRIORITY: Final = re.compile(
    r'(?m)^[^"\n]{1,200} (?:(?:raised|lowered) the priority of this task from "[^"\n]{1,100}"'
    r' to "([^"\n]{1,100})"|triaged this task as "([^"\n]{1,100})" priority)'
)


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return what happened to the task; None for mail about other things, as revisions."""
    subject = _SUBJECT.fullmatch(mail.subject)
    if (mail.header("X-Phabricator-Must-Encrypt") or "no").lower() != "no":
        return PRIVATE
    if subject is None:
        if "[Maniphest]" in mail.subject:
            raise MalformedMail(f"a task with the subject {mail.subject[:80]!r}")
        return None
    clip = Clip()
    # What people write goes below what they did, and below a line of its own.
    did, ended, _ = mail.ended_lines[:MAX_TEXT].lstrip("\n").partition("\n\n")
    if subject["verb"] is None and not ended:
        raise MalformedMail("a task, and nothing that tells what happened to it")
    stamps = dict(_STAMP.findall(mail.header("X-Phabricator-Stamps") or ""))
    kind, verb = _kind(subject["verb"], did, mail)
    closed, priority = _CLOSED.search(did), _PRIORITY.search(did)
    actor = _DID.search(did)
    name = stamps.get("actor", "").removeprefix("@") or (actor[1] if actor else "")
    number = int(subject["task"])
    status = stamps.get("task-status") or (closed[1] if closed else "")
    url = re.search(rf"https?://[A-Za-z0-9.-]{{1,200}}(?::\d{{1,5}})?/T{number}\b", mail.text)
    told: dict[str, Any] = {
        "tracker": TRACKER,
        "bug": number,
        "task": number,
        "verb": clip.word(verb),
        "title": clip.line(subject["title"]),
        "package": [],
        "source": [],
        "tags": [],
        "projects": clip.words(_PROJECT.findall(mail.header("X-Phabricator-Projects") or "")),
        "actor_name": clip.word(name) or None,
        "status": clip.word(status) or None,
        "priority": clip.word(priority[1] or priority[2]) if priority else None,
        "url": url[0] if url else None,
    }
    known = {key: told[key] for key in ("tracker", "url", "task", "verb", "title")} | {
        "projects": sorted(told["projects"]),
        "status": told["status"],
        "priority": told["priority"],
        "message_id": mail.message_id,
    }
    payload = kind(**told, truncated=clip.truncated)
    return [Event(payload=payload, identity=known, author=told["actor_name"])]


def _kind(verb: str | None, did: str, mail: Mail) -> tuple[type[_Task], str]:
    """Return what happened and its verb; where the subject tells none, the text's first lines."""
    if verb is None:
        tags = (mail.header("X-Phabricator-Mail-Tags") or "").strip("<> ")
        if _CREATED.match(did):
            verb = "Created"
        elif _CLOSED.search(did):
            verb = "Closed"
        else:
            verb = "Commented On" if tags == "maniphest-comment" else "Updated"
    word = verb.lower()
    if word == "created":
        return TaskCreated, verb
    if word in CLOSINGS or _CLOSED.search(did):
        return TaskClosed, verb
    return (TaskCommented if word == "commented on" else TaskChanged), verb
