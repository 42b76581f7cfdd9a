"""Mails that no event may come of, most of them looking as if one should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mailbridge.traffic import dak, words
from mailbridge.traffic.bugs import HOST as BUGS
from mailbridge.traffic.bugs import OWNER
from mailbridge.traffic.dak import CHANGES
from mailbridge.traffic.letter import (
    Headers,
    Letter,
    Part,
    enclosed,
    multipart,
    text,
    word,
)
from mailbridge.traffic.lists import through_mailman, through_smartlist
from mailbridge.traffic.queued import processing
from mailbridge.traffic.tale import Tale
from mailbridge.traffic.upload import Upload
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import World


def noise(world: World, upload: Upload) -> Tale:
    """Return one of them; *upload* is the news that it is not."""
    return world.rng.choice(_SHAPES)(world, upload)


def imitation(world: World, upload: Upload) -> Tale:
    """Return what a stranger made from an announcement: subject and body, no header of dak's."""
    said = dak.clearsigned(world, upload.paragraph("today"))
    subject = f"Accepted {upload.package.name} {upload.version} (source) into {upload.suite}"
    letter = _human(world, subject, text(said))
    return Tale(what="forged announce", letter=_smart(world, letter))


def _reply(world: World, upload: Upload) -> Tale:
    quoted = dak.clearsigned(world, upload.paragraph("today"))
    quoted = "".join(f"> {line}\n" for line in quoted.splitlines())
    subject = f"Re: Accepted {upload.package.name} {upload.version} (source) into {upload.suite}"
    letter = _human(world, subject, text(f"{quoted}\n{world.rng.choice(words.REMARKS)}\n"))
    return Tale(what="reply", letter=_smart(world, letter))


def _discussion(world: World, upload: Upload) -> Tale:
    subject = f"Bug#{world.number}: and what about {upload.package.name}?"
    said = f"On the list somebody wrote about #{world.number}.\n{world.rng.choice(words.REMARKS)}\n"
    letter = _human(world, subject, text(said))
    return Tale(what="discussion", letter=through_mailman(letter, "demo-devel", LISTS))


def _autoreply(world: World, upload: Upload) -> Tale:
    letter = _human(
        world,
        f"Out of office: Accepted {upload.package.name} {upload.version} (source)",
        text("I am on a boat until the end of the month.\n"),
        extra=(("Auto-Submitted", "auto-replied"), ("X-Debian", "DAK")),
    )
    return Tale(what="autoreply", letter=letter)


def _bounce(world: World, upload: Upload) -> Tale:
    original = dak.announce(world, upload, "today").letter
    status = Part(
        headers=(("Content-Type", "message/delivery-status"),),
        body=f"Reporting-MTA: dns; mx.{words.DOMAIN}\n\nAction: failed\nStatus: 5.1.1\n".encode(),
    )
    said = text("This is the mail system. Your message could not be delivered.\n", "8bit")
    kind = "report; report-type=delivery-status"
    part = multipart(kind, world.boundary(), (said, status, enclosed(original)))
    letter = _human(world, "Undelivered Mail Returned to Sender", part)
    letter = letter.with_header("From", f"MAILER-DAEMON@mx.{words.DOMAIN} (Mail Delivery System)")
    trace = (("Return-Path", "<>"), *letter.trace[1:])
    return Tale(what="bounce", letter=replace(letter, trace=trace))


def _digest(world: World, upload: Upload) -> Tale:
    mails = [dak.announce(world, upload, period).letter for period in ("2021", "today")]
    kept = ("From", "To", "Subject", "Date", "Message-Id")
    bare = [
        enclosed(replace(m, trace=(), headers=tuple(h for h in m.headers if h[0] in kept)))
        for m in mails
    ]
    inner = multipart("digest", world.boundary(), bare)
    head = text(f"Send {CHANGES} mailing list submissions to\n\t{CHANGES}@{LISTS}\n", "8bit")
    part = multipart("mixed", world.boundary(), (head, inner))
    volume = world.rng.randrange(1, 400)
    letter = _human(world, f"{CHANGES} Digest, Vol {volume}, Issue 1", part)
    letter = letter.with_header("From", f"{CHANGES}-request@{LISTS}")
    return Tale(what="digest", letter=letter.with_header("List-Id", f"<{CHANGES}.{LISTS}>"))


def _moderation(world: World, upload: Upload) -> Tale:
    """What a list asks its owner about, with the whole announcement in it: never to be answered."""
    held = dak.announce(world, upload, "today").letter
    said = text(f"The {CHANGES} mailing list has a post that waits for you.\n", "8bit", "us-ascii")
    part = multipart("mixed", world.boundary(), (said, enclosed(held)))
    subject = f"{CHANGES} post from {upload.by.address} requires approval"
    letter = _human(world, subject, part, extra=(("X-List-Administrivia", "yes"),))
    letter = letter.with_header("From", f"{CHANGES}-owner@{LISTS}")
    return Tale(what="moderation", letter=letter)


def _passed_on(world: World, upload: Upload) -> Tale:
    """An announcement that somebody attaches: an event is inside, and nobody takes it out."""
    told = dak.announce(world, upload, "today").letter
    said = text(f"FYI\n\n{world.rng.choice(words.REMARKS)}\n")
    part = multipart("mixed", world.boundary(), (said, enclosed(told)))
    letter = _human(world, f"Fwd: {told.get('Subject')}", part)
    return Tale(what="passed on", letter=_smart(world, letter))


def _spam(world: World, upload: Upload) -> Tale:
    said = f"ACCEPTED!!! Your {upload.package.name} has won. Réclamez 1.000.000 €.\n"
    letter = _human(world, "ACCEPTED: vous avez gagné à la loterie ❤", text(said, "base64"))
    # Raw 8-bit in the headers: nobody encodes less than a spammer.
    letter = letter.with_header("Subject", "ACCEPTED: vous avez gagné à la loterie ❤")
    return Tale(what="spam", letter=_smart(world, letter))


def _acknowledgement(world: World, upload: Upload) -> Tale:
    number = world.number
    letter = Letter(
        trace=world.trace("bugs", upload.by.address),
        headers=(
            ("X-Loop", f"owner@{BUGS}"),
            ("From", OWNER),
            ("To", upload.by.address),
            ("Subject", f"Bug#{number}: Acknowledgement (thank you)"),
            ("Message-ID", f"<handler.{number}.B.{world.rng.randrange(10**15)}.ack@{BUGS}>"),
            ("X-Debian-PR-Message", f"ack {number}"),
            ("X-Debian-PR-Package", upload.package.name),
            ("Precedence", "bulk"),
            ("Date", world.date),
            ("MIME-Version", "1.0"),
        ),
        part=text("Thank you for filing a new Bug report.\n"),
    )
    return Tale(what="acknowledgement", letter=letter)


_SHAPES: Final[tuple[Callable[[World, Upload], Tale], ...]] = (
    _reply,
    _discussion,
    _autoreply,
    _bounce,
    _digest,
    _moderation,
    _passed_on,
    _spam,
    _acknowledgement,
    processing,
)


def _human(world: World, subject: str, part: Part, *, extra: Headers = ()) -> Letter:
    who = world.somebody()
    to = f"{CHANGES}@{LISTS}"
    return Letter(
        trace=world.trace("mail", to),
        headers=(
            ("From", f"{word(who.name.replace(',', ''))} <{who.address}>"),
            ("To", to),
            ("Subject", word(subject)),
            ("Message-ID", f"<{world.token(22)}@{words.DOMAIN}>"),
            ("Date", world.date),
            ("MIME-Version", "1.0"),
            *extra,
        ),
        part=part,
    )


def _smart(world: World, letter: Letter) -> Letter:
    return through_smartlist(letter, CHANGES, LISTS, world.list_number(CHANGES))
