"""Real processes of mailbridge for tests: started, waited for, killed; and small mails for them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mailbridge import failpoint
from mailbridge.event import VerifiedEvent
from mailbridge.reader import listen

PATIENCE: Final = 60.0
"""A guard against hanging; nothing here takes a tenth of it."""

ANY_PORT: Final = "tcp://127.0.0.1:0"
LOOPBACK: Final = (
    *("--submit", ANY_PORT),
    *("--publish", ANY_PORT),
    *("--read", ANY_PORT),
)


def upload(n: int, *, package: str = "") -> bytes:
    """Return the mail by which dak announces an upload, as a list delivers it."""
    name = package or f"package{n}"
    return f"""\
List-Id: <devel-changes.lists.example.org>
From: Archive Masters <ftpmaster@archive.example.org>
To: devel-changes@lists.example.org
X-DAK: dak process-upload
X-Debian: DAK
Debian: DAK
Debian-Changes: {name}_1.{n}-1_source.changes
Debian-Source: {name}
Debian-Version: 1.{n}-1
Debian-Architecture: source
Debian-Suite: unstable
Debian-Archive-Action: accept
Subject: Accepted {name} 1.{n}-1 (source) into unstable
Message-Id: <upload-{n}@archive.example.org>
Date: Tue, 10 Sep 2024 10:20:40 +0000

Format: 1.8
Date: Tue, 10 Sep 2024 12:00:00 +0200
Source: {name}
Architecture: source
Version: 1.{n}-1
Distribution: unstable
Urgency: medium
Maintainer: Jane Doe <jane@example.org>
Changed-By: Jane Doe <jane@example.org>
Changes:
 {name} (1.{n}-1) unstable; urgency=medium
 .
   * News number {n}.
Checksums-Sha256:
 {n:064x} 2010 {name}_1.{n}-1.dsc
Files:
 {n:032x} 2010 devel optional {name}_1.{n}-1.dsc
""".encode()


def report(n: int) -> bytes:
    """Return the mail by which debbugs announces a bug, as a list delivers it."""
    return f"""\
List-Id: <bugs-dist.lists.example.org>
Subject: Bug#{n}: package{n}: does not greet
Resent-From: Jane Doe <jane@example.org>
Resent-Message-ID: <handler.{n}.B.1741338{n}@bugs.example.org>
X-Debian-PR-Message: report {n}
X-Debian-PR-Package: package{n}
X-Debian-PR-Keywords:
From: Jane Doe <jane@example.org>
To: submit@bugs.example.org
Message-ID: <report-{n}@example.org>
Date: Fri, 7 Mar 2025 10:00:00 +0100

Package: package{n}
Version: 1.{n}-1

It says nothing.
""".encode()


def chat(n: int) -> bytes:
    """Return a mail that is of no interest."""
    return f"From: jane@example.org\nSubject: lunch {n}\nMessage-ID: <{n}@x>\n\nAt one?\n".encode()


def make_maildir(path: Path) -> Path:
    """Make an empty Maildir."""
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(parents=True)
    return path


def put(maildir: Path, raw: bytes, name: str, *, by: str = "rename") -> Path:
    """Deliver *raw* as MDAs do: by `rename`, by `link`, or straight into `cur`."""
    held = maildir / "tmp" / name
    held.write_bytes(raw)
    if by == "link":
        final = maildir / "new" / name
        os.link(held, final)
        held.unlink()
    else:
        final = maildir / "new" / name if by == "rename" else maildir / "cur" / f"{name}:2,S"
        held.rename(final)
    return final


AS_ANYBODY: Final = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""Starts a program that may enter and read no more than file modes say, though root starts it."""


class Daemon:
    """A mailbridge in a process of its own; what it says is kept."""

    def __init__(
        self,
        *words: str | Path,
        fail_at: str = "",
        preamble: str = "",
        through: Sequence[str | Path] = (),
        cwd: Path | None = None,
        stdout: Path | None = None,
    ) -> None:
        """
        Start it, *through* another program that becomes it, from the code that lies in *cwd*.

        *preamble* is Python that its process runs before anything else.  What it prints, but for
        what it says on standard error, goes to the file *stdout*.
        """
        self._news: Final = threading.Condition()
        self._lines: Final[list[str]] = []
        self._ended = False
        environment = {**os.environ, failpoint.VARIABLE: fail_at}
        with Path(stdout or os.devnull).open("wb") as printed:
            self._process: Final = subprocess.Popen(
                [*map(str, through), sys.executable, *self._program(preamble), *map(str, words)],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        self._listener: Final = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        self._listener.join(PATIENCE)
        if self._process.stderr:
            self._process.stderr.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    @property
    def said(self) -> str:
        """All it said so far."""
        with self._news:
            return "\n".join(self._lines)

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until a line of it matches *pattern*, and return the match."""
        with self._news:
            at = 0
            while True:
                for line in self._lines[at:]:
                    if found := re.search(pattern, line):
                        return found
                at = len(self._lines)
                if self._ended or not self._news.wait(PATIENCE):
                    heard = "\n".join(self._lines)
                    raise AssertionError(f"never said {pattern!r}:\n{heard}")

    def counted(self, pattern: str, count: int, *, unless: str = "(?!)") -> bool:
        """
        Wait until *count* lines of it match *pattern*.

        False: before that it ended, or said *unless*.
        """
        with self._news:
            while sum(1 for line in self._lines if re.search(pattern, line)) < count:
                if self._ended or any(re.search(unless, line) for line in self._lines):
                    return False
                if not self._news.wait(PATIENCE):
                    heard = "\n".join(self._lines)
                    raise AssertionError(f"never said {pattern!r} {count} times:\n{heard}")
        return True

    def ready(self) -> dict[str, str]:
        """Wait for the ready line, and return what it names."""
        line = self.says(r"^ready ").string
        words = shlex.split(line.partition(" | ")[0])
        return dict(word.split("=", 1) for word in words[1:])

    def stopped(self) -> None:
        """Wait until it has stopped itself, as a failpoint tells it to."""
        news = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if news is None or news.si_code != os.CLD_STOPPED:
            raise AssertionError(f"never stopped:\n{self.said}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end and return the status; negative: the signal that ended it."""
        status = self._process.wait(seconds)
        self._listener.join(PATIENCE)
        return status

    def outlive(self, seconds: float) -> None:
        """Let it work for *seconds*.  Raises `TimeoutError`, unless it ended before."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error

    def kill(self) -> int:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def stop(self) -> int:
        """End it as systemd would."""
        self.signal(signal.SIGTERM)
        return self.wait()

    @staticmethod
    def _program(preamble: str) -> tuple[str, ...]:
        if not preamble:
            return ("-m", "mailbridge")
        return ("-c", f"{preamble}\nfrom mailbridge.cli import entry\nentry()")

    def _listen(self) -> None:
        for line in self._process.stderr or ():
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


def read_events(
    url: str, state: Path, count: int, *, timeout: float = PATIENCE
) -> list[VerifiedEvent]:
    """Return the first *count* events of a relay, verified, their feeds proved without a gap."""
    events: Iterator[VerifiedEvent] = listen(url, state=state, since="start", timeout=timeout)
    return [next(events) for _ in range(count)]


def said_by(events: Sequence[VerifiedEvent]) -> list[str]:
    """Return what *events* tell, in a word each."""
    return [
        f"bug {event.data['bug']}" if "bug" in event.data else f"upload {event.data['source_name']}"
        for event in events
    ]
