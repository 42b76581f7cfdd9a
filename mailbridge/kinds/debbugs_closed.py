"""debbugs tells that a bug is done: `closed N`, and `they-closed N` to its submitter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from mailbridge import dak, debbugs
from mailbridge.debbugs import Notice
from mailbridge.family import Family
from mailbridge.kinds import Site
from mailbridge.mail import Mail, person
from mailbridge.payloads import BugClosed, Clip, Event, Person

FAMILY: Final = Family.DEBBUGS
PAYLOADS: Final = (BugClosed,)
ATTESTED: Final = "real mails"

Via = Literal["upload", "mail", "control", "removal"]

_DONE: Final = re.compile(r"marked as done(?: \((?P<title>.*)\))?", re.DOTALL)
# (Until 2008 it went on behind the title, or ended the sentence.)
_SUBMITTER_S_TITLE: Final = (
    r"^(?:#{0}: (?P<title>.*?)(?:\n\n(?=.+\n)|,\nwhich was filed |\.\n\nIt has been marked )"
    r"|regarding (?P<marked>.*)\nto be marked as done\b.*$)"
)
_CLOSED_BY: Final = re.compile(
    r"^It has been (?:marked as )?closed by "
    r"(?:one of the developers, namely\n|(?!one of the developers,))(?P<who>.+?)\.?$",
    re.MULTILINE,
)
# Until 2008 notices of what control@ closed had a word of their own.
_KINDS: Final = ("closed", "they-closed", "they-closed-control")
# `handler.<bug>.<letter><spool>.notifdone@`; by control@ the letter is not D, once "notifdonectrl".
_OWN_ID: Final = re.compile(
    r"handler\.[0-9]+\.(?P<letter>[A-Za-z])[0-9]*\.(?:[0-9]+\.)?notifdone(?P<control>ctrl)?"
)
_BOTH: Final = 2


def recognise(mail: Mail, site: Site, _archive: str) -> Sequence[Event] | None:
    """Return the closing, or None.  Raises `MalformedMail` where the bug has no number."""
    notice = debbugs.notice(mail)
    if notice is None or notice.kind not in _KINDS:
        return None
    clip = Clip()
    closing = _closing_mail(mail, notice)
    told = debbugs.pseudo_headers(closing.text) if closing else {}
    if closing and (upload := _upload(closing)):
        # Until 2005 dak told it in its subject alone.
        told = {**upload, **told}
    via = _via(mail, notice, closing, told)
    version = debbugs.version(told.get("source-version") or told.get("version", ""))
    closed_by = _closing_id(mail, notice, closing)
    who = _done_by(mail, notice, closing, told)
    name = clip.word(who.name) if who.name else None
    source = (version.source if version else None) or told.get("source")
    payload = BugClosed(
        tracker=debbugs.TRACKER,
        bug=notice.bug,
        title=clip.line(_title(mail, notice)),
        package=clip.words(debbugs.packages(mail, notice)),
        source=clip.words(debbugs.sources(mail, notice)),
        tags=clip.words(debbugs.tags(mail, notice)),
        actor_name=name,
        actor_email=who.address if site.addresses else None,
        via=via,
        fixed_version=clip.word(version.version) if version else None,
        fixed_source=clip.word(source) if source and version else None,
        done_by=name,
        closing_message_id=clip.word(closed_by) if closed_by else None,
        url=notice.url,
        truncated=clip.truncated,
    )
    identity = {
        "tracker": debbugs.TRACKER,
        "bug": notice.bug,
        # A bug can be closed many times.  Where nobody told by which mail, each notice is its own.
        "closing_message_id": payload.closing_message_id or mail.message_id,
        "fixed_version": payload.fixed_version,
    }
    return [Event(payload=payload, identity=identity, author=name)]


def _closing_mail(mail: Mail, notice: Notice) -> Mail | None:
    """Return the mail that closed the bug: the second one in `closed`, the first in the other."""
    inside = debbugs.mails_inside(mail)
    told = debbugs.message_ids(mail.header("References"))
    for one in inside:
        if told and one.message_id == told[0]:
            return one
    if len(inside) < _BOTH:
        return None
    return inside[0] if notice.kind != "closed" else inside[1]


def _closing_id(mail: Mail, notice: Notice, closing: Mail | None) -> str | None:
    if closing and closing.header("Message-ID"):
        return closing.message_id
    # First the closing mail, then the report: so in both notices.  One alone may be the report,
    # and that would make every later closing of the bug the same news.
    told = debbugs.message_ids(mail.header("References"))
    return told[0] if len(told) >= _BOTH or (told and notice.kind == "closed") else None


def _via(mail: Mail, notice: Notice, closing: Mail | None, told: dict[str, str]) -> Via:
    own = _OWN_ID.match(mail.message_id)
    if notice.kind == "they-closed-control" or (
        notice.kind == "they-closed" and own and (own["control"] or own["letter"] not in "Dd")
    ):
        return "control"
    if (closing and dak.removes(closing)) or told.get("version", "").endswith("+rm"):
        return "removal"
    return "upload" if told.get("source") and told.get("source-version") else "mail"


def _upload(closing: Mail) -> dict[str, str]:
    """Return what dak's subject tells of the upload that closed the bug."""
    is_daks = closing.has("X-DAK", "X-Katie")
    notice = dak.notice(closing) if is_daks else None
    if notice is None or notice.what != "close":
        return {}
    return {
        "source": notice.told.get("source") or "",
        "source-version": notice.told.get("version") or "",
    }


def _done_by(mail: Mail, notice: Notice, closing: Mail | None, told: dict[str, str]) -> Person:
    if "done" in told:
        return person(told["done"])
    found = _CLOSED_BY.search(mail.ended_lines) if notice.kind != "closed" else None
    if found:
        return person(found["who"].partition(" (reply to ")[0])
    if notice.kind == "closed" and (whom := person(mail.header("To") or "")).name:
        # Debbugs answers whoever closed it; dak has the archive in From, the maintainer here.
        return whom
    return person((closing.header("From") if closing else None) or "")


def _title(mail: Mail, notice: Notice) -> str:
    if notice.kind != "closed":
        # Its subject is that of the closing mail.
        found = re.search(_SUBMITTER_S_TITLE.format(notice.bug), mail.ended_lines, re.MULTILINE)
        return (found["title"] or found["marked"] or "") if found else ""
    found = _DONE.fullmatch(debbugs.title(mail, notice.bug))
    return (found["title"] or "") if found else debbugs.title(mail, notice.bug)
