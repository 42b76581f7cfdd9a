"""
Any order of deliveries, faults and restarts, held against a model that fits on a page.

The model: news count once, in the order in which the outbox took them; a mail and its news are
taken together or not at all; what the relay has is a beginning of that, and never less than what
the outbox calls received; a reader is given what the relay has, and only what it had in hand when
it died is given again.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mailbridge.event import FeedLink, read_event
from tests.daemons import chat, upload
from tests.small_world import Bridge, Died, Fuse, Reader, Relay, Wire, in_one_process, named

ATTEMPTS: Final = 3
"""So many deaths over a mail, and it is put aside; that is shown elsewhere, and no fault here."""

FAST: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - ours alone
"""What a power cut does is shown elsewhere: nothing here needs a disk."""

# Where who does what may die, and when it comes by there how often.
TAKING: Final = (
    *("attempted", "judged", "examined"),
    *("outbox-commit", "outbox-committed", "committed"),
)
SENDING: Final = (
    *("head-sent", "sent", "answered"),
    *("outbox-commit", "outbox-committed", "acknowledged"),
)
SERVING: Final = (
    *("relay-received", "journal-commit", "relay-stored", "relay-answered"),
    *("relay-publishing", "relay-published"),
)
TIMES: Final = st.integers(1, 4)
SOME: Final = st.integers(1, 8)


KINDS: Final = ("upload", "upload", "over another list", "again", "small talk", "cut off", "a name")
HARM: Final = (
    *("submissions lost", "one submission lost", "submissions twice"),
    *("answers lost", "answers twice, in disorder"),
)
WORK: Final = ("bridge started anew", "relay started anew", "outbox compacted")


class Mail(NamedTuple):
    """One of the mails that were delivered."""

    raw: bytes
    news: str | None
    """What it tells; None: nothing that anybody waits for."""
    verdict: str
    """What becomes of it if it is the first of its kind."""


def over_another_list(n: int) -> bytes:
    """Return the mail of an upload as another list delivers it: other bytes, the same news."""
    other = upload(n).replace(b"devel-changes.lists", b"all-changes.lists")
    other = other.replace(b"Subject: ", b"Subject: [all-changes] ")
    other = b"Received: from a by b; Tue, 10 Sep 2024 11:00:00 +0000\n" + other
    return other + b"\n_______________\nall-changes mailing list\nall-changes@lists.example.org\n"


def of_the_name_of(n: int) -> bytes:
    """Return a mail with the Message-ID of an upload that is to come."""
    return b"Message-Id: <upload-%d@archive.example.org>\nSubject: Boo\n\nBoo!\n" % n


def cut_off(n: int) -> bytes:
    """Return the mail of an upload that ends within its signed text."""
    return upload(n).replace(b"\n\n", b"\n\n-----BEGIN PGP SIGNED MESSAGE-----\n\n", 1)


class World(RuleBasedStateMachine):
    """What may happen, in any order, and what must hold then."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.state = Path(self._open.enter_context(tempfile.TemporaryDirectory(dir=FAST)))
        self.wire, self.fuse, self.clock = Wire(), Fuse(), 0.0
        self._open.enter_context(in_one_process(self.wire, self.fuse))
        self.bridge = Bridge(self.state, self.wire)
        self.relay = Relay(self.state, self.wire)
        self.reader = Reader(self.state)
        # The model.
        self.mails: list[Mail] = []
        self.inbox: list[tuple[int, Mail]] = []
        self.files = 0
        self.done: set[bytes] = set()
        self.deaths = Counter[bytes]()
        self.said: list[str] = []
        self.published: list[str] = []
        self.journaled = 0
        self.read_up_to = 0

    # -- mails come --------------------------------------------------------------------------------

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), back=SOME)
    def mails_come(self, kinds: list[str], back: int) -> None:
        for kind in kinds:
            mail = self.made(kind, back)
            self.mails.append(mail)
            self.files += 1
            self.inbox.append((self.files, mail))

    def made(self, kind: str, back: int) -> Mail:
        n = len(self.mails)
        before = max(0, n - back)
        match kind:
            case "upload":
                return Mail(upload(n), f"package{n}", "events")
            case "over another list":
                # (Perhaps before the first list has it.)
                return Mail(over_another_list(before), f"package{before}", "events")
            case "again" if self.mails:
                return self.mails[before]
            case "a name":
                return Mail(of_the_name_of(n + 1), None, "ignored")
            case "cut off":
                return Mail(cut_off(n), None, "quarantined")
            case _:
                return Mail(chat(n), None, "ignored")

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), back=SOME)
    def a_good_day(self, kinds: list[str], back: int) -> None:
        self.mails_come(kinds, back)
        self.take(len(self.inbox))
        self.send_and_serve(3, 1000)

    @rule(n=SOME)
    def one_of_our_own_comes(self, n: int) -> None:
        name = f"built{n}"
        told = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        is_new = name not in self.said
        assert self.bridge.emit(told, "org.example.built", {"built": name}) == is_new
        self.said += [name] if is_new else []

    # -- and are taken -----------------------------------------------------------------------------

    @rule(most=SOME)
    def take(self, most: int) -> None:
        taken, self.inbox = self.inbox[:most], self.inbox[most:]
        outcomes = self.bridge.deliver([(n, mail.raw) for n, mail in taken])
        told = [outcome.verdict.verdict for outcome in outcomes]
        assert told == self.expected(mail for _, mail in taken)

    @precondition(lambda self: self.inbox)
    @precondition(lambda self: all(self.deaths[m.raw] < ATTEMPTS - 1 for _, m in self.inbox))
    @rule(most=SOME, place=st.sampled_from(TAKING), times=TIMES)
    def die_taking(self, most: int, place: str, times: int) -> None:
        taken = [(n, mail.raw) for n, mail in self.inbox[:most]]
        if self.dies(place, times, lambda: self.bridge.deliver(taken)):
            for raw in {raw for _, raw in taken}:
                self.deaths[raw] += 1
        self.bridge_begins_anew()
        # Whether it came to the commit the outbox alone can tell: a file is done or it is not, and
        # with it its news.
        is_done = [self.bridge.outbox.file(self.bridge.file(n)) is not None for n, _ in taken]
        count = sum(is_done)
        assert is_done == sorted(is_done, reverse=True)
        self.expected(mail for _, mail in self.inbox[:count])
        del self.inbox[:count]

    def expected(self, mails: Iterable[Mail]) -> list[str]:
        """Take *mails*, and return what becomes of each."""
        verdicts = []
        for mail in mails:
            is_first = mail.raw not in self.done and mail.news not in self.said
            verdicts.append(mail.verdict if is_first else "duplicate")
            self.done.add(mail.raw)
            del self.deaths[mail.raw]
            self.said += [mail.news] if mail.news and is_first else []
        return verdicts

    # -- and what they tell is sent ----------------------------------------------------------------

    @rule(turns=SOME, most=SOME)
    def send_and_serve(self, turns: int, most: int) -> None:
        for _ in range(turns):
            self.clock += 0.6
            self.bridge.target.turn(self.clock)
            self.relay.serve(most)

    @rule(place=st.sampled_from((*SENDING, *SERVING)), times=TIMES, most=SOME)
    def die_on_the_way(self, place: str, times: int, most: int) -> None:
        self.mails_come(["upload"] * 3, 1)
        self.take(len(self.inbox))
        self.dies(place, times, lambda: self.send_and_serve(4, most))
        if place in SENDING:
            self.bridge_begins_anew()
        else:
            self.relay_begins_anew()

    @rule(how=st.sampled_from(HARM))
    def the_wire_does_harm(self, how: str) -> None:
        up, down = self.wire.up, self.wire.down
        self.mails_come(["upload"] * 2, 1)
        self.take(len(self.inbox))
        self.clock += 0.6
        self.bridge.target.turn(self.clock)
        if how == "submissions lost":
            up.clear()
        elif how == "one submission lost" and up:
            up.popleft()
        elif how == "submissions twice":
            up.extend([*up])
        self.relay.serve(1000)
        if how == "answers lost":
            down.clear()
        elif how == "answers twice, in disorder":
            down.extend([*reversed(down)])

    @rule(what=st.sampled_from(WORK), seconds=st.sampled_from([0.0, 31.0, 61.0]))
    def somebody_is_at_work(self, what: str, seconds: float) -> None:
        self.clock += seconds
        if what == "bridge started anew":
            self.bridge_begins_anew()
        elif what == "relay started anew":
            self.relay_begins_anew()
        else:
            self.bridge.compact()

    def bridge_begins_anew(self) -> None:
        self.bridge.close()
        self.wire.down.clear()
        self.bridge = Bridge(self.state, self.wire)

    def relay_begins_anew(self) -> None:
        self.published_so_far()
        self.relay.close()
        # (What was in its queues is gone with it.)
        self.wire.up.clear()
        self.relay = Relay(self.state, self.wire)
        self.relay.resume()

    # -- and is read -------------------------------------------------------------------------------

    @precondition(lambda self: self.journaled)
    @rule(most=SOME, dies=st.booleans())
    def read(self, most: int, dies: bool) -> None:  # noqa: FBT001 - a rule's
        told = self.reader.read(most, dies=dies)
        to_come = self.said[self.read_up_to : self.journaled]
        assert [named(raw) for raw in told] == to_come[:most]
        # (Whoever asks for the next has handled the last one.)
        self.read_up_to += len(told) - (dies and len(told) == most)

    # -- what holds --------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_doubled_or_disordered(self) -> None:
        there = [named(raw) for raw in self.relay.events()]
        assert there == self.said[: len(there)]
        assert len(there) >= self.journaled
        self.journaled = len(there)
        outbox = self.bridge.outbox
        assert outbox.head().seq == len(self.said)
        assert outbox.acknowledged(self.bridge.target.name) <= self.journaled

    def teardown(self) -> None:
        """Have no more faults: everything must arrive."""
        with self._open:
            self._open.callback(self._close)
            self.come_to_rest()

    def come_to_rest(self) -> None:
        self.take(len(self.inbox))
        self.clock += 61.0
        self.send_and_serve(10, 1000)
        assert self.bridge.target.settled
        self.nothing_is_lost_doubled_or_disordered()
        assert self.journaled == len(self.said)
        numbers = [event.seq for event in map(link, self.relay.events())]
        assert numbers == [*range(1, len(self.said) + 1)]
        if self.said:
            self.read(1000, dies=False)
        assert self.read_up_to == len(self.said)
        self.published_so_far()
        # (Of what was going out as it died nobody knows whether it did: it goes out again.)
        assert [*dict.fromkeys(self.published)] == self.said
        assert sum(n for _, _, _, n in self.bridge.outbox.counts()) == self.files

    # -- within ------------------------------------------------------------------------------------

    def dies(self, place: str, times: int, does: Callable[[], object]) -> bool:
        """Say whether it died at *place*."""
        self.fuse.set(place, times)
        try:
            does()
        except Died:
            return True
        finally:
            self.fuse.out()
        return False

    def _close(self) -> None:
        self.bridge.close()
        self.relay.close()

    def published_so_far(self) -> None:
        told = [named(raw) for raw in self.relay.subscriber.events]
        assert len(set(told)) == len(told)
        self.published += told


def link(raw: bytes) -> FeedLink:
    """Return where an event stands in its feed."""
    found = read_event(raw).feed
    assert found
    return found


@pytest.mark.fault(48)
def test_whatever_happens_in_whatever_order_the_model_is_right() -> None:
    run_state_machine_as_test(
        World,
        settings=settings(
            max_examples=200,
            stateful_step_count=30,
            derandomize=True,
            database=None,
            deadline=None,
            # (A busy machine is no reason to have fewer examples.)
            suppress_health_check=list(HealthCheck),
            # (What fails is told as it was found: to make it small would take minutes.)
            phases=(Phase.generate,),
        ),
    )
