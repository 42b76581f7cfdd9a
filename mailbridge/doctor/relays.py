"""The relays: there, a relay at all, and willing to take what we emit."""

from __future__ import annotations

import contextlib
import json
import socket as unix
from collections.abc import Iterator
from typing import Any, Final

from mailbridge import keyring
from mailbridge.doctor.patient import Finding, Patient
from mailbridge.doctor.states import asked
from mailbridge.event import NAMESPACE, canonical
from mailbridge.keyring import Policy, state_dirs
from mailbridge.outbox import entity_of
from mailbridge.wire.sockets import LIGHTHOUSE_PORTS, make_context, submitter

PATIENCE: Final = 5.0
"""Seconds that a relay has to answer."""


def ports(patient: Patient) -> Iterator[Finding]:
    """Where our relay shall listen nobody else does."""
    if patient.relay_facts or not _has_relay(patient):
        return
    settings = patient.config.relay
    named = (("submit", settings.submit), ("publish", settings.publish), ("read", settings.read))
    for name, endpoint in named:
        if not _is_taken(endpoint):
            continue
        what = f"relay.{name}: {endpoint} is in use, and not by the relay of this state"
        port = endpoint.rpartition(":")[2]
        if port.isdecimal() and int(port) in LIGHTHOUSE_PORTS:
            mend = "it looks like a Lighthouse: use 'mailbridge bridge --lighthouse'"
        else:
            mend = f"stop who listens there (ss -ltnp), or set relay.{name} to a free port"
        yield Finding("port-in-use", what, mend)


def targets(patient: Patient) -> Iterator[Finding]:
    """Each relay that we send to answers, and knows our key."""
    facts = patient.bridge_facts
    if facts:
        for target in facts.targets:
            if target.trouble:
                yield _trouble(patient, target.name, target.status)
        return
    sent = [str(name) for (name,) in asked(patient, "SELECT name FROM target")]
    for endpoint in patient.config.submit.to or [name for name in sent if name.startswith("tcp:")]:
        answer = _asked(endpoint, _question(patient))
        if answer is None:
            yield _trouble(patient, endpoint, f"{endpoint} does not answer")


def policy(patient: Patient) -> Iterator[Finding]:
    """The relay of this machine lets our bridge emit its own tags."""
    state = patient.relay_state
    entity = entity_of(patient.state / "outbox.db")
    if state is None or entity is None or state == patient.state:
        return
    public = patient.state / "keys" / f"{entity}.key"
    trusted = keyring.trusted(state_dirs(state)[1])
    if entity not in trusted:
        what = f"the relay in {state} does not trust the key of {entity}, and holds its events off"
        yield Finding("not-trusted", what, _trust(f"{public} --state {state}"))
        return
    allowed = Policy(state / "policy.toml")
    namespaces = {source.namespace for source in patient.config.source} or {NAMESPACE}
    for namespace in sorted(namespaces):
        if not allowed.allows(entity, f"{namespace}.bug-reported"):
            what = f"{state / 'policy.toml'}: {entity} may not emit {namespace}.*"
            mend = f'add the line "{entity}" = ["{namespace}.*"]'
            yield Finding("policy", what, mend)


def _trouble(patient: Patient, name: str, status: str) -> Finding:
    entity = patient.bridge_facts.entity if patient.bridge_facts else "mailbridge.*"
    key = patient.state / "keys" / f"{entity}.key"
    if "may not emit" in status:
        mend = f'there, in policy.toml: "{entity}" = ["{NAMESPACE}.*"]'
        return Finding("policy", status, mend)
    if "holds" in status:
        return Finding("not-trusted", status, _trust(f"{key}"))
    if name.startswith("lighthouse"):
        mend = f"is it running, and was it started after {key} came into its trusted directory?"
        return Finding("lighthouse", status, mend)
    mend = f"is it running, and does a firewall let us reach it? (ss -ltn; nc -vz {_plain(name)})"
    return Finding("relay-away", status, mend)


def _trust(words: str) -> str:
    return f"on its machine: mailbridge key trust {words} --tags '{NAMESPACE}.*'"


def _plain(endpoint: str) -> str:
    return endpoint.removeprefix("tcp://").replace(":", " ")


def _has_relay(patient: Patient) -> bool:
    return patient.relay_state is not None


def _is_taken(endpoint: str) -> bool:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not endpoint.startswith("tcp://") or not port.isdecimal() or not int(port):
        return False
    host = "127.0.0.1" if host in ("*", "0.0.0.0") else host.strip("[]")  # noqa: S104 - as bound
    with contextlib.suppress(OSError), unix.create_connection((host, int(port)), timeout=PATIENCE):
        return True
    return False


def _question(patient: Patient) -> bytes:
    entity = patient.config.entity or "mailbridge"
    return canonical({"uuids": {"entity": entity, "after": 0, "limit": 1}})


def _asked(endpoint: str, question: bytes) -> dict[str, Any] | None:
    """Return what the relay at *endpoint* answers; None if it does not, or in no way of ours."""
    context = make_context()
    socket = submitter(context, endpoint)
    try:
        socket.send_multipart([question, b"ask"])
        if not socket.poll(int(PATIENCE * 1000)):
            return None
        answer = json.loads(socket.recv_multipart()[0])
        return answer if isinstance(answer, dict) else None
    except ValueError:
        return None
    finally:
        socket.close(linger=0)
        context.term()
