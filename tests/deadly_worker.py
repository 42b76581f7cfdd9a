"""The program of a worker that some mails end, or hold for ever; each time it leaves a note."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from mailbridge.bridge import worker
from mailbridge.bridge.compose import Examined
from mailbridge.bridge.delivery import Delivery, Settings, examined
from mailbridge.bridge.prove import Prover
from mailbridge.config import Source


def deadly(
    mail: Delivery, sources: Sequence[Source], settings: Settings, prover: Prover | None
) -> list[Examined]:
    """Say what is said of *mail*; but for one whose subject has a word for us, and a file."""
    if found := re.search(rb"(?m)^Subject: (die|hang) (.*)$", mail.raw):
        with Path(os.fsdecode(found[2])).open("a") as notes:
            notes.write("!")
        if found[1] == b"die":
            os._exit(1)
        threading.Event().wait()
    return examined(mail, sources, settings, prover)


def main() -> None:
    vars(worker)["examined"] = deadly
    worker.main()
