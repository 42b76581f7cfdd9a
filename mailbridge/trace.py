"""
What our own mail server wrote on top of a mail: who gave it the mail, and what it checked.

Everything from the first Received of a stranger on downwards can be a lie, and our server's own
Received is the first of all: only what stands in it, or above it, counts (RFC 8601, 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

# Postfix: `from HELO (REVERSE [ADDRESS])`; HELO is the client's word, and holds no parenthesis.
# REVERSE is `unknown` unless the name leads back to the address.
_CLIENT: Final = re.compile(r"from [^\s()]+ \(([A-Za-z0-9._-]+) \[[0-9A-Fa-f:.]+\]\)(?: |$)")
_IPV6: Final = re.compile(r" \[IPv6:")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PROPERTY: Final = re.compile(r"(?<![A-Za-z0-9._-])([A-Za-z0-9._-]+)\s*=\s*([^\s;]+)")
_MAX_VALUE: Final = 4096


class Result(NamedTuple):
    """What a server found of one DKIM signature."""

    domain: str
    passed: bool


def client(fields: Sequence[tuple[str, str]]) -> str | None:
    """
    Return the verified name of the host that gave our server the mail; None if it is not known.

    >>> client([("Received", "from x (ftp.example.org [192.0.2.1]) by mx (Postfix)")])
    'ftp.example.org'
    >>> client([("Received", "from ftp.example.org (unknown [192.0.2.1]) by mx (Postfix)")])
    """
    for name, value in fields:
        if name.lower() == "received":
            line = _IPV6.sub(" [", " ".join(value[:_MAX_VALUE].split()))
            found = _CLIENT.match(line)
            told = found[1].rstrip(".").lower() if found else "unknown"
            return None if told == "unknown" else told
    return None


def dkim_results(fields: Sequence[tuple[str, str]], authserv_id: str) -> list[Result]:
    """Return what our server, which calls itself *authserv_id*, found of DKIM signatures."""
    found: list[Result] = []
    for name, value in fields:
        if name.lower() == "received":
            break
        if name.lower() == "authentication-results":
            found += _results(value[:_MAX_VALUE], authserv_id)
    return found


def passed(results: Sequence[Result], domains: Sequence[str]) -> str | None:
    """
    Return the first of *domains* that passed and of which nothing else is said; or None.

    >>> passed([Result("a.example.org", True), Result("a.example.org", False)], ["a.example.org"])
    """
    for domain in domains:
        told = {result.passed for result in results if result.domain == domain.lower()}
        if told == {True}:
            return domain.lower()
    return None


def _results(value: str, authserv_id: str) -> Iterator[Result]:
    first, *rest = _without_comments(value).split(";")
    words = first.split()
    # A version other than 1 is of a grammar that we do not know.
    if not words or words[0].lower() != authserv_id.lower() or words[1:] not in ([], ["1"]):
        return
    for text in rest:
        told = [(key.lower(), word.lower()) for key, word in _PROPERTY.findall(text)]
        if not told or told[0][0] not in ("dkim", "dkim/1"):
            continue
        domains = {word.rstrip(".") for key, word in told if key == "header.d"}
        for domain in domains:
            yield Result(domain, told[0][1] == "pass" and len(domains) == 1)


def _without_comments(value: str) -> str:
    """Return *value* without its comments, strings without their quotes or what divides words."""
    kept: list[str] = []
    depth = at = 0
    while at < len(value):
        character = value[at]
        if character == "\\":
            at += 2
            continue
        if character == '"' and not depth and (quoted := _QUOTED.match(value, at)):
            kept.append(re.sub(r"[\s;=\\]", "_", quoted[1]))
            at = quoted.end()
            continue
        if character == "(":
            depth += 1
        elif character == ")":
            depth = max(0, depth - 1)
            kept.append(" ")
        elif not depth:
            kept.append(character)
        at += 1
    # A comment without an end hides what follows it from one reader and not from another.
    return "" if depth else "".join(kept)
