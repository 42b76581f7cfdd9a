"""`mailbridge demo`: everything at once, in a throw-away directory, with made-up traffic."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mailbridge.traffic import Stage

SUMMARY = "A throw-away Maildir, bridge, relay and traffic: see live events in one command"
GROUP = "run the gateway"
EXAMPLE = "mailbridge demo --count 20 --rate 5"

# Its first mails are of all sorts; any other would do.
_SEED: Final = 333

_HELLO: Final = """\
Made-up mail goes into a Maildir, from there through bridge and relay to this terminal.
Each event is signed by the bridge, and verified here.  Ctrl-C ends it and removes {directory}.
In another terminal:  mailbridge tail {read} --keys {keys}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `demo`."""
    parser.add_argument("--count", type=int, metavar="N", help="end after N events")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after S seconds")
    parser.add_argument(
        "--rate", type=float, default=1.5, metavar="R", help="mails a second (default: 1.5)"
    )
    parser.add_argument(
        "--seed", type=int, default=_SEED, metavar="S", help="the same seed gives the same mails"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show events until Ctrl-C.  That ends it with 0, and nothing is left behind."""
    from mailbridge.errors import TryAgain, UsageError
    from mailbridge.reader import open_events
    from mailbridge.sinks.tail import Words
    from mailbridge.traffic import Stage

    count, seconds, rate = arguments.count, arguments.seconds, arguments.rate
    if rate <= 0 or (count is not None and count < 1) or (seconds is not None and seconds <= 0):
        raise UsageError("--count, --seconds and --rate must be more than nothing")

    shown = 0
    words = Words(sys.stdout)
    with contextlib.suppress(KeyboardInterrupt), _interrupted_once(), Stage() as stage:
        print(
            _HELLO.format(directory=stage.directory, read=stage.read, keys=stage.keys),
            file=sys.stderr,
            flush=True,
        )
        with (
            open_events(stage.read, since="start", state=stage.state, timeout=seconds) as events,
            _traffic(stage, rate, arguments.seed),
        ):
            stage.on_end = events.stop
            try:
                for event in events:
                    words.show(event)
                    shown += 1
                    if shown == count:
                        break
                else:
                    raise TryAgain(f"the gateway ended: {stage.last_words}")
            except TryAgain:
                # The seconds are over: an error only for who wanted to see a number of events.
                if seconds is None or count is not None:
                    raise
    print(f"\n{shown} events, each verified.  Nothing is left of them.", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _traffic(stage: Stage, rate: float, seed: int) -> Iterator[None]:
    """Deliver made-up mails into the Maildir of *stage*, the first one at once."""
    from mailbridge.traffic import deliver, mails

    ending = threading.Event()

    def write() -> None:
        for number, post in enumerate(mails(seed)):
            deliver(post.raw, stage.maildir, number)
            if ending.wait(1 / rate):
                return

    thread = threading.Thread(target=write, name="traffic")
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


@contextlib.contextmanager
def _interrupted_once() -> Iterator[None]:
    """Let a closed terminal and SIGTERM end us as Ctrl-C does; and a second one not disturb it."""
    import signal

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
