"""
Fuzz what strangers send a relay, and what a relay could send a reader.

`python -m tests.fuzz.fuzz_wire -max_total_time=600 -max_len=65536`, with the extra `[fuzz]`.
The first byte of an input says who gets the rest: the submit socket, the read socket or somebody's
screen, as it is; or as changes to what would be right, signed by a key that is trusted.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import atheris
import msgspec

with atheris.instrument_imports(include=["mailbridge"]):
    from mailbridge.errors import BadInput, MalformedEvent, NotCanonical
    from mailbridge.event import VerifiedEvent, parse_json, read_event
    from mailbridge.feed import read_head
    from mailbridge.journal import Batch, Journal
    from mailbridge.relay.claims import Claims
    from mailbridge.relay.gate import Gate
    from mailbridge.relay.read import Reads
    from mailbridge.relay.submit import Submissions
    from mailbridge.signing import SigningKey, sign_fields, sign_note
    from mailbridge.sinks.tail import Words

from tests.conftest import NOON
from tests.feeds import TAG, TIME, Source
from tests.fuzz.seeds import FIXTURES, arguments
from tests.invariants import NO_TERMINAL_S

STATUSES: Final = {"stored", "duplicate", "gap", "held", "refused"}
WORDS: Final = (
    *("id", "tag", "uuid", "format", "time", "data", "feed", "seq", "prev", "tag_seq"),
    *("head", "hash", "tags", "uuids", "entity", "after", "limit", "op", "wait", "have", "signed"),
    *(
        "signatures",
        "read",
        "feeds",
        "feed",
        "at",
        "has",
        "keys",
        "origin",
        "author",
        "unsigned",
        "1.0",
    ),
)


class Undone(Exception):
    """Takes back what a batch would have stored, so that each input meets the same relay."""


class Relay:
    """The parts of a relay that strangers reach, with a feed in its journal."""

    def __init__(self, directory: Path) -> None:
        self.source: Final = Source()
        key = SigningKey("relay.example.org", bytes(32))
        self.journal: Final = Journal.open(directory / "journal.db")
        gate = Gate(directory, key.entity, {self.source.key.entity: self.source.key.verify_key})
        claims = Claims(self.journal, gate)
        self.answers: Final[list[Sequence[bytes]]] = []
        self.submissions: Final = Submissions(self.journal, gate, key, claims)
        self.reads: Final = Reads(self.journal, gate, key, claims, self.answers.append)
        with self.journal.batch(NOON) as batch:
            for event in self.source.events(3):
                assert self.submissions.event(event.raw, batch, NOON).answer.status == "stored"

    def undone(self, work: Callable[[Batch], None]) -> None:
        """Do *work* with a batch of which nothing is kept."""
        with contextlib.suppress(Undone), self.journal.batch(NOON) as batch:
            work(batch)
            raise Undone

    def submit(self, body: bytes) -> None:
        """Submit an event, a head, and a question."""

        def work(batch: Batch) -> None:
            taken = self.submissions.event(body, batch, NOON)
            assert taken.answer.status in STATUSES
            assert taken.answer.reason != "this relay cannot understand it", body
            assert taken.publish is None or taken.event is not None
            json.loads(self.submissions.head(body, batch))

        self.undone(work)
        json.loads(self.submissions.question(body))

    def read(self, frames: Sequence[bytes]) -> None:
        """Ask; whoever waits is told that his time is up."""
        self.answers.clear()
        self.reads.take(b"peer", frames, 0.0)
        self.reads.wake()
        self.reads.expire(1e9)
        [answer] = self.answers
        assert answer[0] == b"peer"
        json.loads(answer[1])


def shown(raw: bytes) -> None:
    """Show *raw* on a screen if it is an event."""
    try:
        event = read_event(raw)
    except MalformedEvent:
        return
    assert event == read_event(raw)
    out = io.StringIO()
    for one in (event, VerifiedEvent(**{f: getattr(event, f) for f in event.__struct_fields__})):
        Words(out).show(one)
    assert not NO_TERMINAL_S.search(out.getvalue())


def signed(relay: Relay, fields: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """Return what *fields* say, as an event and as a note that the trusted source signed."""
    fields.pop("signatures", None)
    try:
        return sign_fields(fields, relay.source.key)[0], sign_note(fields, relay.source.key)
    except (BadInput, NotCanonical):
        return None


def right(relay: Relay) -> list[dict[str, Any]]:
    """Return what would be right to send: the next event, a head, questions."""
    head = relay.source.head
    event = relay.source.signed(4, feed=head.link(TAG))
    cursor = f"{relay.journal.id}-1"
    return [
        json.loads(event.preimage),
        json.loads(relay.source.signed(5).preimage),
        {"head": {**msgspec.to_builtins(head), "time": TIME}},
        {"uuids": {"entity": relay.source.key.entity, "after": 0, "limit": 5}},
        *(
            {"id": 1, "op": op, "after": after, "limit": 2, "wait": 0, "feed": head.feed}
            | {"tags": ["_lk.*"], "time": TIME, "uuids": [event.uuid], "have": {}}
            for op in ("read", "feeds", "feed", "at", "has", "keys")
            for after in (cursor, 1, None)
        ),
    ]


def varied(told: atheris.FuzzedDataProvider, fields: dict[str, Any], odd: list[Any]) -> None:
    """Change some of *fields*, deep inside as well, to what nobody would send."""
    for _ in range(told.ConsumeIntInRange(1, 4)):
        place = fields
        while True:
            key = told.PickValueInList([*place, *WORDS])
            inner = place.get(key)
            if isinstance(inner, dict) and inner and told.ConsumeBool():
                place = inner
                continue
            if told.ConsumeIntInRange(0, 7) == 0:
                place.pop(key, None)
            else:
                place[key] = copy.deepcopy(told.PickValueInList([*odd, told.ConsumeUnicode(12)]))
            break


def odd_values(relay: Relay) -> list[Any]:
    """Return what stands in a field that somebody got wrong, and what is right in another one."""
    head = relay.source.head
    odd: list[Any] = [None, True, False, 0, -1, 1, 2, 3, 4, 2**53, 2**64, 1.5, -0.0, 1e308, "", "x"]
    odd += [[], {}, [[]], [None], {"": {}}, "\x1b[31m\u202e", "\ud800", "a" * 5000, ["*"] * 65]
    odd += [head.feed, head.hash, head.link(TAG).prev, TIME, TAG, f"{relay.journal.id}-2", "0-0"]
    odd += ["2026-11-20", "-" * 40, f"{head.feed}x", relay.source.key.entity, "relay.example.org"]
    return odd


def main() -> None:
    """Run until libFuzzer is told to end, or something breaks."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "state").mkdir()
        relay = Relay(Path(scratch) / "state")

        bases = [json.dumps(base) for base in right(relay)]
        odd = odd_values(relay)

        def one_input(data: bytes) -> None:
            who, body = data[:1], data[1:]
            if who < b"\x20":
                relay.submit(body)
            elif who < b"\x40":
                relay.read(body.split(b"\n\n"))
            elif who < b"\x60":
                shown(body)
                with contextlib.suppress(BadInput):
                    read_head(parse_json(body))
            else:
                told = atheris.FuzzedDataProvider(body)
                fields = json.loads(told.PickValueInList(bases))
                varied(told, fields, odd)
                raw = json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
                relay.read([raw])
                for one in signed(relay, fields) or ():
                    relay.submit(one)
                    shown(one)

        wire = sorted((FIXTURES / "_wire").iterdir())
        bodies = [*(path.read_bytes() for path in wire), relay.source.event(4).raw]
        bodies += [json.dumps({"op": op, "id": 1}).encode() for op in WORDS]
        seeds = [
            (f"{number}-{who}", bytes([who]) + body)
            for number, body in enumerate(bodies)
            for who in (0, 32, 64, 96)
        ]
        words = [f'"{word}":'.encode() for word in WORDS] + [word.encode() for word in WORDS]
        atheris.Setup(arguments(Path(scratch), seeds, words), one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
