"""Whom the doctor looks at: a configuration, its state, and the host that it is on."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from mailbridge.bridge.serve import Watched, watched
from mailbridge.bridge.state import SPOOL
from mailbridge.config import Config
from mailbridge.errors import ConfigError, MalformedMail
from mailbridge.health import BridgeFacts, RelayFacts, Told, told_by
from mailbridge.mail import Mail, read_mail
from mailbridge.maildir import scan_maildir

RECENT: Final = 200
"""Mails of a Maildir that are looked at: the newest."""

HEAD: Final = 64 * 1024
"""How much of each."""


class Finding(NamedTuple):
    """Something that is wrong."""

    code: str
    """For programs, as `maildir-missing`."""
    what: str
    """Where it is, and what is wrong with it."""
    mend: str
    """What to do about it."""

    @property
    def line(self) -> str:
        """Both, as a person reads them."""
        return f"{self.what}; {self.mend}"


class Host(NamedTuple):
    """A host, whose files lie below *root*."""

    root: Path = Path("/")

    def path(self, absolute: str) -> Path:
        """Return where the file *absolute* of this host is."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str:
        """Return the text of the file *absolute*; empty where it cannot be read."""
        try:
            return self.path(absolute).read_text("utf-8", "replace")
        except OSError:
            return ""

    def filesystem(self, path: Path) -> str:
        """Return the kind of file system that *path* lies on (proc(5), mountinfo)."""
        real = os.path.realpath(path)
        best, kind = "", ""
        for line in self.read("/proc/self/mountinfo").splitlines():
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            if len(fields) < 5 or not after:  # noqa: PLR2004 - the mount point is the fifth
                continue
            mounted = fields[4].encode().decode("unicode_escape")
            inside = real == mounted or real.startswith(f"{mounted.rstrip('/')}/")
            # (The last of several at one place is the one on top.)
            if inside and len(mounted) >= len(best):
                best, kind = mounted, after.split(" ")[0]
        return kind


class Recent(NamedTuple):
    """A mail that came lately."""

    path: Path
    modified: float
    mail: Mail


class Patient:
    """Everything that checks look at; what is costly is looked at once."""

    def __init__(  # noqa: PLR0913 - what one has to know of him
        self,
        config: Config,
        host: Host | None = None,
        *,
        now: datetime | None = None,
        path: Path | None = None,
        relay_state: Path | None = None,
        is_configured_for_units: bool = False,
    ) -> None:
        """
        *path* is the configuration's file, if it has one; *relay_state* is where this machine's
        relay keeps its journal, if it has one.

        The units of the host read this very configuration if it *is configured for* them.
        """
        self.config: Final = config
        self.host: Final = host or Host()
        self.now: Final = now or datetime.now(UTC)
        self.state: Final = config.state_dir
        self.path: Final = path
        self.relay_state: Final = relay_state
        self.is_configured_for_units: Final = is_configured_for_units

    @cached_property
    def user(self) -> pwd.struct_passwd | None:
        """Whose rights the bridge has: root asks for whom the state belongs to; None: ours."""
        if os.geteuid() != 0 or not self.state.exists():
            return None
        owner = self.state.stat().st_uid
        try:
            return pwd.getpwuid(owner) if owner else None
        except KeyError:
            return None

    @property
    def user_name(self) -> str:
        """How the bridge's user is called."""
        if self.user:
            return self.user.pw_name
        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return str(os.geteuid())

    def may(self, path: Path, mode: int) -> bool:
        """Say whether the bridge's user may do with *path* what *mode* says, as `os.access`."""
        if self.user is None:
            return os.access(path, mode)
        # Only the kernel knows: groups, lists, namespaces.  So somebody asks it as that user.
        child = os.fork()
        if not child:
            try:
                os.initgroups(self.user.pw_name, self.user.pw_gid)
                os.setresgid(*[self.user.pw_gid] * 3)
                os.setresuid(*[self.user.pw_uid] * 3)
                os._exit(0 if os.access(path, mode) else 1)
            finally:
                os._exit(1)
        return os.waitpid(child, 0)[1] == 0

    @cached_property
    def bridge(self) -> Told | None:
        """What the bridge on this state says of itself."""
        return told_by(self.state, "bridge")

    @property
    def bridge_facts(self) -> BridgeFacts | None:
        """The facts of a bridge that runs."""
        told = self.bridge
        return told.facts if told and told.runs and isinstance(told.facts, BridgeFacts) else None

    @cached_property
    def relay(self) -> Told | None:
        """What the relay of this machine says of itself."""
        return told_by(self.relay_state or self.state, "relay")

    @property
    def relay_facts(self) -> RelayFacts | None:
        """The facts of a relay that runs."""
        told = self.relay
        return told.facts if told and told.runs and isinstance(told.facts, RelayFacts) else None

    @cached_property
    def watched(self) -> list[Watched]:
        """The Maildirs with their sources, the spool first; none where the configuration errs."""
        try:
            return watched(self.config, self.state / SPOOL)
        except ConfigError:
            return []

    @cached_property
    def recent(self) -> dict[Path, list[Recent]]:
        """The newest mails of each Maildir, newest first."""
        return {place.path: list(_newest(place.path)) for place in self.watched}


def _newest(path: Path) -> Iterator[Recent]:
    found: list[tuple[float, Path]] = []
    try:
        for file in scan_maildir(path):
            try:
                found.append((file.path.lstat().st_mtime, file.path))
            except OSError:
                continue
    except Exception as error:  # noqa: BLE001 - that it cannot be listed, others say
        del error
        return
    found.sort(reverse=True)
    for modified, file_path in found[:RECENT]:
        try:
            with file_path.open("rb") as stream:
                raw = stream.read(HEAD)
            yield Recent(file_path, modified, read_mail(raw.replace(b"\0", b"")))
        except (OSError, MalformedMail):
            continue
