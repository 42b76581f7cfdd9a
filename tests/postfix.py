"""A Postfix of our own for tests: its own configuration, queue and port, on loopback, as root."""

from __future__ import annotations

import os
import pwd
import queue
import shutil
import smtplib
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Final

DOMAIN: Final = "lists.example.org"

_MAIN: Final = """\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = /dev/stdout
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop

inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.1/32
myhostname = mx.example.org
mydestination = $myhostname, {domain}
default_transport = error:no mail leaves this host
smtpd_tls_security_level = none

recipient_delimiter = +
local_recipient_maps =
alias_maps = texthash:{place}/etc/aliases, texthash:{place}/etc/aliases-of-the-user
alias_database =
mail_spool_directory = {place}/mail/
forward_path = {place}/forward/.forward
"""

# As Debian's, less what is not used and what is chrooted.
_SERVICES: Final = (
    "127.0.0.1:{port} inet n - n - - smtpd",
    "pickup unix n - n 60 1 pickup",
    "cleanup unix n - n - 0 cleanup",
    "qmgr unix n - n 300 1 qmgr",
    "rewrite unix - - n - - trivial-rewrite",
    "bounce unix - - n - 0 bounce",
    "defer unix - - n - 0 bounce",
    "trace unix - - n - 0 bounce",
    "flush unix n - n 1000? 0 flush",
    "proxymap unix - - n - - proxymap",
    "error unix - - n - - error",
    "retry unix - - n - - error",
    "local unix - n n - - local",
    "anvil unix - - n - 1 anvil",
    "postlog unix-dgram n - n - 1 postlogd",
)


class Postfix:
    """
    Takes mail for `lists.example.org` on `port` and delivers to the system user *user*.

    Mail that `forward` does not send elsewhere goes to *place*`/mail/<user>/`.
    """

    def __init__(self, place: Path, user: pwd.struct_passwd, *, aliases: str, pipes: str) -> None:
        self.place: Final = place
        self.user: Final = user
        self._master: subprocess.Popen[str] | None = None
        self._lines: Final[queue.SimpleQueue[str]] = queue.SimpleQueue()
        self._told: Final[list[str]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: Final[int] = free.getsockname()[1]
        for name in ("etc", "queue", "data", "forward", "mail"):
            (place / name).mkdir()
        shutil.chown(place / "data", "postfix")
        for name in ("forward", "mail"):
            os.chown(place / name, user.pw_uid, user.pw_gid)
        (place / "etc/main.cf").write_text(_MAIN.format(place=place, domain=DOMAIN))
        (place / "etc/master.cf").write_text(
            "".join(f"{line.format(port=self.port)}\n" for line in _SERVICES)
        )
        (place / "etc/aliases").write_text(aliases)
        # Postfix runs a pipe with the rights of whom the file belongs to that names it.
        self._write_as_user(place / "etc/aliases-of-the-user", pipes)

    def forward(self, text: str) -> None:
        """Give the user a `.forward`, instead of any other."""
        self._write_as_user(self.place / "forward/.forward", f"{text}\n")

    def start(self) -> None:
        """Start it.  It takes connections when this returns."""
        self._master = subprocess.Popen(
            ["postfix", "-c", self.place / "etc", "start-fg"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._master.stdout
        threading.Thread(target=self._read, args=(self._master.stdout,), daemon=True).start()
        self.says("daemon started")

    def stop(self) -> None:
        """Stop it, and all its processes."""
        assert self._master
        self._master.terminate()
        self._master.wait(30)

    def send(self, mail: bytes, to: str) -> None:
        """Hand *mail* over by SMTP; it is in Postfix's queue when this returns."""
        # What was said before is about other mails.
        while not self._lines.empty():
            self._told.append(self._lines.get())
        with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as smtp:
            smtp.sendmail("envelope@example.net", [f"{to}@{DOMAIN}"], mail)

    def says(self, what: str) -> str:
        """Wait until the log says *what*, and return that line."""
        until = time.monotonic() + 30
        while True:
            try:
                line = self._lines.get(timeout=max(0, until - time.monotonic()))
            except queue.Empty:
                told = "".join(self._told)
                raise AssertionError(f"Postfix never said {what!r}, but:\n{told}") from None
            self._told.append(line)
            if what in line:
                return line

    def _read(self, log: IO[str]) -> None:
        for line in log:
            self._lines.put(line)
        log.close()

    def _write_as_user(self, path: Path, text: str) -> None:
        path.write_text(text)
        os.chown(path, self.user.pw_uid, self.user.pw_gid)
