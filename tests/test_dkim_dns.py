"""DKIM keys out of the DNS: asked where it is allowed, bounded, and never believed beyond that."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dkim
import dns.rcode
import msgspec
import nacl.signing
import pytest

from mailbridge import config
from mailbridge.bridge.compose import Examined, examine
from mailbridge.bridge.deliver import Delivery, Gateway, Settings
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.serve import bridge
from mailbridge.config import Source
from mailbridge.errors import ConfigError
from mailbridge.verifiers.dnskeys import (
    FAILURES,
    KEPT,
    MAX_TTL,
    MISSING_TTL,
    PAUSE,
    QUESTIONS,
    DnsKeys,
)
from tests.conftest import NOON
from tests.nameserver import NameServer, failed, garbage, name_server, records, truncated

FTP: Final = "ftp-master.example.org"
SEED: Final = bytes(range(32))
NAME: Final = f"sel._domainkey.{FTP}."
SIGNED: Final = (b"From", b"Subject", b"Date", b"Message-ID")

MAIL: Final = f"""\
From: Archive <ftpmaster@{FTP}>
Subject: hello_2.10-3_amd64.changes is NEW
Date: Fri, 20 Nov 2026 11:00:00 +0000
Message-ID: <1@{FTP}>
X-DAK: dak process-upload

It is new.
""".encode()


def public(seed: bytes = SEED) -> bytes:
    return base64.b64encode(bytes(nacl.signing.SigningKey(seed).verify_key))


KEY: Final = b"v=DKIM1; k=ed25519; p=" + public()


def signed(raw: bytes = MAIL, *, selector: str = "sel", domain: str = FTP) -> bytes:
    signature: bytes = dkim.sign(
        raw,
        selector.encode(),
        domain.encode(),
        base64.b64encode(SEED),
        signature_algorithm=b"ed25519-sha256",
        include_headers=list(SIGNED),
    )
    return signature.replace(b"\r\n", b"\n") + raw


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[NameServer]:
    with name_server() as found:
        yield found


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def keys(server: NameServer, clock: _Clock) -> DnsKeys:
    # (A loaded machine may be slow to answer itself.)
    return DnsKeys(resolver=server.resolver, clock=clock, seconds=30)


@contextmanager
def silence(server: NameServer, keys: DnsKeys) -> Iterator[None]:
    """Have *server* answer nothing in this block, and *keys* wait for it for a moment only."""
    server.is_silent, keys._seconds = True, 0.2
    yield
    server.is_silent, keys._seconds = False, 30


def source(**settings: object) -> Source:
    told = {
        "name": "changes",
        "maildir": "/nowhere",
        "emit": ["package-upload-queued-new"],
        "dkim_dns": True,
        "dkim_domains": [FTP],
        "require": "dkim",
    }
    return msgspec.convert(told | settings, Source)


def judged(raw: bytes, keys: DnsKeys, **settings: object) -> Examined:
    ours = source(**settings)
    return examine(raw, ours, received=NOON, prover=Prover([ours], dns=keys))


def verdict(raw: bytes, keys: DnsKeys, **settings: object) -> str:
    told = judged(raw, keys, **settings)
    return told.code or told.provenance.sent_by.how


def test_a_key_that_no_file_holds_is_asked_for(server: NameServer, keys: DnsKeys) -> None:
    server.zone[NAME] = records(KEY)

    told = judged(signed(), keys)

    assert (told.outcome, told.provenance.sent_by.who) == ("events", FTP)
    assert verdict(signed().replace(b"It is", b"It was"), keys) == "unproved"


def test_it_is_asked_once_until_its_time_is_over(
    server: NameServer, keys: DnsKeys, clock: _Clock
) -> None:
    server.zone[NAME] = records(KEY, ttl=10 * MAX_TTL)

    assert [verdict(signed(), keys) for _ in range(5)] == ["dkim"] * 5
    assert server.asked[NAME] == 1
    clock.now += MAX_TTL + 1
    server.zone[NAME] = records(b"v=DKIM1; k=ed25519; p=")
    assert verdict(signed(), keys) == "unproved"
    assert server.asked[NAME] == 2


def test_a_file_goes_before_the_dns(server: NameServer, keys: DnsKeys, tmp_path: Path) -> None:
    (tmp_path / f"sel.{FTP}").write_bytes(KEY)

    assert verdict(signed(), keys, dkim_keys=str(tmp_path)) == "dkim"
    assert not server.asked
    server.zone[f"new._domainkey.{FTP}."] = records(KEY)
    assert verdict(signed(selector="new"), keys, dkim_keys=str(tmp_path)) == "dkim"


def test_nobody_is_asked_unless_the_source_allows_it(
    server: NameServer, keys: DnsKeys, tmp_path: Path
) -> None:
    server.zone[NAME] = records(KEY)

    assert verdict(signed(), keys, dkim_dns=False, dkim_keys=str(tmp_path)) == "unproved"
    assert not server.asked


def test_nobody_is_asked_about_other_domains_or_names(server: NameServer, keys: DnsKeys) -> None:
    for raw in (
        signed(domain="evil.example.net"),
        signed(selector="../x"),
        signed(selector="x._domainkey.evil.example.net"),
        signed().replace(b"ed25519-sha256", b"rsa-sha1"),
        signed().replace(b"h=from", b"h=x"),
        MAIL,
    ):
        assert verdict(raw, keys) == "unproved"
    assert not server.asked


def test_a_name_that_is_not_there_is_no_key_and_is_asked_again_soon(
    server: NameServer, keys: DnsKeys, clock: _Clock
) -> None:
    assert [verdict(signed(), keys) for _ in range(3)] == ["unproved"] * 3
    assert server.asked[NAME] == 1

    server.zone[NAME] = records(KEY)
    clock.now += MISSING_TTL + 1
    assert verdict(signed(), keys) == "dkim"


@pytest.mark.parametrize(
    "answer",
    [
        records(b"v=DKIM1; k=ed25519; p="),
        records(b"v=DKIM1; k=ed25519; p=" + public(bytes(32))),
        records(b"v=DKIM1; k=ed25519; p=!!!"),
        records(b"v=DKIM1; k=rsa; p=" + public()),
        records(b"v=DKIM2; k=ed25519; p=" + public()),
        records(b"v=DKIM1; k=ed25519; t=s:y; p=" + public()),
        records(b"v=DKIM1; k=ed25519; s=chat; p=" + public()),
        records(b"v=spf1 -all"),
        records(),
        records(alias="nothing.example.org."),
        records(KEY, KEY.replace(b"DKIM1;", b"DKIM1; n=other;")),
        records(KEY + b"; n=" + b"x" * 20_000),
    ],
    ids=[
        *("revoked", "another", "no-base64", "another-algorithm", "another-version"),
        *("under-test", "for-another-service", "no-key", "no-record", "an-alias-to-nothing"),
        *("two-keys", "oversized"),
    ],
)
def test_what_is_no_good_key_proves_nothing(
    server: NameServer, keys: DnsKeys, answer: object
) -> None:
    assert callable(answer)
    server.zone[NAME] = answer

    assert verdict(signed(), keys) == "unproved"
    assert server.asked[NAME] == 1


def test_an_alias_may_lead_to_the_key(server: NameServer, keys: DnsKeys) -> None:
    server.zone[NAME] = records(KEY, alias="sel.keys.example.net.")

    assert verdict(signed(), keys) == "dkim"


def test_other_records_beside_the_key_are_no_doubt(server: NameServer, keys: DnsKeys) -> None:
    server.zone[NAME] = records(b"v=spf1 -all", KEY)

    assert verdict(signed(), keys) == "dkim"


@pytest.mark.parametrize("answer", [failed(dns.rcode.SERVFAIL), failed(dns.rcode.REFUSED)])
def test_an_answer_that_is_none_makes_a_mail_wait(
    server: NameServer, keys: DnsKeys, answer: object
) -> None:
    assert callable(answer)
    server.zone[NAME] = answer

    told = judged(signed(), keys)

    assert (told.outcome, told.code, told.emitted) == ("quarantined", "unchecked", ())
    assert told.reason is not None
    assert told.reason.startswith(f"DNS: {NAME}: ")
    server.zone[NAME] = records(KEY)
    assert verdict(signed(), keys) == "dkim"


def test_rubbish_is_no_answer_at_all(server: NameServer, keys: DnsKeys) -> None:
    server.zone[NAME] = garbage
    keys._seconds = 0.2

    assert verdict(signed(), keys) == "unchecked"
    assert server.asked[NAME]


def test_an_answer_for_tcp_that_nobody_gives_makes_a_mail_wait(
    server: NameServer, keys: DnsKeys
) -> None:
    server.zone[NAME] = truncated

    assert verdict(signed(), keys) == "unchecked"


def test_where_nobody_answers_few_mails_wait_for_it_and_none_is_lost(
    server: NameServer, keys: DnsKeys, clock: _Clock
) -> None:
    server.zone[NAME] = records(KEY)
    with silence(server, keys):
        first = [verdict(signed(), keys) for _ in range(FAILURES)]
        asked = server.asked[NAME]

        # From here on no question is sent, however much mail comes.
        assert [verdict(signed(), keys) for _ in range(200)] == ["unchecked"] * 200
        assert first == ["unchecked"] * FAILURES
        assert server.asked[NAME] == asked

        clock.now += PAUSE + 1
        assert verdict(signed(), keys) == "unchecked"
        tried = server.asked[NAME]
        assert tried > asked
        assert verdict(signed(), keys) == "unchecked"
        assert server.asked[NAME] == tried

    clock.now += PAUSE + 1
    assert verdict(signed(), keys) == "dkim"


def test_while_nobody_answers_what_is_known_is_still_good(
    server: NameServer, keys: DnsKeys
) -> None:
    server.zone[NAME] = records(KEY)
    assert verdict(signed(), keys) == "dkim"

    with silence(server, keys):
        unknown = [verdict(signed(selector=f"s{n}"), keys) for n in range(FAILURES)]
        assert unknown == ["unchecked"] * FAILURES
        assert verdict(signed(), keys) == "dkim"


def test_mail_without_a_signature_of_ours_waits_for_nobody(
    server: NameServer, keys: DnsKeys
) -> None:
    server.is_silent = True

    assert verdict(MAIL, keys, require="none") == "none"
    assert verdict(signed(domain="evil.example.net"), keys, require="none") == "none"
    assert not server.asked


def test_one_mail_asks_a_few_questions_and_no_more(server: NameServer, keys: DnsKeys) -> None:
    raw = MAIL
    for number in range(5):
        raw = signed(raw, selector=f"s{number}")

    assert verdict(raw, keys) == "unchecked"
    assert server.asked.total() == QUESTIONS


def test_a_signature_whose_key_is_known_is_enough(
    server: NameServer, keys: DnsKeys, tmp_path: Path
) -> None:
    (tmp_path / f"sel.{FTP}").write_bytes(KEY)
    both = signed(signed(), selector="other")

    with silence(server, keys):
        assert verdict(both, keys, dkim_keys=str(tmp_path)) == "dkim"
    assert server.asked


def test_what_is_remembered_is_bounded(server: NameServer, keys: DnsKeys) -> None:
    server.zone[NAME] = records(KEY)
    for number in range(KEPT + 5):
        keys._answered(f"s{number}._domainkey.{FTP}.", None, MISSING_TTL)

    assert len(keys._known) == KEPT
    assert verdict(signed(), keys) == "dkim"


def test_a_mail_that_waited_goes_out_when_it_is_tried_again(
    server: NameServer, keys: DnsKeys, tmp_path: Path, clock: _Clock
) -> None:
    ours = source(maildir=f"{tmp_path}/Maildir")
    settings = config.Config(
        state=f"{tmp_path}/state", entity="mailbridge.example.org", source=(source(dkim_dns=True),)
    )
    mail = Delivery(signed(), (ours,), NOON)
    server.zone[NAME] = records(KEY)

    with bridge(settings, accept_test=False, sending=False) as made:
        gateway = Gateway(
            made.state.outbox,
            made.state.quarantine,
            Settings(),
            prover=Prover([ours], dns=keys),
            clock=lambda: NOON,
        )
        with silence(server, keys):
            (waits,) = gateway.deliver([mail])
        clock.now += PAUSE + 1
        (goes,) = gateway.deliver([mail._replace(again=True)])

    assert (waits.verdict.verdict, waits.verdict.code) == ("quarantined", "unchecked")
    assert goes.verdict.verdict == "events"


def test_without_dnspython_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns", None)

    with pytest.raises(ConfigError, match=r"source 'changes': dkim_dns: .*mailbridge\[dkim\]"):
        Prover([source()])
