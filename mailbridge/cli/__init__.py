"""
The command line: parse arguments, print, exit status; nothing else knows about a terminal.

One module is one command, found by itself: `SUMMARY` (a line), `GROUP` (a heading of `mailbridge
-h`), `EXAMPLE` (what can be pasted), `add_arguments(parser)` and `run(arguments) -> int`.  A module
imports what it needs inside `run`, so that each command pays only for what it uses.

What is here is what every start pays for, the pipe of an MTA included: next to nothing.
"""

from __future__ import annotations

import os
import sys

# What type checkers take for `typing.TYPE_CHECKING`, without importing `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from mailbridge.cli._commands import GROUPS, Command, load, names, overview, parser_of

__all__ = ["GROUPS", "Command", "entry", "load", "main", "names", "overview", "parser_of"]

_TRY_AGAIN = 75


def main(words: Sequence[str] | None = None) -> int:
    """Run the command in *words* and return its exit status.  Never raises one of our errors."""
    words = list(sys.argv[1:] if words is None else words)
    name, config, rest = _split(words)
    if _is_pipe(words):
        from mailbridge.cli._pipe import pipe

        return pipe(rest, config)
    from mailbridge.cli import _commands

    return _commands.run(name, config, rest)


def entry() -> NoReturn:
    """
    Run the command in `sys.argv` and end the process with its status.

    The pipe ends with 0 or 75 and nothing else: an MTA bounces on anything else, a bug of ours
    included, and a bounce unsubscribes us from the list.
    """
    if not _is_pipe(sys.argv[1:]):
        sys.exit(main())
    status = _TRY_AGAIN
    try:
        _end_cleanly_on_signals()
        status = 0 if main() == 0 else _TRY_AGAIN
    except BaseException as error:  # noqa: BLE001 - what is bounced is lost, so whatever it is
        _say_without_fail(error)
    finally:
        # Not sys.exit: what runs after it (atexit, flushing) has statuses of its own.
        os._exit(status)


def _is_pipe(words: list[str]) -> bool:
    """Say whether this is `ingest -`, wrong options before or after it notwithstanding."""
    name, _, rest = _split(words)
    return "-" in rest and (name == "ingest" or (name is None and "ingest" in rest))


def _end_cleanly_on_signals() -> None:
    import signal

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    # (SIGINT raises by itself.)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def _say_without_fail(error: BaseException) -> None:
    try:
        print(f"mailbridge: {error!r}; the mail stays with the sender", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        # Standard error is closed, too: the status has to say it all.
        return


def _split(words: list[str]) -> tuple[str | None, str | None, list[str]]:
    """Return (the command or None, the configuration file or None, the rest)."""
    config = None
    at = 0
    while at < len(words) and words[at].startswith("-"):
        if words[at] in ("-c", "--config") and at + 1 < len(words):
            config = words[at + 1]
            at += 2
        elif words[at].startswith("--config="):
            config = words[at].partition("=")[2]
            at += 1
        else:
            return None, config, words[at:]
    if at == len(words):
        return None, config, []
    return words[at], config, words[at + 1 :]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the attribute is
    if name in __all__:
        from mailbridge.cli import _commands

        return getattr(_commands, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
