"""SIGHUP: what a service reads is read again; what it cannot be is told in a line, and no more."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, said_by, upload

KEPT: Final = "SIGHUP: .*; what was read before holds$"
READ: Final = "SIGHUP: the configuration was read again$"


class Site:
    """A service with a configuration file that somebody edits."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self.state: Final = directory / "state"
        self.settings: Final = directory / "mailbridge.toml"
        self.first: Final = make_maildir(directory / "first")
        self.second: Final = make_maildir(directory / "second")
        self.write(self.source("first"))

    def source(self, name: str, more: str = "") -> str:
        """Return the lines of a source that takes mail of the Maildir *name*."""
        maildir = self.directory / name
        return f'[[source]]\nname = "{name}"\nmaildir = "{maildir}"\nexisting = "emit"\n{more}\n'

    def write(self, *sources: str) -> None:
        """Have the file say that."""
        self.settings.write_text("".join([f'state = "{self.state}"\n', *sources]))

    def run(self) -> Daemon:
        """Start bridge and relay."""
        return Daemon("-c", self.settings, "run", *LOOPBACK)


def gone(site: Site) -> None:
    """Have no file there."""
    site.settings.unlink()


def cut_off(site: Site) -> None:
    """Have a file that ends in the middle of a line."""
    site.settings.write_text(site.settings.read_text().partition("maildir")[0] + "maild")


def in_latin_1(site: Site) -> None:
    """Have a file that is no UTF-8."""
    site.settings.write_bytes(b'state = "\xff"\n')


def contradicting(site: Site) -> None:
    """Have two sources of one Maildir that want different things."""
    again = site.source("second", "after = 'seen'").replace('name = "second"', 'name = "again"')
    site.write(site.source("second"), again)


def without_its_rules(site: Site) -> None:
    """Have rules of the site named that are not there."""
    site.write('rules = "/nowhere/rules.toml"\n', site.source("second"))


def saying(more: str) -> Callable[[Site], None]:
    """Have a source that says *more* than that it is there."""
    return lambda site: site.write(site.source("second", more))


# What an operator's editor leaves behind.
BAD: Final[dict[str, Callable[[Site], None]]] = {
    "no file": gone,
    "cut off": cut_off,
    "not UTF-8": in_latin_1,
    "two that contradict each other": contradicting,
    "a word that nobody knows": saying("exsting = 'skip'"),
    "a kind that nobody knows": saying("kinds = ['x']"),
    "a proof without what it needs": saying("require = 'archive-signature'"),
    "a keyring that is not there": saying("keyrings = ['/nowhere/no.gpg']"),
    "rules that are not there": without_its_rules,
}


@pytest.mark.fault(46)
def test_after_a_reload_with_a_bad_configuration_the_old_one_is_kept(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.run() as daemon:
        url = daemon.ready()["read"]
        for n, (name, spoil) in enumerate(BAD.items(), 1):
            site.write(site.source("first"))
            spoil(site)
            daemon.signal(signal.SIGHUP)
            assert daemon.counted(KEPT, n, unless=READ), f"{name}:\n{daemon.said}"
            put(site.first, upload(n), f"{n}.a")
            put(site.second, upload(1000 + n), f"{n}.b")
        told = read_events(url, site.state, len(BAD))
        # And a good one counts, with all that waited for it.
        site.write(site.source("second"))
        daemon.signal(signal.SIGHUP)
        daemon.says(READ)
        events = read_events(url, site.state, 2 * len(BAD))
        assert daemon.stop() == 0

    assert said_by(told) == [f"upload package{n}" for n in range(1, len(BAD) + 1)]
    assert said_by(events[len(BAD) :]) == [f"upload package{1000 + n}" for n in range(1, n + 1)]
    assert "Traceback" not in daemon.said


def test_what_a_bad_configuration_lacks_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.run() as daemon:
        daemon.ready()
        site.write(site.source("first", "requier = 'none'"))
        daemon.signal(signal.SIGHUP)
        line = daemon.says(KEPT).string
        assert daemon.stop() == 0

    assert f"{site.settings}: " in line
    assert "requier: no such setting; did you mean 'require'?" in line


def test_what_only_a_start_can_change_is_told_and_stays(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.run() as daemon:
        url = daemon.ready()["read"]
        site.settings.write_text(f'state = "{tmp_path}/other"\n{site.source("second")}')
        daemon.signal(signal.SIGHUP)
        daemon.says("state: counts from the next start$")
        daemon.says(READ)
        put(site.second, upload(1), "1.a")
        [event] = read_events(url, site.state, 1)
        assert daemon.stop() == 0

    assert said_by([event]) == ["upload package1"]
    assert not (tmp_path / "other").exists()


@pytest.mark.fault(46)
def test_a_relay_goes_on_with_what_it_read_before(tmp_path: Path) -> None:
    settings = tmp_path / "mailbridge.toml"
    settings.write_text("")
    with Daemon("-c", settings, "relay", "--state", tmp_path / "state", *LOOPBACK) as relay:
        url = relay.ready()["read"]
        settings.write_text("[relay]\nkeep = 'for ever'\n[relai]\n")
        relay.signal(signal.SIGHUP)
        relay.says(KEPT)
        with pytest.raises(TimeoutError):
            relay.outlive(0)
        with Daemon("tail", url, "--state", tmp_path / "state", "--timeout", "0.1") as tail:
            assert tail.wait() == 0, tail.said
        settings.write_text("")
        relay.signal(signal.SIGHUP)
        relay.says("SIGHUP: keys and policy are as they are now")
        assert relay.stop() == 0
