"""
Keys: Laniakea's key files, a service's own key, whom we trust and what they may emit.

A service's secret key is looked for in this order (`load`):

1. `$CREDENTIALS_DIRECTORY/signing.key` (systemd's LoadCredential=).  A key whose id begins with
   `relay.` is the relay's, any other is the bridge's; so one credential does for `run`, whose
   other key lies in the state.  Its public half is copied there for readers on this machine.
2. `<state>/keys/<ID>.key_secret`, where ID is the configured entity, else that of the one secret
   key there that begins with `mailbridge.` or `relay.`: a renamed host keeps its key.
"""

from __future__ import annotations

from mailbridge.keyring.curve import (
    CURVE_PUBLIC,
    CurveClients,
    CurvePair,
    allow_curve,
    curve_clients,
    curve_paths,
    curve_server,
    ensure_curve,
    z85,
)
from mailbridge.keyring.files import (
    PUBLIC,
    SECRET,
    public_text,
    read_public,
    read_secret,
    write_pair,
    write_public,
)
from mailbridge.keyring.own import CREDENTIAL, default_entity, ensure, load
from mailbridge.keyring.trust import (
    CHECK_EVERY,
    Policy,
    TrustedKeys,
    allow,
    believed,
    read_policy,
    revocations,
    revoke,
    state_dirs,
    trusted,
)

__all__ = [
    "CHECK_EVERY",
    "CREDENTIAL",
    "CURVE_PUBLIC",
    "PUBLIC",
    "SECRET",
    "CurveClients",
    "CurvePair",
    "Policy",
    "TrustedKeys",
    "allow",
    "allow_curve",
    "believed",
    "curve_clients",
    "curve_paths",
    "curve_server",
    "default_entity",
    "ensure",
    "ensure_curve",
    "load",
    "public_text",
    "read_policy",
    "read_public",
    "read_secret",
    "revocations",
    "revoke",
    "state_dirs",
    "trusted",
    "write_pair",
    "write_public",
    "z85",
]
