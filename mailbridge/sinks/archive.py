"""Events about uploads, packages, builds and advisories, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mailbridge.sinks.words import Data, cut, first_line, listed, rows_at, text_at, texts_at

# -- uploads ---------------------------------------------------------------------------------------


def _accepted(data: Data) -> list[str]:
    suites = texts_at(data, "suites") or texts_at(data, "suite")
    into = f" into {listed(suites)}" if suites else ""
    if data.get("is_new") is True:
        return _upload(data, f"waits in NEW{into}")
    return _upload(data, f"accepted{into}")


def _held(data: Data) -> list[str]:
    queue = text_at(data, "policy_queue") or listed(texts_at(data, "policy_suites"))
    suite = text_at(data, "suite")
    return _upload(data, f"waits in {queue or 'a queue'}" + (f" for {suite}" if suite else ""))


def _queued_new(data: Data) -> list[str]:
    suite = text_at(data, "suite")
    return _upload(data, "waits in NEW" + (f" for {suite}" if suite else ""))


def _rejected(data: Data) -> list[str]:
    automatic = data.get("automatic")
    by = " automatically" if automatic is True else " by hand" if automatic is False else ""
    reason = first_line(text_at(data, "reason"))
    return _upload(data, f"rejected{by}") + ([f"  {reason}"] if reason else [])


def _upload(data: Data, what: str) -> list[str]:
    name = text_at(data, "source_name")
    upload = text_at(data, "upload_name")
    if not name and not upload:
        return []
    version = text_at(data, "version") or text_at(data, "source_version")
    line = f"{name} {version}".strip() if name else upload
    line += f" {what}"
    if data.get("is_binnmu") is True:
        line += ", binaries rebuilt"
    if uploader := text_at(data, "uploader_name"):
        line += f", by {uploader}"
    if closes := texts_at(data, "closes"):
        line += f", closes {listed([f'#{bug}' for bug in closes])}"
    change = _first_change(text_at(data, "changes"))
    return [line, f"  {change}"] if change else [line]


def _first_change(changes: str) -> str:
    """Return the first entry of a Changes field, behind its `hello (2.10-3) unstable; ...`."""
    for line in changes.splitlines():
        text = line.strip()
        if text.startswith(("* ", "- ", "+ ")):
            return cut(text[2:].strip())
    return ""


# -- packages, builds, advisories ------------------------------------------------------------------


def _migrated(data: Data) -> list[str]:
    new, old = text_at(data, "version_new"), text_at(data, "version_old")
    suite = text_at(data, "suite") or "a suite"
    if not (name := text_at(data, "source_name")):
        return []
    if new in ("", "-"):
        line = f"{name} {old} removed from {suite}"
    else:
        line = f"{name} {new} migrated to {suite}" + (f", after {old}" if old != "-" else "")
    hint = text_at(data, "hint")
    return [line, f"  {cut(hint)}"] if hint else [line]


def _day(data: Data) -> list[str]:
    count = data.get("count")
    if not isinstance(count, int) or isinstance(count, bool):
        return []
    names = listed(texts_at(data, "packages"), count)
    what = "removed from" if text_at(data, "what") == "removed" else "migrated to"
    return [f"{count} {what} {text_at(data, 'suite')}: {names}"]


def _advisory(data: Data) -> list[str]:
    if not (name := text_at(data, "advisory")):
        return []
    fixed = data.get("fixed_versions")
    told = [f"{s} {v}" for s, v in fixed.items()] if isinstance(fixed, Mapping) else []
    line = f"{name}: {listed(texts_at(data, 'source_names'))}"
    line += f" fixed in {listed(told)}" if told else ""
    cves = listed(texts_at(data, "cves"))
    return [line + (f" ({cves})" if cves else ""), f"  {cut(text_at(data, 'title'))}"]


def _build_failed(data: Data) -> list[str]:
    return _build(data, "failed to build")


def _built(data: Data) -> list[str]:
    return _build(data, "built")


def _waits(data: Data) -> list[str]:
    return _build(data, "waits for a dependency")


def _build(data: Data, what: str) -> list[str]:
    if not (name := text_at(data, "pkgname")):
        return []
    suite, state, log = (text_at(data, key) for key in ("suite", "state", "log_url"))
    line = f"{name} {text_at(data, 'version')} {what} on {text_at(data, 'architecture')}"
    line += (f" for {suite}" if suite else "") + (f" ({state})" if state else "")
    return [line, f"  {cut(log)}"] if log else [line]


def _recipe(data: Data) -> list[str]:
    what = "built" if data.get("success") is True else "failed to build"
    recipe, suite, state = (text_at(data, key) for key in ("recipe", "suite", "state"))
    return [f"recipe {recipe} {what} for {suite} ({state})"] if recipe else []


def _autoremoval(data: Data) -> list[str]:
    name, suite, date = (text_at(data, key) for key in ("source_name", "suite", "date"))
    bugs = listed([f"#{bug}" for bug in texts_at(data, "bugs")])
    line = f"{name} {text_at(data, 'source_version')} leaves {suite} on {date}"
    return [line + (f", for {bugs}" if bugs else "")] if name else []


# -- the queue, the archive's own acts ---------------------------------------------------------


def _received(data: Data) -> list[str]:
    if not (upload := text_at(data, "upload_name")):
        return []
    if data.get("success") is True:
        return [f"{upload} reached the upload queue; the archive has not decided yet"]
    reason = first_line(text_at(data, "reason"))
    return [f"{upload} failed in the upload queue", *([f"  {reason}"] if reason else [])]


def _commented(data: Data) -> list[str]:
    upload, reason = text_at(data, "upload_name"), first_line(text_at(data, "reason"))
    line = f"the archive's team asks about {upload}"
    return ([line, f"  {reason}"] if reason else [line]) if upload else []


def _removed(data: Data) -> list[str]:
    rows = rows_at(data, "removals")
    named = [f"{text_at(row, 'name')} {text_at(row, 'version')}" for row in rows]
    if not named:
        return []
    line = f"{listed(named)} removed from {listed(texts_at(data, 'suites'))}"
    line += f", for bug #{bug}" if (bug := text_at(data, "bug")) else ""
    reason = first_line(text_at(data, "reason"))
    return [line, f"  {reason}"] if reason else [line]


def _override(data: Data) -> list[str]:
    name, bug = text_at(data, "source_name"), text_at(data, "bug")
    line = f"what the archive says of {name} changed" + (f", for bug #{bug}" if bug else "")
    return [line, f"  {cut(text_at(data, 'summary'))}"] if name else []


def _permission(data: Data) -> list[str]:
    whose = text_at(data, "uid") or text_at(data, "fingerprint")
    told = [
        f"{verb} {listed(names)}"
        for verb, key in (("may upload", "allowed"), ("may no longer upload", "denied"))
        if (names := texts_at(data, key))
    ]
    if lost := text_at(data, "removed"):
        told.append(f"lost {lost} permission{'' if lost == '1' else 's'} to upload")
    return [f"{cut(whose)} {', '.join(told)}"] if whose and told else []


def _transition(data: Data) -> list[str]:
    names = texts_at(data, "names")
    return (
        [f"transition{'' if len(names) == 1 else 's'} completed: {listed(names)}"] if names else []
    )


TELLERS: Final[dict[str, Callable[[Data], list[str]]]] = {
    "package-upload-accepted": _accepted,
    "package-upload-held": _held,
    "package-upload-queued-new": _queued_new,
    "package-upload-rejected": _rejected,
    "package-upload-received": _received,
    "package-upload-commented": _commented,
    "package-removed": _removed,
    "package-override-changed": _override,
    "upload-permission-changed": _permission,
    "transition-completed": _transition,
    "package-migrated": _migrated,
    "package-migrated-away": _migrated,
    "migration-summary": _day,
    "security-advisory-published": _advisory,
    "package-build-failed": _build_failed,
    "package-build-success": _built,
    # Under Laniakea's own tags: see `stand_in`.
    "package-build-depwait": _waits,
    "package-src-removed": _removed,
    "recipe-build-finished": _recipe,
    "package-autoremoval-scheduled": _autoremoval,
}
"""By the event's name: what it says, in lines; none where its data does not tell."""
