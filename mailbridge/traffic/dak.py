"""Mails as dak sends them about uploads: announcements of every period, and the private ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import Letter, Part, person, signed, text
from mailbridge.traffic.lists import through_mailman, through_smartlist
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.upload import BEFORE_2014, KATIES, Period, Upload
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import OpenBug, World

CHANGES: Final = "demo-devel-changes"
TEAM: Final = "demo-team-uploads"
HOST: Final = "ftp-master"
MASTERS: Final = f"Demo FTP Masters <ftpmaster@{HOST}.{words.DOMAIN}>"

_UPLOAD: Final = "dak process-upload"
_POLICY: Final = "dak process-policy"
_THANKS: Final = "Thank you for your contribution to Demo.\n"


def announce(
    world: World, upload: Upload, period: Period, *, latin: bool = False, forged: bool = False
) -> Tale:
    """
    Return the mail about *upload* that goes to the changes list.

    *latin*: in raw Latin-1, as in 2002.  *forged*: with lines outside of the signed text that
    would have it otherwise.
    """
    said = clearsigned(world, upload.paragraph(period), "latin-1" if latin else "utf-8")
    if period in (*KATIES, "2008"):
        said += f"\n\n{_word(period)}:\n{_pool(upload)}\n"
    if forged:
        lie = "Source: impostor\nVersion: 666-1\nDistribution: stable\n"
        said = f"{lie}\n{said}\n{lie}"
    part = _body(world, said, period, latin=latin)
    tale = _announced(world, upload, period, part, latin=latin)
    what = tale.what + (" latin1" if latin else "") + (" forged" if forged else "")
    return replace(tale, what=what)


def tampered(world: World, upload: Upload) -> Tale:
    """
    Return the announcement of *upload* with another file in it than was signed.

    Who can check its signature makes nothing of it; to others it says what it says.
    """
    said = clearsigned(world, upload.paragraph("today"))
    true, *rest = upload.files
    false = true.exchanged(world.rng)
    changed = said
    for old, new in zip(true.digests, false.digests, strict=True):
        changed = changed.replace(old, new)
    part = _body(world, changed, "today", original=said)
    told = replace(upload, files=(false, *rest))
    tale = _announced(world, told, "today", part)
    news = () if world.key else tuple(n._replace(key=f"tampered {n.key}") for n in tale.news)
    return replace(
        tale,
        what="dak announce tampered",
        news=() if world.key else news,
        bare=None,
        breakable=False,
    )


def _announced(
    world: World, upload: Upload, period: Period, part: Part, *, latin: bool = False
) -> Tale:
    arches = " ".join(upload.arches)
    into = "" if period in BEFORE_2014 else f" into {upload.suite}"
    subject = f"{_word(period)} {upload.package.name} {upload.version} ({arches}){into}"
    to = f"{CHANGES}@{LISTS}"
    letter = Letter(
        trace=world.trace("lists", to),
        charset="latin-1" if latin else "utf-8",
        headers=(
            *_people(upload, period, to),
            *_dak(upload, period, _UPLOAD, "accept", upload.suite),
            ("Subject", subject),
            ("Message-Id", f"<{world.exim_id(HOST)}>"),
            ("Date", world.date),
        ),
        part=part,
    )
    told = upload.expected(period)
    if period in BEFORE_2014:
        told["suite_guessed"] = True
    if period == "today" and world.chance(0.3):
        decorated = through_mailman(letter, CHANGES, LISTS, munged=True)
    else:
        decorated = through_smartlist(letter, CHANGES, LISTS, world.list_number(CHANGES))
    return Tale(
        what=f"dak announce {period}",
        letter=decorated,
        bare=None if latin else letter,
        news=(News("package-upload-accepted", told, upload.key),),
        breakable=True,
    )


def accepted(
    world: World, upload: Upload, period: Period = "today", *, by_hand: bool = False
) -> Tale:
    """
    Return the ACCEPTED mail about *upload*, in the copy of its team's list.

    *by_hand*: it waited for somebody, in NEW or for a policy.
    """
    changes = f"Accepted:\n\n{clearsigned(world, upload.paragraph(period))}\n"
    # (Until November 2022 the thanks came last.)
    said = f"{_THANKS}\n\n\n{changes}" if period == "today" else f"\n\n{changes}\n{_THANKS}"
    program = _POLICY if by_hand else _UPLOAD
    letter = _private(world, upload, said, period, program=program, suite=upload.suite)
    letter = letter.with_header("Subject", f"{upload.name}.changes ACCEPTED into {upload.suite}")
    told = upload.expected("today")
    return Tale(
        what=f"dak accepted {period}",
        letter=through_mailman(letter, TEAM, LISTS) if world.chance(0.5) else letter,
        bare=letter,
        news=(News("package-upload-accepted", told, upload.key),),
        breakable=True,
    )


def accepted_files(world: World, upload: Upload) -> Tale:
    """Return the ACCEPTED mail about *upload* as before 2012: a list of its files, no .changes."""
    said = f"\n\nAccepted:\n{_pool(upload)}\n\n{_THANKS}"
    letter = _private(world, upload, said, "2008", program="dak process-unchecked", suite=None)
    letter = letter.with_header("Subject", f"{upload.name}.changes ACCEPTED")
    told = {
        "upload_name": upload.name,
        "is_new": False,
        "source_name": upload.package.name,
        "files": [file.name for file in upload.files],
        "is_source_upload": upload.is_source,
        "suites": [],
    }
    return Tale(
        what="dak accepted 2008",
        letter=through_mailman(letter, TEAM, LISTS),
        bare=letter,
        news=(News("package-upload-accepted", told, f"files {upload.key}"),),
        breakable=True,
    )


def held(world: World, upload: Upload, queue: str) -> Tale:
    """Return the ACCEPTED mail about *upload*, which waits in the policy *queue*."""
    said = f"{_THANKS}\n\n\nAccepted:\n\n{clearsigned(world, upload.paragraph('today'))}\n"
    suites = f"{upload.suite}->{queue}"
    letter = _private(world, upload, said, "today", action="policy", suite=suites)
    letter = letter.with_header("Subject", f"{upload.name}.changes ACCEPTED into {suites}")
    told = upload.expected("today") | {"policy_suites": [queue], "policy_queue": queue}
    return Tale(
        what="dak held",
        letter=through_mailman(letter, TEAM, LISTS),
        news=(News("package-upload-held", told, f"held {upload.key}"),),
        breakable=True,
    )


def new(world: World, upload: Upload) -> Tale:
    """Return the mail that says that *upload* waits in NEW, as it is today or was until 2012."""
    old = world.chance(0.25)
    said = (
        "\nYour package has been put into the NEW queue, which requires manual action\n"
        "from the archive's people.  The upload was otherwise valid, so please be\npatient.\n"
    )
    if old:
        section = upload.package.section
        said = "".join(f"(new) {file.name} {section} optional\n" for file in upload.files)
        said += (
            "\n\nYour package contains new components which requires manual editing of\n"
            "the override file.  It is ok otherwise, so please be patient.\n"
        )
    letter = _private(world, upload, said, "2013" if old else "today", action="new", suite=None)
    letter = letter.with_header("Subject", f"{upload.name}.changes is NEW")
    told = {
        "upload_name": upload.name,
        "is_new": True,
        "source_name": upload.package.name,
    } | ({} if old else {"source_version": upload.source_version})
    return Tale(
        what=f"dak new {'2012' if old else 'today'}",
        letter=through_mailman(letter, TEAM, LISTS),
        news=(News("package-upload-queued-new", told, f"new {letter.get('Message-Id')}"),),
    )


def rejected(world: World, upload: Upload) -> Tale:
    """Return the mail that says that *upload* was rejected, and why."""
    reason = world.rng.choice(words.REASONS)
    if world.chance(0.2):
        reason += "\n\n===\n\nAccepted:\n  nothing of it (the line above is part of the reason)"
    automatic = world.chance(0.6)
    said = (
        f"\n\n{reason}\n\n===\n\nPlease feel free to respond to this email if you don't understand"
        " why\nyour files were rejected, or if you upload new files which address our\nconcerns.\n"
    )
    old = world.chance(0.3)
    letter = _private(
        world, upload, said, "2013" if old else "today", action="reject", suite=upload.suite
    )
    letter = letter.with_header("Subject", f"{upload.name}.changes REJECTED")
    letter = letter.with_header("X-DAK-Rejection", "automatic" if automatic else "manual")
    told = {
        "upload_name": upload.name,
        "reason": reason,
        "automatic": automatic,
        "source_name": upload.package.name,
    } | ({} if old else {"source_version": upload.source_version})
    return Tale(
        what=f"dak rejected {'2013' if old else 'today'}",
        letter=through_mailman(letter, TEAM, LISTS),
        news=(News("package-upload-rejected", told, f"rejected {letter.get('Message-Id')}"),),
    )


def closing(world: World, upload: Upload, bug: OpenBug) -> Letter:
    """Return the mail to the bug tracker that closes *bug* because of *upload*."""
    said = (
        f"Source: {upload.package.name}\nSource-Version: {upload.source_version}\n"
        f"Done: {upload.by.name}\n\nWe believe that the bug you reported is fixed in the latest"
        f" version of\n{upload.package.name}, which is due to be installed in the archive.\n\n"
        "A summary of the changes between this version and the previous one is\nattached.\n\n"
        + clearsigned(world, upload.paragraph("today"))
    )
    to = f"{bug.number}-close@bugs.{words.DOMAIN}"
    headers = (
        ("Received", f"(at {bug.number}-close) by bugs.{words.DOMAIN}; {world.date}"),
        *_people(upload, "today", to),
        *_dak(upload, "today", _UPLOAD, "accept", upload.suite),
        ("Subject", f"Bug#{bug.number}: fixed in {upload.package.name} {upload.source_version}"),
        ("Message-Id", f"<{world.exim_id(HOST)}>"),
        ("Date", world.earlier(3)),
    )
    return Letter(headers=headers, part=_body(world, said, "today"))


def clearsigned(world: World, paragraph: str, charset: str = "utf-8") -> str:
    """Return *paragraph* in clearsign armour, signed by the world's key, or with no signature."""
    lines = (f"- {line}" if line.startswith("-") else line for line in paragraph.split("\n"))
    armoured = "\n".join(lines)
    head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    # (Drawn in any case: a signed story is otherwise that without signatures.)
    none = world.signature()
    return f"{head}{armoured}\n{world.key.clearsigned(paragraph, charset) if world.key else none}"


def _private(  # noqa: PLR0913 - what the private mails differ in
    world: World,
    upload: Upload,
    said: str,
    period: Period,
    *,
    suite: str | None,
    program: str = _UPLOAD,
    action: str = "accept",
) -> Letter:
    to = f"{TEAM}@{LISTS}"
    return Letter(
        trace=world.trace(HOST, to),
        headers=(
            ("From", MASTERS),
            ("To", f"{person(upload.by.name, upload.by.address)},\n {to}"),
            *_dak(upload, period, program, action, suite),
            ("Precedence", "bulk"),
            ("Auto-Submitted", "auto-generated"),
            ("Subject", ""),
            ("Message-Id", f"<{world.exim_id(HOST)}>"),
            ("Date", world.date),
        ),
        part=_body(world, said, period),
    )


def _people(upload: Upload, period: Period, to: str) -> tuple[tuple[str, str], ...]:
    if period in ("2021", "today"):
        return (
            ("From", MASTERS),
            ("Reply-To", person(upload.by.name, upload.by.address)),
            ("To", to),
        )
    writer = upload.by.field if period in KATIES else person(upload.by.name, upload.by.address)
    return (
        ("From", writer),
        ("To", to),
        ("Sender", f"Archive Administrator <dak@{HOST}.{words.DOMAIN}>"),
    )


def _dak(
    upload: Upload, period: Period, program: str, action: str, suite: str | None
) -> tuple[tuple[str, str], ...]:
    if period in KATIES:
        return (("X-Katie", "$Revision: 1.65 $"),)
    told = [("X-DAK", program if period != "2008" else "dak process-unchecked")]
    if period == "2008":
        return (*told, ("X-Katie", "$Revision: 1.65 $"))
    told += [("X-Debian", "DAK"), ("X-Debian-Package", upload.source)]
    if period != "today":
        return tuple(told)
    told += [
        ("Debian", "DAK"),
        ("Debian-Changes", f"{upload.name}.changes"),
        ("Debian-Source", upload.source),
        ("Debian-Version", upload.version),
        ("Debian-Architecture", " ".join(upload.arches)),
    ]
    if suite is not None:
        told.append(("Debian-Suite", suite))
    told.append(("Debian-Archive-Action", action))
    return tuple(told)


def _body(
    world: World, said: str, period: Period, *, latin: bool = False, original: str | None = None
) -> Part:
    """Return what the archive sends; what it signed was *original*, if that is not *said*."""
    if period in KATIES:
        return text(said, "bare", "latin-1" if latin else "utf-8")
    if period != "today":
        return text(said)
    none = world.signature(2)
    seal = world.key.detached(text(original or said).canonical) if world.key else none
    return signed(said, world.boundary(), seal)


def _word(period: Period) -> str:
    return "Installed" if period == "2001" else "Accepted"


def _pool(upload: Upload) -> str:
    name = upload.package.name
    home = f"pool/main/{name[0]}/{name}"
    return "".join(f"{file.name}\n  to {home}/{file.name}\n" for file in upload.files)
