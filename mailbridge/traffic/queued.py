"""Mails of debianqueued, the queue daemon: what reached the archive's door, and what did not."""

from __future__ import annotations

from typing import Final

from mailbridge.traffic import words
from mailbridge.traffic.dak import HOST, MASTERS
from mailbridge.traffic.letter import Letter, text
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.upload import Upload
from mailbridge.traffic.world import World

_DAEMON: Final = f"upload.{words.DOMAIN}"
_TROUBLES: Final = (
    "{changes} has bad PGP/GnuPG signature!",
    "{changes} couldn't be processed for 24 hours and is now deleted",
    "{dsc} has incorrect md5 checksum; deleting it",
)


def processing(world: World, upload: Upload) -> Tale:
    """Return the daemon's mail about *upload*: it decides nothing, and may have no subject."""
    name = f"{upload.name}.changes"
    failed = world.chance(0.25)
    told = {
        "upload_name": upload.name,
        "source_names": [upload.package.name],
        "success": not failed,
        "files": [] if failed else [file.name for file in upload.files],
        "host": _DAEMON,
    }
    if failed:
        trouble = world.rng.choice(_TROUBLES)
        said = trouble.format(changes=name, dsc=upload.files[0].name) + "\n"
        told["reason"] = said.strip()
    else:
        files = "".join(f"  {file.name}\n" for file in upload.files)
        said = f"{name} uploaded successfully to localhost\nalong with the files:\n{files}"
    said += f"\nGreetings,\n\n\tYour Demo queue daemon (running on host {_DAEMON})\n"
    letter = Letter(
        trace=world.trace(HOST, upload.by.address),
        headers=(
            ("From", MASTERS),
            ("To", upload.by.address),
            ("Subject", "" if world.chance(0.1) and not failed else f"Processing of {name}"),
            ("X-DAK", "DAK"),
            ("X-Debian", "DAK"),
            ("X-Debian-Package", upload.package.name),
            ("Precedence", "bulk"),
            ("Auto-Submitted", "auto-generated"),
            ("Message-Id", f"<{world.exim_id(HOST)}>"),
            ("Date", world.date),
        ),
        part=text(said, "bare"),
    )
    key = f"received {letter.get('Message-Id')}"
    return Tale(
        what="dak processing",
        letter=letter,
        off=(News("package-upload-received", told, key),),
    )
