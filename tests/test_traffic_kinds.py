"""Made-up mail of every kind that the bridge knows: none may be without, and each says its own."""

from __future__ import annotations

from collections import Counter

import pytest

from mailbridge import kinds, traffic
from mailbridge.bridge.compose import Examined
from mailbridge.traffic import FAULTS, Post
from tests.madeup import examined, matched, posts

OTHERS = {word: 1 for word in traffic.WORDS if word not in traffic.MIX}


@pytest.fixture(scope="module")
def story() -> list[tuple[Post, Examined]]:
    """Mails of every kind, as a bridge that has everything switched on sees them."""
    mix = dict.fromkeys(traffic.WORDS, 1)
    return [(post, examined(post, everything=True)) for post in posts(1800, mix=mix)]


def test_every_kind_has_made_up_mail_of_everything_that_it_can_tell(
    story: list[tuple[Post, Examined]],
) -> None:
    """Who adds a kind, or a tag to one, has to write mail of it, too."""
    told = {(found.kind, event.name) for _, found in story for event in found.events}
    known = {(kind.name, payload.NAME) for kind in kinds.kinds() for payload in kind.payloads}

    assert known - told == set()


def test_everything_switched_on_every_mail_says_what_its_story_says_and_no_more(
    story: list[tuple[Post, Examined]],
) -> None:
    for post, found in story:
        told = (*post.news, *post.off)
        assert matched(found.emitted, told) is not None, (post.n, post.what, found.reason)


def test_unasked_comes_what_is_on_by_default(story: list[tuple[Post, Examined]]) -> None:
    for post, _ in story:
        assert matched(examined(post).emitted, post.news) is not None, (post.n, post.what)


def test_what_is_off_by_default_is_not_in_the_default_mix() -> None:
    off = Counter(news.name for post in posts(1500) for news in post.off)

    # But for the queue daemon's, which is no news to most, and so noise.
    assert set(off) == {"package-upload-received"}


@pytest.mark.fault(74)
def test_no_fault_costs_any_kind_its_news_or_doubles_it() -> None:
    uuids: dict[str, set[str]] = {}
    for post in posts(1200, seed=6, faults=FAULTS, mix=OTHERS):
        found = examined(post, everything=True)
        same = matched(found.emitted, (*post.news, *post.off))
        assert same is not None, (post.n, post.what, found.outcome, found.reason)
        for key, uuid in same.items():
            uuids.setdefault(key, set()).add(uuid)

    assert [key for key, found in uuids.items() if len(found) != 1] == []
    assert len(set.union(*uuids.values())) == len(uuids)


@pytest.mark.parametrize("word", ["all", "others"])
def test_a_mix_has_every_category_in_it(word: str) -> None:
    mix = traffic.EVERYTHING if word == "all" else OTHERS

    assert {post.word for post in posts(600, mix=mix)} == set(mix)
