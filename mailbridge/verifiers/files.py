"""Files that are read once, and again when they are others: keyrings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mailbridge.errors import Unchecked

_Stamp = tuple[int, int, int, int]


class Files:
    """Some files and what they were when they were last read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths: Final = tuple(paths)
        self._read: tuple[_Stamp, ...] | None = None

    def read(self) -> list[bytes]:
        """Return what each holds.  Raises `Unchecked` naming one that is gone, or empty."""
        # Looked at before it is read: one that is replaced meanwhile will be read again.
        stamps = self._stamps()
        found = []
        for path in self.paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                raise Unchecked(f"{path}: cannot be read: {error.strerror}") from error
            if not content:
                raise Unchecked(f"{path}: holds no key")
            found.append(content)
        self._read = stamps
        return found

    def changed(self) -> bool:
        """Say whether one of them is another than when it was read.  Raises `Unchecked`."""
        return self._stamps() != self._read

    def _stamps(self) -> tuple[_Stamp, ...]:
        found = []
        for path in self.paths:
            try:
                told = path.stat()
            except OSError as error:
                raise Unchecked(f"{path}: cannot be read: {error.strerror}") from error
            found.append((told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns))
        return tuple(found)
