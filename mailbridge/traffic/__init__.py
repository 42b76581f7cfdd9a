"""
Made-up mail: believable uploads and bugs of an archive that is not there, the same for one seed.

What each mail must become is known from the story that wrote it.  Nothing here reads a mail, and
nothing here knows the recognisers: what both sides get wrong in the same way would go unseen.
"""

from __future__ import annotations

from mailbridge.traffic.faults import FAULTS, MAX_MAIL
from mailbridge.traffic.mbox import in_mbox
from mailbridge.traffic.mda import deliver
from mailbridge.traffic.openpgp import Key
from mailbridge.traffic.profile import EVEN, PROFILES, Profile
from mailbridge.traffic.smtp import Smtp
from mailbridge.traffic.stage import Stage
from mailbridge.traffic.story import EVERYTHING, MIX, WORDS
from mailbridge.traffic.stream import mails
from mailbridge.traffic.tale import News, Post

__all__ = [
    "EVEN",
    "EVERYTHING",
    "FAULTS",
    "MAX_MAIL",
    "MIX",
    "PROFILES",
    "WORDS",
    "Key",
    "News",
    "Post",
    "Profile",
    "Smtp",
    "Stage",
    "deliver",
    "in_mbox",
    "mails",
]
