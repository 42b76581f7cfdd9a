"""The sources: their words, the keys they name, and whether they are heard."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mailbridge import config
from mailbridge.bridge import compose
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.serve import watched
from mailbridge.bridge.silence import SILENT, iso
from mailbridge.bridge.state import SPOOL
from mailbridge.doctor.patient import Finding, Patient
from mailbridge.doctor.states import asked
from mailbridge.errors import ConfigError
from mailbridge.rules import load as load_rules
from mailbridge.verifiers import openpgp

OLD: Final = 400 * 86400.0
"""Seconds after which a keyring lacks everybody who came since."""


def words(patient: Patient) -> Iterator[Finding]:
    """The configuration can be read, its words are known, and they make sense together."""
    if patient.path and not patient.may(patient.path, os.R_OK):
        what = f"{patient.user_name} may not read {patient.path}"
        yield Finding("config", what, f"chmod a+r {patient.path}")
    try:
        config.check(patient.config)
        compose.check(patient.config.source, load_rules(patient.config.rules))
        watched(patient.config, patient.state / SPOOL)
    except ConfigError as error:
        yield Finding("config", f"configuration: {error}", "the bridge does not start with it")


def keyrings(patient: Patient) -> Iterator[Finding]:
    """What signatures are checked with is there, can be used, and is not of years ago."""
    for source in patient.config.source:
        paths = [*source.keyrings, *filter(None, [source.archive_keyring])]
        if not paths:
            continue
        if not openpgp.is_possible():
            what = f"source {source.name!r}: nobody here can check an OpenPGP signature"
            yield Finding("no-verifier", what, "pip install 'mailbridge[openpgp]', or install gpgv")
            continue
        # (Only these: what is wrong with DKIM is told by itself.)
        alone = msgspec.structs.replace(source, dkim_keys=None, dkim_dns=False)
        try:
            Prover([alone])
        except ConfigError as error:
            mend = "install debian-keyring, or name the file that holds the keys"
            yield Finding("keyring", str(error), mend)
            continue
        for name in paths:
            path = Path(name).expanduser()
            if not patient.may(path, os.R_OK):
                what = f"source {source.name!r}: {patient.user_name} may not read {path}"
                yield Finding("keyring", what, f"chmod a+r {path}")
                continue
            age = patient.now.timestamp() - path.stat().st_mtime
            if age > OLD:
                what = f"source {source.name!r}: {path} is {age / 86400:.0f} days old"
                mend = "update it: newer keys count as unknown"
                yield Finding("keyring-old", what, mend)


def dkim(patient: Patient) -> Iterator[Finding]:
    """DKIM can be checked where a source wants it."""
    for source in patient.config.source:
        if not source.dkim_keys and not source.dkim_dns:
            continue
        where = f"source {source.name!r}"
        if not importlib.util.find_spec("dkim"):
            what = f"{where}: dkim_keys: nobody here can check DKIM"
            yield Finding("no-verifier", what, "pip install 'mailbridge[dkim]'")
            continue
        directory = Path(source.dkim_keys or "").expanduser()
        if source.dkim_keys and not directory.is_dir():
            what = f"{where}: dkim_keys: {directory} is no directory"
            yield Finding("dkim-keys", what, _PUT_KEYS)
        elif source.dkim_keys and not source.dkim_dns:
            names = [path.name.lower() for path in directory.iterdir()]
            for domain in source.dkim_domains:
                if not any(name.endswith(f".{domain.lower()}") for name in names):
                    what = (
                        f"{where}: {directory} has no key of {domain}, so none of its mail counts"
                    )
                    yield Finding("dkim-keys", what, _PUT_KEYS)


_PUT_KEYS: Final = (
    "put each key there as SELECTOR.DOMAIN: dig +short TXT SELECTOR._domainkey.DOMAIN"
)


def silent(patient: Patient) -> Iterator[Finding]:
    """No source is silent that should speak."""
    expected = {source.name: source.expect_every for source in patient.config.source}
    for key, since in asked(patient, "SELECT key, value FROM meta"):
        kind, _, name = key.partition(" ")
        if kind == SILENT and expected.get(name):
            what = f"source {name!r} is silent since {iso(int(since))}, a mail is expected every"
            mend = "is its address still subscribed, and did mail to it bounce?"
            yield Finding("silent", f"{what} {expected[name]}", mend)
