"""An archive that tells of its uploads by itself: their mails are no news then."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mailbridge import config
from mailbridge.bridge.deliver import Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.onbus import OnBus
from mailbridge.bridge.places import Place
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.cli import main
from mailbridge.config import Source
from mailbridge.errors import ConfigError
from mailbridge.event import event_uuid, read_event
from mailbridge.journal import Journal
from mailbridge.keyring import write_pair
from mailbridge.outbox import Outbox
from mailbridge.signing import SigningKey, sign_fields
from mailbridge.wire import sockets
from tests.conftest import NOON
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, report, upload

ACCEPTED: Final = "_lk.archive.package-upload-accepted"
OURS: Final = "_lk.mailbridge.package-upload-accepted"

SOURCE: Final = Source(
    name="changes", maildir="/nowhere", archive="Example", suppress_if_on_bus="1m"
)
ARCHIVE: Final = SigningKey("archive.example.org", bytes(range(7, 39)))


def native(n: int, **other: object) -> dict[str, Any]:
    """Return what Laniakea says of the upload whose mail `upload` is."""
    return {
        "repo": "example",
        "suite": "unstable",
        "upload_name": f"package{n}_1.{n}-1_source",
        "is_new": False,
        "files": [],
        "changes": "",
        "source_name": f"package{n}",
        "source_version": f"1.{n}-1",
        **other,
    }


def fields(data: dict[str, Any], tag: str = ACCEPTED) -> dict[str, Any]:
    uuid = event_uuid("Example", tag, {"data": data})
    return {"tag": tag, "uuid": uuid, "format": "1.0", "time": NOON.isoformat(), "data": data}


class Site:
    """An outbox, and the journal of the relay beside it."""

    def __init__(self, outbox: Outbox, directory: Path, entity: str) -> None:
        self.outbox: Final = outbox
        self.journal: Final = directory / "journal.db"
        self.bus: Final = OnBus(self.journal, entity)
        self.gateway: Final = Gateway(
            outbox,
            Quarantine(directory / "quarantine"),
            Settings(),
            on_bus=self.bus,
            clock=lambda: NOON,
        )

    def told(self, *events: dict[str, Any], by: SigningKey = ARCHIVE, ago: int = 0) -> None:
        """Have somebody tell of *events*, *ago* so many days."""
        when = NOON - timedelta(days=ago)
        with Journal.open(self.journal) as journal, journal.batch(when) as batch:
            for event in events:
                raw, _ = sign_fields(event, by)
                batch.append(read_event(raw), raw)

    def deliver(self, *mails: bytes, by: Source = SOURCE) -> list[str]:
        found: Sequence[Outcome] = self.gateway.deliver([Delivery(m, (by,), NOON) for m in mails])
        return [f"{one.verdict.verdict} {one.verdict.code}".strip() for one in found]


@pytest.fixture
def site(signer: SigningKey, tmp_path: Path) -> Iterator[Site]:
    with Outbox(None, signer, now=NOON) as outbox:
        site = Site(outbox, tmp_path, signer.entity)
        yield site
        site.bus.close()


def test_what_the_archive_told_itself_is_no_news(site: Site) -> None:
    site.told(fields(native(1)))

    assert site.deliver(upload(1), upload(2), report(3)) == ["ignored on-bus", "events", "events"]
    assert ("changes", "ignored", "on-bus", 1) in site.outbox.counts()
    assert [read_event(one.raw).data.get("source_name") for one in site.outbox.all()] == [
        "package2",
        None,
    ]


def test_without_a_relay_of_ours_everything_is_news(site: Site) -> None:
    assert site.deliver(upload(1)) == ["events"]


def test_a_source_that_does_not_ask_gets_all_of_its_news(site: Site) -> None:
    site.told(fields(native(1)))

    plain = msgspec.structs.replace(SOURCE, suppress_if_on_bus=None)
    assert site.deliver(upload(1), by=plain) == ["events"]


def test_what_comes_later_is_read_later(site: Site) -> None:
    site.told(fields(native(1)))
    site.deliver(upload(1))
    site.told(fields(native(2)), fields(native(3)))

    assert site.deliver(upload(2), upload(3), upload(4)) == [*["ignored on-bus"] * 2, "events"]


@pytest.mark.parametrize(
    "other",
    [
        {"repo": "elsewhere"},
        {"suite": "stable"},
        {"upload_name": "package1_1.9-1_source", "source_version": "1.9-1"},
        {"is_new": True},
    ],
)
def test_another_upload_or_another_step_is_news(site: Site, other: dict[str, object]) -> None:
    site.told(fields(native(1, **other)))

    assert site.deliver(upload(1)) == ["events"]


def test_the_source_and_its_version_are_enough_where_the_name_is_another(site: Site) -> None:
    site.told(fields(native(1, upload_name="package1_1.1-1_amd64")))

    assert site.deliver(upload(1)) == ["ignored on-bus"]


def test_what_we_said_ourselves_in_its_name_suppresses_nothing(
    site: Site, signer: SigningKey
) -> None:
    site.told(fields(native(1)), by=signer)

    assert site.deliver(upload(1)) == ["events"]


def test_our_own_tags_of_others_suppress_nothing(site: Site) -> None:
    site.told(fields(native(1), tag=OURS))

    assert site.deliver(upload(1)) == ["events"]


def test_news_of_long_ago_are_not_looked_for(site: Site) -> None:
    site.told(fields(native(1)), ago=3)
    site.told(fields(native(2)))

    assert site.deliver(upload(1), upload(2)) == ["events", "ignored on-bus"]


@pytest.mark.parametrize("key", ["in NEW", "rejected"])
def test_each_step_of_an_upload_is_known(site: Site, key: str) -> None:
    new = f"Subject: package1_1.1-1_source.changes {'is NEW' if key == 'in NEW' else 'REJECTED'}\n"
    mail = f"List-Id: <c.example.org>\nX-DAK: dak process-upload\nX-Debian: DAK\n{new}\nNo.\n"
    said = native(1, is_new=True) if key == "in NEW" else {"reason": "No."}
    tag = ACCEPTED if key == "in NEW" else "_lk.archive.package-upload-rejected"
    told = {"repo": "example", "upload_name": "package1_1.1-1_source", **said}

    assert site.deliver(mail.replace("No.", "Yes.").encode()) == ["events"]
    site.told(fields(told, tag))
    assert site.deliver(mail.encode()) == ["ignored on-bus"]


# -- the wait --------------------------------------------------------------------------------------


def test_a_mail_waits_for_its_archive_and_no_longer(site: Site, tmp_path: Path) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    settings = msgspec.structs.replace(SOURCE, maildir=str(maildir), existing="emit")
    place = Place(maildir, (settings,), site.outbox, site.gateway)
    young = put(maildir, upload(1), "1")
    put(maildir, upload(2), "2")
    os.utime(maildir / "new" / "2", times=(0, time.time() - 61))

    place.look(started=0)
    place.work(stopping=lambda: False)

    assert [event.tag for event in site.outbox.all()] == [OURS]
    assert place.due() < math.inf
    # A look between does not make it forget the first.
    place.look(started=0)
    assert place.due() < math.inf
    os.utime(young, times=(0, time.time() - 61))
    os.utime(maildir / "new")
    place.look(started=0)
    place.work(stopping=lambda: False)
    assert len(list(site.outbox.all())) == 2


def test_a_mail_of_the_future_waits_for_nobody(site: Site, tmp_path: Path) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    settings = msgspec.structs.replace(SOURCE, maildir=str(maildir), existing="emit")
    place = Place(maildir, (settings,), site.outbox, site.gateway)
    os.utime(put(maildir, upload(1), "1"), times=(0, time.time() + 86400))

    place.look(started=0)

    assert place.work(stopping=lambda: False) == 1


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "told"),
    [("soon", "suppress_if_on_bus: 'soon'"), ("2h", "suppress_if_on_bus: '2h': an hour is")],
)
def test_a_wait_has_a_bound(tmp_path: Path, wait: str, told: str) -> None:
    path = tmp_path / "mailbridge.toml"
    path.write_text(f'[[source]]\nname = "a"\nmaildir = "/x"\nsuppress_if_on_bus = "{wait}"\n')

    with pytest.raises(ConfigError, match=told):
        config.load(path)


def test_a_bridge_without_a_relay_cannot_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mailbridge.toml"
    path.write_text(
        f'state = "{tmp_path}/state"\n'
        '[[source]]\nname = "a"\nmaildir = "/x"\nsuppress_if_on_bus = "1m"\n'
    )

    assert main(["-c", str(path), "bridge"]) == 78
    assert "suppress_if_on_bus: asks the relay of this process" in capsys.readouterr().err


# -- the whole way ---------------------------------------------------------------------------------


def test_an_archive_that_submits_to_our_relay_is_heard_first(tmp_path: Path) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    state = tmp_path / "state"
    toml = tmp_path / "mailbridge.toml"
    toml.write_text(f"""
state = "{state}"
entity = "mailbridge.lists.example.org"
[[source]]
name = "changes"
maildir = "{maildir}"
archive = "Example"
existing = "emit"
suppress_if_on_bus = "1s"
""")
    write_pair(state / "keys" / "trusted", ARCHIVE)
    with Daemon("-c", toml, "run", *LOOPBACK) as service:
        sockets_at = service.ready()
        with sockets.make_context() as context:
            dealer = sockets.submitter(context, sockets_at["submit"])
            now = datetime.now(UTC).isoformat()
            raw, _ = sign_fields({**fields(native(1)), "time": now}, ARCHIVE)
            dealer.send_multipart([raw, b"ack"])
            assert dealer.poll(60_000)
            assert b'"stored"' in dealer.recv_multipart()[0]
            dealer.close(linger=0)
        put(maildir, upload(1), "1")
        put(maildir, upload(2), "2")
        events = read_events(sockets_at["read"], state, 2)
        assert service.stop() == 0

    assert [(event.tag, event.data["source_name"]) for event in events] == [
        (ACCEPTED, "package1"),
        (OURS, "package2"),
    ]
