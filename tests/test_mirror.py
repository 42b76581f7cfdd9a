"""A relay that takes from others: what a Lighthouse publishes, what another relay has beside it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from mailbridge import config, keyring
from mailbridge.cli import main
from mailbridge.errors import BadProof, ConfigError
from mailbridge.event import SignedEvent, parse_json, read_event
from mailbridge.feed import read_hole
from mailbridge.journal import Journal
from mailbridge.reader import open_events
from mailbridge.relay import JOURNAL, Relay
from mailbridge.signing import KEY_ID, SigningKey, check_note
from mailbridge.wire import sockets
from tests import lighthouse as standing_in
from tests.feeds import TAG, Source
from tests.hostile import Gives, HostileRelay, Request, header
from tests.lighthouse import Lighthouse
from tests.test_relay import Client, until

ANY: Final = "tcp://127.0.0.1:0"
UPLOAD: Final = "_lk.archive.package-upload-accepted"


class Publisher:
    """A relay that publishes what a test says, and nothing else."""

    def __init__(self, context: sockets.Context) -> None:
        self._socket = sockets.make_socket(context, 9)  # XPUB: it tells who listens
        self.endpoint = sockets.bind(self._socket, ANY, "test")

    def listened_to(self) -> None:
        assert self._socket.poll(30_000), "nobody listens"
        assert self._socket.recv()[:1] == b"\x01"

    def say(self, *events: SignedEvent) -> None:
        for event in events:
            self._socket.send_multipart([event.tag.encode(), event.raw])

    def close(self) -> None:
        self._socket.close(linger=0)


@pytest.fixture
def context() -> Iterator[sockets.Context]:
    with sockets.make_context() as context:
        yield context


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def publisher(context: sockets.Context) -> Iterator[Publisher]:
    said = Publisher(context)
    yield said
    said.close()


class Mirroring:
    """A relay in *state*, that knows the keys of sources but has none of its own."""

    def __init__(self, state: Path, sources: Sequence[Source]) -> None:
        self.state = state
        self._settings = config.Relay(submit=ANY, publish=ANY, read=ANY)
        self.relay: Relay | None = None
        for source in sources:
            self.trust(source.key)

    def trust(self, key: SigningKey, *tags: str) -> None:
        keyring.write_public(self.state / "keys" / "trusted" / f"{key.entity}.key", key.verify_key)
        keyring.allow(self.state / "policy.toml", key.entity, tags or ("_lk.*", "org.*"))

    def start(self, **others: tuple[str, ...]) -> Relay:
        """Start it; after a `stop`, on the same ports."""
        settings = {**json_of(self._settings), **others}
        self.relay = Relay(self.state, config.Relay(**settings))
        self.relay.start()
        bound = self.relay.endpoints
        self._settings = config.Relay(submit=bound.submit, publish=bound.publish, read=bound.read)
        return self.relay

    def stop(self) -> None:
        if self.relay:
            self.relay.stop()
        self.relay = None

    @property
    def read(self) -> str:
        return self._settings.read

    def numbers(self, count: int, **options: Any) -> list[int]:
        """What a reader from the start gets that waits for *count* events."""
        keys = self.state / "keys" / "trusted"
        options = {"since": "start", "keys": keys, "timeout": 30, **options}
        with open_events(self.read, **options) as events:
            return [event.data["number"] for event in islice(events, count)]

    def seqs(self, feed: str) -> list[int]:
        """The numbers of *feed* that are journaled."""
        with Journal.open(self.state / JOURNAL, readonly=True) as journal:
            return [link.seq for link in journal.links(feed, 0, 10_000, 1 << 28).links]

    def has(self, feed: str, seqs: Sequence[int]) -> bool:
        return self.seqs(feed) == list(seqs)


def json_of(settings: config.Relay) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("submit", "publish", "read")}


Make = Callable[..., Mirroring]


@pytest.fixture
def mirror(tmp_path: Path, source: Source) -> Iterator[Make]:
    made: list[Mirroring] = []

    def make(name: str = "relay", *sources: Source) -> Mirroring:
        made.append(Mirroring(tmp_path / name, sources or (source,)))
        return made[-1]

    yield make
    for one in made:
        one.stop()


class Listening:
    """A relay that listens to what a test publishes, and a source and reader of it."""

    def __init__(
        self, relay: Mirroring, publisher: Publisher, source: Source, context: sockets.Context
    ) -> None:
        self.relay = relay
        self.own = relay.start(upstream=(publisher.endpoint,))
        self.client = Client(self.own.endpoints, context)
        self.source = source
        self.say = publisher.say
        publisher.listened_to()


@pytest.fixture
def listening(
    mirror: Make, publisher: Publisher, source: Source, context: sockets.Context
) -> Iterator[Listening]:
    listening = Listening(mirror(), publisher, source, context)
    yield listening
    listening.client.close()


def wait_for(look: Callable[[], bool]) -> None:
    until(lambda: str(look()), "True")


# -- upstream --------------------------------------------------------------------------------------


@pytest.fixture
def lighthouse(tmp_path: Path, source: Source) -> Iterator[Lighthouse]:
    trusted = tmp_path / "lighthouse"
    trusted.mkdir()
    keyring.write_public(trusted / "source.key", source.key.verify_key)
    with Lighthouse(trusted) as lighthouse:
        yield lighthouse


def lighthouse_key() -> SigningKey:
    return SigningKey(standing_in.ENTITY, bytes(range(1, 33)))


def test_what_a_lighthouse_publishes_once_can_be_read_for_ever(
    mirror: Make, lighthouse: Lighthouse, source: Source
) -> None:
    relay = mirror()
    relay.start(upstream=(lighthouse.publish,))
    lighthouse.subscribed("")
    for event in source.events(3):
        lighthouse.say(json.loads(event.raw))

    assert relay.numbers(3) == [1, 2, 3]
    relay.stop()
    own = relay.start()
    with open_events(
        relay.read, since="start", keys=relay.state / "keys" / "trusted", timeout=30
    ) as events:
        first = next(events)
    # (With the signatures of its source, the Lighthouse and ours, each once.)
    assert set(first.signatures) == {source.key.entity, standing_in.ENTITY, own.key.entity}
    own.key.check(first.preimage, first.signatures[own.key.entity][KEY_ID])


@pytest.mark.fault(64)
def test_what_a_lighthouse_s_own_clients_say_is_kept_on_its_word(
    mirror: Make, lighthouse: Lighthouse, source: Source
) -> None:
    """Nobody here knows the client's key, but that of the Lighthouse, which did."""
    relay = mirror("relay", Source("mailbridge.unconcerned.example.org"))
    relay.trust(lighthouse_key(), "_lk.archive.*")
    relay.start(upstream=(lighthouse.publish,))
    lighthouse.subscribed("")
    now = time.strftime("%Y-%m-%dT%H:%M:%S")

    for number, tag in ((1, UPLOAD), (2, TAG), (3, UPLOAD), (3, UPLOAD)):
        lighthouse.say(json.loads(source.signed(number, tag, time=now).raw))

    # (The second time it says the same is no news; and it may not say all things.)
    assert relay.numbers(2) == [1, 3]
    wait_for(lambda: relay.relay is not None and relay.relay.counts["duplicate"] == 1)
    assert relay.relay
    assert relay.relay.counts == {"stored": 2, "held": 1, "duplicate": 1}


@pytest.mark.parametrize("altered", ["a stranger's", "altered", "no JSON", "a number"])
def test_what_nobody_we_trust_signed_is_not_kept(
    mirror: Make, publisher: Publisher, source: Source, altered: str
) -> None:
    relay = mirror()
    own = relay.start(upstream=(publisher.endpoint,))
    publisher.listened_to()
    right = source.event(1)
    raw = {
        "a stranger's": Source("mailbridge.stranger.example.org").event(9).raw,
        "altered": right.raw.replace(b'"number":1', b'"number":7'),
        "no JSON": b"{",
        "a number": b"5",
    }[altered]

    publisher._socket.send_multipart([b"x", raw])
    publisher._socket.send_multipart([b"only one frame"])
    publisher.say(right)

    assert relay.numbers(1) == [1]
    assert own.counts["stored"] == 1
    assert own.counts["held"] + own.counts["refused"] == 1


def test_what_comes_over_two_lighthouses_and_from_its_source_is_one_event(
    mirror: Make, context: sockets.Context, source: Source
) -> None:
    sayers = [Publisher(context), Publisher(context)]
    relay = mirror()
    own = relay.start(upstream=tuple(sayer.endpoint for sayer in sayers))
    client = Client(own.endpoints, context)
    for sayer in sayers:
        sayer.listened_to()
    client.subscribed(source)
    before = own.counts["stored"]
    events = source.events(4)

    sayers[0].say(events[0], events[1])
    wait_for(lambda: own.counts["stored"] == before + 2)
    sayers[1].say(*events[:3])
    wait_for(lambda: own.counts["stored"] == before + 3)
    client.submit(*events)
    sayers[0].say(*events)
    wait_for(lambda: own.counts["duplicate"] == 9)
    client.submit(source.event(5, "org.example.end"))

    assert [read_event(raw).hash for _, raw in client.published("org.example.end")] == [
        event.hash for event in events
    ]
    client.close()
    for sayer in sayers:
        sayer.close()


# -- what was not heard ----------------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for what comes before it waits for an instant."""
    monkeypatch.setattr("mailbridge.relay.gaps.WAIT", 0.05)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers are asked all the time."""
    monkeypatch.setattr("mailbridge.relay.peer.EVERY", 0.05)
    monkeypatch.setattr("mailbridge.relay.peer.PAUSE", 0.001)
    monkeypatch.setattr("mailbridge.relay.peer.HELD", 0.05)


def test_what_was_not_heard_is_had_from_its_source_and_nothing_is_out_of_order(
    listening: Listening,
) -> None:
    own, client, source = listening.own, listening.client, listening.source
    one, two, three, four = source.events(4)

    listening.say(one, four)
    wait_for(lambda: own.counts["gap"] == 1)
    assert client.head(source.signed_head())["seq"] == 1
    assert client.statuses(two, three) == ["stored", "stored"]

    assert listening.relay.numbers(4) == [1, 2, 3, 4]
    assert [read_event(raw).hash for raw in client.ask()["events"]] == [
        event.hash for event in (one, two, three, four)
    ]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("heard", [[0, 4, 5], [3, 4, 5]], ids=["in between", "from the beginning"])
def test_what_nobody_has_is_marked_as_missing_and_stops_no_reader(
    listening: Listening,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    heard: list[int],
) -> None:
    relay, own, source = listening.relay, listening.own, listening.source
    events = source.events(6)
    first, last = (2, 4) if heard[0] == 0 else (1, 3)

    listening.say(*(events[index] for index in heard))

    assert relay.numbers(3) == [index + 1 for index in heard]
    missing = f"numbers {first} to {last} are missing"
    assert f"feed {source.head.feed}: {missing}: {relay.read} says that nobody has" in caplog.text
    with Journal.open(relay.state / JOURNAL, readonly=True) as journal:
        [hole] = journal.holes(source.head.feed)
    note = parse_json(hole.note)
    check_note(note, {own.key.entity: own.key}, own.key.entity)
    said = read_hole(note)
    assert (said.first, said.last, said.hash) == (first, last, events[last - 1].hash)
    keys = str(relay.state / "keys" / "trusted")
    for url in (relay.read, (relay.state / JOURNAL).as_uri()):
        assert main(["verify", url, "--keys", keys]) == 65
        assert missing in capsys.readouterr().out
    assert main(["status", "--state", str(relay.state)]) == 0
    assert f"{first} to {last} are missing" in capsys.readouterr().out


@pytest.mark.usefixtures("soon")
def test_a_hole_that_a_relay_did_not_sign_so_is_no_hole(listening: Listening) -> None:
    """Whoever sits in between could take events out, and say that nobody has them."""
    relay, own, source = listening.relay, listening.own, listening.source
    events = source.events(6)
    listening.say(events[0], events[2], events[4])
    assert relay.numbers(3) == [1, 3, 5]
    with Journal.open(relay.state / JOURNAL, readonly=True) as journal:
        note = parse_json(journal.holes(source.head.feed)[0].note)
    note["hole"] = {**note["hole"], "last": 4, "hash": events[3].hash}
    keys = relay.state / "keys" / "trusted"
    keyring.write_public(keys / "relay.key", own.key)
    gives = Gives([events[0], events[4]])

    def answers(request: Request) -> Sequence[bytes] | None:
        if request["op"] != "feed":
            return gives(request)
        return [header(request, more=False, seqs=[5], holes=[note]), events[4].raw]

    reading: dict[str, Any] = {"since": "start", "keys": keys, "timeout": 30}
    with HostileRelay(answers) as hostile, open_events(hostile.url, **reading) as given:
        next(given)
        with pytest.raises(BadProof, match="what is said to be missing: signature"):
            next(given)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("tags", [(), (TAG,)])
def test_what_was_missing_and_comes_late_is_given_to_who_went_on_without_it(
    listening: Listening,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tags: Sequence[str],
) -> None:
    relay, client, source = listening.relay, listening.client, listening.source
    events = source.events(6)
    cursor = tmp_path / "cursor"
    listening.say(events[0], events[4])
    reading: dict[str, Any] = {"cursor_file": cursor, "tags": tags}
    keys = relay.state / "keys" / "trusted"
    with open_events(relay.read, since="start", timeout=30, keys=keys, **reading) as given:
        assert [next(given).data["number"] for _ in range(2)] == [1, 5]
        given.handled()

    # Now its source is asked how far we are, and says what it is asked for.
    told = client.head(source.signed_head())
    assert (told["seq"], told["hash"]) == (1, events[0].hash)
    assert told["feeds"][source.head.feed] == [5, events[4].hash]
    too_early = client.submit(events[2])[0]
    assert (too_early["status"], too_early["want"]) == ("gap", 2)
    assert client.statuses(*events[1:]) == ["stored"] * 3 + ["duplicate", "stored"]

    assert relay.numbers(4, **reading) == [2, 3, 4, 6]
    assert relay.numbers(6, tags=tags) == [1, 2, 3, 4, 5, 6]
    assert relay.seqs(source.head.feed) == [1, 2, 3, 4, 5, 6]
    assert main(["verify", relay.read, "--keys", str(relay.state / "keys" / "trusted")]) == 0
    assert "whole up to number 6" in capsys.readouterr().out


@pytest.mark.usefixtures("soon")
def test_a_reader_that_has_what_is_missing_here_contradicts_nobody(listening: Listening) -> None:
    client, source = listening.client, listening.source
    events = source.events(5)
    listening.say(events[0], events[4])
    assert listening.relay.numbers(2) == [1, 5]

    told = client.ask("read", events[2].raw, have={source.head.feed: [3, events[2].hash]})

    assert len(told["events"]) == 2
    assert client.ask("feed", feed=source.head.feed, after=0)["seqs"] == [1, 5]


@pytest.mark.usefixtures("soon")
def test_what_comes_late_and_does_not_fit_is_a_fork(listening: Listening) -> None:
    relay, client, source = listening.relay, listening.client, listening.source
    twin = Source()
    events, others = source.events(4), [twin.event(number) for number in (1, 22, 23)]
    listening.say(events[0], events[3])
    assert relay.numbers(2) == [1, 4]

    assert client.statuses(others[1], others[2]) == ["stored", "refused"]
    assert client.statuses(events[1], events[2]) == ["refused", "refused"]

    with Journal.open(relay.state / JOURNAL, readonly=True) as journal:
        assert {seq for seq, _ in journal.forks(source.head.feed)} == {2, 3}


def test_no_more_waits_than_a_relay_can_hold(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbridge.relay.gaps.MOST", 10)
    events = listening.source.events(20)

    listening.say(*events[5:])

    assert listening.relay.numbers(15) == list(range(6, 21))


# -- peers -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon", "often")
def test_two_relays_that_each_have_half_of_a_feed_have_it_all(
    mirror: Make, context: sockets.Context, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbridge.relay.peer.LIMIT", 7)
    sayers = [Publisher(context), Publisher(context)]
    relays = [mirror("one"), mirror("two")]
    feed = source.head.feed
    halves = [source.events(50), source.events(50)]
    for relay, sayer, half in zip(relays, sayers, halves, strict=True):
        relay.start(upstream=(sayer.endpoint,))
        sayer.listened_to()
        sayer.say(*half)
        relay.numbers(50)
        relay.stop()
    assert [relay.seqs(feed) for relay in relays] == [[*range(1, 51)], [*range(51, 101)]]

    one, two = relays
    two.start()
    one.start(peer=(two.read,))
    two.stop()
    two.start(peer=(one.read,))

    for relay in relays:
        wait_for(lambda relay=relay: relay.has(feed, range(1, 101)))  # type: ignore[misc]  # bound now
        assert relay.numbers(100) == [*range(1, 101)]
        with Journal.open(relay.state / JOURNAL, readonly=True) as journal:
            assert (len(journal.read(0, limit=1000)), journal.holes(feed)) == (100, [])
    for sayer in sayers:
        sayer.close()


@pytest.mark.usefixtures("soon", "often")
@pytest.mark.parametrize("lacks", ["pruned", "missing"])
def test_what_a_peer_has_not_itself_keeps_nobody_from_the_rest(
    mirror: Make, listening: Listening, lacks: str
) -> None:
    relay, source = listening.relay, listening.source
    feed = source.head.feed
    events = source.events(30)
    if lacks == "missing":
        listening.say(*events[20:])
        relay.numbers(10)
    else:
        listening.client.submit(*events)
        relay.stop()
        with Journal.open(relay.state / JOURNAL) as journal:
            assert journal.prune(datetime.now(UTC) + timedelta(days=1), limit=20) == 20
        relay.start()
    other = mirror("other")

    other.start(peer=(relay.read,))

    wait_for(lambda: other.has(feed, range(21, 31)))
    assert other.numbers(10) == [*range(21, 31)]
    with Journal.open(other.state / JOURNAL, readonly=True) as journal:
        assert [hole[:2] for hole in journal.holes(feed)] == [(1, 20)]


@pytest.mark.usefixtures("often")
def test_relays_that_listen_to_each_other_go_round_in_no_circles(
    mirror: Make, context: sockets.Context, source: Source
) -> None:
    one, two = mirror("one"), mirror("two")
    for relay in (one, two):
        relay.start()
        bound = relay.relay.endpoints if relay.relay else None
        relay.stop()
        assert bound
        relay._settings = config.Relay(submit=bound.submit, publish=bound.publish, read=bound.read)
    first = one.start(upstream=(two._settings.publish,), peer=(two.read,))
    second = two.start(upstream=(one._settings.publish,), peer=(one.read,))
    client = Client(first.endpoints, context)
    client.subscribed(source)
    events = source.events(5)

    client.submit(*events)
    assert two.numbers(5, tags=[TAG]) == [1, 2, 3, 4, 5]
    # (An end that came back over the other relay has the other events before it.)
    other = Client(second.endpoints, context)
    other.submit(source.event(6, "org.example.end"))

    published = client.published("org.example.end")
    assert [read_event(raw).hash for _, raw in published] == [event.hash for event in events]
    assert {len(read_event(raw).signatures) for _, raw in published} == {2}
    client.close()
    other.close()


@pytest.mark.usefixtures("often")
def test_of_a_peer_only_what_our_own_policy_lets_in_is_taken(
    mirror: Make, context: sockets.Context, source: Source
) -> None:
    other = Source("mailbridge.other.example.org")
    one = mirror("one", source, other)
    two = mirror("two", Source("mailbridge.unconcerned.example.org"))
    two.trust(other.key, "org.example.*")
    bound = one.start().endpoints
    client = Client(bound, context)
    client.submit(*source.events(2))
    client.submit(other.event(11, "org.example.job"), other.event(12, TAG))

    own = two.start(peer=(one.read,))

    assert two.numbers(1) == [11]
    wait_for(lambda: own.counts["held"] > 0)
    assert own.counts["stored"] == 1
    two.trust(source.key)
    wait_for(lambda: two.has(source.head.feed, [1, 2]))
    client.close()


@pytest.mark.usefixtures("often")
def test_a_peer_passes_on_what_sources_sign_about_how_far_they_are(
    mirror: Make, context: sockets.Context, source: Source
) -> None:
    """So a reader of the one relay can tell quiet from withheld, too."""
    one, two = mirror("one"), mirror("two")
    client = Client(one.start().endpoints, context)
    client.submit(*source.events(2))
    head = source.signed_head()
    client.head(head)

    own = two.start(peer=(one.read,))
    other = Client(own.endpoints, context)

    def told() -> Any:
        return other.ask("feeds")["feeds"].get(source.head.feed, {}).get("head")

    wait_for(lambda: told() == json.loads(head))
    client.close()
    other.close()


@pytest.mark.usefixtures("often")
def test_a_peer_that_is_away_is_asked_ever_more_seldom_and_found_again(
    mirror: Make, context: sockets.Context, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailbridge.relay.peer.PATIENCE", 0.05)
    monkeypatch.setattr("mailbridge.relay.peer.SELDOM", 0.2)
    one, two = mirror("one"), mirror("two")
    client = Client(one.start().endpoints, context)
    client.submit(*source.events(3))
    one.stop()

    own = two.start(peer=(one.read,))
    [peer] = own._mirror._peers
    wait_for(lambda: peer._failures > 3)
    one.start()

    wait_for(lambda: two.has(source.head.feed, [1, 2, 3]))
    client.close()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("how", ["altered", "another feed", "endless", "no numbers", "no event"])
def test_a_peer_is_believed_nothing(mirror: Make, source: Source, how: str) -> None:
    relay = mirror()
    other = Source("mailbridge.stranger.example.org")
    events = source.events(3)
    given = {
        "altered": [events[0].raw.replace(b'"number":1', b'"number":7')],
        "another feed": [other.event(1).raw],
        "endless": [events[0].raw] * 500,
        "no numbers": [events[0].raw],
        "no event": [b"7"],
    }[how]
    asked = threading.Event()

    def answers(request: Request) -> Sequence[bytes]:
        if request["op"] == "feeds":
            told = {"seq": 3, "hash": events[2].hash}
            return [header(request, feeds={source.head.feed: told})]
        asked.set()
        seqs: Any = [1] * len(given) if how != "no numbers" else "one"
        return [header(request, seqs=seqs, more=True), *given]

    with HostileRelay(answers) as hostile:
        relay.start(peer=(hostile.url,))
        assert asked.wait(30)
        wait_for(lambda: len(hostile.asked) > 3)
        relay.stop()
        stopped = len(hostile.asked)

    assert relay.seqs(source.head.feed) == ([1] if how == "endless" else [])
    assert stopped < 1000


@pytest.mark.fault(63)
@pytest.mark.usefixtures("often")
def test_two_relays_with_two_truths_keep_the_proof(
    mirror: Make, context: sockets.Context, source: Source
) -> None:
    twin = Source()
    one, two = mirror("one"), mirror("two")
    clients = [Client(relay.start().endpoints, context) for relay in (one, two)]
    clients[0].submit(source.event(1), source.event(2))
    clients[1].submit(twin.event(1), twin.event(22))
    two.stop()

    two.start(peer=(one.read,))

    def forks() -> list[int]:
        with Journal.open(two.state / JOURNAL, readonly=True) as journal:
            return [seq for seq, _ in journal.forks(source.head.feed)]

    wait_for(lambda: forks() == [2])
    for client in clients:
        client.close()


def test_status_tells_who_was_seen_last_and_when(
    mirror: Make, publisher: Publisher, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = mirror()
    relay.start(upstream=(publisher.endpoint,), peer=("tcp://127.0.0.1:9",))
    publisher.listened_to()
    publisher.say(*source.events(2))
    relay.numbers(2)

    def seen() -> Any:
        main(["status", "--state", str(relay.state), "--json"])
        return json.loads(capsys.readouterr().out)["journal"]

    wait_for(lambda: seen()["upstream"].get(publisher.endpoint, {}).get("up") is True)
    assert seen()["peer"]["tcp://127.0.0.1:9"]["up"] is False
    main(["status", "--state", str(relay.state)])
    out = capsys.readouterr().out
    assert f"upstream {publisher.endpoint}" in out
    assert "peer     tcp://127.0.0.1:9: not there, never heard" in out


@pytest.mark.parametrize("name", ["upstream", "peer"])
def test_an_endpoint_that_is_none_is_named_and_nothing_stays_open(mirror: Make, name: str) -> None:
    relay = mirror()

    with pytest.raises(ConfigError, match=f"relay.{name}: 'http://x'"):
        relay.start(**{name: ("tcp://127.0.0.1:9", "http://x")})

    relay.relay = None
    relay.start()
