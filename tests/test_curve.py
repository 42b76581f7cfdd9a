"""CurveZMQ on the submit socket: whom a relay lets in, and what the others hear."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import pytest
import zmq.utils.z85
from hypothesis import given
from hypothesis import strategies as st

from mailbridge import keyring
from mailbridge.cli import main
from mailbridge.errors import ConfigError, NeedsOperator
from mailbridge.journal import Reading
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, said_by, upload

ENTITY: Final = "mailbridge.lists.example.org"
RELAY: Final = "relay.example.org"


class Place:
    """A relay that takes CURVE only, and a bridge beside it, each with a state of its own."""

    def __init__(self, root: Path) -> None:
        self.relay: Final = root / "relay"
        self.bridge: Final = root / "bridge"
        self.maildir: Final = make_maildir(root / "mail")
        self._relay_config: Final = root / "relay.toml"
        self._bridge_config: Final = root / "bridge.toml"
        self._relay_config.write_text("[relay]\ncurve = true\n")
        for state, name in ((self.relay, RELAY), (self.bridge, ENTITY)):
            assert main(["key", "new", name, "--state", str(state)]) == 0
            keyring.ensure_curve(state, name)
        public = self.bridge / "keys" / f"{ENTITY}.key"
        trust = ["key", "trust", str(public), "--state", str(self.relay)]
        assert main([*trust, "--tags", "_lk.mailbridge.*"]) == 0

    def allow(self) -> None:
        """Let the bridge connect, as the relay's operator does."""
        public = self.bridge / "keys" / f"{ENTITY}.curve"
        assert main(["key", "allow", str(public), "--state", str(self.relay)]) == 0

    def start_relay(self) -> Daemon:
        return Daemon("-c", self._relay_config, "relay", "--state", self.relay, *LOOPBACK)

    def start_bridge(self, submit: str, server: str | Path) -> Daemon:
        text = f'[submit]\ncurve_server = "{server}"\n' if server else ""
        self._bridge_config.write_text(f'entity = "{ENTITY}"\n{text}')
        return Daemon(
            *("-c", self._bridge_config, "bridge", "--state", self.bridge),
            *("--maildir", self.maildir, "--submit", submit),
        )

    @property
    def server(self) -> Path:
        return self.relay / "keys" / f"{RELAY}.curve"

    def stored(self) -> int:
        with Reading(self.relay / "journal.db") as journal:
            return journal.head()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.fault(57)
def test_a_client_key_that_is_not_allowed_gets_nothing_in_until_it_is(place: Place) -> None:
    with place.start_relay() as relay:
        at = relay.ready()
        with place.start_bridge(at["submit"], place.server) as bridge:
            bridge.ready()
            put(place.maildir, upload(1), "1")

            bridge.says("does not know our CURVE key .* events wait")
            relay.says("submit refuses the CURVE key .* of 127.0.0.1")
            assert place.stored() == 0

            place.allow()
            assert said_by(read_events(at["read"], place.relay, 1)) == ["upload package1"]


@pytest.mark.fault(57)
@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("", "wants CURVE, or is no relay"),
        ("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "submit.curve_server is another key"),
    ],
    ids=["no-curve", "another-server-key"],
)
def test_without_curve_or_with_a_wrong_server_key_events_wait_for_the_right_one(
    place: Place, server: str, told: str
) -> None:
    place.allow()
    with place.start_relay() as relay:
        at = relay.ready()
        with place.start_bridge(at["submit"], server) as bridge:
            bridge.ready()
            put(place.maildir, upload(1), "1")

            bridge.says(f"{told}.* events wait")
            relay.says("submit refuses somebody")
            assert place.stored() == 0
            assert bridge.stop() == 0
        with place.start_bridge(at["submit"], place.server) as bridge:
            bridge.ready()
            assert said_by(read_events(at["read"], place.relay, 1)) == ["upload package1"]


@pytest.mark.fault(57)
def test_while_nobody_answers_for_the_door_nobody_gets_in_and_afterwards_all_do(
    place: Place,
) -> None:
    place.allow()
    with place.start_relay() as relay:
        at = relay.ready()
        relay.signal(signal.SIGSTOP)
        with place.start_bridge(at["submit"], place.server) as bridge:
            bridge.ready()
            put(place.maildir, upload(1), "1")
            bridge.says("does not answer|ends the CURVE handshake")
            assert place.stored() == 0

            relay.signal(signal.SIGCONT)
            assert said_by(read_events(at["read"], place.relay, 1)) == ["upload package1"]


@given(st.binary(min_size=32, max_size=32))
def test_keys_are_written_as_zeromq_writes_them(raw: bytes) -> None:
    assert keyring.z85(raw) == zmq.utils.z85.encode(raw)


def test_a_pair_is_closed_from_birth_belongs_together_and_stays(tmp_path: Path) -> None:
    pair = keyring.ensure_curve(tmp_path, RELAY)

    secret, public = keyring.curve_paths(tmp_path, RELAY)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert zmq.curve_public(pair.secret) == pair.public
    assert keyring.ensure_curve(tmp_path, RELAY) == pair
    assert (
        keyring.curve_server(str(public))
        == pair.public
        == keyring.curve_server(pair.public.decode())
    )
    assert pair.secret.decode() not in repr(pair)


def test_a_secret_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    keyring.ensure_curve(tmp_path, ENTITY)
    secret, _ = keyring.curve_paths(tmp_path, ENTITY)

    with pytest.raises(NeedsOperator, match="SECRET"):
        keyring.allow_curve(tmp_path, secret)
    with pytest.raises(ConfigError, match="neither 40 characters"):
        keyring.curve_server("no such file")


def test_a_key_that_is_taken_away_counts_no_more(tmp_path: Path) -> None:
    pair = keyring.ensure_curve(tmp_path, ENTITY)
    now = [0.0]
    clients = keyring.CurveClients(keyring.curve_clients(tmp_path), clock=lambda: now[0])
    kept = keyring.allow_curve(tmp_path, keyring.curve_paths(tmp_path, ENTITY)[1])
    assert pair.public in clients.current()

    kept.unlink()
    now[0] = 2.0

    assert clients.current() == {}
