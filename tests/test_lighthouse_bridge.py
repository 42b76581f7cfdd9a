"""`bridge --lighthouse`, the program: from a Maildir to the subscribers of a Lighthouse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from mailbridge.event import SignedEvent, read_event
from mailbridge.keyring import write_pair
from mailbridge.maildir import make_maildir
from mailbridge.signing import SigningKey, verify
from mailbridge.wire import sockets
from tests.lighthouse import GUARD, Lighthouse

FIXTURES: Final = Path(__file__).parent.parent / "fixtures" / "dak_accepted"


def uuid_of(mail: Path) -> str:
    told: list[dict[str, Any]] = json.loads((mail.parent / "events.json").read_text())
    return str(told[0]["uuid"])


# (Several tell of one upload.)
NEWS: Final = {uuid_of(mail): mail for mail in sorted(FIXTURES.glob("*/mail.eml"))}
MAILS: Final = list(NEWS.values())[:4]


class Subscriber:
    """One of a Lighthouse's own clients: a plain SUB socket."""

    def __init__(self, context: sockets.Context, lighthouse: Lighthouse) -> None:
        self._socket: Final = sockets.subscriber(context, lighthouse.publish)
        lighthouse.subscribed("")

    def next(self) -> SignedEvent:
        assert self._socket.poll(int(GUARD * 1000)), "nothing was published"
        tag, raw = self._socket.recv_multipart()
        event = read_event(raw)
        assert tag.decode() == event.tag
        return event

    def close(self) -> None:
        self._socket.close()


class Site:
    """A state directory with its key, a Maildir, and who trusts the key."""

    def __init__(self, tmp_path: Path, key: SigningKey) -> None:
        self.state: Final = tmp_path / "state"
        self.maildir: Final = tmp_path / "Maildir"
        self.trusted: Final = tmp_path / "trusted"
        self.strangers: Final = tmp_path / "strangers"
        self.key: Final = key
        make_maildir(self.maildir)
        _, public = write_pair(self.state / "keys", key)
        self.trusted.mkdir()
        self.strangers.mkdir()
        (self.trusted / public.name).write_bytes(public.read_bytes())

    def deliver(self, *mails: Path) -> None:
        for mail in mails:
            held = self.maildir / "tmp" / mail.parent.name
            held.write_bytes(mail.read_bytes())
            held.rename(self.maildir / "new" / mail.parent.name)

    @contextmanager
    def bridge(self, lighthouse: Lighthouse, rate: str = "50/s") -> Iterator[subprocess.Popen[str]]:
        """Run the program; it has said that it is ready."""
        settings = self.state / "mailbridge.toml"
        settings.write_text(
            f'state = "{self.state}"\n'
            f'[[source]]\nname = "list"\nmaildir = "{self.maildir}"\narchive = "Debian"\n'
            f'existing = "emit"\n'
            f'[submit]\nlighthouse = {{ submit = "{lighthouse.submit}",'
            f' publish = "{lighthouse.publish}", rate = "{rate}" }}\n'
        )
        with subprocess.Popen(
            [sys.executable, "-m", "mailbridge", "-c", settings, "bridge"],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                said(process, "ready submit=")
                yield process
            finally:
                process.kill()


def said(process: subprocess.Popen[str], words: str) -> str:
    """Wait until *process* says *words* on standard error, and return the line."""
    assert process.stderr
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"it ended without having said {words!r}")


@pytest.fixture
def context() -> Iterator[sockets.Context]:
    context = sockets.make_context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def ours(tmp_path: Path, signer: SigningKey) -> Site:
    return Site(tmp_path, signer)


def test_a_mail_comes_out_at_the_lighthouses_subscribers(
    ours: Site, context: sockets.Context
) -> None:
    with Lighthouse(ours.trusted) as lighthouse, ours.bridge(lighthouse) as process:
        subscriber = Subscriber(context, lighthouse)
        ours.deliver(MAILS[0])

        event = subscriber.next()
        subscriber.close()

        assert event.uuid == uuid_of(MAILS[0])
        verify(event, {ours.key.entity: ours.key.verify_key})
        assert len(event.data["changes"]) <= 500
        process.terminate()
        assert process.wait(GUARD) == 0


def test_killed_and_started_again_it_loses_no_event(ours: Site, context: sockets.Context) -> None:
    with Lighthouse(ours.trusted) as lighthouse:
        subscriber = Subscriber(context, lighthouse)
        ours.deliver(*MAILS)
        with ours.bridge(lighthouse, rate="2/s") as process:
            subscriber.next()
            process.kill()
            process.wait(GUARD)
        seen = {event["uuid"] for event in lighthouse.published}
        assert seen < set(map(uuid_of, MAILS))

        with ours.bridge(lighthouse):
            while seen != set(map(uuid_of, MAILS)):
                seen.add(subscriber.next().uuid)
        subscriber.close()


def test_a_lighthouse_that_is_not_there_yet_is_waited_for(ours: Site) -> None:
    with Lighthouse(ours.trusted) as gone:
        pass
    ours.deliver(*MAILS[:2])
    with ours.bridge(gone) as process:
        said(process, f"uuid={uuid_of(MAILS[1])}")

        with Lighthouse(ours.trusted, submit=gone.submit, publish=gone.publish) as lighthouse:
            assert [lighthouse.handled(), lighthouse.handled()] == ["published", "published"]
            process.terminate()
            assert process.wait(GUARD) == 0
    assert {event["uuid"] for event in lighthouse.published} == set(map(uuid_of, MAILS[:2]))
