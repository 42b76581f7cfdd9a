"""The oracle for Launchpad, Bugzilla, GitLab and security teams: headers and subjects alone."""

from __future__ import annotations

import re
from email.message import Message
from typing import Any

Told = tuple[str, dict[str, Any], tuple[object, ...]]
"""A kind, facts that its event must hold, and what mails that say the same agree in."""


def told_of(message: Message, subject: str, text: str) -> Told | None:
    """Return what a mail tells, if one of these sent it; *subject* and *text* are decoded."""
    if kind := message.get("X-Launchpad-Notification-Type"):
        return of_launchpad(kind, message, subject)
    if "X-GitLab-Issue-IID" in message:
        return of_gitlab(message, subject)
    if "X-Bugzilla-Type" in message:
        return of_bugzilla(message, subject)
    if subject.startswith("[SECURITY] ["):
        return of_security(subject, text)
    return None


def of_launchpad(kind: str, message: Message, subject: str) -> Told | None:
    ident = message["Message-Id"]
    archive = message.get("X-Launchpad-Archive")
    if kind == "package-upload":
        told = re.fullmatch(r"\[(\S+)\] (\S+)\.changes \(Rejected\)", subject)
        assert told
        return "launchpad-upload", {"repo": told[1], "upload_name": told[2]}, (subject, ident)
    if kind.endswith("-build-status"):
        state = message["X-Launchpad-Build-State"]
        facts: dict[str, Any] = {"repo": archive, "state": state}
        if build := re.match(r"\[Build #(\d+)\] (\S+) build of (\S+) (\S+) in \S+ (\S+)", subject):
            names = ("job_id", "architecture", "pkgname", "version", "suite")
            facts |= dict(zip(names, build.groups(), strict=True))
        elif recipe := re.match(r"\[recipe build #(\d+)\] of ~(\S+) (\S+) in (\S+):", subject):
            facts |= {"job_id": recipe[1], "recipe": f"{recipe[2]}/{recipe[3]}", "suite": recipe[4]}
        return "launchpad-build", facts, (kind, subject, ident)
    told = re.fullmatch(r"\[Bug (\d+)\] (?:\[NEW\] |Re: )?(.*)", subject)
    if told is None or message["X-Launchpad-Bug-Private"] != "no":
        return None
    facts = {"tracker": "launchpad", "bug": int(told[1]), "title": told[2]}
    return "launchpad-bug", facts, (told[1], ident)


def of_gitlab(message: Message, subject: str) -> Told:
    number, project = message["X-GitLab-Issue-IID"], message["X-GitLab-Project-Path"]
    title = subject.removeprefix("Re: ").partition(" | ")[2].removesuffix(f" (#{number})")
    facts = {"tracker": "gitlab", "iid": int(number), "project": project, "title": title}
    return "gitlab-issue", facts, (project, number, message["Message-ID"])


def of_bugzilla(message: Message, subject: str) -> Told:
    told = re.fullmatch(r"\[Bug (\d+)\] (?:New: )?(.*)", subject)
    assert told
    facts = {
        "tracker": "bugzilla",
        "bug": int(told[1]),
        "title": told[2],
        "status": message["X-Bugzilla-Status"],
        "product": message["X-Bugzilla-Product"],
        "component": message["X-Bugzilla-Component"],
    }
    return "bugzilla", facts, (told[1], message["Message-ID"])


def of_security(subject: str, text: str) -> Told | None:
    """(One real mail's subject and signed text disagree about the number.)"""
    told = re.match(r"\[SECURITY\] \[(D[SL]A)[ -](\S+)\]", subject)
    if told is None:
        return None
    facts: dict[str, Any] = {}
    if package := re.search(r"(?m)^Package +: (.*)$", text):
        facts["source_names"] = package[1].split()
    if cves := re.search(r"(?m)^CVE Id\(s\) +: (.*(?:\n .*)*)$", text):
        facts["cves"] = cves[1].split()
    if bug := re.search(r"(?m)^Debian Bug +: (\d+)$", text):
        facts["bugs"] = [int(bug[1])]
    return "security-advisory", facts, told.groups()
