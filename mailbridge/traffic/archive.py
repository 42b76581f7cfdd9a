"""Mails of dak that are about no upload: removals, overrides, permissions, transitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mailbridge.traffic import words
from mailbridge.traffic.dak import HOST, MASTERS, TEAM
from mailbridge.traffic.letter import Headers, Letter, person, text
from mailbridge.traffic.lists import through_mailman
from mailbridge.traffic.posted import posted
from mailbridge.traffic.queued import processing
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.upload import Upload
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import World

_BUGS: Final = f"bugs.{words.DOMAIN}"
_TO: Final = f"{TEAM}@{LISTS}"


def archive(world: World, upload: Upload) -> Tale:
    """Return one of them; *upload* is what it speaks of, if of any."""
    return world.rng.choice(_SHAPES)(world, upload)


def _removed(world: World, upload: Upload) -> Tale:
    """What cruft is removed of is not of this archive's packages: those live on."""
    rng = world.rng
    old = world.chance(0.3)
    bug = world.new_bug()
    suite = rng.choice(("unstable", "experimental"))
    name, version = f"{upload.package.name}-legacy", world.version()
    rows = [(name, version, ["source", "all"]), (f"lib{name}0", version, ["amd64", "arm64"])]
    rows = rows[: rng.randrange(1, 3)]
    if world.chance(0.3):
        rows.append((f"{name}-extras", world.version(), ["source", "amd64"]))
    table = "".join(f"{n:>10} | {v:>10} | {', '.join(a)}\n" for n, v, a in rows)
    reason = rng.choice(words.FAREWELLS)
    said = (
        "We believe that the bug you reported is now fixed; the following\npackage(s) have been"
        f" removed from {suite}:\n\n{table}\n------------------- Reason -------------------\n"
        f"{reason}\n----------------------------------------------\n\nNote that the package(s) have"
        " simply been removed from the tag\ndatabase and may (or may not) still be in the pool.\n"
    )
    sources = ", ".join(n for n, _, a in rows if "source" in a)
    more: Headers = (
        ("X-DAK", "dak rm"),
        ("X-Debian", "DAK"),
        *(
            ()
            if old
            else (
                ("Debian", "DAK"),
                ("Debian-Source", sources),
                ("Debian-Suite", suite),
                ("Debian-Archive-Action", "remove"),
            )
        ),
    )
    told = {
        "suites": [suite],
        "bug": bug,
        "reason": reason,
        "removals": [
            {"name": n, "version": v, "architectures": a, "is_source": "source" in a}
            for n, v, a in rows
        ],
    }
    subject = f"Bug#{bug}: Removed package(s) from {suite}"
    letter = _from_masters(world, subject, said, more, to=f"{bug}-close@{_BUGS}")
    return Tale(
        what=f"dak removed {'2021' if old else 'today'}",
        letter=through_mailman(letter, TEAM, LISTS) if world.chance(0.4) else letter,
        bare=letter,
        news=(News("package-removed", told, f"removed {bug}"),),
    )


def _removed_related(world: World, upload: Upload) -> Tale:
    """What closes the bugs of a removed package says nothing new."""
    bug = world.new_bug()
    name = f"{upload.package.name}-legacy"
    said = (
        f"Version: {world.version()}+rm\n\nDear submitter,\n\nas the package {name} has just been"
        " removed from the archive,\nwe hereby close the associated bug reports.\n"
    )
    more = (("X-DAK", "dak rm"), ("X-Debian", "DAK"), ("Debian", "DAK"))
    subject = f"Bug#{bug}: Removed package(s) from unstable"
    return Tale(what="dak removed related", letter=_from_masters(world, subject, said, more))


def _override(world: World, upload: Upload) -> Tale:
    bug, name = world.new_bug(), upload.package.name
    old, new = world.rng.sample(("optional", "extra", "standard", "required"), 2)
    lines = ("Operating on the unstable suite", f"Changed priority from {old} to {new}")
    said = (
        "We believe that the bug you reported is fixed; the following\nchanges were made to the"
        f" overrides...\n\nConcerning package {name}...\n"
        + "".join(f"{line}\n" for line in lines)
        + "\n\nThank you for reporting the bug, which will now be closed.\n"
    )
    more = (("X-DAK", "dak override"), ("X-Debian", "DAK"), ("X-Debian-Package", name))
    letter = _from_masters(world, f"Bug#{bug}: fixed", said, more, to=f"{bug}-close@{_BUGS}")
    summary = "; ".join((f"Concerning package {name}", *lines))
    return _off(
        "dak override",
        letter,
        "package-override-changed",
        {"source_name": name, "bug": bug, "summary": summary},
    )


def _commands(world: World, upload: Upload) -> Tale:
    """Two commands, and so two pieces of news, of what one key may upload and another no more."""
    first, second = (world.rng.randbytes(20).hex().upper() for _ in range(2))
    allowed = [upload.package.name]
    denied = [f"{upload.package.name}-legacy"] if world.chance(0.5) else []
    removed = world.rng.randrange(1, 20)
    said = (
        f"Fingerprint: {first}\nUid: {upload.by.field}\nAllowed: {allowed[0]}\n"
        + "".join(f"Denied: {name}\n" for name in denied)
        + f"\nRemoved: {second}.\n{removed} acl entries removed.\n"
    )
    file = f"{upload.by.mailbox}-{world.rng.randrange(10**9)}.dak-commands"
    more = (("X-DAK", "dak process-command"), ("X-Debian", "DAK"), ("Auto-Submitted", _MADE))
    letter = _from_masters(world, f"Results of processing {file}", said, more)
    key = f"commands {letter.message_id}"
    told = {"fingerprint": first, "allowed": allowed, "denied": denied, "uid": upload.by.field}
    gone = {"fingerprint": second, "allowed": [], "denied": [], "removed": removed}
    return Tale(
        what="dak commands",
        letter=letter,
        off=(
            News("upload-permission-changed", told, f"{key} 1"),
            News("upload-permission-changed", gone, f"{key} 2"),
        ),
    )


def _commented(world: World, upload: Upload) -> Tale:
    reason = f"Hi,\n\n{world.rng.choice(words.REMARKS)}\n\nThanks."
    said = f"{reason}\n\n===\n\nPlease answer to the archive's people, not to me alone.\n"
    who = world.somebody()
    letter = posted(
        world,
        HOST,
        text(said),
        subject=f"Comments regarding {upload.name}.changes",
        sender=person(who.name, who.address),
        to=_TO,
        more=(
            ("X-DAK", "dak process-new"),
            ("X-Debian", "DAK"),
            ("Debian-Changes", f"{upload.name}.changes"),
        ),
    )
    told = {"upload_name": upload.name, "reason": reason}
    return _off("dak comment", letter, "package-upload-commented", told)


def _transitions(world: World, upload: Upload) -> Tale:
    names = [f"{upload.package.name}-{world.rng.randrange(2, 40)}", f"lib{upload.package.name}"]
    names = names[: world.rng.randrange(1, 3)]
    said = f"The following transitions are completed and were removed:\n\n{', '.join(names)}\n"
    more = (("X-DAK", "dak transitions"), ("X-Debian", "DAK"), ("Auto-Submitted", _MADE))
    letter = _from_masters(world, f"Transitions completed: {', '.join(names)}", said, more)
    return _off("dak transitions", letter, "transition-completed", {"names": names})


_MADE: Final = "auto-generated"

_SHAPES: Final[tuple[Callable[[World, Upload], Tale], ...]] = (
    *(_removed, _removed, _removed_related, _override),
    *(_commands, _commented, _transitions, processing),
)


def _from_masters(world: World, subject: str, said: str, more: Headers, *, to: str = _TO) -> Letter:
    part = text(said, "8bit" if world.chance(0.3) else "quoted-printable")
    return posted(world, HOST, part, subject=subject, sender=MASTERS, to=to, more=more)


def _off(what: str, letter: Letter, name: str, told: dict[str, Any]) -> Tale:
    return Tale(
        what=what,
        letter=letter,
        bare=letter,
        off=(News(name, told, f"{name} {letter.message_id}"),),
    )
