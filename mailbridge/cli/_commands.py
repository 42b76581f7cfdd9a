"""The commands: finding them, their parsers, `mailbridge -h`, and what an error ends with."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, cast

from mailbridge.errors import MailbridgeError, UsageError

GROUPS: Final = (
    "run the gateway",
    "see and use what flows",
    "understand a mail",
    "keys, trust, proof",
    "test and operate",
)


class Command(Protocol):
    """What a module of this package has to offer to be a command."""

    SUMMARY: str
    GROUP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own options to *parser*."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit status."""


def names() -> list[str]:
    """Return the names of all commands.  A module `import_` is the command `import`."""
    here = Path(__file__).parent
    found = (path.stem for path in here.glob("*.py") if not path.stem.startswith("_"))
    return sorted(name.rstrip("_") for name in found)


def load(name: str) -> Command:
    """Return the module of the command *name*."""
    if not (Path(__file__).parent / f"{name}.py").is_file():
        name += "_"
    return cast(Command, importlib.import_module(f"mailbridge.cli.{name}"))


def run(name: str | None, config: str | None, rest: Sequence[str]) -> int:
    """Run the command *name*, or tell of all if it is None.  Never raises one of our errors."""
    try:
        if name is None:
            return _overview(list(rest))
        if name not in names():
            raise UsageError(_no_such(name))
        command = load(name)
        arguments = parser_of(name, command).parse_args(rest)
        arguments.config = Path(config) if config else None
        status = command.run(arguments)
        # Here, and not at the interpreter's end, a broken pipe can still be answered with silence.
        sys.stdout.flush()
    except MailbridgeError as error:
        from mailbridge.service import one_line

        # (A stranger's words may be in it.)
        lines = (one_line(line) for line in str(error).split("\n"))
        print("mailbridge:", "\n".join(lines), file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read us has seen enough.  What is still buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def parser_of(name: str, command: Command) -> argparse.ArgumentParser:
    """Return the parser of one command; its help ends with an example."""
    parser = argparse.ArgumentParser(
        prog=f"mailbridge {name}",
        description=command.SUMMARY,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser


def overview() -> str:
    """Return what `mailbridge -h` prints."""
    lines = ["usage: mailbridge [-c FILE] <command> [<args>]", ""]
    commands = [(name, load(name)) for name in names()]
    for group in GROUPS:
        lines.append(group)
        lines += [f"   {name:<12} {c.SUMMARY}" for name, c in commands if group == c.GROUP]
        lines.append("")
    lines += [
        "'mailbridge <command> -h' tells more of each and shows an example.",
        "",
        "example:",
        "  mailbridge demo",
    ]
    return "\n".join(lines)


def _overview(rest: list[str]) -> int:
    if rest[:1] == ["--version"]:
        from mailbridge import __version__

        print(f"mailbridge {__version__}")
        return 0
    if rest[:1] in (["-h"], ["--help"]):
        print(overview())
        return 0
    print(overview(), file=sys.stderr)
    return 2


def _no_such(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "'mailbridge -h' lists them"
    return f"{name[:40]!r}: no such command; {hint}"
