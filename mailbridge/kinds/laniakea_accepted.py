"""
Laniakea accepted an upload: the announcement and the private ACCEPTED.

No .changes is in these mails: what they tell stands in headers, subject and two blocks of text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mailbridge.changes import MAX_FILES, bugs_closed, first_entry, source_url, upload_stem
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Site
from mailbridge.mail import Mail, strip_list_prefixes
from mailbridge.payloads import CHANGES, Clip, Event, PackageUploadAccepted

FAMILY = Family.LANIAKEA
PAYLOADS = (PackageUploadAccepted,)
ATTESTED = "rendered from the sender's templates"

# Until 2023-06 the suite was empty.
_ANNOUNCED: Final = re.compile(
    r"Accepted (?P<source>\S+) (?P<version>\S+)(?: into(?: (?P<suite>\S+))?)?"
)
_PRIVATE: Final = re.compile(r"(?P<upload>\S+) ACCEPTED(?: into(?: (?P<suite>\S+))?)?")
_HEADLINE: Final = re.compile(r"Accepted (?P<source>\S*) (?P<version>\S*):")
_THANKS: Final = ("Thanks to ", " for the contribution.")
_FILE: Final = re.compile(r" +(\S+)|(\S+)")


def recognise(mail: Mail, site: Site, archive: str) -> Sequence[Event] | NoEvent | None:
    """Return the upload's event, the same for both mails."""
    if mail.header("X-Laniakea-Event") != "package-accepted":
        return None
    subject = strip_list_prefixes(mail.subject)
    private = _PRIVATE.fullmatch(subject)
    announced = _ANNOUNCED.fullmatch(subject)
    where = private or announced
    if where is None:
        raise MalformedMail(f"an accepted upload with the subject {subject[:80]!r}")
    suite = where["suite"]
    clip = Clip()
    text = mail.text
    names = _files(text, "Files:" if private else "Accepted:")
    changelog = _changelog(text, "Files:" if private else "Accepted:")
    version, distribution, urgency = first_entry(changelog)
    headline = _HEADLINE.match(text.lstrip("\n"))
    told = announced or headline
    source = mail.header("X-Laniakea-Package") or (told and told["source"]) or None
    version = (told and told["version"]) or version
    if not source and not names:
        raise MalformedMail("an accepted upload that names neither package nor files")
    stem = private["upload"] if private else upload_stem(names) or _derived(source, version, names)
    guessed = suite is None and distribution is not None
    suites = clip.words(filter(None, [suite or distribution]))
    thanked = _thanked(text) if announced else None
    uploader = clip.word(thanked) if thanked else None
    dsc = next((name for name in names if name.endswith(".dsc")), None)
    repo = site.repo or mail.header("X-Laniakea-Repo") or archive.lower()
    payload = PackageUploadAccepted(
        repo=clip.word(repo),
        upload_name=clip.word(stem.removesuffix(".changes")),
        suite=suites[0] if suites else None,
        suite_guessed=guessed,
        source_name=clip.word(source) if source else None,
        source_version=clip.word(version) if version else None,
        uploader_name=uploader,
        is_new=False,
        files=clip.words(names),
        changes=clip.text(changelog, CHANGES),
        suites=suites,
        policy_suites=[],
        closes=clip.items(bugs_closed(changelog)),
        is_source_upload=dsc is not None,
        is_binnmu=False,
        dsc=clip.word(dsc) if dsc else None,
        urgency=urgency,
        distribution=clip.word(distribution) if distribution else None,
        url=source_url(source or "", archive),
        truncated=clip.truncated,
    )
    known = {
        "repo": repo,
        "source": source,
        "version": version,
        "suites": suites,
        "files": sorted(names),
    }
    return [Event(payload=payload, identity=known, author=uploader)]


def _changelog(text: str, heading: str) -> str:
    """Return the changelog: from the first entry on, up to the line that says *heading*."""
    before = f"\n{text}".partition(f"\n{heading}\n")[0].strip("\n")
    if headline := _HEADLINE.match(before):
        before = before[headline.end() :].strip("\n")
    return before.lstrip()


def _files(text: str, heading: str) -> list[str]:
    """Return the names under *heading*; before 2023-06 they were not all indented."""
    names: list[str] = []
    for line in f"\n{text}".partition(f"\n{heading}\n")[2].split("\n"):
        found = _FILE.fullmatch(line.rstrip())
        if found and (found[1] or "." in found[2][1:-1]):
            names.append(found[1] or found[2])
        elif line.strip():
            return list(dict.fromkeys(names))
        if len(names) > MAX_FILES:
            raise MalformedMail(f"more than {MAX_FILES} files accepted")
    raise MalformedMail("a list of accepted files, and nothing below it: the mail is cut off")


def _thanked(text: str) -> str | None:
    """Return the name in the announcement's last words."""
    before, after = _THANKS
    for line in reversed(text.split("\n")):
        if line.startswith(before) and line.rstrip().endswith(after):
            return line.rstrip()[len(before) : -len(after)].strip() or None
    return None


def _derived(source: str | None, version: str | None, names: Sequence[str]) -> str:
    """The name its .changes most likely has: that of a source upload, or the first file's."""
    if source and version:
        return f"{source}_{version.rpartition(':')[2]}_source"
    return names[0].rpartition(".")[0] or names[0]
