"""Made-up mail for tests, and what the bridge makes of it held against what its story says."""

from __future__ import annotations

import itertools
from typing import Any, Final

from mailbridge import traffic
from mailbridge.bridge import compose
from mailbridge.bridge.compose import Composed, Examined
from mailbridge.config import Source
from mailbridge.traffic import News, Post
from tests.conftest import NOON
from tests.trial import contains

SOURCE: Final = Source(name="generated", maildir="unused")
MAX_MAIL: Final = 64 * 1024
"""What the bridge of these tests takes, so that what is larger need not be large."""


def posts(count: int, seed: int = 7, **options: Any) -> list[Post]:
    """Return the first *count* mails of a story."""
    options.setdefault("max_mail", MAX_MAIL)
    return list(itertools.islice(traffic.mails(seed, **options), count))


def examined(post: Post, source: Source = SOURCE, **options: Any) -> Examined:
    """Return what the bridge makes of *post*."""
    options = {"max_mail": MAX_MAIL, "accept_test": True} | options
    return compose.examine(post.raw, source, received=NOON, **options)


def matched(emitted: tuple[Composed, ...], told: tuple[News, ...]) -> dict[str, str] | None:
    """Return the uuid of each piece of news *told*; None if *emitted* is anything else or more."""
    rest, found = list(emitted), dict[str, str]()
    for news in told:
        fitting = [e for e in rest if e.tag == news.tag and contains(e.data, news.data)]
        if len(fitting) != 1:
            return None
        rest.remove(fitting[0])
        found[news.key] = fitting[0].uuid
    return None if rest else found
