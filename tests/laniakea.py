"""
What Laniakea's own programs do with an event, for tests: its room bot and its mailgun.

In our own words, from what is known of them: they format with every key that their template names,
escape nothing, and trust the types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Data = dict[str, Any]

GEAR: Final = "*"


class FormattingFailedError(Exception):
    """In the room it says FORMATTING_FAILED."""


# -- the room bot ----------------------------------------------------------------------------------


def in_the_room(tag: str, data: Mapping[str, Any]) -> str:
    """Return what the bot writes into the room, as HTML."""
    styled = _styled({**data, "tag": tag})
    name = tag.removeprefix("_lk.archive.")
    if name not in _TEMPLATES:
        return f"event <code>{tag}</code> with <code>{styled}</code>"
    try:
        template = _TEMPLATES[name](styled)
        return template.format(url_webview="https://x", url_webswview="https://y", **styled)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormattingFailedError(f"{tag}: {error!r}") from error


def _styled(data: Data) -> Data:
    for key in ("version", "version_new", "version_old", "version_src", "version_dest"):
        if key in data:
            data[key] = _coloured(data[key])
    for key in ("architecture", "job_architecture"):
        if key in data:
            data[key] = _coloured(GEAR + data[key])
    if "architectures" in data:
        if isinstance(data["architectures"], str):
            raise FormattingFailedError("architectures: one letter each")
        data["architectures"] = _coloured(GEAR + f", {GEAR}".join(data["architectures"]))
    return data


def _coloured(text: str) -> str:
    if not isinstance(text, str):
        raise FormattingFailedError(f"{text!r} is no text")
    return f'<font color="#34495e">{text}</font>'


def _accepted(data: Data) -> str:
    data["changes"] = data["changes"].strip().replace("\n", "<br/>")
    whose = "<code>{upload_name}</code> by <em>{uploader_name}</em>"
    if "source_name" in data:
        whose += " with <b>{source_name}</b>/{source_version}: {changes}"
    return f"{whose} waits in {{repo}}" if data["is_new"] else f"{whose} is in {{repo}} {{suite}}"


def _rejected(data: Data) -> str:
    by = " by <em>{uploader_name}</em>" if "uploader_name" in data else ""
    return f"<code>{{upload_name}}</code>{by} rejected from {{repo}}: {{reason}}"


def _build(_: Data) -> str:
    return (
        "<b>{pkgname}</b> {version} on {architecture} in {repo}:<em>{suite}</em>"
        ' <a href="{url_webswview}/package/builds/job/{job_id}">i</a>'
    )


def _gone(_: Data) -> str:
    return "<b>{pkg_name}/{pkg_version}</b> is no longer in <em>{repo}</em>"


_TEMPLATES: Final[dict[str, Callable[[Data], str]]] = {
    "package-upload-accepted": _accepted,
    "package-upload-rejected": _rejected,
    "package-build-success": _build,
    "package-build-failed": _build,
    "package-build-depwait": _build,
    "package-src-removed": _gone,
}


# -- mailgun ---------------------------------------------------------------------------------------


def mailed(tag: str, data: Mapping[str, Any]) -> list[bytes]:
    """Return the mails that mailgun sends when it hears an event, as they would come back to us."""
    told = {"source_name": "", "source_version": "", "uploader_name": "", **data}
    if tag == "_lk.archive.package-upload-rejected":
        return [_mail(told, "package-rejected", _REJECTED)]
    if tag != "_lk.archive.package-upload-accepted":
        return []
    told["lines"] = "\n    ".join(told["files"])
    if told["is_new"]:
        return [_mail(told, "package-queued-new", _NEW)]
    private = _mail(told, "package-accepted", _PRIVATE)
    announced = _mail(told, "package-accepted", _ANNOUNCED)
    return [private, announced] if "source_name" in data else [private]


_REJECTED: Final = """\
Subject: [{repo}] {upload_name} REJECTED

Hello!

Unfortunately, your upload was rejected:
{reason}

===

Whatever the archive's people say."""

# (Its template asks for a suite by another name than the event has: so there is none.)
_NEW: Final = """\
Subject: [{repo}] {upload_name} for  is NEW

Somebody will look at it."""

_PRIVATE: Final = """\
Subject: [{repo}] {upload_name} ACCEPTED into {suite}

Accepted {source_name} {source_version}:
{changes}

Files:
    {lines}

Thank you for your contribution to Example/{repo}!"""

_ANNOUNCED: Final = """\
Subject: [{repo}] Accepted {source_name} {source_version} into {suite}

{changes}

Accepted:

    {lines}

Thanks to {uploader_name} for the contribution."""


def _mail(told: Mapping[str, Any], event: str, rest: str) -> bytes:
    package = "" if event == "package-rejected" else f"X-Laniakea-Package: {told['source_name']}\n"
    head = f"""\
From: Archive <noreply@archive.example.org>
To: somebody@example.org
X-Laniakea-Project: Example
X-Laniakea-Repo: {told["repo"]}
{package}X-Laniakea-Event: {event}
MIME-Version: 1.0
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: 8bit
Message-Id: <{event}.{told["upload_name"]}@archive.example.org>
"""
    return (head + rest.format(**told)).encode()
