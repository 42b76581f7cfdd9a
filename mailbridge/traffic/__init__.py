"""
Made-up mail: believable uploads and bugs of an archive that is not there, the same for one seed.

What each mail must become is known from the story that wrote it.  Nothing here reads a mail, and
nothing here knows the recognisers: what both sides get wrong in the same way would go unseen.
"""

from __future__ import annotations

from mailbridge.traffic.mbox import in_mbox
from mailbridge.traffic.mda import deliver
from mailbridge.traffic.profile import EVEN, PROFILES, Profile
from mailbridge.traffic.smtp import Smtp
from mailbridge.traffic.stage import Stage
from mailbridge.traffic.stream import FAULTS, MIX, WORDS, mails
from mailbridge.traffic.tale import News, Post

__all__ = [
    "EVEN",
    "FAULTS",
    "MIX",
    "PROFILES",
    "WORDS",
    "News",
    "Post",
    "Profile",
    "Smtp",
    "Stage",
    "deliver",
    "in_mbox",
    "mails",
]
