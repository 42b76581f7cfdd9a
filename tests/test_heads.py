"""Quiet, late, silent or withheld: what is said of a relay whose heads are looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from mailbridge.reader.heads import SILENCE, Told, Withheld, read_feeds
from tests.feeds import Source

FEED = "mailbridge.lists.example.org/20261120T120000Z"
LATER = "20261121T120000Z"

MINUTE = 60.0


class Looks:
    """Looks at the heads once a minute."""

    def __init__(self) -> None:
        self._withheld = Withheld()
        self._now = 1000.0

    def say(self, *told: Told, followed: Mapping[str, int] | None = None) -> list[str]:
        self._now += MINUTE
        return self._withheld.look(told, self._now, followed or {})


def told(source: Source, seq: int, *, minute: int | None = 0) -> Told:
    """A relay has *seq* events of *source*, which signed its head in *minute* last."""
    head = None
    if minute is not None:
        head = json.loads(source.signed_head(f"2026-11-20T12:{minute:02}:00+00:00"))
    keys = {source.key.entity: source.key.verify_key}
    answer = {"feeds": {source.head.feed: {"seq": seq, "hash": None, "head": head}}}
    [read] = read_feeds(answer, keys)
    return read


def having(count: int, epoch: str = "20261120T120000Z") -> Source:
    source = Source(epoch=epoch)
    source.events(count)
    return source


def test_who_is_behind_once_is_late() -> None:
    source, looks = having(3), Looks()

    assert looks.say(told(source, 2, minute=1)) == []
    assert looks.say(told(source, 3, minute=2)) == []


@pytest.mark.fault(61)
def test_who_is_behind_a_minute_later_withholds_and_is_told_of_once() -> None:
    source, looks = having(3), Looks()

    said = [looks.say(told(source, 2, minute=minute)) for minute in range(5)]

    assert said[0] == said[2] == said[3] == said[4] == []
    assert said[1] == [
        f"feed {FEED}: its source has 3 events, only 2 are shown: they are held or withheld"
    ]


@pytest.mark.fault(61)
def test_a_relay_that_shows_an_old_head_for_ever_is_told_of_within_three_heads() -> None:
    """It shows neither the events nor the heads that tell of them."""
    source, looks = having(2), Looks()

    said: list[Sequence[str]] = [looks.say(told(source, 2)) for _ in range(6)]

    assert [bool(lines) for lines in said] == [False, False, False, True, False, False]
    assert said[3][0].startswith(f"feed {FEED}: for {SILENCE:.0f} s nothing was heard")


def test_a_source_that_speaks_again_may_fall_silent_again() -> None:
    source, looks = having(2), Looks()

    said = [looks.say(told(source, 2, minute=minute)) for minute in (0, 0, 0, 0, 1, 1, 1, 1)]

    assert [bool(lines) for lines in said] == [False, False, False, True] * 2


def test_a_quiet_source_is_no_news() -> None:
    source, looks = having(2), Looks()

    assert [looks.say(told(source, 2, minute=minute)) for minute in range(9)] == [[]] * 9


def test_a_source_that_never_signed_a_head_promised_none() -> None:
    source, looks = having(2), Looks()

    assert [looks.say(told(source, 2, minute=None)) for _ in range(9)] == [[]] * 9


def test_what_a_former_epoch_lacks_is_no_news() -> None:
    """Its outbox was lost: what it had signed and not sent is sent in the new one, or never was."""
    old, new, looks = having(3), having(0, LATER), Looks()

    said = [looks.say(told(old, 2), told(new, 0, minute=minute)) for minute in range(6)]

    assert said == [[]] * 6
    assert looks.say(told(old, 2), told(new, 0, minute=7), followed={FEED: 2}) == []


@pytest.mark.fault(61)
def test_a_feed_that_is_told_of_no_more_is_withheld() -> None:
    source, looks = having(3), Looks()
    looks.say(told(source, 3), followed={FEED: 3})

    assert looks.say(followed={FEED: 3}) == [f"feed {FEED}: we have 3 events of it, none are shown"]
    assert looks.say(followed={FEED: 3}) == []
