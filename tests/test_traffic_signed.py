"""Made-up mail that is signed: the same bytes everywhere, and what a bridge with the key proves."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path

import pytest

from mailbridge import traffic
from mailbridge.bridge.prove import Prover
from mailbridge.config import Source
from mailbridge.event import TEST_NAMESPACE
from mailbridge.traffic import FAULTS, Key, Post
from mailbridge.verifiers.files import Files
from mailbridge.verifiers.gpgv import Gpgv
from mailbridge.verifiers.openpgp import openpgp
from tests.daemons import LOOPBACK, Daemon, make_maildir, read_events
from tests.madeup import examined, matched, posts
from tests.trial import differences, stored

FINGERPRINT = "5C9E975243BCE4473353A438449E5BEBCB13F6F7"
GOLDEN = "61f6681e734be003a409313ac717c500b461159451142222396fd934bb626e72"
TEXT = "Subject: dashes  \n- and blanks at the end \t\n\nEnd"


@pytest.fixture
def keyring(tmp_path: Path) -> str:
    """The public key as `generate --keyring` writes it."""
    (tmp_path / "made-up.gpg").write_bytes(Key().keyring)
    return str(tmp_path / "made-up.gpg")


def test_key_and_signatures_are_the_same_bytes_on_every_machine() -> None:
    key = Key()
    told = (key.keyring, key.clearsigned(TEXT).encode(), key.detached(b"data"))

    assert key.fingerprint == FINGERPRINT
    assert hashlib.sha256(repr(told).encode()).hexdigest() == GOLDEN


@pytest.mark.needs_program("gpgv")
def test_both_who_can_check_signatures_find_them_good(keyring: str) -> None:
    armor = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
        + TEXT.replace("\n-", "\n- -")
        + "\n"
        + Key().clearsigned(TEXT)
    ).encode()
    for verifier in (openpgp([keyring], "test"), Gpgv(Files([Path(keyring)]), "gpgv")):
        good = verifier.check(armor).claim
        bad = verifier.check(armor.replace(b"blanks", b"blinks")).claim
        apart = verifier.check_detached(b"data", Key().detached(b"data").encode()).claim

        assert (good.status, good.fingerprint) == ("good", FINGERPRINT)
        assert bad.status == "bad"
        assert (apart.status, apart.fingerprint) == ("good", FINGERPRINT)


def test_signing_changes_nothing_of_the_story_but_signatures() -> None:
    plain, signed = posts(200), posts(200, key=Key())

    assert [(p.n, p.what, p.news) for p in plain] == [(p.n, p.what, p.news) for p in signed]
    assert [p.raw for p in plain] != [p.raw for p in signed]


@pytest.mark.fault(84)
def test_who_has_the_key_knows_who_signed_every_upload_and_makes_nothing_of_the_tampered(
    keyring: str,
) -> None:
    wary = Source(name="wary", maildir="unused", keyrings=(keyring,))
    prover = Prover([wary])
    tampered = 0
    for post in posts(600, faults=FAULTS, mix={"uploads": 1}, key=Key()):
        told = examined(post, wary, prover=prover)
        assert matched(told.emitted, post.news) is not None, (post.what, told.reason)
        if post.what == "dak announce tampered":
            tampered += 1
            assert (told.outcome, told.code) == ("quarantined", "bad-signature")
        if told.emitted and told.kind == "dak-accepted" and "2008" not in post.what:
            assert told.emitted[0].data["provenance"]["signed_by"] == {
                "how": "openpgp",
                "status": "good",
                "fingerprint": FINGERPRINT,
            }, post.what

    assert tampered > 5


def test_the_archive_signs_what_it_announces_today(keyring: str) -> None:
    wary = Source(
        name="wary", maildir="unused", archive_keyring=keyring, require="archive-signature"
    )
    prover = Prover([wary])
    backed = 0
    for post in posts(300, mix={"uploads": 1}, key=Key()):
        told = examined(post, wary, prover=prover)
        if told.emitted:
            backed += 1
            assert told.provenance.sent_by.who == FINGERPRINT
            assert _is_signed(post)

    assert backed > 30


def _is_signed(post: Post) -> bool:
    return any(
        part.get_content_type() == "multipart/signed"
        for part in message_from_bytes(post.raw).walk()
    )


def test_signed_mails_go_through_a_real_bridge_that_has_the_key(tmp_path: Path) -> None:
    maildir, keyring = make_maildir(tmp_path / "Maildir"), tmp_path / "made-up.gpg"
    config, expect = tmp_path / "mailbridge.toml", tmp_path / "expected.jsonl"
    words = ["--maildir", str(maildir), "--count", "150", "--mix", "uploads=1", "--sign"]
    words += ["--faults", "tampered,oversize", "--max-mail", "64K"]
    words += ["--keyring", str(keyring), "--expect", str(expect)]
    subprocess.run([sys.executable, "-m", "mailbridge", "generate", *words], check=True)
    config.write_text(
        f"state = {json.dumps(str(tmp_path / 'state'))}\nmax_mail = '64K'\n[[source]]\n"
        f"name = 'made-up'\nmaildir = {json.dumps(str(maildir))}\nexisting = 'emit'\n"
        f"keyrings = [{json.dumps(str(keyring))}]\nrequire = 'channel'\n"
    )
    expected = [
        traffic.News(line["tag"].removeprefix(f"{TEST_NAMESPACE}."), line["data"], str(n))
        for n, line in enumerate(map(json.loads, expect.read_text().splitlines()))
    ]
    with Daemon("-c", config, "run", "--accept-test", *LOOPBACK) as daemon:
        read_events(daemon.ready()["read"], tmp_path / "state", len(expected))
        assert daemon.counted(r"code=too-large", 1)
        assert daemon.counted(r"code=bad-signature", 1)
        assert daemon.stop() == 0
    events = list(stored(tmp_path / "state" / "journal.db"))
    signed = {
        event["data"]["provenance"]["signed_by"].get("fingerprint")
        for event in events
        if event["data"].get("checksums")
    }

    assert differences(events, expected) == []
    assert signed == {FINGERPRINT}
