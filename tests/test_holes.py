"""Whatever of a feed arrives late or never: who reads it gets all that arrived, each event once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbridge import keyring
from mailbridge.event import SignedEvent
from mailbridge.feed import Hole
from mailbridge.journal import Journal
from mailbridge.reader import open_events
from mailbridge.signing import SigningKey, sign_note
from tests.conftest import NOON
from tests.feeds import TAG, Source

UPLOAD = "_lk.mailbridge.package-upload-accepted"
RELAY = SigningKey("relay.example.org", bytes(range(32)))


def arrive(path: Path, event: SignedEvent, *, hour: int) -> bool:
    """Take *event* as a relay does to whom nobody gives what is missing before it."""
    link = event.feed
    assert link
    with Journal.open(path) as journal, journal.batch(NOON + timedelta(hours=hour)) as batch:
        seq, hole = batch.head(link.id).seq, batch.hole(link.id)
        if link.seq > seq:
            if link.seq > seq + 1 and link.prev:
                lacking = Hole(feed=link.id, first=seq + 1, last=link.seq - 1, hash=link.prev)
                batch.skip(lacking, sign_note({"hole": msgspec.to_builtins(lacking)}, RELAY))
            return batch.append(event, event.raw)
        return bool(hole and hole.first == link.seq and batch.fill(event, link, event.raw))


def read(path: Path, keys: Path, cursor: Path, tags: Sequence[str]) -> list[int]:
    """What a reader gets that ends when there is nothing more."""
    options = {"keys": keys, "cursor_file": cursor, "tags": tags, "since": "start"}
    with open_events(path.as_uri(), follow=False, **options) as events:  # type: ignore[arg-type]  # each of its own type
        return [event.data["number"] for event in events]


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([TAG, UPLOAD]), min_size=2, max_size=9),
    st.data(),
    st.sampled_from([(), (TAG,), (UPLOAD,), ("*.bug-*", UPLOAD)]),
)
def test_whatever_arrives_in_whatever_order_is_given_once(
    tmp_path_factory: pytest.TempPathFactory,
    said: list[str],
    data: st.DataObject,
    wanted: tuple[str, ...],
) -> None:
    place = tmp_path_factory.mktemp("holes")
    path, cursor = place / "j.db", place / "cursor"
    source = Source()
    keyring.write_public(place / "keys" / "a.key", source.key.verify_key)
    events = [source.event(number, tag) for number, tag in enumerate(said, 1)]
    arriving = data.draw(st.lists(st.sampled_from(events), min_size=1, max_size=20))

    arrived: dict[int, str] = {}
    got: list[int] = []
    for hour, event in enumerate(arriving):
        number = event.data["number"]
        if number not in arrived and arrive(path, event, hour=hour):
            arrived[number] = event.tag
        if data.draw(st.booleans()):
            got += read(path, place / "keys", cursor, wanted)
    got += read(path, place / "keys", cursor, wanted)

    wants = {n for n, tag in arrived.items() if not wanted or tag in wanted or len(wanted) > 1}
    assert sorted(got) == sorted(wants)
    # (And who begins anew gets them all in the order in which they were said.)
    assert read(path, place / "keys", place / "other", wanted) == sorted(wants)
