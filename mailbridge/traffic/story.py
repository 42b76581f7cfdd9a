"""Stories: what happens next in the archive, and what is still to come of what happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from mailbridge.traffic import (
    bugs,
    closings,
    control,
    dak,
    gitlab,
    laniakea,
    launchpad,
    mentors,
    noise,
    security,
    trackers,
    watch,
    words,
)
from mailbridge.traffic.archive import archive
from mailbridge.traffic.tale import Tale
from mailbridge.traffic.upload import Period, Upload, prepare
from mailbridge.traffic.world import OpenBug, Package, World

MIX: Final[Mapping[str, int]] = MappingProxyType({"uploads": 5, "bugs": 4, "noise": 1})
"""How often which category comes, when nobody says otherwise."""

WORDS: Final = (
    *("uploads", "bugs", "noise", "followups", "control", "archive", "migrations"),
    *("builds", "launchpad", "trackers", "security", "mentors"),
)
"""
The categories; only the first three come unasked.

uploads: what dak and Laniakea say of them.  bugs: reported to debbugs, and closed.  noise: mails of
no kind.  followups: comments on bugs.  control: commands to debbugs, and what else it tells.
archive: the other mails of dak's programs, and of its queue daemon.  migrations: to testing, and
from it.  builds: what builders say.  launchpad: uploads and bugs.  trackers: GitLab, Phabricator,
Bugzilla.  security: advisories.  mentors: packages that look for a sponsor.
"""

EVERYTHING: Final[Mapping[str, int]] = MappingProxyType({**dict.fromkeys(WORDS, 1), **MIX})
"""Every category, what is usual being usual."""

_PERIODS: Final[Mapping[Period, int]] = MappingProxyType(
    {"today": 50, "2021": 14, "2016": 10, "2013": 8, "2008": 10, "2002": 6, "2001": 3}
)

_MANY: Final = 12
"""So many uploads wait for somebody at most; then somebody has time."""


class Story:
    """Knows what happens next, and what is still to come of what happened."""

    def __init__(self, world: World, mix: Mapping[str, int]) -> None:
        """*mix* weighs the categories."""
        self._world: Final = world
        self._words: Final = [word for word in WORDS if mix.get(word, 0) > 0]
        self._weights: Final = [mix[word] for word in self._words]
        self._uploads: deque[Callable[[], Tale]] = deque()
        self._bugs: deque[Callable[[], Tale]] = deque()
        self._imitate = False
        self._others: Final[Mapping[str, Callable[[], Tale]]] = {
            "noise": lambda: noise.noise(world, self._talk()),
            "followups": lambda: bugs.comment(world, self._some_bug()),
            "control": self._control,
            "archive": lambda: archive(world, self._talk()),
            "migrations": self._migration,
            "builds": lambda: world.rng.choice((watch.built, launchpad.build))(world, _any(world)),
            "launchpad": lambda: (
                launchpad.upload(world) if world.chance(0.6) else launchpad.bug(world, _any(world))
            ),
            "trackers": lambda: world.rng.choice(_TRACKERS)(world),
            "security": lambda: security.advisory(world, _any(world)),
            "mentors": lambda: mentors.mentored(world),
        }

    def next(self, wanted: list[str]) -> tuple[str, Tale]:
        """Return the next tale and its category; a fault of *wanted* that it has is taken out."""
        (word,) = self._world.rng.choices(self._words, self._weights)
        if word == "uploads":
            return word, self._upload(wanted)
        if word == "bugs":
            return word, self._bug(wanted)
        return word, self._others[word]()

    # -- uploads -----------------------------------------------------------------------------------

    def _upload(self, wanted: list[str]) -> Tale:
        world = self._world
        for fault, tell in (
            ("latin1", self._in_latin),
            ("forged", self._forged),
            ("tampered", self._tampered),
        ):
            if fault in wanted and len(self._uploads) < _MANY:
                wanted.remove(fault)
                return tell()
        if self._uploads and (len(self._uploads) >= _MANY or world.chance(0.5)):
            return self._uploads.popleft()()
        (tell,) = world.rng.choices(
            (
                self._announced,
                self._in_new,
                self._rejected,
                self._policy,
                self._rebuilt,
                self._derived,
                self._derived_new,
                self._derived_rejected,
                self._accepted_alone,
            ),
            (44, 6, 7, 5, 6, 24, 4, 4, 4),
        )
        return tell()

    def _announced(self) -> Tale:
        world = self._world
        upload = self._source_upload(self._busy(), closing=True)
        (period,) = world.rng.choices(list(_PERIODS), list(_PERIODS.values()))
        if period in ("2021", "today") and world.chance(0.4):
            self._uploads.append(lambda: dak.accepted(world, upload, period))
        self._arrived(upload)
        return dak.announce(world, upload, period)

    def _accepted_alone(self) -> Tale:
        """As it was before 2012; the archive that lists its files does not announce them here."""
        upload = self._source_upload(self._world.package())
        self._arrived(upload)
        return dak.accepted_files(self._world, upload)

    def _in_latin(self) -> Tale:
        world = self._world
        upload = self._source_upload(self._busy())
        changes = upload.changes.encode("latin-1", "replace").decode("latin-1")
        upload = replace(upload, changes=changes, by=world.latin())
        self._arrived(upload)
        return dak.announce(world, upload, "2002", latin=True)

    def _forged(self) -> Tale:
        world = self._world
        self._imitate = not self._imitate
        if self._imitate:
            return noise.imitation(world, self._talk())
        upload = self._source_upload(self._busy())
        self._arrived(upload)
        return dak.announce(world, upload, "today", forged=True)

    def _tampered(self) -> Tale:
        """Somebody on the way was quicker; what the archive sent comes, too."""
        world = self._world
        upload = self._source_upload(self._busy())
        self._uploads.append(self._waited(upload, lambda: dak.announce(world, upload, "today")))
        return dak.tampered(world, upload)

    def _in_new(self) -> Tale:
        """What waits in NEW is taken out of it by and by, or never."""
        world = self._world
        upload = self._source_upload(world.package(), closing=True)
        if world.chance(0.7):
            self._uploads += [
                self._waited(upload, lambda: dak.accepted(world, upload, by_hand=True)),
                lambda: dak.announce(world, upload, "today"),
            ]
        return dak.new(world, upload)

    def _rejected(self) -> Tale:
        world = self._world
        package = world.package()
        # (It did not come in, so the package has not moved on.)
        package.refused += 1
        version = f"{package.newest}.{package.refused}"
        upload = prepare(world, package, suite="unstable", version=version, by=world.somebody())
        return dak.rejected(world, upload)

    def _policy(self) -> Tale:
        """What the stable team holds comes in at the next point release, or never."""
        world = self._world
        package = world.package()
        package.updates += 1
        upload = prepare(
            world,
            package,
            suite="proposed-updates",
            version=f"{package.stable}+demo12u{package.updates}",
            by=world.somebody(),
        )
        if world.chance(0.5):
            self._uploads.append(
                self._waited(upload, lambda: dak.accepted(world, upload, by_hand=True))
            )
        return dak.held(world, upload, "stable-new")

    def _rebuilt(self) -> Tale:
        world = self._world
        package = world.rng.choice([p for p in world.packages if p.arch != "all"])
        package.rebuilds += 1
        upload = prepare(
            world,
            package,
            suite="unstable",
            version=f"{package.version}+b{package.rebuilds}",
            by=world.somebody(),
            binnmu=True,
        )
        return dak.accepted(world, upload)

    def _derived(self) -> Tale:
        world = self._world
        upload = self._derived_upload()
        if world.chance(0.3):
            self._uploads.append(lambda: laniakea.accepted(world, upload))
        return laniakea.announce(world, upload)

    def _derived_new(self) -> Tale:
        world = self._world
        upload = self._derived_upload()
        if world.chance(0.7):
            self._uploads.append(self._waited(upload, lambda: laniakea.announce(world, upload)))
        return laniakea.new(world, upload)

    def _derived_rejected(self) -> Tale:
        return laniakea.rejected(self._world, self._derived_upload())

    def _derived_upload(self) -> Upload:
        world = self._world
        package = world.package()
        package.derived += 1
        version = f"{package.version}{words.REPO}{package.derived}"
        return prepare(world, package, suite="landing", version=version, by=world.somebody())

    def _source_upload(self, package: Package, *, closing: bool = False) -> Upload:
        """Return the next upload of *package*; with *closing* it closes some of its bugs."""
        package.move_on(self._world.rng)
        some = self._world.rng.randrange(1, 4) if closing else 0
        return self._of_newest(package, package.bugs[:some])

    def _of_newest(self, package: Package, closed: Sequence[OpenBug] = ()) -> Upload:
        world = self._world
        suite = "experimental" if world.chance(0.1) else "unstable"
        who, version = world.somebody(), package.newest
        return prepare(world, package, suite=suite, version=version, by=who, bugs=closed)

    def _talk(self) -> Upload:
        """Return an upload that people only talk of."""
        return self._of_newest(self._world.package())

    def _waited(self, upload: Upload, tell: Callable[[], Tale]) -> Callable[[], Tale]:
        """Return how to *tell* that *upload* is in; until then nobody uploads another."""
        upload.package.waiting += 1

        def told() -> Tale:
            upload.package.waiting -= 1
            self._arrived(upload)
            return tell()

        return told

    def _arrived(self, upload: Upload) -> None:
        """Note that *upload* is in the archive; mails about the bugs that it closes follow."""
        package = upload.package
        if upload.suite == "unstable":
            package.arrived(upload.version)
        for bug in [bug for bug in package.bugs if bug.number in upload.closes]:
            package.bugs.remove(bug)
            self._bugs.append(partial(self._closed_by, bug, upload))

    def _busy(self) -> Package:
        """Return a package, rather one with open bugs."""
        if (bug := self._open_bug()) and self._world.chance(0.5):
            found = next(p for p in self._world.packages if p.name == bug.source)
            if not found.waiting:
                return found
        return self._world.package()

    # -- bugs --------------------------------------------------------------------------------------

    def _bug(self, wanted: list[str]) -> Tale:
        world = self._world
        if "latin1" in wanted:
            wanted.remove("latin1")
            return bugs.report(world, world.package(), latin=True)
        if self._bugs and world.chance(0.6):
            return self._bugs.popleft()()
        bug = self._open_bug()
        if bug and world.chance(0.2):
            package = next(p for p in world.packages if p.name == bug.source)
            if not package.waiting:
                package.bugs.remove(bug)
                return self._closed(package, bug)
        return bugs.report(world, world.package())

    def _closed_by(self, bug: OpenBug, upload: Upload) -> Tale:
        return self._told_done(closings.by_upload(self._world, bug, upload))

    def _closed(self, package: Package, bug: OpenBug) -> Tale:
        """Somebody closes a bug, and no upload does."""
        world = self._world
        (how,) = world.rng.choices(("mail", "version", "removal", "control"), (3, 5, 1, 1))
        if how == "control":
            return closings.they_closed(world, closings.by_command(world, bug))
        if how == "removal":
            # (It was removed from where it is old; here it lives on.)
            return self._told_done(closings.by_removal(world, bug, package.stable))
        version = package.version if how == "version" else None
        return self._told_done(closings.by_mail(world, bug, version))

    def _told_done(self, closing: closings.Closing) -> Tale:
        world = self._world
        if world.chance(0.2):
            self._bugs.append(lambda: closings.they_closed(world, closing))
        return closings.closed(world, closing)

    def _open_bug(self) -> OpenBug | None:
        found = [package.bugs for package in self._world.packages if package.bugs]
        return self._world.rng.choice(self._world.rng.choice(found)) if found else None

    def _some_bug(self) -> OpenBug:
        """Return an open bug, or one that was reported before our time."""
        return self._open_bug() or self._strange_bug(self._world.package())

    def _strange_bug(self, package: Package) -> OpenBug:
        bugs.report(self._world, package)
        return package.bugs.pop()

    # -- others ------------------------------------------------------------------------------------

    def _control(self) -> Tale:
        world = self._world
        if world.chance(0.3):
            return control.forwarded(world, self._some_bug())
        if world.chance(0.15):
            return control.new_submitter(world, self._some_bug())
        package = self._busy()
        if package.bugs:
            return control.transcript(world, package)
        package.bugs.append(self._strange_bug(package))
        tale = control.transcript(world, package)
        package.bugs.clear()
        return tale

    def _migration(self) -> Tale:
        """What is new in the archive goes to testing after a while, unless it has to wait."""
        world = self._world
        due = [p for p in world.packages if p.testing != p.version]
        there = [p for p in world.packages if p.testing]
        if due and world.chance(0.7):
            return watch.migrated(world, world.rng.choice(due))
        some = world.rng.sample(there, min(len(there), world.rng.randrange(2, 9)))
        tell = world.rng.randrange(3)
        if some and tell == 0:
            return watch.removed(world, some[0])
        if some and tell == 1:
            return watch.summary(world, some)
        package = some[0] if some else _any(world)
        return watch.autoremoval(world, package, [world.new_bug()])


_TRACKERS: Final = (gitlab.forge, gitlab.forge, gitlab.forge, trackers.task, trackers.bugzilla)


def _any(world: World) -> Package:
    """Return a package of which somebody speaks, whatever its uploads wait for."""
    return world.rng.choice(world.packages)
