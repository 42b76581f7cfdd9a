"""Mails of debbugs about what people tell it to do: transcripts, forwardings, new submitters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from mailbridge.traffic import words
from mailbridge.traffic.bugs import DIST, HOST, OWNER
from mailbridge.traffic.letter import Headers, Letter, Part, enclosed, multipart, text, word
from mailbridge.traffic.lists import through_mailman, through_smartlist
from mailbridge.traffic.posted import posted
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import OpenBug, Package, Someone, World

FORWARDED: Final = "demo-bugs-forwarded"

_FOOTER: Final = f"Demo Bug Tracking System\nContact owner@{HOST} with problems\n"


class _Done(NamedTuple):
    """A command as its sender wrote it, what debbugs answers, and what that changed."""

    command: str
    answer: str
    changes: tuple[dict[str, Any], ...] = ()
    failed: bool = False


def transcript(world: World, package: Package) -> Tale:
    """Return what debbugs answers to commands about bugs of *package*, which has at least one."""
    rng = world.rng
    old = world.chance(0.3)
    who = world.somebody()
    touched: dict[int, None] = {}
    done: list[_Done] = []
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(package.bugs))
        bug = package.bugs[at]
        step, after = rng.choice(_OLD if old else _NEW)(world, package, bug, who)
        package.bugs[at] = after
        touched[bug.number] = None
        done.append(step)
    listed = [bug for bug in package.bugs if bug.number in touched]
    begin = f"Processing commands for control@{HOST}:\n\n"
    said = "".join(f"> {step.command}\n{step.answer}" for step in done)
    links = "".join(f"{bug}: https://{HOST}/cgi-bin/bugreport.cgi?bug={bug}\n" for bug in touched)
    end = "> thanks\nStopping processing here.\n\nPlease contact me if you need assistance.\n"
    failed = sum(step.failed for step in done)
    with_errors = f" (with {failed} error{'s' if failed > 1 else ''})" if failed else ""
    title = f"{rng.choice(('some', 'more', 'tidying'))} bugs of {package.name}"
    letter = _from_tracker(
        world,
        text(f"{begin}{said}{end}-- \n{links}{_FOOTER}"),
        who,
        subject=f"Processed{with_errors}: {title}",
        message_id=f"handler.s.C.{rng.randrange(10**15)}.transcript",
        more=(
            ("X-Debian-PR-Message", "transcript"),
            ("X-Debian-PR-Package", " ".join(dict.fromkeys(bug.package for bug in listed))),
            ("X-Debian-PR-Source", package.name),
        ),
        old=old,
    )
    changes = [change for step in done for change in step.changes]
    told = {
        "tracker": "debbugs",
        "title": title,
        "package": list(dict.fromkeys(bug.package for bug in listed)),
        "source": [package.name],
        "commands": len(done),
        "errors": failed,
        "bugs": list(touched),
        "bugs_total": len(touched),
        "changes": changes,
        "changes_total": len(changes),
        "actor_name": who.name,
    }
    return Tale(
        what=f"debbugs transcript {'2008' if old else 'today'}",
        letter=_listed(world, letter, DIST),
        bare=letter,
        news=(News("bugs-changed", told, f"transcript {letter.message_id}"),),
    )


def forwarded(world: World, bug: OpenBug) -> Tale:
    """Return the mail that says that somebody passed *bug* on to its upstream."""
    who = world.somebody()
    upstream = Someone(name="Upstream of It", mailbox="upstream")
    where, shown = world.rng.choice(
        (
            (f"https://forge.{words.DOMAIN}/{bug.source}/issues/{world.rng.randrange(1, 999)}",)
            * 2,
            (upstream.field, upstream.name),
        )
    )
    passed = posted(
        world,
        "mail",
        text(f"{world.rng.choice(words.REMARKS)}\n"),
        subject=f"Bug#{bug.number}: {bug.title}",
        sender=f"{word(who.name.replace(',', ''))} <{who.address}>",
        to=f"{bug.number}-forwarded@{HOST}",
    )
    said = (
        f"Your message dated {passed.get('Date')}\nwith message-id {passed.message_id}\n"
        f"has caused the Demo Bug report #{bug.number},\nregarding {bug.title}\n"
        f"to be marked as having been forwarded to the upstream software\nauthor(s) {where}\n\n"
        "(NB: If you are a system administrator and have no idea what this\n"
        "message is talking about, this may indicate a serious mail system\n"
        "misconfiguration somewhere.)\n\n\n-- \n"
        f"{bug.number}: https://{HOST}/cgi-bin/bugreport.cgi?bug={bug.number}\n{_FOOTER}"
    )
    parts = (text(said), enclosed(bug.report), enclosed(passed))
    spool = f"{bug.number}.F{bug.number}.{world.rng.randrange(10**15)}"
    letter = _from_tracker(
        world,
        multipart("mixed", world.boundary(), parts),
        who,
        subject=f"Bug#{bug.number}: marked as forwarded ({bug.title})",
        message_id=f"header.{spool}.ackfwdd",
        more=(
            ("References", f"{passed.message_id} <{bug.message_id}>"),
            ("X-Debian-PR-Message", f"forwarded {bug.number}"),
            *_about(bug),
        ),
    )
    told = _told(bug) | {"actor_name": who.name, "forwarded_to": shown}
    news = News("bug-forwarded", told, f"forwarded {bug.number} {passed.message_id}")
    listed = _listed(world, letter, FORWARDED)
    return Tale(what="debbugs forwarded", letter=listed, bare=letter, news=(news,))


def new_submitter(world: World, bug: OpenBug) -> Tale:
    """Return the mail that tells the submitter of *bug* that it has another one."""
    who = world.somebody()
    said = (
        f"The submitter address recorded for your Bug report\n#{bug.number}: {bug.title}\nhas been"
        f" changed.\n\nThe old submitter address for this report was\n{bug.reporter.field}.\n"
        f"The new submitter address is\n{who.field}.\n\nThis change was made by\n{who.field}.\n"
        f"If it was incorrect, please contact them directly.\n\n-- \n{_FOOTER}"
    )
    letter = _from_tracker(
        world,
        text(said),
        bug.reporter,
        subject=f"Bug#{bug.number} submitter addressed changed (please take it)",
        message_id=f"handler.{bug.number}.C.{world.rng.randrange(10**15)}.submitter",
        more=(("X-Debian-PR-Message", f"submitter-changed {bug.number}"), *_about(bug)),
    )
    told = _told(bug) | {"old_submitter": bug.reporter.name, "new_submitter": who.name}
    news = News("bug-submitter-changed", told, f"submitter {letter.message_id}")
    return Tale(what="debbugs submitter", letter=letter, bare=letter, off=(news,))


# -- commands --------------------------------------------------------------------------------------

_Step = tuple[_Done, OpenBug]


def _severity(world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    old, new = world.rng.sample(("minor", "normal", "important", "serious", "grave"), 2)
    answer = f"{_context(bug)}Severity set to '{new}' from '{old}'\n"
    change = _change(bug, "severity", old=old, new=new)
    return _Done(f"severity {bug.number} {new}", answer, (change,)), bug


def _severity_2008(world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    old, new = world.rng.sample(("minor", "normal", "important", "serious", "grave"), 2)
    answer = f"{_old_context(bug)}Severity set to `{new}' from `{old}'\n\n"
    change = _change(bug, "severity", old=old, new=new)
    return _Done(f"severity {bug.number} {new}", answer, (change,)), bug


def _tags(world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    more = _fresh_tags(world, bug)
    if not more:
        return _ignored(bug)
    answer = f"{_context(bug)}Added tag(s) {_english(more)}.\n"
    change = _change(bug, "tags-added", new=", ".join(more))
    after = replace(bug, tags=(*bug.tags, *more))
    return _Done(f"tags {bug.number} + {' '.join(more)}", answer, (change,)), after


def _tags_2008(world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    more = _fresh_tags(world, bug)[:1]
    if not more:
        return _severity_2008(world, _package, bug, _who)
    before = f"Tags were: {' '.join(bug.tags)}" if bug.tags else "There were no tags set."
    answer = f"{_old_context(bug)}{before}\nTags added: {more[0]}\n\n"
    change = _change(bug, "tags-added", new=more[0])
    after = replace(bug, tags=(*bug.tags, *more))
    return _Done(f"tags {bug.number} + {more[0]}", answer, (change,)), after


def _title(world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    new = f"{bug.package}: {world.rng.choice(words.TROUBLES)}, rather"
    change = _change(bug, "title", old=bug.title, new=new)
    answer = f"{_context(bug)}Changed Bug title to '{new}' from '{bug.title}'.\n"
    return _Done(f"retitle {bug.number} {new}", answer, (change,)), replace(bug, title=new)


def _found(_world: World, package: Package, bug: OpenBug, _who: Someone) -> _Step:
    version = f"{package.name}/{package.version}"
    change = _change(bug, "found-added", new=version)
    answer = f"{_context(bug)}Marked as found in versions {version}.\n"
    return _Done(f"found {bug.number} {package.version}", answer, (change,)), bug


def _found_2008(_world: World, package: Package, bug: OpenBug, _who: Someone) -> _Step:
    change = _change(bug, "found-added", new=package.version)
    answer = f"{_old_context(bug)}Bug marked as found in version {package.version}.\n\n"
    return _Done(f"found {bug.number} {package.version}", answer, (change,)), bug


def _blocked(world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    other = world.new_bug()
    change = _change(bug, "blocked-by-added", new=str(other))
    answer = (
        f"{_context(bug)}{bug.number} was not blocked by any bugs.\n"
        f"{bug.number} was not blocking any bugs.\nAdded blocking bug(s) of {bug.number}: {other}\n"
    )
    return _Done(f"block {bug.number} by {other}", answer, (change,)), bug


def _affects(world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    other = world.rng.choice(world.packages).name
    change = _change(bug, "affects-added", new=other)
    answer = f"{_context(bug)}Added indication that {bug.number} affects {other}\n"
    return _Done(f"affects {bug.number} + {other}", answer, (change,)), bug


def _owned(_world: World, _package: Package, bug: OpenBug, who: Someone) -> _Step:
    """Of people events tell the name, and no address."""
    change = _change(bug, "owner", new=who.name)
    answer = f"{_context(bug)}Owner recorded as {who.field}.\n"
    return _Done(f"owner {bug.number} !", answer, (change,)), bug


def _refused(_world: World, _package: Package, bug: OpenBug, _who: Someone) -> _Step:
    answer = (
        f"{_context(bug)}Failed to set severity of Bug {bug.number} to terrible: Severity level"
        " 'terrible' is not known.\nRecognized are: critical, grave, serious.\n\n"
    )
    change = {"bug": bug.number, "action": "severity", "ok": False}
    return _Done(f"severity {bug.number} terrible", answer, (change,), failed=True), bug


def _ignored(bug: OpenBug) -> _Step:
    answer = (
        f"{_context(bug)}Ignoring request to alter tags of bug #{bug.number} to the same tags"
        " previously set\n"
    )
    return _Done(f"tags {bug.number} + {' '.join(bug.tags)}", answer), bug


_Command = Callable[[World, Package, OpenBug, Someone], _Step]
_NEW: Final[tuple[_Command, ...]] = (
    *(_severity, _tags, _title, _found),
    *(_blocked, _affects, _owned, _refused),
)
_OLD: Final[tuple[_Command, ...]] = (_severity_2008, _tags_2008, _found_2008)


def _change(bug: OpenBug, action: str, **told: str) -> dict[str, Any]:
    return {"bug": bug.number, "action": action, "ok": True, **told}


def _context(bug: OpenBug) -> str:
    return f"Bug #{bug.number} [{bug.package}] {bug.title}\n"


def _old_context(bug: OpenBug) -> str:
    return f"Bug#{bug.number}: {bug.title}\n"


def _fresh_tags(world: World, bug: OpenBug) -> list[str]:
    left = [tag for tag in words.TAGS if tag not in bug.tags]
    return world.rng.sample(left, min(len(left), world.rng.randrange(1, 4)))


def _english(names: list[str]) -> str:
    """Return *names* as debbugs joins them."""
    if len(names) < 3:  # noqa: PLR2004
        return " and ".join(names)
    return f"{', '.join(names[:-1])}, and {names[-1]}"


# -- mails -----------------------------------------------------------------------------------------


def _told(bug: OpenBug) -> dict[str, Any]:
    return {
        "tracker": "debbugs",
        "bug": bug.number,
        "title": bug.title,
        "package": [bug.package],
        "source": [bug.source],
        "tags": list(bug.tags),
    }


def _about(bug: OpenBug) -> Headers:
    return (
        ("X-Debian-PR-Package", bug.package),
        ("X-Debian-PR-Keywords", " ".join(bug.tags)),
        ("X-Debian-PR-Source", bug.source),
        ("Reply-To", f"{bug.number}@{HOST}"),
    )


def _from_tracker(  # noqa: PLR0913 - what every mail has
    world: World,
    part: Part,
    who: Someone,
    *,
    subject: str,
    message_id: str,
    more: Headers,
    old: bool = False,
) -> Letter:
    name = f'"{who.name}"' if "," in who.name or "." in who.name else who.name
    return posted(
        world,
        "bugs",
        part,
        subject=subject,
        sender=f"owner@{HOST} (Demo Bug Tracking System)" if old else OWNER,
        to=f"{word(name)} <{who.address}>",
        message_id=f"<{message_id}@{HOST}>",
        more=(("X-Loop", f"owner@{HOST}"), ("Precedence", "bulk"), *more),
    )


def _listed(world: World, letter: Letter, name: str) -> Letter:
    if world.chance(0.7):
        return through_smartlist(letter, name, LISTS, world.list_number(name))
    return through_mailman(letter, name, LISTS)
