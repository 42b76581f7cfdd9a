"""Mails of a GitLab: issues, merge requests and pushes, in the wording of old and new versions."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from mailbridge.traffic import words
from mailbridge.traffic.letter import Headers, Letter, Part, multipart, text, word
from mailbridge.traffic.posted import posted
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.world import Someone, World

_HOST: Final = f"forge.{words.DOMAIN}"
_ISSUE_WHATS: Final = ("created", "commented", "closed", "changed", "confidential")
_MERGE_WHATS: Final = ("created", "commented", "closed", "changed", "merged")


class _Project(NamedTuple):
    path: str
    name: str
    number: int


def forge(world: World) -> Tale:
    """Return one of its mails."""
    group = world.rng.choice(words.GROUPS)
    package = world.rng.choice(world.packages).name
    project = _Project(f"{group}/{package}", package, world.rng.randrange(10, 99))
    tell = world.rng.choice((_issue, _merge_request, _push))
    return tell(world, project, world.somebody())


def _issue(world: World, project: _Project, who: Someone) -> Tale:
    what = world.rng.choice(_ISSUE_WHATS)
    number, iid = world.serial("issue"), world.serial(f"issues {project.path}")
    url = f"https://{_HOST}/{project.path}/-/issues/{iid}"
    first = {
        "created": (
            f"{who.name} created an issue: #{iid} ({url})",
            "New Issue was created.",
        ),
        "commented": (f"{who.name} commented:", f"{who.name} commented on issue #{iid}:"),
        "closed": (f"Issue was closed by {who.name}", f"Issue #{iid} was closed by {who.name}"),
        "changed": (f"Reassigned Issue {iid}", f"Milestone changed to {world.rng.randrange(9)}.0"),
        "confidential": (f"{who.name} created an issue: #{iid} ({url})",),
    }[what]
    hidden = what == "confidential"
    more: Headers = (
        ("X-GitLab-Issue-ID", str(number)),
        ("X-GitLab-Issue-IID", str(iid)),
        *((("X-GitLab-ConfidentialIssue", "true"),) if hidden else ()),
    )
    return _item(
        world, project, who, "issue", what, iid=iid, number=number, url=url, first=first, more=more
    )


def _merge_request(world: World, project: _Project, who: Someone) -> Tale:
    what = world.rng.choice(_MERGE_WHATS)
    number, iid = world.serial("merge request"), world.serial(f"merges {project.path}")
    url = f"https://{_HOST}/{project.path}/-/merge_requests/{iid}"
    first = {
        "created": (
            f"{who.name} created a merge request: {url}",
            f"New Merge Request #{iid}",
        ),
        "commented": (
            f"{who.name} commented on a discussion on debian/rules:",
            f"{who.name} started a new discussion on debian/control:",
        ),
        "closed": (f"Merge Request !{iid} was closed by {who.name}",),
        "changed": (f"{who.name} pushed new commits to merge request !{iid}",),
        "merged": (f"Merge Request !{iid} was merged", f"{who.name} merged merge request !{iid}"),
    }[what]
    more: Headers = (
        ("X-GitLab-MergeRequest-ID", str(number)),
        ("X-GitLab-MergeRequest-IID", str(iid)),
    )
    return _item(
        world,
        project,
        who,
        "merge-request",
        what,
        iid=iid,
        number=number,
        url=url,
        first=first,
        more=more,
    )


def _item(  # noqa: PLR0913 - what the mails of both have
    world: World,
    project: _Project,
    who: Someone,
    noun: str,
    what: str,
    *,
    iid: int,
    number: int,
    url: str,
    first: tuple[str, ...],
    more: Headers,
) -> Tale:
    title = world.rng.choice(words.TROUBLES)
    mark = "#" if noun == "issue" else "!"
    thread = f"{noun.replace('-', '_')}_{number}@{_HOST}"
    message_id = thread if what in ("created", "confidential") else f"{world.token(20)}@{_HOST}"
    if what == "commented":
        message_id = f"note_{world.serial('note')}@{_HOST}"
    answer = "" if message_id == thread else "Re: "
    state = ""
    if world.chance(0.5):
        state = {"closed": "closed", "merged": "merged"}.get(what, "opened")
        head = "X-GitLab-Issue-State" if noun == "issue" else "X-GitLab-MergeRequest-State"
        more = (*more, (head, state))
    letter = _from_forge(
        world,
        project,
        who,
        _body(world, f"{world.rng.choice(first)}\n\n{world.rng.choice(words.REMARKS)}\n", url),
        subject=f"{answer}{project.name} | {title} ({mark}{iid})",
        message_id=message_id,
        more=more,
    )
    told = {
        "tracker": "gitlab",
        "bug": iid,
        "iid": iid,
        "project": project.path,
        "title": title,
        "actor_name": who.name,
        "url": url,
    } | ({"status": state} if state else {})
    news = News(f"{noun}-{what}", told, f"gitlab {letter.message_id}")
    off = () if what == "confidential" else (news,)
    return Tale(what=f"gitlab {noun} {what}", letter=letter, bare=letter, off=off)


def _push(world: World, project: _Project, who: Someone) -> Tale:
    rng = world.rng
    what = rng.choice(("pushed", "pushed", "tagged", "branch deleted", "new branch"))
    branch, tag = rng.choice(("main", "debian/latest")), f"debian/{world.version()}"
    mark = f"[Git][{project.path}]"
    url = f"https://{_HOST}/{project.path}/-/tree/{branch}"
    told: dict[str, Any] = {"project": project.path, "ref": branch, "actor_name": who.name}
    if what == "pushed":
        ids = [rng.randbytes(4).hex() for _ in range(rng.randrange(1, 4))]
        titles = [rng.choice((*words.REPAIRS, *words.CHORES)) for _ in ids]
        listed = "".join(
            f"{commit} by {who.name} at 2026-01-05T10:{rng.randrange(10, 60)}:00+00:00\n{title}\n\n"
            "- - - - -\n"
            for commit, title in zip(ids, titles, strict=True)
        )
        said = f"{who.name} pushed to branch {branch} at {project.path}\n\n\nCommits:\n{listed}\n"
        many = f"{len(ids)} commits: " if len(ids) > 1 else ""
        subject, name = f"{mark}[{branch}] {many}{titles[0]}", "repository-pushed"
        told |= {"is_new": False, "is_rollback": False, "commits": len(ids), "commit_ids": ids}
        told |= {"title": titles[0]}
    elif what == "new branch":
        said = f"{who.name} pushed new branch {branch} at {project.path}\n"
        subject, name = f"{mark} Pushed new branch {branch}", "repository-pushed"
        told |= {"is_new": True, "commits": 0, "commit_ids": []}
    elif what == "tagged":
        said = f"{who.name} pushed new tag {tag} at {project.path}\n"
        subject, name = f"{mark} Pushed new tag {tag}", "repository-tagged"
        told["ref"] = tag
    else:
        said = f"{who.name} deleted branch {branch} at {project.path}\n"
        subject, name = f"{mark} Deleted branch {branch}", "repository-ref-deleted"
        told["ref_type"] = "branch"
    more: Headers = (("X-GitLab-Author", who.mailbox),)
    letter = _from_forge(
        world, project, who, _body(world, said, url), subject=subject, message_id="", more=more
    )
    news = News(name, told, f"gitlab {letter.message_id}")
    return Tale(what=f"gitlab {what}", letter=letter, bare=letter, off=(news,))


def _body(world: World, said: str, url: str) -> Part:
    told = f"{said}\n-- \nView it on GitLab: {url}\nYou're receiving this email because of it.\n"
    plain = text(told, "quoted-printable")
    page = Part(
        headers=(("Content-Type", "text/html; charset=UTF-8"),),
        body=b"<p>the same, with <em>stars</em></p>\n",
    )
    return multipart("alternative", world.boundary(), (plain, page))


def _from_forge(  # noqa: PLR0913 - what every mail has
    world: World,
    project: _Project,
    who: Someone,
    part: Part,
    *,
    subject: str,
    message_id: str,
    more: Headers,
) -> Letter:
    list_id = ".".join((str(project.number), *reversed(project.path.split("/")), _HOST))
    handle = f" (@{who.mailbox})" if world.chance(0.5) else ""
    name = f'"{who.name}{handle}"' if any(c in who.name for c in ",.") else f"{who.name}{handle}"
    return posted(
        world,
        "forge",
        part,
        subject=subject,
        sender=f"{word(name)} <noreply@{_HOST}>",
        message_id=f"<{message_id}>" if message_id else "",
        more=(
            ("X-GitLab-Project", project.name),
            ("X-GitLab-Project-Id", str(project.number)),
            ("X-GitLab-Project-Path", project.path),
            *more,
            ("X-GitLab-NotificationReason", world.rng.choice(("subscribed", "mentioned", ""))),
            ("List-Id", f"{project.path} <{list_id}>"),
            ("Auto-Submitted", "auto-generated"),
            ("X-Auto-Response-Suppress", "All"),
        ),
    )
