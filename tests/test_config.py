"""The configuration: each message names the file, the key and the mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailbridge import config
from mailbridge.errors import ConfigError

SOURCE = '[[source]]\nname = "changes"\nmaildir = "/var/mail/changes"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mailbridge.toml"


def _refused(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert "\n" not in told
    assert caught.value.exit_status == 78
    return told.removeprefix(f"{path}: ")


def test_without_a_file_there_are_defaults_that_work() -> None:
    settings = config.load(None)

    config.check(settings)
    assert settings.source == ()
    assert settings.relay.submit == "tcp://127.0.0.1:5581"


def test_what_the_readme_shows_is_read(path: Path) -> None:
    path.write_text("""
entity = "mailbridge.lists.example.org"
state  = "/var/lib/mailbridge"

[[source]]
name     = "pureos-changes"
maildir  = "/var/lib/mailbridge/Maildir"
lists    = ["pureos-changes.lists.puri.sm"]
archive  = "PureOS"
repo     = "pureos"
kinds    = ["laniakea", "dak"]
emit     = ["bug-commented"]
require  = "channel"
after    = "delete:30d"
existing = "emit"
expect_every = "24h"
rate     = "20/s"
namespace = "org.example.mailbridge"

[relay]
publish = "tcp://127.0.0.1:5582"
keep    = "365d"

[submit]
lighthouse = { submit = "tcp://127.0.0.1:5571", publish = "tcp://127.0.0.1:5572", rate = "2/s" }
""")

    settings = config.load(path)

    (source,) = settings.source
    assert (source.archive, source.kinds) == ("PureOS", ("laniakea", "dak"))
    assert settings.submit.lighthouse
    assert settings.submit.lighthouse.changes_cap == 500
    assert settings.state_dir == Path("/var/lib/mailbridge")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('entitiy = "x"', "entitiy: no such setting; did you mean 'entity'?"),
        (
            f'{SOURCE}maildr = "/x"',
            "source 'changes': maildr: no such setting; did you mean 'maildir'?",
        ),
        ("[relay]\nsubmitt = 1", "relay.submitt: no such setting; did you mean 'submit'?"),
        (
            '[submit.lighthouse]\nsubmit="a"\npublish="b"\nrat="1/s"',
            "submit.lighthouse.rat: no such setting; did you mean 'rate'?",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_one(path: Path, text: str, told: str) -> None:
    assert _refused(path, text) == told


def test_an_unknown_key_that_resembles_none_names_them_all(path: Path) -> None:
    told = _refused(path, "[relay]\nzzz = 1")

    known = "submit, publish, read, keep, upstream, peer, curve"
    assert told == f"relay.zzz: no such setting; known are {known}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("entity = 5", "entity: "),
        ('entity = "a/b"', "entity: "),
        ('max_mail = "huge"', "max_mail: "),
        ('max_mail = "0"', "max_mail: "),
        (f'{SOURCE}require = "dikm"', "source 'changes': require: "),
        (f'{SOURCE}require = "dkim"', "source 'changes': require: "),
        (f'{SOURCE}lists = "one"', "source 'changes': lists: "),
        (f'{SOURCE}after = "burn"', "source 'changes': after: "),
        (f'{SOURCE}after = "delete:soon"', "source 'changes': after: "),
        (f'{SOURCE}existing = "maybe"', "source 'changes': existing: "),
        (f'{SOURCE}rate = "fast"', "source 'changes': rate: "),
        (f'{SOURCE}rate = "0/s"', "source 'changes': rate: "),
        (f'{SOURCE}expect_every = "daily"', "source 'changes': expect_every: "),
        (f'{SOURCE}namespace = "a b"', "source 'changes': namespace: "),
        (f'{SOURCE}namespace = "_lk.archive"', "source 'changes': namespace: "),
        (f"{SOURCE}stand_in = true", "source 'changes': stand_in: "),
        (SOURCE + SOURCE, "source 'changes': "),
        ('[[source]]\nname = "nowhere"', "source 'nowhere': "),
        ('[[source]]\nmaildir = "/x"', "source number 1: "),
        ('[relay]\nkeep = "forever"', "relay.keep: "),
        ('[submit]\nlighthouse = { submit = "tcp://x:1" }', "submit.lighthouse: "),
        (
            '[submit]\nlighthouse = { submit = "a", publish = "b", rate = "many" }',
            "submit.lighthouse.rate: ",
        ),
    ],
)
def test_a_value_that_cannot_be_names_its_key(path: Path, text: str, key: str) -> None:
    assert _refused(path, text).startswith(key)


@pytest.mark.parametrize(
    ("written", "mend"),
    [
        ('after = "burn"', "'delete:30d'"),
        ('rate = "fast"', "'20/s'"),
        ('expect_every = "daily"', "'24h'"),
        ('namespace = "_lk.archive"', "'org.example.mailbridge'"),
        ('existing = "maybe"', "one of 'skip', 'emit'"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_one_that_can(
    path: Path, written: str, mend: str
) -> None:
    assert mend in _refused(path, SOURCE + written)


def test_what_is_no_toml_is_told_with_its_line(path: Path) -> None:
    told = _refused(path, "entity = \n")

    assert told.startswith("no TOML: ")
    assert "line 1" in told


def test_what_is_no_utf8_is_no_toml(path: Path) -> None:
    path.write_bytes(b'entity = "\xff"')

    with pytest.raises(ConfigError, match="no TOML"):
        config.load(path)


def test_a_file_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(path)


def test_a_user_s_file_goes_before_the_service_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mailbridge").mkdir()
    mine = tmp_path / "mailbridge/mailbridge.toml"
    mine.touch()

    assert config.default_config() == mine


def test_a_home_that_may_not_be_entered_holds_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the relay's unit has it: its user's home is the bridge's state, which it shall not see.
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(closed))
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        found = config.default_config()
    finally:
        os.seteuid(me)

    assert found in (None, config.SYSTEM_CONFIG)


@pytest.mark.parametrize(
    ("require", "means"),
    [
        ("archive-signature", 'archive_keyring = "/etc/mailbridge/archive.gpg"'),
        ("dkim", 'dkim_keys = "/etc/mailbridge/dkim"\ndkim_domains = ["ftp.example.org"]'),
        ("dkim", 'dkim_dns = true\ndkim_domains = ["ftp.example.org"]'),
        ("authres", 'authserv_id = "mx.example.org"\ndkim_domains = ["ftp.example.org"]'),
        ("hop", 'hops = ["ftp.example.org"]'),
        # What is stronger is enough.
        ("hop", 'archive_keyring = "/etc/mailbridge/archive.gpg"'),
    ],
)
def test_what_a_source_requires_it_must_give_the_means_for(
    path: Path, require: str, means: str
) -> None:
    text = f'{SOURCE}require = "{require}"\n'

    told = _refused(path, text)
    path.write_text(text + means)

    assert told.startswith(f"source 'changes': require: '{require}' cannot be reached without ")
    assert config.load(path).source[0].require == require


def test_what_is_weaker_is_no_means_for_what_is_required(path: Path) -> None:
    told = _refused(path, f'{SOURCE}require = "dkim"\nhops = ["ftp.example.org"]')

    assert told.endswith("'dkim' cannot be reached without dkim_keys or dkim_dns and dkim_domains")


def test_dkim_keys_without_a_domain_that_counts_are_a_mistake(path: Path) -> None:
    told = _refused(path, f'{SOURCE}dkim_keys = "/etc/mailbridge/dkim"')

    assert told == "source 'changes': dkim_keys: needs dkim_domains, whose signatures count"


def test_asking_for_keys_without_a_domain_that_counts_is_a_mistake(path: Path) -> None:
    told = _refused(path, f"{SOURCE}dkim_dns = true")

    assert told == "source 'changes': dkim_dns: needs dkim_domains, whose signatures count"
