"""Mails of security teams: advisories, as they are written today and as they were in 2008."""

from __future__ import annotations

from typing import Any, Final

from mailbridge.traffic import words
from mailbridge.traffic.dak import clearsigned
from mailbridge.traffic.letter import person, text
from mailbridge.traffic.lists import through_smartlist
from mailbridge.traffic.posted import posted
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import Package, World

ANNOUNCE: Final = "demo-security-announce"

_RULE: Final = "-" * 72
_STABLE, _BEFORE = "meadow", "heath"
"""The names of the stable release and of that before it."""


def advisory(world: World, package: Package) -> Tale:
    """Return the advisory about *package*: of the team for stable, long-term or longer support."""
    rng = world.rng
    kind = rng.choice(("DSA", "DSA", "DLA", "ELA"))
    old = kind == "DSA" and world.chance(0.3)
    number, revision = world.serial(kind), rng.choice((1, 1, 1, 2))
    package.updates += 1
    fixed = {_STABLE: f"{package.stable}+demo12u{package.updates}"}
    if world.chance(0.4):
        fixed[_BEFORE] = f"{package.stable}~demo11u{package.updates}"
    year = 2008 if old else world.when.year
    cves = [f"CVE-{year}-{world.serial('CVE') + 10_000}" for _ in range(rng.randrange(1, 4))]
    bug = [world.new_bug()] if world.chance(0.5) else []
    name = f"{kind} {number}-{revision}" if old else f"{kind}-{number}-{revision}"
    title = (
        f"New {package.name} packages fix several vulnerabilities"
        if old
        else f"{package.name} security update"
    )
    said = _text(world, name, package, fixed, cves=cves, bugs=bug, old=old)
    if kind != "ELA":
        # (Extended support signs none.)
        said = clearsigned(world, said)
    who = world.somebody()
    letter = posted(
        world,
        "security",
        text(said, "8bit" if old else "quoted-printable"),
        subject=f"[SECURITY] [{name}] {title}",
        sender=person(who.name, who.address),
        to=f"{ANNOUNCE}@{LISTS}",
        more=(
            ("X-Debian", "PGP check passed for security officers"),
            ("Priority", "urgent"),
        ),
    )
    told: dict[str, Any] = {
        "advisory": f"{kind}-{number}-{revision}",
        "kind": kind,
        "revision": revision,
        "title": title,
        "source_names": [package.name],
        "cves": cves,
        "bugs": bug,
        "fixed_versions": fixed,
    }
    return Tale(
        what=f"security {kind}{' 2008' if old else ''}",
        letter=through_smartlist(letter, ANNOUNCE, LISTS, world.list_number(ANNOUNCE)),
        bare=letter,
        news=(News("security-advisory-published", told, f"advisory {told['advisory']}"),),
    )


def _text(  # noqa: PLR0913 - what an advisory tells
    world: World,
    name: str,
    package: Package,
    fixed: dict[str, str],
    *,
    cves: list[str],
    bugs: list[int],
    old: bool,
) -> str:
    rows = [("Package", package.name)]
    if name.startswith("ELA"):
        listed = ", ".join(f"{version} ({suite})" for suite, version in fixed.items())
        rows += [("Version", listed)]
        fields = "".join(f"{key} : {told}\n" for key, told in rows)
        ids = "".join(f" {cve}\n" for cve in cves)
        numbers = f"Debian Bug : {bugs[0]}\n" if bugs else ""
        return f"{fields}{numbers}\nRelated CVEs :\n{ids}\nSeveral flaws were found in it.\n"
    if old:
        rows += [
            ("Vulnerability", "several"),
            ("Problem type", "remote"),
            ("Debian-specific", "no"),
        ]
    rows += [("CVE Id(s)" if old else "CVE ID", " ".join(cves))]
    rows += [("Debian Bug", str(bug)) for bug in bugs]
    fields = "".join(f"{key:<15}: {told}\n" for key, told in rows)
    suites = "".join(
        f"For the {'stable' if suite == _STABLE else 'oldstable'} distribution ({suite}), this"
        f" problem has been fixed in\nversion {version}.\n\n"
        for suite, version in fixed.items()
    )
    return (
        f"{_RULE}\nDebian Security Advisory {name:<24} security@{words.DOMAIN}\n"
        f"https://www.{words.DOMAIN}/security/\n{world.when:%B %d, %Y}\n{_RULE}\n\n{fields}\n"
        f"{world.rng.choice(words.TROUBLES).capitalize()}, which strangers can make use of.\n\n"
        f"{suites}We recommend that you upgrade your {package.name} packages.\n"
    )
