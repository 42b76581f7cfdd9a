"""The program of a worker (see `workers`): shown mails on standard input, it says what they are."""

from __future__ import annotations

import signal
import sys
from typing import Final

import msgspec

from mailbridge.bridge.compose import Examined
from mailbridge.bridge.delivery import Delivery, Settings, examined
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.workers import PATIENCE, Question, Setup, read, stamp, write
from mailbridge.service import set_up_logging

# It ends when its pipe does, and not before: of what it is doing somebody keeps account.
_NOT_OURS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Answer until nobody asks any more."""
    for number in _NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    # Whoever would hear the answer was killed: no more is to be said of that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    set_up_logging()
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    if (words := read(stdin)) is None:
        return
    setup = msgspec.msgpack.decode(words, type=Setup)
    settings = Settings(
        addresses=setup.addresses,
        accept_test=setup.accept_test,
        max_mail=setup.max_mail,
        changes_cap=setup.changes_cap,
    )
    prover = Prover(setup.sources)
    write(stdout, stamp())
    decoder = msgspec.msgpack.Decoder(Question)
    while (words := read(stdin)) is not None:
        # Nobody handles this signal: the kernel ends us even inside a library.
        signal.alarm(PATIENCE)
        answer = msgspec.msgpack.encode(_answer(decoder.decode(words), settings, prover))
        signal.alarm(0)
        write(stdout, answer)


def _answer(question: Question, settings: Settings, prover: Prover) -> list[list[Examined]]:
    found = []
    for shown in question.mails:
        sources = tuple(question.sources[number] for number in shown.sources)
        mail = Delivery(shown.raw, sources, shown.received, backfill=shown.backfill)
        found.append(examined(mail, sources, settings, prover))
    return found
