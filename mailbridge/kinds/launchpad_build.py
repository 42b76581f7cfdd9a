"""Launchpad tells how the build of a package, or of a recipe into a source package, ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, Event, PackageBuildFailed, PackageBuildSuccess, Payload


class RecipeBuildFinished(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """A recipe was built into a source package, or was not."""

    NAME = "recipe-build-finished"

    recipe: str
    """As `owner/name`."""
    suite: str
    repo: str
    state: str
    success: bool
    job_id: str
    log_url: str | None = None


FAMILY = Family.LAUNCHPAD
PAYLOADS = (PackageBuildFailed, PackageBuildSuccess, RecipeBuildFinished)
ATTESTED = "real mails"

SUCCESS: Final = "FULLYBUILT"
FAILED: Final = frozenset(("FAILEDTOBUILD", "FAILEDTOUPLOAD", "MANUALDEPWAIT", "CHROOTWAIT"))

UNFINISHED: Final = NoEvent("unfinished", "a build that neither ended well nor failed")
OTHER: Final = NoEvent("other-build", "a build of something that is no package")

_PACKAGE: Final = re.compile(
    r"(?:\[[^\]]*\] ){0,5}\[Build #(?P<job>\d{1,12})\] (?P<arch>\S+) build of (?P<source>\S+)"
    r" (?P<version>\S+) in (?P<distribution>\S+) (?P<series>\S+) (?P<pocket>[A-Z]+)"
    r"(?: \[(?P<archive>[^\]]+)\])?"
)
_RECIPE: Final = re.compile(
    r"(?:\[[^\]]*\] ){0,5}\[recipe build #(?P<job>\d{1,12})\] of ~\S+ \S+ in (?P<series>\S+): .+"
)
_FIELD: Final = re.compile(r" {0,2}\* ([A-Z][A-Za-z ]{1,30}):(.*)")
_URL: Final = re.compile(r"https?://[!-~]{4,290}")
_BUILD: Final = re.compile(r"(?m)^(https://launchpad\.net/[!-~]{1,250}/\+(?:recipe)?build/\d+)$")


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the build's event; nothing for one that has not ended, and for snaps and the like."""
    kind = mail.header("X-Launchpad-Notification-Type") or ""
    if not kind.endswith("-build-status"):
        return None
    if kind not in ("package-build-status", "recipe-build-status"):
        return OTHER
    state = mail.header("X-Launchpad-Build-State") or ""
    if state != SUCCESS and state not in FAILED:
        return UNFINISHED
    if kind.startswith("recipe"):
        return [_recipe(mail, site, state)]
    return [_package(mail, site, state)]


def _package(mail: Mail, site: Site, state: str) -> Event:
    subject = _PACKAGE.fullmatch(mail.subject)
    if subject is None:
        raise MalformedMail(f"a build with the subject {mail.subject[:80]!r}")
    # (Only a PPA is named in the subject.)
    told = mail.header("X-Launchpad-Archive") or subject["archive"]
    reference = told or subject["distribution"]
    pocket = "" if subject["pocket"] == "RELEASE" else f"-{subject['pocket'].lower()}"
    clip = Clip()
    kind = PackageBuildSuccess if state == SUCCESS else PackageBuildFailed
    payload = kind(
        pkgname=clip.word(subject["source"]),
        version=clip.word(subject["version"]),
        architecture=clip.word(subject["arch"]),
        suite=clip.word(f"{subject['series']}{pocket}"),
        repo=clip.word(site.repo or reference),
        state=state,
        job_id=subject["job"],
        log_url=_log(_fields(mail)),
        url=_url(mail),
        truncated=clip.truncated,
    )
    known = {
        "repo": reference,
        "package": payload.pkgname,
        "version": payload.version,
        "architecture": payload.architecture,
        "suite": payload.suite,
        "state": state,
        "job": payload.job_id,
        # A build may be tried again, and fail again.
        "message_id": mail.message_id,
    }
    return Event(payload=payload, identity=known)


def _recipe(mail: Mail, site: Site, state: str) -> Event:
    subject = _RECIPE.fullmatch(mail.subject)
    fields = _fields(mail)
    recipe = fields.get("Recipe")
    reference = mail.header("X-Launchpad-Archive") or fields.get("Archive")
    if subject is None:
        raise MalformedMail(f"a recipe's build with the subject {mail.subject[:80]!r}")
    if not recipe or not reference:
        raise MalformedMail("a recipe's build that does not tell of which recipe, or for whom")
    clip = Clip()
    payload = RecipeBuildFinished(
        recipe=clip.word(recipe),
        suite=clip.word(subject["series"]),
        repo=clip.word(site.repo or reference),
        state=state,
        success=state == SUCCESS,
        job_id=subject["job"],
        log_url=_log(fields),
        url=_url(mail),
        truncated=clip.truncated,
    )
    known = {
        "repo": reference,
        "recipe": payload.recipe,
        "suite": payload.suite,
        "state": state,
        "job": payload.job_id,
        "message_id": mail.message_id,
    }
    return Event(payload=payload, identity=known)


def _fields(mail: Mail) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in mail.ended_lines.partition("\n-- \n")[0].split("\n"):
        if found := _FIELD.fullmatch(line.rstrip()):
            fields.setdefault(found[1], found[2].strip())
    return fields


def _log(fields: dict[str, str]) -> str | None:
    log = fields.get("Build Log", "")
    return log if _URL.fullmatch(log) else None


def _url(mail: Mail) -> str | None:
    found = _BUILD.search(mail.ended_lines)
    return found[1] if found else None
