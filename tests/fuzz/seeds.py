"""What both fuzzers start from: our own fixtures, and the words in them."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

FIXTURES: Final = Path(__file__).parent.parent.parent / "fixtures"

_FLAG: Final = re.compile(r"-\w+(?:=.*)?")
_MOST: Final = 60
"""No word of a dictionary may be longer than libFuzzer takes."""


def arguments(
    scratch: Path, seeds: Iterable[tuple[str, bytes]], words: Iterable[bytes]
) -> Sequence[str]:
    """
    Return libFuzzer's arguments: the ones given, our seeds, and a dictionary of *words*.

    New inputs go to the first directory that is named, or into *scratch*, never to the fixtures.
    """
    given = sys.argv[1:]
    corpus, found = scratch / "corpus", scratch / "seeds"
    corpus.mkdir()
    found.mkdir()
    for name, seed in seeds:
        (found / name).write_bytes(seed)
    dictionary = scratch / "words"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words), encoding="ascii")
    flags = [word for word in given if _FLAG.fullmatch(word)]
    places = [word for word in given if not _FLAG.fullmatch(word)]
    found_here = f"-artifact_prefix={tempfile.gettempdir()}/"
    told = [sys.argv[0], f"-dict={dictionary}", found_here, *flags]
    if places and all(Path(place).is_file() for place in places):
        # These inputs again, and nothing else.
        return [*told, *places]
    return [*told, *(places or [str(corpus)]), str(found)]


def mails() -> Iterable[tuple[str, bytes]]:
    """Yield every mail of ours, named by its case."""
    for case in sorted(FIXTURES.glob("**/mail.eml")):
        yield "-".join(case.relative_to(FIXTURES).parts[:-1]), case.read_bytes()


def words_of(mail: bytes) -> Iterable[bytes]:
    """Yield the beginnings of the lines of *mail*: they are what kinds look for."""
    for line in mail.split(b"\n"):
        name, colon, _ = line.partition(b":")
        word = b"\n" + name + colon if colon else line
        if 3 < len(word) <= _MOST:
            yield word


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)
