"""Hostile mail before, between and behind good mail, through the whole service."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from mailbridge import cli
from mailbridge.errors import TryAgain
from mailbridge.mail import MAX_MAIL
from mailbridge.reader import listen
from tests import tracing
from tests.costs import MIB
from tests.daemons import PATIENCE, Daemon, put, upload
from tests.hostile_mails import HOSTILE, mutations
from tests.invariants import NO_TERMINAL_S
from tests.services import Service, opened


@pytest.mark.fault(66, 67, 70, 72, 76, 78)
@pytest.mark.edge(72)
def test_good_mail_among_all_hostile_ones_is_told_and_each_file_has_a_verdict(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    service = Service(tmp_path)
    hostile = [*(made() for made in HOSTILE.values()), *mutations(upload(1), 50, 4711)]
    with service.running() as daemon:
        idle = memory(daemon.pid, "VmRSS")
        good = [upload(number, package=f"good{number}") for number in range(10)]
        for number, raw in enumerate([*hostile, *good]):
            put(service.maildir, raw, f"{number:04}.a")
        told_by(service, len(hostile) + len(good))
        put(service.maildir, upload(0, package="last"), "last")
        told = told_by(service, len(hostile) + len(good) + 1)
        peak = memory(daemon.pid, "VmHWM")

    assert {"last", *(f"good{number}" for number in range(10))} <= set(told)
    assert peak <= idle + 8 * MAX_MAIL + 50 * MIB
    assert not NO_TERMINAL_S.search(daemon.said)
    assert "Traceback" not in daemon.said
    kept = verdicts(service)
    shown = [run(capfd, service, *words) for words in (["status"], ["quarantine", "list"])]
    assert shown[1].count("\n") == kept["quarantined"]
    shown.append(run(capfd, service, "quarantine", "retry", "--all", status=65))
    assert not NO_TERMINAL_S.search("".join(shown))
    assert verdicts(service) == kept


@pytest.mark.fault(69)
def test_a_mail_of_the_largest_size_is_told_and_of_a_larger_one_the_beginning_is_kept(
    tmp_path: Path,
) -> None:
    service = Service(tmp_path)
    with service.running():
        for more in (-1, 0, 1):
            raw = upload(more + 1, package=f"large{more}")
            put(service.maildir, raw + b" " * (MAX_MAIL + more - len(raw)), f"{more}.a")
        told = told_by(service, 3)

    assert set(told) == {"large-1", "large0"}
    assert verdicts(service) == {"events": 2, "quarantined": 1}
    [kept] = (service.state / "quarantine").glob("*.eml")
    assert kept.stat().st_size <= MIB


@pytest.mark.fault(73)
def test_a_message_id_that_somebody_used_before_or_after_suppresses_nothing(
    tmp_path: Path,
) -> None:
    service = Service(tmp_path)
    with service.running():
        for number, package in enumerate(("forged0", "genuine0", "genuine1", "forged1")):
            put(service.maildir, upload(number // 2, package=package), package)
            told = told_by(service, number + 1)

            assert told[-1] == package
            assert len(told) == number + 1


@pytest.mark.fault(74)
def test_one_mail_over_two_lists_and_to_a_person_is_one_event(tmp_path: Path) -> None:
    service = Service(tmp_path)
    mail = upload(1)
    other = mail.replace(b"devel-changes.lists", b"all-changes.lists")
    other = other.replace(b"Subject: ", b"Subject: [all-changes] ")
    other = b"Received: from a by b; Tue, 10 Sep 2024 11:00:00 +0000\n" + other
    other += b"\n_______________\nall-changes mailing list\nall-changes@lists.example.org\n"
    alone = mail.replace(b"List-Id: <devel-changes.lists.example.org>\n", b"")
    with service.running():
        for number, raw in enumerate((mail, other, alone)):
            put(service.maildir, raw, f"{number}.a")
        told = told_by(service, 3)

    assert told == ["package1"]
    assert verdicts(service) == {"events": 1, "duplicate": 2}


@pytest.mark.fault(75)
def test_two_mails_without_a_message_id_are_two(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service.running():
        for number, name in enumerate((b"", b"Message-Id:\n", b"Message-Id: <>\n")):
            put(service.maildir, re.sub(rb"Message-Id:.*\n", name, upload(number)), f"{number}.a")
        told = told_by(service, 3)

    assert sorted(told) == ["package0", "package1", "package2"]


# What changes something in a file system.
WRITES: Final = (
    *("openat", "open", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link"),
    *("linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mknod", "mknodat", "truncate"),
    *("rmdir", "chmod", "fchmodat", "chown", "fchownat", "utimensat"),
)
CALL: Final = re.compile(r"^\d+ +(?P<name>\w+)\((?P<words>.*)\) += (?P<result>.*)$", re.MULTILINE)
PATH: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


@pytest.mark.fault(79)
@pytest.mark.needs_program("strace")
def test_no_name_in_a_mail_makes_us_write_anywhere_but_in_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing.require()
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    service = Service(tmp_path, after="keep")
    names = ("../../evil", str(tmp_path / "evil"), "..", "~/evil", "evil\\..\\evil", "$(touch x)")
    mails = [named(place, name.encode()) for name in names for place in range(4)]
    trace = tmp_path / "trace"
    with Daemon(*service.words, through=tracing.count(",".join(WRITES), trace)) as daemon:
        service.read = daemon.ready()["read"]
        for number, raw in enumerate(mails):
            put(service.maildir, raw, f"{number:03}.a")
        told_by(service, len(mails))
        assert daemon.stop() == 0

    told = trace.read_text("utf-8", "replace")
    changed = [path for call in CALL.finditer(told) if writes(call) for path in paths(call)]
    assert changed
    outside = [path for path in changed if not path.startswith((f"{service.state}/", "/dev/"))]
    assert [path for path in outside if path != str(service.state)] == []
    assert not list(tmp_path.rglob("evil*"))


def named(number: int, name: bytes) -> bytes:
    """Return a mail with *name* wherever a mail can name a file, one place after the other."""
    mail = upload(number)
    file = b"package%d_1.%d-1" % (number, number)
    match number % 4:
        case 0:
            return mail.replace(file + b".dsc", name)
        case 1:
            return mail.replace(file + b"_source.changes", name + b".changes")
        case 2:
            return mail.replace(b"upload-%d@archive" % number, name + b"/%d" % number)
    part = b'--b\nContent-Type: application/x-sh; name="%s"\n' % name
    part += b'Content-Disposition: attachment; filename="%s"\n\nevil\n--b--\n' % name
    typed = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n"
    return mail.replace(b"\n\nFormat", b"\n" + typed + b"Format") + part


def writes(call: re.Match[str]) -> bool:
    if call["result"].startswith("-1"):
        return False
    opened_to_write = re.search("O_(?:WRONLY|RDWR|CREAT|TRUNC)", call["words"])
    return not call["name"].startswith("open") or opened_to_write is not None


def paths(call: re.Match[str]) -> list[str]:
    """Return the paths that a traced call names, each whole."""
    found = PATH.findall(call["words"])
    directory = re.match(r"(?:AT_FDCWD|\d+)<([^>]*)>", call["words"])
    base = Path(directory[1]) if directory else Path.cwd()
    return [str(base / path) for path in found]


# -- looking ---------------------------------------------------------------------------------------


def told_by(service: Service, files: int) -> list[str]:
    """
    Return the packages of the uploads that a reader hears of.

    When *files* have their verdict, and all that they say was acknowledged.
    """
    url, state = service.read, service.state
    told: list[str] = []
    for _ in range(int(PATIENCE)):
        told = []
        with contextlib.suppress(TryAgain):
            for event in listen(url, state=state, since="start", timeout=1.0):
                told.append(str(event.data.get("source_name")))
        with contextlib.closing(opened(state / "outbox.db")) as outbox:
            [(events,)] = outbox.execute("SELECT count(*) FROM event")
        if (sum(verdicts(service).values()), events) == (files, len(told)):
            return told
    raise AssertionError(f"{verdicts(service)} of {files} files, {told} told")


def verdicts(service: Service) -> Counter[str]:
    """Return how many mails came to which verdict."""
    with contextlib.closing(opened(service.state / "outbox.db")) as outbox:
        return Counter(dict(outbox.execute("SELECT verdict, sum(n) FROM count GROUP BY verdict")))


def memory(pid: int, what: str) -> int:
    """Return the bytes that the kernel calls *what*, as `VmHWM`, of a process."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
    assert found
    return int(found[1]) * 1024


def run(capfd: pytest.CaptureFixture[str], service: Service, *words: str, status: int = 0) -> str:
    """Return what a command prints about the state of *service*."""
    capfd.readouterr()
    assert cli.main([*words, "--state", str(service.state)]) == status
    return capfd.readouterr().out
