"""Uploads, as their .changes tell them in every period, and where they are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, NamedTuple

from mailbridge.traffic import words
from mailbridge.traffic.world import OpenBug, Package, Someone, World

Period = Literal["2001", "2002", "2008", "2013", "2016", "2021", "today"]
"""When dak wrote so, or katie, as it was called once."""
KATIES: Final[tuple[Period, ...]] = ("2001", "2002")
"""Without a word about MIME, and with checksums by MD5 alone."""
BEFORE_2014: Final[tuple[Period, ...]] = (*KATIES, "2008", "2013")
"""No subject told which suite."""

_SIZES: Final = {
    ".dsc": (1_700, 3_900),
    ".orig.tar.xz": (40_000, 4_000_000),
    ".debian.tar.xz": (4_000, 60_000),
    ".buildinfo": (4_500, 19_000),
    ".deb": (9_000, 1_900_000),
}
_LONG: Final = 8_000  # what `changes` is cut at


class File(NamedTuple):
    """A file of an upload."""

    name: str
    size: int
    md5: str
    sha1: str
    sha256: str

    @property
    def digests(self) -> tuple[str, str, str]:
        """Every digest of it that a .changes has."""
        return self.md5, self.sha1, self.sha256

    def exchanged(self, rng: Random) -> File:
        """Return another file of this name and size."""
        md5, sha1, sha256 = (rng.randbytes(size).hex() for size in (16, 20, 32))
        return self._replace(md5=md5, sha1=sha1, sha256=sha256)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An upload, as its .changes tells it."""

    package: Package
    version: str
    source_version: str
    arches: tuple[str, ...]
    suite: str
    urgency: str
    by: Someone
    closes: tuple[int, ...]
    files: tuple[File, ...]
    changes: str
    date: str

    @property
    def name(self) -> str:
        """The .changes file's name without `.changes`: no epoch, and where it was built."""
        return f"{self.package.name}_{self.version.rpartition(':')[2]}_{_built_on(self.arches)}"

    @property
    def source(self) -> str:
        """The Source field, which names the source's version where it differs."""
        if self.version == self.source_version:
            return self.package.name
        return f"{self.package.name} ({self.source_version})"

    @property
    def is_source(self) -> bool:
        """Whether it brings source."""
        return "source" in self.arches

    def paragraph(self, period: Period) -> str:
        """Return the .changes, unsigned."""
        old = period in (*KATIES, "2008")
        blank = " " if old else ""
        binaries = self.package.binaries
        lines = [f"Format: {'1.7' if period in KATIES else '1.8'}", f"Date: {self.date}"]
        lines.append(f"Source: {self.source}")
        if old or set(self.arches) != {"source"}:
            lines.append(f"Binary: {' '.join(binaries)}")
        if not self.is_source:
            lines.append("Binary-Only: yes")
        lines += [
            f"Architecture: {' '.join(self.arches)}",
            f"Version: {self.version}",
            f"Distribution: {self.suite}",
            f"Urgency: {self.urgency}",
            f"Maintainer: {self.package.maintainer.field}",
            f"Changed-By: {self.by.field}",
        ]
        if old or set(self.arches) != {"source"}:
            lines.append(f"Description:{blank}")
            lines += [f" {name:<10} - made-up program of a made-up archive" for name in binaries]
        if self.closes:
            lines.append(f"Closes: {' '.join(map(str, self.closes))}")
        lines.append(f"Changes:{blank}")
        # (`changes` is the field's value: every line but the first has its blank already.)
        lines += f" {self.changes}".split("\n")
        section = self.package.section
        if period not in KATIES:
            lines.append(f"Checksums-Sha1:{blank}")
            lines += [f" {file.sha1} {file.size} {file.name}" for file in self.files]
            lines.append(f"Checksums-Sha256:{blank}")
            lines += [f" {file.sha256} {file.size} {file.name}" for file in self.files]
        lines.append(f"Files:{blank}")
        lines += [f" {file.md5} {file.size} {section} optional {file.name}" for file in self.files]
        return "\n".join(lines) + "\n"

    @property
    def told_changes(self) -> dict[str, Any]:
        """Return what an event tells of the changes; what is too long, it cuts and says so."""
        if len(self.changes) > _LONG:
            return {"truncated": True}
        return {"changes": self.changes}

    def expected(self, period: Period) -> dict[str, Any]:
        """Return what any mail of the *period* that brings the whole .changes tells."""
        told = {
            "suite": self.suite,
            "suites": [self.suite],
            "policy_suites": [],
            "is_new": False,
            "source_name": self.package.name,
            "source_version": self.source_version,
            "uploader_name": self.by.name,
            "uploader_email": self.by.address,
            "architectures": list(self.arches),
            "files": [file.name for file in self.files],
            "urgency": self.urgency,
            "distribution": self.suite,
            "closes": list(self.closes),
            "is_source_upload": self.is_source,
            "is_binnmu": self.version != self.source_version,
        }
        told |= self.told_changes
        if period == "today":
            told["upload_name"] = self.name
        if period not in KATIES:
            told["checksums"] = [
                {"name": file.name, "size": file.size, "sha256": file.sha256} for file in self.files
            ]
        return told

    @property
    def key(self) -> str:
        """What makes it this upload and no other."""
        return f"upload {self.package.name} {self.version} {self.name}"


def prepare(  # noqa: PLR0913 - an upload has that many sides
    world: World,
    package: Package,
    *,
    suite: str,
    version: str,
    by: Someone,
    bugs: Sequence[OpenBug] = (),
    binnmu: bool = False,
) -> Upload:
    """Return the upload of *version* of *package* to *suite*, closing *bugs*."""
    rng = world.rng
    plain = version.rpartition(":")[2]
    urgency = rng.choice(("medium", "medium", "low", "high"))
    items = [f"   * {rng.choice(words.CHORES)}."]
    items += [f"   * {rng.choice(words.REPAIRS)}.\n     (Closes: #{bug.number})" for bug in bugs]
    if world.chance(0.02):  # (a rare one, so that the cap is seen)
        items += [f"   * {rng.choice(words.REPAIRS)}, part {part}." for part in range(200)]
    if binnmu:
        items = ["   * Binary-only rebuild against the new library."]
    changes = f"{package.name} ({version}) {suite}; urgency={urgency}\n .\n" + "\n".join(items)
    stem = f"{package.name}_{plain}"
    if binnmu:
        arches: tuple[str, ...] = ("amd64",)
        names = [f"{name}_{plain}_amd64.deb" for name in package.binaries]
    else:
        names = [f"{stem}.dsc", f"{stem}.debian.tar.xz"]
        if plain.rpartition("-")[2] == "1":
            names.insert(1, f"{package.name}_{plain.rpartition('-')[0]}.orig.tar.xz")
        arches = ("source",)
        if world.chance(0.25):
            arches = ("source", package.arch)
            names += [f"{name}_{plain}_{package.arch}.deb" for name in package.binaries]
        names.append(f"{stem}_{_built_on(arches)}.buildinfo")
    return Upload(
        package=package,
        version=version,
        source_version=version.rpartition("+b")[0] if binnmu else version,
        arches=arches,
        suite=suite,
        urgency=urgency,
        by=by,
        closes=tuple(sorted(bug.number for bug in bugs)),
        files=tuple(_file(world, name) for name in names),
        changes=changes,
        date=world.earlier(rng.randrange(9, 90)),
    )


def _built_on(arches: Sequence[str]) -> str:
    """Return what dpkg calls the whole of an upload after: its one part, or where it was built."""
    return arches[0] if len(arches) == 1 else "amd64"


def _file(world: World, name: str) -> File:
    rng = world.rng
    return File(
        name=name,
        size=rng.randrange(*next(size for end, size in _SIZES.items() if name.endswith(end))),
        md5=rng.randbytes(16).hex(),
        sha1=rng.randbytes(20).hex(),
        sha256=rng.randbytes(32).hex(),
    )
