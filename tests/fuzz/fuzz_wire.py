"""
Fuzz what strangers send a relay, and what a relay could send a reader.

`python -m tests.fuzz.fuzz_wire -max_total_time=600 -max_len=65536`, with the extra `[fuzz]`.
The first byte of an input says who gets the rest: the submit socket, as it is or signed by a key
that is trusted, the read socket, or somebody's screen.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import atheris

with atheris.instrument_imports(include=["mailbridge"]):
    from mailbridge.errors import BadInput, MalformedEvent
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
from tests.feeds import Source
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


def signed(relay: Relay, raw: bytes) -> tuple[bytes, bytes] | None:
    """Return what *raw* says, as an event and as a note that the trusted source signed."""
    try:
        fields: dict[str, Any] = parse_json(raw)
        fields.pop("signatures", None)
        return sign_fields(fields, relay.source.key)[0], sign_note(fields, relay.source.key)
    except BadInput:
        return None


def main() -> None:
    """Run until libFuzzer is told to end, or something breaks."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "state").mkdir()
        relay = Relay(Path(scratch) / "state")

        def one_input(data: bytes) -> None:
            who, body = data[:1], data[1:]
            if who < b"\x40":
                relay.submit(body)
            elif who < b"\x80":
                for told in signed(relay, body) or ():
                    relay.submit(told)
            elif who < b"\xc0":
                relay.read(body.split(b"\n\n"))
            else:
                shown(body)
                with contextlib.suppress(BadInput):
                    read_head(parse_json(body))

        wire = sorted((FIXTURES / "_wire").iterdir())
        bodies = [*(path.read_bytes() for path in wire), relay.source.event(4).raw]
        bodies += [json.dumps({"op": op, "id": 1}).encode() for op in WORDS]
        seeds = [
            (f"{number}-{who}", bytes([who]) + body)
            for number, body in enumerate(bodies)
            for who in (0, 64, 128, 192)
        ]
        words = [f'"{word}":'.encode() for word in WORDS] + [word.encode() for word in WORDS]
        atheris.Setup(arguments(Path(scratch), seeds, words), one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
