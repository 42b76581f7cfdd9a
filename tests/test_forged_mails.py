"""
Mails that were cut off, sent again, written over or pasted together, made of every golden mail.

What is promised, whoever sent them, whether anything proves them or not:

- A mail that was cut off gives nothing, or goes to quarantine, or says less than the whole one, and
  nothing else: no half words, no other numbers, no other outcome of what it tells of.
- A mail that comes again says the same news, whatever its way wrote on top of it.
- Of doubled headers the first counts: what somebody puts below it changes nothing, or keeps the
  mail from being news at all.
- Headers of one mail over the body of another: whose news it is, and of which bug, task, issue or
  advisory, the headers say.  Of an upload all that its .changes tells is of one mail; where it
  went is the headers' word.  Nothing else but what either mail told comes of it.

- No byte under a signature that is checked can be another.

That none of them counts as proved is shown in test_prove.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from mailbridge import armor, kinds
from mailbridge.bridge.compose import Composed, Examined, examine
from mailbridge.bridge.prove import Prover
from mailbridge.config import Source
from mailbridge.mail import read_mail
from mailbridge.payloads import Common
from tests.conftest import NOON
from tests.openpgp import GnuPG, gnupg

FIXTURES: Final = Path(__file__).parent.parent / "fixtures"
SOURCE: Final = Source(name="forged", maildir="/nowhere")
CASES: Final = sorted(
    path for path in FIXTURES.glob("[!_]*/*/mail.eml") if "cut-off" not in path.parent.name
)
ONE_OF_EACH: Final = list({path.parent.parent: path for path in reversed(CASES)}.values())
TWO_OF_EACH: Final = {*ONE_OF_EACH, *{path.parent.parent: path for path in CASES}.values()}

OF_THE_MAIL: Final = {*Common.__struct_fields__, "mail_source", "truncated", "url"}
"""What stands in an event and is no news."""
COUNTS: Final = {"commands", "bugs_total", "changes_total", "count"}
TEXTS: Final = {"changes", "reason", "hint", "summary"}
"""Of these the beginning is less, and no lie."""


def examined(raw: bytes) -> Examined:
    return examine(raw, SOURCE, received=NOON, everything=True)


@cache
def whole(path: Path) -> Examined:
    return examined(path.read_bytes())


def news(event: Composed) -> dict[str, Any]:
    """What an event says, but for what it says of the mail."""
    own = {key: value for key, value in event.data.items() if key not in OF_THE_MAIL}
    source = event.data.get("source")
    return own | ({"source": source} if isinstance(source, list) else {})


def name_of(path: Path) -> str:
    return f"{path.parent.parent.name}-{path.parent.name}"


every_mail = pytest.mark.parametrize("path", CASES, ids=name_of)


# -- cut off ---------------------------------------------------------------------------------------


def is_less(key: str, told: Any, of: Any) -> bool:
    if told == of or told in ("", [], {}):
        return True
    if key in COUNTS:
        return bool(told < of)
    if isinstance(told, str) and isinstance(of, str):
        return key in TEXTS and of.startswith(told)
    if isinstance(told, list) and isinstance(of, list):
        return all(item in of for item in told)
    if isinstance(told, dict) and isinstance(of, dict):
        return all(key in of and is_less(key, value, of[key]) for key, value in told.items())
    return False


def says_no_more(event: Composed, than: Examined) -> bool:
    told = news(event)
    return any(
        event.name == other.name
        and all(key in of and is_less(key, value, of[key]) for key, value in told.items())
        for other in than.events
        for of in [news(other)]
    )


def cuts(raw: bytes) -> Iterator[int]:
    """Yield places to cut *raw* at: all over it, and around the end of its headers."""
    end = len(raw) - len(raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2])
    yield from range(1, end, max(end // 12, 1))
    yield from range(end - 3, end + 3)
    yield from range(end, len(raw), max((len(raw) - end) // 40, 1))
    # In a word, at its end, and at the end of a line that is not the last.
    line = raw.rfind(b"\n", end, len(raw) - 2)
    yield from (place for place in range(line - 3, line + 4) if end < place < len(raw))


@every_mail
@pytest.mark.fault(85)
def test_of_a_mail_that_was_cut_off_comes_nothing_that_it_did_not_say(path: Path) -> None:
    raw = path.read_bytes()
    for place in cuts(raw):
        found = examined(raw[:place])

        assert found.code != "bug", (place, found.reason)
        for event in found.events:
            assert says_no_more(event, whole(path)), (place, raw[:place][-60:], news(event))


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*cut-off*/mail.eml")), ids=name_of)
def test_what_was_cut_off_is_kept_with_a_reason_or_says_less(path: Path) -> None:
    told = whole(path)

    assert (told.outcome, told.code) in (("quarantined", "malformed"), ("events", None))
    if told.outcome == "events":
        of_its_kind = [one for one in CASES if one.parent.parent == path.parent.parent]
        for event in told.events:
            assert any(says_no_more(event, whole(one)) for one in of_its_kind)


# -- sent again ------------------------------------------------------------------------------------

# (Not Return-Path: by it alone a mail of mentors is told, which another envelope makes nobody's.)
WAY: Final = b"""\
Delivered-To: mailing list example@lists.example.com
X-Original-To: somebody@example.com
Received: from evil.example.net (evil.example.net [192.0.2.66]) by mx.example.com with ESMTP;
\tSat, 21 Nov 2026 09:09:09 +0000
X-Spam-Status: No, score=-1
"""


@every_mail
@pytest.mark.fault(98)
def test_a_mail_that_comes_again_by_another_way_is_the_same_news(path: Path) -> None:
    raw = path.read_bytes()
    mbox = raw.index(b"\n") + 1 if raw.startswith(b"From ") else 0
    again = examined(raw[:mbox] + WAY + raw[mbox:])

    assert again.outcome == "events"
    assert [event.uuid for event in again.events] == [event.uuid for event in whole(path).events]
    assert [news(event) for event in again.events] == [news(event) for event in whole(path).events]


# -- a second header -------------------------------------------------------------------------------

SEVERAL: Final = {"x-launchpad-bug"}
"""A header for each of the things that a bug concerns: there a second one is no forgery."""
FORGED: Final = b" evil 999999; Accepted evil 9 (source) into stable <evil@example.net>\n"


@pytest.mark.parametrize(
    "path",
    [p for p in CASES if p.parent.name not in ("announced-in-a-dmarc-wrap", "in-crlf")],
    ids=name_of,
)
@pytest.mark.fault(71)
def test_a_second_header_below_the_first_says_nothing(path: Path) -> None:
    raw = path.read_bytes()
    head, _, body = raw.partition(b"\n\n")
    for name in set(read_mail(raw).names) - SEVERAL:
        found = examined(head + b"\n" + name.encode() + b":" + FORGED + b"\n" + body)

        assert found.code != "bug", (name, found.reason)
        if found.outcome == "events":
            told = [news(event) for event in found.events]
            assert told == [news(event) for event in whole(path).events], name
            assert [e.uuid for e in found.events] == [e.uuid for e in whole(path).events], name
            assert "evil 999999" not in json.dumps(told)


# -- tampered with ---------------------------------------------------------------------------------

UPLOADS: Final = [
    path
    for path in CASES
    for mail in [read_mail(path.read_bytes())]
    if path.parent.parent.name == "dak_accepted" and armor.BEGIN in mail.text and not mail.outer
]


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    with gnupg() as home:
        yield home


@pytest.fixture(scope="module")
def uploader(gpg: GnuPG) -> str:
    return gpg.key("Jane Doe <jane@example.org>")


@pytest.mark.parametrize("path", UPLOADS, ids=name_of)
@pytest.mark.fault(84)
@pytest.mark.needs_program("gpg")
def test_no_byte_under_a_signature_can_be_another(
    path: Path, gpg: GnuPG, uploader: str, tmp_path: Path
) -> None:
    ring = tmp_path / "uploaders.gpg"
    ring.write_bytes(gpg.export(uploader))
    source = Source(name="signed", maildir="/nowhere", keyrings=(str(ring),))
    prover = Prover([source])
    lines = armor.signed_lines(read_mail(path.read_bytes()).text.split("\n")) or []
    block = gpg.clearsign("\n".join(lines).strip("\n") + "\n", uploader)
    utf8 = b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    mail = pasted(path.read_bytes(), utf8 + block)

    def judged(raw: bytes) -> Examined:
        return examine(raw, source, received=NOON, everything=True, prover=prover)

    good = judged(mail)
    assert good.provenance.signed_by.status == "good"
    begin = mail.index(b"\n\n", mail.index(b"-----BEGIN PGP SIGNED"))
    end = mail.index(b"\n-----BEGIN PGP SIGNATURE")
    for place in range(begin + 3, end, max((end - begin) // 25, 1)):
        if mail[place : place + 1].isspace():
            continue  # blanks at the end of a line are under no signature
        other = judged(mail[:place] + bytes([mail[place] ^ 1]) + mail[place + 1 :])

        assert other.outcome == "quarantined", (place, mail[place - 20 : place + 20])
        assert other.emitted == ()


# -- pasted together -------------------------------------------------------------------------------

MIME: Final = (b"content-type", b"content-transfer-encoding", b"mime-version")
IN_THE_CHANGES: Final = (
    *("source_name", "source_version", "version", "architectures", "binaries", "files"),
    *("checksums", "dsc", "changes", "closes", "distribution"),
)
NAMED_BY_HEADERS: Final = ("tracker", "bug", "task", "iid", "project", "pkgname", "upload_name")
TOLD_BY_EITHER: Final = (
    *(*IN_THE_CHANGES, *NAMED_BY_HEADERS, "suite", "suites", "policy_suites", "advisory", "via"),
    *("fixed_versions", "fixed_version", "closing_message_id", "version_new", "version_old"),
    *("forwarded_to", "success", "removals", "severity", "fingerprint", "allowed", "denied"),
)


def fields(raw: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    found: list[bytes] = []
    for line in head.split(b"\n"):
        if line[:1] in (b" ", b"\t") and found:
            found[-1] += b"\n" + line
        else:
            found.append(line)
    return found, body


def pasted(headers: bytes, body: bytes) -> bytes:
    """The headers of one mail over the body of another, which keeps its MIME headers."""

    def is_mime(field: bytes) -> bool:
        return field.partition(b":")[0].lower() in MIME

    above, _ = fields(headers)
    own, text = fields(body)
    told = [f for f in above if not is_mime(f)] + [f for f in own if is_mime(f)]
    return b"\n".join(told) + b"\n\n" + text


def at(found: Examined, key: str) -> list[Any]:
    return [news(event).get(key) for event in found.events]


def names_given_by(family: str | None) -> set[str]:
    return {p.NAME for kind in kinds.kinds() if kind.family == family for p in kind.payloads}


@pytest.mark.parametrize("headers", ONE_OF_EACH, ids=name_of)
def test_headers_of_one_mail_over_the_body_of_another_make_no_third_story(headers: Path) -> None:
    above = whole(headers)
    for body in TWO_OF_EACH:
        below = whole(body)
        if below.kind == above.kind:
            continue
        found = examined(pasted(headers.read_bytes(), body.read_bytes()))
        text = " ".join(read_mail(body.read_bytes()).text.split())

        assert found.code != "bug", (body, found.reason)
        for event in found.events:
            told = news(event)
            # Whose news it is the headers say, and of what.
            assert event.name in names_given_by(above.family), body
            for key in NAMED_BY_HEADERS:
                assert key not in told or told[key] in at(above, key), (body, key)
            # All that a .changes tells is of one mail.
            assert is_of_one(told, above, below, text), (body, told)
            # And nothing is made up.
            for key in TOLD_BY_EITHER:
                value = told.get(key)
                assert (
                    value in (None, "", [], {}, *at(above, key), *at(below, key))
                    or stands_in(value, text)
                    or key in NAMED_BY_HEADERS
                ), (body, key, value)


def stands_in(value: Any, text: str) -> bool:
    if isinstance(value, Mapping):
        return all(stands_in(one, text) for one in value.values())
    if isinstance(value, list):
        return all(stands_in(one, text) for one in value)
    return isinstance(value, str | int) and " ".join(str(value).split()) in text


def is_of_one(told: dict[str, Any], above: Examined, below: Examined, text: str) -> bool:
    if "files" not in told or "source_name" not in told:
        return True
    group = {key: told.get(key) for key in IN_THE_CHANGES}
    of_mails = [
        {key: news(event).get(key) for key in IN_THE_CHANGES}
        for event in (*above.events, *below.events)
    ]
    return group in of_mails or not told["files"] or stands_in(told["files"], text)
