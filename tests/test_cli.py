"""The command line as a whole: help, unknown words, exit statuses."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailbridge import __version__, cli
from mailbridge.cli import _commands as commands
from mailbridge.errors import (
    BadInput,
    ConfigError,
    MailbridgeError,
    NotPermitted,
    RelayGone,
    StorageFailed,
    TryAgain,
    UnknownOrigin,
    UsageError,
)

HEAVY = ("zmq", "nacl", "msgspec", "watchdog", "mailparser", "debian", "rich", "sqlite3", "asyncio")


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command, and each word of one that has several, with its parser."""
    for name in commands.names():
        parser = commands.parser_of(name, commands.load(name))
        yield name, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{name} {word}", sub) for word, sub in action.choices.items())


each_help = pytest.mark.parametrize(
    ("name", "parser"), [pytest.param(*each, id=each[0]) for each in _parsers()]
)


def test_the_overview_names_each_command_under_its_heading() -> None:
    told = commands.overview()

    for name in commands.names():
        command = commands.load(name)
        assert command.GROUP in commands.GROUPS
        assert f"   {name:<12} {command.SUMMARY}\n" in told


@each_help
def test_help_ends_with_an_example(name: str, parser: argparse.ArgumentParser) -> None:
    told, _, example = parser.format_help().rstrip().rpartition("example:\n  ")

    assert told
    assert re.search(rf"\bmailbridge (-c \S+ )?{name}\b", example)
    assert all(line.startswith("  ") for line in example.splitlines()[1:])


@each_help
def test_help_explains_each_option(name: str, parser: argparse.ArgumentParser) -> None:
    explained = {action.dest: action.help or action.choices for action in parser._actions}

    assert [dest for dest, words in explained.items() if not words] == [], name


@each_help
def test_help_fits_a_terminal(name: str, parser: argparse.ArgumentParser) -> None:
    # (An example that is pasted may be longer.)
    text = parser.format_help().rpartition("example:")[0]

    assert [line for line in text.splitlines() if len(line) > 80] == [], name


def test_the_overview_fits_a_terminal() -> None:
    assert [line for line in commands.overview().splitlines() if len(line) > 100] == []


def test_the_overview_ends_with_an_example() -> None:
    assert commands.overview().endswith("example:\n  mailbridge demo")


def test_without_a_command_the_overview_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 2

    told = capsys.readouterr()
    assert (told.out, told.err) == ("", commands.overview() + "\n")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_asked_for_goes_to_standard_output(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([word]) == 0

    assert capsys.readouterr().out == commands.overview() + "\n"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0

    assert capsys.readouterr().out == f"mailbridge {__version__}\n"


def test_an_unknown_command_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tial"]) == 2

    assert capsys.readouterr().err == (
        "mailbridge: 'tial': no such command; did you mean 'tail'?\n"
    )


def test_a_command_that_resembles_none_is_told_where_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["frobnicate-the-archive"]) == 2

    assert capsys.readouterr().err.endswith("no such command; 'mailbridge -h' lists them\n")


def test_an_option_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["explain", "--everything", "mail.eml"])

    assert ended.value.code == 2
    assert "--everything" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError, 2),
        (BadInput, 65),
        (RelayGone, 69),
        (StorageFailed, 74),
        (TryAgain, 75),
        (NotPermitted, 77),
        (UnknownOrigin, 77),
        (ConfigError, 78),
    ],
)
def test_an_error_s_exit_status_is_that_of_sysexits(
    error: type[MailbridgeError], status: int
) -> None:
    assert error("").exit_status == status


@pytest.mark.parametrize("words", [["run"], ["bridge"], ["relay"], ["sources"]])
def test_a_broken_configuration_is_one_line_and_status_78(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "mailbridge.toml"
    broken.write_text('statee = "/var/lib/mailbridge"\n')

    assert cli.main(["-c", str(broken), *words]) == 78

    assert capsys.readouterr().err == (
        f"mailbridge: {broken}: statee: no such setting; did you mean 'state'?\n"
    )


def test_a_broken_pipe_is_silent() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mailbridge", "schema", "_lk.mailbridge.bug-closed"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writer:
        assert writer.stdout
        assert writer.stderr
        writer.stdout.close()
        told = writer.stderr.read()

    assert (writer.returncode, told) == (0, b"")


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    program = "; ".join(
        (
            "import sys",
            "from mailbridge.cli import main",
            "main(['-h'])",
            f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)",
        )
    )

    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert told.stderr == "\n"
