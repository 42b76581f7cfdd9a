"""The endless stream of made-up mails: which story comes next, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import count, cycle
from random import Random

from mailbridge.traffic.faults import FAULTS, MAX_MAIL, Faults, Later
from mailbridge.traffic.openpgp import Key
from mailbridge.traffic.story import MIX, WORDS, Story
from mailbridge.traffic.tale import Post
from mailbridge.traffic.world import World

__all__ = ["FAULTS", "MIX", "WORDS", "mails"]

# A fault is due after so many stories, and falls on the next mail that it can happen to.
_EVERY = 4


def mails(
    seed: int,
    *,
    mix: Mapping[str, int] = MIX,
    faults: Collection[str] = (),
    max_mail: int = MAX_MAIL,
    key: Key | None = None,
) -> Iterator[Post]:
    """
    Yield made-up mails without end; the same arguments give the same bytes.

    *mix* weighs the categories in `WORDS`; *faults* are words of `FAULTS`; the bridge takes mails
    of up to *max_mail* bytes.  With *key* everything is signed that its sender signs, and what must
    come of it is told of a bridge that has the key.
    """
    world = World(Random(seed), key=key)  # noqa: S311 - the seed must tell everything
    story = Story(world, mix)
    happening = Faults(world, seed, max_mail=max_mail)
    due = cycle(fault for fault in FAULTS if fault in faults)
    wanted: list[str] = []
    late: list[tuple[int, str, Later]] = []
    stories = 0
    for n in count(1):
        world.step(n)
        if late and late[0][0] <= n:
            _, word, send = late.pop(0)
            yield replace(send(n), word=word)
            continue
        stories += 1
        if faults and stories % _EVERY == 0 and (fault := next(due)) not in wanted:
            wanted.append(fault)
        word, tale = story.next(wanted)
        first, again = happening.happen(tale, n, wanted)
        yield replace(first, word=word)
        late += [(n + world.rng.randrange(1, 9), word, send) for send in again]
        late.sort(key=lambda entry: entry[0])
