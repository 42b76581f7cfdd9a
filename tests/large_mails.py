"""
Large mails: of any kind, with the lines that cost most in it; made here, kept nowhere.

Each is of the mail that its sender writes, with a body without end.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.hostile_mails import CHANGES, DAK, LANIAKEA, MIB, typed

ODD: Final = b"text/plain; charset*=utf-8''utf-8"
FIXTURES: Final = Path(__file__).parent.parent / "fixtures"


def _as(kind: str, *lines: bytes, size: int = 20 * MIB) -> bytes:
    """Return a mail of *kind* with *lines* again and again behind its own text."""
    raw = _of(kind)
    block = b"\n".join(lines) + b"\n"
    # More lines than `mime` allows would be refused before any kind saw them.
    return raw + block * min((size - len(raw)) // len(block), 480_000 // len(lines))


def _headers_of(kind: str, body: bytes) -> bytes:
    return _of(kind).partition(b"\n\n")[0] + b"\n\n" + body


def _of(kind: str) -> bytes:
    """Return the first mail of *kind* among the fixtures, as one text."""
    cases = sorted(FIXTURES.glob(f"{kind}*/mail.eml" if "/" in kind else f"{kind}/*/mail.eml"))
    mails = [case.read_bytes() for case in cases]
    plain = (raw for raw in mails if not re.search(rb"(?i)multipart/|base64|message/rfc822", raw))
    if found := next(plain, None):
        return found
    head, blank, body = mails[0].partition(b"\n\n")
    head = re.sub(
        rb"(?im)^content-(?:type|transfer-encoding):.*\n(?:[ \t].*\n)*", b"", head + b"\n"
    )
    return head.rstrip(b"\n") + blank + body


def _parts(count: int, part: bytes = b"\nx\n", kind: bytes = b"mixed") -> bytes:
    body = (b"--b0\n" + part) * count
    return typed(b'multipart/%s; boundary="b0"' % kind, body + b"--b0--\n")


def _transcript(bugs: int, size: int) -> bytes:
    """One command that touches *bugs* bugs, as often as fits."""
    rows = b"".join(
        b"Bug #%d [hello] hello: greets nobody who is away\nBug #%d [hello] b\n" % (n, n + 1)
        for n in range(1_000_000, 1_000_000 + bugs, 2)
    )
    block = b"> tags 1000000 patch\n" + rows + b"Added tag(s) patch.\n"
    headers = (
        b"X-Debian-PR-Message: transcript\nSubject: Processed: tagging\n"
        b"To: Jane Doe <jane@example.org>\nMessage-ID: <t@example.org>\n\n"
        b"Processing commands for control@bugs.example.org:\n\n"
    )
    return headers + block * max(1, size // len(block))


def _depth(depth: int, kind: bytes) -> bytes:
    parts = b"".join(
        b'--b%d\nContent-Type: multipart/%s; boundary="b%d"\n\n' % (n, kind, n + 1)
        for n in range(depth)
    )
    return typed(b'multipart/%s; boundary="b0"' % kind, parts)


# name: the mail, made when it is its turn.
LARGE: Final[dict[str, Callable[[], bytes]]] = {
    # -- as the issue names them
    "64 MiB of text": lambda: typed(b"text/plain", b"All work and no play.\n" * (3 * MIB)),
    "64 MiB of one line": lambda: typed(b"text/plain", b"a" * (64 * MIB)),
    "64 MiB of base64": lambda: (
        DAK
        + b"Content-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(b"All work and no play.\n" * (64 * MIB // 30))
    ),
    "64 MiB of headers": lambda: DAK + b"X-Y: " + b"z" * 900 + b"\n" * (64 * MIB // 906),
    "10000 parts": lambda: _parts(10_000),
    "10000 parts, each with a name": lambda: _parts(
        10_000, b'Content-Type: text/plain; name="a.txt"\n\nx\n'
    ),
    "10000 alternatives": lambda: _parts(10_000, kind=b"alternative"),
    "10000 mails inside": lambda: _parts(10_000, b"Content-Type: message/rfc822\n\nX: y\n\nz\n"),
    "9 mails of 2 MiB inside": lambda: _parts(
        9, b"Content-Type: message/rfc822\n\nX: y\n\n" + b"a b\n" * (MIB // 10)
    ),
    "19 texts of a megabyte": lambda: _parts(19, b"\n" + b"Format: 1.8 a b c d\n" * (MIB // 20)),
    "depth 1000": lambda: _depth(1000, b"mixed"),
    "depth 19": lambda: _depth(19, b"mixed") + b"a\n" * 150_000,
    "a header line of 1 MiB in a part": lambda: _parts(2, b"X-Y: " + b"z" * MIB + b"\n\nx\n"),
    "a type of 1 MiB in a part": lambda: _parts(2, b"Content-Type: " + b"z" * MIB + b"\n\nx\n"),
    "a name of 1 MiB in a part": lambda: _parts(
        2, b'Content-Disposition: attachment; filename="' + b"z" * MIB + b'"\n\nx\n'
    ),
    "25 MiB of one line, no ASCII": lambda: typed(b"text/plain", b"\xc3\xa9" * (12 * MIB)),
    "25 MiB of one line, no UTF-8": lambda: typed(b"text/plain", b"\xe9" * (24 * MIB)),
    # (What is not written by the book takes another way.)
    "25 MiB of one line, not by the book": lambda: typed(ODD, b"a" * (24 * MIB)),
    "25 MiB of one line, no ASCII, not by the book": lambda: typed(ODD, b"\xe9" * (24 * MIB)),
    "25 MiB of lines, not by the book": lambda: typed(ODD, (b"a" * 51 + b"\n") * 480_000),
    "25 MiB of lines, no ASCII, not by the book": lambda: typed(
        ODD, (b"\xe9" * 51 + b"\n") * 480_000
    ),
    "25 MiB of base64, not by the book": lambda: (
        DAK
        + b"Content-Type: "
        + ODD
        + b"\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(b"a\n" * (9 * MIB))
    ),
    "25 MiB of quoted-printable, not by the book": lambda: (
        DAK
        + b"Content-Type: "
        + ODD
        + b"\nContent-Transfer-Encoding: quoted-printable\n\n"
        + b"=E9=E9=E9=E9=\n" * 480_000
    ),
    "25 MiB attached, not by the book": lambda: _parts(
        1,
        b"\nx\n--b0\nContent-Type: application/x-tar; charset*=utf-8''utf-8\n\n" + b"a" * 24 * MIB,
    ),
    "19 texts of a megabyte, not by the book": lambda: _parts(
        19, b"Content-Type: " + ODD + b"\n\n" + b"Format: 1.8 a b c d e f g h i j k l m\n" * 25_000
    ),
    "a changes file of 100000 files": lambda: (
        DAK
        + b"\n"
        + CHANGES
        % (b"", b"".join(b" %032x 1 x optional a%d.deb\n" % (n, n) for n in range(100_000)))
    ),
    "a changes file of 9999 files in three lists": lambda: (
        DAK
        + b"\n"
        + CHANGES
        % (
            b"Checksums-Sha256:\n" + b"".join(b" %064x 1 a%d.deb\n" % (n, n) for n in range(9999)),
            b"".join(b" %032x 1 x optional a%d.deb\n" % (n, n) for n in range(9999)),
        )
    ),
    "a changes file, not signed, of 4 MiB": lambda: (
        DAK + b"\nFormat: 1.8\nSource: hello\nVersion: 1\nChanges:\n" + b"   * a b.\n" * 400_000
    ),
    "a changes file with a field of words": lambda: (
        DAK
        + b"\n"
        + CHANGES.replace(b"Changes:", b"Binary: " + b"a " * MIB + b"\nChanges:") % (b"", b"")
    ),
    "a maintainer of at signs": lambda: (
        DAK
        + b"\n"
        + CHANGES.replace(b"Version", b"Maintainer: " + b"a@" * MIB + b")\nVersion") % (b"", b"")
    ),
    "a changelog of tabs": lambda: DAK + b"\n" + CHANGES % (b" \t\t\t\t\t\t\t\t\n" * 300_000, b""),
    "a changelog of blanks": lambda: DAK + b"\n" + CHANGES % (b" a" + b" " * (3 * MIB), b""),
    # -- dak
    "rejected, for 20 MiB of reasons": lambda: _as("dak_rejected", b"===", b"a b"),
    "removed, 20 MiB of rows": lambda: _as(
        "dak_removed", b"   hello |  1.0-1 | source, amd64, i386"
    ),
    "queued, 20 MiB of greetings": lambda: _as(
        "dak_queued", b"Greetings,", b"", b"hello_1.changes"
    ),
    "queued, 20 MiB of uploads": lambda: _as(
        "dak_queued", b"a.changes uploaded successfully to b", b"  a"
    ),
    "results, 20 MiB of blocks": lambda: _as(
        "dak_commands", b"Fingerprint: 0123456789ABCDEF", b"Allowed: hello"
    ),
    "commented on, 20 MiB": lambda: _as("dak_commented", b"a b"),
    # -- Laniakea
    "Laniakea, a file of a.a.a. and a blank": lambda: (
        LANIAKEA + b"\nAccepted:\n" + b"a." * (2 * MIB) + b" b\n"
    ),
    "Laniakea, 20 MiB of files": lambda: (
        LANIAKEA + b"\nAccepted:\n" + b"    a_1.deb\n    a_1.dsc\n" * MIB
    ),
    "Laniakea, 20 MiB of thanks": lambda: _as(
        "laniakea_accepted", b"Thanks to Jane Doe for the contribution. "
    ),
    "Laniakea, rejected for 20 MiB of reasons": lambda: _as("laniakea_rejected", b"===", b" a b"),
    # -- debbugs
    "a transcript of 484 bugs in 174 KB": lambda: (
        _transcript(484, 0) + b"> # a line that says nothing\n" * 5_000
    ),
    "a transcript of 20 MiB, 484 bugs a command": lambda: _transcript(484, 20 * MIB),
    "a transcript of 20 MiB, 10000 bugs a command": lambda: _transcript(10_000, 20 * MIB),
    "a transcript of merges": lambda: _headers_of(
        "debbugs_transcript",
        b"Processing commands for control@bugs.example.org:\n\n"
        + (b"> merge 1 2\nBug #1 [a] b\nMerged " + b"1 " * 1900 + b"\n") * 5_000,
    ),
    "a transcript of clones": lambda: _headers_of(
        "debbugs_transcript",
        b"Processing commands for control@bugs.example.org:\n\n"
        + (b"> clone 1 -1\nBug #1 [a] b\nBug 1 cloned as bugs " + b"1-99999999, " * 300 + b"2\n")
        * 5_000,
    ),
    "a transcript of long lines": lambda: _headers_of(
        "debbugs_transcript",
        b"Processing commands for control@bugs.example.org:\n\n"
        + (b"> x\nMarked as fixed in versions " + b", send any " * 350 + b"\n") * 5_000,
    ),
    "a transcript of clauses": lambda: _headers_of(
        "debbugs_transcript",
        b"Processing commands for control@bugs.example.org:\n\n"
        + (b"> x\nBug #1 [a] b\n" + b"Added tag(s) a; " * 240 + b"\n") * 5_000,
    ),
    "a report with 20 MiB of fields": lambda: _as("debbugs_report", b"a: b").replace(
        b"\n\nPackage", b"\n\na: b\nPackage"
    ),
    "a report whose fields never end": lambda: _headers_of("debbugs_report", b"a: b\n" * MIB),
    "forwarded, 4 MiB of blank lines": lambda: _headers_of("debbugs_forwarded", b"\n" * 480_000),
    "forwarded, 20 MiB of tabs": lambda: _headers_of(
        "debbugs_forwarded", b"\t" * (20 * MIB) + b"\n"
    ),
    "forwarded to 20 MiB": lambda: _headers_of(
        "debbugs_forwarded", b"author(s) " + b"a\n " * (160_000)
    ),
    "closed by 20 MiB": lambda: _headers_of(
        "debbugs_closed", b"It has been closed by a" + b"." * (20 * MIB) + b"a\n"
    ),
    "closed, 20 MiB of rulers": lambda: _headers_of(
        "debbugs_closed", (b"-" * 40 + b"\nFrom a\n") * 400_000
    ),
    "closed, 20 MiB of mails": lambda: _headers_of(
        "debbugs_closed", (b"-" * 40 + b"\nFrom: a\nX: y\n\nz\n") * 100_000
    ),
    "a comment of 20 MiB of patches": lambda: _headers_of("debbugs_followup", b"--- a\n" * 400_000),
    # -- trackers
    "Launchpad, 20 MiB of changes": lambda: _as(
        "launchpad_bug",
        b"** Changed in: hello",
        b"       Status: New => Confirmed",
    ),
    "Launchpad, 20 MiB of equals": lambda: _as(
        "launchpad_bug", b"** Changed in: hello", b" Status: " + b" => " * 999
    ),
    "Launchpad, 20 MiB of footers": lambda: _as("launchpad_bug", b"-- "),
    "Launchpad, 20 MiB of files": lambda: _as(
        "launchpad_upload", b" OK: a_1.dsc", b"     -> Component: main"
    ),
    "Launchpad, 20 MiB of entries": lambda: _as(
        "launchpad_upload", b"hello (1) unstable; urgency=low LP: #1, #2, #3"
    ),
    "Launchpad, 20 MiB of a build": lambda: _as("launchpad_build", b" * Build Log: x"),
    "Bugzilla, 20 MiB of rows": lambda: _as(
        "bugzilla", b"             Status|NEW                 |RESOLVED"
    ),
    "Bugzilla, 20 MiB of comments": lambda: _as("bugzilla", b"Comment #1 from a b c d e f g"),
    "Bugzilla, 20 MiB of people": lambda: _as("bugzilla", b"Jane Doe <jane@example.org>"),
    "GitLab, 20 MiB of addresses": lambda: _as(
        "gitlab_issue", b"https://git.example.org/pureos/hello/-/issue"
    ),
    "Phabricator, 20 MiB of actions": lambda: _as(
        "phabricator_task", b'jane changed the status from "a" to "b".'
    ),
    "Phabricator, 20 MiB of addresses": lambda: _as(
        "phabricator_task", b"https://tracker.example.org/T https://" + b"a" * 190
    ),
    # -- others
    "an advisory of 20 MiB": lambda: _as(
        "security_advisory", b"this problem has been fixed in version 1 (a)"
    ),
    "a summary of 20 MiB": lambda: _as("testing_watch/the-migrations", b"  hello 1.0-1"),
    "an autoremoval for 20 MiB of bugs": lambda: _as("autoremoval", b"1234567: a b c"),
    "a build with 20 MiB of addresses": lambda: _as("buildd", b"https://a http://b"),
}
