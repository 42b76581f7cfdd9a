"""Mails made to hurt who reads them, made here so that nobody has to keep them as files."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Final

# All of them claim to be an announcement of dak, so that nobody passes them by unread.
DAK: Final = b"X-DAK: dak process-upload\nSubject: Accepted hello 1 (source) into unstable\n"
LANIAKEA: Final = b"X-Laniakea-Event: package-accepted\nSubject: Accepted a 1 into b\n"
CHANGES: Final = (
    b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    b"Format: 1.8\nSource: hello\nVersion: 1\nArchitecture: source\nChanges:\n hello\n%sFiles:\n%s"
    b"\n-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
)
MIB: Final = 1024 * 1024


def _headers(more: bytes, body: bytes = b"x\n") -> bytes:
    return DAK + more + b"\n" + body


def typed(content_type: bytes, body: bytes) -> bytes:
    """Return a mail of one type."""
    return _headers(b"MIME-Version: 1.0\nContent-Type: " + content_type + b"\n", body)


def _split(parts: bytes) -> bytes:
    return typed(b'multipart/mixed; boundary="b0"', parts + b"--b0--\n")


def _nested(subtype: bytes, depth: int) -> bytes:
    def container(number: int) -> bytes:
        return b'multipart/%s; boundary="b%d"' % (subtype, number)

    parts = [b"--b%d\nContent-Type: %s\n\n" % (n, container(n + 1)) for n in range(depth)]
    return (
        _headers(b"", b"").rstrip(b"\n")
        + b"\nContent-Type: "
        + container(0)
        + (b"\n\n" + b"".join(parts))
    )


def _text(charset: bytes, body: bytes) -> bytes:
    return typed(b'text/plain; charset="' + charset + b'"', body)


def _encoded(how: bytes, body: bytes) -> bytes:
    return _headers(b"Content-Transfer-Encoding: " + how + b"\n", body)


def _changes(text: bytes = b"", files: bytes = b"") -> bytes:
    return _headers(b"", CHANGES % (text, files))


def _subject(text: bytes) -> bytes:
    return b"X-DAK: dak process-upload\nSubject: " + text + b"\n\nx\n"


def _rows(pattern: bytes, count: int) -> bytes:
    return b"".join(pattern % n for n in range(count))


# name: the mail, made when it is its turn; some are large.
HOSTILE: Final[dict[str, Callable[[], bytes]]] = {
    "nothing": lambda: b"",
    "blanks": lambda: b"\n" * 1000,
    "one byte": lambda: b"\xff",
    "only a From line": lambda: b"From a@example.org Thu Jan  1 00:00:00 1970\n",
    "only headers": lambda: DAK,
    # -- size
    "too large": lambda: _headers(b"", b"a" * (25 * MIB)),
    "as large as allowed, one line": lambda: _headers(b"", b"a" * (25 * MIB - 200)),
    "as large as allowed, all newlines": lambda: _headers(b"", b"\n" * (24 * MIB)),
    "as large as allowed, all CR": lambda: _headers(b"", b"\r" * (24 * MIB)),
    "as many lines as allowed": lambda: _headers(b"", b"a\n" * 499_000),
    "as large as allowed, base64": lambda: _encoded(
        b"base64", base64.encodebytes(b"a\n" * (9 * MIB))
    ),
    "quoted-printable of equal signs": lambda: _encoded(b"quoted-printable", b"=" * (4 * MIB)),
    "uuencoded": lambda: _encoded(b"x-uuencode", b"begin 644 x\n" + b"M" * MIB + b"\n"),
    # -- parts
    "nested 15 deep": lambda: _nested(b"mixed", 15),
    "nested 15 deep, many lines": lambda: _nested(b"mixed", 15) + b"x\n" * 400_000,
    "nested 400 deep": lambda: _nested(b"mixed", 400),
    "nested 3000 deep": lambda: _nested(b"mixed", 3000),
    "digests 15 deep": lambda: _split(b"--b0\n") + _nested(b"digest", 15),
    "messages 3000 deep": lambda: _headers(b"", b"Content-Type: message/rfc822\n\n" * 3000),
    "messages 3000 deep, from the top": lambda: typed(
        b"message/rfc822", b"Content-Type: message/rfc822\n\n" * 3000
    ),
    "parts, 19000": lambda: _split(b"--b0\n\nx\n" * 19_000),
    "parts, 100000": lambda: _split(b"--b0\n\nx\n" * 100_000),
    "parts with names, 4900": lambda: _split(
        b'--b0\nContent-Type: text/plain; name="a.txt"\n\nx\n' * 4900
    ),
    "parts with many parameters": lambda: _split(
        (b"--b0\nContent-Type: text/plain" + b'; a="b"' * 49 + b"\n\nx\n") * 15_000
    ),
    "no closing boundary": lambda: typed(b"multipart/mixed; boundary=b", b"--b\n\nx\n"),
    "no boundary at all": lambda: typed(b"multipart/mixed", b"--b\n\nx\n"),
    "a boundary nobody uses": lambda: typed(b"multipart/mixed; boundary=b", b"x\n"),
    "a boundary of 60 KiB": lambda: typed(
        b'multipart/mixed; boundary="' + b"b" * 60_000 + b'"', b"--" + b"b" * 60_000 + b"\n\nx\n"
    ),
    "delivery reports, 200000": lambda: _split(
        b"--b0\nContent-Type: message/delivery-status\n\n" + b"A: b\n\n" * 200_000
    ),
    "a part with 200000 headers": lambda: _split(b"--b0\n" + b"X: y\n" * 200_000 + b"\nx\n"),
    "parameters without end": lambda: typed(
        b"text/plain" + _rows(b"; name*%d*=utf-8''a", 3000), b"x\n"
    ),
    "parameters without end, in a part": lambda: _split(
        b"--b0\nContent-Type: text/plain" + _rows(b";\n name*%d*=utf-8''a", 20_000) + b"\n\nx\n"
    ),
    "a quote that never ends, in a part": lambda: _split(
        b'--b0\nContent-Type: multipart/mixed; a="' + b";" * MIB + b"\n\nx\n"
    ),
    "a quote that never ends, folded by CR": lambda: _split(
        b'--b0\nContent-Type: multipart/mixed; a="' + b";;;;;;;;\r " * 100_000 + b"\n\nx\n"
    ),
    "a wrapped mail in a wrapped mail": lambda: (
        b"List-Post: <mailto:l@example.org>\nFrom: l@example.org\nContent-Type: message/rfc822\n\n"
        * 500
        + _headers(b"")
    ),
    # -- headers
    "headers, 16000 names": lambda: _headers(_rows(b"X-%d: y\n", 16_000)),
    "headers, 200000 of one name": lambda: _headers(b"X: y\n" * 200_000),
    "headers, 480 large ones": lambda: _headers((b"X: " + b"y" * 500 + b"\n") * 480),
    "a header of a megabyte": lambda: _headers(b"X: " + b"y" * MIB + b"\n"),
    "a header folded 100000 times": lambda: _headers(b"X: y" + b"\n y" * 100_000 + b"\n"),
    "a header folded 20000 times": lambda: _headers(b"X-Debian: y" + b"\n y" * 20_000 + b"\n"),
    "NUL in the headers": lambda: _headers(b"X: \0\n"),
    "bare CR in the headers": lambda: _headers(b"X: a\rX-Inj: 1\n"),
    "a blank before the colon": lambda: _headers(b"X : a\n"),
    "a folded first line": lambda: b" folded\n" + _headers(b""),
    "headers of mail-parser's own": lambda: _headers(
        b"Parse: x\nheaders: x\nX_json_json_json_json: x\n_json: x\ndefects: x\nattachments: x\n"
    ),
    "From: of escaped quotes": lambda: _headers(b'From: "' + b'\\"' * 30_000 + b"\n"),
    "From: of quotes": lambda: _headers(b"From: " + b'"' * 60_000 + b"\n"),
    "From: of brackets": lambda: _headers(b"From: " + b"(" * 60_000 + b")\n"),
    "From: of angles": lambda: _headers(b"From: " + b"<" * 60_000 + b">\n"),
    "From: of comment forms": lambda: _headers(b"From: " + b"a@b (" * 12_000 + b")\n"),
    "From: of at signs": lambda: _headers(b"From: " + b"@" * 60_000 + b" (x)\n"),
    "From: of dots": lambda: _headers(b"From: a" + b".a" * 30_000 + b"@\n"),
    "To: of commas": lambda: _headers(b"To: " + b"," * 60_000 + b"\n"),
    "To: of addresses": lambda: _headers(b"To: " + b"a@example.org, " * 4000 + b"\n"),
    "encoded words": lambda: _headers(
        b"List-Id: " + b"=?utf-8?q?a?= " * 4000 + b"\nFrom: " + b"=?utf-8?b?YQ==?=" * 4000 + b"\n"
    ),
    "encoded words that never end": lambda: _headers(b"From: " + b"=?a?q?" * 10_000 + b"\n"),
    "encoded words without text": lambda: _headers(b"From: " + b"=?" * 32_000 + b"\n"),
    "an encoded word in punycode": lambda: _headers(
        b"From: =?punycode?q?" + b"a" * 60_000 + b"-b?=\n"
    ),
    "Message-Id: of brackets": lambda: _headers(b"Message-Id: <[>\n"),
    "Message-Id: of angles": lambda: _headers(b"Message-Id: " + b"<" * 60_000 + b"\n"),
    "Date: of digits": lambda: _headers(b"Date: " + b"1" * 60_000 + b"\n"),
    "Date: before all": lambda: _headers(b"Date: Mon, 01 Jan 0001 00:00:00 +2359\n"),
    "Date: after all": lambda: _headers(b"Date: Fri, 31 Dec 9999 23:59:59 -2359\n"),
    "Date: of no day": lambda: _headers(b"Date: Mon, 99 Feb 2024 25:61:61 +9999\n"),
    "suites without end": lambda: _headers(b"Debian-Suite: " + b"a->b, " * 10_000 + b"\n"),
    "a subject of list prefixes": lambda: _subject(b"[a]" * 20_000),
    "a subject of open brackets": lambda: _subject(b"[" * 60_000),
    "a subject of stars": lambda: _subject(b"*" * 60_000),
    "a subject of words": lambda: _subject(b"Accepted" + b" a" * 30_000),
    "a subject that does not close": lambda: _subject(b"Accepted a 1 (" + b"a" * 60_000),
    "a subject of bugs": lambda: _subject(b"Bug#1: fixed in" + b" a" * 30_000 + b"\t"),
    "a bug and an upload of Launchpad": lambda: (
        b"X-Katie: Launchpad actually\nX-Launchpad-Bug: product=a; status=New;\n"
        b"X-Launchpad-Bug-Private: no\nSubject: [Bug 1] [ubuntu/noble] a 1 (Accepted)\n\nx\n"
    ),
    "an issue and a merge request": lambda: (
        b"X-GitLab-Issue-IID: 1\nX-GitLab-MergeRequest-IID: 1\nX-GitLab-Project-Path: a/b\n\nx\n"
    ),
    "an issue of no number, and a push": lambda: (
        b"X-GitLab-Issue-IID:\nX-GitLab-Author: a\nX-GitLab-Project-Path: a/b\n\nx\n"
    ),
    # -- charsets
    "charset punycode": lambda: _text(b"punycode", b"a-" + b"b" * MIB),
    "charset punycode, in pieces": lambda: typed(
        b'text/plain; charset*0="puny"; charset*1="code"', b"a-" + b"b" * MIB
    ),
    "charset punycode, in a part": lambda: _split(
        b"--b0\nContent-Type: text/plain; charset=punycode\n\na-" + b"b" * MIB + b"\n"
    ),
    "charset punycode, no ASCII": lambda: typed(
        b"text/plain; charset*=us-ascii''punycode", b"a-\xe9" + b"b" * MIB
    ),
    "charset idna": lambda: _text(b"idna", b"xn--" + b"a" * MIB),
    "charset with a NUL": lambda: _text(b"utf\\08", b"x\n"),
    "charset undefined": lambda: _text(b"undefined", b"x\n"),
    "charset rot13": lambda: _text(b"rot13", b"x\n"),
    "charset zip": lambda: _text(b"zip", b"x\n"),
    "charset utf-7": lambda: _text(b"utf-7", b"+2AA-\n"),
    "charset unicode_escape": lambda: _text(b"unicode_escape", b"\\ud800\n"),
    "charset utf-16": lambda: _text(b"utf-16", b"\x00\xd8\n\n"),
    "charset of 5000 letters": lambda: _text(b"a" * 5000, b"x\n"),
    "charset in another charset": lambda: typed(b"text/plain; charset*=idna''%41", b"x\n"),
    "surrogates in UTF-8": lambda: _headers(b"From: \xed\xa0\x80\n", b"\xed\xa0\x80"),
    # -- .changes
    "controls in a field": lambda: _changes(b" \0\x1b[31m\x85\xc2\x85\xe2\x80\xa8Source: evil\n"),
    "armor that begins 100000 times": lambda: _headers(
        b"", b"-----BEGIN PGP SIGNED MESSAGE-----\n" * 100_000
    ),
    "armor that begins 19000 times": lambda: _headers(
        b"", b"-----BEGIN PGP SIGNED MESSAGE-----\n" * 19_000
    ),
    "signatures, 19000": lambda: _changes() + b"-----BEGIN PGP SIGNATURE-----\n" * 19_000,
    "dashes": lambda: _changes(b"- " * MIB + b"\n"),
    "files, 100000": lambda: _changes(b"", _rows(b" 0 1 x optional a%d.deb\n", 100_000)),
    "files, 10000 in three lists": lambda: _changes(
        b"Checksums-Sha1:\n"
        + _rows(b" 0 1 a%d.deb\n", 10_000)
        + b"Checksums-Sha256:\n"
        + _rows(b" 0 1 a%d.deb\n", 10_000),
        _rows(b" 0 1 x optional a%d.deb\n", 10_000),
    ),
    "fields, 100000": lambda: _changes(_rows(b"X%d: y\n", 100_000)),
    "a field 100000 times": lambda: _changes(b"X: y\n" * 100_000),
    "a field of three megabytes": lambda: _changes(b" " + b"a b " * (3 * MIB // 4) + b"\n"),
    "a field of blanks": lambda: _changes(b"X: a" + b" " * MIB + b"b\n"),
    "a field of tabs": lambda: _changes(b" " + b"a\t" * MIB + b"\n"),
    "closed bugs, 100000": lambda: _changes(b"Closes: " + b"1234567 " * 100_000 + b"\n"),
    "architectures, 100000": lambda: _changes(
        b"architecture: " + b"amd64 " * 100_000 + b"\nBinary: " + b"a " * 100_000 + b"\n"
    ),
    "a source of brackets": lambda: _changes().replace(
        b"Source: hello", b"Source: a " + b"(" * 100_000
    ),
    "a maintainer of brackets": lambda: _changes(b"Maintainer: " + b"a@b (" * 100_000 + b")\n"),
    # -- what Laniakea writes
    "a changelog of closes": lambda: (
        LANIAKEA + b"\nCloses: " + b"#1, " * MIB + b"Closes:\nAccepted:\n" + b"    a\n" * 100_000
    ),
    "a changelog of brackets": lambda: (
        LANIAKEA + b"\n" + b"a (1) " * (MIB // 2) + b"\nThanks to " * 50_000 + b"\nAccepted:\n"
    ),
    "a changelog of thanks": lambda: (
        LANIAKEA + b"\na (1) b; urgency=low\n\nAccepted:\n\n    a\n" + b"Thanks to " * 300_000
    ),
}


def mutations(raw: bytes, count: int, seed: int) -> Iterator[bytes]:
    """*count* variations of *raw*, some bytes changed, cut or doubled; always the same ones."""
    state = seed
    for _ in range(count):
        changed = bytearray(raw)
        for _ in range(8):
            # A linear congruential generator (Numerical Recipes): the same in every Python.
            state = (1664525 * state + 1013904223) % 2**32
            place = state % max(len(changed), 1)
            action = (state >> 16) % 4
            if action == 0:
                changed[place : place + 1] = bytes([(state >> 8) % 256])
            elif action == 1:
                del changed[place : place + (state >> 24)]
            elif action == 2:
                changed[place:place] = changed[place : place + 40]
            else:
                changed[place:place] = b"\n"
        yield bytes(changed)
