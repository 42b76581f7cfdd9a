"""The gateway, its Maildirs, and the relay as a target: what is done once is done for good."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import zmq

from mailbridge import config, maildir
from mailbridge.bridge import concern
from mailbridge.bridge import deliver as delivering
from mailbridge.bridge.deliver import BATCH, LONG_ROW, Delivery, Gateway, Outcome, Settings, asked
from mailbridge.bridge.places import Place
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.serve import watched, with_maildirs
from mailbridge.bridge.submit import HELD, RelayTarget
from mailbridge.config import Config, Source
from mailbridge.errors import ConfigError, NeedsOperator, StorageFailed
from mailbridge.event import SignedEvent, parse_json, read_event
from mailbridge.mail import Mail, read_mail
from mailbridge.outbox import DiskFull, Outbox, Verdict
from mailbridge.signing import SigningKey
from mailbridge.wire.sockets import WINDOW, Context, bind, make_context, submit_server
from tests.conftest import NOON
from tests.daemons import chat, make_maildir, put, report, upload

SOURCE: Final = Source(name="changes", maildir="/nowhere")


@pytest.fixture
def outbox(signer: SigningKey) -> Iterator[Outbox]:
    with Outbox(None, signer, now=NOON) as opened:
        yield opened


@pytest.fixture
def gateway(outbox: Outbox, tmp_path: Path) -> Gateway:
    quarantine = Quarantine(tmp_path / "quarantine")
    settings = Settings(origin="host.example.org")
    return Gateway(outbox, quarantine, settings, clock=lambda: NOON)


def came(raw: bytes, *sources: Source, again: bool = False) -> Delivery:
    return Delivery(raw, sources or (SOURCE,), NOON, again=again)


def verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{o.verdict.verdict} {o.verdict.code}".strip() for o in outcomes]


def events(outbox: Outbox) -> list[SignedEvent]:
    return [read_event(stored.raw) for stored in outbox.all()]


# -- deliver ---------------------------------------------------------------------------------------


def test_a_mail_becomes_an_event_in_the_outbox(gateway: Gateway, outbox: Outbox) -> None:
    [outcome] = gateway.deliver([came(upload(1))])

    [event] = events(outbox)
    assert verdicts([outcome]) == ["events"]
    assert outcome.uuids == (event.uuid,)
    assert event.tag == "_lk.mailbridge.package-upload-accepted"
    assert parse_json(event.raw)["id"] == event.tag
    assert event.time == "2026-11-20T12:00:00.000+00:00"
    assert event.origin == "host.example.org"
    assert event.author == "Jane Doe <jane@example.org>"
    assert event.data["source"] == "changes"
    assert event.data["provenance"]["sent_by"]["how"] == "none"


def test_a_redelivered_mail_is_not_a_second_event(gateway: Gateway, outbox: Outbox) -> None:
    first = gateway.deliver([came(upload(1)), came(upload(1)), came(report(2))])
    second = gateway.deliver([came(report(2))])

    assert verdicts(first) == ["events", "duplicate same-mail", "events"]
    assert verdicts(second) == ["duplicate same-mail"]
    assert second[0].uuids == first[2].uuids
    assert outbox.head().seq == 2


def test_the_same_news_over_two_lists_is_one_event(gateway: Gateway, outbox: Outbox) -> None:
    other = upload(1).replace(b"List-Id: <devel", b"Received: elsewhere\nList-Id: <archive")
    assert verdicts(gateway.deliver([came(upload(1)), came(other)])) == [
        "events",
        "duplicate same-news",
    ]
    assert outbox.head().seq == 1


def test_a_message_id_used_before_suppresses_nothing(gateway: Gateway, outbox: Outbox) -> None:
    forged = chat(1).replace(b"<1@x>", b"<upload-1@archive.example.org>")
    gateway.deliver([came(forged), came(upload(1))])
    assert [event.data["source_name"] for event in events(outbox)] == ["package1"]


def test_what_comes_of_a_mail_depends_on_who_is_asked(gateway: Gateway, outbox: Outbox) -> None:
    elsewhere = Source(name="elsewhere", maildir="/x", namespace="org.example.mailbridge")
    gateway.deliver([came(upload(1)), came(upload(1), elsewhere)])
    # One and the same news for the world, whatever it is called.
    assert [event.tag for event in events(outbox)] == ["_lk.mailbridge.package-upload-accepted"]


def test_a_mail_that_is_made_up_suppresses_no_real_news(outbox: Outbox, tmp_path: Path) -> None:
    settings = Settings(accept_test=True)
    gateway = Gateway(outbox, Quarantine(tmp_path / "quarantine"), settings, clock=lambda: NOON)
    made_up = b"X-Mailbridge-Generated: 1\n" + upload(1)

    assert verdicts(gateway.deliver([came(made_up), came(upload(1))])) == ["events", "events"]
    assert [event.tag for event in events(outbox)] == [
        "_lk.mailbridge-test.package-upload-accepted",
        "_lk.mailbridge.package-upload-accepted",
    ]


def test_a_quarantined_mail_is_kept_as_it_came(
    gateway: Gateway, outbox: Outbox, tmp_path: Path
) -> None:
    bad = upload(1).replace(b"X-DAK:", b"X-D\0:", 1)
    assert verdicts(gateway.deliver([came(bad)])) == ["quarantined malformed"]

    [kept] = outbox.quarantined()
    path = tmp_path / "quarantine" / f"{hashlib.sha256(bad).hexdigest()}.eml"
    assert path.read_bytes() == bad
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert kept.reason
    assert Quarantine(path.parent).note(kept.sha256).reason == kept.reason


def test_a_quarantine_that_is_new_is_on_the_disk_with_its_name(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()
    really = os.fsync

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        really(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    gateway.deliver([came(upload(1).replace(b"X-DAK:", b"X-D\0:", 1))])

    assert {tmp_path.stat().st_ino, (tmp_path / "quarantine").stat().st_ino} <= synced


def test_a_quarantine_that_cannot_be_written_leaves_the_mail_undecided(
    gateway: Gateway, outbox: Outbox, tmp_path: Path
) -> None:
    (tmp_path / "quarantine").write_text("in the way")
    bad = upload(1).replace(b"X-DAK:", b"X-D\0:", 1)
    with pytest.raises(StorageFailed):
        gateway.deliver([came(bad)])
    assert outbox.quarantined() == []
    assert outbox.attempts(hashlib.sha256(bad).digest()) == 0

    (tmp_path / "quarantine").unlink()
    assert verdicts(gateway.deliver([came(bad)])) == ["quarantined malformed"]


def test_asked_to_stop_it_finishes_the_mail_in_hand(gateway: Gateway, outbox: Outbox) -> None:
    mails = [came(upload(n)) for n in range(5)]
    outcomes = gateway.deliver(mails, stopping=lambda: True)

    assert verdicts(outcomes) == ["events"]
    assert [outbox.attempts(hashlib.sha256(mail.raw).digest()) for mail in mails] == [0] * 5
    assert verdicts(gateway.deliver(mails)) == ["duplicate same-mail", *["events"] * 4]


def test_a_mail_that_ended_a_process_is_tried_alone_and_then_put_aside(
    signer: SigningKey, tmp_path: Path
) -> None:
    path, sha256 = tmp_path / "outbox.db", hashlib.sha256(upload(1)).digest()
    for _ in range(delivering.ATTEMPTS):
        with Outbox(path, signer, now=NOON) as died:
            died.begin_attempts([sha256])
    with Outbox(path, signer, now=NOON) as outbox:
        gateway = Gateway(outbox, Quarantine(tmp_path / "quarantine"), Settings())
        told = gateway.deliver([came(upload(0)), came(upload(1)), came(upload(2))])
        assert verdicts(told) == ["events", "quarantined crashed", "events"]
        assert outbox.attempts(sha256) == 0


def test_a_mail_that_ends_us_while_its_sources_are_looked_for_is_put_aside_too(
    signer: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = upload(1)

    class Killed(BaseException):
        pass

    def read(raw: bytes, **limits: int) -> Mail:
        if raw == deadly:
            raise Killed
        return read_mail(raw, **limits)

    monkeypatch.setattr(concern, "read_mail", read)
    several = [Source(name=name, maildir="/nowhere", lists=(name,)) for name in ("one", "two")]
    mails = [came(upload(0), *several), came(deadly, *several)]

    def live() -> list[Outcome]:
        with Outbox(tmp_path / "outbox.db", signer, now=NOON) as outbox:
            return Gateway(outbox, Quarantine(tmp_path / "q"), Settings()).deliver(mails)

    for _ in range(delivering.ATTEMPTS):
        with pytest.raises(Killed):
            live()
    assert verdicts(live())[1] == "quarantined crashed"


def test_a_log_line_tells_each_event(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        gateway.deliver([came(upload(1))])
    assert "tag=_lk.mailbridge.package-upload-accepted" in caplog.text
    assert "mail=<upload-1@archive.example.org>" in caplog.text


def test_a_source_that_names_the_list_is_asked_before_one_that_takes_any() -> None:
    named = Source(name="named", lists=("devel-changes.lists.example.org",))
    bugs = Source(name="bugs", lists=("bugs-dist.lists.example.org",))
    anyone = Source(name="any", maildir="/x")

    assert asked(came(upload(1), anyone, named, bugs)) == (named,)
    assert asked(came(chat(1), anyone, named, bugs)) == (anyone,)
    assert asked(came(chat(1), named, bugs)) == (named, bugs)


# -- Maildirs --------------------------------------------------------------------------------------


def placed(path: Path, outbox: Outbox, gateway: Gateway, **settings: Any) -> Place:
    source = Source(name="source", maildir=str(path), **{"existing": "emit", **settings})
    return Place(path, (source,), outbox, gateway)


def look(place: Place, *, started: float = math.inf) -> None:
    place.look(started=started)


def work(place: Place) -> int:
    return place.work(stopping=lambda: False)


def counts(outbox: Outbox) -> dict[str, int]:
    return {f"{verdict} {code}".strip(): n for _, verdict, code, n in outbox.counts()}


def test_mails_are_taken_in_the_order_of_their_delivery(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    for n in (3, 1, 2):
        put(folder, upload(n), f"{n}.x", by="cur" if n == 1 else "rename")
    place = placed(folder, outbox, gateway)
    look(place)
    assert work(place) == 3
    assert [e.data["source_name"] for e in events(outbox)] == ["package1", "package2", "package3"]


def test_flags_and_moves_of_other_readers_are_no_news(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    path = put(folder, upload(1), "1.x")
    place = placed(folder, outbox, gateway)
    for name in ("1.x:2,", "1.x:2,S", "1.x:2,RS", "1.x,U=17:2,RS"):
        place.doubt()
        look(place)
        work(place)
        path = path.rename(folder / "cur" / name)
    place.doubt()
    look(place)
    assert work(place) == 0
    assert counts(outbox) == {"events": 1}


def test_a_first_seen_maildir_is_taken_as_read_but_for_what_came_since(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    put(folder, upload(1), "1.old")
    put(folder, upload(2), "2.old", by="cur")
    place = placed(folder, outbox, gateway, existing="skip")
    look(place, started=time.time() + 1)
    assert place.skipped == 2
    assert work(place) == 0
    put(folder, upload(3), "3.new")
    place.doubt()
    look(place)
    assert work(place) == 1
    assert counts(outbox) == {"existing": 2, "events": 1}

    fresh = make_maildir(tmp_path / "other")
    put(fresh, upload(4), "4.came while we started")
    other = placed(fresh, outbox, gateway, existing="skip")
    look(other, started=0)
    assert (other.skipped, work(other)) == (0, 1)


def test_names_of_all_kinds_are_taken(tmp_path: Path, outbox: Outbox, gateway: Gateway) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    names = ["new\nline", "\udcff\udcfe", "x" * 255, ":2,S", " "]
    for n, name in enumerate(names):
        (folder / "new" / name).write_bytes(upload(n))
    place = placed(folder, outbox, gateway)
    look(place)
    assert work(place) == len(names)
    assert counts(outbox) == {"events": len(names)}


def test_after_a_crash_behind_the_commit_only_the_move_is_left(
    tmp_path: Path, outbox: Outbox, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    put(folder, upload(1), "1.x")
    place = placed(folder, outbox, gateway, after="seen")
    look(place)
    with monkeypatch.context() as dying:
        dying.setattr(Place, "_finish", lambda *_: None)
        work(place)
    again = placed(folder, outbox, gateway, after="seen")
    look(again)

    assert work(again) == 1
    assert [path.name for path in (folder / "cur").iterdir()] == ["1.x:2,S"]
    assert counts(outbox) == {"events": 1}


@pytest.mark.parametrize("spool", [True, False])
def test_a_name_and_an_inode_that_come_again_are_another_mail(
    tmp_path: Path, outbox: Outbox, gateway: Gateway, *, spool: bool
) -> None:
    """maildir(5) forbids it, scripts do it; a file system gives a free inode away at once."""
    folder = make_maildir(tmp_path / "Maildir")
    source = Source(name="source", maildir=str(folder), existing="emit", after="seen")
    place = Place(folder, (source,), outbox, gateway, spool=spool)
    file = put(folder, upload(1), "1.x")
    look(place)
    kept = tmp_path / "kept"
    kept.hardlink_to(file)  # the inode, for the other mail
    assert work(place) == 1

    kept.write_bytes(upload(2))
    kept.rename(file)
    place.doubt()
    look(place)

    assert work(place) == 1
    assert counts(outbox) == {"events": 2}


def test_mail_is_deleted_at_its_age_and_not_before(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    put(folder, upload(1), "1.x")
    put(folder, upload(2).replace(b"X-DAK:", b"X-D\0:", 1), "2.bad")
    place = placed(folder, outbox, gateway, after="delete:36500d")
    look(place)
    work(place)
    look(placed(folder, outbox, gateway, after="delete:36500d"))
    assert sorted(path.name for path in (folder / "new").iterdir()) == ["1.x", "2.bad"]
    # (The gateway's clock says NOON, which is long ago or to come; so the age is nothing.)
    with outbox.transaction():
        for found in maildir.scan_maildir(folder):
            key = place._key(found)
            known = outbox.file(key)
            assert known
            outbox.file_done(key, Verdict(known[0]), now=NOON.replace(year=2000))
    look(placed(folder, outbox, gateway, after="delete:1d"))
    assert [path.name for path in (folder / "new").iterdir()] == ["2.bad"]


def test_a_rate_leaves_the_excess_in_the_maildir(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    for n in range(9):
        put(folder, upload(n), f"{n}.x")
    place = placed(folder, outbox, gateway, rate="2/d")
    look(place)
    assert [work(place), work(place)] == [1, 0] or work(place) == 0
    assert place.backlog >= 7
    assert place.due() > time.monotonic() + 1000


def long_row(folder: Path) -> Path:
    """Return *folder* as a Maildir with so many mails, of which the first five tell news."""
    make_maildir(folder)
    for n in range(LONG_ROW):
        put(folder, upload(n) if n < 5 else chat(n), f"{1_700_000_000 + n}.M{n}.x")
    return folder


def test_a_long_row_of_mails_keeps_nobody_from_sending_what_came_of_its_beginning(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = long_row(tmp_path / "Maildir")
    place = placed(folder, outbox, gateway)
    look(place)
    seen: list[int] = []
    place.work(stopping=lambda: False, between=lambda: seen.append(outbox.head().seq))

    assert len(seen) == LONG_ROW // BATCH
    assert seen[0] == 5


def test_where_sending_in_between_fails_what_was_done_is_over_and_the_rest_waits(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = long_row(tmp_path / "Maildir")
    place = placed(folder, outbox, gateway, after="seen")
    look(place)

    def full() -> None:
        raise DiskFull("no room")

    with pytest.raises(DiskFull):
        place.work(stopping=lambda: False, between=full)

    assert len(list((folder / "cur").iterdir())) == BATCH
    assert place.backlog == LONG_ROW - BATCH
    while place.backlog:
        work(place)
    assert len(list((folder / "cur").iterdir())) == LONG_ROW
    assert outbox.head().seq == 5


def test_a_mail_that_comes_while_others_wait_is_looked_for_right_after_them(
    tmp_path: Path, outbox: Outbox, gateway: Gateway
) -> None:
    folder = make_maildir(tmp_path / "Maildir")
    put(folder, upload(1), "1.x")
    place = placed(folder, outbox, gateway)
    look(place)
    put(folder, upload(2), "2.x")
    look(place)
    assert work(place) == 1
    assert place.due() == -math.inf
    look(place)
    assert work(place) == 1
    look(place)
    assert place.due() == math.inf


def test_a_maildir_that_appears_later_is_found(
    tmp_path: Path, outbox: Outbox, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    place = placed(tmp_path / "Maildir", outbox, gateway)
    look(place)
    look(place)
    assert place.trouble
    assert caplog.text.count("mail there waits") == 1
    put(make_maildir(tmp_path / "Maildir"), upload(1), "1.x")
    look(place)
    assert (place.trouble, work(place)) == ("", 1)


# -- configuration ---------------------------------------------------------------------------------


def test_every_maildir_has_its_sources_and_lists_are_asked_everywhere(tmp_path: Path) -> None:
    bugs = Source(name="bugs", lists=("bugs.example.org",))
    changes = Source(name="changes", maildir=str(tmp_path / "changes"))
    spool, place = watched(Config(source=(bugs, changes)), tmp_path / "spool")

    assert spool.spool
    assert [source.name for source in spool.sources] == ["bugs"]
    assert [source.name for source in place.sources] == ["changes", "bugs"]


def test_sources_of_one_maildir_may_not_contradict_each_other(tmp_path: Path) -> None:
    one = Source(name="one", maildir=str(tmp_path / "x"), after="seen")
    two = Source(name="two", maildir=str(tmp_path / "x"))
    with pytest.raises(ConfigError, match="'one' and 'two': after"):
        watched(Config(source=(one, two)), tmp_path / "spool")


def test_maildirs_of_one_name_are_sources_of_two(tmp_path: Path) -> None:
    folders = [make_maildir(tmp_path / name / "Maildir") for name in ("jane", "joe")]
    found = with_maildirs(Config(), folders, Source(name=""))
    assert [source.name for source in found.source] == ["Maildir", "joe/Maildir"]
    config.check(found)


# -- the relay as a target -------------------------------------------------------------------------


class Relay:
    """The relay's side of the conversation, said by the test."""

    def __init__(self, context: Context, outbox: Outbox) -> None:
        self._socket: Final = submit_server(context)
        self.endpoint: Final = bind(self._socket, "tcp://127.0.0.1:0", "test")
        self._outbox: Final = outbox
        self._peer = b""

    def hears(self) -> tuple[bytes, dict[str, Any]]:
        """Return (what kind, the JSON) of the next message; it must come."""
        assert self._socket.poll(10_000)
        self._peer, body, kind = self._socket.recv_multipart()
        return kind, parse_json(body)

    def hears_events(self, count: int) -> list[int]:
        """Return the numbers of the next *count* messages, which are events."""
        heard = [self.hears() for _ in range(count)]
        assert {kind for kind, _ in heard} == {b"ack"}
        return [fields["feed"]["seq"] for _, fields in heard]

    def hears_nothing(self) -> bool:
        """Say whether nothing more has come."""
        return not self._socket.poll(100)

    def says(self, **answer: Any) -> None:
        """Answer whoever spoke last."""
        self._socket.send_multipart([self._peer, msgspec.json.encode(answer)])

    def has(self, seq: int, *, status: str = "stored") -> None:
        """Acknowledge event *seq*."""
        event = self._outbox.after(seq - 1, 1)[0]
        feed = self._outbox.feed
        self.says(uuid=event.uuid, status=status, feed=feed, seq=seq, hash=event.hash)

    def knows(self, seq: int, hashed: str | None, **feeds: Any) -> None:
        """Answer a head: the relay is that far."""
        feed = self._outbox.feed
        told = {feed: [seq, hashed], **feeds}
        self.says(status="head", feed=feed, seq=seq, hash=hashed, feeds=told)

    def close(self) -> None:
        self._socket.close(linger=0)


class Talk:
    """A target and the relay it talks to; time is what the test says it is."""

    def __init__(self, outbox: Outbox, *, ancestors: Sequence[str] = ()) -> None:
        self._context: Final = make_context()
        self.outbox: Final = outbox
        self.relay: Final = Relay(self._context, outbox)
        endpoint = self.relay.endpoint
        self.target: Final = RelayTarget(self._context, endpoint, outbox, ancestors=ancestors)
        self.now = 1000.0

    def turn(self, later: float = 0.0, *, answered: bool = True) -> float:
        """Let the target work, *later* by so many seconds, once an answer has arrived."""
        self.now += later
        if answered:
            assert self.target.sockets[0].poll(10_000, zmq.POLLIN)
        return self.target.turn(self.now)

    def agree(self) -> None:
        """Exchange heads: the relay has nothing yet."""
        self.turn(answered=False)
        assert self.relay.hears()[0] == b"head"
        self.relay.knows(0, None)
        self.turn()

    def close(self) -> None:
        self.target.close()
        self.relay.close()
        self._context.term()


@pytest.fixture
def talk(outbox: Outbox, gateway: Gateway) -> Iterator[Talk]:
    gateway.deliver([came(upload(n)) for n in range(WINDOW + 6)])
    talking = Talk(outbox)
    yield talking
    talking.close()


def test_nothing_is_sent_before_the_relay_has_told_its_head(talk: Talk) -> None:
    talk.turn(answered=False)
    kind, note = talk.relay.hears()
    # (Nor is it told what there is to come: maybe this feed goes nowhere.)
    assert (kind, note["head"]["seq"]) == (b"head", 0)
    for _ in range(5):
        talk.turn(40, answered=False)
        assert talk.relay.hears()[0] == b"head"
    assert talk.relay.hears_nothing()


def test_a_window_is_sent_and_moves_on_with_each_answer(talk: Talk) -> None:
    talk.agree()
    assert talk.relay.hears_events(WINDOW) == list(range(1, WINDOW + 1))
    assert talk.relay.hears_nothing()
    talk.relay.has(4)
    talk.turn()
    assert talk.outbox.acknowledged(talk.target.name) == 4, "it takes them in order"
    assert talk.relay.hears_events(4) == list(range(WINDOW + 1, WINDOW + 5))
    talk.relay.has(WINDOW + 4)
    talk.turn()
    assert talk.relay.hears_events(2) == [WINDOW + 5, WINDOW + 6]
    talk.relay.has(WINDOW + 6, status="duplicate")
    talk.turn()
    assert talk.target.settled
    assert talk.target.status() == "all received"


def test_silence_is_answered_with_the_same_bytes_ever_more_patiently(talk: Talk) -> None:
    talk.agree()
    talk.relay.hears_events(WINDOW)
    waits = []
    for _ in range(6):
        waits.append(talk.turn(answered=False) - talk.now)
        talk.turn(waits[-1], answered=False)
        assert talk.relay.hears_events(1) == [1]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert "does not answer" in talk.target.status()
    talk.relay.has(1)
    talk.turn()
    assert talk.relay.hears_events(WINDOW) == list(range(2, WINDOW + 2))


def test_a_gap_sends_again_from_what_is_wanted_even_if_it_was_acknowledged(talk: Talk) -> None:
    talk.agree()
    talk.relay.hears_events(WINDOW)
    talk.relay.has(9)
    talk.turn()
    talk.relay.hears_events(6)
    for _ in range(5):
        talk.relay.says(status="gap", feed=talk.outbox.feed, want=3)
    talk.turn()
    assert talk.relay.hears_events(WINDOW) == list(range(3, WINDOW + 3))
    assert talk.relay.hears_nothing()
    talk.relay.has(5)
    talk.turn()
    assert talk.outbox.acknowledged(talk.target.name) == 9, "what was once true stays true"
    assert not talk.target.settled


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "stray",
    [
        {"seq": 3, "hash": "another"},
        {"seq": 3, "feed": "mailbridge.other/20200101T000000Z"},
        {"seq": 9999},
        {"seq": 0},
    ],
)
def test_a_stray_answer_clears_nothing(talk: Talk, stray: dict[str, Any]) -> None:
    talk.agree()
    talk.relay.hears_events(WINDOW)
    true = {"status": "stored", "feed": talk.outbox.feed, "hash": talk.outbox.hash_of(3)}
    talk.relay.says(**(true | stray))
    talk.turn()
    assert talk.outbox.acknowledged(talk.target.name) == 0


@pytest.mark.fault(54)
def test_nonsense_is_logged_and_survived(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    talk.agree()
    talk.relay.hears_events(WINDOW)
    for nonsense in (b"5", b"[]", b"\xff", b'{"status": 5}', b'{"status": "stored", "seq": "x"}'):
        talk.relay._socket.send_multipart([talk.relay._peer, nonsense])
    talk.relay.says(status="marvellous")
    talk.relay.has(1)
    while talk.outbox.acknowledged(talk.target.name) == 0:
        talk.turn()
    assert caplog.text.count("answers nonsense") == 5


@pytest.mark.fault(55)
def test_what_is_held_is_tried_again_after_a_minute(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    talk.agree()
    talk.relay.hears_events(WINDOW)
    for _ in range(2):
        talk.relay.says(status="held", feed=talk.outbox.feed, seq=1, reason="key unknown")
        talk.turn()
        talk.turn(HELD - 1, answered=False)
        assert talk.relay.hears_nothing()
        assert "key unknown" in talk.target.status()
        talk.turn(1, answered=False)
        kinds = [talk.relay.hears()]
        if kinds[0][0] == b"head":
            kinds.append(talk.relay.hears())
        assert kinds[-1][1]["feed"]["seq"] == 1
    assert caplog.text.count("will not have our events yet") == 1


@pytest.mark.fault(55)
def test_an_event_that_is_held_stays_an_alarm_though_those_behind_it_leave_a_gap(
    talk: Talk,
) -> None:
    talk.agree()
    talk.relay.hears_events(WINDOW)
    feed = talk.outbox.feed
    talk.relay.says(status="held", feed=feed, seq=1, reason="may not emit it")
    talk.turn()
    for seq in range(2, WINDOW + 1):
        talk.relay.says(status="gap", feed=feed, seq=seq, want=1)
        talk.turn()

    assert "may not emit it" in talk.target.status()
    talk.turn(HELD, answered=False)
    while (heard := talk.relay.hears())[0] == b"head":
        pass
    assert heard[1]["feed"]["seq"] == 1
    assert talk.relay.hears_nothing()


def test_what_is_refused_needs_an_operator(talk: Talk) -> None:
    talk.agree()
    talk.relay.hears_events(WINDOW)
    talk.relay.says(status="refused", feed=talk.outbox.feed, seq=1, uuid="u", reason="fork")
    with pytest.raises(NeedsOperator, match="fork"):
        talk.turn()


def test_a_relay_that_is_ahead_means_that_our_outbox_is_lost(talk: Talk) -> None:
    talk.turn(answered=False)
    talk.relay.hears()
    talk.relay.knows(WINDOW + 7, "whatever")
    with pytest.raises(NeedsOperator, match="--new-epoch"):
        talk.turn()


def test_a_relay_with_another_history_means_that_our_outbox_was_restored(talk: Talk) -> None:
    talk.turn(answered=False)
    talk.relay.hears()
    talk.relay.knows(3, "another")
    with pytest.raises(NeedsOperator, match="another event 3"):
        talk.turn()


def test_a_feed_of_ours_that_we_do_not_know_stops_us(talk: Talk, signer: SigningKey) -> None:
    talk.turn(answered=False)
    talk.relay.hears()
    talk.relay.knows(0, None, **{f"{signer.entity}/20200101T000000Z": [7, "h"]})
    with pytest.raises(NeedsOperator, match="20200101T000000Z"):
        talk.turn()


def test_a_feed_that_never_had_an_event_does_not(talk: Talk, signer: SigningKey) -> None:
    """Of an outbox that was lost before its first event; no new epoch would know its name."""
    talk.turn(answered=False)
    talk.relay.hears()
    talk.relay.knows(0, None, **{f"{signer.entity}/20200101T000000Z": [0, None]})
    talk.turn()
    assert talk.relay.hears_events(WINDOW)[0] == 1


def test_a_former_feed_that_we_know_does_not(outbox: Outbox, signer: SigningKey) -> None:
    former = f"{signer.entity}/20200101T000000Z"
    talk = Talk(outbox, ancestors=[former])
    talk.turn(answered=False)
    talk.relay.hears()
    talk.relay.knows(0, None, **{former: [7, "h"]})
    talk.turn()
    assert talk.target.settled
    talk.close()


def test_a_relay_that_has_some_of_it_gets_the_rest(talk: Talk) -> None:
    talk.turn(answered=False)
    talk.relay.hears()
    talk.relay.knows(60, talk.outbox.hash_of(60))
    talk.turn()
    assert talk.relay.hears_events(10) == list(range(61, 71))


def test_a_relay_that_heard_the_end_elsewhere_gets_what_is_missing_before_it(talk: Talk) -> None:
    """It heard of our feed over another's publish socket, and missed some of it."""
    talk.turn(answered=False)
    talk.relay.hears()
    newest = [WINDOW, talk.outbox.hash_of(WINDOW)]
    talk.relay.knows(2, talk.outbox.hash_of(2), **{talk.outbox.feed: newest})
    talk.turn()
    assert talk.relay.hears_events(3) == [3, 4, 5]


@pytest.mark.parametrize("harm", ["ahead", "another"])
def test_a_relay_that_misses_some_of_a_history_that_is_not_ours_stops_us_too(
    talk: Talk, harm: str
) -> None:
    talk.turn(answered=False)
    talk.relay.hears()
    newest = [WINDOW + 7, "x"] if harm == "ahead" else [WINDOW, "x"]
    talk.relay.knows(2, talk.outbox.hash_of(2), **{talk.outbox.feed: newest})
    with pytest.raises(NeedsOperator, match="new-epoch"):
        talk.turn()


def test_what_a_relay_misses_and_we_keep_no_more_stops_nobody(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    talk.outbox.acknowledge(talk.target.name, WINDOW)
    talk.outbox.ageing.compact(NOON + timedelta(days=1))
    assert talk.outbox.horizon() > 2
    talk.turn(answered=False)
    talk.relay.hears()
    newest = [WINDOW, talk.outbox.hash_of(WINDOW)]
    talk.relay.knows(2, talk.outbox.hash_of(2), **{talk.outbox.feed: newest})
    talk.turn()
    assert talk.relay.hears_events(2) == [WINDOW + 1, WINDOW + 2]
    assert "behind number 2 that are not kept here any more" in caplog.text


def test_every_minute_the_relay_gets_a_signed_head(talk: Talk) -> None:
    talk.turn(answered=False)
    talk.relay.hears()
    talk.relay.knows(WINDOW + 6, talk.outbox.hash_of(WINDOW + 6))
    due = talk.turn()
    assert due - talk.now == pytest.approx(60)
    talk.turn(60, answered=False)
    kind, note = talk.relay.hears()
    assert (kind, note["head"]["hash"]) == (b"head", talk.outbox.hash_of(WINDOW + 6))
