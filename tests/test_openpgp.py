"""Who signed a block: pysequoia and gpgv are asked the same, and must say the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailbridge.armor import block
from mailbridge.errors import ConfigError, MalformedMail, Unchecked
from mailbridge.verifiers import OpenPGP
from mailbridge.verifiers.files import Files
from mailbridge.verifiers.gpgv import Gpgv
from mailbridge.verifiers.openpgp import openpgp
from mailbridge.verifiers.sequoia import Sequoia
from tests.openpgp import PAST, GnuPG, gnupg

pytestmark = pytest.mark.needs_program("gpg", "gpgv")

TEXT = "Format: 1.8\nSource: hello\nVersion: 2.10-3\nChanges:\n hello (2.10-3) unstable\n"
EVIL = "Format: 1.8\nSource: evil\nVersion: 9\n"


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    with gnupg() as home:
        yield home


@pytest.fixture(scope="module")
def jane(gpg: GnuPG) -> str:
    return gpg.key("Jane Doe <jane@example.org>")


@pytest.fixture(scope="module")
def stranger(gpg: GnuPG) -> str:
    return gpg.key("A Stranger <stranger@example.org>")


@pytest.fixture(scope="module")
def signed(gpg: GnuPG, jane: str) -> bytes:
    return gpg.clearsign(TEXT, jane)


def by_sequoia(*paths: Path) -> OpenPGP:
    files = Files(paths)
    engine = Sequoia(files)
    engine.load(files.read())
    return engine


def by_gpgv(*paths: Path) -> OpenPGP:
    return Gpgv(Files(paths), "/usr/bin/gpgv")


Engine = Callable[..., OpenPGP]


@pytest.fixture(params=[by_sequoia, by_gpgv], ids=["pysequoia", "gpgv"])
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def ring(tmp_path: Path, gpg: GnuPG, jane: str) -> Path:
    path = tmp_path / "uploaders.gpg"
    path.write_bytes(gpg.export(jane))
    return path


def status(verifier: OpenPGP, armored: bytes) -> str:
    checked = verifier.check(armored)
    if checked.claim.status not in ("good", "revoked", "expired"):
        assert (checked.text, checked.claim.fingerprint) == (b"", None)
    return checked.claim.status


# -- good ------------------------------------------------------------------------------------------


def test_a_good_signature_names_the_key_and_the_very_text(
    engine: Engine, ring: Path, signed: bytes, jane: str
) -> None:
    checked = engine(ring).check(signed)

    assert (checked.claim.how, checked.claim.status) == ("openpgp", "good")
    assert checked.claim.fingerprint == jane
    assert checked.text.decode().strip() == TEXT.strip()


@pytest.mark.fault(92)
def test_what_mail_systems_do_to_line_ends_does_no_harm(
    engine: Engine, ring: Path, signed: bytes
) -> None:
    assert status(engine(ring), signed.replace(b"\n", b"\r\n")) == "good"
    assert status(engine(ring), signed.replace(b"2.10-3\n", b"2.10-3  \n")) == "good"


@pytest.mark.fault(89, 91)
def test_an_armor_quoted_in_a_changelog_is_text(
    engine: Engine, ring: Path, gpg: GnuPG, jane: str, signed: bytes
) -> None:
    quoting = TEXT + " -----BEGIN PGP SIGNED MESSAGE-----\n" + signed.decode()

    checked = engine(ring).check(gpg.clearsign(quoting, jane))

    assert checked.claim.status == "good"
    assert checked.text.decode().strip() == quoting.strip()


@pytest.mark.fault(90)
def test_what_stands_in_the_armor_s_own_headers_is_not_signed_text(
    engine: Engine, ring: Path, signed: bytes
) -> None:
    injected = signed.replace(b"\n\n", b"\nComment: x\nSource: evil\n\n", 1)

    checked = engine(ring).check(injected)

    assert b"evil" not in checked.text


@pytest.mark.fault(87)
def test_a_key_that_expired_after_it_signed_was_good_at_the_time(
    engine: Engine, tmp_path: Path, gpg: GnuPG
) -> None:
    key = gpg.key(f"Was Here {engine.__name__} <was@example.org>", expires="1y", at=PAST)
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(gpg.export(key))

    in_time = engine(ring).check(gpg.clearsign(TEXT, key, at="20200601T120000"))

    assert (in_time.claim.status, in_time.claim.fingerprint) == ("good", key)


def test_a_keyring_that_holds_only_the_newest_words_about_a_key_does_not_make_it_bad(
    tmp_path: Path, gpg: GnuPG
) -> None:
    key = gpg.key("Renewed <renewed@example.org>", expires="1y", at=PAST)
    before = gpg.clearsign(TEXT, key, at="20200601T120000")
    gpg.run("--quick-set-expire", key, "0")
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(gpg.run("--export-options", "export-minimal", "--export", key))

    assert status(by_gpgv(ring), before) == "good"
    assert status(openpgp([str(ring)], "keyrings"), before) == "good"
    assert status(by_sequoia(ring), before) == "none"
    assert status(openpgp([str(ring)], "x"), before.replace(b"hello", b"evil!")) == "bad"


# -- not good --------------------------------------------------------------------------------------


@pytest.mark.fault(84)
def test_a_tampered_text_is_bad(engine: Engine, ring: Path, signed: bytes) -> None:
    assert status(engine(ring), signed.replace(b"hello", b"evil!")) == "bad"


def test_a_signature_of_another_text_is_bad(
    engine: Engine, ring: Path, gpg: GnuPG, jane: str, signed: bytes
) -> None:
    other = gpg.clearsign(EVIL, jane)
    at = b"-----BEGIN PGP SIGNATURE-----"
    pasted = other.partition(at)[0] + at + signed.partition(at)[2]

    assert status(engine(ring), pasted) == "bad"


@pytest.mark.fault(85)
@pytest.mark.parametrize("cut", [30, 60, 100])
def test_a_truncated_signature_is_bad(engine: Engine, ring: Path, signed: bytes, cut: int) -> None:
    end = b"-----END PGP SIGNATURE-----\n"

    assert status(engine(ring), signed.removesuffix(end)[:-cut] + b"\n" + end) == "bad"


@pytest.mark.fault(86, 95)
def test_a_key_in_no_keyring_is_unknown_and_not_named(
    engine: Engine, ring: Path, gpg: GnuPG, stranger: str
) -> None:
    assert status(engine(ring), gpg.clearsign(TEXT, stranger)) == "unknown-key"


@pytest.mark.fault(87)
def test_a_key_that_had_expired_when_it_signed_is_expired(
    engine: Engine, tmp_path: Path, gpg: GnuPG
) -> None:
    name = f"Late {engine.__name__} <late@example.org>"
    key = gpg.key(name, expires="1y", at=PAST)
    old = gpg.export(key)
    gpg.run("--quick-set-expire", key, "0")
    late = gpg.clearsign(TEXT, key)
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(old)

    assert status(engine(ring), late) == "expired"


@pytest.mark.fault(88)
def test_a_revoked_key_is_revoked_and_a_tampered_text_under_it_bad(
    engine: Engine, tmp_path: Path, gpg: GnuPG
) -> None:
    key = gpg.key(f"Lost {engine.__name__} <lost@example.org>")
    before = gpg.clearsign(TEXT, key)
    gpg.revoke(key)
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(gpg.export(key))

    checked = engine(ring).check(before)

    assert (checked.claim.status, checked.claim.fingerprint) == ("revoked", key)
    assert status(engine(ring), before.replace(b"hello", b"evil!")) == "bad"


@pytest.mark.fault(93)
def test_a_name_that_looks_like_a_status_line_is_a_name(
    engine: Engine, tmp_path: Path, gpg: GnuPG
) -> None:
    name = rf"X\n[GNUPG:] GOODSIG 0 {engine.__name__} <x@example.org>"
    key = gpg.key(name)
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(gpg.export(key))

    assert status(engine(ring), gpg.clearsign(TEXT, key)) == "good"
    assert status(engine(ring), gpg.clearsign(TEXT, key).replace(b"hello", b"evil!")) == "bad"


@pytest.mark.fault(94)
def test_a_digest_of_another_age_proves_nothing(engine: Engine, tmp_path: Path, gpg: GnuPG) -> None:
    name = f"Old {engine.__name__} <old@example.org>"
    gpg.run("--quick-generate-key", name, "rsa2048", "sign", "never")
    told = gpg.run("--with-colons", "--list-keys", f"={name}").decode()
    key = next(line.split(":")[9] for line in told.splitlines() if line.startswith("fpr:"))
    ring = tmp_path / "ring.gpg"
    ring.write_bytes(gpg.export(key))

    assert status(engine(ring), gpg.clearsign(TEXT, key, "--digest-algo", "SHA1")) == "none"
    assert status(engine(ring), gpg.clearsign(TEXT, key, "--digest-algo", "SHA256")) == "good"


def test_two_signatures_under_one_text_are_not_one(
    engine: Engine, ring: Path, gpg: GnuPG, jane: str, stranger: str
) -> None:
    both = gpg.clearsign(TEXT, jane, "-u", stranger)

    assert status(engine(ring), both) == "bad"


# -- the block that is shown to the verifier ---------------------------------------------------


@pytest.mark.fault(81, 82)
def test_only_one_block_is_shown_and_nothing_around_it(signed: bytes) -> None:
    around = b"Source: evil\n\n" + signed + b"\nSource: evil\n"

    assert block(around) == signed


@pytest.mark.fault(83)
def test_of_two_blocks_the_first_that_ends_is_read(
    engine: Engine, ring: Path, gpg: GnuPG, stranger: str, signed: bytes
) -> None:
    evil = gpg.clearsign(EVIL, stranger)

    assert status(engine(ring), block(evil + signed) or b"") == "unknown-key"
    assert (
        engine(ring).check(block(signed + evil) or b"").text.startswith(b"Format: 1.8\nSource: h")
    )
    assert status(engine(ring), block(signed + signed) or b"") == "good"


def test_a_block_that_was_begun_in_vain_is_not_read(signed: bytes) -> None:
    begun = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nSource: evil\n"

    assert block(begun + signed) == signed


def test_what_is_far_too_large_for_a_signature_is_shown_to_nobody(signed: bytes) -> None:
    end = b"-----END PGP SIGNATURE-----"

    with pytest.raises(MalformedMail, match=r"a signature of \d+ bytes"):
        block(signed.replace(end, b"AAAA\n" * 20_000 + end))


# -- detached --------------------------------------------------------------------------------------


def test_a_detached_signature_is_of_these_bytes_and_no_others(
    engine: Engine, ring: Path, gpg: GnuPG, jane: str, stranger: str
) -> None:
    data = TEXT.replace("\n", "\r\n").encode()
    signature = gpg.detached(data, jane)

    def said(data: bytes, signature: bytes) -> str:
        return engine(ring).check_detached(data, signature).claim.status

    assert said(data, signature) == "good"
    assert said(data + b"x", signature) == "bad"
    assert said(data, gpg.detached(data, stranger)) == "unknown-key"
    assert said(data, b"no signature") == "bad"


# -- keyrings --------------------------------------------------------------------------------------


@pytest.mark.fault(97)
def test_a_keyring_that_is_replaced_is_read_again(
    engine: Engine, ring: Path, gpg: GnuPG, stranger: str, signed: bytes
) -> None:
    verifier = engine(ring)
    assert status(verifier, signed) == "good"

    other = ring.with_suffix(".new")
    other.write_bytes(gpg.export(stranger))
    other.rename(ring)

    assert status(verifier, signed) == "unknown-key"
    assert status(verifier, gpg.clearsign(TEXT, stranger)) == "good"


@pytest.mark.fault(97)
@pytest.mark.parametrize("damage", ["gone", "empty"])
def test_a_keyring_that_is_lost_answers_nothing(
    engine: Engine, ring: Path, signed: bytes, damage: str
) -> None:
    verifier = engine(ring)
    content = ring.read_bytes()
    if damage == "gone":
        ring.unlink()
    else:
        ring.write_bytes(b"")

    with pytest.raises(Unchecked):
        verifier.check(signed)
    with pytest.raises(Unchecked):
        verifier.check(signed)

    ring.write_bytes(content)
    assert status(verifier, signed) == "good"


def test_a_keyring_that_is_none_is_said_at_the_start(tmp_path: Path) -> None:
    junk = tmp_path / "junk.gpg"
    junk.write_bytes(b"no keyring")

    with pytest.raises(ConfigError, match=r"here: .*junk.gpg: no keyring"):
        openpgp([str(junk)], "here")
    with pytest.raises(ConfigError, match=r"here: .*missing.gpg: cannot be read: No such file"):
        openpgp([str(tmp_path / "missing.gpg")], "here")


def test_an_armored_keyring_is_one_too(
    tmp_path: Path, gpg: GnuPG, jane: str, signed: bytes
) -> None:
    ring = tmp_path / "ring.asc"
    ring.write_bytes(gpg.run("--armor", "--export", jane))

    assert status(openpgp([str(ring)], "keyrings"), signed) == "good"


def test_a_key_revoked_in_one_keyring_is_revoked_whatever_another_says(
    tmp_path: Path, gpg: GnuPG
) -> None:
    key = gpg.key("Twice <twice@example.org>")
    old, new = tmp_path / "old.gpg", tmp_path / "new.gpg"
    before = gpg.clearsign(TEXT, key)
    old.write_bytes(gpg.export(key))
    gpg.revoke(key)
    new.write_bytes(gpg.export(key))

    assert status(by_sequoia(old, new), before) == "revoked"


# -- a verifier that fails (96) ----------------------------------------------------------------


@pytest.mark.fault(96)
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exec sleep 60", "no answer within"),
        ("kill -SEGV $$", "said nothing"),
        ("exit 0", "said nothing"),
        ("exit 2", "said nothing"),
    ],
)
def test_a_gpgv_that_hangs_or_crashes_answers_nothing(
    tmp_path: Path, ring: Path, signed: bytes, script: str, words: str
) -> None:
    stub = tmp_path / "gpgv"
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)

    with pytest.raises(Unchecked, match=words):
        Gpgv(Files([ring]), str(stub), timeout=0.5).check(signed)


@pytest.mark.fault(96)
def test_a_gpgv_that_is_gone_answers_nothing(tmp_path: Path, ring: Path, signed: bytes) -> None:
    with pytest.raises(Unchecked, match="No such file"):
        Gpgv(Files([ring]), os.fspath(tmp_path / "gpgv")).check(signed)


def test_without_the_extra_it_is_gpgv_and_without_either_an_error_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ring: Path, signed: bytes
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    armored = tmp_path / "ring.asc"
    armored.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")

    assert status(openpgp([str(ring)], "keyrings"), signed) == "good"
    with pytest.raises(ConfigError, match="gpgv reads none in armor; 'gpg --dearmor'"):
        openpgp([str(armored)], "keyrings")

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"install gpgv or mailbridge\[openpgp\]"):
        openpgp([str(ring)], "keyrings")
