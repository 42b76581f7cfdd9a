"""What all tests share: a fixed key, time and zone, and no network beyond this host."""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from mailbridge.signing import SigningKey
from tests.edge_cases import EDGE_CASES
from tests.faults import FAULTS

# They need atheris, of the extra `[fuzz]`; they are run by name.
collect_ignore = ["fuzz"]

NOON: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
"""When tests take place, where the code is told the time."""

ENTITY: Final = "mailbridge.lists.example.org"

# The same examples in every run: a red test is about the change, not about the day.
settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fixed")

_ENOUGH_FOR_A_TABLE: Final = 50
"""Who runs a test or two by hand is spared the table."""

_ADMIN_PATH: Final = "/usr/sbin:/sbin:/usr/lib/dovecot"
"""Where Debian puts programs that are not on everybody's PATH."""


@pytest.fixture
def signer() -> SigningKey:
    """The bridge's key, the same in every run."""
    return SigningKey(ENTITY, bytes(range(32)))


@pytest.fixture
def noon() -> datetime:
    """NOON, for a test that does not import it."""
    return NOON


@pytest.fixture(autouse=True)
def _at_nobodys_desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    # A zone that is neither UTC nor whole hours off: who confuses the two is found out everywhere.
    monkeypatch.setenv("TZ", "XST-05:45")
    time.tzset()
    # Whoever runs the tests has settings of their own, and a terminal of some width and colour.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.delenv(name, raising=False)
    umask = os.umask(0o022)
    yield
    os.umask(umask)
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    # A command sets up logging for a process of its own; here many run in one.
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {logger: logger.level for logger in (root, *_our_loggers())}
    yield
    logging.disable(logging.NOTSET)
    for logger in (root, *_our_loggers()):
        logger.setLevel(levels.get(logger, logging.NOTSET))
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)


def _our_loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict
    ours = (name for name in known if name.startswith(("mailbridge", "mailparser")))
    return [logging.getLogger(name) for name in ours]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is missing; where CI is set, fail it: there it must be run."""
    for marker in item.iter_markers("needs_program"):
        path = os.pathsep.join((os.environ.get("PATH", ""), _ADMIN_PATH))
        missing = [f"no {name} here" for name in marker.args if not shutil.which(name, path=path)]
        if marker.kwargs.get("root") and os.geteuid() != 0:
            missing.append("only root can")
        if missing:
            _not_here(", ".join(missing))


_shown: Final[dict[str, dict[int, set[str]]]] = {"fault": {}, "edge": {}}
"""By marker and number: how the tests that show it ended."""


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Remember, for the table at the end, how a test that shows a fault or edge case ended."""
    if call.when == "teardown" or (call.when == "setup" and call.excinfo is None):
        return
    ended = "passed"
    if call.excinfo is not None:
        ended = "skipped" if call.excinfo.errisinstance(pytest.skip.Exception) else "failed"
    for name, shown in _shown.items():
        for marker in item.iter_markers(name):
            for number in marker.args:
                shown.setdefault(number, set()).add(ended)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which faults were shown, and how that ended: the worst of their tests counts."""
    for name, words in (("fault", FAULTS), ("edge", EDGE_CASES)):
        if len(shown := _shown[name]) < _ENOUGH_FOR_A_TABLE:
            continue
        terminalreporter.section(f"{name}s shown")
        for number, told in words.items():
            ended = shown.get(number, {"not run"})
            worst = next(w for w in ("failed", "passed", "skipped", "not run") if w in ended)
            terminalreporter.line(f"{number:>4}  {worst:<8} {told}")


def _not_here(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


# An audit hook sees every connect of this process, whoever calls it, and cannot be forgotten by a
# test.  (ZeroMQ connects below Python: there, only the endpoint it is given can be looked at.)
def _stay_at_home(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
        if not _is_here(host):
            raise AssertionError(f"a test tried to reach {host}: tests reach loopback only")


def _is_here(host: object) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


sys.addaudithook(_stay_at_home)
