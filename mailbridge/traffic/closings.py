"""Mails of debbugs about a bug that is done: to who closed it, and to who reported it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from mailbridge.traffic import words
from mailbridge.traffic.bugs import HOST, OWNER, about, listed, writer
from mailbridge.traffic.dak import MASTERS, closing
from mailbridge.traffic.letter import Headers, Letter, Part, enclosed, multipart, text, word
from mailbridge.traffic.tale import News, Tale
from mailbridge.traffic.upload import Upload
from mailbridge.traffic.world import OpenBug, Someone, World

CLOSED: Final = "demo-bugs-closed"

_PREAMBLE: Final = "This is a multi-part message in MIME format...\n"


class Closing(NamedTuple):
    """How a bug was closed, by which mail and by whom."""

    bug: OpenBug
    letter: Letter
    subject: str
    """Of the letter, as people read it."""
    closer: Someone
    told: dict[str, str]
    """What is known of how."""

    @property
    def news(self) -> News:
        """Return what both its mails tell."""
        bug, closing_id = self.bug, self.letter.message_id.strip("<>")
        told: dict[str, Any] = {
            "tracker": "debbugs",
            "bug": bug.number,
            "title": bug.title,
            "package": [bug.package],
            "source": [bug.source],
            "tags": list(bug.tags),
            "closing_message_id": closing_id,
        }
        return News("bug-closed", told | self.told, f"closed {bug.number} {closing_id}")


def by_upload(world: World, bug: OpenBug, upload: Upload) -> Closing:
    """Return the closing of *bug* by *upload*."""
    letter = closing(world, upload, bug)
    told = {"via": "upload", "fixed_version": upload.source_version}
    told |= {"fixed_source": upload.package.name}
    return Closing(bug, letter, letter.get("Subject"), upload.by, told)


def by_mail(world: World, bug: OpenBug, version: str | None) -> Closing:
    """Return the closing of *bug* by somebody who wrote that it is done, in *version*."""
    closer = world.somebody()
    said = f"Version: {version}\n\n" if version else ""
    said += f"{world.rng.choice(words.REMARKS)}\nClosing.\n"
    letter = _letter(world, bug, f"Re: {bug.title}", writer(closer), said, "done")
    told = {"via": "mail"} | ({"fixed_version": version} if version else {})
    return Closing(bug, letter, bug.title, closer, told)


def by_removal(world: World, bug: OpenBug, version: str) -> Closing:
    """Return the closing of *bug* because its package was removed from the archive."""
    said = (
        f"Version: {version}+rm\n\nDear submitter,\n\nas the package {bug.source} has just been"
        " removed from the archive\nwe hereby close the associated bug reports.\n"
    )
    subject = "Removed package(s) from unstable"
    headers = (("X-DAK", "dak rm"), ("X-Debian", "DAK"), ("Debian", "DAK"))
    letter = _letter(world, bug, f"Bug#{bug.number}: {subject}", MASTERS, said, "done", headers)
    masters = Someone(name="Demo FTP Masters", mailbox="ftpmaster")
    told = {"via": "removal", "fixed_version": f"{version}+rm"}
    return Closing(bug, letter, letter.get("Subject"), masters, told)


def by_command(world: World, bug: OpenBug) -> Closing:
    """Return the closing of *bug* by a command to control@, of which only its reporter hears."""
    closer = world.somebody()
    said = f"close {bug.number}\nthanks\n"
    letter = _letter(world, bug, f"closing {bug.number}", writer(closer), said, "control")
    return Closing(bug, letter, f"closing {bug.number}", closer, {"via": "control"})


def closed(world: World, closing: Closing) -> Tale:
    """Return the mail to who closed the bug, which a list gets, too."""
    bug, letter = closing.bug, closing.letter
    said = (
        f"Your message dated {letter.get('Date')}\nwith message-id {letter.message_id}\n"
        f"and subject line {closing.subject}\nhas caused the Demo Bug report #{bug.number},\n"
        f"regarding {bug.title}\nto be marked as done.\n\nThis means that you claim that the"
        " problem has been dealt with.\nIf this is not the case it is now your responsibility to"
        f" reopen the\nBug report if necessary.\n\n\n-- \n{_footer(bug)}"
    )
    bare = _notice(
        world,
        bug,
        _parts(world, said, bug.report, letter),
        to=writer(closing.closer),
        subject=f"Bug#{bug.number}: marked as done ({bug.title})",
        message_id=f"handler.{bug.number}.D{bug.number}.{world.rng.randrange(10**15)}.ackdone",
        more=(
            ("References", f"{letter.message_id}\n <{bug.message_id}>"),
            ("X-Debian-PR-Message", f"closed {bug.number}"),
        ),
    )
    return Tale(
        what=f"debbugs closed by {closing.told['via']}",
        letter=listed(world, bare, CLOSED),
        bare=bare,
        news=(closing.news,),
    )


def they_closed(world: World, closing: Closing) -> Tale:
    """Return the mail to who reported the bug: the same news, and its parts the other way round."""
    bug, letter = closing.bug, closing.letter
    said = (
        f"This is an automatic notification regarding your Bug report\nwhich was filed against the"
        f" {bug.package} package:\n\n#{bug.number}: {bug.title}\n\nIt has been closed by"
        f" {closing.closer.field}.\n\nTheir explanation is attached below along with your original"
        f" report.\nIf this explanation is unsatisfactory, answer it.\n\n\n-- \n{_footer(bug)}"
    )
    number = world.rng.randrange(10**15)
    own = f"D{bug.number}.{number}.notifdone"
    if closing.told["via"] == "control":
        own = f"C.{number}.notifdonectrl.0"
    bare = _notice(
        world,
        bug,
        _parts(world, said, letter, bug.report),
        to=writer(bug.reporter),
        subject=f"Bug#{bug.number} closed by {closing.closer.name} ({closing.subject})",
        message_id=f"handler.{bug.number}.{own}",
        more=(
            ("References", f"{letter.message_id} <{bug.message_id}>"),
            ("X-Debian-PR-Message", f"they-closed {bug.number}"),
        ),
    )
    return Tale(
        what=f"debbugs they-closed by {closing.told['via']}",
        letter=bare,
        bare=bare,
        news=(closing.news,),
        told_by_id=closing.told["via"] == "control",
    )


def _letter(  # noqa: PLR0913, PLR0917 - what a letter has
    world: World,
    bug: OpenBug,
    subject: str,
    sender: str,
    said: str,
    way: str,
    more: Headers = (),
) -> Letter:
    to = f"control@{HOST}" if way == "control" else f"{bug.number}-{way}@{HOST}"
    at = "control" if way == "control" else f"{bug.number}-{way}"
    return Letter(
        headers=(
            ("Received", f"(at {at}) by {HOST}; {world.date}"),
            ("From", sender),
            ("To", to),
            ("Subject", word(subject)),
            ("Message-ID", f"<{world.token(20)}@{words.DOMAIN}>"),
            ("Date", world.earlier(5)),
            ("MIME-Version", "1.0"),
            *more,
        ),
        part=text(said),
    )


def _parts(world: World, said: str, first: Letter, second: Letter) -> Part:
    boundary = f"----------=_{world.rng.randrange(10**9)}-{world.rng.randrange(9999)}-0"
    return multipart("mixed", boundary, (text(said), enclosed(first), enclosed(second)), _PREAMBLE)


def _notice(  # noqa: PLR0913 - what both notices have
    world: World,
    bug: OpenBug,
    part: Part,
    *,
    to: str,
    subject: str,
    message_id: str,
    more: Headers,
) -> Letter:
    return Letter(
        trace=world.trace("bugs", f"{CLOSED}@{words.LISTS}"),
        headers=(
            ("MIME-Version", "1.0"),
            ("X-Mailer", "MIME-tools 5.509 (Entity 5.509)"),
            ("X-Loop", f"owner@{HOST}"),
            ("From", OWNER),
            ("To", to),
            ("Subject", word(subject)),
            ("Message-ID", f"<{message_id}@{HOST}>"),
            *more,
            *about(bug),
            ("Reply-To", f"{bug.number}@{HOST}"),
            ("Date", world.date),
        ),
        part=part,
    )


def _footer(bug: OpenBug) -> str:
    return f"{bug.number}: https://{HOST}/{bug.number}\n"
