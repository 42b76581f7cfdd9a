"""The oracle for debbugs: what its headers tell, and its own words in the mails it writes."""

from __future__ import annotations

import re
from email.message import Message

from tests.oracle_of_mails import (
    Facts,
    Told,
    first_text,
    identified,
    ids,
    inside,
    one_line,
    person,
    text_of,
    without,
    words,
)
from tests.oracle_of_transcripts import of_transcript

PAGES = {"Debian": "https://bugs.debian.org/{}", "GNU": "https://debbugs.gnu.org/{}"}
SEVERITIES = ("critical", "grave", "serious", "important", "normal", "minor", "wishlist", "fixed")
NAMES = {
    "report": "bug-reported",
    "followup": "bug-commented",
    "closed": "bug-closed",
    "forwarded": "bug-forwarded",
    "submitter": "bug-submitter-changed",
}
TEAMS = ("lists", "packages", "qa", "bugs", "release", "tracker")


def of_debbugs(project: str, message: Message) -> Told | None:
    """Return what a mail of debbugs tells."""
    word, _, number = message[f"X-{project}-PR-Message"].partition(" ")
    if word == "transcript":
        return of_transcript(project, message)
    spooled = [v for v in message.get_all("Received", []) if v.startswith("via spool by")]
    if word == "report" and spooled and "(code U" in spooled[0]:
        # Somebody wrote to a bug's submitter.
        word = "followup"
    kinds = {"they-closed": "closed", "submitter-changed": "submitter"}
    tellers = {
        "report": of_report,
        "followup": of_followup,
        "closed": of_closing,
        "they-closed": of_closing,
        "forwarded": of_forwarding,
        "submitter-changed": of_new_submitter,
    }
    if word not in tellers:
        return None
    facts: Facts = {
        "tracker": "debbugs",
        "bug": int(number),
        "package": words(text_of(message, f"X-{project}-PR-Package")),
        "source": words(text_of(message, f"X-{project}-PR-Source")),
        "tags": words(text_of(message, f"X-{project}-PR-Keywords")),
        "url": PAGES[project].format(number),
    }
    if f"X-{project}-PR-Source" not in message:
        facts["source"] = [p.removeprefix("src:") for p in facts["package"] if p[:4] == "src:"]
    facts |= without(tellers[word](message))
    kind = kinds.get(word, word)
    news: tuple[object, ...] = (kind, number, identified(message))
    if kind == "closed":
        news = (kind, number, facts.get("closing_message_id"), facts.get("fixed_version"))
    return Told(f"debbugs-{kind}", facts, news, (NAMES[kind],))


# -- what people wrote -----------------------------------------------------------------------------


def title_of(message: Message) -> str:
    """Return a subject without debbugs' `Bug#N: `, and what a list put before it."""
    number = re.search(r"[0-9]+", text_of(message, "X-Debian-PR-Message"))
    assert number
    subject = text_of(message, "Subject")
    # One real mail has another bug's number in its subject: not what debbugs put there.
    _, found, title = subject.partition(f"Bug#{number[0]}:")
    return title.strip() if found else subject


def writer_of(message: Message) -> str | None:
    """Return the name of who wrote to debbugs, which a list may have replaced by its own."""
    name = person(text_of(message, "From"))[0] or ""
    if " via " in name:
        return person(text_of(message, "Resent-From"))[0]
    return name or None


def of_report(message: Message) -> Facts:
    """Return what a bug report tells in the lines that it begins with."""
    told = fields_of(first_text(message))
    user = told.get("user", "").partition(",")[0]
    tags = words(told.get("usertags") or told.get("usertag") or "")
    version = version_of(told.get("source-version") or told.get("version", ""))[1]
    severity = told.get("severity", "").lower()
    return {
        "title": title_of(message),
        "actor_name": writer_of(message),
        "severity": severity if severity in SEVERITIES else None,
        "version": version,
        "owner": person(told.get("owner", ""))[0],
        "reported_tags": words((told.get("tags") or told.get("tag") or "").lower()) or None,
        "usertags": {user: [tag.lower() for tag in tags]}
        if tags and user.partition("@")[2].startswith(TEAMS)
        else None,
        "reportbug": "reportbug" in text_of(message, "X-Mailer").lower()
        or "X-Reportbug-Version" in message,
    }


def fields_of(text: str) -> dict[str, str]:
    """Return the `Name: value` lines that a text begins with, the last of a name."""
    found: dict[str, str] = {}
    lines = iter(text.lstrip("\ufeff \n").split("\n"))
    for line in lines:
        if line.startswith("-----BEGIN PGP SIGNED"):
            # The armor's own headers end in an empty line.
            while next(lines, ""):
                pass
            continue
        field = re.match(r"([\w-]+):[\s\xa0]*(\S.*)", line)
        if not field and (found or line):
            break
        if field:
            found[field[1].lower()] = field[2].strip()
    return found


def version_of(text: str) -> tuple[str | None, str | None]:
    """Return source and version of `source/version`; nothing of what is none, as `n/a`."""
    first = (text.replace('"', " ").replace("'", " ").replace(",", " ").split() or [""])[0]
    source, slash, version = first.rpartition("/")
    if not re.fullmatch(r"[A-Za-z0-9:+.~-]*[0-9][A-Za-z0-9:+.~-]*", version):
        return None, None
    return source if slash else None, version


def of_followup(message: Message) -> Facts:
    """Return what a mail to a bug tells."""
    answered = ids(message, "In-Reply-To")
    raw = message.as_bytes()
    body = raw.partition(b"\n\n")[2]
    has_patch = re.search(rb"(?m)^--- \S.*\n\+\+\+ \S|^diff --git a/", body) or any(
        part.get_content_subtype() in ("x-diff", "x-patch") for part in message.walk()
    )
    return {
        "title": title_of(message),
        "actor_name": writer_of(message),
        "in_reply_to": answered[0] if answered else None,
        "has_patch": True if has_patch else None,
    }


# -- what debbugs wrote ----------------------------------------------------------------------------


def of_closing(message: Message) -> Facts:
    """Return what debbugs tells of a closing, and the mail that closed the bug of itself."""
    text = first_text(message)
    told = re.search(
        r"with message-id (?P<id>[^\n]*)\nand subject line (?:.|\n)*?"
        r"\nregarding (?P<title>(?:.|\n)*?)\nto be marked as done\.",
        text,
    )
    theirs = re.search(r"(?m)^#\d+: (?P<title>.*)\n\nIt has been closed by (?P<who>.*)\.$", text)
    found = told or theirs
    assert found
    # The report goes first to whoever closed the bug, and last to whoever reported it.
    mails = inside(message)
    closing = (mails[1] if told else mails[0]) if mails else Message()
    fields = fields_of(first_text(closing) if mails else "")
    source, version = version_of(fields.get("source-version") or fields.get("version", ""))
    is_upload = {"source", "source-version"} <= fields.keys()
    who = fields.get("done") or (text_of(message, "To") if told else found["who"])
    name = person(who)[0] or person(text_of(closing, "From"))[0]
    own = re.match(r"handler\.\d+\.([A-Za-z])", identified(message) or "")
    by_control = theirs and own and own[1] not in "Dd"
    return {
        "title": one_line(found["title"]),
        "closing_message_id": told["id"].strip("<> ") if told else identified(closing),
        "via": "control" if by_control else "upload" if is_upload else "mail",
        "fixed_version": version,
        "fixed_source": (source or fields.get("source")) if version else None,
        "done_by": name,
        "actor_name": name,
    }


def of_forwarding(message: Message) -> Facts:
    """Return what debbugs tells of a bug that was passed on."""
    text = first_text(message)
    title = re.search(r"\nregarding ((?:.|\n)*?)\nto be marked as having been forwarded", text)
    where = re.search(r"author\(s\) ((?:.|\n)*?)\n\n", text)
    assert title
    assert where
    name, address = person(where[1])
    return {
        "title": one_line(title[1]),
        # Of people only the name, of those without one only the host, leaves.
        "forwarded_to": name or f"somebody at {(address or '').partition('@')[2].rstrip('.')}",
        "actor_name": person(text_of(message, "To"))[0],
    }


def of_new_submitter(message: Message) -> Facts:
    """Return what debbugs tells the old submitter."""
    text = first_text(message)
    title = re.search(r"(?m)^#\d+: (.*)$", text)
    old = re.search(r"old submitter address for this report was\n(.*)", text)
    new = re.search(r"new submitter address is\n(.*)", text)
    assert title
    assert old
    assert new
    names = [person(who[1].strip(" ."))[0] for who in (old, new)]
    return {"title": one_line(title[1]), "old_submitter": names[0], "new_submitter": names[1]}
