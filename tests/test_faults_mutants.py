"""
The test of the tests: our own code with a classical mistake put in does not get through.

Each mistake has a trial, which what we ship passes and the mistaken one fails, for the reason that
is told.  A trial is a service in a process of its own, broken where the mistake shows; nothing
depends on how fast anything is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from mailbridge.reader import listen
from tests.daemons import LOOPBACK, PATIENCE, Daemon, make_maildir, put, upload
from tests.mutants import mutant, patch
from tests.openpgp import gnupg
from tests.trial import Trial, looking

Code = Path | None
"""Where the code of a service lies, if it is not ours."""


class Uploads:
    """Uploads delivered one after the other to a service, and what a reader has of them."""

    def __init__(self, directory: Path, code: Code, *, spool: bool = False) -> None:
        """With *spool* they come by where `mailbridge ingest -` leaves them."""
        self.state: Final = directory / "state"
        self.maildir: Final = make_maildir((self.state if spool else directory) / "Maildir")
        watched = () if spool else ("--maildir", self.maildir, "--existing", "emit")
        self._words: Final = ("run", *watched, "--state", self.state, *LOOPBACK)
        self._code: Final = code
        self._delivered = 0

    def deliver(self, count: int) -> None:
        """Deliver *count* more."""
        for _ in range(count):
            self._delivered += 1
            put(self.maildir, upload(self._delivered), f"{self._delivered}.a")

    def run(self, **how: Any) -> Daemon:
        """Start the service, to be broken as *how* says."""
        return Daemon(*self._words, cwd=self._code, **how)

    def killed_at(self, place: str) -> None:
        """Have it killed at *place*."""
        with self.run(fail_at=place) as daemon:
            assert daemon.wait() == -9, f"{place} was not reached:\n{daemon.said}"

    def all_there(self, daemon: Daemon) -> None:
        """Deliver one more, and hold what a reader has by then against what was delivered."""
        self.deliver(1)
        told = [*told_by(daemon.ready()["read"], self.state, f"package{self._delivered}")]
        assert told == [f"package{n}" for n in range(1, self._delivered + 1)], "lost or doubled"

    def come_back(self) -> None:
        """Start it once more: all must be there."""
        with self.run() as daemon:
            self.all_there(daemon)
            assert daemon.stop() == 0, daemon.said

    def nothing_is_taken_for_received(self) -> None:
        """Hold what the outbox calls received against what the relay has on its disk."""
        with looking(self.state / "outbox.db") as outbox:
            acked = outbox.execute("SELECT coalesce(max(acked), 0) FROM target").fetchone()[0]
        with looking(self.state / "journal.db") as journal:
            there = journal.execute("SELECT count(*) FROM event").fetchone()[0]
        assert acked <= there, "taken for received, and not on the relay's disk"


def told_by(url: str, state: Path, last: str) -> Iterator[str]:
    """Yield the packages of a relay's events up to the *last*."""
    for event in listen(url, state=state, since="start", timeout=PATIENCE):
        yield event.data["source_name"]
        if event.data["source_name"] == last:
            return


# -- trials ----------------------------------------------------------------------------------------


def killed_before_the_commit(directory: Path, code: Code) -> None:
    """Its mail must still be there at the next start."""
    uploads = Uploads(directory, code, spool=True)
    uploads.deliver(3)
    uploads.killed_at("examined:1")
    uploads.come_back()


def killed_before_it_looks(directory: Path, code: Code) -> None:
    """What it has not looked at it must not know."""
    uploads = Uploads(directory, code)
    uploads.deliver(3)
    uploads.killed_at("attempted:1")
    uploads.come_back()


def killed_as_it_sends_to_a_relay_that_hangs(directory: Path, code: Code) -> None:
    """What left us is not received by anybody yet."""
    uploads = Uploads(directory, code)
    uploads.deliver(1)
    # (What the relay is given first is a question.)
    uploads.killed_at("relay-received:2:hang,sent:1")
    uploads.nothing_is_taken_for_received()
    uploads.come_back()


def killed_as_it_hears_the_answer(directory: Path, code: Code) -> None:
    """What is answered for is on the disk."""
    uploads = Uploads(directory, code)
    uploads.deliver(1)
    uploads.killed_at("acknowledged:1")
    uploads.nothing_is_taken_for_received()
    uploads.come_back()


def another_mail_of_that_name_came_before(directory: Path, code: Code) -> None:
    """Who knows the name of a mail to come must not be able to suppress it."""
    uploads = Uploads(directory, code)
    put(uploads.maildir, b"Message-Id: <upload-1@archive.example.org>\n\nBoo!\n", "0.a")
    with uploads.run() as daemon:
        daemon.ready()
        uploads.deliver(1)
        uploads.all_there(daemon)
        assert daemon.stop() == 0, daemon.said


# Ends the process between two statements that belong together.
BETWEEN: Final = """
import os, signal, sqlite3
class Connection(sqlite3.Connection):
    def execute(self, sql, *values):
        if sql.startswith("INSERT INTO count"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(sql, *values)
connect = sqlite3.connect
sqlite3.connect = lambda *words, **named: connect(*words, factory=Connection, **named)
"""


def killed_between_two_statements(directory: Path, code: Code) -> None:
    """A mail's events, its verdict, its file and their count are there together, or none is."""
    trial = Trial(directory, faults=("duplicate",))
    trial.deliver(5)
    with trial.run(preamble=BETWEEN, cwd=code) as daemon:
        assert daemon.wait() == -9, daemon.said
    trial.last_one()
    with trial.run(cwd=code) as daemon:
        assert trial.arrive_or_die(daemon), daemon.said
        assert daemon.stop() == 0, daemon.said
    trial.judge()


# Hears nothing of the kernel, and looks by itself all the time.  It tells of its rounds, but of no
# two between which it would not have had to look.
DEAF: Final = """
import math, sys
from mailbridge.bridge import loop
from mailbridge.maildir import watch
watch.WATCHED = loop.PATIENCE = 0.02
loop.Loop._woken = lambda self: None
turn, told = loop.Loop._turn, [-math.inf]
def turned(self, now):
    if now > told[0] + 3 * watch.WATCHED:
        told[0] = now
        print("round", file=sys.stderr, flush=True)
    return turn(self, now)
loop.Loop._turn = turned
"""


def the_kernel_tells_nothing(directory: Path, code: Code) -> None:
    """What nobody told of is found when it looks by itself."""
    uploads = Uploads(directory, code)
    with uploads.run(preamble=DEAF) as daemon:
        daemon.ready()
        uploads.deliver(1)
        rounds = daemon.said.count("\nround")
        # (One may be under way, and one it is that looks: it has done so when the next begins.)
        assert daemon.counted("^round$", rounds + 3)
        assert "INFO events" in daemon.said, "not found when it looked by itself"
        assert daemon.stop() == 0, daemon.said


def lies_stand_around_what_is_signed(directory: Path, code: Code) -> None:
    """What is told as signed is what the signature covers."""
    maildir, state = make_maildir(directory / "Maildir"), directory / "state"
    headers, _, changes = upload(1).decode().partition("\n\n")
    with gnupg() as gpg:
        jane = gpg.key("Jane Doe <jane@example.org>")
        (directory / "keys.gpg").write_bytes(gpg.export(jane))
        signed = gpg.clearsign(changes, jane).decode()
    put(maildir, f"{headers}\n\nChanged-By: Mal Ory <mal@example.org>\n{signed}".encode(), "1.a")
    settings = directory / "mailbridge.toml"
    settings.write_text(
        f'state = "{state}"\n[[source]]\nname = "x"\nmaildir = "{maildir}"\nexisting = "emit"\n'
        f'keyrings = ["{directory}/keys.gpg"]\n'
    )
    with Daemon("-c", settings, "run", *LOOPBACK, cwd=code) as daemon:
        event = next(listen(daemon.ready()["read"], state=state, since="start", timeout=PATIENCE))
        assert daemon.stop() == 0, daemon.said

    assert event.data["provenance"]["signed_by"]["fingerprint"] == jane
    assert event.author == "Jane Doe <jane@example.org>", "a lie, told as signed"


# -- mistakes --------------------------------------------------------------------------------------


class Mistake(NamedTuple):
    """A change of our code, and the trial that it does not pass."""

    trial: Callable[[Path, Code], None]
    told: str
    """What the trial says of it."""
    patch: str


MISTAKES: Final = {
    "move-before-commit": Mistake(
        killed_before_the_commit,
        "lost or doubled",
        """\
--- bridge/places.py
@@
+        for found, _ in taken:
+            self._finish(found, "events")
         try:
             for _, told in self._gateway.deliver_each(mails, stopping=stopping, many=many):
""",
    ),
    "ack-on-send": Mistake(
        killed_as_it_sends_to_a_relay_that_hangs,
        "taken for received",
        """\
--- bridge/submit.py
@@
+            self._ledger.acknowledge(self.name, event.seq)
             failpoint.reached("sent")
""",
    ),
    "msgid-dedup": Mistake(
        another_mail_of_that_name_came_before,
        "lost or doubled",
        """\
--- bridge/deliver.py
@@
 import logging
+import re
@@
         for mail in mails:
-            sha256 = hashlib.sha256(mail.raw).digest()
+            named = re.search(rb"(?im)^message-id:.*", mail.raw)
+            sha256 = hashlib.sha256(named[0] if named else mail.raw).digest()
""",
    ),
    "relay-ack-before-commit": Mistake(
        killed_as_it_hears_the_answer,
        "taken for received",
        # (What is answered for gets to the disk with what comes next.)
        """\
--- journal/__init__.py
@@
+                if self._file.db.in_transaction:
+                    self._file.db.execute("COMMIT")
                 self._file.db.execute("BEGIN IMMEDIATE")
                 yield batch
@@
                 failpoint.reached("journal-commit")
-                self._file.commit(meanwhile)
""",
    ),
    "no-tx": Mistake(
        killed_between_two_statements,
        "its tag was counted otherwise",
        """\
--- outbox/rows.py
@@
-                self._db.execute("BEGIN IMMEDIATE")
+                return
@@
-                self._db.execute("COMMIT")
""",
    ),
    "mark-first": Mistake(
        killed_before_it_looks,
        "lost or doubled",
        """\
--- bridge/deliver.py
@@
+            with self._outbox.transaction():
+                for mail, _ in batch:
+                    if mail.file:
+                        self._outbox.file_done(mail.file, Verdict("events"), now=self._clock())
             failpoint.reached("attempted")
""",
    ),
    "skip-rescan": Mistake(
        the_kernel_tells_nothing,
        "not found when it looked by itself",
        """\
--- bridge/loop.py
@@
-            self._look_at = now + self._watch.interval
+            self._look_at = math.inf
""",
    ),
    "verify-after-parse": Mistake(
        lies_stand_around_what_is_signed,
        "a lie, told as signed",
        """\
--- changes.py
@@
-    paragraph = _paragraph(signed if signed is not None else _from_format(lines))
+    paragraph = _paragraph([line for line in lines if line.strip()])
""",
    ),
}


@pytest.mark.needs_program("gpg")
@pytest.mark.fault(47)
@pytest.mark.parametrize("name", MISTAKES)
def test_what_we_ship_passes_a_trial_that_the_mistake_does_not(name: str, tmp_path: Path) -> None:
    mistake = MISTAKES[name]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()

    mistake.trial(ours, None)
    with pytest.raises(AssertionError, match=mistake.told):
        mistake.trial(theirs, mutant(tmp_path / "code", patch(mistake.patch)))
