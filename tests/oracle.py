"""
What a mail must become, found out a second time: from its headers and texts, by simple means.

No recogniser is asked, nothing of the package is imported.  `email` parses, python-debian reads
.changes, and what a sender writes in a fixed form is matched as it is written in real mails; what
the oracle does not know it fails at, loudly, rather than let it pass.
"""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import Message

from tests.oracle_of_bugs import of_debbugs
from tests.oracle_of_mails import Told, common, text_of
from tests.oracle_of_trackers import of_tracker
from tests.oracle_of_uploads import is_dak, of_dak, of_laniakea

LISTS = {"lists.debian.org": "Debian", "lists.puri.sm": "PureOS", "lists.ubuntu.com": "Ubuntu"}


def expected(raw: bytes) -> Told | None:
    """Return what a mail must become, or None if nothing."""
    outer = message = message_from_bytes(raw)
    if message.get_content_type() == "message/rfc822" and "X-BeenThere" in message:
        # A list wrapped it whole.
        inner = message.get_payload(0)
        assert isinstance(inner, Message)
        message = inner
    if message.get_content_type() == "multipart/report" or "X-List-Administrivia" in message:
        return None
    archive = archive_of(message, text_of(outer, "List-Id"))
    told = told_of(message, archive)
    if told is None:
        return None
    facts = told.facts | {"archive": archive} | common(message, outer)
    return told._replace(facts=facts, news=(archive, *told.news))


def told_of(message: Message, archive: str) -> Told | None:
    """Return what a mail tells, whoever sent it."""
    if laniakea := message.get("X-Laniakea-Event"):
        return of_laniakea(laniakea, message)
    if project := project_of(message):
        return of_debbugs(project, message)
    if is_dak(message):
        return of_dak(message, archive)
    return of_tracker(message)


def project_of(message: Message) -> str | None:
    """Return whose debbugs sent a mail."""
    names = (re.fullmatch(r"(?i)X-(\w+)-PR-Message", name) for name in message)
    return next((found[1] for found in names if found), None)


def archive_of(message: Message, list_id: str) -> str:
    """Return the distribution that a mail speaks of."""
    if "X-Laniakea-Event" in message:
        return text_of(message, "X-Laniakea-Project")
    if reference := text_of(message, "X-Launchpad-Archive"):
        return reference if reference.startswith("~") else reference.capitalize()
    if "X-Launchpad-Bug" in message:
        return "Launchpad"
    host = re.search(r"\.?((?:[\w-]+\.){2}[\w-]+)>?$", list_id)
    if host and host[1] in LISTS:
        return LISTS[host[1]]
    debians = project_of(message) or is_dak(message)
    is_advisory = text_of(message, "Subject").startswith("[SECURITY]")
    return "Debian" if debians or is_advisory else "unknown"
