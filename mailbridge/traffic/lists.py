"""What lists do to a mail: their headers, their footers, and a mail of their own around it."""

from __future__ import annotations

import binascii
from dataclasses import replace
from typing import Final

from mailbridge.traffic.letter import Headers, Letter, enclosed, multipart, text

_MANGLED: Final = ("Precedence",)
"""What Mailman and smartlist put something of their own in place of."""


def through_smartlist(letter: Letter, name: str, host: str, number: int) -> Letter:
    """Return *letter* as the list *name* at *host*, a smartlist, sends it on."""
    address = f"{name}@{host}"
    footer = (
        f"\n-- \nTo UNSUBSCRIBE, email to {name.upper()}-REQUEST@{host}\nwith a subject of"
        f' "unsubscribe". Trouble? Contact listmaster@{host}\n'
    )
    part = letter.part
    if part.text is not None and part.headers and letter.charset == "utf-8":
        part = text(part.text + footer)
    headers = tuple(pair for pair in letter.headers if pair[0] not in _MANGLED)
    added = (
        ("X-Mailing-List", f"<{address}> archive/latest/{number}"),
        ("X-Loop", address),
        ("List-Id", f"<{name}.{host}>"),
        ("List-Post", f"<mailto:{address}>"),
        ("List-Unsubscribe", f"<mailto:{name}-request@{host}?subject=unsubscribe>"),
        ("Precedence", "list"),
        ("Resent-Sender", f"{name}-request@{host}"),
    )
    trace = (*letter.trace, ("X-Original-To", address))
    return replace(letter, headers=headers + added, part=part, trace=trace)


def through_mailman(letter: Letter, name: str, host: str, *, munged: bool = False) -> Letter:
    """Return *letter* as Mailman 2 sends it on: prefix, footer, and with *munged* its own From."""
    address = f"{name}@{host}"
    footer = f"_______________________________________________\n{name} mailing list\n{address}\n"
    part = letter.part
    seam = f"===============mm{binascii.crc32(part.body):010d}=="
    if part.text is not None and part.headers:
        part = text(part.text + "\n" + footer, "base64")
    elif part.text is None:
        part = multipart("mixed", seam, (part, text(footer, "8bit", "us-ascii")))
    headers = tuple(pair for pair in letter.headers if pair[0] not in _MANGLED)
    changed = replace(letter, headers=headers + _mailmans(name, host), part=part)
    changed = changed.with_header("Subject", f"[{name}] {letter.get('Subject')}")
    if munged:
        changed = changed.with_header("From", _via(letter, name, address))
    return changed


def wrapped_by_mailman(letter: Letter, name: str, host: str) -> Letter:
    """
    Return the list's own mail around *letter*, which nothing has touched inside.

    So Mailman keeps a sender's DMARC policy whole (`dmarc_moderation_action = Wrap Message`): of
    what is inside it takes the subject, the date and the id.
    """
    address = f"{name}@{host}"
    kept = tuple(
        pair for pair in letter.headers if pair[0].lower() in ("message-id", "date", "mime-version")
    )
    return Letter(
        trace=letter.trace,
        headers=(
            *kept,
            ("From", _via(letter, name, address)),
            ("To", address),
            ("Subject", f"[{name}] {letter.get('Subject')}"),
            *_mailmans(name, host),
        ),
        part=enclosed(replace(letter, trace=())),
    )


def _mailmans(name: str, host: str) -> Headers:
    address = f"{name}@{host}"
    return (
        ("X-BeenThere", address),
        ("X-Mailman-Version", "2.1.39"),
        ("Precedence", "list"),
        ("List-Id", f"Changes and\n\tother news <{name}.{host}>"),
        ("List-Post", f"<mailto:{address}>"),
        ("List-Help", f"<mailto:{name}-request@{host}?subject=help>"),
        ("Sender", f'"{name}" <{name}-bounces@{host}>'),
        ("Errors-To", f"{name}-bounces@{host}"),
    )


def _via(letter: Letter, name: str, address: str) -> str:
    told = letter.get("From").partition("<")[0].strip(' "') or name
    return f'"{told} via {name}" <{address}>'
