"""What goes wrong with a mail between its sender and us, and what must come of it nevertheless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from typing import Final, NamedTuple

from mailbridge.traffic.letter import Letter, Part, multipart
from mailbridge.traffic.lists import through_mailman, wrapped_by_mailman
from mailbridge.traffic.tale import Post, Tale
from mailbridge.traffic.words import DOMAIN, LISTS
from mailbridge.traffic.world import World

FAULTS: Final = (
    *("duplicate", "truncated", "latin1", "forged", "redelivered"),
    *("wrapped", "tampered", "resent", "oversize"),
)
"""
What can go wrong.

duplicate: the same bytes once more.  truncated: cut off in the middle; the whole mail comes later.
latin1: raw Latin-1 where nobody said so.  forged: an announcement that is none, or one with lies
around the signed text.  redelivered: the same news through another list.  wrapped: inside a mail of
the list's own.  tampered: signed, and changed since.  resent: other news under an old Message-ID,
or old news sent on by hand.  oversize: a mail larger than a bridge takes.
"""

MAX_MAIL: Final = 25 * 1024 * 1024
"""What a bridge takes when nobody tells it otherwise, in bytes."""

_MIRROR: Final = "demo-mirror"

Later = Callable[[int], Post]
"""What comes of a mail later, once it is known the how-many-eth mail that will be."""


_Happened = tuple[Post, list[Later]]


class _Resent(NamedTuple):
    now: Letter
    later: Callable[[World], Letter] | None = None


class Faults:
    """Makes mails of tales, and lets faults happen to them: at most one to each."""

    def __init__(self, world: World, seed: int, *, max_mail: int) -> None:
        """What is *oversize* is larger than *max_mail* bytes."""
        self._world: Final = world
        self._seed: Final = seed
        self._max_mail: Final = max_mail
        self._ways: Final = cycle((self._reused, self._sent_on, self._sent_anew))
        self._old_id = ""

    def happen(self, tale: Tale, n: int, wanted: list[str]) -> tuple[Post, list[Later]]:
        """Return mail *n*, of *tale*, and what comes of it later; a fault is taken off *wanted*."""
        post = self._post(tale, n, tale.letter)
        found: _Happened | None = None
        for fault, happens in (
            ("truncated", self._truncated),
            ("duplicate", self._duplicate),
            ("redelivered", self._redelivered),
            ("wrapped", self._wrapped),
            ("resent", self._resent),
            ("oversize", self._oversize),
        ):
            if fault in wanted and (found := happens(tale, post)):
                wanted.remove(fault)
                break
        self._old_id = tale.letter.message_id
        return found or (post, [])

    def _post(self, tale: Tale, n: int, letter: Letter, fault: str = "") -> Post:
        raw = letter.encode(f"seed={self._seed} n={n}")
        what = f"{tale.what} {fault}".rstrip()
        return Post(n=n, what=what, raw=raw, news=tale.news, off=tale.off)

    def _truncated(self, tale: Tale, post: Post) -> _Happened | None:
        if not tale.breakable:
            return None
        head, _, body = post.raw.partition(b"\n\n")
        cut = head + b"\n\n" + body[: int(len(body) * self._world.rng.uniform(0.2, 0.45))]
        what = f"{tale.what} truncated"
        return replace(post, what=what, raw=cut, news=(), off=()), [lambda _: post]

    def _duplicate(self, tale: Tale, post: Post) -> _Happened | None:
        return post, [lambda _: replace(post, what=f"{tale.what} duplicate")]

    def _redelivered(self, tale: Tale, post: Post) -> _Happened | None:
        if tale.bare is None:
            return None
        mirrored = through_mailman(tale.bare, _MIRROR, LISTS)
        return post, [lambda n: self._post(tale, n, mirrored, "redelivered")]

    def _wrapped(self, tale: Tale, post: Post) -> _Happened | None:
        if tale.bare is None:
            return None
        return self._post(
            tale, post.n, wrapped_by_mailman(tale.bare, _MIRROR, LISTS), "wrapped"
        ), []

    def _oversize(self, tale: Tale, post: Post) -> _Happened | None:
        part = tale.letter.part
        if not tale.news or not part.headers:
            return None
        line = b"bWFkZSB1cA" * 7 + b"\n"
        blob = Part(
            headers=(
                ("Content-Type", "application/octet-stream"),
                ("Content-Transfer-Encoding", "base64"),
                ("Content-Disposition", 'attachment; filename="core"'),
            ),
            body=line * (self._max_mail // len(line) + 1),
        )
        large = replace(tale.letter, part=multipart("mixed", self._world.boundary(), (part, blob)))
        large = large.with_header("MIME-Version", "1.0")
        told = self._post(tale, post.n, large, "oversize")
        # (It is news to nobody: who is not to look at it cannot know what it says.)
        return replace(told, news=(), off=()), []

    def _resent(self, tale: Tale, post: Post) -> _Happened | None:
        if not tale.news or not self._old_id:
            return None
        now, later = next(self._ways)(tale)
        first = self._post(tale, post.n, now, "" if later else "resent")
        if later is None:
            return first, []
        world = self._world
        return first, [lambda n: self._post(tale, n, later(world), "resent")]

    def _reused(self, tale: Tale) -> _Resent:
        """A Message-ID says nothing: whoever counts on it can be made to miss what comes second."""
        if tale.told_by_id:
            return self._sent_on(tale)
        return _Resent(tale.letter.with_message_id(self._old_id))

    def _sent_on(self, tale: Tale) -> _Resent:
        """Somebody "bounces" it, as mutt does: all of it as it was, and who did it on top."""
        return _Resent(tale.letter, lambda world: _sent_on_by(tale.letter, world))

    def _sent_anew(self, tale: Tale) -> _Resent:
        """The same, by a program that gives each mail an id of its own."""
        if not tale.news[0].key.startswith("upload "):
            # (Elsewhere the id is part of what makes it that news.)
            return self._sent_on(tale)

        def later(world: World) -> Letter:
            again = _sent_on_by(tale.letter, world)
            return again.with_message_id(f"<{world.token(24)}@mail.{DOMAIN}>")

        return _Resent(tale.letter, later)


def _sent_on_by(letter: Letter, world: World) -> Letter:
    who = world.somebody()
    sent = (
        ("Resent-From", f"{who.mailbox} <{who.address}>"),
        ("Resent-To", f"{_MIRROR}@{LISTS}"),
        ("Resent-Date", world.date),
        ("Resent-Message-ID", f"<{world.token(20)}@{DOMAIN}>"),
    )
    trace = world.trace("mail", f"{_MIRROR}@{LISTS}")
    return replace(letter, trace=(*trace, *sent, *letter.trace))
