"""Tales: a mail, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from mailbridge.event import TEST_NAMESPACE
from mailbridge.traffic.letter import Letter


class News(NamedTuple):
    """An event that a mail must become."""

    name: str
    """The tag without its namespace."""
    data: dict[str, Any]
    """Contained in the data of the real event."""
    key: str
    """The same for two mails with the same news, and for no others."""

    @property
    def tag(self) -> str:
        """Where a bridge emits it, because the mail is marked."""
        return f"{TEST_NAMESPACE}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Tale:
    """A letter with what it tells; one step of a story."""

    what: str
    """Which shape of which system's mail, as `dak announce 2008`."""
    letter: Letter
    """As it arrives, decorated by the list it came through."""
    news: tuple[News, ...] = ()
    off: tuple[News, ...] = ()
    """What it tells besides to those who switched that on: tags that are off by default."""
    bare: Letter | None = None
    """Before any list had it, where another list could bring it once more."""
    breakable: bool = False
    """Cut off in the middle it can be no news."""
    told_by_id: bool = False
    """Its Message-ID is part of what it says."""


@dataclass(frozen=True, kw_only=True)
class Post:
    """A mail, ready to be delivered."""

    n: int
    what: str
    raw: bytes
    news: tuple[News, ...]
    """What a bridge must know after it; that may be old news."""
    off: tuple[News, ...] = ()
    """What it must know besides where every tag is switched on."""
    word: str = ""
    """Which of the mix it is."""
