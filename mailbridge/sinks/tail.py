"""Events on a terminal, or as JSON lines for a program."""

from __future__ import annotations

from datetime import datetime
from typing import BinaryIO, Final, Protocol, TextIO

from rich.console import Console
from rich.text import Text

from mailbridge.event import SignedEvent, VerifiedEvent
from mailbridge.sinks.show import is_proved, safe, safe_json, summary


class Shows(Protocol):
    """Where events go."""

    def show(self, event: SignedEvent) -> None:
        """Show *event*; it is out of our hands when this returns."""


class Lines:
    """
    Each event's stored bytes, unchanged, and a newline.

    On a terminal what it could take for a command is written as JSON's own escapes.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out: Final = out
        self._is_terminal: Final = out.isatty()

    def show(self, event: SignedEvent) -> None:
        """Write *event*."""
        # (Whatever follows us in a pipe waits for it.  JSON of ours has no newline inside.)
        self._out.write((safe_json(event.raw) if self._is_terminal else event.raw) + b"\n")
        self._out.flush()


class Screen(Console):
    """rich's Console, except that a broken pipe is for our caller to answer, not with status 1."""

    def on_broken_pipe(self) -> None:
        """Let the BrokenPipeError that is being handled go on."""
        raise  # noqa: PLE0704 - rich calls this while it handles one


_COLOURS: Final = (
    ("package-upload-accepted", "green"),
    ("package-upload-rejected", "red"),
    ("package-upload-", "yellow"),
    ("bug-closed", "cyan"),
    ("bug-", "magenta"),
)
_INDENT: Final = "  "


class Words:
    """Each event in one to three lines for a person; colours only on a terminal."""

    def __init__(self, out: TextIO) -> None:
        # (What a stranger wrote is text, never markup; lines are not broken: a pipe counts them.)
        self._console: Final = Screen(file=out, highlight=False, markup=False, soft_wrap=True)

    def show(self, event: SignedEvent) -> None:
        """Write *event*."""
        first, *rest = [event.tag] if event.redacted else summary(event.tag, event.data)
        line = Text()
        line.append(f"{local(event.time)}  ", style="dim")
        if not isinstance(event, VerifiedEvent):
            line.append("UNVERIFIED", style="bold white on red")
            line.append(" ")
        line.append(first, style=_colour(event.tag))
        marks = _marks(event)
        if marks:
            line.append(f"  [{', '.join(marks)}]", style="yellow")
        self._console.print(line)
        for text in rest:
            self._console.print(Text(_INDENT + text, style="dim"))
        self._console.file.flush()


def local(time: str) -> str:
    """
    Return *time*, ISO 8601 as an event has it, as this machine's clock says it, with its offset.

    What is no time is returned as it is, escaped.
    """
    try:
        return datetime.fromisoformat(time).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError):
        return safe(time[:40])


def _marks(event: SignedEvent) -> list[str]:
    marks = []
    if event.redacted:
        reason = f": {event.redacted.reason}" if event.redacted.reason else ""
        marks.append(safe(f"taken away{reason}"))
    if "provenance" in event.data and not is_proved(event.data):
        marks.append("unproved")
    if event.data.get("backfill") is True:
        marks.append("backfill")
    return marks


def _colour(tag: str) -> str:
    name = tag.rpartition(".")[2]
    return next((colour for start, colour in _COLOURS if name.startswith(start)), "")
