"""Key files, a service's own key, trusted keys, policy.toml, and `mailbridge key`."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge import keyring
from mailbridge.cli import main
from mailbridge.errors import ConfigError, MailbridgeError, NeedsOperator
from mailbridge.signing import SigningKey, VerifyKey, unpadded

SEED = bytes(range(32))
LISTS = "mailbridge.lists.example.org"


def no_name() -> str | None:
    return None


@pytest.fixture
def key() -> SigningKey:
    return SigningKey(LISTS, SEED)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# -- files -----------------------------------------------------------------------------------------


def test_a_pair_has_exactly_laniakeas_form(tmp_path: Path, key: SigningKey) -> None:
    secret, public = keyring.write_pair(tmp_path, key, "Lists")

    assert secret.name == "mailbridge.lists.example.org.key_secret"
    assert public.read_text().splitlines()[1:] == [
        "metadata",
        '    id = "mailbridge.lists.example.org"',
        '    name = "Lists"',
        "curve",
        '    public-key = ""',
        "ed",
        '    verify-key = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"',
    ]
    assert secret.read_text().splitlines()[1:] == [
        *public.read_text().splitlines()[1:],
        '    signing-key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"',
    ]


def test_a_pair_reads_back_and_only_its_owner_may_read_the_secret(
    tmp_path: Path, key: SigningKey
) -> None:
    secret, public = keyring.write_pair(tmp_path, key)

    assert keyring.read_secret(secret).verify_key == key.verify_key
    assert keyring.read_public(public) == key.verify_key
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [public.name, secret.name]


def test_a_key_is_never_overwritten(tmp_path: Path, key: SigningKey) -> None:
    secret, _ = keyring.write_pair(tmp_path, key)
    before = secret.read_bytes()

    with pytest.raises(NeedsOperator, match="there already"):
        keyring.write_pair(tmp_path, SigningKey.generate(LISTS))

    assert secret.read_bytes() == before


LANIAKEA = """\
#   ****  Generated on 2026-11-20 10:15:00 by the keytool  ****
#   A public key, other people write it like this.

metadata
    id = "mailbridge.lists.example.org"
    name = "A machine"   # and remarks
    email = nobody at all
curve
    public-key = "N3XUnYmyTPgUbQrHzNEkJhBsTbkO9yu9xCzTBEXKHyA"
ed
    verify-key = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
"""


@pytest.mark.parametrize(
    "text",
    [
        LANIAKEA,
        LANIAKEA.replace("Mbg=", "Mbg"),
        LANIAKEA.replace("    ", "\t"),
        LANIAKEA.replace(" = ", "="),
        LANIAKEA.replace("\n", "\r\n"),
        LANIAKEA.replace('"', "'"),
        LANIAKEA.replace('"', ""),
        "\ufeff" + LANIAKEA,
        LANIAKEA.rstrip(),
    ],
    ids=["padded", "unpadded", "tabs", "tight", "crlf", "single", "bare", "bom", "no newline"],
)
def test_key_files_of_others_are_read_leniently(tmp_path: Path, key: SigningKey, text: str) -> None:
    path = tmp_path / "theirs.key"
    path.write_bytes(text.encode())

    assert keyring.read_public(path) == key.verify_key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "metadata\n",
        LANIAKEA.replace("verify-key", "public-key"),
        LANIAKEA.replace("A6EH", "A6"),
        LANIAKEA.replace("A6EH", "!!!!"),
        LANIAKEA.replace(LISTS, "../../etc/passwd"),
        LANIAKEA + "???\n",
        "x" * 100_000,
    ],
)
def test_what_is_no_key_file_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.key"
    path.write_text(text)

    with pytest.raises(NeedsOperator, match=r"odd\.key"):
        keyring.read_public(path)


@given(st.binary(max_size=400))
def test_no_bytes_make_reading_a_key_file_fail_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.key"
    path.write_bytes(raw)

    with pytest.raises(NeedsOperator):
        keyring.read_public(path)


@pytest.mark.fault(108)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_secret_key_that_others_may_touch_is_refused(
    tmp_path: Path, key: SigningKey, mode: int
) -> None:
    secret, _ = keyring.write_pair(tmp_path, key)
    secret.chmod(mode)

    with pytest.raises(NeedsOperator, match="chmod 600"):
        keyring.read_secret(secret)


@pytest.mark.fault(109)
def test_an_error_about_a_secret_key_never_shows_it(tmp_path: Path, key: SigningKey) -> None:
    secret, _ = keyring.write_pair(tmp_path, key)
    secret.write_text(secret.read_text().replace(key.seed_base64, key.seed_base64[:-1]))

    with pytest.raises(NeedsOperator) as caught:
        keyring.read_secret(secret)

    assert key.seed_base64[:8] not in str(caught.value)


def test_a_secret_key_with_another_public_half_is_refused(tmp_path: Path, key: SigningKey) -> None:
    secret, _ = keyring.write_pair(tmp_path, key)
    other = SigningKey.generate(LISTS).verify_key
    secret.write_text(secret.read_text().replace(key.verify_key.base64, other.base64))

    with pytest.raises(NeedsOperator, match="do not belong together"):
        keyring.read_secret(secret)


def test_a_fifo_among_keys_does_not_hang_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.key")

    assert keyring.trusted(tmp_path) == {}


# -- a service's own key ---------------------------------------------------------------------------


def test_a_first_start_makes_a_key_and_the_next_finds_it(tmp_path: Path) -> None:
    first = keyring.ensure(tmp_path, "mailbridge", qualified=lambda: "lists.example.org")
    again = keyring.ensure(tmp_path, "mailbridge", qualified=lambda: "renamed.example.org")

    assert first.entity == LISTS
    assert again.verify_key == first.verify_key


def test_a_host_without_a_qualified_name_gets_its_key_into_its_name(tmp_path: Path) -> None:
    key = keyring.ensure(tmp_path, "relay", qualified=no_name)

    assert key.entity.startswith("relay.")
    assert key.entity.endswith("-" + bytes(key.verify_key)[:2].hex())
    assert keyring.ensure(tmp_path, "relay", qualified=no_name).entity == key.entity


def test_bridge_and_relay_have_keys_of_their_own(tmp_path: Path) -> None:
    bridge = keyring.ensure(tmp_path, "mailbridge", qualified=no_name)
    relay = keyring.ensure(tmp_path, "relay", qualified=no_name)

    assert bridge.verify_key != relay.verify_key
    assert set(keyring.trusted(tmp_path / "keys")) == {bridge.entity, relay.entity}


def test_a_configured_entity_decides(tmp_path: Path) -> None:
    keyring.ensure(tmp_path, "mailbridge", qualified=no_name)

    assert keyring.ensure(tmp_path, "mailbridge", "org.example", qualified=no_name).entity == (
        "org.example"
    )


def test_several_keys_need_an_operator_who_chooses(tmp_path: Path) -> None:
    for name in ("mailbridge.a", "mailbridge.b"):
        keyring.write_pair(tmp_path / "keys", SigningKey.generate(name))

    with pytest.raises(NeedsOperator, match=r"mailbridge\.a, mailbridge\.b"):
        keyring.load(tmp_path, "mailbridge")


def test_a_pair_that_a_crash_left_half_is_made_whole(tmp_path: Path, key: SigningKey) -> None:
    _, public = keyring.write_pair(tmp_path / "keys", key)
    public.unlink()

    keyring.load(tmp_path, "mailbridge")

    assert keyring.read_public(public) == key.verify_key


@pytest.fixture
def credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory / keyring.CREDENTIAL


def give(path: Path, key: SigningKey) -> None:
    secret, public = keyring.write_pair(path.parent, key)
    public.unlink()
    secret.rename(path)
    path.chmod(0o440)  # as systemd gives it, its ACL shown as the group's


def test_a_credential_of_systemd_is_the_bridges_key(
    tmp_path: Path, credential: Path, key: SigningKey
) -> None:
    give(credential, key)
    state = tmp_path / "state"

    assert keyring.ensure(state, "mailbridge", qualified=no_name).verify_key == key.verify_key
    assert keyring.ensure(state, "relay", qualified=no_name).entity.startswith("relay.")
    assert keyring.trusted(state / "keys")[LISTS] == key.verify_key
    assert not (state / "keys" / f"{LISTS}.key_secret").exists()


def test_a_credential_named_relay_is_the_relays_key(tmp_path: Path, credential: Path) -> None:
    give(credential, SigningKey.generate("relay.example.org"))

    assert keyring.default_entity("relay", tmp_path) == "relay.example.org"
    assert keyring.default_entity("mailbridge", tmp_path) is None


def test_a_credential_that_is_not_the_configured_entitys_is_refused(
    tmp_path: Path, credential: Path, key: SigningKey
) -> None:
    give(credential, key)

    with pytest.raises(NeedsOperator, match="the configuration says"):
        keyring.load(tmp_path, "mailbridge", "mailbridge.elsewhere")


# -- trusted keys ----------------------------------------------------------------------------------


def test_a_bad_file_among_trusted_keys_is_told_and_left_out(
    tmp_path: Path, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    keyring.write_public(tmp_path / "good.key", key.verify_key)
    (tmp_path / "bad.key").write_text("???")

    with caplog.at_level(logging.ERROR):
        keys = keyring.TrustedKeys([tmp_path])
        assert keys.current() == {LISTS: key.verify_key}
        assert keys.current() == {LISTS: key.verify_key}

    assert [record.getMessage().count("bad.key") for record in caplog.records] == [1]


def test_two_keys_for_one_entity_are_both_left_out(tmp_path: Path, key: SigningKey) -> None:
    keyring.write_public(tmp_path / "a.key", key.verify_key)
    keyring.write_public(tmp_path / "b.key", SigningKey.generate(LISTS).verify_key)

    assert keyring.trusted(tmp_path) == {}


def test_a_key_added_or_removed_counts_within_two_seconds(tmp_path: Path, key: SigningKey) -> None:
    clock = Clock()
    keys = keyring.TrustedKeys([tmp_path / "keys"], clock=clock)
    assert keys.current() == {}

    path = tmp_path / "keys" / "a.key"
    keyring.write_public(path, key.verify_key)
    clock.now = 1.5
    assert keys.current() == {LISTS: key.verify_key}

    path.unlink()
    clock.now = 3.0
    assert keys.current() == {}


def test_our_own_key_wins_over_a_trusted_file_with_its_name(
    tmp_path: Path, key: SigningKey
) -> None:
    own, others = keyring.state_dirs(tmp_path)
    keyring.write_public(own / "a.key", key.verify_key)
    keyring.write_public(others / "a.key", SigningKey.generate(LISTS).verify_key)

    assert keyring.TrustedKeys([own, others]).current() == {LISTS: key.verify_key}


# -- policy ----------------------------------------------------------------------------------------


def test_without_a_line_a_key_may_emit_anything_but_ours(tmp_path: Path) -> None:
    policy = keyring.Policy(tmp_path / "policy.toml")

    assert policy.allows("a", "org.example.mentors.upload")
    assert policy.allows("a", "_lk.archive.package-upload-accepted")
    assert not policy.allows("a", "_lk.mailbridge.bug-closed")
    assert not policy.allows("a", "_lk.mailbridge-test.bug-closed")
    assert not policy.allows("a", "_lk.mailbridge")
    assert policy.allows("a", "_lk.mailbridgefoo.bug-closed")


def test_a_line_says_all_that_a_key_may_emit(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('"a.example" = ["_lk.mailbridge.bug-*"]\n')
    policy = keyring.Policy(path)

    assert policy.allows("a.example", "_lk.mailbridge.bug-closed")
    assert not policy.allows("a.example", "org.example.x")


def test_a_change_of_the_policy_counts_and_a_slip_in_it_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "policy.toml", Clock()
    policy = keyring.Policy(path, clock=clock)

    path.write_text("a = ['x.*']\n")
    clock.now = 1.5
    assert not policy.allows("a", "y.z")

    path.write_text("a = ['x.*', \n")
    clock.now = 3.0
    assert not policy.allows("a", "y.z")
    assert "the last one holds" in caplog.text


def test_before_somebody_is_turned_away_keys_and_policy_are_looked_at_again(
    tmp_path: Path, signer: SigningKey
) -> None:
    path, clock = tmp_path / "policy.toml", Clock()
    policy = keyring.Policy(path, clock=clock)
    trusted = keyring.TrustedKeys([tmp_path], clock=clock)
    assert not trusted.current()
    path.write_text("a = ['x.*']\n")
    keyring.write_public(tmp_path / "a.key", signer.verify_key)

    for now, is_seen in ((0.01, False), (0.06, True)):
        clock.now = now
        policy.doubt()
        trusted.doubt()

        assert policy.allows("a", "y.z") is not is_seen
        assert bool(trusted.current()) is is_seen


@pytest.mark.parametrize("text", ["a = 'x'", "a = [1]", "[a]\nb = []", "= 1", "'a b' = []"])
def test_a_policy_that_is_wrong_from_the_start_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"policy\.toml"):
        keyring.Policy(path)


def test_a_line_is_added_once_and_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("# ours\nb = []")

    keyring.allow(path, "a.example", ["org.example.*"])
    keyring.allow(path, "a.example", ["org.example.*"])

    assert path.read_text() == '# ours\nb = []\n"a.example" = ["org.example.*"]\n'
    with pytest.raises(NeedsOperator, match="edit it there"):
        keyring.allow(path, "a.example", ["*"])


# -- the command -----------------------------------------------------------------------------------


def test_key_new_makes_a_pair_and_refuses_to_make_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["key", "new", LISTS, "--dir", str(tmp_path / "d"), "--state", str(tmp_path)]

    assert main(words) == 0
    made = capsys.readouterr().out.split()
    assert [Path(path).suffix for path in made] == [".key_secret", ".key"]
    assert main(words) == 78
    assert capsys.readouterr().err.count("\n") == 1


def test_key_new_takes_no_path_for_a_name(tmp_path: Path) -> None:
    assert main(["key", "new", "../x", "--state", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_key_trust_takes_the_public_half_alone_and_key_list_shows_it(
    tmp_path: Path, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    secret, _ = keyring.write_pair(tmp_path, key)

    assert main(["key", "trust", str(secret), "--state", str(state), "--tags", "a.*", "b"]) == 0
    capsys.readouterr()
    assert main(["key", "list", "--json", "--state", str(state)]) == 0

    assert json.loads(capsys.readouterr().out) == {
        "id": LISTS,
        "fingerprint": key.verify_key.fingerprint,
        "role": "trusted",
        "tags": ["a.*", "b"],
    }
    assert key.seed_base64 not in (state / "keys" / "trusted" / f"{LISTS}.key").read_text()


def test_key_trust_refuses_another_key_for_a_name_that_has_one(
    tmp_path: Path, key: SigningKey
) -> None:
    _, public = keyring.write_pair(tmp_path / "a", key)
    _, other = keyring.write_pair(tmp_path / "b", SigningKey.generate(LISTS))

    assert main(["key", "trust", str(public), "--state", str(tmp_path)]) == 0
    assert main(["key", "trust", str(other), "--state", str(tmp_path)]) == 78


def test_key_show_knows_the_states_keys_and_files(
    tmp_path: Path, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    _, public = keyring.write_pair(tmp_path / "keys", key)

    for wanted in (LISTS, str(public)):
        assert main(["key", "show", wanted, "--json", "--state", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out)["verify_key"] == key.verify_key.base64
    assert main(["key", "show", "nobody", "--state", str(tmp_path)]) == 2


def test_a_fingerprint_looks_as_ssh_shows_it() -> None:
    key = VerifyKey(LISTS, bytes(SigningKey(LISTS, SEED).verify_key))

    assert key.fingerprint == "SHA256:Vkdap1RjR0wChd9dvyvKtz2mUTWIOem3dIGy6rEHcIw"


@given(st.text(max_size=60))
def test_no_text_becomes_an_entity_that_could_leave_its_directory(name: str) -> None:
    try:
        entity = VerifyKey(name, bytes(32)).entity
    except MailbridgeError:
        return
    assert "/" not in entity
    assert unpadded(entity.encode())
    assert Path(f"/keys/{entity}.key").resolve().parent == Path("/keys")
