"""
Which system sent a mail: a pure table over its headers, the first row that matches decides.

`From` is never asked, lists rewrite it; the subject alone never makes an event, people quote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from mailbridge.mail import Mail, person, strip_list_prefixes


class Family(StrEnum):
    """The systems whose mail we can tell."""

    LANIAKEA = "laniakea"
    DEBBUGS = "debbugs"
    TESTING_WATCH = "testing-watch"
    DAK = "dak"
    AUTOREMOVAL = "autoremoval"
    BUILDD = "buildd"
    LAUNCHPAD = "launchpad"
    GITLAB = "gitlab"
    PHABRICATOR = "phabricator"
    BUGZILLA = "bugzilla"
    SECURITY = "security"
    SITE = "site"
    """None that we know, and one that a rule of the site claims."""
    MENTORS = "mentors"


class NoEvent(msgspec.Struct, frozen=True):
    """Nothing comes of a mail, on purpose."""

    code: str
    """What is counted, as `autoreply`."""
    words: str
    """Why, for a person."""


BOUNCE: Final = NoEvent(
    "bounce", "a mail server's delivery report; the mail that it quotes does not count"
)
AUTOREPLY: Final = NoEvent("autoreply", "somebody's automatic reply, as when on holiday")
LIST_ADMIN: Final = NoEvent(
    "list-admin",
    "the list software speaking to its moderators or members; a mail that it holds is no news yet",
)
DIGEST: Final = NoEvent(
    "digest",
    "a digest: the list left out the headers that tell what a mail is;"
    " subscribe this address to individual mails instead",
)
NONE: Final = NoEvent(
    "not-ours",
    "no header of an archive or tracker that we know;"
    " what people answer, quote or pass on does not count",
)

_BOUNCER: Final = re.compile(r"(?i)(?:mailer-daemon|postmaster)(?:@|$)")
_AWAY: Final = re.compile(r"(?i)(?:out of (?:the )?office|automatic reply:|auto:|autoreply:)")
_ADMIN: Final = re.compile(
    r"(?i)(?>.*? post from ).* requires approval$|.*moderator request\(s\) waiting$"
    r"|your message to .* awaits moderator approval$|confirm [0-9a-f]{16,}$"
    r"|.*mailing list memberships reminder$|bounce action notification$"
)
_ADMIN_SENDER: Final = re.compile(r"(?i)\S*-(?:bounces|owner|request)@")
_DIGEST: Final = re.compile(r"(?i)(?!Bug#)\S.* Digest, Vol \d+, Issue \d+$")
_DIGEST_PART: Final = re.compile(rb"(?i)[\r\n]content-type:[ \t\r\n]*multipart/digest\b")
_PR_MESSAGE: Final = re.compile(r"x-([a-z0-9]+)-pr-message")
_ADVISORY: Final = re.compile(r"\[SECURITY\] \[(?:D[SL]A|ELA)[ -]\d")
# debexpo, the software of mentors.debian.net, writes no header of its own.  Its envelope sender is
# `bounce@` its site, which the MTA that delivers writes down, and its subjects are of three forms.
_MENTORS_ENVELOPE: Final = re.compile(r"(?i)<bounce@(?P<site>[a-z0-9-]+(?:\.[a-z0-9-]+)+)>")
_MENTORED: Final = re.compile(
    r"[a-z0-9][a-z0-9.+-]+_[0-9]\S*: ACCEPTED into \S+"
    r"|New comment on package [a-z0-9][a-z0-9.+-]+"
    r"|[a-z0-9][a-z0-9.+-]+ has been removed from \S+ on \S+"
)
_DISTRIBUTION: Final = re.compile(r"(?:^|; )distribution=([a-z][a-z0-9+.-]*);")
_SPELLED: Final = {"gnu": "GNU"}

# The ends of List-Ids whose archive everybody knows.
_LISTS: Final = (
    ("lists.debian.org", "Debian"),
    ("tracker.debian.org", "Debian"),
    ("lists.puri.sm", "PureOS"),
    ("lists.ubuntu.com", "Ubuntu"),
)


def family(mail: Mail) -> Family | NoEvent:
    """Return the system that sent *mail*, or why nothing can come of it."""
    return _noise(mail) or _marked(mail) or _unmarked(mail)


def told_by(mail: Mail) -> str:
    """Return the header in which *mail* says what it is: its system's own, else Subject."""
    for name, _ in mail.fields:
        if _PR_MESSAGE.fullmatch(name.lower()) or name.lower() == "x-laniakea-event":
            return f"{name}: {mail.header(name)}"
    return f"Subject: {mail.subject}"


def tracker_of(mail: Mail) -> str | None:
    """Return whose debbugs sent *mail*, by the name inside its header: `debian`, `gnu`."""
    for name in mail.names:
        # (Asked of every mail: most names end otherwise.)
        if name.endswith("-pr-message") and (found := _PR_MESSAGE.fullmatch(name)):
            return found[1]
    return None


def mentors_of(mail: Mail) -> str | None:
    """Return the site of the debexpo that *mail* may be of, as its envelope and subject say."""
    found = _MENTORS_ENVELOPE.fullmatch(mail.header("Return-Path") or "")
    return found["site"].lower() if found and _MENTORED.fullmatch(mail.subject) else None


def archive_of(mail: Mail, family: Family) -> str:
    """
    Return the distribution that *mail* speaks of, as far as the mail itself tells.

    What the sending system says of itself goes before the list that carried it: an announcement
    and its private copy must name one archive, or their news would be two events.
    """
    if family is Family.LANIAKEA and (
        project := mail.header("X-Laniakea-Project") or mail.header("X-Laniakea-Repo")
    ):
        return project
    tracker = tracker_of(mail)
    if tracker and tracker != "debian":
        return _SPELLED.get(tracker, tracker.capitalize())
    # What is on mentors is not in Debian, and what is in a PPA is not in Ubuntu.
    beside = {Family.LAUNCHPAD: _launchpads, Family.MENTORS: mentors_of}.get(family)
    if beside and (found := beside(mail)):
        return found
    for end, archive in _LISTS:
        if mail.list_id and (mail.list_id == end or mail.list_id.endswith(f".{end}")):
            return archive
    if family is Family.LAUNCHPAD:
        return "Ubuntu"
    return "Debian" if family in _DEBIANS else "unknown"


_DEBIANS: Final = (
    Family.DAK,
    Family.DEBBUGS,
    Family.TESTING_WATCH,
    Family.SECURITY,
    Family.AUTOREMOVAL,
    Family.BUILDD,
)


def _launchpads(mail: Mail) -> str | None:
    """Return the archive that Launchpad names."""
    ppa = mail.header("X-Launchpad-PPA")
    if reference := mail.header("X-Launchpad-Archive") or (f"~{ppa}" if ppa else None):
        return reference if reference.startswith("~") else reference.capitalize()
    tasks = mail.headers("X-Launchpad-Bug")
    for task in tasks:
        if found := _DISTRIBUTION.search(task):
            return found[1].capitalize()
    return "Launchpad" if tasks else None


def _noise(mail: Mail) -> NoEvent | None:
    subject = strip_list_prefixes(mail.subject)
    empty_path = (mail.header("Return-Path") or "").strip() == "<>"
    if mail.content_type == "multipart/report" or (
        empty_path and any(_BOUNCER.match(_address(mail, name)) for name in ("From", "Sender"))
    ):
        return BOUNCE
    if (
        (mail.header("Auto-Submitted") or "").lower().startswith("auto-replied")
        or mail.has("X-Autoreply", "X-Autorespond")
        or "auto_reply" in (value.lower() for value in mail.headers("Precedence"))
        or _AWAY.match(subject)
    ):
        return AUTOREPLY
    if (mail.header("X-List-Administrivia") or "").lower() == "yes" or (
        _ADMIN.match(subject) and _ADMIN_SENDER.match(_address(mail, "From"))
    ):
        return LIST_ADMIN
    if mail.content_type == "multipart/digest" or _DIGEST.match(subject):
        return DIGEST
    return None


def _marked(mail: Mail) -> Family | None:
    return next((family for family, is_of in _ROWS if is_of(mail)), None)


def _is_daks(mail: Mail) -> bool:
    return (
        "DAK" in mail.headers("X-Debian")
        or mail.has("X-DAK")
        or "Launchpad" not in (mail.header("X-Katie") or "Launchpad")
        or "DAK" in mail.headers("Debian")
    )


def _is_gitlabs(mail: Mail) -> bool:
    # X-GitLab-Author is who pushed: only mail about pushes has it.
    return mail.has("X-GitLab-Issue-ID", "X-GitLab-Issue-IID", "X-GitLab-Author") or any(
        name.startswith("x-gitlab-mergerequest-") for name in mail.names
    )


# debbugs goes before dak: what it passes on of a dak mail keeps that mail's headers.
# "Any X-Debian", never the first: tracker.debian.org adds one of its own.
_ROWS: Final[tuple[tuple[Family, Callable[[Mail], bool]], ...]] = (
    (Family.LANIAKEA, lambda mail: mail.has("X-Laniakea-Event")),
    (Family.DEBBUGS, lambda mail: tracker_of(mail) is not None),
    (
        Family.TESTING_WATCH,
        lambda mail: mail.has("X-Testing-Watch-Package", "X-Testing-Watch-Summary"),
    ),
    (Family.DAK, _is_daks),
    (
        Family.AUTOREMOVAL,
        lambda mail: "release.debian.org/autoremovals" in mail.headers("X-Debian"),
    ),
    (Family.BUILDD, lambda mail: "buildd.debian.org" in mail.headers("X-Debian")),
    (
        Family.LAUNCHPAD,
        lambda mail: mail.has("X-Launchpad-Notification-Type", "X-Launchpad-Bug", "X-Katie"),
    ),
    (Family.GITLAB, _is_gitlabs),
    (Family.PHABRICATOR, lambda mail: mail.has("X-Phabricator-Sent-This-Message")),
    (Family.BUGZILLA, lambda mail: mail.has("X-Bugzilla-Type")),
)


def _unmarked(mail: Mail) -> Family | NoEvent:
    if _ADVISORY.match(strip_list_prefixes_but_security(mail.subject)):
        return Family.SECURITY
    if mentors_of(mail):
        return Family.MENTORS
    # Not a header, so it may not outrank one: people attach digests to bug reports.
    if mail.content_type == "multipart/mixed" and _DIGEST_PART.search(mail.raw, mail.body):
        return DIGEST
    return NONE


def strip_list_prefixes_but_security(subject: str) -> str:
    """
    Return *subject* from its `[SECURITY]` on, if only list prefixes stand before that.

    >>> strip_list_prefixes_but_security("[team] [SECURITY] [DSA 1-1] x")
    '[SECURITY] [DSA 1-1] x'
    """
    start = subject.find("[SECURITY]")
    if start < 0 or strip_list_prefixes(subject[:start]).strip():
        return subject
    return subject[start:]


def _address(mail: Mail, header: str) -> str:
    value = mail.header(header) or ""
    return person(value).address or value.strip("<> ")
