"""Whom a mail concerns, of those who could be asked about it."""

from __future__ import annotations

from mailbridge.config import Source
from mailbridge.errors import MalformedMail
from mailbridge.mail import MAX_MAIL, read_mail


def concerned(raw: bytes, sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """
    Return those of *sources* that the List-Id of *raw* concerns: those that name it, else those
    that name no list, else all (which then say that it came by another list).
    """
    if len(sources) == 1:
        return sources
    try:
        list_id = read_mail(raw, limit=max(MAX_MAIL, len(raw))).list_id
    except MalformedMail:
        list_id = None
    named = tuple(s for s in sources if list_id in [name.lower() for name in s.lists])
    return named or tuple(s for s in sources if not s.lists) or sources
