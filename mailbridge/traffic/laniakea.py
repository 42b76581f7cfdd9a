"""Mails as Laniakea's mailgun sends them: raw UTF-8, no armour, almost no headers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mailbridge.traffic import words
from mailbridge.traffic.letter import Letter, text
from mailbridge.traffic.lists import through_mailman
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.upload import Upload
from mailbridge.traffic.words import LISTS
from mailbridge.traffic.world import World

CHANGES: Final = f"{words.REPO}-changes"
UPLOADS: Final = f"{words.REPO}-uploads"


def announce(world: World, upload: Upload) -> Tale:
    """Return the mail about *upload* that goes to the changes list."""
    files = "".join(f"    {file.name}\n" for file in upload.files)
    said = f"{upload.changes}\n\nAccepted:\n\n{files}\n"
    said += f"Thanks to {upload.by.name} for the contribution."
    to = f"{CHANGES}@{LISTS}"
    version = upload.source_version
    subject = f"[{words.REPO}] Accepted {upload.package.name} {version} into {upload.suite}"
    letter = _letter(world, upload, "package-accepted", said, to=to, subject=subject, private=False)
    return Tale(
        what="laniakea announce",
        letter=through_mailman(letter, CHANGES, LISTS) if world.chance(0.7) else letter,
        bare=letter,
        news=(News("package-upload-accepted", _told(upload), upload.key),),
    )


def accepted(world: World, upload: Upload) -> Tale:
    """Return the ACCEPTED mail about *upload* that its uploader gets: the same news."""
    files = "".join(f"    {file.name}\n" for file in upload.files)
    said = (
        f"Accepted {upload.package.name} {upload.source_version}:\n\n{upload.changes}\n\n"
        f"Files:\n\n{files}\nThank you for your contribution to {words.PROJECT}/{words.REPO}!"
    )
    subject = f"[{words.REPO}] {upload.name} ACCEPTED into {upload.suite}"
    letter = _letter(world, upload, "package-accepted", said, to=upload.by.address, subject=subject)
    news = News("package-upload-accepted", _told(upload), upload.key)
    return Tale(what="laniakea accepted", letter=letter, news=(news,))


def new(world: World, upload: Upload) -> Tale:
    """Return the mail that says that *upload* waits in NEW; two blanks in its subject and all."""
    said = (
        "Hello!\n\nYour package has been put into the NEW queue, which means it will require\n"
        "a human review to proceed further.\n\n"
        f"[1]: https://archive.{words.DOMAIN}/queue/{words.REPO}/new"
    )
    subject = f"[{words.REPO}] {upload.name} for  is NEW"
    to = f"{UPLOADS}@{LISTS}"
    letter = _letter(world, upload, "package-queued-new", said, to=to, subject=subject)
    told = {"upload_name": upload.name, "is_new": True, "source_name": upload.package.name}
    return Tale(
        what="laniakea new",
        letter=through_mailman(letter, UPLOADS, LISTS),
        news=(News("package-upload-queued-new", told, f"new {letter.get('Message-ID')}"),),
    )


def rejected(world: World, upload: Upload) -> Tale:
    """Return the mail that says that *upload* was rejected, and why."""
    reason = world.rng.choice(words.REASONS)
    said = (
        f"Hello!\n\nUnfortunately, your upload was rejected:\n{reason}\n\n===\n\n"
        "Please feel free to contact the archive admins or review team if you don't\n"
        "understand why your files were rejected."
    )
    subject = f"[{words.REPO}] {upload.name} REJECTED"
    to = f"{UPLOADS}@{LISTS}"
    letter = _letter(world, upload, "package-rejected", said, to=to, subject=subject)
    headers = tuple(pair for pair in letter.headers if pair[0] != "X-Laniakea-Package")
    letter = replace(letter, headers=headers)
    told = {"upload_name": upload.name, "reason": reason}
    return Tale(
        what="laniakea rejected",
        letter=through_mailman(letter, UPLOADS, LISTS),
        news=(News("package-upload-rejected", told, f"rejected {letter.get('Message-ID')}"),),
    )


def _told(upload: Upload) -> dict[str, Any]:
    # (What both the announcement and the private mail tell; any of them may come first.)
    return {
        "suite": upload.suite,
        "suites": [upload.suite],
        "is_new": False,
        "source_name": upload.package.name,
        "source_version": upload.source_version,
        "files": [file.name for file in upload.files],
        **upload.told_changes,
        "urgency": upload.urgency,
        "distribution": upload.suite,
        "closes": list(upload.closes),
    }


def _letter(  # noqa: PLR0913 - what the four templates differ in
    world: World,
    upload: Upload,
    event: str,
    said: str,
    *,
    to: str,
    subject: str,
    private: bool = True,
) -> Letter:
    bulk = (("Precedence", "bulk"), ("Auto-Submitted", "auto-generated")) if private else ()
    return Letter(
        trace=world.trace("archive", to),
        headers=(
            ("From", f"{words.PROJECT} Archive <noreply@archive.{words.DOMAIN}>"),
            ("To", to),
            ("X-Laniakea-Project", words.PROJECT),
            ("X-Laniakea-Repo", words.REPO),
            ("X-Laniakea-Package", upload.package.name),
            ("X-Laniakea-Event", event),
            *bulk,
            ("MIME-Version", "1.0"),
            ("Subject", subject),
            # (sendmail adds these two.)
            ("Message-ID", f"<{world.when:%Y%m%d%H%M}.{world.token(14)}@archive.{words.DOMAIN}>"),
            ("Date", world.date),
        ),
        part=text(said, "8bit"),
    )
