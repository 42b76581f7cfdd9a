"""
The words in which debbugs tells, in a transcript, what it changed and what it could not.

After Debbugs::Control, and what scripts/service wrote before 2009.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

VERBS: Final = {
    verb: action
    for action, verbs in {
        "affects": "affects",
        "archived": "archive",
        "blocked-by-added": "block",
        "blocked-by-removed": "unblock",
        "cloned": "clone",
        "closed": "close",
        "fixed-added": "fixed",
        "fixed-removed": "notfixed",
        "forwarded": "forwarded",
        "found-added": "found",
        "found-removed": "notfound",
        "merged": "merge forcemerge",
        "outlook": "outlook",
        "owner": "owner noowner",
        "reassigned": "reassign",
        "reopened": "reopen",
        "severity": "severity priority",
        "submitter": "submitter",
        "summary": "summary",
        "tags": "tag tags",
        "title": "retitle",
        "unarchived": "unarchive",
        "unforwarded": "notforwarded",
        "unmerged": "unmerge",
        "usertags": "usertag usertags",
    }.items()
    for verb in verbs.split()
}
"""What a command is about, to name what could not be done."""

# A name may hold ` to `, and ends before an address.
_WHO: Final = r"(?P<old>[^<>]*<[^<>]*>|.*?)"

# Since 2009 one verb for many: two such changes stand in one line, joined by "; ".
_CLAUSES: Final = tuple(
    (action, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for action, pattern in (
        ("tags-added", r"added tag\(s\) (?P<new>.+)|tags added: (?P<new2>.+)"),
        ("tags-removed", r"removed tag\(s\) (?P<old>.+)|tags removed: (?P<old2>.+)"),
        ("tags-set", r"tags set to: (?P<new>.*)"),
        ("found-added", r"(?:bug )?marked as found in versions? (?P<new>.+)"),
        ("found-removed", r"(?:bug )?no longer marked as found in versions? (?P<old>.+)"),
        ("fixed-added", r"(?:bug )?marked as fixed in versions? (?P<new>.+?)(?:, send any .*)?"),
        ("fixed-removed", r"(?:bug )?no longer marked as fixed in versions? (?P<old>.+)"),
        ("blocked-by-added", r"added blocking bug\(s\) of (?P<bug>\d{1,9}): (?P<new>.+)"),
        ("blocked-by-added", r"blocking bugs of (?P<bug>\d{1,9}) added: (?P<new>.+)"),
        ("blocked-by-removed", r"removed blocking bug\(s\) of (?P<bug>\d{1,9}): (?P<old>.+)"),
        ("blocked-by-removed", r"blocking bugs of (?P<bug>\d{1,9}) removed: (?P<old>.+)"),
        ("affects-added", r"added indication that (?P<bug>\d{1,9}) affects (?P<new>.+)"),
        ("affects-removed", r"removed indication that (?P<bug>\d{1,9}) affects (?P<old>.+)"),
        ("severity", r"severity set to [`'](?P<new>[^']*)'(?: from [`'](?P<old>[^']*)')?"),
        ("reassigned", r"bug reassigned from package [`'](?P<old>[^']*)' to [`'](?P<new>[^']*)'"),
        ("reassigned", r"bug assigned to package [`'](?P<new>[^']*)'"),
        ("closed", r"marked bug as done|bug closed, send any further explanations to .*"),
        ("reopened", r"bug reopened(?:,.*)?|did not alter (?:found|fixed) versions and reopened"),
        ("unmerged", r"disconnected #(?P<bug>\d{1,9}) from all other report\(s\)"),
        ("cloned", r"bug (?P<bug>\d{1,9}) cloned as bugs? (?P<new>[0-9, and-]+)"),
        ("merged", r"(?:forcibly )?merged (?P<bug>\d{1,9}) (?P<new>[0-9 ]+)"),
        ("forwarded", r"set bug forwarded-to-address to '(?P<new>.*)'"),
        ("forwarded", r"noted your statement that bug has been forwarded to (?P<new>.*)"),
        ("forwarded", r"forwarded-to-address changed from (?P<old>.*?)(?-i: to )(?P<new>.*)"),
        ("unforwarded", r"unset bug forwarded-to-address"),
        ("unforwarded", r"removed annotation that bug had been forwarded to (?P<old>.*)"),
        ("owner", r"owner recorded as (?P<new>.*)"),
        ("owner", rf"owner changed from {_WHO}(?-i: to )(?P<new>.*)"),
        ("owner", r"removed annotation that bug was owned by (?P<old>.*)"),
        ("submitter", r"set bug submitter to '(?P<new>.*)'"),
        ("submitter", rf"changed bug submitter from {_WHO}(?-i: to )(?P<new>.*)"),
        ("title", r"changed bug title"),
        ("title", r"set bug title to [`'](?P<new>.*)'"),
        ("summary", r"summary (?:recorded|replaced) .*|removed summary"),
        ("outlook", r"outlook (?:recorded|replaced) .*|removed outlook"),
        ("archived", r"archived (?P<bug>\d{1,9}) to archive/.*"),
        ("unarchived", r"unarchived bug (?P<bug>\d{1,9})"),
        ("usertags", r"usertags are now: (?P<new>.*)|there are now no usertags set"),
    )
)
FAILED: Final = re.compile(
    r"(?:failed to .*|unable to merge bugs because:|unknown tags?(?:/s|\(s\)|s)?: .*"
    r"|mismatch - only .* can be merged:|severity level .* is (?:not known|obsolete)\b.*"
    r"|.* is not a valid e-mail address; not changing submitter"
    r"|bug (?:number )?\d{1,9} (?:not found|cannot be archived|does not exist|belongs to ).*"
    r"|\d{1,9} has not been archived previously.*|not altering archived bugs.*"
    r"|unable to alter .*)",
    re.IGNORECASE,
)
_CHANGED: Final = re.compile(
    r"changed bug (?P<what>title|submitter|forwarded-to-address) to [`']", re.IGNORECASE
)
_JOINED: Final = re.compile(r"(?i)(?:bug )?(?:added |removed |marked as |no longer )")


def clauses(line: str, command: str) -> Iterator[tuple[str, dict[str, str]]]:
    """
    Yield each change that *line*, without its full stop, tells of *command*: what, and its values.

    >>> list(clauses("Severity set to 'minor' from 'normal'", "severity 7 minor"))
    [('severity', {'bug': '', 'old': 'normal', 'new': 'minor'})]
    """
    if changed := _CHANGED.match(line):
        what = changed["what"].lower().replace("forwarded-to-address", "forwarded")
        new, old = _to_from(line[changed.end() :].removesuffix("'"), command)
        yield what, {"new": new, "old": old}
        return
    reopened = False
    for clause in line.split("; ") if _JOINED.match(line) else [line]:
        text = clause
        if _JOINED.match(text) and text.endswith(" and reopened"):
            text, reopened = text.removesuffix(" and reopened"), True
        for action, pattern in _CLAUSES:
            if found := pattern.fullmatch(text):
                told = found.groupdict("")
                if action == "title" and "new" not in told:
                    # Before 2008 debbugs did not repeat it.
                    told["new"] = "".join(command.split(None, 2)[2:])
                yield action, {key: told.get(key) or told.get(f"{key}2", "") for key in _KEYS}
                break
    if reopened:
        yield "reopened", {}


_KEYS: Final = ("bug", "old", "new")


def _to_from(text: str, command: str) -> tuple[str, str]:
    """
    Return new and old of `new' from 'old`.

    Both may hold `' from '` themselves.  The command tells what the new one is; else the last one
    counts, since what a person types now is likelier to be odd than what was there.
    """
    wanted = command.split(None, 2)[2:]
    for quote in ("' from '", "' from `"):
        if wanted and text.startswith(wanted[0] + quote):
            return wanted[0], text[len(wanted[0]) + len(quote) :]
    for quote in ("' from '", "' from `"):
        new, found, old = text.rpartition(quote)
        if found:
            return new, old
    return text, ""
