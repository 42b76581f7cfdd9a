"""Mails made to hurt: each costs about what it weighs, and says no more than it would without."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbridge.bridge.compose import Examined, examine
from mailbridge.bridge.prove import Prover
from mailbridge.config import Source
from mailbridge.errors import MalformedMail
from mailbridge.mail import MAX_MAIL, read_mail
from mailbridge.payloads import Clip, without_surrogates
from tests.conftest import NOON
from tests.costs import CPU, Meter, everything, in_fork, look_at_all
from tests.daemons import report, upload
from tests.hostile_mails import DAK, HOSTILE, mutations
from tests.invariants import is_sound
from tests.large_mails import FIXTURES, LARGE

OURS: Final = sorted(FIXTURES.glob("*/*/mail.eml"))
KINDS: Final = sorted({mail.parent.parent for mail in FIXTURES.glob("[!_]*/*/mail.eml")})


@pytest.fixture(scope="module")
def meter() -> Iterator[Meter]:
    with Meter() as started:
        yield started


def said(found: Examined) -> list[Any]:
    """What a mail says, apart from where it came from."""
    told = [{**event.data, "message_id": None} for event in found.events]
    return [found.outcome, found.code, found.kind, told]


# -- what they cost --------------------------------------------------------------------------------


@pytest.mark.fault(66)
@pytest.mark.edge(72)
@pytest.mark.parametrize("made", [*HOSTILE.values(), *LARGE.values()], ids=[*HOSTILE, *LARGE])
def test_a_hostile_mail_has_an_outcome_and_costs_what_it_weighs(
    made: Callable[[], bytes], meter: Meter, tmp_path: Path
) -> None:
    mail = tmp_path / "mail"
    mail.write_bytes(made())

    cost = meter.cost(mail)

    assert cost.ended == 0, f"beyond {CPU} seconds of CPU, or of its memory"
    assert cost.outcome in ("events", "ignored", "quarantined")
    assert cost.code != "bug", cost.reason
    assert cost.memory <= cost.allowed


RESULT: Final = b"Authentication-Results: mx.example.org; dkim=pass header.d=example.org"
SIGNATURE: Final = b"DKIM-Signature: v=1; d=example.org; s=a; bh=x; b=y; h=From"


@pytest.mark.parametrize(
    "headers",
    [
        RESULT + b"\n" + (SIGNATURE + b":From" * 12_000 + b"\n") * 4 + b"From: a\n" * 100,
        (RESULT + b"; " + b"a" * 3900 + b"\n") * 60,
        (RESULT + b"(" * 3900 + b"\n") * 60,
        (RESULT + b"; dkim=pass header.d=" * 190 + b"\n") * 60,
        RESULT + b"\n" + (SIGNATURE + b"; a=" * 15_000 + b"\n") * 4,
        (b"Received: from a (" + b"a." * 30_000 + b" [::1])\n") * 4,
    ],
    ids=["h=", "words", "parentheses", "results", "tags", "hosts"],
)
def test_what_a_mail_says_of_what_backs_it_costs_little(headers: bytes) -> None:
    source = Source(
        name="hostile",
        maildir="/nowhere",
        hops=("mx.example.org",),
        authserv_id="mx.example.org",
        dkim_domains=("example.org",),
    )
    prover = Prover([source])

    def work() -> bytes:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU // 4, CPU // 4))
        found = examine(headers + upload(1), source, received=NOON, prover=prover)
        return found.outcome.encode()

    assert in_fork(work) == (b"events", 0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_twice_the_lines_are_twice_the_work(kind: Path) -> None:
    """Counted, not timed: whatever our code calls, and whatever it calls in the interpreter."""
    raw = min(kind.glob("*/mail.eml")).read_bytes()
    head, blank, body = raw.partition(b"\n\n")

    once, twice = (calls(head + blank + body * times) for times in (40, 80))

    assert twice < 2.2 * once


def calls(raw: bytes) -> int:
    """Return how many functions are called while *raw* is examined."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        everything(raw)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.fault(69)
@pytest.mark.parametrize(("more", "outcome"), [(-1, "events"), (0, "events"), (1, "quarantined")])
def test_a_mail_may_be_as_large_as_the_limit_and_not_a_byte_larger(more: int, outcome: str) -> None:
    raw = upload(1)
    raw += b" " * (MAX_MAIL + more - len(raw))

    assert everything(raw).outcome == outcome


# -- what they say ---------------------------------------------------------------------------------


@pytest.mark.fault(67)
@pytest.mark.parametrize("mail", OURS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_a_mail_with_some_bytes_changed_has_an_outcome_that_may_be(mail: Path) -> None:
    for raw in mutations(mail.read_bytes(), count=20, seed=2026):
        look_at_all(raw)
        found = everything(raw)

        is_sound(found)
        assert found == everything(raw)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_two_kinds_claim_a_mail_with_the_headers_of_both(kind: Path) -> None:
    for one in different(kind.glob("*/mail.eml")):
        for other in different(OURS):
            is_sound(everything(other.partition(b"\n\n")[0] + b"\n" + one))


def different(mails: Iterable[Path]) -> Iterable[bytes]:
    """Return those of *mails* that have other headers than the ones before."""
    found: dict[frozenset[str], bytes] = {}
    for mail in sorted(mails):
        raw = mail.read_bytes().replace(b"\r\n", b"\n")
        with contextlib.suppress(MalformedMail):
            found.setdefault(frozenset(n for n in read_mail(raw).names if "-" in n), raw)
    return found.values()


@pytest.mark.fault(70)
@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"X-A: a\rX-DAK: x\n", "a bare CR"),
        (b"X-A: \0\n", "a NUL"),
        (b"X-A : a\n", "no header"),
        (b"\r\r\n", "a bare CR"),
    ],
    ids=["bare CR", "NUL", "blank before the colon", "CR CR LF"],
)
def test_headers_that_parsers_read_in_two_ways_are_quarantined(header: bytes, reason: str) -> None:
    found = everything(upload(1).replace(b"X-DAK:", header + b"X-DAK:"))

    assert (found.outcome, found.code) == ("quarantined", "malformed")
    assert reason in (found.reason or "")


@pytest.mark.fault(70)
def test_a_mail_that_begins_with_a_fold_is_quarantined() -> None:
    found = everything(b" folded\n" + upload(1))

    assert (found.outcome, found.code) == ("quarantined", "malformed")


@pytest.mark.fault(71)
@pytest.mark.parametrize(
    "header",
    [
        b"From: Mallory <m@example.net>",
        b"Subject: Accepted evil 6.6-6 (source) into unstable",
        b"Message-Id: <evil@example.net>",
        b"List-Id: <evil.lists.example.net>",
        b"Content-Type: text/plain; charset=utf-16",
        b"Debian-Source: evil",
        b"Debian-Suite: experimental",
        b"Date: Thu, 1 Jan 1970 00:00:00 +0000",
    ],
    ids=lambda header: header.partition(b":")[0].decode(),
)
def test_of_doubled_headers_the_first_counts(header: bytes) -> None:
    name = header.partition(b":")[0].lower()
    mails = [b"Content-Type: text/plain; charset=utf-8\n" + mail for mail in (upload(1), report(1))]
    concerned = [mail for mail in mails if name + b":" in mail.partition(b"\n\n")[0].lower()]
    assert concerned
    for mail in concerned:
        head, blank, body = mail.partition(b"\n\n")

        # (Not all of it: one without a Message-ID is named by its bytes.)
        assert said(everything(head + b"\n" + header + blank + body)) == said(everything(mail))


@pytest.mark.fault(72)
@pytest.mark.parametrize(
    "charset",
    [
        *("utf-7", "utf-16", "utf-32", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
        *("undefined", "rot13", "zip", "base64", "hex", "uu", "bz2", "mbcs", "oem", "x-unknown"),
        *("unknown-8bit", "utf\\08", "", "us-ascii", "iso-8859-2", "koi8-r", "big5", "a" * 5000),
    ],
)
@pytest.mark.parametrize("bytes_", [b"\xe9", b"\xc3\xa9", b"\xed\xa0\x80", b"+2AA-", b"\\ud800"])
def test_whatever_charset_is_told_an_event_is_good_utf_8(charset: str, bytes_: bytes) -> None:
    typed = f'Content-Type: text/plain; charset="{charset}"\nX-DAK:'.encode()
    raw = upload(1).replace(b"Jane Doe", bytes_).replace(b"X-DAK:", typed)

    found = everything(raw)

    assert found.outcome == "events"
    is_sound(found)


@pytest.mark.fault(76)
@pytest.mark.parametrize("mail", [upload(1), report(1)], ids=["upload", "report"])
def test_names_of_headers_that_our_parser_has_a_use_for_mean_nothing(mail: bytes) -> None:
    names = (
        *("parse", "headers", "headers_json", "_json", "_raw", "X_json_json_json", "body", "text"),
        *("attachments", "defects", "mail", "message", "to_domains", "timezone", "has_defects"),
        *("__class__", "__dict__", "__init__", "_fields", "self", "raw", "outer", "Parse"),
    )
    more = "".join(f"{name}: evil\n" for name in names).encode()

    assert said(everything(more + mail)) == said(everything(mail))


@pytest.mark.fault(79)
@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "..", "a/b.dsc", "\\..\\a", "a\0b", "~/.ssh/x"]
)
def test_a_changes_that_names_a_path_is_quarantined(name: str) -> None:
    found = everything(upload(1).replace(b"package1_1.1-1.dsc", name.encode()))

    assert (found.outcome, found.code) == ("quarantined", "malformed")


# -- any tree of parts -----------------------------------------------------------------------------

ENCODINGS: Final = ("7bit", "8bit", "binary", "quoted-printable", "base64", "x-uuencode", "rot13")
TYPES: Final = (
    *("text/plain", "text/html", "application/octet-stream", "message/rfc822", "TEXT/PLAIN"),
    *("message/delivery-status", "message/partial", "text/plain; charset=utf-8", "image/png", "x"),
    *('text/plain; name="../../x"; charset="koi8-r"', "text/plain; charset*=utf-8''utf-8", ""),
)
MULTIPARTS: Final = ("mixed", "signed", "alternative", "digest", "report", "related", "odd")

changes = b"Format: 1.8\nSource: a\nVersion: 1\n"
bodies = st.binary(max_size=30) | st.sampled_from(
    [b"", b"x", changes, b"--b1", b"Subject: in\n\ninner", b"\r\n\r"]
)


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    kind, encoding = draw(st.sampled_from(TYPES)), draw(st.sampled_from(ENCODINGS))
    head = f"Content-Type: {kind}\n" if kind else ""
    head += draw(st.sampled_from(["", f"Content-Transfer-Encoding: {encoding}\n"]))
    head += draw(st.sampled_from(["", 'Content-Disposition: attachment; filename="/etc/x"\n']))
    return head.encode() + b"\n" + draw(bodies)


def containers(parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A container of *parts*, which its boundaries may or may not keep together."""

    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        name = draw(st.sampled_from([b"b1", b"b2", b"b1 ", b"b", b""]))
        kind = draw(st.sampled_from(MULTIPARTS)).encode()
        inside = draw(st.lists(parts, max_size=3))
        end = draw(st.sampled_from([b"\n--" + name + b"--\n", b"\n--" + name, b""]))
        pieces = [b"\n--" + name + b"\n" + part for part in inside]
        return (
            b"Content-Type: multipart/%s; boundary=%s\n\n" % (kind, name) + b"".join(pieces) + end
        )

    return made()


trees = st.recursive(leaves(), containers, max_leaves=8)


mails = st.sampled_from([DAK, b"X-GNU-PR-Message: closed 1\n", b"Subject: x\n"])


@pytest.mark.fault(68)
@settings(max_examples=300)
@given(mails, trees, st.sampled_from([b"\n", b"\r\n"]))
def test_a_mail_of_any_tree_of_parts_has_an_outcome_that_may_be(
    headers: bytes, tree: bytes, end: bytes
) -> None:
    is_sound(everything((headers + tree).replace(b"\n", end)))


words = st.text("ab \n-", max_size=30).map(lambda text: text.replace("--b", ""))


@pytest.mark.fault(68)
@given(st.recursive(words, lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=12))
def test_the_texts_of_a_tree_are_its_leaves_in_order(tree: Any) -> None:
    raw, texts = rendered(tree, "0")
    try:
        read = read_mail(b"MIME-Version: 1.0\n" + raw)
        found = read.texts
    except MalformedMail as error:
        assert "containers" in str(error)  # noqa: PT017 - what else would be a bug
        return

    assert [text.removesuffix("\n") for text in found] == [t.removesuffix("\n") for t in texts][:10]


def rendered(tree: str | list[Any], name: str) -> tuple[bytes, Sequence[str]]:
    """Return *tree* as a part, its boundaries made of *name*, and the texts in it."""
    if isinstance(tree, str):
        return f"Content-Type: text/plain\n\n{tree}".encode(), [tree]
    parts = [rendered(part, f"{name}.{number}") for number, part in enumerate(tree)]
    mark = f"\n--bound{name}bound".encode()
    body = b"".join(mark + b"\n" + raw for raw, _ in parts)
    head = f'Content-Type: multipart/mixed; boundary="bound{name}bound"\n'.encode()
    return head + body + mark + b"--\n", [text for _, texts in parts for text in texts]


# -- what is shown of them -------------------------------------------------------------------------

lines = st.text(st.sampled_from("ab \n\r\t\0\x1b\x85é\ud800\u202e"), max_size=120)


@given(lines, st.integers(1, 40))
def test_a_text_is_cleaned_line_by_line_and_cut(text: str, limit: int) -> None:
    clip = Clip()
    # (What turns the direction of text stays: it is data, and terminals are shown it escaped.)
    whole = [
        "".join(c for c in line.expandtabs() if c == "\u202e" or c.isprintable()).rstrip()
        for line in without_surrogates(text).replace("\r\n", "\n").split("\n")
    ]
    expected = "\n".join(whole).strip("\n")

    told = clip.text(text, limit)

    assert told == (expected if len(expected) <= limit else expected[:limit].rstrip())
    assert clip.truncated == (len(expected) > limit)


@given(lines, st.integers(1, 40))
def test_a_line_is_one_line_and_cut(text: str, limit: int) -> None:
    clip = Clip()

    told = clip.line(text, limit)

    assert "\n" not in told
    assert len(told) <= limit
    assert told == told.strip()
    assert "  " not in told
