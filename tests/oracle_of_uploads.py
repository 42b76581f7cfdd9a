"""The oracle for dak and Laniakea: headers, subjects, and the .changes read by python-debian."""

from __future__ import annotations

import re
from email.message import Message

from debian.deb822 import Changes

from tests.oracle_of_mails import (
    SOURCE_PAGE,
    Facts,
    Told,
    first_text,
    one_line,
    person,
    text_of,
    without,
    words,
)

BEGIN, SIGNATURE = "-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP SIGNATURE-----"


# -- the .changes ----------------------------------------------------------------------------------


def signed(text: str) -> str:
    """Return what stands in the armor: behind the last BEGIN that comes before a signature."""
    before, found, _ = text.partition(f"\n{SIGNATURE}")
    if not found:
        return ""
    *_, block = f"\n{before}".split(f"\n{BEGIN}\n")
    _headers, _, content = block.partition("\n\n")
    return re.sub(r"(?m)^- ", "", content)


def of_changes(text: str) -> Facts:
    """Return what a .changes tells of an upload."""
    changes = Changes(text)
    source, version = changes["Source"], changes["Version"]
    rebuilt = re.fullmatch(r"(\S+) \((\S+)\)", source)
    if rebuilt:
        source = rebuilt[1]
    source_version = rebuilt[2] if rebuilt else version
    is_binnmu = source_version != version or changes.get("Binary-Only") == "yes"
    name, address = person(changes.get("Changed-By") or changes["Maintainer"])
    files = [file["name"] for file in changes["Files"]]
    architectures = changes["Architecture"].split()
    return without(
        {
            "source_name": source,
            "source_version": source_version,
            "version": version if is_binnmu else None,
            "architectures": architectures,
            "binaries": words(changes.get("Binary", "")),
            "source_maintainer": changes["Maintainer"],
            "uploader_name": name,
            "uploader_email": address,
            "distribution": changes["Distribution"],
            "urgency": changes["Urgency"].split()[0].lower(),
            "closes": [int(bug) for bug in words(changes.get("Closes", ""))],
            "launchpad_bugs": [int(bug) for bug in changes["Launchpad-Bugs-Fixed"].split()]
            if "Launchpad-Bugs-Fixed" in changes
            else None,
            "changes": one_line(changes["Changes"]),
            "files": files,
            "checksums": [
                {"name": file["name"], "size": int(file["size"]), "sha256": file["sha256"]}
                for file in changes.get("Checksums-Sha256", [])
            ]
            or None,
            "dsc": next((file for file in files if file.endswith(".dsc")), None),
            "is_source_upload": "source" in architectures,
            "is_binnmu": is_binnmu,
            "is_new": False,
        }
    )


def changes_name(facts: Facts) -> str:
    """Return what the .changes of such an upload is called, without `.changes`."""
    infos: list[str] = [file for file in facts["files"] if file.endswith(".buildinfo")]
    if len(infos) == 1:
        return infos[0].removesuffix(".buildinfo")
    built = [arch for arch in facts["architectures"] if arch not in ("all", "source")]
    others = [arch for arch in ("all", "source") if arch in facts["architectures"]]
    arch = "multi" if len(built) > 1 else (built + others)[0]
    version: str = facts.get("version") or facts["source_version"]
    return f"{facts['source_name']}_{re.sub(r'^[0-9]+:', '', version)}_{arch}"


# -- dak -------------------------------------------------------------------------------------------


def is_dak(message: Message) -> bool:
    """Say whether dak, or katie before it, marked a mail as its own."""
    return (
        "X-DAK" in message
        or "DAK" in [*message.get_all("X-Debian", []), *message.get_all("Debian", [])]
        or any("Launchpad" not in value for value in message.get_all("X-Katie", []))
    )


def of_dak(message: Message, archive: str) -> Told | None:
    """Return what a mail of dak tells."""
    subject = re.sub(r"^(\[[^]]*\] )+", "", text_of(message, "Subject"))
    announced = re.fullmatch(
        r"(?:Accepted|Installed) (\S+) (\S+) \(([^)]*)\)(?: into (.*))?", subject
    )
    told = re.fullmatch(r"(\S+)\.changes (ACCEPTED|REJECTED|is NEW)(?: into (.*))?", subject)
    if told and told[2] == "REJECTED":
        facts = of_rejection(message, told[1], archive)
        return Told("dak-rejected", facts, ("rejected", subject), ("package-upload-rejected",))
    if not announced and not told:
        return of_daks_others(message, subject, archive)
    assert not (told and told[2] == "is NEW")
    content = signed(first_text(message))
    if not content:
        # Cut off: it must be told, and not as an event.
        return Told("dak-accepted", {}, (subject,), ())
    facts = of_changes(content)
    into = text_of(message, "Debian-Suite") or (announced[4] if announced else (told or "")[3])
    facts |= of_suites(into or facts["distribution"].split()[0])
    if not into:
        facts["suite_guessed"] = True
    facts["repo"] = archive.lower()
    facts["upload_name"] = told[1] if told else changes_name(facts)
    if "Debian-Changes" in message:
        facts["upload_name"] = text_of(message, "Debian-Changes").removesuffix(".changes")
    facts |= page_of(facts["source_name"], archive)
    # Its announcement and the private mail about it say the same.
    names = ("architectures", "suites", "policy_suites", "files")
    parts = (tuple(sorted(facts[name])) for name in names)
    news = ("accepted", facts["source_name"], facts["source_version"], *parts)
    return Told("dak-accepted", facts, news, ("package-upload-accepted",))


def of_suites(text: str) -> Facts:
    """Return where `a->b, c` says that an upload went."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    suites = [name for name in names if "->" not in name and name != "(none)"]
    waiting = [name.split("->")[1] for name in names if "->" in name]
    return {"suites": suites, "suite": suites[0], "policy_suites": waiting}


def page_of(source: str, archive: str) -> Facts:
    """Return the page of a source package, which only Debian's has, if that is a name of one."""
    is_name = re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", source)
    return {"url": SOURCE_PAGE.format(source)} if is_name and archive == "Debian" else {}


def of_rejection(message: Message, upload: str, archive: str) -> Facts:
    """Return what a rejection tells."""
    source = text_of(message, "X-Debian-Package")
    return {
        "upload_name": upload,
        "source_name": source,
        "repo": archive.lower(),
        "automatic": text_of(message, "X-DAK-Rejection") == "automatic",
        "reason": one_line(first_text(message).rpartition("\n===\n")[0]),
        **page_of(source, archive),
    }


def of_daks_others(message: Message, subject: str, archive: str) -> Told | None:
    """Return what the queue daemon tells, or dak of an override or a removal."""
    text = first_text(message)
    if queued := re.fullmatch(r"Processing of (\S+)\.changes", subject):
        facts = of_queue(message, queued[1], text)
        news = ("queued", subject, text)
        return Told("dak-queued", facts, news, ("package-upload-received",))
    closed = re.fullmatch(r"Bug#(\d+): (?:(fixed)|Removed package\(s\) from (.*))", subject)
    if closed and closed[2]:
        source = text_of(message, "X-Debian-Package")
        made = text.partition("overrides...\n\n")[2].partition("\n\n")[0]
        summary = "; ".join(line.strip().rstrip(".") for line in made.split("\n") if line.strip())
        facts = {"source_name": source, "bug": int(closed[1]), "summary": summary}
        facts |= page_of(source, archive)
        return Told("dak-override", facts, ("override", subject), ("package-override-changed",))
    if closed:
        rows = re.findall(r"(?m)^ *(\S+) \| +(\S+) \| (.*)$", text)
        facts = {
            "bug": int(closed[1]),
            "suites": words(closed[3]),
            "reason": one_line(re.split(r"(?m)^-{10,}.*$", text)[1]),
            "removals": [
                {
                    "name": name,
                    "version": version,
                    "architectures": words(architectures),
                    "is_source": "source" in architectures,
                }
                for name, version, architectures in rows
            ],
        }
        return Told("dak-removed", facts, ("removed", subject), ("package-removed",))
    return None


def of_queue(message: Message, upload: str, text: str) -> Facts:
    """Return what the queue daemon tells of an upload."""
    before, _, greeting = text.partition("\nGreetings,\n")
    host = re.search(r"running on host (\S+)\)", greeting)
    assert host
    success = f"{upload}.changes uploaded successfully" in before
    return without(
        {
            "upload_name": upload,
            "source_names": set(words(text_of(message, "X-Debian-Package"))),
            "success": success,
            "files": re.findall(r"(?m)^  (\S+)$", before) if success else [],
            "reason": None if success else one_line(before),
            "host": host[1],
        }
    )


# -- Laniakea --------------------------------------------------------------------------------------


def of_laniakea(event: str, message: Message) -> Told:
    """Return what a mail of Laniakea tells."""
    repo = message["X-Laniakea-Repo"]
    subject = text_of(message, "Subject").removeprefix(f"[{repo}] ")
    text = first_text(message)
    news = (event, subject)
    if event == "package-accepted":
        facts = of_announcement(message, subject, text)
        return Told("laniakea-accepted", facts, news, ("package-upload-accepted",))
    upload = subject.split()[0]
    facts = {
        "repo": repo,
        "upload_name": upload,
        "source_name": text_of(message, "X-Laniakea-Package") or upload.split("_")[0],
    }
    if event == "package-queued-new":
        facts["is_new"] = True
        return Told("laniakea-new", facts, news, ("package-upload-queued-new",))
    assert event == "package-rejected"
    reason = text.partition("rejected:\n")[2].rpartition("\n===")[0]
    facts["reason"] = one_line(reason)
    return Told("laniakea-rejected", facts, news, ("package-upload-rejected",))


def of_announcement(message: Message, subject: str, text: str) -> Facts:
    """Return what Laniakea's announcement tells: changelog, files and a name."""
    told = re.fullmatch(r"Accepted (\S+) (\S+) into (\S+)", subject)
    thanks = re.search(r"(?m)^Thanks to (.*) for the contribution\.$", text)
    changelog, _, rest = text.partition("\n\nAccepted:\n")
    entry = re.match(r"\S+ \(\S+\) (\S+); urgency=(\w+)", changelog)
    assert told
    assert thanks
    assert entry
    files = re.findall(r"(?m)^    (\S+)$", rest)
    return {
        "repo": message["X-Laniakea-Repo"],
        "source_name": told[1],
        "source_version": told[2],
        "suite": told[3],
        "suites": [told[3]],
        "policy_suites": [],
        "uploader_name": thanks[1],
        "changes": one_line(changelog),
        "distribution": entry[1],
        "urgency": entry[2],
        "closes": [int(bug) for bug in re.findall(r"Closes: #(\d+)", changelog)],
        "files": files,
        "dsc": next(file for file in files if file.endswith(".dsc")),
        "upload_name": next(
            file.removesuffix(".buildinfo") for file in files if file.endswith(".buildinfo")
        ),
        "is_new": False,
        "is_source_upload": True,
        "is_binnmu": False,
    }
