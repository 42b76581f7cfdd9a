"""Mails of those who watch testing and the builders: what migrates, what must go, what is built."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import Headers, Letter, text
from mailbridge.traffic.lists import through_smartlist
from mailbridge.traffic.posted import posted
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import Package, World

TESTING: Final = "demo-testing-changes"

_RELEASE: Final = "release"
_NONE: Final = "(not in testing)"
_FOOTER: Final = "-- \nThis email is automatically generated once a day.\n"


def migrated(world: World, package: Package) -> Tale:
    """Return the mail that says that testing has the newest version of *package*, from now on."""
    new, old = package.version, package.testing
    package.testing = new
    hint = (
        f"<https://{_RELEASE}.{words.DOMAIN}/hints/{world.somebody().mailbox}>"
        if world.chance(0.15)
        else None
    )
    reason = "unblocked, its bug is fixed"
    forced = f"  Hint: {hint}\n    {reason}\n" if hint else ""
    letter = _migration(
        world, package, f"{package.name} {new} MIGRATED to testing", new, old, forced
    )
    told = {
        "source_name": package.name,
        "suite": "testing",
        "version_new": new,
        "version_old": old or "-",
    } | ({"hint": f"{hint} {reason}"} if hint else {})
    return _listed(world, "migrated", letter, News("package-migrated", told, _key(letter)))


def removed(world: World, package: Package) -> Tale:
    """Return the mail that says that testing has *package* no longer, in which it must be."""
    old = package.testing
    package.testing = None
    letter = _migration(world, package, f"{package.name} REMOVED from testing", None, old, "")
    told = {
        "source_name": package.name,
        "suite": "testing",
        "version_new": "-",
        "version_old": old,
    }
    return _listed(world, "removed", letter, off=News("package-migrated-away", told, _key(letter)))


def summary(world: World, packages: Sequence[Package]) -> Tale:
    """Return the day's summary, of *packages*, for the list."""
    what = world.rng.choice(("migrated", "removed"))
    listed = "".join(f"  {package.name} {package.version}\n" for package in packages)
    said = f"The following packages {what} today:\n\n{listed}\n{_FOOTER}"
    letter = posted(
        world,
        _RELEASE,
        text(said),
        subject=f"Demo testing: {len(packages)} packages {what}",
        sender=_WATCH,
        more=(("X-Testing-Watch-Summary", what), ("Precedence", "bulk")),
    )
    told = {
        "what": what,
        "suite": "testing",
        "count": len(packages),
        "packages": [package.name for package in packages],
    }
    return _listed(world, "summary", letter, off=News("migration-summary", told, _key(letter)))


def autoremoval(world: World, package: Package, bugs: Sequence[int]) -> Tale:
    """Return the mail that says that testing will lose *package* soon, for *bugs*."""
    when = (world.when + timedelta(days=world.rng.randrange(14, 40))).date().isoformat()
    listed = "".join(f"{bug}: {world.rng.choice(words.TROUBLES)}\n" for bug in bugs)
    version = package.testing or package.version
    said = (
        f"{package.name} {version} is marked for autoremoval from testing on {when}\n\n"
        f"It is affected by these RC bugs:\n{listed}\n"
        f"https://tracker.{words.DOMAIN}/pkg/{package.name}\n"
    )
    letter = posted(
        world,
        _RELEASE,
        text(said),
        subject=f"{package.name} is marked for autoremoval from testing",
        sender=_WATCH,
        more=(("X-Debian", "release.debian.org/autoremovals"), ("X-Debian-Package", package.name)),
    )
    told = {
        "source_name": package.name,
        "source_version": version,
        "suite": "testing",
        "date": when,
        "bugs": list(bugs),
    }
    key = f"autoremoval {package.name} {version} {when} {bugs}"
    return Tale(
        what="autoremoval",
        letter=letter,
        bare=letter,
        off=(News("package-autoremoval-scheduled", told, key),),
    )


def built(world: World, package: Package) -> Tale:
    """Return the builder's mail about the newest version of *package*."""
    result = world.rng.choice(("failed", "successful", "successful", "attempted", "given-back"))
    arch = world.rng.choice(("arm64", "riscv64", "s390x"))
    log = f"https://buildd.{words.DOMAIN}/log/{package.name}/{arch}/{world.token(10)}"
    letter = posted(
        world,
        "buildd",
        text(f"Build finished at {world.date}\nThe log is at {log}\n", "8bit", "us-ascii"),
        subject=f"Log for {result} build of {package.name}_{package.version} on {arch}"
        " (dist=unstable)",
        sender=f"Demo builder <buildd@{words.DOMAIN}>",
        more=(("X-Debian", "buildd.debian.org"), ("X-Debian-Package", package.name)),
    )
    told = {
        "pkgname": package.name,
        "version": package.version,
        "architecture": arch,
        "suite": "unstable",
        "state": result,
        "log_url": log,
    }
    name = "package-build-success" if result == "successful" else "package-build-failed"
    news = News(name, told, f"built {letter.message_id}")
    off = () if result == "given-back" else (news,)
    return Tale(what=f"buildd {result}", letter=letter, bare=letter, off=off)


_WATCH: Final = f"Demo testing watch <noreply@{_RELEASE}.{words.DOMAIN}>"


def _migration(  # noqa: PLR0913, PLR0917 - what the two mails differ in
    world: World, package: Package, subject: str, new: str | None, old: str | None, more: str
) -> Letter:
    said = (
        f"FYI: The status of the {package.name} source package\nin Demo's testing distribution has"
        f" changed.\n\n  Previous version: {old or _NONE}\n  Current version:  {new or _NONE}\n"
        f"{more}\n{_FOOTER}"
    )
    headers: Headers = (
        ("X-Testing-Watch-Package", package.name),
        ("X-Testing-Watch-Version", new or _NONE),
        ("Precedence", "bulk"),
    )
    part = text(said, "8bit" if world.chance(0.5) else "quoted-printable")
    return posted(world, _RELEASE, part, subject=subject, sender=_WATCH, more=headers)


def _key(letter: Letter) -> str:
    return f"testing {letter.message_id}"


def _listed(world: World, what: str, letter: Letter, *news: News, off: News | None = None) -> Tale:
    through: dict[str, Any] = {"letter": letter}
    if world.chance(0.5):
        number = world.list_number(TESTING)
        through = {"letter": through_smartlist(letter, TESTING, LISTS, number)}
    return Tale(
        what=f"testing watch {what}", bare=letter, news=news, off=(off,) if off else (), **through
    )
