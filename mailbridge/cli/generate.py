"""`mailbridge generate`: made-up mail, at a rate, into a Maildir, an mbox or a mail server."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from mailbridge.traffic import Profile

SUMMARY = "Made-up mail, into a Maildir, an mbox or a mail server, at a rate"
GROUP = "test and operate"
EXAMPLE = """\
mailbridge generate --maildir /tmp/Maildir --count 500 --rate 20 --faults duplicate,truncated
  mailbridge generate --maildir /tmp/Maildir --profile dinstall --count 0
  mailbridge generate --mbox /tmp/made-up.mbox --mix all --faults all --expect /tmp/expected.jsonl
  mailbridge generate --maildir /tmp/Maildir --sign --keyring /tmp/made-up.gpg --faults tampered
  mailbridge generate --smtp localhost:25 --to mailbridge@lists.example.org --count 20"""

_ENDLESS: Final = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `generate`."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--maildir", type=Path, metavar="DIR", help="deliver there, as an MDA does")
    where.add_argument(
        "--mbox",
        metavar="FILE",
        help="write a new mbox, for 'ingest --mbox' (mboxrd); -: standard output",
    )
    where.add_argument(
        "--smtp",
        type=_address,
        metavar="HOST:PORT",
        help="hand them to this mail server, without a sender",
    )
    parser.add_argument(
        "--to",
        default="mailbridge@localhost",
        metavar="ADDRESS",
        help="whom --smtp sends to (default: mailbridge@localhost)",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=100,
        metavar="N",
        help="files delivered, faults included; 0: until stopped (default: 100)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=None,
        metavar="R",
        help="mails a second, on average; 0: as fast as possible (default: 0, or the profile's)",
    )
    parser.add_argument(
        "--profile",
        type=_profile,
        default=None,
        metavar="NAME",
        help="mix, rate and bursts of a sort of day: quiet, dinstall, mass-bug-filing, transition,"
        " list-outage; --mix, --rate and --faults change them",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="the same seed gives the same bytes"
    )
    parser.add_argument(
        "--mix",
        type=_mix,
        default=None,
        metavar="WORD=N,...",
        help="how often what comes (default: uploads=5,bugs=4,noise=1; also: followups, control,"
        " archive, migrations, builds, launchpad, trackers, security, mentors); all: every kind",
    )
    parser.add_argument(
        "--faults",
        type=_faults,
        default=None,
        metavar="WORD,...",
        help="what goes wrong: duplicate, truncated, latin1, forged, redelivered, wrapped,"
        " tampered, resent, oversize, or all",
    )
    parser.add_argument(
        "--max-mail",
        type=_size,
        default=None,
        metavar="SIZE",
        help="what the bridge takes; 'oversize' mails are larger (default: 25M)",
    )
    parser.add_argument(
        "--sign",
        action="store_true",
        help="sign what its sender signs, with a key that everybody has; the same bytes each time",
    )
    parser.add_argument(
        "--keyring",
        type=Path,
        metavar="FILE",
        help="write the public key of --sign, for 'keyrings' of a source that tests",
    )
    parser.add_argument(
        "--expect",
        default=None,
        metavar="FILE",
        help='write the events that the mails must become, one {"tag", "data"} a line; -: print;'
        " with --sign: where the bridge has the key",
    )


def run(arguments: argparse.Namespace) -> int:
    """Deliver the mails.  Ctrl-C ends it with what was delivered so far, and 0."""
    import itertools
    import json
    import time

    from mailbridge import traffic
    from mailbridge.errors import UsageError

    day = arguments.profile or traffic.EVEN
    count, rate = arguments.count, day.rate if arguments.rate is None else arguments.rate
    if count < 0 or rate < 0:
        raise UsageError("--count and --rate cannot be negative")
    if count == _ENDLESS and not rate:
        raise UsageError("--count 0 without --rate would fill the disk; say how many a second")
    if arguments.mbox == arguments.expect == "-":
        raise UsageError("--mbox - and --expect - cannot both be standard output")

    if arguments.keyring and not arguments.sign:
        raise UsageError("--keyring is for the key of --sign; without that nothing is signed")

    key = traffic.Key() if arguments.sign else None
    if key and arguments.keyring:
        _write(arguments.keyring, key.keyring)
    posts = traffic.mails(
        arguments.seed,
        mix=arguments.mix or day.mix,
        faults=day.faults if arguments.faults is None else arguments.faults,
        max_mail=arguments.max_mail or traffic.MAX_MAIL,
        key=key,
    )
    delivered, known = 0, set[str]()
    with (
        _delivery(arguments) as (deliver, place),
        _written(arguments.expect) as expectations,
        _progress(count) as advance,
    ):
        began = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt):
            for post in itertools.islice(posts, count or None):
                if rate:
                    # By the clock, not by the pause: late mails catch up, the rate holds.
                    time.sleep(max(0.0, began + day.due(delivered, rate) - time.monotonic()))
                deliver(post.raw, delivered)
                delivered += 1
                for news in post.news:
                    if expectations and news.key not in known:
                        known.add(news.key)
                        line = json.dumps({"tag": news.tag, "data": news.data}, ensure_ascii=False)
                        print(line, file=expectations, flush=True)
                advance()
    told = f", {len(known)} events expected" if expectations else ""
    print(f"delivered {delivered} mails {place}{told}", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _delivery(
    arguments: argparse.Namespace,
) -> Iterator[tuple[Callable[[bytes, int], object], str]]:
    """Give what delivers a mail, with its number, and where to, for a person."""
    from mailbridge import traffic

    if arguments.smtp:
        host, port = arguments.smtp
        with traffic.Smtp(host, port, arguments.to) as server:
            yield lambda raw, _: server.deliver(raw), f"to {arguments.to} at {host}:{port}"
    elif arguments.mbox:
        with _mbox(arguments.mbox) as write:
            yield lambda raw, _: write(traffic.in_mbox(raw)), f"into {arguments.mbox}"
    else:
        maildir = arguments.maildir
        yield lambda raw, number: traffic.deliver(raw, maildir, number), f"into {maildir}"


@contextlib.contextmanager
def _mbox(path: str) -> Iterator[Callable[[bytes], None]]:
    """Give what writes to the mbox *path*, which must not hold anything yet; `-`: prints."""
    from mailbridge.errors import StorageFailed, UsageError

    def write(raw: bytes) -> None:
        file.write(raw)
        # (Whoever reads along gets whole mails.)
        file.flush()

    if path == "-":
        file = sys.stdout.buffer
        yield write
        return
    try:
        # Somebody's mail may be in it; it is neither cut off nor mixed with ours.
        if Path(path).is_file() and Path(path).stat().st_size:
            raise UsageError(f"--mbox {path}: is there already; name a new file")
        file = Path(path).open("ab")  # noqa: SIM115 - `with file` is below
    except OSError as error:
        raise StorageFailed(f"{path}: cannot be written: {error.strerror}") from error
    with file:
        try:
            yield write
        except OSError as error:
            raise StorageFailed(f"{path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _written(path: str | None) -> Iterator[TextIO | None]:
    """Give the file that the expectations go to, standard output for `-`, or None."""
    if path is None or path == "-":
        yield sys.stdout if path else None
        return
    from mailbridge.errors import StorageFailed

    try:
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - `with file` is below
    except OSError as error:
        raise StorageFailed(f"{path}: cannot be written: {error.strerror}") from error
    with file:
        yield file


def _write(path: Path, raw: bytes) -> None:
    from mailbridge.errors import StorageFailed

    try:
        path.write_bytes(raw)
    except OSError as error:
        raise StorageFailed(f"{path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _progress(count: int) -> Iterator[Callable[[], None]]:
    """Give what to call after each mail; a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("delivering", total=count or None)
        yield lambda: bar.advance(task)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r}: HOST:PORT, as localhost:25")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _profile(text: str) -> Profile:
    from mailbridge.traffic import PROFILES

    if text not in PROFILES:
        raise argparse.ArgumentTypeError(f"{text!r}: one of {', '.join(PROFILES)}")
    return PROFILES[text]


def _size(text: str) -> int:
    from mailbridge.config import size
    from mailbridge.errors import ConfigError

    try:
        return size(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: a size as 256K or 25M") from error


def _mix(text: str) -> dict[str, int]:
    from mailbridge.traffic import EVERYTHING, WORDS

    if text == "all":
        return dict(EVERYTHING)
    mix: dict[str, int] = {}
    for entry in text.split(","):
        word, _, weight = entry.partition("=")
        if word not in WORDS or not weight.isdecimal():
            raise argparse.ArgumentTypeError(f"{entry!r}: WORD=N, with WORD of {', '.join(WORDS)}")
        mix[word] = int(weight)
    if not any(mix.values()):
        raise argparse.ArgumentTypeError(f"{text!r}: nothing in the mix")
    return mix


def _faults(text: str) -> tuple[str, ...]:
    from mailbridge.traffic import FAULTS

    if text == "all":
        return FAULTS
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word not in FAULTS:
            raise argparse.ArgumentTypeError(f"{word!r}: one of {', '.join(FAULTS)}, or all")
    return words
