"""
News in Laniakea's own words and under its own tags, `_lk.archive.*`, for those who know only these.

Laniakea's room bot formats with every key that its template names and escapes nothing, and its
mailgun makes mail headers of some (wire.md, Towards a Lighthouse, and the mail loop).  So what goes
out here has all of those keys, in Laniakea's types; `<`, `>` and `&` are look-alikes in it, and all
but `changes` and `reason` is one line.  News of which a mail does not tell enough keep our own tag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from mailbridge.event import LANIAKEA_ARCHIVE
from mailbridge.mail import Mail
from mailbridge.payloads import Clip, address
from mailbridge.upload import Upload

MARK: Final = "x-laniakea-event"
"""The header of mail that Laniakea itself sent: of what it says nothing ever goes out here."""

_LOOK_ALIKES: Final = str.maketrans({"<": "\u2039", ">": "\u203a", "&": "\uff06"})

_LINES: Final = frozenset(("changes", "reason"))
_EXACT: Final = frozenset(("url", "dsc_url", "log_url"))
"""Keys whose value is of no use with a look-alike in it: better left out."""

_OF_A_SOURCE: Final = ("source_name", "source_version", "source_maintainer", "source_uploaders")
"""Where these are, Laniakea's consumers take the upload for one with its source."""

Data = dict[str, Any]


class Form(NamedTuple):
    """How an event goes out in Laniakea's name."""

    tag: str
    data: Data


def form(name: str, data: Data, *, repo: str) -> Form | None:
    """
    Return how the event *name*, which says *data*, goes out in Laniakea's name; or None.

    *repo* is its repository where `data` does not tell it.
    """
    teller = _TELLERS.get(name)
    told = teller({"repo": repo} | data) if teller else None
    if told is None:
        return None
    clean = _clean(told.data)
    needed = _NEEDED[told.tag]
    if any(type(clean.get(key)) is not kind for key, kind in needed.items()):
        return None
    return Form(f"{LANIAKEA_ARCHIVE}.{told.tag}", clean)


def neutral(text: str) -> str:
    """
    Return *text* with look-alikes of what HTML could take for markup.

    >>> neutral("Jane <jane@example.org> & Co")
    'Jane \u2039jane@example.org\u203a \uff06 Co'
    """
    return text.translate(_LOOK_ALIKES)


def is_laniakeas(mail: Mail) -> bool:
    """Say whether Laniakea sent *mail*, or whoever sent it says so."""
    return any(MARK in one.names for one in (mail, mail.outer) if one)


def upload(data: Mapping[str, Any], *, repo: str = "") -> Upload:
    """Return what tells the upload apart of which an event says *data*, in neutral words."""
    told = (repo or data.get("repo"), *map(data.get, ("upload_name", "suite")))
    told += tuple(map(data.get, ("source_name", "source_version")))
    return Upload(*(neutral(word) if isinstance(word, str) else "" for word in told))


# -- which, and of what ----------------------------------------------------------------------------

_ACCEPTED: Final = "package-upload-accepted"
_REJECTED: Final = "package-upload-rejected"

UPLOADS: Final = frozenset((f"{LANIAKEA_ARCHIVE}.{_ACCEPTED}", f"{LANIAKEA_ARCHIVE}.{_REJECTED}"))
"""The tags for which a mailgun would send mail."""


def _strings(*keys: str) -> dict[str, type]:
    return dict.fromkeys(keys, str)


_BUILD: Final = _strings("pkgname", "version", "architecture", "repo", "suite", "job_id")

_NEEDED: Final[dict[str, dict[str, type]]] = {
    _ACCEPTED: {
        **_strings("repo", "suite", "upload_name", "changes", "uploader_name"),
        "is_new": bool,
        "files": list,
    },
    _REJECTED: _strings("repo", "upload_name", "reason"),
    "package-build-success": _BUILD,
    "package-build-failed": _BUILD,
    "package-build-depwait": _BUILD,
    "package-src-removed": _strings("pkg_name", "pkg_version", "repo"),
}


def _accepted(data: Data) -> Form | None:
    if not data["is_source_upload"]:
        return Form(_ACCEPTED, _without_source(data))
    if any(not data.get(key) for key in _OF_A_SOURCE[:3]):
        return None
    return Form(_ACCEPTED, {"source_uploaders": []} | data)


def _queued_new(data: Data) -> Form:
    # Laniakea has no tag of its own for these.  Their mails tell little: what nobody told is empty.
    untold: Data = {"suite": "", "changes": "", "uploader_name": "", "files": []}
    has_source = "source" in (data.get("architectures") or ())
    if not has_source or not data.get("source_name") or not data.get("source_version"):
        return Form(_ACCEPTED, untold | _without_source(data))
    return Form(_ACCEPTED, untold | {"source_maintainer": "", "source_uploaders": []} | data)


def _rejected(data: Data) -> Form:
    return Form(_REJECTED, data)


def _built(data: Data) -> Form:
    return Form("package-build-success", data)


def _not_built(data: Data) -> Form:
    waits = data.get("state") == "MANUALDEPWAIT"
    return Form("package-build-depwait" if waits else "package-build-failed", data)


def _removed(data: Data) -> Form | None:
    removals = data["removals"]
    if len(removals) != 1 or not removals[0]["is_source"]:
        return None
    (gone,) = removals
    named = {"pkg_name": gone["name"], "pkg_version": gone["version"]}
    return Form("package-src-removed", data | named)


# (What waits in a policy queue is not accepted: it has no place here.)
_TELLERS: Final[dict[str, Callable[[Data], Form | None]]] = {
    "package-upload-accepted": _accepted,
    "package-upload-queued-new": _queued_new,
    "package-upload-rejected": _rejected,
    "package-build-success": _built,
    "package-build-failed": _not_built,
    "package-removed": _removed,
}


def _without_source(data: Data) -> Data:
    return {key: value for key, value in data.items() if key not in _OF_A_SOURCE}


# -- in words that do no harm ----------------------------------------------------------------------


def _clean(data: Data) -> Data:
    clean: Data = {}
    for key, value in data.items():
        told = _neutral(value, lines=key in _LINES)
        if key == "uploader_email" and (told != value or not address(told)):
            continue
        if key in _EXACT and told != value:
            continue
        clean[key] = told
    return clean


def _neutral(value: object, *, lines: bool = False) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return neutral(value if lines else Clip().line(value, len(value)))
    if isinstance(value, list):
        return [_neutral(item) for item in value]
    if isinstance(value, dict):
        return {_neutral(key): _neutral(item) for key, item in value.items()}
    return value
