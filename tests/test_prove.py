"""What backs a mail, from the mail to the claim in its event; and every way to fake it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import dkim
import msgspec
import nacl.signing
import pytest

from mailbridge import armor, config
from mailbridge.bridge.compose import Examined, examine
from mailbridge.bridge.deliver import Delivery
from mailbridge.bridge.prove import Prover, _signature_of
from mailbridge.bridge.serve import bridge
from mailbridge.cli import main
from mailbridge.config import Source
from mailbridge.errors import ConfigError
from mailbridge.event import read_event
from mailbridge.mail import read_mail
from mailbridge.pgpmime import signed_part
from mailbridge.proof import SignedBy
from mailbridge.verifiers import Checked
from mailbridge.verifiers.openpgp import openpgp
from tests.openpgp import GnuPG, gnupg

NOON: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FTP: Final = "ftp-master.example.org"
US: Final = "mx.example.org"

CHANGES: Final = """\
Format: 1.8
Date: Fri, 20 Nov 2026 10:00:00 +0000
Source: hello
Architecture: source
Version: 2.10-3
Distribution: unstable
Urgency: medium
Maintainer: Jane Doe <jane@example.org>
Changed-By: Jane Doe <jane@example.org>
Closes: 7
Changes:
 hello (2.10-3) unstable; urgency=medium
 .
   * Schöne Grüße. (Closes: #7)
Files:
 d41d8cd98f00b204e9800998ecf8427e 1234 devel optional hello_2.10-3.dsc
"""

HEADERS: Final = f"""\
From: Archive <ftpmaster@{FTP}>
To: changes@lists.example.org
Subject: Accepted hello 2.10-3 (source) into unstable
Date: Fri, 20 Nov 2026 11:00:00 +0000
Message-ID: <1@{FTP}>
X-DAK: dak process-upload
X-Debian: DAK
MIME-Version: 1.0
"""
PLAIN: Final = 'Content-Type: text/plain; charset="utf-8"\nContent-Transfer-Encoding: 8bit\n\n'


@pytest.fixture(scope="module")
def gpg() -> Iterator[GnuPG]:
    with gnupg() as home:
        yield home


@pytest.fixture(scope="module")
def jane(gpg: GnuPG) -> str:
    return gpg.key("Jane Doe <jane@example.org>")


@pytest.fixture(scope="module")
def archive(gpg: GnuPG) -> str:
    return gpg.key("Archive <ftpmaster@ftp-master.example.org>")


@pytest.fixture(scope="module")
def signed(gpg: GnuPG, jane: str) -> str:
    return gpg.clearsign(CHANGES, jane).decode()


@pytest.fixture
def ring(tmp_path: Path, gpg: GnuPG, jane: str) -> Path:
    path = tmp_path / "uploaders.gpg"
    path.write_bytes(gpg.export(jane))
    return path


def source(**settings: object) -> Source:
    return msgspec.convert({"name": "changes", "maildir": "/nowhere"} | settings, Source)


def judged(raw: str | bytes, **settings: object) -> Examined:
    ours = source(**settings)
    data = raw.encode() if isinstance(raw, str) else raw
    return examine(data, ours, received=NOON, prover=Prover([ours]))


def backing(raw: str | bytes, **settings: object) -> tuple[str, str | None]:
    told = judged(raw, **settings)
    assert told.events
    return told.provenance.sent_by.how, told.provenance.sent_by.who


def announced(text: str) -> str:
    return HEADERS + PLAIN + text


# -- who signed the .changes -------------------------------------------------------------------


def claim(raw: str | bytes, ring: Path) -> tuple[str, dict[str, Any]]:
    told = judged(raw, keyrings=[str(ring)])
    return told.code or told.outcome, msgspec.to_builtins(told.provenance.signed_by)


@pytest.mark.needs_program("gpg")
def test_who_signed_an_upload_is_told_in_its_event(signed: str, ring: Path, jane: str) -> None:
    told = judged(announced(signed), keyrings=[str(ring)])

    (event,) = told.emitted
    assert event.data["provenance"] == {
        "sent_by": {"how": "none"},
        "signed_by": {"how": "openpgp", "status": "good", "fingerprint": jane},
    }
    assert event.uuid == judged(announced(signed)).events[0].uuid


@pytest.mark.needs_program("gpg")
def test_without_keyrings_nobody_looks_and_says_so(signed: str) -> None:
    told = judged(announced(signed)).provenance.signed_by

    assert msgspec.to_builtins(told) == {"how": "none", "status": "none"}


@pytest.mark.needs_program("gpg")
def test_what_is_not_signed_is_signed_by_nobody(ring: Path) -> None:
    assert claim(announced(CHANGES), ring) == ("events", {"how": "none", "status": "none"})


@pytest.mark.fault(81, 82)
@pytest.mark.needs_program("gpg")
@pytest.mark.parametrize(
    "around",
    [
        "Source: evil\nVersion: 9\n\n{}",  # 81
        "{}\nSource: evil\nVersion: 9\n",  # 82
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nSource: evil\n\n{}",
        "> -----BEGIN PGP SIGNED MESSAGE-----\n{}",
    ],
)
def test_lies_around_a_good_signature_are_not_read(
    signed: str, ring: Path, jane: str, around: str
) -> None:
    told = judged(announced(around.format(signed)), keyrings=[str(ring)])

    (event,) = told.emitted
    assert (event.data["source_name"], event.data["source_version"]) == ("hello", "2.10-3")
    assert told.provenance.signed_by.fingerprint == jane


@pytest.mark.fault(90)
@pytest.mark.needs_program("gpg")
@pytest.mark.parametrize("injected", ["Source: evil\n", "Hash: SHA1\nSource: evil\n"])
def test_what_the_armor_s_headers_say_is_not_read(signed: str, ring: Path, injected: str) -> None:
    text = signed.replace("\n\n", f"\n{injected}\n", 1)

    told = judged(announced(text), keyrings=[str(ring)])

    assert told.events[0].data["source_name"] == "hello"
    assert told.provenance.signed_by.status in ("good", "bad")


@pytest.mark.needs_program("gpg")
@pytest.mark.parametrize("blank", ["\u00a0", "\x0b", "\x0c", "\x1c", "\u2003", " ", "\t"])
def test_a_line_that_looks_empty_to_us_alone_hides_nothing(
    signed: str, ring: Path, blank: str
) -> None:
    # A verifier that takes the line for a header would begin to read after the next empty one.
    text = signed.replace("\n\n", f"\n{blank}\nSource: evil\nVersion: 9\n\n", 1)

    told = judged(announced(text), keyrings=[str(ring)])

    assert not any(event.data["source_name"] == "evil" for event in told.emitted)


@pytest.mark.needs_program("gpg")
def test_a_second_paragraph_inside_is_not_read(gpg: GnuPG, jane: str, ring: Path) -> None:
    two = gpg.clearsign(CHANGES + "\nSource: evil\nVersion: 9\n", jane).decode()

    told = judged(announced(two), keyrings=[str(ring)])

    assert told.provenance.signed_by.status == "good"
    assert told.emitted[0].data["source_name"] == "hello"


@pytest.mark.fault(84)
@pytest.mark.needs_program("gpg")
def test_a_tampered_upload_is_kept_and_not_emitted(signed: str, ring: Path) -> None:
    raw = announced(signed.replace("2.10-3.dsc", "9.9.9-3.dsc"))

    told = judged(raw, keyrings=[str(ring)])

    assert (told.outcome, told.code) == ("quarantined", "bad-signature")
    assert told.emitted == ()


@pytest.mark.fault(85)
@pytest.mark.needs_program("gpg")
@pytest.mark.parametrize("cut", [20, 120, 300])
def test_a_truncated_upload_is_kept_and_not_emitted(signed: str, ring: Path, cut: int) -> None:
    assert judged(announced(signed[:-cut]), keyrings=[str(ring)]).outcome == "quarantined"


@pytest.mark.fault(83)
@pytest.mark.needs_program("gpg")
def test_of_two_blocks_the_one_that_is_read_is_the_one_that_is_checked(
    gpg: GnuPG, archive: str, signed: str, ring: Path, jane: str
) -> None:
    evil = gpg.clearsign(CHANGES.replace("hello", "evil"), archive).decode()

    first_evil = judged(announced(evil + signed), keyrings=[str(ring)])
    first_good = judged(announced(signed + evil), keyrings=[str(ring)])

    assert first_evil.events[0].data["source_name"] == "evil"
    assert first_evil.provenance.signed_by.status == "unknown-key"
    assert first_good.events[0].data["source_name"] == "hello"
    assert first_good.provenance.signed_by.fingerprint == jane


@pytest.mark.fault(92)
@pytest.mark.needs_program("gpg")
def test_transfer_encodings_line_ends_and_charsets_change_nothing(signed: str, ring: Path) -> None:
    base64_body = base64.encodebytes(signed.encode()).decode()
    as_base64 = HEADERS + PLAIN.replace("8bit", "base64") + base64_body
    latin1 = HEADERS + PLAIN.replace("utf-8", "iso-8859-1") + signed

    assert claim(announced(signed).replace("\n", "\r\n"), ring)[1]["status"] == "good"
    assert claim(as_base64, ring)[1]["status"] == "good"
    # Signed as UTF-8 and called Latin-1: the bytes are the same, and so are the letters.
    assert claim(latin1, ring)[1]["status"] == "good"
    # Recoded on its way: these are not the bytes that were signed.
    assert claim(latin1.encode("latin-1"), ring)[0] == "bad-signature"


class _Liar:
    """A verifier that finds everything good, and read something else."""

    def check(self, block: bytes) -> Checked:
        assert block
        return Checked(SignedBy(how="openpgp", status="good", fingerprint="F"), b"Source: evil\n")

    def check_detached(self, data: bytes, signature: bytes) -> Checked:
        raise AssertionError((data, signature))


@pytest.mark.needs_program("gpg")
def test_a_good_word_for_another_text_than_we_read_is_none(signed: str, ring: Path) -> None:
    mail = read_mail(announced(signed).encode())
    text = judged(announced(signed)).events[0].data
    read = armor.plain(CHANGES.split("\n"))

    assert text["source_name"] == "hello"
    assert _signature_of(read, mail, _Liar()).status == "bad"
    assert _signature_of(read, mail, openpgp([str(ring)], "here")).status == "good"


@pytest.mark.needs_program("gpg")
def test_the_block_that_is_checked_is_the_one_that_was_read(
    gpg: GnuPG, jane: str, signed: str, ring: Path
) -> None:
    greeting = gpg.clearsign("Hello, this is about something else.\n", jane).decode()
    part = "--x\nContent-Type: text/plain; charset=utf-8\n\n"
    head = HEADERS + 'Content-Type: multipart/mixed; boundary="x"\n\n'
    mail = read_mail(f"{head}{part}{greeting}\n{part}{signed}\n--x--\n".encode())
    rings = openpgp([str(ring)], "here")

    assert _signature_of(armor.plain(CHANGES.split("\n")), mail, rings).status == "good"
    assert _signature_of("Source: evil", mail, rings).status == "bad"


@pytest.mark.fault(97)
@pytest.mark.needs_program("gpg")
def test_a_keyring_that_vanishes_makes_uploads_wait(signed: str, ring: Path) -> None:
    ours = source(keyrings=[str(ring)])
    prover = Prover([ours])
    content = ring.read_bytes()
    raw = announced(signed).encode()

    ring.unlink()
    lost = examine(raw, ours, received=NOON, prover=prover)
    ring.write_bytes(content)
    back = examine(raw, ours, received=NOON, prover=prover)

    assert (lost.outcome, lost.code) == ("quarantined", "unchecked")
    assert "uploaders.gpg: cannot be read: No such file" in (lost.reason or "")
    assert back.provenance.signed_by.status == "good"


def test_a_keyring_that_was_never_there_is_said_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"source 'changes': keyrings: /no/ring: cannot be read"):
        Prover([source(keyrings=["/no/ring"])])


@pytest.mark.fault(98)
@pytest.mark.needs_program("gpg")
def test_an_uploader_s_signature_is_no_archive_s_word(signed: str, ring: Path) -> None:
    told = judged(announced(signed), keyrings=[str(ring)], require="hop", hops=[FTP])

    assert (told.outcome, told.code) == ("quarantined", "unproved")


# -- hop and authres -------------------------------------------------------------------------------

HOP: Final = f"Received: from {FTP} ({FTP} [192.0.2.1]) by {US} (Postfix)\n"
AUTHRES: Final = f"Authentication-Results: {US}; dkim=pass header.d={FTP}\n"
BY_US: Final = {"authserv_id": US, "dkim_domains": [FTP]}


def test_our_mail_server_s_received_names_who_gave_it_the_mail() -> None:
    raw = announced(CHANGES)

    assert backing(HOP + raw, hops=[FTP.upper()]) == ("hop", FTP)
    assert backing(HOP + raw) == ("none", None)
    assert backing(HOP + raw, hops=["other.example.org"]) == ("none", None)
    assert backing(HOP.replace(f"({FTP} ", "(unknown ") + raw, hops=[FTP]) == ("none", None)


@pytest.mark.fault(99)
def test_forged_headers_without_a_word_of_ours_prove_nothing() -> None:
    listed = f"List-Id: <changes.lists.example.org>\n{announced(CHANGES)}"

    told = judged(listed, **BY_US, require="authres", lists=["changes.lists.example.org"])

    assert (told.outcome, told.code) == ("quarantined", "unproved")


@pytest.mark.fault(100)
def test_our_mail_server_s_results_count_above_its_received_alone() -> None:
    assert backing(AUTHRES + HOP + announced(CHANGES), **BY_US) == ("authres", FTP)
    assert backing(HOP + AUTHRES + announced(CHANGES), **BY_US) == ("none", None)


def test_the_stronger_claim_is_told() -> None:
    raw = AUTHRES + HOP + announced(CHANGES)

    assert backing(raw, **BY_US, hops=[FTP], require="channel") == ("authres", FTP)
    assert backing(HOP + announced(CHANGES), hops=[FTP], require="channel") == ("hop", FTP)
    assert backing(announced(CHANGES), hops=[FTP], require="channel") == ("channel", "changes")


def test_what_our_server_found_good_covers_what_the_signature_names() -> None:
    signature = f"DKIM-Signature: v=1; d={FTP}; s=a; h=From:Subject:Date:Content-Type:"
    signature += "Content-Transfer-Encoding:MIME-Version; bh=x; b=y\n"
    raw = AUTHRES + HOP + signature + announced(CHANGES)

    assert backing(raw, **BY_US) == ("authres", FTP)
    assert backing(raw.replace("Subject:Date", "Date"), **BY_US) == ("none", None)
    assert backing(raw.replace("X-DAK", "Debian-Suite: stable\nX-DAK"), **BY_US)[0] == "none"
    assert backing(raw.replace("; bh=", "; l=5; bh="), **BY_US)[0] == "none"


# -- dkim ------------------------------------------------------------------------------------------

SELECTOR: Final = "sel"
SEED: Final = bytes(range(32))
SIGNED_HEADERS: Final = (
    *("From", "To", "Subject", "Date", "Message-ID"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    directory = tmp_path / "dkim"
    directory.mkdir()
    public = base64.b64encode(bytes(nacl.signing.SigningKey(SEED).verify_key)).decode()
    for domain in (FTP, "evil.example.net"):
        (directory / f"{SELECTOR}.{domain}").write_text(f"v=DKIM1; k=ed25519; p={public}\n")
    return directory


def dkim_signed(
    raw: str,
    *,
    domain: str = FTP,
    headers: tuple[str, ...] = SIGNED_HEADERS,
    length: bool = False,
    selector: str = SELECTOR,
) -> bytes:
    data = raw.encode()
    signature: bytes = dkim.sign(
        data,
        selector.encode(),
        domain.encode(),
        base64.b64encode(SEED),
        canonicalize=(b"relaxed", b"relaxed"),
        signature_algorithm=b"ed25519-sha256",
        include_headers=[name.encode() for name in headers],
        length=length,
    )
    return signature.replace(b"\r\n", b"\n") + data


@pytest.fixture
def by_dkim(keys: Path) -> dict[str, object]:
    return {"dkim_keys": str(keys), "dkim_domains": [FTP], "require": "dkim"}


def unproved(raw: bytes, settings: dict[str, object]) -> bool:
    told = judged(raw, **settings)
    return (told.outcome, told.code, told.emitted) == ("quarantined", "unproved", ())


def test_a_good_dkim_signature_of_a_domain_we_named_proves_its_sender(
    by_dkim: dict[str, object],
) -> None:
    raw = dkim_signed(announced(CHANGES))

    assert backing(raw, **by_dkim) == ("dkim", FTP)
    assert backing(raw.replace(b"\n", b"\r\n"), **by_dkim) == ("dkim", FTP)
    assert judged(raw, **by_dkim).outcome == "events"


@pytest.mark.fault(103)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"hello_2.10-3.dsc", b"hello_9.99-9.dsc"),
        (b"into unstable", b"into stable"),
        (b"\nSubject:", b"\nSubject: Accepted evil 1 (source) into unstable\nSubject:"),  # 103
        (b"\nFrom:", b"\nFrom: x@example.net\nFrom:"),
        (b"\nX-DAK:", b"\nDebian-Suite: stable\nX-DAK:"),
        (b"\nX-DAK:", b"\nDebian-Archive-Action: reject\nX-DAK:"),
        (b"\nX-DAK:", b"\nDebian-Changes: evil_1_source.changes\nX-DAK:"),
    ],
)
def test_what_was_changed_since_is_not_proved(
    by_dkim: dict[str, object], old: bytes, new: bytes
) -> None:
    raw = dkim_signed(announced(CHANGES))
    assert old in raw

    told = judged(raw.replace(old, new, 1), **by_dkim)

    assert (told.outcome, told.emitted) == ("quarantined", ())
    assert told.provenance.sent_by.how == "none"


def test_a_footer_that_a_list_added_breaks_the_proof(by_dkim: dict[str, object]) -> None:
    assert unproved(dkim_signed(announced(CHANGES)) + b"--\nlist footer\n", by_dkim)


@pytest.mark.fault(102)
def test_another_domain_s_good_signature_proves_nothing(by_dkim: dict[str, object]) -> None:
    assert unproved(dkim_signed(announced(CHANGES), domain="evil.example.net"), by_dkim)


def test_a_second_signature_may_be_the_good_one(by_dkim: dict[str, object]) -> None:
    mine = dkim_signed(announced(CHANGES)).decode()

    assert backing(dkim_signed(mine, domain="evil.example.net"), **by_dkim) == ("dkim", FTP)


def test_a_body_or_a_subject_that_was_left_open_is_not_proved(by_dkim: dict[str, object]) -> None:
    without = tuple(name for name in SIGNED_HEADERS if name != "Subject")

    assert unproved(dkim_signed(announced(CHANGES), length=True), by_dkim)
    assert unproved(dkim_signed(announced(CHANGES), headers=without), by_dkim)


def test_a_mail_too_large_to_check_is_not_proved(by_dkim: dict[str, object]) -> None:
    assert unproved(dkim_signed(announced(CHANGES) + "\n" + "x" * 600_000), by_dkim)


def test_a_key_that_is_not_there_or_another_proves_nothing(
    by_dkim: dict[str, object], keys: Path
) -> None:
    raw = dkim_signed(announced(CHANGES))
    other = base64.b64encode(bytes(nacl.signing.SigningKey(bytes(32)).verify_key)).decode()

    (keys / f"{SELECTOR}.{FTP}").write_text(f"v=DKIM1; k=ed25519; p={other}\n")
    assert unproved(raw, by_dkim)
    (keys / f"{SELECTOR}.{FTP}").unlink()
    assert unproved(raw, by_dkim)


def test_a_key_may_stand_as_in_a_zone(by_dkim: dict[str, object], keys: Path) -> None:
    path = keys / f"{SELECTOR}.{FTP}"
    head, _, key = path.read_text().strip().partition("p=")
    path.write_text(f'sel._domainkey IN TXT ( "{head}" \n "p={key[:9]}" "{key[9:]}" ) ; key\n')

    assert backing(dkim_signed(announced(CHANGES)), **by_dkim) == ("dkim", FTP)


def test_no_name_in_a_signature_leads_out_of_the_directory(
    by_dkim: dict[str, object], keys: Path
) -> None:
    (keys.parent / f"x.{FTP}").write_text((keys / f"{SELECTOR}.{FTP}").read_text())

    assert unproved(dkim_signed(announced(CHANGES), selector="../x"), by_dkim)


def test_keys_that_are_gone_make_mail_wait(by_dkim: dict[str, object], keys: Path) -> None:
    ours = source(**by_dkim)
    prover = Prover([ours])
    keys.rename(keys.with_name("elsewhere"))

    told = examine(dkim_signed(announced(CHANGES)), ours, received=NOON, prover=prover)

    assert (told.outcome, told.code) == ("quarantined", "unchecked")


def test_a_directory_that_was_never_there_is_said_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"dkim_keys: /no/keys: no directory"):
        Prover([source(dkim_keys="/no/keys", dkim_domains=[FTP])])


# -- the archive's own signature -------------------------------------------------------------------


@pytest.fixture
def by_archive(tmp_path: Path, gpg: GnuPG, archive: str) -> dict[str, object]:
    path = tmp_path / "archive.gpg"
    path.write_bytes(gpg.export(archive))
    return {"archive_keyring": str(path), "require": "archive-signature"}


def in_mime(gpg: GnuPG, key: str, text: str = CHANGES) -> str:
    part = PLAIN + text
    signature = gpg.detached(part.replace("\n", "\r\n").encode(), key).decode()
    return f"""{HEADERS}\
Content-Type: multipart/signed; micalg="pgp-sha256";
 protocol="application/pgp-signature"; boundary="==1=="

--==1==
{part}
--==1==
Content-Type: application/pgp-signature; name="signature.asc"

{signature}
--==1==--
"""


@pytest.mark.needs_program("gpg")
def test_the_archive_s_signature_of_its_whole_mail_is_the_strongest_proof(
    gpg: GnuPG, archive: str, by_archive: dict[str, object]
) -> None:
    raw = in_mime(gpg, archive)

    assert backing(raw, **by_archive) == ("archive-signature", archive)
    assert backing(raw.replace("\n", "\r\n"), **by_archive) == ("archive-signature", archive)
    assert backing(HOP + raw, **by_archive, hops=[FTP]) == ("archive-signature", archive)


@pytest.mark.fault(84, 98)
@pytest.mark.needs_program("gpg")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hello_2.10-3.dsc", "hello_9.99-9.dsc"),
        ("into unstable", "into stable"),  # no header is under the signature
        ("X-DAK:", "Debian-Suite: stable\nX-DAK:"),
        ("X-DAK:", "Debian-Changes: evil_1_source.changes\nX-DAK:"),
        ('boundary="==1=="', 'boundary="==2=="'),
        ("\n\n--==1==\n", "\n\n--==1==\n" + PLAIN + CHANGES + "\n--==1==\n"),
        ("\n--==1==--", ""),
        ("application/pgp-signature;", "application/x;"),
    ],
)
def test_what_was_changed_or_pasted_since_is_not_the_archive_s(
    gpg: GnuPG, archive: str, by_archive: dict[str, object], old: str, new: str
) -> None:
    raw = in_mime(gpg, archive)
    assert old in raw

    told = judged(raw.replace(old, new, 1), **by_archive)

    assert told.provenance.sent_by.how == "none"
    assert told.emitted == ()


@pytest.mark.needs_program("gpg")
def test_a_boundary_that_two_readers_find_differently_hides_no_other_text(
    gpg: GnuPG, archive: str, by_archive: dict[str, object]
) -> None:
    evil = f"--==2==\n{PLAIN}{CHANGES.replace('hello', 'hello-evil')}\n--==2==--\n"
    raw = in_mime(gpg, archive)
    raw = raw.replace('boundary="==1=="', 'x="; boundary===1=="; boundary="==2=="')
    raw = raw.replace("\n\n--==1==", f"\n\n{evil}\n--==1==", 1)

    told = judged(raw, **by_archive)

    assert told.events[0].data["source_name"] == "hello-evil"
    assert unproved(raw.encode(), by_archive)


@pytest.mark.needs_program("gpg")
def test_an_uploader_cannot_sign_as_the_archive(
    gpg: GnuPG, jane: str, by_archive: dict[str, object]
) -> None:
    assert unproved(in_mime(gpg, jane).encode(), by_archive)


@pytest.mark.needs_program("gpg")
def test_both_signatures_are_told_of_a_mail_that_has_both(
    gpg: GnuPG, archive: str, by_archive: dict[str, object], signed: str, ring: Path
) -> None:
    told = judged(in_mime(gpg, archive, signed), **by_archive, keyrings=[str(ring)])

    assert told.outcome == "events"
    assert told.provenance.sent_by.who == archive
    assert told.provenance.signed_by.status == "good"


def test_a_signature_that_begins_a_hundred_thousand_times_is_none() -> None:
    begun = "-----BEGIN PGP SIGNATURE-----\n" * 100_000
    raw = f"""{HEADERS}Content-Type: multipart/signed; boundary=x;
 protocol="application/pgp-signature"

--x
{PLAIN}
--x
Content-Type: application/pgp-signature

{begun}
--x--
"""

    assert signed_part(read_mail(raw.encode())) is None


# -- the whole bridge ------------------------------------------------------------------------------


@pytest.mark.needs_program("gpg")
def test_bridge_and_explain_say_the_same_of_who_is_behind_a_mail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signed: str, ring: Path, jane: str
) -> None:
    toml, mail = tmp_path / "mailbridge.toml", tmp_path / "mail.eml"
    toml.write_text(f"""
state = "{tmp_path}/state"
entity = "mailbridge.example.org"
[[source]]
name = "changes"
maildir = "{tmp_path}/Maildir"
require = "hop"
hops = ["{FTP}"]
keyrings = ["{ring}"]
""")
    raw = HOP + announced(signed)
    mail.write_text(raw)
    settings = config.load(toml)

    status = main(["-c", str(toml), "explain", "--json", str(mail)])
    told = json.loads(capsys.readouterr().out)
    main(["-c", str(toml), "explain", str(mail)])
    words = capsys.readouterr().out
    with bridge(settings, accept_test=False, sending=False) as ours:
        ours.gateway.deliver([Delivery(raw.encode(), settings.source, NOON)])
        (event,) = [read_event(stored.raw) for stored in ours.state.outbox.all()]

    assert status == 0
    assert f"backed by our mail server, which took it from '{FTP}'" in words
    assert f"its upload is signed by a key in the source's keyrings ({jane})" in words
    assert event.data["provenance"] == told["provenance"]
    assert told["provenance"] == {
        "sent_by": {"how": "hop", "who": FTP},
        "signed_by": {"how": "openpgp", "status": "good", "fingerprint": jane},
    }


@pytest.mark.needs_program("gpg")
def test_an_upload_that_waited_for_its_keyring_goes_out_when_it_is_tried_again(
    tmp_path: Path, signed: str, ring: Path
) -> None:
    settings = config.Config(
        state=f"{tmp_path}/state",
        entity="mailbridge.example.org",
        source=(source(maildir=f"{tmp_path}/Maildir", keyrings=[str(ring)]),),
    )
    mail = Delivery(announced(signed).encode(), settings.source, NOON)
    content = ring.read_bytes()

    with bridge(settings, accept_test=False, sending=False) as ours:
        ring.unlink()
        (waits,) = ours.gateway.deliver([mail])
        ring.write_bytes(content)
        (goes,) = ours.gateway.deliver([mail._replace(again=True)])
        (event,) = [read_event(stored.raw) for stored in ours.state.outbox.all()]

    assert (waits.verdict.verdict, waits.verdict.code) == ("quarantined", "unchecked")
    assert goes.verdict.verdict == "events"
    assert event.data["provenance"]["signed_by"]["status"] == "good"


def test_a_bridge_does_not_start_without_what_it_is_to_check_with(tmp_path: Path) -> None:
    ours = source(keyrings=[f"{tmp_path}/ring.gpg"])
    settings = config.Config(state=f"{tmp_path}/state", entity="mailbridge.x", source=(ours,))

    with (
        pytest.raises(ConfigError, match=r"keyrings: .*ring.gpg: cannot be read"),
        bridge(settings, accept_test=False, sending=False),
    ):
        pass
