"""A build daemon tells how the build of a package ended: "Log for failed build of ..."."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail, strip_list_prefixes
from mailbridge.payloads import Clip, Event, PackageBuildFailed, PackageBuildSuccess

FAMILY = Family.BUILDD
PAYLOADS = (PackageBuildFailed, PackageBuildSuccess)
ATTESTED = "documentation only"

UNFINISHED: Final = NoEvent("unfinished", "a build that will be tried again or was left out")

_SUBJECT: Final = re.compile(
    r"(?:Log for )?(?P<result>failed|successful|attempted|given-back|skipped)"
    r"(?: (?P<on>\S+))? build of (?P<source>[a-z0-9][a-z0-9.+-]+)[_ ](?P<version>[0-9]\S*)"
    r"(?: on (?P<arch>\S+))?(?: \((?:dist=)?(?P<suite>[^)\s]+)\))?"
)
# wanna-build tells it below; sbuild puts the archive's name before it.
_SUITE: Final = re.compile(r"(?m)^ \* Suite: (\S{1,100})[ \t]*$")
_FOOTER: Final = re.compile(r"(?m)^(?:_{30,}|-- ?)$")
_LOG: Final = re.compile(r"https?://[!-~]{4,290}")


def recognise(mail: Mail, site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the build's event; nothing for one that did not end."""
    told = _SUBJECT.fullmatch(strip_list_prefixes(mail.subject))
    architecture = told and (told["arch"] or told["on"])
    if told is None or not architecture:
        return None
    if told["result"] in ("given-back", "skipped"):
        return UNFINISHED
    clip = Clip()
    # (What a list writes below has an address, too.)
    log = _LOG.search(_FOOTER.split(mail.ended_lines, maxsplit=1)[0])
    below = _SUITE.search(mail.ended_lines)
    suite = (told["suite"] or (below[1] if below else "")).rpartition("/")[2]
    kind = PackageBuildSuccess if told["result"] == "successful" else PackageBuildFailed
    payload = kind(
        pkgname=clip.word(told["source"]),
        version=clip.word(told["version"]),
        architecture=clip.word(architecture),
        suite=clip.word(suite) if suite else None,
        repo=site.repo or archive.lower(),
        state=told["result"],
        log_url=log[0].rstrip(".,;:)>") if log else None,
        truncated=clip.truncated,
    )
    known = {
        "package": payload.pkgname,
        "version": payload.version,
        "architecture": payload.architecture,
        "suite": payload.suite,
        "state": payload.state,
        # A build may be tried again, and fail again.
        "message_id": mail.message_id,
    }
    return [Event(payload=payload, identity=known)]
