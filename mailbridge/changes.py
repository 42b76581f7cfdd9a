"""
The .changes inside a mail, read by python-debian out of the signed text alone.

Whatever stands outside the clearsign armor does not count, and neither does a second paragraph or
a second field of one name: python-debian would let the last win, and fields before the armor.
Nobody verifies a signature here; what is returned is what the text says, no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec
from debian.deb822 import Deb822

from mailbridge import armor
from mailbridge.errors import MalformedMail
from mailbridge.mail import one_line, person
from mailbridge.payloads import CHANGES, WORD, Checksum, Clip

MAX_CHANGES: Final = 4 * 1024 * 1024
"""The largest .changes in twenty years of Debian are well below one."""
MAX_FILES: Final = 10_000
MAX_FIELDS: Final = 500
MAX_FIELD: Final = 256 * 1024
"""Characters in a field's first line: python-debian needs 160 bytes for each word of it."""
MAX_CHANGELOG: Final = 512 * 1024
"""How far into a changelog that stands alone we look for bugs."""
MAX_BUGS: Final = 2_000

_FIELD: Final = re.compile(r"([!\"$-,./0-9;-~][!-9;-~]*)[ \t]*:")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SOURCE: Final = re.compile(r"(\S+)(?:\s+\((\S+)\))?")
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~_-]*")
_HASH: Final = re.compile(r"[0-9a-f]{1,128}")
_FIRST_ENTRY: Final = re.compile(r"\S+ \((\S+)\) ([^;]*); ?urgency=([A-Za-z]+)")
# Policy 4.4; what dpkg-parsechangelog takes for `Closes`.
_CLOSES: Final = re.compile(r"(?i)closes:\s{0,80}(?:bug)?#?\s?\d+(?:,\s{0,80}(?:bug)?#?\s?\d+)*")
_NUMBER: Final = re.compile(r"\d+")
_POOL_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]+")


class File(msgspec.Struct, frozen=True):
    """One file of an upload, with what is told of it."""

    name: str
    size: int
    section: str | None = None
    md5: str | None = None
    sha1: str | None = None
    sha256: str | None = None

    @property
    def strongest(self) -> str | None:
        """The strongest checksum that is told."""
        return self.sha256 or self.sha1 or self.md5


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a .changes says."""

    signed: str | None
    """The text in a clearsign armor that all this stood in; whether the signature is any good
    nobody checked."""
    source: str
    source_version: str
    """Version of the source; differs from `version` in a binNMU."""
    version: str
    architectures: tuple[str, ...]
    files: tuple[File, ...]
    fields: dict[str, str]
    """Every field by its name in lower case, the first of doubled ones."""

    def field(self, name: str) -> str | None:
        """Return the field *name* as one line, or None where it is missing or empty."""
        return " ".join(self.fields.get(name.lower(), "").split()) or None

    @property
    def is_source_upload(self) -> bool:
        """Whether the source is in it."""
        return "source" in self.architectures

    @property
    def is_binnmu(self) -> bool:
        """Whether it rebuilds a source that is there already."""
        binary_only = (self.field("Binary-Only") or "").lower() == "yes"
        return binary_only or self.version != self.source_version

    @property
    def uploader(self) -> str | None:
        """Changed-By, in old uploads Maintainer; older ones still encoded names as headers do."""
        told = self.field("Changed-By") or self.field("Maintainer")
        return one_line(told) if told else None

    @property
    def is_whole(self) -> bool:
        """Whether its lists name the same files: where it was cut off the last names fewer."""
        lists = [
            {row.split()[-1] for row in self.fields[name].split("\n") if row.strip()}
            for name in ("files", "checksums-sha1", "checksums-sha256")
            if name in self.fields
        ]
        return "files" in self.fields and all(names == lists[0] for names in lists)

    @property
    def text(self) -> str:
        """The changelog as Laniakea carries it: the first line bare, the others as they stand."""
        return self.fields.get("changes", "").strip("\n").lstrip()

    @property
    def distributions(self) -> list[str]:
        """What the uploader asked for."""
        return (self.field("Distribution") or "").split()


def read_changes(text: str) -> Changes | None:
    """
    Return what the .changes in *text* says, or None where there is none.

    Signed or not; of a signed one nothing outside the armor counts.  Raises `MalformedMail` as it
    is cut off, lacks a field nobody can do without, or names files no archive would take.
    """
    lines = text.split("\n")
    signed = armor.signed_lines(lines)
    paragraph = _paragraph(signed if signed is not None else _from_format(lines))
    if not paragraph:
        if signed is not None:
            raise MalformedMail(".changes: nothing in its armor")
        return None
    fields = {str(name).lower(): str(value) for name, value in Deb822(paragraph).items()}
    return _changes(fields, None if signed is None else armor.plain(signed))


def upload_stem(names: Iterable[str]) -> str | None:
    """
    Return the .changes' name without `.changes`, where the upload's one .buildinfo tells it.

    >>> upload_stem(["hello_2.10-3.dsc", "hello_2.10-3_source.buildinfo"])
    'hello_2.10-3_source'
    """
    found = [name.removesuffix(".buildinfo") for name in names if name.endswith(".buildinfo")]
    return found[0] if len(found) == 1 else None


def derived_stem(changes: Changes) -> str:
    """Return the name that dpkg-buildpackage gives a .changes, without `.changes`."""
    built = [arch for arch in changes.architectures if arch not in ("source", "all")]
    if len(built) > 1:
        arch = "multi"
    elif built:
        arch = built[0]
    else:
        arch = "all" if "all" in changes.architectures else "source"
    return f"{changes.source}_{changes.version.rpartition(':')[2]}_{arch}"


def bugs_closed(text: str) -> list[int]:
    """
    Return the bugs that a changelog closes, each once, as dpkg finds them.

    >>> bugs_closed("  * Closes: #12, Bug#13\\n  * closes: 12")
    [12, 13]
    """
    return numbers(
        word for found in _CLOSES.findall(text[:MAX_CHANGELOG]) for word in _NUMBER.findall(found)
    )


def first_entry(text: str) -> tuple[str | None, str | None, str | None]:
    """
    Return version, distribution and urgency of the first entry of a changelog.

    >>> first_entry("hello (1:2.10-3) landing; urgency=LOW\\n .\\n   * New.")
    ('1:2.10-3', 'landing', 'low')
    """
    found = _FIRST_ENTRY.match(text[:1000])
    return (found[1], found[2].strip(), found[3].lower()) if found else (None, None, None)


def numbers(words: Iterable[str]) -> list[int]:
    """Return the bug numbers among *words*, each once; a number longer than nine digits is none."""
    found = dict.fromkeys(
        int(word)
        for word in words
        if word.isascii() and word.isdecimal() and len(word) <= 9  # noqa: PLR2004
    )
    return list(found)[:MAX_BUGS]


def facts(changes: Changes, clip: Clip, *, pool_url: str | None, archive: str) -> dict[str, Any]:
    """Return the fields of an upload's payload that its .changes tells, cleaned and cut."""
    uploader = person(changes.uploader or "")
    launchpad = changes.field("Launchpad-Bugs-Fixed")
    urgency = (changes.field("Urgency") or "").split()
    maintainer = changes.field("Maintainer")
    distribution = changes.field("Distribution")
    dsc = next((file for file in changes.files if file.name.endswith(".dsc")), None)
    checksums = [
        Checksum(name=clip.word(file.name), size=file.size, sha256=file.sha256)
        for file in changes.files
        if file.sha256
    ]
    return {
        "source_name": clip.word(changes.source),
        "source_version": clip.word(changes.source_version),
        "version": clip.word(changes.version) if changes.is_binnmu else None,
        "source_maintainer": clip.line(one_line(maintainer)) if maintainer else None,
        "uploader_name": clip.word(uploader.name) if uploader.name else None,
        "uploader_email": uploader.address,
        "architectures": clip.words(changes.architectures),
        "binaries": clip.words(re.split(r"[,\s]+", changes.fields.get("binary", ""))),
        "files": clip.words(file.name for file in changes.files),
        "checksums": clip.items(checksums) or None,
        "dsc": clip.word(dsc.name) if dsc else None,
        "dsc_url": _dsc_url(changes.source, dsc, pool_url),
        "changes": clip.text(changes.text, CHANGES),
        "urgency": clip.word(urgency[0].lower()) if urgency else None,
        "distribution": clip.word(distribution) if distribution else None,
        "closes": clip.items(numbers(_bugs(changes.field("Closes")))),
        "launchpad_bugs": None if launchpad is None else clip.items(numbers(_bugs(launchpad))),
        "is_source_upload": changes.is_source_upload,
        "is_binnmu": changes.is_binnmu,
        "url": source_url(changes.source, archive),
    }


def source_url(source: str, archive: str) -> str | None:
    """
    Return the page of a source package, where we know how the archive writes it.

    >>> source_url("hello", "Debian"), source_url("hello", "PureOS")
    ('https://tracker.debian.org/pkg/hello', None)
    """
    if archive == "Debian" and _POOL_NAME.fullmatch(source) and len(source) <= WORD:
        return f"https://tracker.debian.org/pkg/{quote(source)}"
    return None


def identity(
    changes: Changes, *, suites: Sequence[str], policy_suites: Sequence[str]
) -> dict[str, Any]:
    """
    Return what makes an upload the one it is, for its announcement and every private copy.

    All of its files, however many an event can show: what is cut from sight must not make two
    uploads one.
    """
    return {
        "source": changes.source,
        "version": changes.version,
        "architectures": sorted(set(changes.architectures)),
        "suites": sorted(set(suites)),
        "policy_suites": sorted(set(policy_suites)) or None,
        "files": sorted([file.name, file.size, file.strongest or ""] for file in changes.files),
    }


# -- the text --------------------------------------------------------------------------------------


def _from_format(lines: list[str]) -> list[str]:
    for number, line in enumerate(lines):
        if line.startswith("Format: "):
            return lines[number:]
    return []


def _paragraph(lines: list[str]) -> list[str]:
    """
    Return the first paragraph of *lines* with each field once: the first of its name.

    Lines that are neither field nor continuation are dropped: python-debian looks for armor again.
    """
    kept: list[str] = []
    seen: set[str] = set()
    keep = False
    size = 0
    for line in lines:
        if not line.strip():
            if seen:
                break
            continue
        size += len(line)
        if size > MAX_CHANGES:
            raise MalformedMail(f".changes: more than {MAX_CHANGES} characters")
        if line[0] in " \t":
            if keep:
                kept.append(_CONTROL.sub(" ", line))
        elif field := _FIELD.match(line):
            name = field[1].lower()
            keep = name not in seen
            seen.add(name)
            if len(seen) > MAX_FIELDS or len(line) > MAX_FIELD:
                raise MalformedMail(
                    f".changes: more than {MAX_FIELDS} fields, or {MAX_FIELD} characters in one"
                )
            if keep:
                kept.append(_CONTROL.sub(" ", line))
        else:
            keep = False
    return kept


# -- the fields ------------------------------------------------------------------------------------


def _changes(fields: dict[str, str], signed: str | None) -> Changes:
    told = _SOURCE.fullmatch(fields.get("source", "").strip())
    version = fields.get("version", "").strip()
    if not told:
        raise MalformedMail(f".changes: no source package in {fields.get('source', '')[:60]!r}")
    if not version or len(version.split()) != 1:
        raise MalformedMail(f".changes: no version in {version[:60]!r}")
    return Changes(
        signed=signed,
        source=told[1],
        source_version=told[2] or version,
        version=version,
        architectures=tuple(fields.get("architecture", "").split()),
        files=_files(fields),
        fields=fields,
    )


def _files(fields: dict[str, str]) -> tuple[File, ...]:
    sums = {name: _checksums(fields, f"checksums-{name}") for name in ("sha1", "sha256")}
    found: dict[str, File] = {}
    for words in _rows(fields, "files"):
        # md5 size section priority name; Launchpad has left out columns, and put blanks into them.
        if len(words) < 3:  # noqa: PLR2004
            raise MalformedMail(
                f".changes: Files: a line that lacks columns: {' '.join(words)[:80]!r}"
            )
        name = _file_name(words[-1])
        found.setdefault(
            name,
            File(
                name=name,
                size=_size(words[1]),
                section=words[2] if len(words) == 5 else None,  # noqa: PLR2004
                md5=_hash(words[0]),
                sha1=sums["sha1"].get(name, (None, 0))[0],
                sha256=sums["sha256"].get(name, (None, 0))[0],
            ),
        )
    if not found:
        for kind, rows in sums.items():
            for name, (value, size) in rows.items():
                if name not in found or kind == "sha256":
                    found[name] = File(
                        name=name,
                        size=size,
                        sha1=sums["sha1"].get(name, (None, 0))[0],
                        sha256=value if kind == "sha256" else None,
                    )
    return tuple(found.values())


def _checksums(fields: dict[str, str], field: str) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for words in _rows(fields, field):
        if len(words) != 3:  # noqa: PLR2004
            raise MalformedMail(
                f".changes: {field}: not of three columns: {' '.join(words)[:80]!r}"
            )
        found.setdefault(_file_name(words[2]), (_hash(words[0]), _size(words[1])))
    return found


def _rows(fields: dict[str, str], field: str) -> list[list[str]]:
    lines = [line for line in fields.get(field, "").split("\n") if line.strip()]
    if len(lines) > MAX_FILES:
        raise MalformedMail(f".changes: {field}: {len(lines)} files, more than {MAX_FILES}")
    return [line.split() for line in lines]


def _file_name(text: str) -> str:
    if not _FILE_NAME.fullmatch(text) or len(text) > WORD:
        raise MalformedMail(f".changes: no name that an archive takes for a file: {text[:80]!r}")
    return text


def _size(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:  # noqa: PLR2004 - a petabyte
        raise MalformedMail(f".changes: no size of a file: {text[:40]!r}")
    return int(text)


def _hash(text: str) -> str:
    if not _HASH.fullmatch(text.lower()):
        raise MalformedMail(f".changes: no checksum: {text[:80]!r}")
    return text.lower()


def _bugs(field: str | None) -> list[str]:
    return [word.lstrip("#") for word in re.split(r"[,\s]+", field or "")]


def _dsc_url(source: str, dsc: File | None, pool_url: str | None) -> str | None:
    if not dsc or not pool_url or not dsc.section or not _POOL_NAME.fullmatch(source):
        return None
    area, slash, _ = dsc.section.partition("/")
    component = area if slash and _POOL_NAME.fullmatch(area) else "main"
    prefix = source[:4] if source.startswith("lib") else source[0]
    return f"{pool_url.rstrip('/')}/{component}/{prefix}/{source}/{quote(dsc.name, safe='+~:')}"
