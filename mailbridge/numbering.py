"""
The running number that a list gives each of its mails: by it a reader can tell that one is missing.

Who writes one, and how (mail-formats.md, 6.2, and the list managers' own documentation):

    smartlist   X-Mailing-List: <list@host> archive/latest/301320
    Sympa       X-Sequence: 168, beside X-Loop: list@host
    fml         X-Mail-Count: 00089, beside X-ML-Name: list
    ezmlm       Return-Path: <list-return-12345-reader=example.org@host>

A number counts only with the name of the list that List-Id names: lists forward to lists.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mailbridge.mail import Mail

_SMARTLIST: Final = re.compile(r"<([^<>@\s]+@[^<>@\s]+)> +archive/latest/([0-9]{1,9})")
_EZMLM: Final = re.compile(r"<?([^<>@\s]+?)-return-([0-9]{1,9})-[^<>@\s]*@([^<>@\s]+?)>?")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_ADDRESS: Final = re.compile(r"<?([^<>@\s]+@[^<>@\s]+?)>?")


class ListNumber(NamedTuple):
    """The place of a mail among all of its list, as the list's software tells it."""

    list_id: str
    """In lower case."""
    number: int


def numbered(mail: Mail) -> ListNumber | None:
    """Return the number that the list of *mail* gave it; None where it has none, or several."""
    came = mail.outer or mail
    if mail.list_id is None:
        return None
    for read in (_smartlist, _sympa, _fml, _ezmlm):
        found = read(came)
        if found is not None and _is_of(found[0], mail.list_id):
            return ListNumber(mail.list_id, int(found[1]))
    return None


def _smartlist(mail: Mail) -> tuple[str, str] | None:
    found = _SMARTLIST.fullmatch(_only(mail, "X-Mailing-List"))
    return (found[1], found[2]) if found else None


def _sympa(mail: Mail) -> tuple[str, str] | None:
    number = _NUMBER.fullmatch(_only(mail, "X-Sequence"))
    name = _ADDRESS.fullmatch(_only(mail, "X-Loop"))
    return (name[1], number[0]) if number and name else None


def _fml(mail: Mail) -> tuple[str, str] | None:
    number, name = _NUMBER.fullmatch(_only(mail, "X-Mail-Count")), _only(mail, "X-ML-Name")
    return (name, number[0]) if number and name else None


def _ezmlm(mail: Mail) -> tuple[str, str] | None:
    found = _EZMLM.fullmatch(_only(mail, "Return-Path"))
    return (f"{found[1]}@{found[3]}", found[2]) if found else None


def _only(mail: Mail, header: str) -> str:
    """Return the value of *header*, or nothing where there are several to choose from."""
    values = mail.headers(header)
    return values[0].strip() if len(values) == 1 else ""


def _is_of(name: str, list_id: str) -> bool:
    told = name.lower().replace("@", ".", 1)
    # (fml knows its list without a host.)
    return told == list_id or ("@" not in name and list_id.startswith(f"{told}."))
