"""
An event for a person: one to three lines of plain words, safe on any terminal.

Pure: colours, times and marks are the caller's.  The lines are text, never rich markup: give them
to `rich.text.Text`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from mailbridge.sinks import archive
from mailbridge.sinks.words import MANY, WIDE, Data, cut, listed, rows_at, text_at, texts_at

LINE: Final = 400
"""What no line exceeds, whatever is in it."""


def summary(tag: str, data: Data) -> list[str]:
    """
    Return what the event *tag* says in its *data*, as one to three lines.

    Nothing is believed about *data*: a stranger may have emitted it under a tag that we know.

    >>> summary("_lk.mailbridge.package-upload-accepted", {"source_name": "hello",
    ...     "source_version": "2.10-3", "suites": ["landing"], "uploader_name": "Jane Doe",
    ...     "closes": [123]})
    ['hello 2.10-3 accepted into landing, by Jane Doe, closes #123']
    """
    name = tag.rpartition(".")[2]
    teller = _TELLERS.get(name)
    lines = (teller(data) if teller else []) or [f"{name}: {_anything(data)}"]
    return [safe(cut(line, LINE)) for line in lines]


def safe(text: str) -> str:
    r"""
    Return *text* with all that is not printable escaped: controls, bidi marks, strange blanks.

    >>> print(safe("a\x1b[2J\u202eb"))
    a\x1b[2J\u202eb
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def safe_json(raw: bytes) -> bytes:
    r"""
    Return the JSON in *raw* with all that is not printable written as JSON's own escapes.

    It says the same; its bytes, and so its hash, may be others.

    >>> print(safe_json('{"title":"a\u202eb ä"}'.encode()).decode())
    {"title":"a\u202eb ä"}
    """
    text = raw.decode("utf-8", "replace")
    if text.isprintable():
        return raw
    told = (char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    return "".join(told).encode()


def backing(data: Data) -> str:
    """
    Return in words what backs this event: how it is known who sent its mail.

    >>> backing({"provenance": {"sent_by": {"how": "channel", "who": "pureos-changes"}}})
    "the operator's word that only 'pureos-changes' can reach this mailbox"
    """
    how, who = _sent_by(data)
    words = _BACKING.get(how, "a way we do not know: {}") if how else "nothing that it tells"
    return safe(words.format(repr(cut(who or how))))


def signature(data: Data) -> str | None:
    """
    Return in words what is known of the signature inside; None if nobody looked, or there is none.

    >>> signature({"provenance": {"signed_by": {"how": "openpgp", "status": "bad"}}})
    'signed, and the signature does not fit'
    """
    claims = data.get("provenance")
    told = claims.get("signed_by") if isinstance(claims, Mapping) else None
    if not isinstance(told, Mapping) or told.get("how") != "openpgp":
        return None
    words = _SIGNED.get(text_at(told, "status"), "signed, with a result we do not know")
    fingerprint = text_at(told, "fingerprint")
    return safe(f"{words} ({cut(fingerprint)})" if fingerprint else words)


def is_proved(data: Data) -> bool:
    """Say whether anything but the mail's own words tells who sent it."""
    return _sent_by(data)[0] in _BACKING.keys() - {"none"}


def _sent_by(data: Data) -> tuple[str, str]:
    claims = data.get("provenance")
    sent_by = claims.get("sent_by") if isinstance(claims, Mapping) else None
    if not isinstance(sent_by, Mapping):
        return "", ""
    return text_at(sent_by, "how"), text_at(sent_by, "who")


_BACKING: Final = {
    "none": "nothing: anyone who can mail this mailbox could have sent it",
    "channel": "the operator's word that only {} can reach this mailbox",
    "hop": "our mail server, which took it from {}",
    "authres": "our mail server's check of {}",
    "dkim": "the DKIM signature of {}",
    "archive-signature": "the archive's signature, {}",
}

_SIGNED: Final = {
    "good": "signed by a key in the source's keyrings",
    "bad": "signed, and the signature does not fit",
    "expired": "signed by a key that had expired",
    "revoked": "signed by a key that is revoked",
    "unknown-key": "signed by a key in none of the source's keyrings",
    "none": "signed in a way that proves nothing any more",
}


# -- bugs ------------------------------------------------------------------------------------------


def _reported(data: Data) -> list[str]:
    details = [text_at(data, "severity"), *texts_at(data, "tags")]
    return _bug(data, "reported", text_at(data, "actor_name"), [text for text in details if text])


def _commented(data: Data) -> list[str]:
    patch = ["with a patch"] if data.get("has_patch") is True else []
    return _bug(data, "commented on", text_at(data, "actor_name"), patch)


def _closed(data: Data) -> list[str]:
    version = text_at(data, "fixed_version")
    fixed = " ".join(filter(None, (text_at(data, "fixed_source"), version)))
    ways = {
        "upload": f"closed by the upload of {fixed}" if fixed else "closed by an upload",
        "removal": "closed: package removed",
        "control": f"closed by a command, fixed in {fixed}" if version else "closed by a command",
    }
    what = ways.get(text_at(data, "via"), f"closed, fixed in {fixed}" if version else "closed")
    return _bug(data, what, text_at(data, "done_by") or text_at(data, "actor_name"), [])


def _bug(data: Data, what: str, who: str, details: list[str]) -> list[str]:
    number = text_at(data, "bug")
    if not number:
        return []
    packages = texts_at(data, "package") or texts_at(data, "source")
    line = f"bug #{number}" + (f" in {listed(packages)}" if packages else "") + f" {what}"
    line += f", by {who}" if who else ""
    line += f" ({', '.join(details[: MANY + 1])})" if details else ""
    title = text_at(data, "title")
    return [line, f"  {cut(title)}"] if title else [line]


def _bug_changed(data: Data) -> list[str]:
    return _bug(data, "changed", text_at(data, "actor_name"), _details(data))


def _details(data: Data) -> list[str]:
    return [
        f"{text_at(row, 'action')} {cut(text_at(row, 'new'), WIDE // 4)}".strip()
        for row in rows_at(data, "changes")
    ]


def _item(name: str, data: Data) -> list[str]:
    """Tell of an issue, a merge request or a task: `issue-closed` and the like."""
    noun, _, what = name.rpartition("-")
    number = text_at(data, "iid") or text_at(data, "task")
    mark = {"issue": "#", "merge-request": "!", "task": "T"}[noun]
    line = f"{noun.replace('-', ' ')} {text_at(data, 'project')}{mark}{number}"
    line += f" {what}" + (" on" if what == "commented" else "")
    line += f", by {who}" if (who := text_at(data, "actor_name")) else ""
    verb = text_at(data, "verb")
    line += f" ({verb.lower()})" if what == "changed" and verb else ""
    title = text_at(data, "title")
    return ([line, f"  {cut(title)}"] if title else [line]) if number else []


def _forwarded(data: Data) -> list[str]:
    where = text_at(data, "forwarded_to")
    what = f"forwarded to {where}" if where else "forwarded to its upstream"
    return _bug(data, what, text_at(data, "actor_name"), [])


def _submitter_changed(data: Data) -> list[str]:
    new = text_at(data, "new_submitter")
    return _bug(data, f"has a new submitter{f', {new}' if new else ''}", "", [])


def _changed(data: Data) -> list[str]:
    total = data.get("bugs_total")
    if not isinstance(total, int) or isinstance(total, bool):
        return []
    bugs = [f"#{bug}" for bug in texts_at(data, "bugs")]
    line = f"bug{'' if total == 1 else 's'} {listed(bugs, total)}" if bugs else "no bug"
    line += f" changed, by {who}" if (who := text_at(data, "actor_name")) else " changed"
    errors = data.get("errors")
    line += (
        f" ({errors} command{'' if errors == 1 else 's'} failed)"
        if isinstance(errors, int) and errors
        else ""
    )
    rows = rows_at(data, "changes")
    told = [_change(row) for row in rows[:2]]
    total = data.get("changes_total")
    total = total if isinstance(total, int) and not isinstance(total, bool) else len(rows)
    if told and total > len(told):
        told[-1] += f", and {total - len(told)} more"
    return [line, *(f"  {text}" for text in told)]


def _change(change: Data) -> str:
    old, new = cut(text_at(change, "old"), WIDE // 2), cut(text_at(change, "new"), WIDE // 2)
    what = " -> ".join(filter(None, (old, new)))
    failed = " (failed)" if change.get("ok") is False else ""
    text = f"#{text_at(change, 'bug')} {text_at(change, 'action').replace('-', ' ')}"
    return f"{text}{f': {what}' if what else ''}{failed}"


# -- anything --------------------------------------------------------------------------------------

_BRIDGE_S_OWN: Final = frozenset(
    [
        "archive",
        "backfill",
        "list_id",
        "mail_date",
        "mail_received",
        "mail_source",
        "message_id",
        "provenance",
        "truncated",
        "url",
    ]
)


def _anything(data: Data) -> str:
    """Return the first few plain facts of an event nobody told us how to show."""
    facts: list[str] = []
    for key in data:
        if key in _BRIDGE_S_OWN or not (told := listed(texts_at(data, key))):
            continue
        if len(facts) == MANY:
            return f"{', '.join(facts)}, and more"
        facts.append(f"{cut(str(key))}={cut(told)}")
    return ", ".join(facts) or "(no details)"


def _confirmed(data: Data) -> list[str]:
    uuid, tag = text_at(data, "confirms"), text_at(data, "of")
    line = f"{tag} {uuid} came again, backed by {backing(data)}"
    signed = [f"  its upload is {words}"] if (words := signature(data)) else []
    return [line, *signed] if uuid and tag else []


_TELLERS: Final[dict[str, Callable[[Data], list[str]]]] = {
    **archive.TELLERS,
    "event-confirmed": _confirmed,
    "bug-reported": _reported,
    "bug-commented": _commented,
    "bug-closed": _closed,
    "bug-forwarded": _forwarded,
    "bug-submitter-changed": _submitter_changed,
    "bug-changed": _bug_changed,
    "bugs-changed": _changed,
    **{
        f"{noun}-{what}": partial(_item, f"{noun}-{what}")
        for noun in ("issue", "merge-request", "task")
        for what in ("created", "changed", "closed", "merged", "commented")
    },
}
