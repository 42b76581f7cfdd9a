"""
What a running service says of itself: live facts in a small file of its state, and on a port.

The loops hand in facts as values and go on; whoever asks is answered from those, by a thread of its
own.  So nobody who asks can hold up a mail.
"""

from __future__ import annotations

from mailbridge.health.facts import (
    BridgeFacts,
    Canary,
    ListFacts,
    PlaceFacts,
    RelayFacts,
    SourceFacts,
    TargetFacts,
    VerdictFacts,
    read,
)
from mailbridge.health.live import EVERY, Live, Told, told_by
from mailbridge.health.state import Health

__all__ = [
    "EVERY",
    "BridgeFacts",
    "Canary",
    "Health",
    "ListFacts",
    "Live",
    "PlaceFacts",
    "RelayFacts",
    "SourceFacts",
    "TargetFacts",
    "Told",
    "VerdictFacts",
    "read",
    "told_by",
]
