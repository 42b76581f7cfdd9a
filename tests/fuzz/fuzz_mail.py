"""
Fuzz what mails become, guided by what of our code each reaches.

`python -m tests.fuzz.fuzz_mail -max_total_time=600 -max_len=65536`, with the extra `[fuzz]`.
The seeds are our fixtures; a directory as argument keeps what is found.  An input that breaks
something is written to `/tmp/crash-...`; `python -m tests.fuzz.fuzz_mail FILE` runs it again.
"""

from __future__ import annotations

import logging
import tempfile
import zlib
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["mailbridge", "mailparser", "debian", "email"]):
    from mailbridge import parsed, rules
    from mailbridge.bridge.compose import Examined, examine
    from mailbridge.bridge.prove import Prover
    from mailbridge.config import Source
    from mailbridge.kinds import kinds
    from mailbridge.sinks.show import backing, safe, signature, summary

    # (They are imported when they are asked for.)
    LATE: Final = (kinds(), parsed)

from tests.conftest import NOON
from tests.fuzz.seeds import FIXTURES, arguments, mails, words_of
from tests.invariants import NO_TERMINAL_S, is_sound

SOURCES: Final = (
    Source(name="all", maildir="/nowhere"),
    Source(
        name="proved",
        maildir="/nowhere",
        hops=("mx.example.org",),
        authserv_id="mx.example.org",
        dkim_domains=("archive.example.org", "example.org"),
    ),
)
PROVER: Final = Prover(SOURCES)
RULES: Final = rules.load(str(FIXTURES / "_rules"))


def one_input(data: bytes) -> None:
    """Examine *data* as a mail of one of the sources, and hold the outcome against what must be."""
    which = zlib.crc32(data)
    source = SOURCES[which % len(SOURCES)]
    found = examined(data, source)
    is_sound(found)
    # (Not of each, which would be half the speed.)
    assert which % 16 or found == examined(data, source)
    shown = [safe(found.reason or ""), safe(found.subject)]
    for event in found.events:
        shown += [*summary(event.tag, event.data), backing(event.data)]
        shown.append(signature(event.data) or "")
    assert not NO_TERMINAL_S.search("\n".join(shown))


def examined(data: bytes, source: Source) -> Examined:
    """Examine *data* with everything switched on."""
    return examine(
        data,
        source,
        received=NOON,
        everything=True,
        accept_test=True,
        addresses=True,
        prover=PROVER,
        rules=RULES,
    )


def main() -> None:
    """Run until libFuzzer is told to end, or something breaks."""
    logging.disable(logging.CRITICAL)
    assert LATE
    with tempfile.TemporaryDirectory() as scratch:
        words = dict.fromkeys(word for _, mail in mails() for word in words_of(mail))
        atheris.Setup(arguments(Path(scratch), mails(), words), one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
