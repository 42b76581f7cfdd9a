"""Mails as dak sends them: announcements of every period, ACCEPTED, held, NEW, REJECTED."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from mailbridge.traffic import words
from mailbridge.traffic.letter import (
    Letter,
    Part,
    person,
    signed,
    text,
    through_mailman,
    through_smartlist,
)
from mailbridge.traffic.tale import News, OpenBug, Package, Someone, Tale, World

Period = Literal["2002", "2008", "2013", "2016", "2021", "today"]
"""When dak wrote so (mail-formats 1.4)."""

LISTS: Final = f"lists.{words.DOMAIN}"
CHANGES: Final = "demo-devel-changes"
TEAM: Final = "demo-team-uploads"
HOST: Final = "ftp-master"

_UPLOAD: Final = "dak process-upload"
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
        arch = self.arches[0] if len(self.arches) == 1 else "amd64"
        return f"{self.package.name}_{self.version.rpartition(':')[2]}_{arch}"

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
        old = period in ("2002", "2008")
        blank = " " if old else ""
        binaries = self.package.binaries
        lines = [f"Format: {'1.7' if period == '2002' else '1.8'}", f"Date: {self.date}"]
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
        if period != "2002":
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
        if period != "2002":
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
        names.append(f"{stem}_{arches[-1]}.buildinfo")
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


def announce(
    world: World, upload: Upload, period: Period, *, latin: bool = False, forged: bool = False
) -> Tale:
    """
    Return the mail about *upload* that goes to the changes list.

    *latin*: in raw Latin-1, as in 2002.  *forged*: with lines outside of the signed text that
    would have it otherwise.
    """
    arches = " ".join(upload.arches)
    into = "" if period in ("2002", "2008", "2013") else f" into {upload.suite}"
    subject = f"Accepted {upload.package.name} {upload.version} ({arches}){into}"
    said = clearsigned(world, upload.paragraph(period))
    if period in ("2002", "2008"):
        said += f"\n\nAccepted:\n{_pool(upload)}\n"
    if forged:
        lie = "Source: impostor\nVersion: 666-1\nDistribution: stable\n"
        said = f"{lie}\n{said}\n{lie}"
    to = f"{CHANGES}@{LISTS}"
    modern = period == "today"
    letter = Letter(
        trace=world.trace("lists", to),
        charset="latin-1" if latin else "utf-8",
        headers=(
            *_people(upload, period, to),
            *_dak(upload, period, _UPLOAD, "accept", upload.suite),
            ("Subject", subject),
            ("Message-Id", f"<{world.exim_id(HOST)}>"),
            ("Date", world.date),
        ),
        part=_body(world, said, period, latin=latin),
    )
    told = upload.expected(period)
    if period in ("2008", "2013", "2002"):
        told["suite_guessed"] = True
    munged = modern and world.chance(0.3)
    decorated = (
        through_mailman(letter, CHANGES, LISTS, munged=munged)
        if munged
        else through_smartlist(letter, CHANGES, LISTS, world.list_number())
    )
    return Tale(
        what=f"dak announce {period}"
        + (" latin1" if latin else "")
        + (" forged" if forged else ""),
        letter=decorated,
        bare=None if latin else letter,
        news=(News("package-upload-accepted", told, upload.key),),
        breakable=True,
    )


def accepted(world: World, upload: Upload, *, out_of_new: bool = False) -> Tale:
    """Return the ACCEPTED mail about *upload*, in the copy of its team's list."""
    said = "Thank you for your contribution to Demo.\n\n\n\nAccepted:\n\n"
    said += clearsigned(world, upload.paragraph("today")) + "\n"
    program = "dak process-policy" if out_of_new else _UPLOAD
    letter = _private(world, upload, said, program=program, action="accept", suite=upload.suite)
    letter = letter.with_header("Subject", f"{upload.name}.changes ACCEPTED into {upload.suite}")
    news = News("package-upload-accepted", upload.expected("today"), upload.key)
    return Tale(
        what="dak accepted",
        letter=through_mailman(letter, TEAM, LISTS) if world.chance(0.5) else letter,
        bare=letter,
        news=(news,),
        breakable=True,
    )


def held(world: World, upload: Upload, queue: str) -> Tale:
    """Return the ACCEPTED mail about *upload*, which waits in the policy *queue*."""
    said = "Thank you for your contribution to Demo.\n\n\n\nAccepted:\n\n"
    said += clearsigned(world, upload.paragraph("today")) + "\n"
    suites = f"{upload.suite}->{queue}"
    letter = _private(world, upload, said, program=_UPLOAD, action="policy", suite=suites)
    letter = letter.with_header("Subject", f"{upload.name}.changes ACCEPTED into {suites}")
    told = upload.expected("today") | {"policy_suites": [queue], "policy_queue": queue}
    return Tale(
        what="dak held",
        letter=through_mailman(letter, TEAM, LISTS),
        news=(News("package-upload-held", told, f"held {upload.key}"),),
        breakable=True,
    )


def new(world: World, upload: Upload) -> Tale:
    """Return the mail that says that *upload* waits in NEW."""
    said = (
        "\nYour package has been put into the NEW queue, which requires manual action\n"
        "from the archive's people.  The upload was otherwise valid, so please be\npatient.\n"
    )
    letter = _private(world, upload, said, program=_UPLOAD, action="new", suite=None)
    letter = letter.with_header("Subject", f"{upload.name}.changes is NEW")
    told = {
        "upload_name": upload.name,
        "is_new": True,
        "source_name": upload.package.name,
        "source_version": upload.source_version,
    }
    return Tale(
        what="dak new",
        letter=through_mailman(letter, TEAM, LISTS),
        news=(News("package-upload-queued-new", told, f"new {letter.get('Message-Id')}"),),
    )


def rejected(world: World, upload: Upload) -> Tale:
    """Return the mail that says that *upload* was rejected, and why."""
    reason = world.rng.choice(words.REASONS)
    if world.chance(0.2):
        reason += "\n\n===\n\nAccepted:\n  nothing of it (the line above is part of the reason)"
    automatic = world.chance(0.6)
    said = (
        f"\n\n{reason}\n\n===\n\nPlease feel free to respond to this email if you don't understand"
        " why\nyour files were rejected, or if you upload new files which address our\nconcerns.\n"
    )
    letter = _private(world, upload, said, program=_UPLOAD, action="reject", suite=upload.suite)
    letter = letter.with_header("Subject", f"{upload.name}.changes REJECTED")
    letter = letter.with_header("X-DAK-Rejection", "automatic" if automatic else "manual")
    told = {
        "upload_name": upload.name,
        "reason": reason,
        "automatic": automatic,
        "source_name": upload.package.name,
        "source_version": upload.source_version,
    }
    return Tale(
        what="dak rejected",
        letter=through_mailman(letter, TEAM, LISTS),
        news=(News("package-upload-rejected", told, f"rejected {letter.get('Message-Id')}"),),
    )


def closing(world: World, upload: Upload, bug: OpenBug) -> Letter:
    """Return the mail to the bug tracker that closes *bug* because of *upload*."""
    said = (
        f"Source: {upload.package.name}\nSource-Version: {upload.source_version}\n"
        f"Done: {upload.by.name}\n\nWe believe that the bug you reported is fixed in the latest"
        f" version of\n{upload.package.name}, which is due to be installed in the archive.\n\n"
        "A summary of the changes between this version and the previous one is\nattached.\n\n"
        + clearsigned(world, upload.paragraph("today"))
    )
    to = f"{bug.number}-close@bugs.{words.DOMAIN}"
    headers = (
        ("Received", f"(at {bug.number}-close) by bugs.{words.DOMAIN}; {world.date}"),
        *_people(upload, "today", to),
        *_dak(upload, "today", _UPLOAD, "accept", upload.suite),
        ("Subject", f"Bug#{bug.number}: fixed in {upload.package.name} {upload.source_version}"),
        ("Message-Id", f"<{world.exim_id(HOST)}>"),
        ("Date", world.earlier(3)),
    )
    return Letter(headers=headers, part=_body(world, said, "today"))


def processing(world: World, upload: Upload) -> Tale:
    """Return the queue daemon's mail about *upload*: it decides nothing."""
    files = "".join(f"  {file.name}\n" for file in upload.files)
    said = (
        f"{upload.name}.changes uploaded successfully to localhost\nalong with the files:\n{files}"
        f"\nGreetings,\n\n\tYour queue daemon (running on host upload.{words.DOMAIN})\n"
    )
    letter = Letter(
        trace=world.trace(HOST, upload.by.address),
        headers=(
            ("From", f"Demo FTP Masters <ftpmaster@{HOST}.{words.DOMAIN}>"),
            ("To", upload.by.address),
            ("Subject", f"Processing of {upload.name}.changes"),
            ("X-DAK", "DAK"),
            ("X-Debian", "DAK"),
            ("X-Debian-Package", upload.package.name),
            ("Precedence", "bulk"),
            ("Auto-Submitted", "auto-generated"),
            ("Message-Id", f"<{world.exim_id(HOST)}>"),
            ("Date", world.date),
        ),
        part=text(said, "bare"),
    )
    return Tale(what="dak processing", letter=letter)


def clearsigned(world: World, paragraph: str) -> str:
    """Return *paragraph* in clearsign armour, with a signature that is none."""
    lines = (f"- {line}" if line.startswith("-") else line for line in paragraph.split("\n"))
    armoured = "\n".join(lines)
    head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    return f"{head}{armoured}\n{world.signature()}"


def _private(  # noqa: PLR0913 - what the five private mails differ in
    world: World, upload: Upload, said: str, *, program: str, action: str, suite: str | None
) -> Letter:
    to = f"{TEAM}@{LISTS}"
    return Letter(
        trace=world.trace(HOST, to),
        headers=(
            ("From", f"Demo FTP Masters <ftpmaster@{HOST}.{words.DOMAIN}>"),
            ("To", f"{person(upload.by.name, upload.by.address)},\n {to}"),
            *_dak(upload, "today", program, action, suite),
            ("Precedence", "bulk"),
            ("Auto-Submitted", "auto-generated"),
            ("Subject", ""),
            ("Message-Id", f"<{world.exim_id(HOST)}>"),
            ("Date", world.date),
        ),
        part=_body(world, said, "today" if action != "new" else "2021"),
    )


def _people(upload: Upload, period: Period, to: str) -> tuple[tuple[str, str], ...]:
    if period in ("2021", "today"):
        return (
            ("From", f"Demo FTP Masters <ftpmaster@{HOST}.{words.DOMAIN}>"),
            ("Reply-To", person(upload.by.name, upload.by.address)),
            ("To", to),
        )
    writer = upload.by.field if period == "2002" else person(upload.by.name, upload.by.address)
    return (
        ("From", writer),
        ("To", to),
        ("Sender", f"Archive Administrator <dak@{HOST}.{words.DOMAIN}>"),
    )


def _dak(
    upload: Upload, period: Period, program: str, action: str, suite: str | None
) -> tuple[tuple[str, str], ...]:
    if period == "2002":
        return (("X-Katie", "$Revision: 1.65 $"),)
    told = [("X-DAK", program if period != "2008" else "dak process-unchecked")]
    if period == "2008":
        return (*told, ("X-Katie", "$Revision: 1.65 $"))
    told += [("X-Debian", "DAK"), ("X-Debian-Package", upload.source)]
    if period != "today":
        return tuple(told)
    told += [
        ("Debian", "DAK"),
        ("Debian-Changes", f"{upload.name}.changes"),
        ("Debian-Source", upload.source),
        ("Debian-Version", upload.version),
        ("Debian-Architecture", " ".join(upload.arches)),
    ]
    if suite is not None:
        told.append(("Debian-Suite", suite))
    told.append(("Debian-Archive-Action", action))
    return tuple(told)


def _body(world: World, said: str, period: Period, *, latin: bool = False) -> Part:
    if period == "2002":
        return text(said, "bare", "latin-1" if latin else "utf-8")
    if period != "today":
        return text(said)
    return signed(said, world.boundary(), world.signature(2))


def _pool(upload: Upload) -> str:
    name = upload.package.name
    home = f"pool/main/{name[0]}/{name}"
    return "".join(f"{file.name}\n  to {home}/{file.name}\n" for file in upload.files)


def _file(world: World, name: str) -> File:
    rng = world.rng
    return File(
        name=name,
        size=rng.randrange(*next(size for end, size in _SIZES.items() if name.endswith(end))),
        md5=rng.randbytes(16).hex(),
        sha1=rng.randbytes(20).hex(),
        sha256=rng.randbytes(32).hex(),
    )
