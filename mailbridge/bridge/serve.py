"""Putting a bridge together from its configuration, and running it until it is told to stop."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from mailbridge import config as configuration
from mailbridge import failpoint, kinds, maildir, parsed
from mailbridge.bridge import compose, running
from mailbridge.bridge.attention import Attention
from mailbridge.bridge.canary import Canaries
from mailbridge.bridge.deliver import Gateway, Settings
from mailbridge.bridge.onbus import OnBus
from mailbridge.bridge.places import Place
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.retry import try_again
from mailbridge.bridge.running import Surroundings
from mailbridge.bridge.state import State, make, opened
from mailbridge.bridge.target import Stop, Target
from mailbridge.bridge.upkeep import Upkeep
from mailbridge.bridge.workers import Setup, Workers, allowed
from mailbridge.config import Config, Source
from mailbridge.errors import ConfigError, StorageFailed
from mailbridge.event import LANIAKEA_ARCHIVE
from mailbridge.health import Health
from mailbridge.outbox import Quarantined, SenderLock
from mailbridge.rules import load as load_rules
from mailbridge.service import HangUp

log = logging.getLogger("mailbridge.bridge")

JOURNAL: Final = "journal.db"
"""What the relay of this state keeps, where it has one."""

SPOOL_NAME: Final = "spool"
"""Name of the source of mail that came by the pipe and that no configured source names."""


_AT_START: Final = ("entity", "state", "relay", "submit", "health")
"""Settings that are read once: sockets, keys and databases are open already."""


class Watched(NamedTuple):
    """A Maildir to watch, and the sources that are asked about its mail."""

    path: Path
    sources: tuple[Source, ...]
    spool: bool = False


def with_maildirs(config: Config, maildirs: Sequence[Path], template: Source) -> Config:
    """
    Return *config* with a source for each of *maildirs* that has none, else like *template*.

    It is named after the directory.  Raises `ConfigError` for what is no Maildir.
    """
    named = {source.name for source in config.source}
    watched = {_real(source.maildir) for source in config.source if source.maildir}
    added: list[Source] = []
    for path in maildirs:
        real = _real(path)
        if not any(folder.is_dir() for folder in maildir.folders(real)):
            reason = "has neither new/ nor cur/" if real.is_dir() else "does not exist"
            raise ConfigError(f"--maildir {path}: no Maildir: it {reason}")
        if real in watched:
            continue
        watched.add(real)
        name = real.name or "root"
        if name in named:
            name = f"{real.parent.name}/{name}"
        if name in named:
            name = str(real)
        named.add(name)
        added.append(msgspec.structs.replace(template, name=name, maildir=str(real)))
    return msgspec.structs.replace(config, source=(*config.source, *added))


def watched(config: Config, spool: Path) -> list[Watched]:
    """
    Return the Maildirs to watch, the *spool* first.

    A source that only names lists is asked about the mail of every Maildir.  Raises `ConfigError`
    where two sources of one Maildir contradict each other.
    """
    spool = _real(spool)
    anywhere = tuple(source for source in config.source if not source.maildir)
    places: dict[Path, tuple[Source, ...]] = {}
    for source in config.source:
        if source.maildir:
            path = _real(source.maildir)
            places[path] = (*places.get(path, ()), source)
    in_spool = places.pop(spool, ())
    elsewhere = tuple(s for sources in places.values() for s in sources if s.lists)
    asked = (*in_spool, *anywhere, *elsewhere)
    if not asked:
        # (Where sources do name lists, they are all that the operator lets in.)
        asked = (Source(name=SPOOL_NAME, maildir=str(spool)),)
    found = [Watched(spool, asked, spool=True)]
    for path, sources in places.items():
        for key in ("after", "existing", "rate"):
            if len({getattr(source, key) for source in sources}) > 1:
                names = " and ".join(repr(source.name) for source in sources)
                raise ConfigError(f"sources {names}: {key}: must be the same, as their Maildir is")
        found.append(Watched(path, (*sources, *anywhere)))
    return found


def settings(config: Config, *, accept_test: bool) -> Settings:
    """Return what the configuration says about every mail."""
    host = configuration.qualified_name() or os.uname().nodename
    lighthouse = config.submit.lighthouse
    return Settings(
        origin=host if config.origin else None,
        addresses=config.addresses,
        accept_test=accept_test,
        max_mail=configuration.size(config.max_mail),
        changes_cap=lighthouse.changes_cap if lighthouse else None,
        stand_in=any(source.stand_in for source in config.source),
        rules=load_rules(config.rules),
    )


def _workers(config: Config, settled: Settings) -> Workers | None:
    """Return who looks at mails where there are many; None where it would gain nothing."""
    # A keyring is tens of megabytes in each of them, and so are a site's rules, which moreover are
    # those that stood there when we started.
    most = 2 if any(source.keyrings for source in config.source) else 4
    count = min(allowed(), most)
    if count < 2 or config.rules:  # noqa: PLR2004 - one processor: we are as fast ourselves
        return None
    setup = Setup(
        sources=config.source,
        addresses=settled.addresses,
        accept_test=settled.accept_test,
        max_mail=settled.max_mail,
        changes_cap=settled.changes_cap,
    )
    return Workers(setup, count)


class Bridge:
    """An open state, its gateway and its Maildirs."""

    def __init__(
        self, config: Config, state: State, *, accept_test: bool, on_bus: OnBus | None = None
    ) -> None:
        self.config: Final = config
        self.state: Final = state
        self._accept_test: Final = accept_test
        self._on_bus: Final = on_bus
        settled = settings(config, accept_test=accept_test)
        self.attention: Final = Attention(
            config.source,
            state.outbox,
            origin=settled.origin,
            now=datetime.now(UTC),
            clock=time.monotonic(),
        )
        self.gateway: Final = Gateway(
            state.outbox,
            state.quarantine,
            settled,
            prover=Prover(config.source),
            workers=_workers(config, settled),
            on_bus=on_bus,
            attention=self.attention,
        )
        self.canaries: Final = Canaries(state.directory, state.spool, state.outbox)
        self.places: Final = [
            Place(
                path,
                sources,
                state.outbox,
                self.gateway,
                spool=spool,
                canaries=self.canaries,
            )
            for path, sources, spool in watched(config, state.spool)
        ]

        self.upkeep: Final = Upkeep(state.outbox, state.quarantine, self.places, config)

    def try_again(self, mail: Quarantined, sources: tuple[Source, ...]) -> tuple[str, str]:
        """
        Look again at a mail in quarantine, as mail of *sources*; return (words, verdict).

        It leaves the quarantine with any other verdict than `quarantined`.
        """
        return try_again(mail, sources, self.state, self.gateway)

    def run(  # noqa: PLR0913 - each is named at the one call
        self,
        targets: Sequence[Target],
        stop: Stop,
        ready: str,
        *,
        health: Health | None = None,
        healthy: Callable[[], bool] = lambda: True,
        hangup: HangUp | None = None,
        reread: Callable[[], Config] = Config,
    ) -> None:
        """
        Take mail in and send it until *stop*; tell systemd that we live while we are *healthy*.

        At each *hangup* go on with the configuration that *reread* gives.  How we stand is told in
        the state, and to *health*.

        When mail is being taken in, and not before, the line *ready* is printed with what was
        found, and systemd is told.
        """
        around = Surroundings(targets, stop, health or Health(), healthy, hangup)
        running.run(
            self,
            around,
            ready,
            started=process_start(),
            remake=lambda ours: ours.with_config(reread()),
        )

    def with_config(self, config: Config) -> Bridge:
        """
        Return a bridge like this one with the sources of *config*, and how it treats mail.

        Raises `ConfigError`.  What only a start can change is told and stays.
        """
        configuration.check(config)
        compose.check(config.source, load_rules(config.rules))
        for name in _AT_START:
            if getattr(config, name) != getattr(self.config, name):
                log.warning("%s: counts from the next start", name)
        kept = {name: getattr(self.config, name) for name in _AT_START}
        config = msgspec.structs.replace(config, **kept)
        return Bridge(config, self.state, accept_test=self._accept_test, on_bus=self._on_bus)

    def found(self) -> Iterator[str]:
        """Yield what a person wants to know at the start, in parts of a line."""
        for place in self.places:
            if place.skipped:
                yield (
                    f"{place.skipped} mails in {place.path} taken as read,"
                    f" 'mailbridge ingest --maildir {place.path}{state_option(self.config)}'"
                    " emits them"
                )
            if place.backlog:
                yield f"{place.backlog} files wait in {place.path}"
            if place.trouble:
                yield f"{place.path} cannot be looked into yet"
        if not any(place.skipped or place.backlog or place.trouble for place in self.places):
            yield "no mail waits"
        yield from filter(None, map(self._trust, self.places))
        for source in self.config.source:
            if source.stand_in:
                yield f"uploads of {source.name!r} go out under {LANIAKEA_ARCHIVE}.*"

    def _trust(self, place: Place) -> str | None:
        """Return whose mail in *place* makes events."""
        required = {source.require for source in place.sources}
        if place.spool and not any(source.lists for source in place.sources):
            alone = len(self.places) == 1
            return f"mail is taken from 'mailbridge ingest -' and {place.path}" if alone else None
        if required == {"channel"}:
            return f"only what reaches {place.path} makes events"
        if "none" in required:
            return f"anyone who can mail into {place.path} can make events, marked as unproved"
        return f"of what reaches {place.path} only what is proved makes events"


def state_option(config: Config) -> str:
    """Return what a command needs besides to find the state of *config*: mostly nothing."""
    directory = config.state_dir.absolute()
    return "" if directory == configuration.default_state() else f" --state {directory}"


@contextmanager
def bridge(config: Config, *, accept_test: bool, sending: bool = True) -> Iterator[Bridge]:
    """
    Give the bridge that *config* describes; with the sole right to send, unless not *sending*.

    Raises `TryAgain` where another one runs, `ConfigError`, `NeedsOperator`, `StorageFailed`.
    """
    configuration.check(config)
    # All that mail may need is loaded now, not with the first mail that needs it: an upgrade on the
    # disk must not meet the older half of us.
    log.debug("loaded %d kinds and %s", len(kinds.kinds()), parsed.__name__)
    compose.check(config.source, load_rules(config.rules))
    directory = config.state_dir
    make(directory)
    with ExitStack() as stack:
        if sending:
            lock = SenderLock(directory)
            stack.callback(lock.release)
        state = stack.enter_context(opened(config))
        if sending:
            state.outbox.inspector.check_pages()
        if sending and (why := state.outbox.stand_ins.stopped()):
            # Whoever starts it has seen to that, or will hear of it again.
            log.warning("stand_in counts again, which it did not any more: %s", why)
            with state.outbox.transaction():
                state.outbox.stand_ins.begin_again()
        try:
            maildir.make_maildir(state.spool)
        except OSError as error:
            raise StorageFailed(f"{state.spool}: cannot be made: {error.strerror}") from error
        failpoint.reached("state-made")
        on_bus = OnBus(directory / JOURNAL, state.key.entity)
        stack.callback(on_bus.close)
        ours = Bridge(config, state, accept_test=accept_test, on_bus=on_bus)
        stack.callback(ours.gateway.rest)
        yield ours


_TICKS: Final = 0.05


def process_start() -> float:
    """
    Return when this process began, as Unix time: what is newer came while we started.

    Never earlier than it was: a mail delivered just before must not count as new.
    """
    # Field 22 of proc(5)'s stat is in clock ticks since boot; the name in field 2 may hold blanks.
    fields = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    # The tick was cut off, and a file's ctime lags behind by as much (it is the kernel's jiffy).
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks) + _TICKS


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(Path(path).expanduser()))
