"""A security team published an advisory: Debian's DSA, its LTS team's DLA, ELA of extended LTS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from mailbridge.armor import BEGIN, END, SIGNATURE
from mailbridge.changes import numbers
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, strip_list_prefixes_but_security
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import ITEMS, Clip, Event, Payload


class SecurityAdvisoryPublished(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """A security team tells that packages were fixed, and in which versions."""

    NAME = "security-advisory-published"
    DEFAULT = "on"

    advisory: str
    """With its revision, as `DSA-5000-1`."""
    kind: str
    """`DSA`, `DLA` or `ELA`."""
    revision: int
    title: str
    source_names: list[str]
    cves: list[str]
    bugs: list[int]
    fixed_versions: dict[str, str]
    """Version by suite, where the text says so."""


FAMILY = Family.SECURITY
PAYLOADS = (SecurityAdvisoryPublished,)
ATTESTED = "real mails"

MAX_TEXT: Final = 512 * 1024
"""How far into the text we read; the lists of files in old advisories were long."""

_SUBJECT: Final = re.compile(
    r"\[SECURITY\] \[(?P<kind>D[SL]A|ELA)[ -](?P<number>\d{1,6})-(?P<revision>\d{1,3})\]"
    r" (?P<title>.+)"
)
# In the head of the text; subjects were mistyped.
_NUMBER: Final = re.compile(
    r"(?m)^.{0,60}Advisory[ \t]+(?P<kind>D[SL]A|ELA)[ -](?P<number>\d{1,6})-(?P<revision>\d{1,3})\b"
)
_FIELD: Final = re.compile(r"(?s)([A-Z][A-Za-z ]{1,30}?(?:\(s\))?)[ \t]*:[ \t]*(.*)")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,200}")
_CVE: Final = re.compile(r"\b(?:CVE|CAN)-\d{4}-\d{4,8}\b")
_DIGITS: Final = re.compile(r"\d+")
_SENTENCE: Final = re.compile(r"(?<=[.;]) (?=[A-Z])")
# (LTS names the package between: `fixed in hello version 2.10-3`.)
_FIXED: Final = re.compile(
    r"\bfixed in (?:[a-z0-9][a-z0-9.+-]{1,100} )?versions? ([0-9][A-Za-z0-9.+:~-]*)"
)
_SUITE: Final = re.compile(
    r"distribution \(([a-z][a-z0-9-]*)\)"
    r"|\bDebian \d{1,3} \W?(?!(?:the|these|this|those|lts)\b)([A-Za-z][A-Za-z0-9-]*)"
)
# In 2002 the suite came last: `in version 1.0-2 for the current stable distribution (woody)`.
_FOR: Final = re.compile(
    r"\bin (?:versions? )?([0-9][A-Za-z0-9.+:~-]*+)(?: and [0-9][A-Za-z0-9.+:~-]*+)?"
    r" for the (?:[a-z]{1,12} ){0,3}distribution \(([a-z][a-z0-9-]*)\)"
)
# Extended LTS lists them behind its other fields.
_RELATED: Final = re.compile(r"(?m)^Related CVEs?[ \t]*:((?:.*\n)(?:[ \t]+\S.*\n?)*)")
# `1.2-3 (buster), 1.2-4 (stretch)`
_BY_SUITE: Final = re.compile(
    # (Looked at from the beginning of a word alone, or one long word would be looked at for ever.)
    r"(?<![A-Za-z0-9.+:~-])[A-Za-z.+:~-]*+([0-9][A-Za-z0-9.+:~-]*+) \(([a-z][a-z0-9-]*+)\)"
)


def recognise(mail: Mail, _site: Site, _archive: str) -> Sequence[Event] | None:
    """Return the advisory's event, from its signed text alone where that is signed inline."""
    subject = _SUBJECT.fullmatch(strip_list_prefixes_but_security(mail.subject))
    if subject is None:
        return None
    text = _signed(mail.ended_lines[:MAX_TEXT])
    if text is None:
        # (Extended LTS signs none; others sign inline or by MIME, and what is not was cut off.)
        if subject["kind"] != "ELA" and not mail.content_type.startswith("multipart/"):
            raise MalformedMail("an advisory that nobody signed, or that is cut off")
        text = mail.ended_lines[:MAX_TEXT]
    fields, rest = _read(text)
    named = _NUMBER.search(text[: len(text) - len(rest)]) or subject
    packages = list(
        dict.fromkeys(_NAME.findall(fields.get("package", "").lower().replace(" and ", " ")))
    )
    if not packages:
        raise MalformedMail("an advisory that names no package")
    clip = Clip()
    advisory = f"{named['kind']}-{named['number']}-{named['revision']}"
    related = _RELATED.search(rest)
    told = fields.get("cve") or (related[1] if related else "")
    cves = list(dict.fromkeys(_CVE.findall(told)))
    bugs = numbers(_DIGITS.findall(fields.get("debian bug", "")))
    fixed = _fixed(rest) or {
        suite: version for version, suite in _BY_SUITE.findall(fields.get("version", ""))
    }
    payload = SecurityAdvisoryPublished(
        advisory=advisory,
        kind=named["kind"],
        revision=int(named["revision"]),
        title=clip.line(subject["title"]),
        source_names=clip.words(packages),
        cves=clip.items(cves),
        bugs=clip.items(bugs),
        fixed_versions=dict(clip.items(fixed.items())),
        url=_url(advisory),
        truncated=clip.truncated,
    )
    known = {
        "advisory": advisory,
        "packages": sorted(packages),
        "cves": sorted(cves),
        "bugs": sorted(bugs),
        "fixed_versions": sorted([suite, version] for suite, version in fixed.items()),
    }
    return [Event(payload=payload, identity=known)]


def _signed(text: str) -> str | None:
    """Return what a clearsign armor in *text* holds, dashes unescaped once; None without one."""
    lines = text.split("\n")
    bare = [line.rstrip() for line in lines]
    if BEGIN not in bare:
        return None
    begin = bare.index(BEGIN)
    if SIGNATURE not in bare[begin:] or END not in bare[begin:]:
        raise MalformedMail("an advisory that is cut off: its signature does not end")
    end = bare.index(SIGNATURE, begin)
    if "" not in bare[begin:end]:
        raise MalformedMail("an advisory with nothing in its armor")
    start = bare.index("", begin, end) + 1  # over the armor's own headers
    return "\n".join(line.removeprefix("- ") for line in lines[start:end])


def _read(text: str) -> tuple[dict[str, str], str]:
    """Return the block of fields, by short names in lower case, and the prose behind it."""
    fields: dict[str, list[str]] = {}
    name = ""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not line.strip():
            if "package" in fields:
                return _joined(fields), "\n".join(lines[number:])
            name = ""
        elif line[0] in " \t":
            if name:
                fields[name].append(line.strip())
        elif (found := _FIELD.fullmatch(line.rstrip())) and (
            "package" in fields or found[1].startswith("Package")
        ):
            name = _short(found[1])
            name = name if name not in fields else ""
            if name:
                fields[name] = [found[2]]
        else:
            name = ""
    return _joined(fields), ""


def _joined(fields: dict[str, list[str]]) -> dict[str, str]:
    return {name: " ".join(lines) for name, lines in fields.items()}


def _short(name: str) -> str:
    lower = name.strip().lower().removesuffix("(s)").removesuffix("s").strip()
    return "cve" if "cve" in lower else lower


def _fixed(text: str) -> dict[str, str]:
    """Return the version that each suite has it fixed in, as the sentences of *text* tell."""
    found: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        # (One that was not affected, or is not fixed yet, may be named in the sentence before.)
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            for suite, version in _fixed_by(sentence):
                found.setdefault(suite.lower(), version.rstrip(".:-"))
                if len(found) > ITEMS:
                    return found
    return found


def _fixed_by(sentence: str) -> Iterator[tuple[str, str]]:
    """Yield suite and version of all that one sentence says is fixed."""
    after = 0
    for fixed in _FIXED.finditer(sentence):
        suites = _SUITE.findall(sentence, after, fixed.start())
        yield from ((named[0] or named[1], fixed[1]) for named in suites)
        if not suites and not after:
            yield from ((told[2], told[1]) for told in _FOR.finditer(sentence, fixed.start()))
            return
        after = fixed.end()


def _url(advisory: str) -> str | None:
    if advisory.startswith("ELA"):
        return None
    return f"https://security-tracker.debian.org/tracker/{advisory}"
