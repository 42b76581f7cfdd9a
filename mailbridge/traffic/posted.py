"""What the mails of machines have in common: a sender, a recipient, an id and a date."""

from __future__ import annotations

from mailbridge.traffic import words
from mailbridge.traffic.letter import Headers, Letter, Part, word
from mailbridge.traffic.world import World


def posted(  # noqa: PLR0913 - what every mail has
    world: World,
    host: str,
    part: Part,
    *,
    subject: str,
    sender: str,
    to: str = f"subscribers@{words.LISTS}",
    message_id: str = "",
    more: Headers = (),
) -> Letter:
    """Return the letter of *sender* that leaves *host*; *more* are the headers it is known by."""
    return Letter(
        trace=world.trace(host, to),
        headers=(
            ("From", sender),
            ("To", to),
            *more,
            ("Subject", word(subject)),
            ("Message-ID", message_id or f"<{world.token(24)}@{host}.{words.DOMAIN}>"),
            ("Date", world.date),
            ("MIME-Version", "1.0"),
        ),
        part=part,
    )
