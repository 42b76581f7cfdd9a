"""The oracle for transcripts: each line that debbugs wrote itself, and the change that it tells."""

from __future__ import annotations

import re
from email.message import Message

from tests.oracle_of_mails import Facts, Told, first_text, identified, person, text_of, words

SHOWN = 50
NAMED = 100
"""As many changes and bugs an event names; of the others it tells the number."""

Row = tuple[int, str, bool, str | None, str | None]

# Debbugs::Control and scripts/service, today's wording and that of 2008.  A line may tell two.
LINES = (
    ("severity", r"Severity set to [`'](?P<new>\w+)'(?: from [`'](?P<old>\w+)')?"),
    ("title", r"Changed Bug title to [`'](?P<new>.*)' from [`'](?P<old>.*)'\."),
    ("title", r"Set Bug title to '(?P<new>.*)'\."),
    ("tags-added", r"Added tag\(s\) (?P<new>[^;]*?)\.?(?:;.*)?"),
    ("tags-removed", r"(?:.*; r|R)emoved tag\(s\) (?P<old>[^;]*?)\."),
    ("tags-added", r"Tags added: (?P<new>.*)"),
    ("tags-removed", r"Tags removed: (?P<old>.*)"),
    ("reassigned", r"Bug reassigned from package [`'](?P<old>\S+)' to [`'](?P<new>\S+)'\."),
    ("found-added", r"Marked as found in versions (?P<new>\S+(?:, \S+)*?)(?: and reopened)?\."),
    ("found-removed", r"No longer marked as found in versions (?P<old>\S+(?:, \S+)*?)\."),
    ("fixed-added", r"Marked as fixed in versions (?P<new>\S+(?:, \S+)*?)\."),
    ("fixed-added", r"Bug marked as fixed in version (?P<new>\S+), send any .*"),
    ("fixed-removed", r"No longer marked as fixed in versions (?P<old>\S+(?:, \S+)*?)\."),
    ("reopened", r"Marked as found in versions .* and reopened\."),
    ("reopened", r"Did not alter found versions and reopened\.|Bug reopened.*"),
    ("closed", r"Marked Bug as done|Bug closed, send any .*"),
    ("affects-added", r"Added indication that (?P<bug>\d+) affects (?P<new>.*)"),
    ("blocked-by-added", r"Added blocking bug\(s\) of (?P<bug>\d+): (?P<new>.*)"),
    ("blocked-by-removed", r"Removed blocking bug\(s\) of (?P<bug>\d+): (?P<old>.*)"),
    ("cloned", r"Bug (?P<bug>\d+) cloned as bugs? (?P<new>.*)"),
    ("merged", r"(?:Forcibly )?Merged (?P<bug>\d+) (?P<new>[\d ]+?)\.?"),
    ("forwarded", r"Set Bug forwarded-to-address to '(?P<new>.*)'\."),
    ("owner", r"Owner recorded as (?P<new>.*)\."),
)
FAILED = r"Failed to .*|Unable to merge bugs because:|Bug \d+ not found.*"
NOTHING = (
    r"Ignoring (?:request|bugs) .*|There were no tags set\.|Tags were: .*|'close' is deprecated; .*"
    r"|The source .* do not appear to match any binary packages"
    r"|\d+ was (?:not )?block(?:ed by|ing) .*"
)


def of_transcript(project: str, message: Message) -> Told:
    """Return what a transcript tells."""
    subject = re.fullmatch(
        r"Processed(?: \(with (\d+) errors?\))?: (.*)", text_of(message, "Subject")
    )
    assert subject
    text = first_text(message)
    told, commands, mentioned = read(text)
    packages = words(text_of(message, f"X-{project}-PR-Package"))
    facts: Facts = {
        "tracker": "debbugs",
        "title": subject[2],
        "errors": int(subject[1] or 0),
        "package": packages[:200],
        "source": words(text_of(message, f"X-{project}-PR-Source"))[:200]
        or [name.removeprefix("src:") for name in packages if name.startswith("src:")],
        "actor_name": person(text_of(message, "To"))[0],
        "commands": commands,
        "changes": [shown(row) for row in told[:SHOWN]],
        "changes_total": len(told),
        "bugs": mentioned[:NAMED],
        "bugs_total": len(mentioned),
    }
    if len(told) > SHOWN or len(mentioned) > NAMED or len(packages) > len(facts["package"]):
        facts["truncated"] = True
    # A transcript ends with the address of each bug that it spoke of: none is overlooked.
    listed = set(re.findall(r"(?m)^(\d+): https?://", text))
    spoken_of = {str(bug) for bug in mentioned}
    blocking = [new for _, action, _, _, new in told if new and action == "blocked-by-added"]
    assert not listed or spoken_of <= listed <= spoken_of | set(words(" ".join(blocking)))
    news = ("transcript", identified(message))
    return Told("debbugs-transcript", facts, news, ("bugs-changed",))


def shown(row: Row) -> Facts:
    """Return a change as an event writes it: without what nobody told."""
    keys = ("bug", "action", "ok", "old", "new")
    return {key: value for key, value in zip(keys, row, strict=True) if value is not None}


def read(text: str) -> tuple[list[Row], int, list[int]]:
    """Return the changes that a transcript tells, how many commands it had, and its bugs."""
    _, _, body = text.partition(":\n\n")
    end = r"(?m)^(?:(?:End of message, s|S)topping processing here\.|-- )$"
    body = re.split(end, body)[0]
    rows: list[Row] = []
    commands = 0
    mentioned: dict[int, None] = {}
    # Each command, with what debbugs wrote below it.
    for part in re.split(r"(?m)^(?=>)", body):
        command, *lines = part.split("\n")
        words_ = command.removeprefix(">").split()
        if words_ and words_[0][0] != "#" and words_[0].strip(".").lower() not in ("thanks", "--"):
            commands += 1
        of_this: dict[Row, None] = {}
        bugs: list[int] = []
        previous = ""
        for line in lines:
            if context := re.match(r"Bug ?#(\d+)(?:: | [\[{])", line):
                # (What is merged is named again, one by one, before it changes.)
                goes_on = previous.startswith("Bug") and words_[0] not in ("merge", "forcemerge")
                bugs = [*(bugs if goes_on else ()), int(context[1])]
            elif line:
                of_this |= dict.fromkeys(rows_of(line, bugs))
            mentioned |= dict.fromkeys(bugs)
            previous = line if context else ""
        rows += of_this
    return rows, commands, list(mentioned)


def rows_of(line: str, bugs: list[int]) -> list[Row]:
    """Return what one line of debbugs tells of *bugs*."""
    found: list[Row] = []
    for action, pattern in LINES:
        if told := re.fullmatch(pattern, line):
            named = told.groupdict()
            values = [plain(action, named.get(key)) for key in ("old", "new")]
            about = [int(named["bug"])] if named.get("bug") else bugs
            found += [(bug, action, True, *values) for bug in about]  # type: ignore[misc]
    # A line that nobody understood would be a change that nobody missed.
    assert found or re.fullmatch(f"{FAILED}|{NOTHING}", line), line
    return list(dict.fromkeys(found))


def plain(action: str, value: str | None) -> str | None:
    """Return `a, b, and c` as `a, b, c`, of bugs that were merged `a b` as `a, b`."""
    if value is None or action in ("title", "forwarded", "owner", "severity"):
        return value
    return ", ".join(re.split(r",? and |, ", value) if action != "merged" else value.split())
