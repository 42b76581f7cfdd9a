"""`pytest` is the whole gate: linters, types, layers, and what the tree may hold."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import NOON

TREE: Final = Path(__file__).parent.parent

AGREED: Final = {
    "pyproject.toml",
    "mailbridge",
    "fixtures",
    "tests",
    "systemd",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
}

# As .gitignore says.
RUBBISH: Final = re.compile(
    r"__pycache__|.*\.egg-info|\.venv|build|dist|\..*_cache|\.hypothesis|\.benchmarks"
)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["ruff", "check", "--quiet"], id="ruff-check"),
        pytest.param(["ruff", "format", "--check", "--quiet"], id="ruff-format"),
        pytest.param(["mypy"], id="mypy-strict"),
        pytest.param(["lint-imports"], id="lint-imports"),
    ],
)
def test_the_tree_satisfies(words: list[str]) -> None:
    tool = Path(sys.executable).parent / words[0]

    done = subprocess.run([tool, *words[1:]], cwd=TREE, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_top_level_holds_only_what_is_agreed() -> None:
    names = {path.parts[0] for path in _files()}

    assert {name for name in names if not name.startswith(".")} - AGREED == set()


def test_no_path_of_one_machine_is_in_the_tree() -> None:
    # Joined here, so that this file does not find itself.
    home = re.compile("|".join(("/" + "root/", "/" + "work/", "/" + "farm/", "/home/" + "[a-z]+/")))

    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in _files()
        for number, line in enumerate(_text(path).splitlines(), 1)
        # /home/user and the like in an example name nobody.
        for word in home.findall(line)
        if word not in ("/home/user/", "/home/you/", "/home/owner/")
    ]

    assert found == []


ADDRESS: Final = re.compile(r"[A-Za-z0-9._%+=-]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")

# RFC 2606 and RFC 6761 keep these for examples; the rest are machines' addresses, which stand in
# every mail of their kind and are no person's.
NOBODYS: Final = re.compile(
    r"(?:^|\.)(?:example\.(?:org|net|com|edu)|example|invalid|test|localhost|localdomain)$"
)
MACHINES: Final = re.compile(
    r"""(?:
        [0-9]+(?:-[a-z0-9-]+)?@bugs\.debian\.org
      | (?:owner|submit|control|done|debbugs|request|help)@bugs\.debian\.org
      | (?:ftpmaster|noreply|installer|envelope|dak|dispatch)@(?:[a-z-]+\.)*debian\.org
      | [a-z0-9.+-]+@(?:lists|lists\.alioth)\.debian\.org
      | [a-z0-9.+-]+@alioth-lists\.debian\.net
      | [a-z0-9.+-]+@lists\.(?:puri\.sm|pureos\.net)
      | [a-z0-9._%+=-]+@(?:fasolo|ftp-master|buxtehude|bendel|usper|respighi)\.debian\.org
    )$""",
    re.VERBOSE | re.IGNORECASE,
)


def test_no_person_s_address_is_in_the_fixtures() -> None:
    found = {
        f"{path}: {match[0]}"
        for path in _files()
        if path.parts[0] == "fixtures"
        for match in ADDRESS.finditer(_text(path))
        if not NOBODYS.search(match[1].lower()) and not MACHINES.match(match[0])
    }

    assert sorted(found) == []


def test_a_test_that_reaches_beyond_this_host_fails() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(AssertionError, match=r"tried to reach 192\.0\.2\.1"),
    ):
        sock.connect(("192.0.2.1", 9))


def test_the_time_of_tests_is_told_with_its_zone() -> None:
    assert NOON.utcoffset() is not None


def _files() -> list[Path]:
    """Return the files git knows, relative to the tree; of an unpacked archive all but rubbish."""
    git = shutil.which("git")
    if git and (TREE / ".git").exists():
        told = subprocess.run(
            [git, "-C", TREE, "ls-files", "-z"], capture_output=True, text=True, check=True
        )
        found = [Path(name) for name in told.stdout.split("\0") if name]
        return [path for path in found if (TREE / path).is_file()]
    return [
        path
        for path in (path.relative_to(TREE) for path in TREE.rglob("*") if path.is_file())
        if not any(RUBBISH.fullmatch(part) for part in path.parts)
    ]


def _text(path: Path) -> str:
    return (TREE / path).read_text(encoding="utf-8", errors="replace")
