"""
One rule: which mails it claims, and the event it makes of one.  Pure; `file` reads what is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from mailbridge.changes import Changes, derived_stem, facts, identity, read_changes, upload_stem
from mailbridge.errors import MalformedMail
from mailbridge.family import Family
from mailbridge.kinds import Kind, Site
from mailbridge.mail import Mail, strip_list_prefixes
from mailbridge.payloads import (
    Clip,
    Event,
    PackageUploadAccepted,
    PackageUploadHeld,
    PackageUploadQueuedNew,
    PackageUploadRejected,
    Payload,
    without_surrogates,
)
from mailbridge.rules.pattern import Groups, Pattern
from mailbridge.rules.tags import Tag, filled
from mailbridge.rules.template import Template, Told, Value

MAX_VALUES: Final = 20
"""Headers of one name that are looked at."""
MAX_HEADER: Final = 2_000
"""Characters of one; a longer one matches nothing."""
MAX_LINES: Final = 500
MAX_BODY: Final = 64 * 1024
"""Characters of a body that are looked at, in at most so many lines."""

UPLOADS: Final[tuple[type[Payload], ...]] = (
    PackageUploadAccepted,
    PackageUploadHeld,
    PackageUploadQueuedNew,
    PackageUploadRejected,
)
"""What a .changes in a mail can tell of."""

_NOBODY: Final = Changes(
    signed=None,
    source="",
    source_version="",
    version="",
    architectures=(),
    files=(),
    fields={},
)
IN_CHANGES: Final = frozenset(facts(_NOBODY, Clip(), pool_url=None, archive="")) - {"url"}
"""The fields that a .changes tells, and that a rule with `from_changes` therefore may not."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a site's administrator wrote, compiled."""

    name: str
    where: str
    """Its file."""
    summary: str
    tag: Tag
    headers: Mapping[str, Pattern]
    body: tuple[Pattern, ...] = ()
    lines: int = MAX_LINES
    data: Mapping[str, Value]
    author: Template | None = None
    identity: tuple[str, ...] | None = None
    """The fields that make the uuid; None: all."""
    archive: str | None = None
    from_changes: bool = False

    @property
    def patterns(self) -> int:
        """How many it has."""
        splits = sum(value.splits is not None for value in self.data.values())
        return len(self.headers) + len(self.body) + splits

    @property
    def kind(self) -> Kind:
        """The rule as a kind of mail."""
        return Kind(
            name=self.name,
            summary=self.summary,
            family=Family.SITE,
            payloads=(self.tag.payload,),
            attested=f"your own rule in {self.where}",
            recognise=self.recognise,
            archive=self.archive,
        )

    def recognise(self, mail: Mail, site: Site, archive: str) -> Sequence[Event] | None:
        """Return the event of *mail*; None if it is not this rule's.  Raises `MalformedMail`."""
        groups = self.captured(mail)
        if isinstance(groups, str):
            return None
        told = {name: value.told(groups) for name, value in self.data.items()}
        if self.from_changes:
            return [self._upload(mail, site, archive, told)]
        clip = Clip()
        data = self._filled(told, clip)
        if "repo" in self.tag.fields and self.tag.declared is None:
            data.setdefault("repo", site.repo or archive.lower())
        author = self.author.told(groups) if self.author else None
        return [
            Event(
                payload=self._payload(data | {"truncated": clip.truncated}),
                identity=self._identity(told),
                author=clip.line(author) or None if author else None,
            )
        ]

    def captured(self, mail: Mail) -> Groups | str:
        """Return what the patterns captured in *mail*, or the first that does not match."""
        groups: Groups = {}
        for name, pattern in self.headers.items():
            values = mail.headers(name)[:MAX_VALUES]
            if not values:
                return f"no {name}"
            if name.lower() == "subject":
                # As it came, and without the prefix that a list put in front.
                values.append(strip_list_prefixes(values[0]))
            found = (pattern.whole(value) for value in values if len(value) <= MAX_HEADER)
            captured = next((one for one in found if one is not None), None)
            if captured is None:
                return f"{name} is another: {values[0][:80]!r}"
            groups |= captured
        if not self.body:
            return groups
        text = "\n".join(mail.text[:MAX_BODY].split("\n", self.lines)[: self.lines])
        for number, pattern in enumerate(self.body, 1):
            captured = pattern.inside(without_surrogates(text))
            if captured is None:
                return f"pattern {number} is not in the first {self.lines} lines of its text"
            groups |= captured
        return groups

    def _filled(self, told: Mapping[str, Told], clip: Clip) -> dict[str, Any]:
        filled_in = {
            name: filled(self.tag.fields[name], value, clip) for name, value in told.items()
        }
        return {name: value for name, value in filled_in.items() if value is not None}

    def _payload(self, data: Mapping[str, Any]) -> Payload:
        missing = [
            field.name
            for field in self.tag.fields.values()
            if field.required and field.name not in data
        ]
        if missing:
            raise MalformedMail(f"{', '.join(missing)}: the mail does not tell")
        return self.tag.payload(**data)

    def _identity(self, told: Mapping[str, Told]) -> dict[str, Any]:
        """Return the news itself, uncut: what is cut from sight must not make two mails one."""
        names = self.identity if self.identity is not None else tuple(told)
        return {name: _same(told[name]) for name in names}

    def _upload(self, mail: Mail, site: Site, archive: str, told: Mapping[str, Told]) -> Event:
        changes = next(filter(None, map(read_changes, mail.texts)), None)
        if changes is None:
            raise MalformedMail("no .changes in it")
        clip = Clip()
        data = self._filled(told, clip)
        suite, suites = data.get("suite"), data.get("suites")
        guessed = not (suite or suites)
        known = suites or ([suite] if suite else changes.distributions[:1])
        queues = data.get("policy_suites") or []
        if "policy_queue" in data:
            queues = queues or [data["policy_queue"]]
        shown = clip.words(known)
        stem = upload_stem(file.name for file in changes.files) or derived_stem(changes)
        told_by_it = {
            "repo": site.repo or archive.lower(),
            "upload_name": clip.word(stem),
            "is_new": self.tag.payload is PackageUploadQueuedNew,
            "suite": shown[0] if shown else None,
            "suites": shown,
            "suite_guessed": guessed,
            "policy_suites": queues,
            **facts(changes, clip, pool_url=site.pool_url, archive=archive),
        }
        fields = {field.name for field in msgspec.structs.fields(self.tag.payload)}
        whole = {name: value for name, value in (told_by_it | data).items() if name in fields}
        news = identity(changes, suites=known, policy_suites=queues)
        if self.tag.payload is PackageUploadRejected:
            # One upload may be rejected twice.
            news |= {"reason": _same(told.get("reason")), "message_id": mail.message_id}
        author = changes.uploader
        return Event(
            payload=self._payload(whole | {"truncated": clip.truncated}),
            identity=news,
            author=clip.line(author) if author else None,
            signed=changes.signed,
        )


def _same(told: Told) -> Any:  # noqa: ANN401 - JSON
    if isinstance(told, list):
        return sorted(" ".join(without_surrogates(text).split()) for text in told)
    if isinstance(told, str):
        return " ".join(without_surrogates(told).split())
    return told
