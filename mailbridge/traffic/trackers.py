"""Mails of Phabricator about its tasks, and of Bugzilla about its bugs."""

from __future__ import annotations

from typing import Any, Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import Headers, text
from mailbridge.traffic.posted import posted
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.world import World

_PHABRICATOR: Final = f"tasks.{words.DOMAIN}"
_BUGZILLA: Final = f"bugzilla.{words.DOMAIN}"
_VERBS: Final = {
    "Created": ("created", "{who} created this task.", "open"),
    "Closed": ("closed", '{who} closed this task as "Resolved".', "resolved"),
    "Wontfix": ("closed", '{who} closed this task as "Wontfix".', "wontfix"),
    "Commented On": ("commented", "{who} added a comment.", "open"),
    "Raised Priority": (
        "changed",
        '{who} raised the priority of this task from "Normal" to "High".',
        "open",
    ),
    "Claimed": ("changed", "{who} claimed this task.", "open"),
}
_COLUMN: Final = 28


def task(world: World) -> Tale:
    """Return a Phabricator's mail about a task."""
    rng = world.rng
    who, number = world.somebody(), world.serial("task")
    verb = rng.choice(list(_VERBS))
    name, did, status = _VERBS[verb]
    title = rng.choice(words.TROUBLES)
    hidden = world.chance(0.08)
    # Some sites have every mail of a task under one subject.
    varies = verb not in ("Created", "Commented On") or world.chance(0.7)
    projects = rng.sample(("desktop", "phone", "archive"), rng.randrange(1, 3))
    more: Headers = (
        ("X-Phabricator-Sent-This-Message", "Yes"),
        ("X-Mail-Transport-Agent", "MetaMTA"),
        ("X-Auto-Response-Suppress", "All"),
        (
            "X-Phabricator-Mail-Tags",
            f"<maniphest-{'comment' if name == 'commented' else 'status'}>",
        ),
        ("X-Phabricator-Projects", ", ".join(f"<#{project}>" for project in projects)),
        ("X-Phabricator-Stamps", f"actor(@{who.mailbox}) task-status({status}) subtype(default)"),
        ("X-Phabricator-Must-Encrypt", "Yes" if hidden else "No"),
        ("Thread-Topic", f"T{number}: task"),
        ("Precedence", "bulk"),
        ("Auto-Submitted", "auto-generated"),
    )
    said = (
        f"{did.format(who=who.mailbox)}\n\n{rng.choice(words.REMARKS)}\n\nTASK DETAIL\n"
        f"  https://{_PHABRICATOR}/T{number}\n\nEMAIL PREFERENCES\n"
        f"  https://{_PHABRICATOR}/settings/panel/emailpreferences/\n\nTo: {who.mailbox}\n"
    )
    told: dict[str, Any] = {
        "tracker": "phabricator",
        "bug": number,
        "task": number,
        "verb": verb,
        "title": title,
        "projects": projects,
        "actor_name": who.mailbox,
        "status": status,
        "url": f"https://{_PHABRICATOR}/T{number}",
    } | ({"priority": "High"} if verb == "Raised Priority" else {})
    answer = "" if verb == "Created" else "Re: "
    letter = posted(
        world,
        "tasks",
        text("This mail is not shown.\n" if hidden else said),
        subject=f"{answer}[Maniphest] {f'[{verb}] ' if varies else ''}T{number}: {title}",
        sender=f"{who.mailbox} <noreply@{_PHABRICATOR}>",
        more=more,
    )
    news = News(f"task-{name}", told, f"task {letter.message_id}")
    return Tale(
        what=f"phabricator {verb.lower()}{' hidden' if hidden else ''}",
        letter=letter,
        bare=letter,
        off=() if hidden else (news,),
    )


def bugzilla(world: World) -> Tale:
    """Return a Bugzilla's mail about a bug: new, changed, closed, commented on, or two of them."""
    rng = world.rng
    who, number = world.somebody(), world.serial("bugzilla")
    what = rng.choice(("new", "changed", "closed", "commented", "closed and commented"))
    title = rng.choice(words.TROUBLES)
    component = rng.choice(("kernel", "network", "printing"))
    status, resolution = ("RESOLVED", "FIXED") if "closed" in what else ("NEW", "")
    severity, version = rng.choice(("normal", "high")), f"{rng.randrange(9)}.0"
    more: Headers = (
        ("X-Bugzilla-Type", "new" if what == "new" else "changed"),
        ("X-Bugzilla-Reason", "CC"),
        ("X-Bugzilla-Product", "Drivers"),
        ("X-Bugzilla-Component", component),
        ("X-Bugzilla-Version", version),
        ("X-Bugzilla-Keywords", ""),
        ("X-Bugzilla-Severity", severity),
        ("X-Bugzilla-Who", who.address),
        ("X-Bugzilla-Status", status),
        ("X-Bugzilla-Resolution", resolution),
        ("X-Bugzilla-URL", f"https://{_BUGZILLA}/"),
        ("Auto-Submitted", "auto-generated"),
    )
    url = f"https://{_BUGZILLA}/show_bug.cgi?id={number}"
    said, changes = f"{url}\n\n", []
    rows = {
        "closed": [("Status", "NEW", "RESOLVED"), ("Resolution", "---", "FIXED")],
        "changed": [("Priority", "P3", "P1"), ("Severity", "low", severity)],
    }.get(what.partition(" ")[0], [])
    if what == "new":
        fields = {"Bug ID": str(number), "Summary": title, "Product": "Drivers"}
        said += "".join(f"{f'{name}: ':>20}{told}\n" for name, told in fields.items())
        said += f"\n{rng.choice(words.REMARKS)}\n"
    if rows:
        table = (("What    ", "Removed", "Added"), *rows)
        lines = [f"{name:>19}|{old:<{_COLUMN}}|{new}" for name, old, new in table]
        rule = "-" * 76
        said += f"{who.field} changed:\n\n" + "\n".join((lines[0], rule, *lines[1:])) + "\n\n"
        changes = [{"action": name.lower(), "old": old, "new": new} for name, old, new in rows]
    if "commented" in what:
        said += f"--- Comment #{rng.randrange(1, 40)} from {who.field} ---\n"
        said += f"{rng.choice(words.REMARKS)}\n"
    said += "\n-- \nYou are receiving this mail because:\nYou are on the CC list for the bug.\n"
    told: dict[str, Any] = {
        "tracker": "bugzilla",
        "bug": number,
        "title": title,
        "package": [component],
        "product": "Drivers",
        "component": component,
        "status": status,
        "url": url,
    } | ({"resolution": resolution} if resolution else {})
    letter = posted(
        world,
        "bugzilla",
        text(said),
        subject=f"[Bug {number}] {'New: ' if what == 'new' else ''}{title}",
        sender=f"bugzilla-daemon@{_BUGZILLA}",
        message_id=f"<bug-{number}-{rng.randrange(10**6)}@{_BUGZILLA}/>",
        more=more,
    )
    actor = told | {"actor_name": who.name}
    key = f"bugzilla {letter.message_id}"
    news: list[News] = []
    off: list[News] = []
    if what == "new":
        reported = told | {"severity": severity, "version": version, "reportbug": False}
        news.append(News("bug-reported", reported, key))
    if "closed" in what:
        closed = actor | {"via": "tracker", "done_by": who.name}
        news.append(News("bug-closed", closed, f"closed {key}"))
    if what == "changed":
        off.append(News("bug-changed", actor | {"changes": changes}, f"changed {key}"))
    if "commented" in what:
        off.append(News("bug-commented", actor, f"commented {key}"))
    return Tale(
        what=f"bugzilla {what}", letter=letter, bare=letter, news=tuple(news), off=tuple(off)
    )
