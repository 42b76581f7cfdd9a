"""What GitLab's mails about issues, about merge requests and about pushes have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from mailbridge.errors import MalformedMail
from mailbridge.family import NoEvent
from mailbridge.mail import Mail, person
from mailbridge.payloads import Clip

What = Literal["created", "changed", "closed", "merged", "commented"]

TRACKER: Final = "gitlab"
PRIVATE: Final = NoEvent("private", "confidential: an issue, or a note for members alone")
REPLY_KEY: Final = NoEvent("reply-key", "its Message-ID holds the key to answer in a user's name")

PATH: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}(?:/[A-Za-z0-9_.-]{1,200}){1,20}")
# Answers go to `incoming+KEY@`, or `reply+KEY@`, or whatever the site calls it.
_KEY: Final = re.compile(r"\+([A-Za-z0-9_-]{16,200})@")
_COMMENT_ID: Final = re.compile(r"note_\d+@.*")
_INTERNAL: Final = re.compile(r".{1,250} \b(?:internal note|commented internally)\b.*")
_SAID: Final[tuple[tuple[What, re.Pattern[str]], ...]] = (
    (
        "commented",
        re.compile(
            r".{1,250} (?:commented(?: on .{1,250})?|started a new discussion(?: on .{1,250})?"
            r"|replied to a discussion):?(?: \S+)?"
        ),
    ),
    (
        "merged",
        re.compile(r"Merge [Rr]equest [#!]?\d+ was merged.*|.{1,250} merged merge request.*"),
    ),
    ("closed", re.compile(r"(?:Issue|Merge [Rr]equest)(?: [#!]?\d+)? was closed\b.*")),
    ("created", re.compile(r".{1,250} created (?:an issue|a merge request|a new issue).*")),
    ("created", re.compile(r"(?:Issue|Merge [Rr]equest) [#!]?\d+: https?://\S+")),
    # The templates of the years when both were written large.
    ("created", re.compile(r"New (?:[Ii]ssue|[Mm]erge [Rr]equest) (?:was created\.?|[#!]\d+)")),
)


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One of GitLab's mails about one item."""

    what: What
    project: str
    iid: int
    told: dict[str, Any]
    """The fields of its payload that every such mail gives."""
    known: dict[str, Any]
    """What makes it the news that it is."""
    author: str | None


def notice(mail: Mail, noun: Literal["Issue", "MergeRequest"], clip: Clip) -> Notice | NoEvent:
    """
    Return what *mail* tells of the issue or merge request that its headers name.

    Nothing of confidential ones, nothing that holds a reply key: whoever has that answers in the
    name of the mail's receiver.  Raises `MalformedMail` where there is no project or number.
    """
    if kept := kept_in(mail):
        return kept
    project = mail.header("X-GitLab-Project-Path") or ""
    number = mail.header(f"X-GitLab-{noun}-IID") or ""
    if not PATH.fullmatch(project) or not re.fullmatch(r"\d{1,9}", number, re.ASCII):
        raise MalformedMail(f"{noun} {number[:20]!r} of the project {project[:80]!r}")
    iid = int(number)
    mark = "#" if noun == "Issue" else "!"
    title = clip.line(_title(mail, f"({mark}{iid})"))
    first = next((line.strip() for line in mail.text.split("\n") if line.strip()), "")[:600]
    if _INTERNAL.fullmatch(first):
        return PRIVATE
    what = _what(mail, first)
    url = _url(mail, project, "issues" if noun == "Issue" else "merge_requests", iid)
    told: dict[str, Any] = {
        "tracker": TRACKER,
        "bug": iid,
        "iid": iid,
        "project": project,
        "title": title,
        "package": [],
        "source": [],
        "tags": [],
        "actor_name": actor(mail, clip),
        "status": clip.word(mail.header(f"X-GitLab-{noun}-State") or "") or None,
        "url": url,
    }
    known = {
        "tracker": TRACKER,
        "url": url,
        "project": project,
        "iid": iid,
        "title": title,
        "status": told["status"],
        "message_id": mail.message_id,
    }
    return Notice(
        what=what, project=project, iid=iid, told=told, known=known, author=told["actor_name"]
    )


def kept_in(mail: Mail) -> NoEvent | None:
    """Return why nothing of *mail* may leave, or None: it is confidential, or its id is a key."""
    confidential = {value.lower() for value in mail.headers("X-GitLab-ConfidentialIssue")}
    if not confidential <= {"false"}:
        return PRIVATE
    keys = [key for key in mail.headers("X-GitLab-Reply-Key") if key]
    keys += [found[1] for value in mail.headers("Reply-To") for found in _KEY.finditer(value)]
    if mail.message_id.startswith("reply-") or any(key in mail.message_id for key in keys):
        return REPLY_KEY
    return None


def actor(mail: Mail, clip: Clip) -> str | None:
    """Return the name of who did it, without the `(@name)` that newer versions add."""
    name = (person(mail.header("From") or "").name or "").partition(" (@")[0]
    return clip.word(name) or None


def _what(mail: Mail, first: str) -> What:
    # Before what it says: people comment "Issue was closed by ...".
    if _COMMENT_ID.fullmatch(mail.message_id):
        return "commented"
    return next((what for what, pattern in _SAID if pattern.fullmatch(first)), "changed")


def _title(mail: Mail, number: str) -> str:
    subject = re.sub(r"^(?:Re: )+", "", mail.subject)
    before, found, _ = subject.rpartition(f" {number}")
    title = before if found else subject
    project = mail.header("X-GitLab-Project") or ""
    _, bar, after = title.partition(" | ")
    return after if bar and (not project or title.partition(" | ")[0].endswith(project)) else title


def _url(mail: Mail, project: str, noun: str, iid: int) -> str | None:
    """Return the item's page: that much of an address in the text that holds nobody's key."""
    pattern = rf"https?://[A-Za-z0-9.-]{{1,200}}/{re.escape(project)}/(?:-/)?{noun}/{iid}\b"
    found: Sequence[str] = re.findall(pattern, mail.text[:1_000_000])
    return found[-1] if found else None
