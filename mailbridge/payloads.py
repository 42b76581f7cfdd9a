"""
What the events say: a typed payload for each tag that more than one kind of mail can give.

(A tag that a single kind gives has its payload in that kind's module.)  Key names are Laniakea's
where the meaning is the same, and so are their types: Mirk pre-styles `version` and
`architectures` whatever the tag.  Every string is clean before it is here: `Clip` takes out what a
terminal, a log or a mail header could stumble over, and cuts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeVar

import msgspec

from mailbridge.proof import Provenance

TITLE: Final = 500
CHANGES: Final = 8_000
REASON: Final = 4_000
WORD: Final = 300
"""Caps in characters; WORD is for names, versions and the like."""
ITEMS: Final = 200
"""Cap in entries of a list."""

_T = TypeVar("_T")


class Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The part of an event's `data` that its kind fills in.

    A fact that nobody told is left out of the JSON, not null.
    """

    NAME: ClassVar[str] = ""
    """The tag without its namespace, as `bug-closed`."""
    DEFAULT: ClassVar[Literal["on", "list", "off"]] = "off"
    """Emitted unasked: always, only for a mail that came through a list, or never."""
    OF_A_MAIL: ClassVar[bool] = True
    """Some mail tells it; else `data` has nothing of what `Common` says of one."""

    url: str | None = None
    """Where a person can read more, if it can be derived."""
    truncated: bool = False
    """A cap was reached somewhere in this event."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of news in a mail, recognised and not yet numbered or signed."""

    payload: Payload
    identity: dict[str, Any]
    """
    What two mails must have in common to be the same news (design.md, Identity).

    Strings, integers and lists of them; lists whose order means nothing are sorted here.
    """
    author: str | None = None
    """Who triggered it: an upload's Changed-By, a bug mail's display name."""
    signed: str | None = None
    """The text in an OpenPGP armor that says it, for whoever checks the signature."""

    @property
    def name(self) -> str:
        """The tag without its namespace."""
        return self.payload.NAME


class Common(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the bridge adds to the data of every event, whatever its kind."""

    archive: str
    """The distribution that the mail speaks of: `Debian`, `PureOS`."""
    source: str
    """
    Name of the configured source.

    In events about bugs `source` is the list of source packages, and this is `mail_source`.
    """
    message_id: str
    """Of the mail, without `<>`; `sha256:...` of its bytes where it has none."""
    mail_received: str
    """ISO 8601 UTC: our own MTA's topmost Received, else the file's time."""
    provenance: Provenance
    list_id: str | None = None
    """What stands between the angles of List-Id, in lower case; absent for personal mail."""
    mail_date: str | None = None
    """ISO 8601 UTC of Date, which its writer may have forged."""
    backfill: bool = False
    """It came from `ingest` of old mail: sinks that act skip it unless asked."""


# -- uploads ---------------------------------------------------------------------------------------


class Checksum(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an upload."""

    name: str
    size: int
    sha256: str


class _Upload(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """What every step of an upload's way may tell."""

    repo: str
    upload_name: str
    """The .changes file's name, without `.changes`."""
    suite: str | None = None
    suite_guessed: bool = False
    """The suite is what the uploader asked for; nobody told where the upload went."""
    source_name: str | None = None
    source_version: str | None = None
    """Version of the source, with its epoch."""
    source_maintainer: str | None = None
    uploader_name: str | None = None
    uploader_email: str | None = None
    architectures: list[str] | None = None


class _WholeUpload(_Upload, frozen=True, kw_only=True, omit_defaults=True):
    """An upload with what its .changes says, or as much of it as its mail tells."""

    # (Mirk and Laniakea's consumers need the first four of these in every such event.)
    is_new: bool
    files: list[str]
    changes: str
    suites: list[str]
    policy_suites: list[str]
    """Queues where the upload waits: the `b` of `a->b`."""
    closes: list[int]
    is_source_upload: bool
    is_binnmu: bool
    version: str | None = None
    """Version of the binaries where it differs from the source's (a binNMU)."""
    source_uploaders: list[str] | None = None
    binaries: list[str] | None = None
    checksums: list[Checksum] | None = None
    dsc: str | None = None
    dsc_url: str | None = None
    urgency: str | None = None
    distribution: str | None = None
    """What the uploader asked for, which may be other than where it went."""
    launchpad_bugs: list[int] | None = None


class PackageUploadAccepted(_WholeUpload, frozen=True, kw_only=True, omit_defaults=True):
    """The archive accepted an upload."""

    NAME = "package-upload-accepted"
    DEFAULT = "on"


class PackageUploadHeld(_WholeUpload, frozen=True, kw_only=True, omit_defaults=True):
    """An upload waits in a policy queue for somebody's decision."""

    NAME = "package-upload-held"
    DEFAULT = "list"

    policy_queue: str


class PackageUploadQueuedNew(_Upload, frozen=True, kw_only=True, omit_defaults=True):
    """An upload waits in the NEW queue for its review."""

    NAME = "package-upload-queued-new"
    DEFAULT = "list"

    is_new: bool


class PackageUploadRejected(_Upload, frozen=True, kw_only=True, omit_defaults=True):
    """The archive rejected an upload."""

    NAME = "package-upload-rejected"
    DEFAULT = "list"

    reason: str
    automatic: bool | None = None
    """Rejected by the archive's software (true) or by a person (false), where the mail says so."""


# -- builds ----------------------------------------------------------------------------------------


class _Build(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """How the build of a package for one architecture ended."""

    pkgname: str
    version: str
    architecture: str
    suite: str | None = None
    repo: str | None = None
    state: str | None = None
    """The build system's own word: `FAILEDTOBUILD`, `MANUALDEPWAIT`, `attempted`."""
    job_id: str | None = None
    log_url: str | None = None


class PackageBuildFailed(_Build, frozen=True, kw_only=True, omit_defaults=True):
    """A package did not build; `state` tells more, as that it waits for another."""

    NAME = "package-build-failed"


class PackageBuildSuccess(_Build, frozen=True, kw_only=True, omit_defaults=True):
    """A package was built."""

    NAME = "package-build-success"


# -- bugs ------------------------------------------------------------------------------------------


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bug is worth in one of the packages or projects that it concerns."""

    target: str
    status: str | None = None
    importance: str | None = None
    assignee: str | None = None


class Bug(Payload, frozen=True, kw_only=True, omit_defaults=True):
    """What every event about one bug tells."""

    tracker: str
    """The software: `debbugs`, `launchpad`, `gitlab`, ...; `archive` tells whose."""
    bug: int
    title: str
    package: list[str]
    source: list[str]
    """Source packages.  (The configured source's name is `mail_source` in these events.)"""
    tags: list[str]
    actor_name: str | None = None
    actor_email: str | None = None
    """Only where the configuration has `addresses = true`."""
    project: str | None = None
    product: str | None = None
    component: str | None = None
    status: str | None = None
    resolution: str | None = None
    tasks: list[Task] | None = None


class BugReported(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody reported a bug."""

    NAME = "bug-reported"
    DEFAULT = "on"

    severity: str | None = None
    version: str | None = None
    owner: str | None = None
    reported_tags: list[str] | None = None
    usertags: dict[str, list[str]] | None = None
    reportbug: bool
    """Written with the reportbug program."""


class BugCommented(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wrote to a bug.  The text itself stays in the tracker."""

    NAME = "bug-commented"
    DEFAULT = "off"

    in_reply_to: str | None = None
    has_patch: bool | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of one thing about a bug, in the tracker's own words."""

    action: str
    target: str | None = None
    """The package or project that it concerns, where the bug has several."""
    old: str | None = None
    new: str | None = None


class BugChanged(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody changed what a tracker says about a bug."""

    NAME = "bug-changed"

    changes: list[Change]


class BugClosed(Bug, frozen=True, kw_only=True, omit_defaults=True):
    """A bug was marked as done."""

    NAME = "bug-closed"
    DEFAULT = "on"

    via: Literal["upload", "mail", "control", "removal", "tracker"]
    fixed_version: str | None = None
    fixed_source: str | None = None
    done_by: str | None = None
    closing_message_id: str | None = None


# -- text ------------------------------------------------------------------------------------------


# Everything a terminal or a header could take for a command, and what breaks lines elsewhere.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# How many characters are looked at for one that is shown: the rest could be blanks and controls.
_SLACK: Final = 16
_ONE_LINE: Final = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029]+")
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+"
)


def without_surrogates(text: str) -> str:
    """Return *text* with every lone surrogate replaced: JSON in UTF-8 cannot hold one."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Clip:
    """
    Cleans and cuts text from a mail for one payload, and remembers whether anything was cut.

    >>> clip = Clip()
    >>> clip.line("a\\x1b[31m  b\\n c"), clip.truncated
    ('a [31m b c', False)
    """

    def __init__(self) -> None:
        self.truncated = False

    def line(self, text: str, limit: int = TITLE) -> str:
        """Return *text* as one line of at most *limit* characters: no controls, single blanks."""
        if text.isascii() and text.isprintable() and "  " not in text:
            return self._cut(text.strip(), limit)
        # (Nobody cleans megabytes to show a line of them.)
        told = self._cut(text.lstrip(), limit * _SLACK)
        return self._cut(_ONE_LINE.sub(" ", without_surrogates(told)).strip(), limit)

    def word(self, text: str) -> str:
        """Return *text*, a name or a version, as one short line."""
        return self.line(text, WORD)

    def text(self, text: str, limit: int) -> str:
        """Return *text* of several lines: newlines kept, no other controls, at most *limit*."""
        kept: list[str] = []
        size = blank = 0
        for line in _lines(text):
            clean = self._cut(line.rstrip(), limit * _SLACK)
            if not (clean.isascii() and clean.isprintable()):
                told = without_surrogates(clean).expandtabs()
                clean = _CONTROL.sub("", told.replace("\r", "")).rstrip()
            if not clean:
                blank += bool(kept)
                continue
            kept += [*[""] * min(blank, limit), clean]
            size += blank + len(clean) + 1
            blank = 0
            if size > limit + 1:
                break
        return self._cut("\n".join(kept), limit)

    def items(self, items: Iterable[_T], limit: int = ITEMS) -> list[_T]:
        """Return at most *limit* of *items*, as a list."""
        found: list[_T] = []
        for item in items:
            if len(found) == limit:
                self.truncated = True
                break
            found.append(item)
        return found

    def words(self, items: Iterable[str], limit: int = ITEMS) -> list[str]:
        """Return at most *limit* of *items*, each a short line; empty ones are dropped."""
        return self.items((word for word in map(self.word, items) if word), limit)

    def _cut(self, text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        self.truncated = True
        return text[:limit].rstrip()


def _lines(text: str) -> Iterator[str]:
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


class Person(NamedTuple):
    """A person as a header or a field names them."""

    name: str | None
    address: str | None


def address(text: str) -> str | None:
    """
    Return *text* if it is one strict addr-spec (RFC 5322, dot-atom only), else None.

    >>> address("a@example.org"), address("a@example.org, b@example.org"), address("a@localhost")
    ('a@example.org', None, None)
    """
    return text if len(text) <= 254 and _ADDRESS.fullmatch(text) else None  # noqa: PLR2004 - RFC 5321


def schema(payload: type[Payload]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the whole `data` of events with this *payload*."""
    whole = _inlined(payload)
    common = _inlined(Common) if payload.OF_A_MAIL else _NOTHING
    if payload.OF_A_MAIL and "source" in whole["properties"]:
        common["properties"]["mail_source"] = common["properties"].pop("source")
        common["required"] = ["mail_source" if k == "source" else k for k in common["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": payload.NAME,
        "description": " ".join((payload.__doc__ or "").split()),
        "type": "object",
        "properties": common["properties"] | whole["properties"],
        "required": sorted({*common["required"], *whole["required"]}),
        "$defs": common["$defs"] | whole["$defs"],
    }


_NOTHING: Final[dict[str, Any]] = {"properties": {}, "required": [], "$defs": {}}


def _inlined(kind: type[msgspec.Struct]) -> dict[str, Any]:
    (top,), defs = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own = defs.pop(top["$ref"].rpartition("/")[2])
    return {"properties": own["properties"], "required": own.get("required", []), "$defs": defs}
