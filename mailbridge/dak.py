"""What dak's mails have in common: which of them one is, and the suites it names."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from mailbridge.mail import Mail, strip_list_prefixes

What = Literal[
    "accept",
    "new",
    "reject",
    "comment",
    "close",
    "remove",
    "override",
    "queued",
    "results",
    "transition",
]

# What dak's programs write, 2001 to today; the queue daemon's "Processing of" is debianqueued's.
_SUBJECTS: Final[tuple[tuple[What, re.Pattern[str]], ...]] = (
    (
        "accept",
        re.compile(
            r"(?:Accepted|Installed) (?P<source>\S+) (?P<version>\S+) \((?P<arches>[^)]*)\)"
            r"(?: into (?P<suites>.+))?"
        ),
    ),
    ("accept", re.compile(r"(?P<changes>\S+\.changes) ACCEPTED(?: into (?P<suites>.+))?")),
    ("new", re.compile(r"(?P<changes>\S+\.changes) is NEW")),
    ("reject", re.compile(r"(?P<changes>\S+\.changes) REJECTED(?: from (?P<suites>.+))?")),
    ("comment", re.compile(r"Comments regarding (?P<changes>\S+\.changes)")),
    ("close", re.compile(r"Bug#(?P<bug>\d{1,9}): fixed in (?P<source>.+) (?P<version>\S+)")),
    ("remove", re.compile(r"Bug#(?P<bug>\d{1,9}): Removed package\(s\) from (?P<suites>.+)")),
    ("override", re.compile(r"Bug#(?P<bug>\d{1,9}): fixed")),
    ("queued", re.compile(r"Processing of (?P<file>\S+\.(?:changes|commands|dak-commands))")),
    ("results", re.compile(r"Results of processing (?P<file>\S+)")),
    ("transition", re.compile(r"Transitions completed: (?P<names>.+)")),
)

_ACTIONS: Final[dict[str, What]] = {
    "accept": "accept",
    "policy": "accept",
    "new": "new",
    "reject": "reject",
    "remove": "remove",
}

EMBARGOED: Final = ("embargoed", "a security upload under embargo: nobody may speak of it yet")
"""Code and words for what becomes of mail about such uploads: nothing."""

_NAME: Final = re.compile(r"\S+")
_BETWEEN: Final = re.compile(r",| and ")


class Notice(msgspec.Struct, frozen=True):
    """Which of dak's mails one is, and what its subject tells."""

    what: What
    told: dict[str, str | None]
    """The words in the subject, by what they are."""


def notice(mail: Mail) -> Notice | None:
    """
    Return which of dak's mails *mail* is, or None.

    The subject first, because dak's mails to the bug tracker carry the action of the upload that
    closes the bug; then Debian-Archive-Action, which is there since 2022.
    """
    subject = strip_list_prefixes(mail.subject)
    action = _ACTIONS.get((mail.header("Debian-Archive-Action") or "").lower())
    for what, pattern in _SUBJECTS:
        if found := pattern.fullmatch(subject):
            if what == "override" and removes(mail):
                return Notice("remove", {**found.groupdict(), "suites": None})
            contradicted = action and what in ("accept", "new", "reject")
            return Notice(action if action and contradicted else what, found.groupdict())
    if "DAK" in mail.headers("X-DAK"):
        return Notice("queued", {})
    # Of a subject we cannot read only what is no answer to somebody: "Bug#1: ...", "Re: ...".
    if action and not re.match(r"(?i)Bug#|\S{1,4}: ", subject):
        return Notice(action, {})
    return None


def removes(mail: Mail) -> bool:
    """Say whether the program that removes packages wrote *mail*: `dak rm`, melanie before 2008."""
    # (Its subject was "Bug#1: fixed" then, and so is that of a changed override.)
    melanie = (mail.header("X-Katie") or "").startswith("melanie ")
    return melanie or mail.header("X-DAK") == "dak rm"


def upload_name(mail: Mail, told: Notice) -> str | None:
    """Return the .changes' name without `.changes`, as the mail's headers or subject tell it."""
    name = mail.header("Debian-Changes") or told.told.get("changes") or ""
    stem = name.removesuffix(".changes")
    return stem if _NAME.fullmatch(stem) and "/" not in stem else None


def source_name(mail: Mail) -> str | None:
    """Return the source package that the headers name, without the version binNMUs add."""
    for header in ("Debian-Source", "X-Debian-Package"):
        for value in mail.headers(header):
            if found := _NAME.match(value):
                return found[0].rstrip(",")
    return None


def before_the_rule(text: str) -> str:
    """
    Return what stands before the last line that is `===`: below it is always the same text.

    >>> before_the_rule("a\\n===\\nb\\n===\\nPlease feel free ...")
    'a\\n===\\nb'
    """
    lines = text.split("\n")
    end = max((n for n, line in enumerate(lines) if line.rstrip() == "==="), default=len(lines))
    return "\n".join(lines[:end]).strip()


class Suites(msgspec.Struct, frozen=True):
    """Where an upload went, or waits."""

    suites: tuple[str, ...] = ()
    """Into these it was accepted."""
    waiting: tuple[tuple[str, str], ...] = ()
    """For the first of each pair it waits in the queue that is the second."""

    @property
    def meant(self) -> tuple[str, ...]:
        """The suites it is in, or, where it is in none, those it waits for."""
        return self.suites or tuple(dict.fromkeys(suite for suite, _ in self.waiting))

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues it waits in."""
        return tuple(dict.fromkeys(queue for _, queue in self.waiting))

    @property
    def is_embargoed(self) -> bool:
        """Whether it may not be spoken of: a security upload before its advisory."""
        return "embargoed" in (name.lower() for name in (*self.suites, *self.queues))


def suites(mail: Mail, told: Notice) -> Suites | None:
    """Return the suites that Debian-Suite or else the subject names; None if neither does."""
    text = mail.header("Debian-Suite") or told.told.get("suites")
    if text is None:
        return None
    found = parse_suites(text)
    if (mail.header("Debian-Archive-Action") or "").lower() == "policy" and not found.waiting:
        # It says itself that no suite has it, whatever the names look like.
        return Suites(waiting=tuple((suite, suite) for suite in found.suites))
    return found


def parse_suites(text: str) -> Suites:
    """
    Return the suites in *text*, each once, in order.

    >>> parse_suites("proposed-updates->stable-new, proposed-updates, (none)")
    Suites(suites=('proposed-updates',), waiting=(('proposed-updates', 'stable-new'),))
    >>> parse_suites("testing, unstable and experimental").suites
    ('testing', 'unstable', 'experimental')
    """
    plain: dict[str, None] = {}
    waiting: dict[tuple[str, str], None] = {}
    for word in (part.strip() for part in _BETWEEN.split(text)):
        if not word or word == "(none)":
            continue
        suite, arrow, queue = (part.strip() for part in word.partition("->"))
        if arrow:
            waiting[suite, queue] = None
        else:
            plain[suite] = None
    return Suites(tuple(plain), tuple(waiting))
