"""Mails of Launchpad: uploads to a distribution and to a PPA, bugs, builds."""

from __future__ import annotations

from typing import Any, Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import Headers, Letter, Part, multipart, text, word
from mailbridge.traffic.lists import through_mailman
from mailbridge.traffic.posted import posted
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.upload import Upload, prepare
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import Package, Someone, World

DISTRO: Final = "lantern"
SERIES: Final = "dusk"
CHANGES: Final = f"{SERIES}-changes"

_HOST: Final = f"launchpad.{words.DOMAIN}"
_INSTALLER: Final = f"Lantern Installer <archive@{_HOST}>"
_LONG: Final = 8_000  # what `changes` is cut at
_RULE: Final = (
    "===\n\nIf you don't understand why your files were rejected please send an email to\n"
    f"lantern-users@{LISTS} for help.\n\n"
)
_STATUS: Final = {
    "accepted": "Accepted",
    "held": "Waiting for approval",
    "queued-new": "New",
    "rejected": "Rejected",
}


def upload(world: World) -> Tale:
    """Return the mail about what became of an upload."""
    package = world.package()
    package.ported += 1
    in_ppa = world.chance(0.35)
    prepared = prepare(
        world,
        package,
        suite=SERIES if in_ppa else f"{SERIES}-proposed",
        version=f"{package.version}{DISTRO}{package.ported}",
        by=world.somebody(),
    )
    what = world.rng.choice(("accepted", "accepted", "accepted", "held", "queued-new", "rejected"))
    if in_ppa and what in ("held", "queued-new"):
        what = "accepted"
    reference = f"~{prepared.by.mailbox}/{DISTRO}/tools" if in_ppa else DISTRO
    told: dict[str, Any] = {
        "repo": reference,
        "suite": prepared.suite,
        "source_name": package.name,
        "source_version": prepared.version,
    }
    bug = world.serial("launchpad bug") if world.chance(0.3) and not in_ppa else None
    if what in ("accepted", "held"):
        told |= _told(prepared, in_ppa=in_ppa)
        told |= {"is_new": False, "suites": [prepared.suite], "policy_suites": []}
        told |= {"launchpad_bugs": [bug]} if bug else {}
    if what == "held":
        told |= {"policy_queue": "unapproved", "policy_suites": ["unapproved"]}
    if what == "queued-new":
        told |= {"is_new": True}
    reason = world.rng.choice(words.REASONS).replace("\n", " ")
    if what == "rejected":
        told |= {"reason": reason}
    letter = _about(
        world,
        prepared,
        _body(world, prepared, what, reason, bug=bug, in_ppa=in_ppa),
        reference,
        _STATUS[what],
    )
    # What its name says is the news; what waits, or comes to nothing, may come more than once.
    key = f"launchpad {reference} {prepared.version} {package.name}"
    if what != "accepted":
        key = f"{what} {key} {letter.message_id}"
    news = News(f"package-upload-{what}", told, key)
    return Tale(
        what=f"launchpad upload {what}{' ppa' if in_ppa else ''}",
        letter=through_mailman(letter, CHANGES, LISTS),
        bare=letter if what == "accepted" else None,
        news=(news,),
    )


def bug(world: World, package: Package) -> Tale:
    """Return a mail about a bug: reported, commented on, changed, both at once; or private."""
    rng = world.rng
    who = world.somebody()
    number = world.serial("launchpad bug")
    title = f"{package.name}: {rng.choice(words.TROUBLES)}"
    tags = rng.sample(words.TAGS, rng.randrange(3))
    what = rng.choice(("reported", "commented", "changed", "commented and changed", "private"))
    old, new = rng.sample(("New", "Confirmed", "Triaged", "Fix Released"), 2)
    importance = rng.choice(("Undecided", "Low", "High"))
    task = (
        f"distribution={DISTRO}; sourcepackage={package.name}; component=main; status={new};\n"
        f" importance={importance}; assignee=None;"
    )
    said = f"Public bug reported:\n\n{rng.choice(words.REMARKS)}\n"
    if what not in ("reported", "private"):
        said = f"{rng.choice(words.REMARKS)}\n" if "commented" in what else ""
    if "changed" in what:
        said += f"\n** Changed in: {package.name} (Lantern)\n       Status: {old} => {new}\n"
        said += "\n** Tags added: seen\n"
    is_new = what in ("reported", "private")
    footer = (
        "\n-- \nYou received this bug notification because you are subscribed to it.\n"
        f"https://bugs.{_HOST}/bugs/{number}\n\nTitle:\n  {title}\n"
    )
    name = f'"{who.name}"' if any(c in who.name for c in ",.") else who.name
    letter = posted(
        world,
        "bugs",
        text(said + footer),
        subject=f"[Bug {number}] {'[NEW] ' if is_new else ''}{title}",
        sender=f"{word(name)} <{number}@bugs.{_HOST}>",
        more=(
            ("X-Launchpad-Notification-Type", "bug"),
            ("X-Launchpad-Bug", task),
            *((("X-Launchpad-Bug-Tags", " ".join(tags)),) if tags else ()),
            ("X-Launchpad-Bug-Information-Type", "Private" if what == "private" else "Public"),
            ("X-Launchpad-Bug-Private", "yes" if what == "private" else "no"),
            ("X-Launchpad-Bug-Modifier", f"{word(who.name)} ({who.mailbox})"),
            ("X-Launchpad-Message-Rationale", "Subscriber"),
            ("Precedence", "bulk"),
        ),
    )
    told: dict[str, Any] = {
        "tracker": "launchpad",
        "bug": number,
        "title": title,
        "package": [package.name],
        "source": [package.name],
        "tags": tags,
        "actor_name": who.name,
        "tasks": [{"target": f"{DISTRO}/{package.name}", "status": new, "importance": importance}],
    }
    changes = [
        {"action": "status", "target": f"{package.name} (Lantern)", "old": old, "new": new},
        {"action": "tags-added", "new": "seen"},
    ]
    key = letter.message_id
    off = []
    if "commented" in what:
        off.append(News("bug-commented", told, f"launchpad comment {key}"))
    if "changed" in what:
        off.append(News("bug-changed", told | {"changes": changes}, f"launchpad change {key}"))
    reported = News("bug-reported", told | {"reportbug": False}, f"launchpad report {key}")
    return Tale(
        what=f"launchpad bug {what}",
        letter=letter,
        bare=letter,
        news=(reported,) if what == "reported" else (),
        off=tuple(off),
    )


def build(world: World, package: Package) -> Tale:
    """Return a mail about a build that ended: of a package, of a recipe, or of something else."""
    rng = world.rng
    kind = rng.choice(("package", "package", "recipe", "snap"))
    state = rng.choice(("FAILEDTOBUILD", "FULLYBUILT", "MANUALDEPWAIT", "CANCELLED"))
    job, arch = str(world.serial("build")), rng.choice(("amd64", "riscv64"))
    who = world.somebody()
    reference = f"~{who.mailbox}/{DISTRO}/tools" if kind == "recipe" else DISTRO
    log = f"https://{_HOST}/build/{job}/log.txt.gz"
    recipe = f"{who.mailbox}/daily-{package.name}"
    fields = {
        "package": {
            "Source Package": package.name,
            "Version": package.version,
            "Architecture": arch,
        },
        "recipe": {"Recipe": recipe, "Distroseries": SERIES},
        "snap": {"Snap": package.name},
    }[kind]
    fields |= {"Archive": reference, "State": state, "Duration": "3 minutes", "Build Log": log}
    said = "".join(f" * {name}: {told}\n" for name, told in fields.items())
    subject = {
        "package": f"[Build #{job}] {arch} build of {package.name} {package.version} in {DISTRO}"
        f" {SERIES} PROPOSED [{reference}]",
        "recipe": f"[recipe build #{job}] of ~{who.mailbox} daily in {SERIES}: {state.lower()}",
        "snap": f"[Snap build #{job}] {arch} build of {package.name} snap package in {DISTRO}",
    }[kind]
    letter = posted(
        world,
        "launchpad",
        text(
            f"\n{said}\nIf you want further information about this situation, ask.\n\n-- \n{log}\n"
        ),
        subject=subject,
        sender=f"Launchpad Buildd System <noreply@{_HOST}>",
        more=(
            ("X-Launchpad-Notification-Type", f"{kind}-build-status"),
            ("X-Launchpad-Build-State", state),
            ("X-Launchpad-Build-Arch", arch),
            *((("X-Launchpad-Archive", reference),) if kind != "snap" else ()),
            ("X-Launchpad-Message-Rationale", "Creator"),
            ("Precedence", "bulk"),
        ),
    )
    good = state == "FULLYBUILT"
    told: dict[str, Any] = {
        "repo": reference,
        "state": state,
        "job_id": job,
        "log_url": log,
    }
    name = f"package-build-{'success' if good else 'failed'}"
    if kind == "recipe":
        name = "recipe-build-finished"
        told |= {"recipe": recipe, "suite": SERIES, "success": good}
    else:
        told |= {"pkgname": package.name, "version": package.version, "architecture": arch}
        told |= {"suite": f"{SERIES}-proposed"}
    news = News(name, told, f"launchpad {letter.message_id}")
    off = () if kind == "snap" or state == "CANCELLED" else (news,)
    return Tale(what=f"launchpad build {kind}", letter=letter, bare=letter, off=off)


# -- uploads ---------------------------------------------------------------------------------------


def _about(world: World, upload: Upload, part: Part, reference: str, status: str) -> Letter:
    who = upload.by
    more: Headers = (
        ("X-Katie", "Launchpad actually"),
        ("X-Launchpad-Archive", reference),
        ("X-Launchpad-Notification-Type", "package-upload"),
        ("X-Launchpad-Message-Rationale", "Announcement"),
        ("Precedence", "bulk"),
    )
    return posted(
        world,
        "launchpad",
        part,
        subject=f"[{reference}/{upload.suite}] {upload.package.name} {upload.version} ({status})",
        sender=_field(who) if status == "Accepted" else _INSTALLER,
        to=f"{CHANGES}@{LISTS}",
        more=more,
    )


def _body(  # noqa: PLR0913 - what the mails differ in
    world: World, upload: Upload, what: str, reason: str, *, bug: int | None, in_ppa: bool
) -> Part:
    files = "".join(
        f" OK: {file.name}\n     -> Component: main Section: {upload.package.section}\n"
        for file in upload.files
    )
    page = f"https://{_HOST}/{DISTRO}/+source/{upload.package.name}/{upload.version}"
    changes = _unindented(upload)
    said = {
        "accepted": (
            f"Accepted:\n{files}\n{changes}\n"
            if in_ppa
            else f"{changes}\n\nDate: {upload.date}\nChanged-By: {upload.by.field}\n{page}\n"
        ),
        "held": f"Waiting for approval:\n\n{changes}\n\n{files}",
        "queued-new": f"NEW: {upload.files[0].name}\n\n{changes}\n\nIt contains new things.\n",
        "rejected": f"Rejected:\n{reason}\n\n{changes}\n\n{_RULE}",
    }[what]
    plain = text(f"{said}\n-- \n{page}\nYou are receiving this email because you uploaded it.\n")
    if in_ppa:
        return plain
    paragraph = upload.paragraph("today")
    if bug:
        paragraph = paragraph.replace("\nChanges:", f"\nLaunchpad-Bugs-Fixed: {bug}\nChanges:", 1)
    attached = text(paragraph)
    disposition = ("Content-Disposition", 'attachment; filename="changesfile"')
    attached = Part(headers=(*attached.headers, disposition), body=attached.body)
    return multipart("mixed", world.boundary(), (plain, attached))


def _told(upload: Upload, *, in_ppa: bool) -> dict[str, Any]:
    if not in_ppa:
        told = upload.expected("2021")
        return {key: told[key] for key in told if key not in ("is_new", "suites", "policy_suites")}
    changes = _unindented(upload)
    return {
        "files": [file.name for file in upload.files],
        "is_source_upload": True,
        "urgency": upload.urgency,
        "distribution": upload.suite,
        **({"changes": changes} if len(changes) <= _LONG else {"truncated": True}),
    }


def _unindented(upload: Upload) -> str:
    """Return the changelog as Launchpad shows it: nothing in front, and empty lines empty."""
    lines = (line.removeprefix(" ") for line in upload.changes.split("\n"))
    return "\n".join("" if line == "." else line for line in lines)


def _field(who: Someone) -> str:
    name = f'"{who.name}"' if any(c in who.name for c in ",.") else who.name
    return f"{word(name)} <{who.address}>"
