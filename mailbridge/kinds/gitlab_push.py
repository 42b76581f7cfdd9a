"""A GitLab's "emails on push": commits, new branches, tags, and those that were deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from mailbridge import gitlab
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail, strip_list_prefixes
from mailbridge.payloads import Clip, Event, Payload


class _Push(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """What every event about a repository tells."""

    project: str
    """As `group/project`."""
    ref: str
    """Name of the branch or of the tag."""
    actor_name: str | None = None


class RepositoryPushed(_Push, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody pushed to a branch, or pushed a new one."""

    NAME = "repository-pushed"

    is_new: bool
    """The branch is new.  Such a mail names no commits."""
    is_rollback: bool
    """Nothing new: these commits were taken away, by force."""
    commits: int
    commit_ids: list[str]
    """The first digits of each, in the mail's order."""
    title: str | None = None
    """First line of the first commit."""


class RepositoryTagged(_Push, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody pushed a new tag; `ref` is its name."""

    NAME = "repository-tagged"


class RepositoryRefDeleted(_Push, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody deleted a branch or a tag."""

    NAME = "repository-ref-deleted"

    ref_type: Literal["branch", "tag"]


FAMILY = Family.GITLAB
PAYLOADS = (RepositoryPushed, RepositoryTagged, RepositoryRefDeleted)
ATTESTED = "rendered from the sender's templates"

LINES: Final = 200_000
"""How far into a mail, which may hold the whole diff, commits are looked for."""

# After lib/gitlab/email/message/repository_push.rb; a site may add ` | words` to every subject.
_PUSHED: Final = re.compile(r"\[(?P<ref>[^\s\[]+)\] (?P<rest>.*)")
_DONE: Final = re.compile(
    r" (?P<what>Pushed new|Deleted) (?P<type>branch|tag) (?P<ref>[^\s\[]+)(?: \| .*)?"
)
_MANY: Final = re.compile(r"(?P<number>[1-9]\d{0,6}) commits: (?P<title>.*)")
_COMMIT: Final = re.compile(
    r"[ \t]*(?P<id>[0-9a-f]{7,64}) by .{1,300} at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S{0,6}"
)
_OTHERS: Final = ("X-GitLab-Issue-IID", "X-GitLab-MergeRequest-IID")
_RULE: Final = "- - - - -"


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """
    Return what happened to the branch or the tag.

    Of the commits only their number, their ids and the first one's title: who wrote them, what
    they say and the diff stay in GitLab.  Raises `MalformedMail` as project or subject are of
    another form.
    """
    if mail.header("X-GitLab-Author") is None or mail.has(*_OTHERS):
        return None
    if kept := gitlab.kept_in(mail):
        return kept
    project = mail.header("X-GitLab-Project-Path") or ""
    if not gitlab.PATH.fullmatch(project):
        raise MalformedMail(f"a push to the project {project[:80]!r}")
    payload = _payload(mail, project, _behind(mail.subject, project))
    identity = {
        "url": payload.url,
        "project": project,
        "name": payload.NAME,
        "ref": payload.ref,
        "commits": list(payload.commit_ids) if isinstance(payload, RepositoryPushed) else [],
        # The same branch may be made, deleted and made again.
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=identity, author=payload.actor_name)]


def _behind(subject: str, project: str) -> str:
    """Return what stands behind `[Git][project]`, before which a list may have put its own."""
    mark = f"[Git][{project}]"
    before, found, after = subject.partition(mark)
    if not found or strip_list_prefixes(before).strip():
        raise MalformedMail(f"a push to {project[:80]!r} that says {subject[:120]!r}")
    return after


def _payload(mail: Mail, project: str, told: str) -> _Push:
    clip = Clip()
    done = _DONE.fullmatch(told)
    pushed = None if done else _PUSHED.fullmatch(told)
    found = done or pushed
    if found is None:
        raise MalformedMail(f"a push to {project[:80]!r} of no form we know: {told[:120]!r}")
    ref, name, url = clip.word(found["ref"]), gitlab.actor(mail, clip), _url(mail, project)
    if done and done["what"] == "Deleted":
        kind: Literal["branch", "tag"] = "tag" if done["type"] == "tag" else "branch"
        return RepositoryRefDeleted(
            project=project, ref=ref, ref_type=kind, actor_name=name, truncated=clip.truncated
        )
    if done and done["type"] == "tag":
        return RepositoryTagged(
            project=project, ref=ref, actor_name=name, url=url, truncated=clip.truncated
        )
    commits = _commits(mail.text, pushed["rest"]) if pushed else _Commits()
    return RepositoryPushed(
        project=project,
        ref=ref,
        is_new=done is not None,
        is_rollback=commits.is_rollback,
        commits=commits.number,
        commit_ids=clip.words(commits.ids),
        title=clip.line(commits.title) or None,
        actor_name=name,
        url=url,
        truncated=clip.truncated,
    )


class _Commits(NamedTuple):
    number: int = 0
    ids: tuple[str, ...] = ()
    title: str = ""
    is_rollback: bool = False


def _commits(text: str, told: str) -> _Commits:
    lines = text.split("\n", LINES)[:LINES]
    heads = ("Commits:", "Deleted commits:")
    start = next((n for n, line in enumerate(lines) if line.strip() in heads), len(lines))
    # A commit's title may begin with any of these words; above the first commit nobody writes.
    is_rollback = start < len(lines) and lines[start].strip() == heads[1]
    if is_rollback:
        told = told.removeprefix("Deleted ").removeprefix("1 commit: ")
    ids = tuple(_ids(lines[start + 1 :]))
    many = _MANY.fullmatch(told)
    if many and len(ids) != 1:
        return _Commits(int(many["number"]), ids[: int(many["number"])], many["title"], is_rollback)
    return _Commits(1, ids[:1], told, is_rollback)


def _ids(lines: Sequence[str]) -> Iterator[str]:
    """Yield the commits in a list of them: each is named after the rule that ends the last one."""
    is_next = True
    for line in lines:
        text = line.strip()
        if is_next and (found := _COMMIT.fullmatch(line)):
            yield found["id"]
        is_next = text == _RULE or (is_next and not text)


def _url(mail: Mail, project: str) -> str | None:
    """Return the page of what was pushed: the last in the mail, below the diff that was quoted."""
    end = mail.text[-20_000:]
    pages = r"(?:commit|compare|tree|commits|tags)"
    pattern = rf"https?://[A-Za-z0-9.:-]{{1,200}}(?:/[a-z0-9-]{{1,40}})?/{re.escape(project)}"
    found: Sequence[str] = re.findall(rf"{pattern}/(?:-/)?{pages}/[!-~]{{1,290}}", end)
    return found[-1] if found else None
