"""The endless stream of made-up mails: which story comes next, and what goes wrong on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import count, cycle
from random import Random
from types import MappingProxyType
from typing import Final

from mailbridge.traffic import bugs, dak, laniakea, noise, words
from mailbridge.traffic.dak import Period, Upload
from mailbridge.traffic.letter import Letter, through_mailman
from mailbridge.traffic.tale import OpenBug, Package, Post, Tale, World

MIX: Final[Mapping[str, int]] = MappingProxyType({"uploads": 5, "bugs": 4, "noise": 1})
"""How often which category comes, when nobody says otherwise."""
WORDS: Final = ("uploads", "bugs", "noise", "followups")
"""The categories.  Followups are events that are off by default, so they are off here too."""
FAULTS: Final = ("duplicate", "truncated", "latin1", "forged", "redelivered")
"""
What can go wrong.

duplicate: the same bytes once more.  truncated: cut off in the middle; the whole mail comes later.
latin1: raw Latin-1 where nobody said so.  forged: an announcement that is none, or one with lies
around the signed text.  redelivered: the same news through another list.
"""

# A fault is due after so many stories, and falls on the next mail that it can happen to.
_EVERY: Final = 4

_PERIODS: Final[Mapping[Period, int]] = MappingProxyType(
    {"today": 50, "2021": 14, "2016": 10, "2013": 8, "2008": 10, "2002": 8}
)


def mails(
    seed: int, *, mix: Mapping[str, int] = MIX, faults: Collection[str] = ()
) -> Iterator[Post]:
    """
    Yield made-up mails without end; the same arguments give the same bytes.

    *mix* weighs the categories in `WORDS`; *faults* are words of `FAULTS`.
    """
    story = _Story(Random(seed), mix)  # noqa: S311 - the seed must tell everything
    due = cycle(fault for fault in FAULTS if fault in faults)
    wanted: list[str] = []
    late: list[tuple[int, Callable[[int], Post]]] = []
    stories = 0
    for n in count(1):
        story.world.step(n)
        if late and late[0][0] <= n:
            yield late.pop(0)[1](n)
            continue
        stories += 1
        if faults and stories % _EVERY == 0 and (fault := next(due)) not in wanted:
            wanted.append(fault)
        tale = story.next(wanted)
        first, again = _happen(tale, n, seed, wanted, story.world)
        yield first
        late += [(n + story.world.rng.randrange(1, 9), send) for send in again]
        late.sort(key=lambda entry: entry[0])


def _happen(
    tale: Tale, n: int, seed: int, wanted: list[str], world: World
) -> tuple[Post, list[Callable[[int], Post]]]:
    """Return the mail that *tale* becomes and what comes of it later; at most one fault happens."""
    post = Post(n=n, what=tale.what, raw=tale.letter.encode(_mark(seed, n)), news=tale.news)
    if "truncated" in wanted and tale.breakable:
        wanted.remove("truncated")
        head, _, body = post.raw.partition(b"\n\n")
        cut = head + b"\n\n" + body[: int(len(body) * world.rng.uniform(0.2, 0.45))]
        return replace(post, what=f"{tale.what} truncated", raw=cut, news=()), [lambda _: post]
    if "duplicate" in wanted:
        wanted.remove("duplicate")
        return post, [lambda _: replace(post, what=f"{tale.what} duplicate")]
    if "redelivered" in wanted and tale.bare is not None:
        wanted.remove("redelivered")
        mirrored = through_mailman(tale.bare, "demo-mirror", dak.LISTS)
        return post, [lambda later: _redelivered(tale, mirrored, later, seed)]
    return post, []


def _redelivered(tale: Tale, letter: Letter, n: int, seed: int) -> Post:
    raw = letter.encode(_mark(seed, n))
    return Post(n=n, what=f"{tale.what} redelivered", raw=raw, news=tale.news)


def _mark(seed: int, n: int) -> str:
    return f"seed={seed} n={n}"


class _Story:
    """Knows what happens next, and what is still to come of what happened."""

    def __init__(self, rng: Random, mix: Mapping[str, int]) -> None:
        self.world: Final = World(rng)
        self._words: Final = [word for word in WORDS if mix.get(word, 0) > 0]
        self._weights: Final = [mix[word] for word in self._words]
        self._uploads: deque[Callable[[], Tale]] = deque()
        self._bugs: deque[Callable[[], Tale]] = deque()
        self._imitate = False

    def next(self, wanted: list[str]) -> Tale:
        """Return the next tale; a fault of *wanted* that it has is taken out."""
        (word,) = self.world.rng.choices(self._words, self._weights)
        if word == "uploads":
            return self._upload(wanted)
        if word == "bugs":
            return self._bug(wanted)
        if word == "followups":
            return bugs.comment(self.world, self._open_bug() or self._strange_bug())
        return noise.noise(self.world, self._source_upload(self.world.package()))

    # -- uploads -----------------------------------------------------------------------------------

    def _upload(self, wanted: list[str]) -> Tale:
        world = self.world
        if "latin1" in wanted:
            wanted.remove("latin1")
            return self._in_latin()
        if "forged" in wanted:
            wanted.remove("forged")
            self._imitate = not self._imitate
            if self._imitate:
                return noise.imitation(world, self._source_upload(world.package()))
            return dak.announce(world, self._source_upload(self._busy()), "today", forged=True)
        if self._uploads and world.chance(0.5):
            return self._uploads.popleft()()
        (tell,) = world.rng.choices(
            (
                self._announced,
                self._held_in_new,
                self._rejected,
                self._policy,
                self._rebuilt,
                self._derived,
                self._derived_new,
                self._derived_rejected,
            ),
            (44, 6, 7, 5, 6, 24, 4, 4),
        )
        return tell()

    def _announced(self) -> Tale:
        world = self.world
        upload = self._source_upload(self._busy(), closing=True)
        (period,) = world.rng.choices(list(_PERIODS), list(_PERIODS.values()))
        if period == "today" and world.chance(0.4):
            self._uploads.append(lambda: dak.accepted(world, upload))
        return dak.announce(world, upload, period)

    def _in_latin(self) -> Tale:
        world = self.world
        upload = self._source_upload(self._busy())
        changes = upload.changes.encode("latin-1", "replace").decode("latin-1")
        upload = replace(upload, changes=changes, by=world.latin())
        return dak.announce(world, upload, "2002", latin=True)

    def _held_in_new(self) -> Tale:
        world = self.world
        upload = self._source_upload(world.package(), closing=True)
        self._uploads.append(lambda: dak.accepted(world, upload, out_of_new=True))
        self._uploads.append(lambda: dak.announce(world, upload, "today"))
        return dak.new(world, upload)

    def _rejected(self) -> Tale:
        world = self.world
        package = world.package()
        # (It did not come in, so the package has not moved on.)
        version = f"{package.epoch}{'.'.join(map(str, package.upstream))}-{package.revision}"
        upload = dak.prepare(
            world, package, suite="unstable", version=f"{version}.1", by=world.somebody()
        )
        return dak.rejected(world, upload)

    def _policy(self) -> Tale:
        world = self.world
        package = world.package()
        package.updates += 1
        upload = dak.prepare(
            world,
            package,
            suite="proposed-updates",
            version=f"{package.version}+demo12u{package.updates}",
            by=world.somebody(),
        )
        return dak.held(world, upload, "stable-new")

    def _rebuilt(self) -> Tale:
        world = self.world
        package = world.rng.choice([p for p in world.packages if p.arch != "all"])
        package.rebuilds += 1
        upload = dak.prepare(
            world,
            package,
            suite="unstable",
            version=f"{package.version}+b{package.rebuilds}",
            by=world.somebody(),
            binnmu=True,
        )
        return dak.accepted(world, upload)

    def _derived(self) -> Tale:
        world = self.world
        upload = self._derived_upload()
        if world.chance(0.3):
            self._uploads.append(lambda: laniakea.accepted(world, upload))
        return laniakea.announce(world, upload)

    def _derived_new(self) -> Tale:
        world = self.world
        upload = self._derived_upload()
        self._uploads.append(lambda: laniakea.announce(world, upload))
        return laniakea.new(world, upload)

    def _derived_rejected(self) -> Tale:
        return laniakea.rejected(self.world, self._derived_upload())

    def _derived_upload(self) -> Upload:
        world = self.world
        package = world.package()
        package.derived += 1
        version = f"{package.version}{words.REPO}{package.derived}"
        return dak.prepare(world, package, suite="landing", version=version, by=world.somebody())

    def _source_upload(self, package: Package, *, closing: bool = False) -> Upload:
        """Return the next upload of *package*; with *closing* it closes bugs, and mails follow."""
        world = self.world
        package.derived = package.rebuilds = package.updates = 0
        package.revision += 1
        if world.chance(0.35):
            package.revision = 1
            place = world.rng.randrange(len(package.upstream))
            package.upstream[place] += 1
            package.upstream[place + 1 :] = [0] * (len(package.upstream) - place - 1)
        closed = package.bugs[: world.rng.randrange(1, 4)] if closing else []
        upload = dak.prepare(
            world,
            package,
            suite="experimental" if world.chance(0.1) else "unstable",
            version=package.version,
            by=world.somebody(),
            bugs=closed,
        )
        for bug in closed:
            package.bugs.remove(bug)
            self._bugs.append(partial(bugs.closed_by_upload, world, bug, upload))
        return upload

    def _busy(self) -> Package:
        """Return a package, rather one with open bugs."""
        if (bug := self._open_bug()) and self.world.chance(0.5):
            return next(p for p in self.world.packages if p.name == bug.source)
        return self.world.package()

    # -- bugs --------------------------------------------------------------------------------------

    def _bug(self, wanted: list[str]) -> Tale:
        world = self.world
        if "latin1" in wanted:
            wanted.remove("latin1")
            return bugs.report(world, world.package(), latin=True)
        if self._bugs and world.chance(0.6):
            return self._bugs.popleft()()
        bug = self._open_bug()
        if bug and world.chance(0.2):
            package = next(p for p in world.packages if p.name == bug.source)
            package.bugs.remove(bug)
            return bugs.closed_by_mail(world, bug, package.version if world.chance(0.6) else None)
        return bugs.report(world, world.package())

    def _open_bug(self) -> OpenBug | None:
        found = [bug for package in self.world.packages for bug in package.bugs]
        return self.world.rng.choice(found) if found else None

    def _strange_bug(self) -> OpenBug:
        """Return a bug that was reported before our time."""
        package = self.world.package()
        bugs.report(self.world, package)
        return package.bugs.pop()
