"""
One mail as what would be emitted of it: recognised, switched, backed, named; not yet numbered.

Pure, so that `deliver` and `explain` cannot tell two stories of one mail; but for a `Prover`, which
they both give, and which looks into keyrings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mailbridge import kinds
from mailbridge.bridge import standin
from mailbridge.bridge.own import PAYLOADS as OWN_PAYLOADS
from mailbridge.bridge.own import payloads
from mailbridge.bridge.prove import Prover, stated
from mailbridge.config import Source
from mailbridge.errors import ConfigError, MalformedMail, NotCanonical, Unchecked
from mailbridge.event import MAX_EVENT_BYTES, TEST_NAMESPACE, event_uuid, size, whole_tag
from mailbridge.mail import MAX_MAIL, Mail, has_marker, read_mail
from mailbridge.numbering import ListNumber, numbered
from mailbridge.payloads import Common, Event, Payload, without_surrogates
from mailbridge.proof import Provenance, reaches
from mailbridge.rules import NONE as NO_RULES
from mailbridge.rules import Rules
from mailbridge.upload import Upload

ENVELOPE: Final = 4 * 1024
"""Room for what an event has around its data: feed, signatures, origin; generously."""

# A mail cannot be written later than it arrives; clocks and zones may differ by a day.
_SLACK: Final = timedelta(days=1)
_NO_MAIL_BEFORE: Final = datetime(1982, 8, 13, tzinfo=UTC)  # RFC 822


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it would go out, without what only its feed knows."""

    uuid: str
    name: str
    """The tag without its namespace."""
    tag: str
    namespace: str
    """Where its source's tags live."""
    author: str | None
    data: dict[str, Any]
    common: Common
    """What `data` says of the mail, whatever its kind."""
    on: bool
    """This source emits it; else it is understood and switched off."""
    own: Composed | None = None
    """The same under our own tag, where `tag` is Laniakea's."""


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one mail, and why."""

    outcome: Literal["events", "ignored", "quarantined"]
    message_id: str
    family: str | None = None
    kind: str | None = None
    code: str | None = None
    """The counted reason, as `no-kind`; None where there are events."""
    reason: str | None = None
    """The same for a person."""
    provenance: Provenance
    list_id: str | None = None
    subject: str = ""
    events: tuple[Composed, ...] = ()
    """All that the mail says, the switched off included."""
    uploads: tuple[Upload, ...] = ()
    """Of a mail of Laniakea: the uploads that it speaks of, to know our own again."""
    speaks: bool = False
    """It is a mail of this source, and backed as that requires, whatever became of it."""
    number: ListNumber | None = None
    """The place that its list gave it."""

    @property
    def emitted(self) -> tuple[Composed, ...]:
        """The events that go out: none unless the outcome is `events`."""
        return tuple(e for e in self.events if e.on) if self.outcome == "events" else ()


def examine(  # noqa: PLR0913 - each is a switch of its own, and named at every call
    raw: bytes,
    source: Source,
    *,
    received: datetime,
    everything: bool = False,
    accept_test: bool = False,
    backfill: bool = False,
    addresses: bool = False,
    max_mail: int = MAX_MAIL,
    changes_cap: int | None = None,
    prover: Prover | None = None,
    rules: Rules = NO_RULES,
) -> Examined:
    """
    Return what *raw*, a mail that came by *source*, becomes.  Never raises for what is in a mail.

    *received* is what the file's time says; *everything* explains as if all kinds were switched on;
    *accept_test* takes made-up mail, for the test namespace; *changes_cap* is Lighthouse's profile.
    Without a *prover* nothing is proved: what the operator states is all that backs a mail.
    The *rules* are the site's own, asked where none of our families claims the mail.
    """
    prover = prover or Prover()
    try:
        mail = read_mail(raw, limit=max_mail)
    except MalformedMail as error:
        return Examined(
            outcome="quarantined" if has_marker(raw) else "ignored",
            message_id=f"sha256:{hashlib.sha256(raw).hexdigest()}",
            code="malformed",
            reason=str(error),
            provenance=stated(source),
        )
    site = kinds.Site(
        archive=source.archive,
        repo=source.repo,
        pool_url=source.pool_url,
        addresses=addresses,
        rules=rules.kinds,
    )
    barred = _barred(mail, source, accept_test=accept_test)
    found = barred or kinds.recognise(mail, site)
    provenance, doubt = _proved(prover, mail, source, site, found)
    wanted = everything or _wanted(source, found.family, found.kind)
    verdict = _Verdict(found.outcome, found.code, found.reason)
    events: tuple[Composed, ...] = ()
    try:
        if found.events:
            common = _common(mail, source, found, provenance, received=received, backfill=backfill)
            namespace = TEST_NAMESPACE if mail.is_generated else source.namespace
            events = tuple(
                _composed(
                    event,
                    common,
                    namespace=namespace,
                    on=everything or (wanted and _emits(source, event.payload, mail)),
                    changes_cap=changes_cap,
                )
                for event in found.events
            )
            if _stands_in(source, mail, common):
                repo = source.repo or common.archive.lower()
                events = tuple(_in_laniakeas_name(event, repo) for event in events)
        verdict = _judged(verdict, events, source=source, provenance=provenance, wanted=wanted)
        if doubt and verdict.code in (None, "unproved"):
            verdict = doubt
    except NotCanonical as error:
        verdict = _Verdict("quarantined", "bug", f"what is recognised has no JSON: {error}")
    return Examined(
        outcome=verdict.outcome,
        message_id=mail.message_id,
        family=found.family,
        kind=found.kind,
        code=verdict.code,
        reason=verdict.reason,
        provenance=provenance,
        list_id=mail.list_id,
        subject=mail.subject,
        events=events,
        uploads=tuple(_uploads(mail, kinds.recognise(mail, site) if barred else found)),
        speaks=not barred
        and not doubt
        and _speaks(prover, mail, source, site, found=found, proved=provenance),
        number=numbered(mail),
    )


Switch = Literal["on", "list", "off"]
"""An event goes out: always, only of a mail that came through a list, never."""


def switches(source: Source, rules: Rules = NO_RULES) -> dict[str, Switch]:
    """Return the switch of every event, by its name, as *source* has them."""
    found: dict[str, Switch] = {}
    for kind in (*kinds.kinds(), *rules.kinds):
        wanted = _wanted(source, kind.family.value, kind.name)
        for payload in kind.payloads:
            # Of several kinds that give one event, one that is wanted is enough.
            if not wanted:
                found.setdefault(payload.NAME, "off")
            else:
                found[payload.NAME] = "on" if payload.NAME in source.emit else payload.DEFAULT
    # What the bridge itself gives goes out wherever that does which it speaks of.
    return found | {payload.NAME: payload.DEFAULT for payload in OWN_PAYLOADS}


def check(sources: Iterable[Source], rules: Rules = NO_RULES) -> None:
    """
    Return if every word in `kinds` and `emit` of *sources* is known; else raise `ConfigError`.

    (`config` cannot: it does not know the kinds.)
    """
    sources = tuple(sources)
    if not any(source.kinds or source.emit for source in sources):
        return
    known = (*kinds.kinds(), *rules.kinds)
    words = sorted({kind.family.value for kind in known} | {kind.name for kind in known})
    names = sorted({*payloads(), *rules.own})
    for source in sources:
        _check_words(source, "kinds", source.kinds, words)
        _check_words(source, "emit", source.emit, names)


class _Verdict(NamedTuple):
    outcome: Literal["events", "ignored", "quarantined"]
    code: str | None
    reason: str | None


_OFF: Final = _Verdict("ignored", "switched-off", "understood, switched off")


def _barred(mail: Mail, source: Source, *, accept_test: bool) -> kinds.Outcome | None:
    """Return why nobody needs to look what *mail* is, or None."""
    if source.lists and mail.list_id not in [name.lower() for name in source.lists]:
        whence = f"came by {mail.list_id!r}" if mail.list_id else "came by no list"
        return _ignored("other-list", f"{whence}, which is none of the lists of {source.name!r}")
    if mail.is_generated and not accept_test:
        return _ignored("generated", "made-up mail; only a bridge with --accept-test takes it")
    return None


def _ignored(code: str, reason: str) -> kinds.Outcome:
    return kinds.Outcome(outcome="ignored", code=code, reason=reason)


def _judged(
    found: _Verdict,
    events: tuple[Composed, ...],
    *,
    source: Source,
    provenance: Provenance,
    wanted: bool,
) -> _Verdict:
    """Return what the switches and requirements of *source* make of what was *found*."""
    if found.outcome != "events":
        return _OFF if found.outcome == "quarantined" and not wanted else found
    emitted = [event for event in events if event.on]
    if not emitted:
        return _OFF
    if not reaches(provenance.sent_by.how, source.require):
        return _Verdict(
            "quarantined",
            "unproved",
            f"source {source.name!r} requires {source.require!r},"
            f" and all that backs this mail is {provenance.sent_by.how!r}",
        )
    largest = max(size([event.data, event.author]) for event in emitted) + ENVELOPE
    if largest > MAX_EVENT_BYTES:
        return _Verdict(
            "quarantined", "too-large", f"an event of {largest} bytes, {MAX_EVENT_BYTES} may go out"
        )
    return found


def _common(  # noqa: PLR0913 - what an event says of its mail
    mail: Mail,
    source: Source,
    found: kinds.Outcome,
    provenance: Provenance,
    *,
    received: datetime,
    backfill: bool,
) -> Common:
    arrived = _arrived(mail, received)
    return Common(
        archive=found.archive or "",
        source=source.name,
        message_id=mail.message_id,
        mail_received=arrived.isoformat(),
        provenance=provenance,
        list_id=mail.list_id,
        mail_date=_written(mail, arrived),
        backfill=backfill,
    )


def _composed(
    event: Event, common: Common, *, namespace: str, on: bool, changes_cap: int | None
) -> Composed:
    own: dict[str, Any] = msgspec.to_builtins(event.payload)
    shared: dict[str, Any] = msgspec.to_builtins(common)
    if "source" in event.payload.__struct_fields__:
        # There `source` is the list of source packages (mail-formats 7.3).
        shared["mail_source"] = shared.pop("source")
    data = shared | own
    changes = data.get("changes")
    if changes_cap is not None and isinstance(changes, str) and len(changes) > changes_cap:
        data["changes"] = changes[:changes_cap].rstrip()
        data["truncated"] = True
    # (What is made up must not count as said already when the real news comes.)
    said = f"test.{event.name}" if namespace == TEST_NAMESPACE else event.name
    return Composed(
        uuid=event_uuid(common.archive, said, event.identity),
        name=event.name,
        tag=whole_tag(event.name, namespace),
        namespace=namespace,
        common=common,
        author=without_surrogates(event.author) if event.author else None,
        data=data,
        on=on,
    )


def _stands_in(source: Source, mail: Mail, common: Common) -> bool:
    """Say whether what *mail* says may go out in Laniakea's name, if there is enough of it."""
    # Old news are known by a key that nobody there looks at, and made-up ones by their namespace.
    may = source.stand_in and not (common.backfill or mail.is_generated)
    return may and common.provenance.sent_by.how != "none" and not standin.is_laniakeas(mail)


def _in_laniakeas_name(event: Composed, repo: str) -> Composed:
    told = standin.form(event.name, event.data, repo=repo)
    if told is None:
        return event
    author = standin.neutral(event.author) if event.author else None
    return msgspec.structs.replace(event, tag=told.tag, data=told.data, author=author, own=event)


def _uploads(mail: Mail, found: kinds.Outcome) -> Iterator[Upload]:
    if not standin.is_laniakeas(mail):
        return
    for event in found.events:
        data: dict[str, Any] = msgspec.to_builtins(event.payload)
        if "upload_name" in data:
            # Its own word for the repository counts, whatever the source is configured to say.
            yield standin.upload(data, repo=mail.header("X-Laniakea-Repo") or "")


def _proved(
    prover: Prover, mail: Mail, source: Source, site: kinds.Site, found: kinds.Outcome
) -> tuple[Provenance, _Verdict | None]:
    """Return what backs what was *found*, and why it must not go out, if so."""
    if found.outcome != "events":
        return stated(source), None
    try:
        proved = prover.prove(mail, source, site, found)
    except Unchecked as error:
        # Its event could never be told again with what is known later: so it waits.
        return stated(source), _Verdict("quarantined", "unchecked", str(error))
    except MalformedMail as error:
        return stated(source), _Verdict("quarantined", "malformed", str(error))
    # As in `kinds`: a library that stumbles over one mail must cost that mail its event, visibly,
    # never the service its life.
    except Exception as error:  # noqa: BLE001
        words = f"a bug of ours: {type(error).__name__}: {error}"
        return stated(source), _Verdict("quarantined", "bug", without_surrogates(words[:300]))
    if proved.signed_by.status == "bad":
        reason = "the OpenPGP signature inside does not fit its text"
        return proved, _Verdict("quarantined", "bad-signature", reason)
    return proved, None


def _speaks(  # noqa: PLR0913 - what `prove` asks, and what it said
    prover: Prover,
    mail: Mail,
    source: Source,
    site: kinds.Site,
    *,
    found: kinds.Outcome,
    proved: Provenance,
) -> bool:
    """Say whether *mail* is backed as *source* requires; asked anew where no news needed it."""
    if found.outcome == "ignored" and source.require not in ("channel", "none"):
        if not (source.expect_every or source.lists):
            return False
        found = msgspec.structs.replace(found, outcome="events")
        proved, doubt = _proved(prover, mail, source, site, found)
        if doubt:
            return False
    return reaches(proved.sent_by.how, source.require)


def _wanted(source: Source, family: str | None, kind: str | None) -> bool:
    return not source.kinds or family in source.kinds or kind in source.kinds


def _emits(source: Source, payload: Payload, mail: Mail) -> bool:
    if payload.NAME in source.emit or payload.DEFAULT == "on":
        return True
    return payload.DEFAULT == "list" and mail.list_id is not None


def _arrived(mail: Mail, received: datetime) -> datetime:
    """Return when the mail arrived here: the topmost Received, unless it is in the future."""
    told = mail.received
    when = told if told and _NO_MAIL_BEFORE <= told <= received + _SLACK else received
    return when.astimezone(UTC).replace(microsecond=0)


def _written(mail: Mail, arrived: datetime) -> str | None:
    """Return what Date says, unless it cannot be."""
    if mail.date is None or not _NO_MAIL_BEFORE <= mail.date <= arrived + _SLACK:
        return None
    return mail.date.astimezone(UTC).isoformat()


def _check_words(source: Source, key: str, words: tuple[str, ...], known: list[str]) -> None:
    for word in words:
        if word not in known:
            import difflib  # noqa: PLC0415 - for the one error

            near = difflib.get_close_matches(word, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "'mailbridge kinds' lists them"
            raise ConfigError(f"source {source.name!r}: {key}: {word!r} is not known; {hint}")
