"""
What all mails of a debbugs tracker share: whose they are, which bug, its title, packages and tags.

After debbugs' own scripts/process; `X-Debian-PR-Message` is the Debian project's, `X-GNU-PR-...` is
GNU's.  A report or a followup is somebody's own mail with debbugs' headers on top of it, so the
first header of a name is debbugs', and whatever comes later may be of another bug.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mailbridge.errors import MalformedMail
from mailbridge.mail import Mail, person, read_mail, strip_list_prefixes
from mailbridge.payloads import Person

TRACKER: Final = "debbugs"

_PR_MESSAGE: Final = re.compile(r"x-([a-z0-9]+)-pr-message")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_BETWEEN: Final = re.compile(r"[,\s]+")
_MESSAGE_ID: Final = re.compile(r"<([^<>]+)>")
_NUMBERED: Final = re.compile(r"(?i)\bBug ?#(?P<bug>[0-9]{1,9})(?::| (?=closed by ))\s*")
_VIA: Final = re.compile(r" via ", re.IGNORECASE)
_VIA_IN_PARENTHESES: Final = re.compile(r" \(?via ", re.IGNORECASE)
_SPOOL: Final = re.compile(r"from |by |via spool by .*\(code (?P<code>[A-Z])\b")
_PSEUDO_HEADER: Final = re.compile(r"([\w-]+):[\s\xa0]*(\S.*)")
_AS_WRITTEN: Final = frozenset(("owner", "forwarded", "version", "source-version", "done"))
_VERSION: Final = re.compile(
    r"(?:(?P<source>[a-z0-9][a-z0-9.+-]+)/)?(?P<version>[A-Za-z0-9:+.~-]+)"
)
# Before MIME, the mails that a notice is about came in its text, each behind a line of dashes.
_RULER: Final = re.compile(r"^-{30,}\n(?=(?:From |Received: |[A-Za-z-]+: ))", re.MULTILINE)

_BUG_URLS: Final = {
    "debian": "https://bugs.debian.org/{}",
    "devuan": "https://bugs.devuan.org/cgi/bugreport.cgi?bug={}",
    "gnu": "https://debbugs.gnu.org/{}",
}


class Notice(NamedTuple):
    """What `X-<project>-PR-Message` says: `closed 1000001`."""

    project: str
    """In lower case, as `debian`."""
    kind: str
    """The first word, as `they-closed`."""
    rest: str
    """The second one: mostly the bug's number."""

    @property
    def bug(self) -> int:
        """The bug's number.  Raises `MalformedMail` where there is none."""
        if not _NUMBER.fullmatch(self.rest):
            raise MalformedMail(
                f"PR-Message of {self.project}: {self.kind} of which bug?  got {self.rest[:60]!r}"
            )
        return int(self.rest)

    @property
    def url(self) -> str | None:
        """Where to read more of this bug, if we know the tracker."""
        pattern = _BUG_URLS.get(self.project)
        return pattern.format(self.bug) if pattern else None


def notice(mail: Mail) -> Notice | None:
    r"""
    Return what *mail* says that it is, or None if it is of no debbugs.

    >>> notice(read_mail(b"X-GNU-PR-Message: closed 123\n\n"))
    Notice(project='gnu', kind='closed', rest='123')
    """
    for name in mail.names:
        if project := _PR_MESSAGE.fullmatch(name):
            kind, _, rest = (mail.header(name) or "").partition(" ")
            return Notice(project[1], kind, rest.partition(" ")[0].removeprefix("#"))
    return None


def title(mail: Mail, bug: int) -> str:
    """
    Return the subject behind the first `Bug#N: `, N being *bug*, and whatever a list put there.

    Exactly one goes: a title may begin with another bug's number, or again with this one's.
    """
    return _behind_number(mail.subject, bug)


def packages(mail: Mail, found: Notice) -> list[str]:
    """Return the packages the bug is against, as debbugs writes them: `hello`, `src:hello`."""
    return _words(mail.header(f"X-{found.project}-PR-Package"))


def sources(mail: Mail, found: Notice) -> list[str]:
    """Return the source packages: told, or those that `src:` names."""
    told = _words(mail.header(f"X-{found.project}-PR-Source"))
    return told or [p[len("src:") :] for p in packages(mail, found) if p.startswith("src:")]


def tags(mail: Mail, found: Notice) -> list[str]:
    """Return the bug's tags at that time."""
    return _words(mail.header(f"X-{found.project}-PR-Keywords"))


def author(mail: Mail) -> Person:
    """Return who wrote a report or a followup, even if a list put itself in From."""
    who = person(mail.header("From") or "")
    own = _before_via(who.name)
    if own == who.name:
        return who
    # debbugs copied From to Resent-From before any list could touch it.
    before = person(mail.header("Resent-From") or "")
    if before.address and _before_via(before.name) == before.name:
        return before
    return Person((own or "").strip("'\" ") or None, None)


def written_as(mail: Mail) -> str:
    """
    Return the Message-ID that its author gave to a report or a followup.

    Where there is none, debbugs' own for this copy: all its copies have that in common.
    """
    if mail.header("Message-ID"):
        return mail.message_id
    resent = message_ids(mail.header("Resent-Message-ID"))
    return resent[0] if resent else mail.message_id


def message_ids(value: str | None) -> list[str]:
    """
    Return the ids in a References or In-Reply-To, without their angles.

    >>> message_ids("<a@example.org> <b@example.org>")
    ['a@example.org', 'b@example.org']
    """
    return [" ".join(found.split()) for found in _MESSAGE_ID.findall(value or "")]


def address_used(mail: Mail) -> str | None:
    """
    Return debbugs' letter for the address that a mail was sent to: B submit, U submitter, ...

    It stands in the topmost Received that debbugs wrote when it took the mail out of its spool.
    """
    for line in mail.headers("Received"):
        if (found := _SPOOL.match(line)) and found["code"]:
            return found["code"]
    return None


def pseudo_headers(text: str) -> dict[str, str]:
    """
    Return the `Package: hello` lines that a mail's text begins with, names in lower case.

    As debbugs reads them: behind a BOM and a clearsign armour, no continuation lines, the first
    other line ends them, the last of a name wins, most values in lower case.

    >>> pseudo_headers("Package: Hello\\nVersion: 2.10-3\\n\\nIt crashes.")
    {'package': 'hello', 'version': '2.10-3'}
    """
    found: dict[str, str] = {}
    for line in _unarmoured(text):
        told = _PSEUDO_HEADER.fullmatch(line.replace("\ufeff", "").rstrip())
        if not told:
            break
        name = told[1].lower()
        name = {"tag": "tags", "usertag": "usertags"}.get(name, name)
        found[name] = told[2] if name in _AS_WRITTEN else told[2].lower()
    return found


def somebody(text: str, *, addresses: bool) -> str | None:
    """
    Return whom or what *text* names: people without their address unless *addresses* go out.

    >>> somebody("Jane Doe <jane@example.org>", addresses=False)
    'Jane Doe'
    >>> somebody("jane@example.org", addresses=False)
    'somebody at example.org'
    """
    if addresses or "@" not in text or "://" in text:
        return text or None
    name, found = person(text)
    if name and "@" not in name:
        return name
    host = (found or text).rpartition("@")[2].strip("<> .,;)")
    return f"somebody at {host}" if host else None


class Version(NamedTuple):
    """A version as a pseudo-header names it: `2.10-3` or `hello/2.10-3`."""

    source: str | None
    version: str


def version(text: str) -> Version | None:
    """
    Return the version that *text* begins with, or None: people write `n/a`, as debbugs expects.

    >>> version("hello/1:2.10-3"), version("N/A; 2002-01-09"), version('"2.10-3", 2.9')
    (Version(source='hello', version='1:2.10-3'), None, Version(source=None, version='2.10-3'))
    """
    words = _words(text.replace('"', " ").replace("'", " "))
    told = _VERSION.fullmatch(words[0]) if words else None
    if told is None or not any(char.isdigit() for char in told["version"]):
        return None
    return Version(told["source"], told["version"])


def mails_inside(mail: Mail) -> list[Mail]:
    """Return the mails that a notice quotes whole, in its order; before MIME, out of its text."""
    return mail.attached or list(_concatenated(mail.ended_lines))


def _concatenated(text: str) -> Iterator[Mail]:
    for part in _RULER.split(text)[1:]:
        try:
            yield read_mail(part.encode("utf-8", "replace"))
        except MalformedMail:
            # A line of dashes in somebody's text, and no mail behind it.
            continue


def _behind_number(subject: str, bug: int) -> str:
    # debbugs puts it first, so whatever stands before is a list's, with brackets or without.
    # (One pattern for all bugs: to compile one for each takes longer than to read the subject.)
    numbered = (found for found in _NUMBERED.finditer(subject) if found["bug"] == str(bug))
    found = next(numbered, None)
    return subject[found.end() :] if found else strip_list_prefixes(subject)


def _before_via(name: str | None) -> str | None:
    """Return *name* without what a list adds: `Jane via list`, `Jane (via list)`."""
    pattern = _VIA_IN_PARENTHESES if name and name.endswith(")") else _VIA
    found = pattern.search(name or "")
    return name[: found.start()] if name and found else name


def _words(value: str | None) -> list[str]:
    found = (word for word in _BETWEEN.split(value or "") if word)
    return list(dict.fromkeys(found))


def _unarmoured(text: str) -> list[str]:
    lines = text.lstrip("\ufeff").split("\n")
    start = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
    lines = lines[start:]
    if not lines or not lines[0].startswith("-----BEGIN PGP SIGNED"):
        return lines
    blank = next((n for n, line in enumerate(lines) if not line.strip()), len(lines))
    start = next((n for n in range(blank, len(lines)) if lines[n].strip()), len(lines))
    found = []
    for line in lines[start:]:
        if line.startswith("-----BEGIN PGP SIGNATURE"):
            break
        found.append(line.removeprefix("- "))
    return found
