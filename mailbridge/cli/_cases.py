"""`mailbridge explain --check`: a site's rules, tried on the mails that lie beside them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mailbridge.bridge.compose import Examined
    from mailbridge.rules import Rules

BAD: Final = 65


def check_cases(directory: Path, *, as_json: bool) -> int:
    """
    Try the rules in *directory* on each RULE/CASE/mail.eml in it; 65 if one gives something else.

    What must come of it stands beside it, in `events.json`, or in `outcome.json` where that is
    nothing; it need not tell all that the event tells.  Raises `ConfigError`, `UsageError`.
    """
    from mailbridge.errors import ConfigError, UsageError
    from mailbridge.rules import load
    from mailbridge.sinks.show import safe

    rules = load(str(directory))
    cases = sorted(path.parent for path in directory.glob("*/*/mail.eml"))
    if not cases:
        raise UsageError(f"--check {directory}: no RULE/CASE/mail.eml in it")
    status = 0
    for case in cases:
        name = f"{case.parent.name}/{case.name}"
        try:
            wrong, becomes = _case(case, rules)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{case}: {error}") from error
        if wrong:
            status = BAD
        if as_json:
            print(json.dumps({"case": name, "wrong": wrong, "becomes": becomes}))
        elif wrong:
            print(f"{name}: {safe(wrong)}; it becomes")
            print(json.dumps(becomes, indent=2))
        else:
            print(f"{name}: as it must be")
    tried = {case.parent.name for case in cases}
    for kind in rules.kinds:
        if kind.name not in tried and not as_json:
            print(f"{kind.name}: no case; make {kind.name}/CASE/mail.eml")
    return status


def _case(case: Path, rules: Rules) -> tuple[str | None, Any]:
    """Return what is wrong with what becomes of a mail, if anything, and what becomes of it."""
    from mailbridge.bridge.compose import examine
    from mailbridge.config import Source

    source = Source(name="golden", maildir="/nowhere")
    raw = (case / "mail.eml").read_bytes()
    found = examine(raw, source, received=datetime.now(UTC), everything=True, rules=rules)
    becomes = _told(found)
    silent, events = case / "outcome.json", case / "events.json"
    if silent.is_file():
        expected = json.loads(silent.read_text("utf-8"))
        return _difference(expected, _outcome(found)), becomes
    if not events.is_file():
        return "neither events.json nor outcome.json is beside it", becomes
    if found.outcome != "events":
        return found.reason, becomes
    if found.kind != case.parent.name:
        return f"another rule, or kind, claims it: {found.kind}", becomes
    expected = json.loads(events.read_text("utf-8"))
    actual = [
        {"tag": e.tag, "uuid": e.uuid, "author": e.author, "data": e.data} for e in found.events
    ]
    return _difference(expected, actual), becomes


def _told(found: Examined) -> Any:  # noqa: ANN401 - JSON
    """Return what a person would write into the file beside a mail."""
    import msgspec

    from mailbridge.payloads import Common

    if found.outcome != "events":
        return _outcome(found)
    common = {*(field.name for field in msgspec.structs.fields(Common)), "mail_source"}
    keep = {"archive", "source"} if any("mail_source" in e.data for e in found.events) else set()
    return [
        {
            "tag": event.tag,
            "uuid": event.uuid,
            "author": event.author,
            "data": {
                key: value for key, value in event.data.items() if key in keep or key not in common
            },
        }
        for event in found.events
    ]


def _outcome(found: Examined) -> dict[str, str | None]:
    return {"outcome": found.outcome, "kind": found.kind, "code": found.code}


def _difference(expected: Any, actual: Any, where: str = "") -> str | None:  # noqa: ANN401 - JSON
    """Return the first place where *actual* does not hold what *expected* says, or None."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            place = f"{where}.{key}".lstrip(".")
            if key not in actual and value is not None:
                return f"{place} is not there"
            if found := _difference(value, actual.get(key), place):
                return found
        return None
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        places = (f"{where}[{number}]" for number in range(len(expected)))
        told = map(_difference, expected, actual, places)
        return next((one for one in told if one), None)
    return None if expected == actual else f"{where or 'it'} is not {_short(expected)}"


def _short(value: Any) -> str:  # noqa: ANN401 - JSON
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]} ..."  # noqa: PLR2004 - a line's worth
