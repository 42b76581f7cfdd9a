"""
Debian's testing watch tells what migrated to testing and what was removed from it, daily.

A mail for each package, and on debian-testing-changes a summary of the day.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from mailbridge.changes import source_url
from mailbridge.errors import MalformedMail
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail, strip_list_prefixes
from mailbridge.payloads import REASON, Clip, Event, Payload


class _Migration(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """What changed for one source package in a suite that others migrate to."""

    source_name: str
    suite: str
    # `-` for "none", as Laniakea's spears writes it.
    version_new: str
    version_old: str
    hint: str | None = None
    """The release team's hint that forced it, and the reason they gave."""


class PackageMigrated(_Migration, frozen=True, kw_only=True, omit_defaults=True):
    """A source package, or a new version of one, migrated to testing."""

    NAME = "package-migrated"
    DEFAULT = "on"


class PackageMigratedAway(_Migration, frozen=True, kw_only=True, omit_defaults=True):
    """A source package was removed from testing."""

    NAME = "package-migrated-away"


class MigrationSummary(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """A day's migrations or removals, in one mail."""

    NAME = "migration-summary"

    what: Literal["migrated", "removed"]
    suite: str
    count: int
    packages: list[str]
    """Source packages, as many as an event holds."""


FAMILY = Family.TESTING_WATCH
PAYLOADS = (PackageMigrated, PackageMigratedAway, MigrationSummary)
ATTESTED = "documentation only"

NONE: Final = "-"
"""The version of a package that is not there."""
MAX_LINES: Final = 20_000

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,200}")
_VERSION: Final = re.compile(r"[0-9][A-Za-z0-9.+:~-]{0,200}")
_SUBJECT: Final = re.compile(
    r"(?P<source>\S+) (?:(?P<version>\S+) )?(?:MIGRATED to|REMOVED from) (?P<suite>[a-z][a-z0-9-]*)"
)
_TOLD: Final = re.compile(r"(?m)^ {1,8}(Previous|Current) version: *(\S.{0,250})")
_HINT: Final = re.compile(r"(?m)^ {1,8}Hint: *(\S.*(?:\n[ \t]+\S.*)*)")
# A line that begins with a package and goes on with one of its versions.
_LISTED: Final = re.compile(r"[ \t*-]{0,8}([a-z0-9][a-z0-9.+-]{1,200})[ :(_]+([0-9]\S*)")


def recognise(mail: Mail, _site: Site, archive: str) -> Sequence[Event] | None:
    """Return the package's event, or the summary's."""
    if mail.header("X-Testing-Watch-Package") is not None:
        return [_migration(mail, archive)]
    return [_summary(mail)]


def _migration(mail: Mail, archive: str) -> Event:
    source = mail.header("X-Testing-Watch-Package") or ""
    subject = _SUBJECT.fullmatch(strip_list_prefixes(mail.subject))
    told = reversed(_TOLD.findall(mail.ended_lines))
    versions = {word: _version(text.strip()) for word, text in told}
    if not _NAME.fullmatch(source) or subject is None or len(versions) != 2:  # noqa: PLR2004
        raise MalformedMail(f"a migration of {source[:60]!r} without both versions")
    if subject["source"] != source:
        raise MalformedMail(f"a migration of {source!r}, or of {subject['source'][:60]!r}")
    new, old = versions["Current"], versions["Previous"]
    if new == old:
        raise MalformedMail(f"a migration of {source!r} from {old} to {new}")
    clip = Clip()
    hint = _HINT.search(mail.ended_lines)
    kind = PackageMigratedAway if new == NONE else PackageMigrated
    payload = kind(
        source_name=source,
        suite=subject["suite"],
        version_new=new,
        version_old=old,
        hint=clip.line(hint[1], REASON) if hint else None,
        url=source_url(source, archive),
        truncated=clip.truncated,
    )
    known = {
        "source": source,
        "suite": payload.suite,
        "version_new": new,
        "version_old": old,
        # What was removed may come back, and be removed again.
        "message_id": mail.message_id,
    }
    return Event(payload=payload, identity=known)


def _version(text: str) -> str:
    if text == "(not in testing)":
        return NONE
    if not _VERSION.fullmatch(text):
        raise MalformedMail(f"a migration with the version {text[:60]!r}")
    return text


def _summary(mail: Mail) -> Event:
    what = mail.header("X-Testing-Watch-Summary")
    if what not in ("migrated", "removed"):
        raise MalformedMail(f"a summary of what was {(what or '')[:60]!r}")
    body = mail.ended_lines.partition("\n-- \n")[0].split("\n")[:MAX_LINES]
    listed = (found[1] for line in body if (found := _LISTED.match(line)))
    packages = list(dict.fromkeys(listed))
    clip = Clip()
    payload = MigrationSummary(
        what="migrated" if what == "migrated" else "removed",
        suite="testing",
        count=len(packages),
        packages=clip.words(packages),
        truncated=clip.truncated,
    )
    known = {"what": what, "packages": sorted(packages), "message_id": mail.message_id}
    return Event(payload=payload, identity=known)
