"""Mails as debbugs sends them on: reports and comments."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import (
    Letter,
    Part,
    multipart,
    text,
    word,
)
from mailbridge.traffic.lists import through_mailman, through_smartlist
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import OpenBug, Package, Someone, World

HOST: Final = f"bugs.{words.DOMAIN}"
OWNER: Final = f'"Demo Bug Tracking System" <owner@{HOST}>'
DIST: Final = "demo-bugs-dist"
MAINTAINERS: Final = "demo-maintainers"

_OPEN: Final = 40


def report(world: World, package: Package, *, latin: bool = False) -> Tale:
    """
    Return the mail about a new bug in *package*, which is open from now on.

    *latin*: Latin-1 that says so in the body, and raw in the headers, which may not be.
    """
    rng = world.rng
    reporter = world.latin() if latin else world.somebody()
    number = world.new_bug()
    binary = rng.choice(package.binaries)
    trouble = rng.choice([t for t in words.TROUBLES if not latin or _latin(t)])
    title = trouble if trouble.startswith("[") else f"{binary}: {trouble}"
    severity = rng.choice(words.SEVERITIES)
    tags = tuple(sorted(rng.sample(words.TAGS, rng.choice((0, 0, 1, 1, 2)))))
    reportbug = world.chance(0.7)
    stem = f"{world.when:%Y%m%d%H%M%S}.{rng.randrange(900, 32768)}.{world.token(8)}"
    message_id = f"{stem}.reportbug@{words.DOMAIN}" if reportbug else f"{stem}@{words.DOMAIN}"
    pseudo = f"Package: {binary}\nVersion: {package.version}\nSeverity: {severity}\n"
    if tags:
        pseudo += f"Tags: {' '.join(tags)}\n"
    said = (
        f"{pseudo}\nDear Maintainer,\n\n{rng.choice(words.REMARKS)}\nIt {title.split(': ')[-1]}.\n"
    )
    if reportbug:
        said += "\n-- System Information:\nDemo Release: 1\nArchitecture: amd64 (x86_64)\n"
    headers = (
        ("From", writer(reporter, raw=latin)),
        ("To", f"Demo Bug Tracking System <submit@{HOST}>"),
        ("Subject", title if latin else word(title)),
        ("Message-ID", f"<{message_id}>"),
        *((("X-Mailer", "reportbug 13.0.2"),) if reportbug else ()),
        ("Date", world.earlier(4)),
        ("MIME-Version", "1.0"),
    )
    body = _body(world, said, latin=latin, attached=not latin and world.chance(0.2))
    written = Letter(headers=headers, part=body, charset="latin-1" if latin else "utf-8")
    bug = OpenBug(
        number=number,
        title=title,
        package=binary,
        source=package.name,
        tags=tags,
        reporter=reporter,
        message_id=message_id,
        report=replace(
            written, headers=(("Received", f"(at submit) by {HOST}; {world.date}"), *headers)
        ),
    )
    package.bugs.append(bug)
    # (What is open for too long nobody closes any more.)
    del package.bugs[:-_OPEN]
    bare = _passed_on(
        world, bug, written, f"report {number}", f"submit@{HOST}", written.get("Subject")
    )
    told = {
        "tracker": "debbugs",
        "bug": number,
        "title": title,
        "package": [binary],
        "source": [package.name],
        "tags": list(tags),
        "severity": severity,
        "version": package.version,
        "reportbug": reportbug,
        "actor_name": reporter.name,
    }
    return Tale(
        what="debbugs report" + (" latin1" if latin else ""),
        letter=listed(world, bare, DIST),
        bare=None if latin else bare,
        news=(News("bug-reported", told, f"report {number}"),),
    )


def comment(world: World, bug: OpenBug) -> Tale:
    """Return somebody's mail to *bug*: understood, and off unless switched on."""
    who = world.somebody()
    written = Letter(
        headers=(
            ("From", writer(who)),
            ("To", f"{bug.number}@{HOST}"),
            ("Subject", word(f"Re: Bug#{bug.number}: {bug.title}")),
            ("Message-ID", f"<{world.token(20)}@{words.DOMAIN}>"),
            ("In-Reply-To", f"<{bug.message_id}>"),
            ("Date", world.earlier(4)),
            ("MIME-Version", "1.0"),
        ),
        part=text(f"{world.rng.choice(words.REMARKS)}\n"),
    )
    bare = _passed_on(
        world, bug, written, f"followup {bug.number}", f"{bug.number}@{HOST}", word(bug.title)
    )
    told = {
        "tracker": "debbugs",
        "bug": bug.number,
        "title": bug.title,
        "package": [bug.package],
        "source": [bug.source],
        "tags": list(bug.tags),
        "actor_name": who.name,
        "in_reply_to": bug.message_id,
    }
    return Tale(
        what="debbugs followup",
        letter=listed(world, bare, DIST),
        bare=bare,
        off=(News("bug-commented", told, f"comment {written.get('Message-ID')}"),),
    )


def _passed_on(  # noqa: PLR0913, PLR0917 - what it is made of
    world: World, bug: OpenBug, written: Letter, message: str, to: str, subject: str
) -> Letter:
    """
    Return *written*, a user's mail, as debbugs sends it on: its headers on top of theirs.

    Of its *subject* the leading `Re: ` and the bug's own number are gone.
    """
    spool = f"{bug.number}.{world.rng.randrange(10**15)}"
    theirs = written.get("From")
    own = (
        ("X-Loop", f"owner@{HOST}"),
        ("Subject", f"Bug#{bug.number}: {subject}"),
        ("Reply-To", f"{theirs}, {bug.number}@{HOST}"),
        ("Resent-From", theirs),
        ("Resent-To", f"{DIST}@{LISTS}"),
        ("Resent-Date", world.date),
        ("Resent-Message-ID", f"<handler.{bug.number}.B{spool}@{HOST}>"),
        ("X-Debian-PR-Message", message),
        *about(bug),
        (
            "Received",
            f"via spool by {to} id=B{spool}\n          (code B ref {bug.number}); {world.date}",
        ),
    )
    kept = tuple(pair for pair in written.headers if pair[0] != "Subject")
    trace = world.trace("bugs", f"{DIST}@{LISTS}")
    return replace(written, headers=(*own, *kept), trace=trace)


def listed(world: World, letter: Letter, name: str) -> Letter:
    """Return *letter* as the list *name* sends it on, or another that its maintainers read."""
    if world.chance(0.8) or letter.charset == "latin-1":
        return through_smartlist(letter, name, LISTS, world.list_number(name))
    return through_mailman(letter, MAINTAINERS, LISTS)


def about(bug: OpenBug) -> tuple[tuple[str, str], ...]:
    """Return the headers that tell which packages *bug* concerns."""
    return (
        ("X-Debian-PR-Package", bug.package),
        ("X-Debian-PR-Keywords", " ".join(bug.tags)),
        ("X-Debian-PR-Source", bug.source),
    )


def _body(world: World, said: str, *, latin: bool, attached: bool) -> Part:
    if latin:
        return text(said, "8bit", "iso-8859-1")
    if attached:
        log = text("line 1\nline 2: something went wrong\n", "base64", "us-ascii")
        preamble = "This is a multi-part MIME message sent by reportbug.\n\n"
        return multipart("mixed", world.boundary(), (text(said), log), preamble)
    return text(said, "8bit" if world.chance(0.5) else "quoted-printable")


def writer(who: Someone, *, raw: bool = False) -> str:
    """Return the mailbox of *who* as people's programs write it."""
    name = f'"{who.name}"' if "," in who.name or "." in who.name else who.name
    return f"{name if raw else word(name)} <{who.address}>"


def _latin(said: str) -> bool:
    try:
        return bool(said.encode("latin-1"))
    except UnicodeEncodeError:
        return False
