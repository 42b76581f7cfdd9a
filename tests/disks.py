"""Disks whose power can be cut: an ext4 file system in a file, and what of it had reached that."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_SIZE: Final = 64 * 1024 * 1024


class Disk:
    """
    A file system, mounted.

    Its kernel writes on its own only every 30 s (`commit`), so in a test what was not synced is
    not there after a cut.
    """

    def __init__(self, directory: Path) -> None:
        self.path: Final = directory / "disk"
        """Where it is mounted, however often its power is cut."""
        self._images: Final = (directory / f"image-{n}" for n in itertools.count())
        self._image: Path = next(self._images)
        self.path.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        _run("mkfs.ext4", "-q", "-F", self._image)
        self._mount()

    def cut(self) -> None:
        """
        Cut the power, and give it again: what was written and not synced is gone.

        Whoever has files open on it must be stopped, and is on the old one for ever.
        """
        old, self._image = self._image, next(self._images)
        _run("cp", "--sparse=always", old, self._image)
        # (Lazily: whoever is stopped has files open there.)
        _run("umount", "-l", self.path)
        old.unlink()
        self._mount()

    def close(self) -> None:
        """Unmount it."""
        _run("umount", "-l", self.path)

    def _mount(self) -> None:
        _run("mount", "-o", "loop,commit=30", self._image, self.path)


@contextlib.contextmanager
def disk(directory: Path) -> Iterator[Disk]:
    """Give a disk; skip the test where nobody may mount one, which no installed program mends."""
    try:
        made = Disk(directory)
    except subprocess.CalledProcessError as error:
        if error.cmd[0] != "mount":
            raise
        pytest.skip(f"no file system can be mounted here: {error.stderr.strip()[:200]}")
    try:
        yield made
    finally:
        made.close()


class Small:
    """A file system without much room, in memory."""

    def __init__(self, path: Path, size: str) -> None:
        self.path: Final = path
        path.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "mailbridge-test", path)

    def grow(self, size: str) -> None:
        """Have *size* from now on."""
        _run("mount", "-o", f"remount,size={size}", self.path)

    def close(self) -> None:
        """Unmount it."""
        _run("umount", "-l", self.path)


@contextlib.contextmanager
def small(directory: Path, size: str) -> Iterator[Small]:
    """Give a file system of *size*; skip as `disk` does."""
    try:
        made = Small(directory / "small", size)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here: {error.stderr.strip()[:200]}")
    try:
        yield made
    finally:
        made.close()


def _run(program: str, *words: str | Path) -> None:
    path = shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin") or program
    subprocess.run(
        [program, *map(str, words)], executable=path, capture_output=True, text=True, check=True
    )
