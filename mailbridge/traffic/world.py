"""What is going on in the made-up archive: packages, people, versions, open bugs."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import Letter
from mailbridge.traffic.openpgp import Key

# No clock: the same seed gives the same bytes, today and in ten years.
START: Final = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
STEP: Final = timedelta(minutes=7, seconds=11)


@dataclass(frozen=True, kw_only=True)
class Someone:
    """A person or a team, nowhere else but here."""

    name: str
    mailbox: str

    @property
    def address(self) -> str:
        """The address, below a domain that nobody can own (RFC 2606)."""
        return f"{self.mailbox}@{words.DOMAIN}"

    @property
    def field(self) -> str:
        """As a field of a .changes names them."""
        return f"{self.name} <{self.address}>"


@dataclass(frozen=True, kw_only=True)
class OpenBug:
    """A bug that was reported and is not closed."""

    number: int
    title: str
    package: str
    source: str
    tags: tuple[str, ...]
    reporter: Someone
    message_id: str
    report: Letter


@dataclass(kw_only=True)
class Package:
    """A source package as far as it has come."""

    name: str
    section: str
    maintainer: Someone
    binaries: tuple[str, ...]
    arch: str
    epoch: str
    upstream: list[int]
    revision: int = 1
    version: str = ""
    """The newest in the archive, with its epoch.  (Newer ones may wait, or be stuck.)"""
    stable: str = ""
    testing: str | None = ""
    """What of it is in stable and in testing; None: nothing."""
    derived: int = 0
    rebuilds: int = 0
    """How often the derivative and the builders have had this version."""
    refused: int = 0
    """How often an upload of it was rejected."""
    ported: int = 0
    """How often another distribution has had one of it."""
    updates: int = 0
    """How often the stable team has had it."""
    waiting: int = 0
    """How many of its uploads wait for somebody: until they are through nobody uploads more."""
    bugs: list[OpenBug] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What is in the archive when we begin is everywhere."""
        self.version = self.stable = self.testing = self.newest

    @property
    def newest(self) -> str:
        """The newest version that anybody prepared."""
        return f"{self.epoch}{'.'.join(map(str, self.upstream))}-{self.revision}"

    def move_on(self, rng: Random) -> None:
        """Prepare the next version, of the distribution's or of the upstream's."""
        self.revision += 1
        if rng.random() < 0.35:  # noqa: PLR2004 - a share
            self.revision, place = 1, rng.randrange(len(self.upstream))
            self.upstream[place] += 1
            self.upstream[place + 1 :] = [0] * (len(self.upstream) - place - 1)

    def arrived(self, version: str) -> None:
        """Note that *version* is in the archive now."""
        self.version = version
        self.derived = self.rebuilds = 0


class World:
    """The archive's state.  All chance comes from one generator, so a seed tells everything."""

    def __init__(self, rng: Random, *, key: Key | None = None) -> None:
        """With *key*, what people and archive sign is signed by it."""
        self.rng: Final = rng
        self.key: Final = key
        self.people: Final = [Someone(name=name, mailbox=box) for name, box in words.PEOPLE]
        teams = [Someone(name=name, mailbox=box) for name, box in words.TEAMS]
        names = sorted(rng.sample([a + b for a in words.FIRST for b in words.SECOND], 48))
        self.packages: Final = [self._package(name, teams) for name in names]
        self.number = 1_090_000 + rng.randrange(1, 9_000)
        self.when = START
        self._last: Final[defaultdict[str, int]] = defaultdict(lambda: rng.randrange(999, 9_999))

    def step(self, n: int) -> None:
        """Move the time to that of mail *n*."""
        self.when = START + n * STEP + timedelta(seconds=self.rng.randrange(60))

    @property
    def date(self) -> str:
        """The time as a Date header tells it."""
        return format_datetime(self.when)

    def earlier(self, minutes: int) -> str:
        """Return the time *minutes* ago as a Date header tells it."""
        return format_datetime(self.when - timedelta(minutes=minutes))

    def somebody(self, names: Sequence[Someone] | None = None) -> Someone:
        """Return one of the people here, or of *names*."""
        return self.rng.choice(names if names is not None else self.people)

    def latin(self) -> Someone:
        """Return a person whose name has letters beyond ASCII that Latin-1 has too."""
        return self.rng.choice([who for who in self.people if _is_latin(who.name)])

    def package(self) -> Package:
        """Return a package in which something happens next."""
        # (As many wait as stories can be told at once: never all.)
        return self.rng.choice([package for package in self.packages if not package.waiting])

    def chance(self, share: float) -> bool:
        """Return True in that *share* of the cases."""
        return self.rng.random() < share

    def new_bug(self) -> int:
        """Return the number of the next bug."""
        self.number += self.rng.randrange(1, 9)
        return self.number

    def list_number(self, name: str) -> int:
        """Return the number of the next mail in the archive of the list *name*."""
        return self.serial(f"list {name}")

    def serial(self, name: str) -> int:
        """Return the next number of those that *name* gives, as a tracker does."""
        self._last[name] += 1
        return self._last[name]

    def version(self) -> str:
        """Return a version of something that is in no archive here."""
        rng = self.rng
        return f"{rng.randrange(9)}.{rng.randrange(30)}.{rng.randrange(9)}-{rng.randrange(1, 9)}"

    def token(self, size: int = 6) -> str:
        """Return letters and digits, as queue ids have them."""
        return "".join(self.rng.choices("0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefgh", k=size))

    def exim_id(self, host: str) -> str:
        """Return the id of a new mail, without angles, as Exim at *host* makes it."""
        return f"E1{self.token(5)}-{self.token()}-{self.token(2)}@{host}.{words.DOMAIN}"

    def signature(self, lines: int = 4) -> str:
        """Return an OpenPGP signature block that says it is none."""
        raw = base64.b64encode(self.rng.randbytes(48 * lines - 8)).decode()
        body = "\n".join(raw[at : at + 64] for at in range(0, len(raw), 64))
        crc = base64.b64encode(self.rng.randbytes(3)).decode()
        return (
            "-----BEGIN PGP SIGNATURE-----\nComment: made up, signs nothing\n\n"
            f"{body}\n={crc}\n-----END PGP SIGNATURE-----\n"
        )

    def boundary(self) -> str:
        """Return a MIME boundary as Python's `email` writes them."""
        return f"==============={self.rng.randrange(10**18, 10**19)}=="

    def trace(self, host: str, to: str) -> tuple[tuple[str, str], ...]:
        """Return the headers that *host* and the MX of *to* put on top of a mail."""
        sender = f"bounce@{host}.{words.DOMAIN}"
        hop = (
            f"from {host}.{words.DOMAIN} ({host}.{words.DOMAIN} [192.0.2.25])\n"
            f"\tby mx.{words.DOMAIN} (Postfix) with ESMTPS id {self.token(10)}\n\tfor <{to}>"
        )
        return (
            ("Return-Path", f"<{sender}>"),
            ("Delivered-To", to),
            ("Received", f"{hop}; {self.date}"),
        )

    def _package(self, name: str, teams: list[Someone]) -> Package:
        rng = self.rng
        binaries = (name, f"lib{name}1") if rng.random() < 0.3 else (name,)  # noqa: PLR2004 - a share
        return Package(
            name=name,
            section=rng.choice(("utils", "net", "graphics", "contrib/text", "devel")),
            maintainer=rng.choice((*teams, *self.people[:6])),
            binaries=binaries,
            arch=rng.choice(("all", "amd64", "amd64")),
            epoch=rng.choice(("", "", "", "", "1:")),
            upstream=[rng.randrange(12), rng.randrange(60), rng.randrange(9)],
            revision=rng.randrange(1, 5),
        )


def _is_latin(name: str) -> bool:
    try:
        return not name.isascii() and bool(name.encode("latin-1"))
    except UnicodeEncodeError:
        return False
