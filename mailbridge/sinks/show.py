"""
An event for a person: one to three lines of plain words, safe on any terminal.

Pure: colours, times and marks are the caller's.  The lines are text, never rich markup: give them
to `rich.text.Text`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

Data = Mapping[str, Any]

MANY: Final = 5
"""How many of a list are named before the rest is counted."""
WIDE: Final = 160
"""How much of somebody's free text stands in one line."""
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
    return [safe(_cut(line, LINE)) for line in lines]


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


def backing(data: Data) -> str:
    """
    Return in words what backs this event: how it is known who sent its mail.

    >>> backing({"provenance": {"sent_by": {"how": "channel", "who": "pureos-changes"}}})
    "the operator's word that only 'pureos-changes' can reach this mailbox"
    """
    how, who = _sent_by(data)
    words = _BACKING.get(how, "a way we do not know: {}") if how else "nothing that it tells"
    return safe(words.format(repr(_cut(who or how))))


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
    words = _SIGNED.get(_word(told, "status"), "signed, with a result we do not know")
    fingerprint = _word(told, "fingerprint")
    return safe(f"{words} ({_cut(fingerprint)})" if fingerprint else words)


def is_proved(data: Data) -> bool:
    """Say whether anything but the mail's own words tells who sent it."""
    return _sent_by(data)[0] in _BACKING.keys() - {"none"}


def _sent_by(data: Data) -> tuple[str, str]:
    claims = data.get("provenance")
    sent_by = claims.get("sent_by") if isinstance(claims, Mapping) else None
    if not isinstance(sent_by, Mapping):
        return "", ""
    return _word(sent_by, "how"), _word(sent_by, "who")


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


# -- uploads ---------------------------------------------------------------------------------------


def _accepted(data: Data) -> list[str]:
    suites = _words(data, "suites") or _words(data, "suite")
    into = f" into {_listed(suites)}" if suites else ""
    if data.get("is_new") is True:
        return _upload(data, f"waits in NEW{into}")
    return _upload(data, f"accepted{into}")


def _held(data: Data) -> list[str]:
    queue = _word(data, "policy_queue") or _listed(_words(data, "policy_suites"))
    suite = _word(data, "suite")
    return _upload(data, f"waits in {queue or 'a queue'}" + (f" for {suite}" if suite else ""))


def _queued_new(data: Data) -> list[str]:
    suite = _word(data, "suite")
    return _upload(data, "waits in NEW" + (f" for {suite}" if suite else ""))


def _rejected(data: Data) -> list[str]:
    automatic = data.get("automatic")
    by = " automatically" if automatic is True else " by hand" if automatic is False else ""
    reason = _first_line(_word(data, "reason"))
    return _upload(data, f"rejected{by}") + ([f"  {reason}"] if reason else [])


def _upload(data: Data, what: str) -> list[str]:
    name = _word(data, "source_name")
    upload = _word(data, "upload_name")
    if not name and not upload:
        return []
    version = _word(data, "version") or _word(data, "source_version")
    line = f"{name} {version}".strip() if name else upload
    line += f" {what}"
    if uploader := _word(data, "uploader_name"):
        line += f", by {uploader}"
    if closes := _words(data, "closes"):
        line += f", closes {_listed([f'#{bug}' for bug in closes])}"
    change = _first_change(_word(data, "changes"))
    return [line, f"  {change}"] if change else [line]


def _first_change(changes: str) -> str:
    """Return the first entry of a Changes field, behind its `hello (2.10-3) unstable; ...`."""
    for line in changes.splitlines():
        text = line.strip()
        if text.startswith(("* ", "- ", "+ ")):
            return _cut(text[2:].strip())
    return ""


# -- packages, builds, advisories ------------------------------------------------------------------


def _migrated(data: Data) -> list[str]:
    new, old = _word(data, "version_new"), _word(data, "version_old")
    suite = _word(data, "suite") or "a suite"
    if not (name := _word(data, "source_name")):
        return []
    if new in ("", "-"):
        line = f"{name} {old} removed from {suite}"
    else:
        line = f"{name} {new} migrated to {suite}" + (f", after {old}" if old != "-" else "")
    hint = _word(data, "hint")
    return [line, f"  {_cut(hint)}"] if hint else [line]


def _day(data: Data) -> list[str]:
    count = data.get("count")
    if not isinstance(count, int) or isinstance(count, bool):
        return []
    names = _listed(_words(data, "packages"), count)
    what = "removed from" if _word(data, "what") == "removed" else "migrated to"
    return [f"{count} {what} {_word(data, 'suite')}: {names}"]


def _advisory(data: Data) -> list[str]:
    if not (name := _word(data, "advisory")):
        return []
    fixed = data.get("fixed_versions")
    told = [f"{s} {v}" for s, v in fixed.items()] if isinstance(fixed, Mapping) else []
    line = f"{name}: {_listed(_words(data, 'source_names'))}"
    line += f" fixed in {_listed(told)}" if told else ""
    cves = _listed(_words(data, "cves"))
    return [line + (f" ({cves})" if cves else ""), f"  {_cut(_word(data, 'title'))}"]


def _build_failed(data: Data) -> list[str]:
    return _build(data, "failed to build")


def _built(data: Data) -> list[str]:
    return _build(data, "built")


def _build(data: Data, what: str) -> list[str]:
    if not (name := _word(data, "pkgname")):
        return []
    suite, state, log = (_word(data, key) for key in ("suite", "state", "log_url"))
    line = f"{name} {_word(data, 'version')} {what} on {_word(data, 'architecture')}"
    line += (f" for {suite}" if suite else "") + (f" ({state})" if state else "")
    return [line, f"  {_cut(log)}"] if log else [line]


def _recipe(data: Data) -> list[str]:
    what = "built" if data.get("success") is True else "failed to build"
    recipe, suite, state = (_word(data, key) for key in ("recipe", "suite", "state"))
    return [f"recipe {recipe} {what} for {suite} ({state})"] if recipe else []


def _autoremoval(data: Data) -> list[str]:
    name, suite, date = (_word(data, key) for key in ("source_name", "suite", "date"))
    bugs = _listed([f"#{bug}" for bug in _words(data, "bugs")])
    line = f"{name} {_word(data, 'source_version')} leaves {suite} on {date}"
    return [line + (f", for {bugs}" if bugs else "")] if name else []


# -- bugs ------------------------------------------------------------------------------------------


def _reported(data: Data) -> list[str]:
    details = [_word(data, "severity"), *_words(data, "tags")]
    return _bug(data, "reported", _word(data, "actor_name"), [text for text in details if text])


def _commented(data: Data) -> list[str]:
    patch = ["with a patch"] if data.get("has_patch") is True else []
    return _bug(data, "commented on", _word(data, "actor_name"), patch)


def _closed(data: Data) -> list[str]:
    version = _word(data, "fixed_version")
    fixed = " ".join(filter(None, (_word(data, "fixed_source"), version)))
    ways = {
        "upload": f"closed by the upload of {fixed}" if fixed else "closed by an upload",
        "removal": "closed: package removed",
    }
    what = ways.get(_word(data, "via"), f"closed, fixed in {fixed}" if version else "closed")
    return _bug(data, what, _word(data, "done_by") or _word(data, "actor_name"), [])


def _bug(data: Data, what: str, who: str, details: list[str]) -> list[str]:
    number = _word(data, "bug")
    if not number:
        return []
    packages = _words(data, "package") or _words(data, "source")
    line = f"bug #{number}" + (f" in {_listed(packages)}" if packages else "") + f" {what}"
    line += f", by {who}" if who else ""
    line += f" ({', '.join(details[: MANY + 1])})" if details else ""
    title = _word(data, "title")
    return [line, f"  {_cut(title)}"] if title else [line]


def _bug_changed(data: Data) -> list[str]:
    return _bug(data, "changed", _word(data, "actor_name"), _details(data))


def _details(data: Data) -> list[str]:
    changes = data.get("changes")
    rows = [c for c in changes if isinstance(c, Mapping)] if isinstance(changes, list) else []
    return [f"{_word(row, 'action')} {_cut(_word(row, 'new'), WIDE // 4)}".strip() for row in rows]


def _item(name: str, data: Data) -> list[str]:
    """Tell of an issue, a merge request or a task: `issue-closed` and the like."""
    noun, _, what = name.rpartition("-")
    number = _word(data, "iid") or _word(data, "task")
    mark = {"issue": "#", "merge-request": "!", "task": "T"}[noun]
    line = f"{noun.replace('-', ' ')} {_word(data, 'project')}{mark}{number}"
    line += f" {what}" + (" on" if what == "commented" else "")
    line += f", by {who}" if (who := _word(data, "actor_name")) else ""
    verb = _word(data, "verb")
    line += f" ({verb.lower()})" if what == "changed" and verb else ""
    title = _word(data, "title")
    return ([line, f"  {_cut(title)}"] if title else [line]) if number else []


def _forwarded(data: Data) -> list[str]:
    where = _word(data, "forwarded_to")
    what = f"forwarded to {where}" if where else "forwarded to its upstream"
    return _bug(data, what, _word(data, "actor_name"), [])


def _submitter_changed(data: Data) -> list[str]:
    new = _word(data, "new_submitter")
    return _bug(data, f"has a new submitter{f', {new}' if new else ''}", "", [])


def _changed(data: Data) -> list[str]:
    total = data.get("bugs_total")
    if not isinstance(total, int) or isinstance(total, bool):
        return []
    bugs = [f"#{bug}" for bug in _words(data, "bugs")]
    line = f"bug{'' if total == 1 else 's'} {_listed(bugs, total)}" if bugs else "no bug"
    line += f" changed, by {who}" if (who := _word(data, "actor_name")) else " changed"
    errors = data.get("errors")
    line += (
        f" ({errors} command{'' if errors == 1 else 's'} failed)"
        if isinstance(errors, int) and errors
        else ""
    )
    changes = data.get("changes")
    told = (
        [_change(c) for c in changes if isinstance(c, Mapping)] if isinstance(changes, list) else []
    )
    return [line, *(f"  {text}" for text in told[:2])]


def _change(change: Data) -> str:
    old, new = _cut(_word(change, "old"), WIDE // 2), _cut(_word(change, "new"), WIDE // 2)
    what = " -> ".join(filter(None, (old, new)))
    failed = " (failed)" if change.get("ok") is False else ""
    text = f"#{_word(change, 'bug')} {_word(change, 'action').replace('-', ' ')}"
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
        if key in _BRIDGE_S_OWN or not (told := _listed(_words(data, key))):
            continue
        if len(facts) == MANY:
            return f"{', '.join(facts)}, and more"
        facts.append(f"{_cut(str(key))}={_cut(told)}")
    return ", ".join(facts) or "(no details)"


_TELLERS: Final[dict[str, Callable[[Data], list[str]]]] = {
    "package-upload-accepted": _accepted,
    "package-upload-held": _held,
    "package-upload-queued-new": _queued_new,
    "package-upload-rejected": _rejected,
    "bug-reported": _reported,
    "bug-commented": _commented,
    "bug-closed": _closed,
    "bug-forwarded": _forwarded,
    "bug-submitter-changed": _submitter_changed,
    "bug-changed": _bug_changed,
    "bugs-changed": _changed,
    "package-migrated": _migrated,
    "package-migrated-away": _migrated,
    "migration-summary": _day,
    "security-advisory-published": _advisory,
    "package-build-failed": _build_failed,
    "package-build-success": _built,
    "recipe-build-finished": _recipe,
    "package-autoremoval-scheduled": _autoremoval,
    **{
        f"{noun}-{what}": partial(_item, f"{noun}-{what}")
        for noun in ("issue", "merge-request", "task")
        for what in ("created", "changed", "closed", "merged", "commented")
    },
}


def _word(data: Data, key: str) -> str:
    value = data.get(key)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _words(data: Data, key: str) -> list[str]:
    value = data.get(key)
    if value is True:
        return ["yes"]
    if isinstance(value, list):
        return [str(item) for item in value if isinstance(item, str | int) and item != ""]
    word = _word(data, key)
    return [word] if word else []


def _listed(words: list[str], total: int = 0) -> str:
    shown = ", ".join(words[:MANY])
    total = max(total, len(words))
    return shown if total <= MANY else f"{shown} and {total - len(words[:MANY])} more"


def _first_line(text: str) -> str:
    return next((_cut(line.strip()) for line in text.splitlines() if line.strip()), "")


def _cut(text: str, limit: int = WIDE) -> str:
    return text if len(text) <= limit else f"{text[:limit].rstrip()}…"
