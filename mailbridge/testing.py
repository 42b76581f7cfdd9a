"""
For tests of what reads events: a real relay on free ports of this machine, and `emit`.

    pytest_plugins = ["mailbridge.testing"]

    def test_a_closed_bug_is_shown(mailbridge_relay):
        mailbridge_relay.emit("_lk.mailbridge.bug-closed", {"bug": 900001})
        event = next(mailbridge_relay.listen(since="start"))
        assert event.data["bug"] == 900001
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import pytest
import zmq

from mailbridge import config, keyring
from mailbridge.errors import NotPermitted, TryAgain
from mailbridge.event import FORMAT, SignedEvent, VerifiedEvent, canonical, read_event
from mailbridge.feed import Head, feed_id
from mailbridge.reader import listen
from mailbridge.relay import Relay
from mailbridge.signing import SigningKey, sign_fields
from mailbridge.wire import sockets

ANSWER_SECONDS: Final = 10.0
"""What a relay on this machine may take; never reached unless something is broken."""

ENTITY: Final = "mailbridge.test"


class Source:
    """Emits events of its own feed, as a bridge does."""

    def __init__(self, key: SigningKey, *, born: datetime) -> None:
        self.key: Final = key
        self.head = Head(feed=feed_id(key.entity, born))

    def event(
        self, tag: str, data: Mapping[str, Any], *, uuid: str | None = None, feed: bool = True
    ) -> SignedEvent:
        """Return the next event, signed and not sent; `head` moves on."""
        fields = {
            "id": tag,
            "tag": tag,
            "uuid": uuid or str(uuids.uuid4()),
            "format": FORMAT,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": dict(data),
        }
        if feed:
            fields["feed"] = msgspec.to_builtins(self.head.link(tag))
        event = read_event(sign_fields(fields, self.key)[0])
        if feed:
            self.head = self.head.after(event)
        return event


class RelayForTests:
    """
    A relay with the state directory *state*, and sources that may emit any tag there.

    The first of *entities* is who `emit` emits as.
    """

    def __init__(self, state: Path, entities: Sequence[str] = (ENTITY,)) -> None:
        self.state: Final = state
        born = datetime.now(UTC)
        self.sources: Final = {
            entity: Source(SigningKey.generate(entity), born=born) for entity in entities
        }
        self._first: Final = next(iter(self.sources.values()))
        self._settings = config.Relay(
            submit="tcp://127.0.0.1:0", publish="tcp://127.0.0.1:0", read="tcp://127.0.0.1:0"
        )
        self._relay: Relay | None = None
        for source in self.sources.values():
            public = keyring.state_dirs(state)[0] / f"{source.key.entity}{keyring.PUBLIC}"
            keyring.write_public(public, source.key.verify_key)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; after a `stop`, on the same journal and ports."""
        own = {entity: source.key.verify_key for entity, source in self.sources.items()}
        self._relay = Relay(self.state, self._settings, own=own)
        self._relay.start()
        bound = self._relay.endpoints
        self._settings = config.Relay(submit=bound.submit, publish=bound.publish, read=bound.read)

    def stop(self) -> None:
        """Stop it."""
        if self._relay is not None:
            self._relay.stop()
        self._relay = None

    @property
    def url(self) -> str:
        """Where to read."""
        return self._settings.read

    @property
    def submit(self) -> str:
        """Where sources connect."""
        return self._settings.submit

    @property
    def publish(self) -> str:
        """Where subscribers connect."""
        return self._settings.publish

    @property
    def fingerprint(self) -> str:
        """Of the relay's own key: what `pin` compares."""
        key = keyring.load(self.state, "relay")
        if key is None:
            raise NotPermitted(f"{self.state}: the relay was not started yet")
        return key.verify_key.fingerprint

    def emit(
        self,
        tag: str,
        data: Mapping[str, Any],
        *,
        entity: str | None = None,
        uuid: str | None = None,
        feed: bool = True,
    ) -> SignedEvent:
        """Emit an event, as *entity* or the first, and return it once the relay has stored it."""
        source = self.sources[entity] if entity else self._first
        event = source.event(tag, data, uuid=uuid, feed=feed)
        self.send(event)
        return event

    def send(self, *events: SignedEvent) -> None:
        """Submit *events* and return once they are stored.  Raises `NotPermitted`, `TryAgain`."""
        context = sockets.make_context()
        try:
            socket = sockets.submitter(context, self.submit)
            for event in events:
                socket.send_multipart([event.raw, b"ack"])
                if not socket.poll(int(ANSWER_SECONDS * 1000), zmq.POLLIN):
                    raise TryAgain(f"{self.submit}: no answer")
                answer = msgspec.json.decode(socket.recv())
                if answer["status"] not in ("stored", "duplicate"):
                    raise NotPermitted(canonical(answer).decode())
            socket.close()
        finally:
            context.destroy(linger=0)

    def listen(self, **options: Any) -> Iterator[VerifiedEvent]:  # noqa: ANN401 - `listen`'s own
        """Return `mailbridge.listen` to it, with its keys, never waiting without end."""
        return listen(self.url, **{"state": self.state, "timeout": ANSWER_SECONDS, **options})


@pytest.fixture
def mailbridge_relay(tmp_path: Path) -> Iterator[RelayForTests]:
    """A running relay."""
    with RelayForTests(tmp_path / "relay") as relay:
        yield relay
