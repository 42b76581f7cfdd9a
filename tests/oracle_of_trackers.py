"""The oracle for Launchpad, Bugzilla, GitLab and security teams: headers, subjects, plain words."""

from __future__ import annotations

import re
from email.message import Message

from tests.oracle_of_mails import Facts, Told, first_text, identified, one_line, text_of, without

PADDED = r"(?m)^{} *: (.*(?:\n .*)*)$"


def of_tracker(message: Message) -> Told | None:
    """Return what a mail tells, if one of these sent it."""
    subject = text_of(message, "Subject")
    if kind := message.get("X-Launchpad-Notification-Type"):
        return of_launchpad(kind, message, subject)
    if "X-GitLab-Issue-IID" in message:
        return of_gitlab(message, subject)
    if "X-Bugzilla-Type" in message:
        return of_bugzilla(message, subject)
    if subject.startswith("[SECURITY] ["):
        return of_security(subject, first_text(message))
    return None


def of_launchpad(kind: str, message: Message, subject: str) -> Told | None:
    """Return what Launchpad tells of an upload, a build or a bug."""
    ident = identified(message)
    text = first_text(message)
    if kind == "package-upload":
        told = re.fullmatch(r"\[(\S+)\] ((\S+)_\S+_\S+)\.changes \(Rejected\)", subject)
        assert told
        reason = text.partition("Rejected:\n")[2].partition("\n\n")[0]
        facts: Facts = {"repo": told[1], "upload_name": told[2], "source_name": told[3]}
        facts["reason"] = one_line(reason)
        return Told("launchpad-upload", facts, (subject, ident), ("package-upload-rejected",))
    if kind.endswith("-build-status"):
        facts = of_build(kind, message, text)
        built = "success" if facts["state"] == "FULLYBUILT" else "failed"
        name = "recipe-build-finished" if "recipe" in facts else f"package-build-{built}"
        return Told("launchpad-build", facts, (kind, subject, ident), (name,))
    told = re.fullmatch(r"\[Bug (\d+)\] (?:\[NEW\] |Re: )?(.*)", subject)
    if told is None or message["X-Launchpad-Bug-Private"] != "no":
        return None
    task = dict(re.findall(r"(\w+)=([^;]*);", text_of(message, "X-Launchpad-Bug")))
    changed = re.search(r"\*\* Changed in: (\S+)\n +Status: (.*) => (.*)\n", text)
    assert changed
    bug: Facts = {
        "tracker": "launchpad",
        "bug": int(told[1]),
        "title": told[2],
        "package": [],
        "source": [],
        "tags": [],
        "actor_name": text_of(message, "X-Launchpad-Bug-Modifier").partition(" (")[0],
        "tasks": [
            {"target": task["product"], "status": task["status"], "importance": task["importance"]}
        ],
        "changes": [
            {"action": "status", "target": changed[1], "old": changed[2], "new": changed[3]}
        ],
        "url": f"https://bugs.launchpad.net/bugs/{told[1]}",
    }
    names = ("bug-changed", "bug-commented") if text.split("\n** ")[0].strip() else ("bug-changed",)
    return Told("launchpad-bug", bug, (told[1], ident), names)


def of_build(kind: str, message: Message, text: str) -> Facts:
    """Return what Launchpad tells of a build: a list of fields, and the page below them."""
    fields: dict[str, str] = dict(re.findall(r"(?m)^ \* ([^:]+): ?(.*)$", text))
    page = re.search(r"(?m)^https://launchpad\.net/\S*/\+(?:recipe)?build/(\d+)$", text)
    assert page
    facts: Facts = {
        "repo": fields["Archive"],
        "state": text_of(message, "X-Launchpad-Build-State"),
        "job_id": page[1],
        "log_url": fields["Build Log"],
        "url": page[0],
    }
    if kind == "recipe-build-status":
        success = {"success": fields["State"] == "Successful build"}
        return facts | success | {"recipe": fields["Recipe"], "suite": fields["Distroseries"]}
    series = re.search(r" in ubuntu (\S+) RELEASE", text)
    assert series
    names = {"pkgname": "Source Package", "version": "Version", "architecture": "Architecture"}
    return facts | {key: fields[name] for key, name in names.items()} | {"suite": series[1]}


def of_gitlab(message: Message, subject: str) -> Told:
    """Return what a GitLab tells of an issue."""
    number, project = message["X-GitLab-Issue-IID"], message["X-GitLab-Project-Path"]
    title = subject.removeprefix("Re: ").partition(" | ")[2].removesuffix(f" (#{number})")
    page = re.search(r"View it on GitLab: ([^#\s]+)#note_", first_text(message))
    assert page
    facts: Facts = {
        "tracker": "gitlab",
        "bug": int(number),
        "iid": int(number),
        "project": project,
        "title": title,
        "package": [],
        "source": [],
        "tags": [],
        "actor_name": text_of(message, "From").strip('"').partition(" (@")[0],
        "url": page[1],
    }
    assert f"{facts['actor_name']} commented:" in first_text(message)
    news = (project, number, identified(message))
    return Told("gitlab-issue", facts, news, ("issue-commented",))


def of_bugzilla(message: Message, subject: str) -> Told:
    """Return what a Bugzilla tells of a bug: a new one, or what was changed about one."""
    told = re.fullmatch(r"\[Bug (\d+)\] (?:New: )?(.*)", subject)
    assert told
    text = first_text(message)
    header = {name: text_of(message, f"X-Bugzilla-{name}") for name in ("Severity", "Version")}
    is_new = message["X-Bugzilla-Type"] == "new"
    rows = re.findall(r"(?m)^ *(\S[^|\n]*?) *\|([^|\n]*)\|(.*)$", text)
    who = re.search(r"(?m)^(\S+.*) \(\S+@\S+\) changed:$|^--- Comment #\d+ from (\S+) ", text)
    assert is_new or who
    name = (who[1] or who[2] or "") if who else ""
    facts = {
        "tracker": "bugzilla",
        "bug": int(told[1]),
        "title": told[2],
        "package": [text_of(message, "X-Bugzilla-Component")],
        "source": [],
        "tags": [],
        "status": message["X-Bugzilla-Status"],
        "product": message["X-Bugzilla-Product"],
        "component": message["X-Bugzilla-Component"],
        "severity": header["Severity"] if is_new else None,
        "version": header["Version"] if is_new else None,
        "reportbug": False if is_new else None,
        "actor_name": name if name and "@" not in name else None,
        "changes": None
        if is_new
        else [
            without(
                {
                    "action": row[0].lower(),
                    "old": row[1].strip(" -") or None,
                    "new": row[2].strip(" -") or None,
                }
                if "@" not in row[1] + row[2] and row[0] != "CC"
                else {"action": row[0].lower()}
            )
            for row in rows
            if row[0] != "What"
        ],
        "url": f"{message['X-Bugzilla-URL'].rstrip('/')}/show_bug.cgi?id={told[1]}",
    }
    names = ["bug-reported" if is_new else "bug-changed"]
    if not is_new and re.search(r"(?m)^--- Comment #\d+ from ", text):
        names.append("bug-commented")
    return Told("bugzilla", without(facts), (told[1], identified(message)), tuple(names))


def of_security(subject: str, text: str) -> Told | None:
    """
    Return what an advisory tells.

    (One real mail's subject and signed text disagree about the number.)
    """
    told = re.fullmatch(r"\[SECURITY\] \[(D[SL]A)[ -](\S+)\] (.*)", subject)
    if told is None:
        return None
    number = re.search(r"Advisory (D[SL]A)[ -]([0-9]+)-([0-9]+)", text)
    package = re.search(PADDED.format("Package"), text)
    cves = re.search(PADDED.format(r"CVE Id\(s\)"), text)
    bugs = re.search(PADDED.format("Debian Bug"), text)
    assert number
    assert package
    assert cves
    advisory = "-".join(number.groups())
    fixed = re.findall(
        r"distribution \((\w+)\), (?:this problem has|these problems have) been fixed in"
        r"\s+version\s+(\S+?)\.?\s",
        text,
    )
    facts = {
        "advisory": advisory,
        "kind": number[1],
        "revision": int(number[3]),
        "title": told[3],
        "source_names": package[1].split(),
        "cves": cves[1].split(),
        "bugs": [int(bug) for bug in bugs[1].split()] if bugs else [],
        "fixed_versions": dict(fixed),
        "url": f"https://security-tracker.debian.org/tracker/{advisory}",
    }
    return Told("security-advisory", facts, (advisory,), ("security-advisory-published",))
