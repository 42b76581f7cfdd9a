"""What the host has to offer: a watch, room on a disk of its own, nobody else who does our work."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from mailbridge import maildir
from mailbridge.doctor.patient import Finding, Patient
from mailbridge.errors import MailbridgeError

WATCHDOG: Final = (7, 1)
"""Older ones lose mail (reliability.md, 1.4)."""

INSTANCES: Final = 16
"""Inotify instances of a user: we take one, and others have a claim, too."""

ROOM: Final = 500 * 1024 * 1024
TENTH: Final = 10

REMOTE: Final = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|9p|ceph|glusterfs|lustre|gfs2|ocfs2|fuse(?:blk)?(?:\..*)?"
)
"""File systems where others write unseen by inotify, or locks and fsync mean little."""


def watchdog(patient: Patient) -> Iterator[Finding]:
    """watchdog is one that we allow."""
    del patient
    told = metadata.version("watchdog")
    if tuple(int(part) for part in re.findall(r"\d+", told)[:2]) < WATCHDOG:
        wanted = ".".join(map(str, WATCHDOG))
        what = f"watchdog {told} is installed, and loses events without a word"
        yield Finding("old-watchdog", what, f"install {wanted} or newer: pip install -U watchdog")


def inotify(patient: Patient) -> Iterator[Finding]:
    """There are watches for every folder."""
    facts = patient.bridge_facts
    if facts and facts.watch == "poll":
        what = f"the bridge looks every 2 s instead of being told of mail: {facts.watch_reason}"
        yield Finding(
            "polling", what, "raise fs.inotify.max_user_instances and max_user_watches (sysctl)"
        )
    folders = 0
    for place in patient.watched:
        subfolders = any(source.subfolders for source in place.sources)
        try:
            folders += len(maildir.folders(place.path, subfolders=subfolders))
        except MailbridgeError:
            folders += 2
    for name, wanted in (("max_user_instances", INSTANCES), ("max_user_watches", 2 * folders)):
        told = patient.host.read(f"/proc/sys/fs/inotify/{name}").strip()
        if told.isdecimal() and int(told) < wanted:
            what = f"fs.inotify.{name} is {told}; a bridge with {folders} folders may get no watch"
            yield Finding("inotify", what, f"sysctl -w fs.inotify.{name}={max(8 * wanted, 128)}")


def disk(patient: Patient) -> Iterator[Finding]:
    """The state lies on a local disk with room on it."""
    for state in dict.fromkeys((patient.state, patient.relay_state or patient.state)):
        if not state.exists():
            continue
        kind = patient.host.filesystem(state)
        if REMOTE.fullmatch(kind):
            what = f"{state} lies on {kind}, where neither locks nor fsync can be relied on"
            yield Finding("remote-state", what, "move the state to a local disk, --state names it")
        usage = shutil.disk_usage(state)
        if usage.free < min(ROOM, usage.total // TENTH):
            what = f"{state}: {usage.free >> 20} MB are free on its disk"
            mend = "make room: with less than 100 MB no mail is taken in"
            yield Finding("disk", what, mend)


def other_bridges(patient: Patient) -> Iterator[Finding]:
    """Nobody else makes events of our Maildirs."""
    inodes: dict[int, Path] = {}
    for place in patient.watched:
        for folder in maildir.folders(place.path):
            try:
                inodes[folder.stat().st_ino] = place.path
            except OSError:
                continue
    ours = {os.getpid(), patient.bridge.facts.process[0] if patient.bridge else 0}
    holder = holder_of(patient, patient.state / "outbox.lock")
    for process in sorted(patient.host.path("/proc").glob("[0-9]*")):
        number = int(process.name)
        if number in ours or number == holder or b"mailbridge" not in _words(process):
            continue
        for inode in _watches(process):
            if inode in inodes:
                what = f"a second bridge (process {number}) watches {inodes[inode]}"
                mend = "stop one of them: each mail becomes two events, under two keys"
                yield Finding("second-bridge", what, mend)
                break


def holder_of(patient: Patient, lock: Path) -> int | None:
    """Return the process that holds *lock*, a file; None where nobody does (proc(5), locks)."""
    try:
        inode = lock.stat().st_ino
    except OSError:
        return None
    for line in patient.host.read("/proc/locks").splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[5].endswith(f":{inode}"):  # noqa: PLR2004 - proc(5)
            return int(fields[4])
    return None


def _words(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


_WATCHED: Final = re.compile(r"(?m)^inotify wd:[0-9a-f]+ ino:([0-9a-f]+) ")


def _watches(process: Path) -> Iterator[int]:
    """Yield the inodes that *process* has inotify watches on (proc(5), fdinfo)."""
    try:
        for file in (process / "fdinfo").iterdir():
            yield from (int(inode, 16) for inode in _WATCHED.findall(file.read_text("ascii")))
    except (OSError, ValueError):
        # It ended meanwhile, or is not ours to look into.
        return
