"""What becomes of a submission: an event, a signed head, or a question of its source."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

import msgspec

from mailbridge.abreast import abreast
from mailbridge.errors import BadInput, BadSignature, MalformedEvent, NotPermitted, UnknownOrigin
from mailbridge.event import (
    MAX_EVENT_BYTES,
    FeedLink,
    SignedEvent,
    canonical,
    parse_json,
    read_event,
)
from mailbridge.feed import Fit, Hole, fit, is_feed_id, read_head
from mailbridge.journal import Batch, FeedState, Journal, Missing
from mailbridge.relay.claims import Claims
from mailbridge.relay.gate import Gate
from mailbridge.signing import KEY_ID, UNPROVED, Proved, SigningKey, proved, sign_note

AGE: Final = timedelta(days=2)
"""
How far from now the `time` of an event without a feed may be.

Laniakea's own clients write local time without an offset, hence days; a captured event that comes
back within them is known by its uuid.
"""

STALE: Final = f"without a feed it must not be older than {AGE.days} days"
"""Why an event is refused that somebody may have captured long ago."""

MAX_UUIDS: Final = 10_000
"""In one answer to a source that begins a new epoch."""

SIGNATURES: Final = 16 * 1024
"""Bytes that signatures may take beside an event: those of all relays that it came through."""

MAX_CANARY: Final = 4 * 1024

_log = logging.getLogger(__name__)

# Takes a canonical object apart, and puts it together again, without touching its values.
_PARTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SORTED: Final = msgspec.json.Encoder(order="sorted")

Status = Literal["stored", "duplicate", "gap", "held", "refused"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a source is told about one event (wire.md, Submit with acknowledgement)."""

    uuid: str | None = None
    status: Status
    feed: str | None = None
    seq: int | None = None
    hash: str | None = None
    want: int | None = None
    reason: str | None = None


class Taken(NamedTuple):
    """The answer to a submission, and the frames to publish if it is the first of its uuid."""

    answer: Answer
    publish: tuple[bytes, bytes] | None = None
    event: SignedEvent | None = None
    """What was submitted, where it could be understood."""


class Read(NamedTuple):
    """What a submission is read as, before it is compared with anything."""

    event: SignedEvent | Answer
    known: AbstractSet[Proved] = UNPROVED
    """Signatures of it, and of what came with it, that fit."""
    ours: str | None = None
    """Our own signature, where that was made already."""


class _Canary(msgspec.Struct, frozen=True, kw_only=True):
    feed: str
    nonce: str
    time: str = ""


class _Uuids(msgspec.Struct, frozen=True, kw_only=True):
    entity: str
    after: int = 0
    limit: int = MAX_UUIDS


class Submissions:
    """Decides about what sources send.  Everything durable goes through the batch it is given."""

    def __init__(self, journal: Journal, gate: Gate, key: SigningKey, claims: Claims) -> None:
        self._journal: Final = journal
        self._gate: Final = gate
        self._key: Final = key
        self._claims: Final = claims

    def read(self, bodies: Sequence[bytes]) -> list[Read]:
        """
        Return what each of *bodies* is read as, with signatures where it is new.

        The journal may be writing meanwhile: only what is in memory is asked.
        """
        found = [self._understood(body) for body in bodies]
        heads = self._journal.heads()
        new = [event for event in found if isinstance(event, SignedEvent) and _is_new(event, heads)]
        known = proved(new, self._gate.keys())
        hashes = {one.hash for one in known}
        sure = [event for event in new if event.hash in hashes]
        ours = abreast(lambda event: self._key.sign(event.preimage), sure)
        signed = {event.hash: ours for event, ours in zip(sure, ours, strict=True)}
        return [
            # (Of what was taken away the hash is not that of the bytes that are signed.)
            Read(event)
            if isinstance(event, Answer) or event.redacted
            else Read(event, known, signed.get(event.hash))
            for event in found
        ]

    def event(self, body: Read | bytes, batch: Batch, now: datetime) -> Taken:
        """Journal the event in *body* if it is new and may be; say what became of it."""
        read = Read(self._understood(body)) if isinstance(body, bytes) else body
        event = read.event
        if isinstance(event, Answer):
            return Taken(event)
        # What is here already needs no proof: it gave it when it came.
        known = batch.hash_at(event.feed.id, event.feed.seq) if event.feed else batch.first(event)
        if known == event.hash:
            if event.redacted:
                return Taken(self._redact(event, batch), event=event)
            return Taken(_about(event, "duplicate"), event=event)
        if event.redacted and not event.feed:
            return Taken(_about(event, "refused", "there is nothing here to take away"))
        wrong = (
            self._unwelcome(event, read.known)
            or (event.feed and self._misfit(event, event.feed, known, batch))
            or (not event.feed and _stale(event, known, now))
        )
        if wrong:
            return Taken(wrong, event=event)
        stored = self._countersigned(event, read.ours)
        link = event.feed
        if link and link.seq <= batch.head(link.id).seq:
            first = batch.fill(event, link, stored)
        else:
            first = batch.append(event, stored)
        if link:
            self._claims.met(link.id, link.seq)
        # (Who only listens cannot be told that something was taken away.)
        publish = (event.tag.encode(), stored) if first and not event.redacted else None
        return Taken(_about(event, "stored"), publish, event)

    def skip_to(self, event: SignedEvent, batch: Batch, now: datetime) -> None:
        """Mark what is missing before *event*, which waited for it in vain."""
        link = event.feed
        if link is None or link.prev is None or link.seq <= batch.head(link.id).seq + 1:
            return
        hole = Hole(
            feed=link.id,
            first=batch.head(link.id).seq + 1,
            last=link.seq - 1,
            hash=link.prev,
            time=now.isoformat(timespec="seconds"),
        )
        batch.skip(hole, sign_note({"hole": msgspec.to_builtins(hole)}, self._key))
        _log.error(
            "feed %s: numbers %d to %d are missing, and nobody could give them",
            *(hole.feed, hole.first, hole.last),
        )

    def head(self, body: bytes, batch: Batch) -> bytes:
        """Keep the signed head in *body*, and return how far the feeds of its entity are here."""
        try:
            fields = parse_json(body, limit=MAX_EVENT_BYTES)
            head = read_head(fields)
            entity = head.feed.partition("/")[0]
            self._gate.check_note(fields, entity)
        except UnknownOrigin as error:
            return msgspec.json.encode({"status": "held", "reason": str(error)})
        except BadInput as error:
            return msgspec.json.encode({"status": "refused", "reason": str(error)})
        # (From the first that is missing on its source shall say it again.)
        hole = batch.hole(head.feed)
        here = batch.head(head.feed)
        seq = hole.first - 1 if hole else here.seq
        known = batch.hash_at(head.feed, head.seq)
        if known is not None and head.hash is not None and known != head.hash:
            self._keep_fork(batch, head.feed, head.seq, head.hash, body)
        else:
            batch.note(head, body)
        claim = self._claims.get(head.feed)
        return msgspec.json.encode(
            {
                "status": "head",
                "feed": head.feed,
                "seq": seq,
                "hash": batch.hash_at(head.feed, seq) if hole else here.hash,
                "feeds": self._feeds_of(entity),
                "claimed": claim,
            }
        )

    def canary(self, body: bytes, batch: Batch) -> bytes:
        """Keep the canary in *body*, and return what its source waits for: that it was here."""
        try:
            fields = parse_json(body, limit=MAX_CANARY)
            told = msgspec.convert(fields.get("canary"), _Canary)
            if not is_feed_id(told.feed):
                raise MalformedEvent(f"no feed: {told.feed[:80]!r}")
            self._gate.check_note(fields, told.feed.partition("/")[0])
        except UnknownOrigin as error:
            return msgspec.json.encode({"status": "held", "reason": str(error)})
        except (BadInput, msgspec.ValidationError) as error:
            # (No event is refused by this, so its source need not stop.)
            return msgspec.json.encode({"status": "canary", "reason": str(error)})
        batch.remember("canary", told.feed, body.decode("utf-8"))
        return msgspec.json.encode({"status": "canary", "feed": told.feed, "nonce": told.nonce})

    def question(self, body: bytes) -> bytes:
        """Return which uuids of a source are here, so that a new epoch emits nothing twice."""
        try:
            fields = parse_json(body, limit=MAX_EVENT_BYTES)
            asked = msgspec.convert(fields.get("uuids"), _Uuids)
        except (BadInput, msgspec.ValidationError) as error:
            return msgspec.json.encode({"status": "refused", "reason": str(error)})
        limit = max(1, min(asked.limit, MAX_UUIDS))
        uuids, after = self._journal.uuids(asked.entity, max(0, asked.after), limit)
        return msgspec.json.encode({"status": "uuids", "uuids": uuids, "after": after})

    def _understood(self, body: bytes) -> SignedEvent | Answer:
        try:
            event = read_event(body, limit=MAX_EVENT_BYTES + SIGNATURES)
            _check(event)
        except MalformedEvent as error:
            return Answer(status="refused", reason=str(error))
        except Exception:  # noqa: BLE001
            # A bug that a stranger's bytes can reach must not be his switch to turn us off.
            _log.exception("a bug, set off by a submission")
            return Answer(status="refused", reason="this relay cannot understand it")
        return event

    def _unwelcome(
        self, event: SignedEvent, known: AbstractSet[Proved] = UNPROVED
    ) -> Answer | None:
        try:
            self._gate.admit(event, known)
        except BadSignature as error:
            return _about(event, "refused", str(error))
        except (UnknownOrigin, NotPermitted) as error:
            return _about(event, "held", str(error))
        return None

    def _redact(self, event: SignedEvent, batch: Batch) -> Answer:
        """Put *event* in the place of what it was; its source may say so everywhere, we here."""
        ours = event.signatures.get(self._key.entity, {}).get(KEY_ID)
        if ours is None:
            if event.feed is None:
                # (Whoever may emit such a tag could take away what others said.)
                return _about(event, "refused", "without a feed only its relay may take it away")
            if wrong := self._unwelcome(event):
                return wrong
        else:
            try:
                self._key.verify_key.check(event.preimage, ours)
            except BadSignature as error:
                return _about(event, "refused", str(error))
        if not batch.redact(event, self._countersigned(event)):
            return _about(event, "duplicate")
        _log.warning("what %s said was taken away (%r)", event.uuid, event.tag)
        return _about(event, "stored")

    def _misfit(
        self, event: SignedEvent, link: FeedLink, known: str | None, batch: Batch
    ) -> Answer | None:
        claim = self._claims.get(link.id)
        head = batch.head(link.id)
        if claim and (
            claim.seq <= head.seq or (claim.seq == link.seq and claim.hash != event.hash)
        ):
            return _about(event, "refused", "a reader holds other events of this feed than we do")
        how = fit(head, event)
        hole = batch.hole(link.id)
        late = how is Fit.BEHIND and not known
        if how is Fit.NEXT or (late and _fills(hole, event, batch.hash_at(link.id, link.seq - 1))):
            return None
        if how is Fit.GAP:
            return _about(event, "gap", want=head.seq + 1)
        if late and hole and link.seq > hole.first:
            return _about(event, "gap", want=hole.first)
        self._keep_fork(batch, link.id, link.seq, event.hash, event.raw)
        if known:
            return _about(event, "refused", f"fork: number {link.seq} is another event here")
        return _about(event, "refused", f"fork: it does not follow number {head.seq} as it is here")

    def _keep_fork(self, batch: Batch, feed: str, seq: int, claimed: str, raw: bytes) -> None:
        batch.fork(feed, seq, claimed, raw)
        _log.error("fork of feed %s at number %d: the evidence is kept in the journal", feed, seq)

    def _feeds_of(self, entity: str) -> Mapping[str, tuple[int, str | None]]:
        return {
            feed: (state.head.seq, state.head.hash)
            for feed, state in self._journal.heads().items()
            if feed.startswith(f"{entity}/")
        }

    def _countersigned(self, event: SignedEvent, signature: str | None = None) -> bytes:
        # The signed part goes on as it is.  `unsigned` does not: nobody stands for it.
        ours = {KEY_ID: signature or self._key.sign(event.preimage)}
        fields = _PARTS.decode(event.preimage)
        fields["signatures"] = msgspec.Raw(canonical({**event.signatures, self._key.entity: ours}))
        return _SORTED.encode(fields)


def _is_new(event: SignedEvent, heads: Mapping[str, FeedState]) -> bool:
    """Say whether *event* is behind all that is here of its feed: what is here needs no proof."""
    if event.feed is None:
        return False
    here = heads.get(event.feed.id)
    return here is None or event.feed.seq > here.head.seq


def _check(event: SignedEvent) -> None:
    if len(event.preimage) > MAX_EVENT_BYTES:
        raise MalformedEvent(
            f"{len(event.preimage)} bytes, more than the {MAX_EVENT_BYTES} allowed"
        )
    link = event.feed
    if link and (not is_feed_id(link.id) or link.seq < 1 or link.tag_seq < 1):
        raise MalformedEvent(
            f"no event: {link.id[:80]!r}, number {link.seq}, is no place in a feed"
        )


def _fills(hole: Missing | None, event: SignedEvent, before: str | None) -> bool:
    """Say whether *event* can be the first of *hole*, behind the event with the hash *before*."""
    link = event.feed
    if hole is None or link is None or link.seq != hole.first or before not in (None, link.prev):
        return False
    return link.seq < hole.last or event.hash == hole.hash


def _stale(event: SignedEvent, known: str | None, now: datetime) -> Answer | None:
    if known:
        return _about(event, "refused", "another event with this tag and uuid is here")
    try:
        time = datetime.fromisoformat(event.time)
    except ValueError:
        return _about(event, "refused", f"time {event.time[:40]!r} is not ISO 8601")
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    if abs(now - time) > AGE:
        return _about(event, "refused", STALE)
    return None


def _about(
    event: SignedEvent, status: Status, reason: str | None = None, *, want: int | None = None
) -> Answer:
    return Answer(
        uuid=event.uuid,
        status=status,
        feed=event.feed.id if event.feed else None,
        seq=event.feed.seq if event.feed else None,
        hash=event.hash,
        want=want,
        reason=reason,
    )
