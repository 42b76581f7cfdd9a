"""News that come again, backed by more than before, are confirmed: by an event of its own, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import pytest

from mailbridge.bridge.compose import check, switches
from mailbridge.bridge.deliver import Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.own import payloads
from mailbridge.bridge.prove import Prover
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.cli import main
from mailbridge.config import Source
from mailbridge.event import SignedEvent, event_uuid, read_event
from mailbridge.outbox import Outbox
from mailbridge.payloads import schema
from mailbridge.signing import SigningKey
from mailbridge.traffic.stream import FAULTS, mails
from tests.conftest import NOON
from tests.daemons import LOOPBACK, Daemon, make_maildir, put, read_events, report, upload
from tests.openpgp import gnupg

HOST: Final = "archive.example.org"
US: Final = "mx.example.org"
HOP: Final = f"Received: from {HOST} ({HOST} [192.0.2.1]) by {US} (Postfix)\n".encode()
AUTHRES: Final = f"Authentication-Results: {US}; dkim=pass header.d={HOST}\n".encode()

CONFIRMED: Final = "_lk.mailbridge.event-confirmed"
ACCEPTED: Final = "_lk.mailbridge.package-upload-accepted"


def source(**settings: object) -> Source:
    told = {"name": "changes", "maildir": "/nowhere", "hops": [HOST], "authserv_id": US}
    return msgspec.convert(told | {"dkim_domains": [HOST]} | settings, Source)


def listed(n: int) -> bytes:
    """Return the copy that a list delivers: anybody may have written it."""
    return b"Received: from list (unknown [192.0.2.9]) by mx.example.org (Postfix)\n" + upload(n)


class Site:
    """An outbox and the gateway before it; what is delivered is told at once."""

    def __init__(self, outbox: Outbox, directory: Path, **settings: Any) -> None:
        self.outbox: Final = outbox
        self._quarantine: Final = Quarantine(directory / "quarantine")
        self._settings: Final = Settings(**settings)

    def deliver(
        self,
        *mails: bytes,
        sources: Sequence[Source] = (),
        confirm: bool = False,
        backfill: bool = False,
        again: bool = False,
    ) -> list[Outcome]:
        asked = tuple(sources) or (source(),)
        gateway = Gateway(
            self.outbox, self._quarantine, self._settings, prover=Prover(asked), clock=lambda: NOON
        )
        return gateway.deliver(
            [
                Delivery(raw, asked, NOON, confirm=confirm, backfill=backfill, again=again)
                for raw in mails
            ]
        )

    @property
    def events(self) -> list[SignedEvent]:
        return [read_event(stored.raw) for stored in self.outbox.all()]

    @property
    def confirmations(self) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.tag == CONFIRMED]


def codes(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"{o.verdict.verdict} {o.verdict.code}".strip() for o in outcomes]


@pytest.fixture
def site(signer: SigningKey, tmp_path: Path) -> Iterator[Site]:
    with Outbox(None, signer, now=NOON) as outbox:
        yield Site(outbox, tmp_path)


# -- when ------------------------------------------------------------------------------------------


def test_the_copy_with_a_proof_confirms_the_one_by_the_list(site: Site) -> None:
    outcomes = site.deliver(listed(1), HOP + upload(1))

    news, confirmed = site.events
    assert codes(outcomes) == ["events", "events confirmed"]
    assert outcomes[1].uuids == (news.uuid, confirmed.uuid)
    assert (news.tag, confirmed.tag) == (ACCEPTED, CONFIRMED)
    assert news.data["provenance"]["sent_by"] == {"how": "none"}
    assert confirmed.data["confirms"] == news.uuid
    assert confirmed.data["of"] == ACCEPTED
    assert confirmed.data["provenance"]["sent_by"] == {"how": "hop", "who": HOST}


@pytest.mark.edge(18)
def test_equal_or_weaker_copies_are_duplicates(site: Site) -> None:
    site.deliver(HOP + upload(1))

    outcomes = site.deliver(listed(1), b"X-Other: way\n" + HOP + upload(1))

    assert codes(outcomes) == ["duplicate same-news"] * 2
    assert len(site.events) == 1


def test_each_step_up_is_told_once(site: Site) -> None:
    authres = AUTHRES + HOP + upload(1)

    outcomes = site.deliver(listed(1), HOP + upload(1), authres, b"X-O: 1\n" + authres, listed(1))

    assert [told["provenance"]["sent_by"]["how"] for told in site.confirmations] == [
        "hop",
        "authres",
    ]
    assert len({event.uuid for event in site.events}) == 3
    assert codes(outcomes)[3:] == ["duplicate same-news", "duplicate same-mail"]


def test_what_is_weaker_than_the_last_confirmation_is_a_duplicate(site: Site) -> None:
    outcomes = site.deliver(listed(1), AUTHRES + HOP + upload(1), HOP + upload(1))

    assert codes(outcomes) == ["events", "events confirmed", "duplicate same-news"]


def test_an_equal_claim_by_somebody_else_is_a_duplicate(site: Site) -> None:
    other = HOP.replace(b"archive.example.org", b"mirror.example.org")
    sources = [source(hops=[HOST, "mirror.example.org"])]

    outcomes = site.deliver(listed(1), HOP + upload(1), other + upload(1), sources=sources)

    assert codes(outcomes) == ["events", "events confirmed", "duplicate same-news"]


def test_the_operator_s_word_for_another_source_confirms(site: Site) -> None:
    trusted = source(name="archive", require="channel")
    site.deliver(listed(1))
    site.deliver(b"X-Other: way\n" + upload(1), sources=[trusted])

    (told,) = site.confirmations
    assert told["provenance"]["sent_by"] == {"how": "channel", "who": "archive"}
    assert told["source"] == "archive"


def test_one_mail_that_two_sources_take_confirms_nothing(site: Site) -> None:
    site.deliver(upload(1), sources=[source(), source(name="archive", require="channel")])

    (event,) = site.events
    assert event.data["provenance"]["sent_by"]["how"] == "channel"


def test_what_is_quarantined_for_want_of_proof_confirms_nothing(site: Site) -> None:
    site.deliver(listed(1))

    outcomes = site.deliver(HOP + upload(1), sources=[source(require="authres")])

    assert codes(outcomes) == ["quarantined unproved"]
    assert len(site.events) == 1


def test_what_is_switched_off_is_not_confirmed_either(site: Site) -> None:
    site.deliver(listed(1))

    outcomes = site.deliver(HOP + upload(1), sources=[source(kinds=["debbugs"])])

    assert codes(outcomes) == ["ignored switched-off"]
    assert not site.confirmations


@pytest.mark.needs_program("gpg")
def test_a_signature_that_was_not_looked_at_before_confirms(site: Site, tmp_path: Path) -> None:
    with gnupg() as home:
        jane = home.key("Jane Doe <jane@example.org>")
        head, _, changes = upload(1).decode().partition("\n\n")
        raw = f"{head}\n\n{home.clearsign(changes, jane).decode()}".encode()
        (tmp_path / "ring.gpg").write_bytes(home.export(jane))
    site.deliver(raw)

    again = source(keyrings=[str(tmp_path / "ring.gpg")])
    unasked = site.deliver(raw, sources=[again])
    outcomes = site.deliver(raw, raw, sources=[again], confirm=True)

    (told,) = site.confirmations
    assert codes(unasked) == ["duplicate same-mail"]
    assert codes(outcomes) == ["events confirmed", "duplicate same-mail"]
    assert told["provenance"]["signed_by"]["status"] == "good"
    assert told["provenance"]["signed_by"]["fingerprint"] == jane


def test_asked_again_a_mail_confirms_and_says_nothing_new(site: Site) -> None:
    off = source(kinds=["dak"])
    site.deliver(listed(1), report(2), sources=[off])

    # Everything is switched on since: that is for mail to come.
    outcomes = site.deliver(listed(1), report(2), confirm=True)

    assert codes(outcomes) == ["duplicate same-mail"] * 2
    assert len(site.events) == 1


def test_asked_again_a_mail_that_falls_short_by_now_stays_what_it_was(site: Site) -> None:
    site.deliver(listed(1))

    outcomes = site.deliver(listed(1), sources=[source(require="hop")], confirm=True)

    assert codes(outcomes) == ["duplicate same-mail"]
    assert not site.outbox.quarantined()


def test_what_waited_in_quarantine_confirms_when_it_is_tried_again(site: Site) -> None:
    site.deliver(listed(1))
    proved = HOP + upload(1)

    waits = site.deliver(proved, sources=[source(require="authres")])
    goes = site.deliver(proved, sources=[source(require="hop")], again=True)

    assert codes([*waits, *goes]) == ["quarantined unproved", "events confirmed"]


def test_ingest_of_the_same_file_again_confirms_by_what_is_configured_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mail, toml = tmp_path / "mail", tmp_path / "mailbridge.toml"
    mail.write_bytes(HOP + upload(1))
    told = []
    for hops in ("", f'hops = ["{HOST}"]', f'hops = ["{HOST}"]'):
        toml.write_text(
            f'state = "{tmp_path}/state"\nentity = "mailbridge.lists.example.org"\n'
            f'[[source]]\nname = "changes"\nlists = ["devel-changes.lists.example.org"]\n{hops}\n'
        )
        assert main(["-c", str(toml), "ingest", "--json", str(mail)]) == 0
        told.append(json.loads(capsys.readouterr().out))

    assert [one["outcome"] for one in told] == ["events", "events", "duplicate"]
    assert told[1]["reason"] == "news that is out, and better backed now"
    assert [len(one["uuids"]) for one in told] == [1, 2, 2]


# -- what ------------------------------------------------------------------------------------------


def test_a_confirmation_tells_of_the_mail_that_confirms_and_fits_its_schema(site: Site) -> None:
    site.deliver(listed(1), HOP + upload(1).replace(b"<upload-1@", b"<direct-1@"))

    (told,) = site.confirmations
    jsonschema.validate(
        told,
        schema(payloads()["event-confirmed"]) | {"additionalProperties": False},
        cls=jsonschema.Draft202012Validator,
    )
    assert told["message_id"] == "direct-1@archive.example.org"
    assert (told["archive"], told["source"]) == ("Debian", "changes")


def test_the_uuid_of_a_confirmation_is_that_of_its_claims(site: Site) -> None:
    site.deliver(listed(1), HOP + upload(1))

    news, confirmed = site.events
    claims = {
        "sent_by": {"how": "hop", "who": HOST},
        "signed_by": {"how": "none", "status": "none"},
    }
    assert news.uuid == "de7596d0-d51a-51c3-85f9-fc6f540cb527"
    assert confirmed.uuid == "d9b2cfdb-45f9-56d1-80f9-1b51e61a0e7f"
    assert confirmed.uuid == event_uuid(
        "Debian", "event-confirmed", {"confirms": news.uuid, "provenance": claims}
    )


def test_it_has_the_namespace_of_its_source_and_old_news_stay_old(site: Site) -> None:
    elsewhere = source(name="x", namespace="org.example.mailbridge")
    site.deliver(listed(1))
    site.deliver(HOP + upload(1), sources=[elsewhere], backfill=True)

    _, confirmed = site.events
    assert confirmed.tag == "org.example.mailbridge.event-confirmed"
    assert confirmed.data["of"] == ACCEPTED
    assert confirmed.data["backfill"] is True
    assert [stored.backfill for stored in site.outbox.all()] == [False, True]


def test_it_follows_the_switch_of_what_it_confirms() -> None:
    assert switches(source())["event-confirmed"] == "on"
    check([source(emit=["event-confirmed"])])


def test_made_up_mail_of_one_way_gives_what_it_was_said_to_give(
    signer: SigningKey, tmp_path: Path
) -> None:
    with Outbox(None, signer, now=NOON) as outbox:
        site = Site(outbox, tmp_path, accept_test=True)
        site.deliver(*(post.raw for post in islice(mails(7, faults=FAULTS), 100)))

        assert site.events
        assert not any(event.tag.endswith(".event-confirmed") for event in site.events)


# -- crashes and epochs ----------------------------------------------------------------------------


def test_news_and_what_confirms_it_are_one_transaction(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mailbridge.failpoint.reached", dying_at_commit(2))
        with pytest.raises(EndError):
            site.deliver(listed(1), HOP + upload(1))
    assert not site.events

    site.deliver(listed(1), HOP + upload(1))

    # (Had the first try left behind what it remembered, the confirmation would be missing.)
    assert [event.tag for event in site.events] == [ACCEPTED, CONFIRMED]


class EndError(Exception):
    """Stands for the end of the process."""


def dying_at_commit(nth: int) -> Callable[[str], None]:
    """Return what ends the process at the *nth* commit."""
    left = nth

    def reached(place: str) -> None:
        nonlocal left
        left -= place == "outbox-commit"
        if left == 0:
            raise EndError

    return reached


def test_a_new_epoch_remembers_what_backs_the_news_of_the_old_one(site: Site) -> None:
    site.deliver(listed(1), HOP + upload(1), listed(2), HOP + upload(3))
    known = [event.uuid for event in site.events]
    site.outbox.begin_epoch(prev=None, known=known, ancestors=[site.outbox.feed], now=NOON)

    weaker = site.deliver(*(b"X-Other: way\n" + HOP + upload(n) for n in (1, 3)))
    stronger = site.deliver(HOP + upload(2), AUTHRES + HOP + upload(3))

    assert codes(weaker) == ["duplicate same-news"] * 2
    assert codes(stronger) == ["events confirmed"] * 2
    assert [(told["confirms"], told["of"]) for told in site.confirmations] == [
        (known[2], ACCEPTED),
        (known[3], ACCEPTED),
    ]


def test_of_news_that_only_a_relay_remembers_nothing_is_claimed(site: Site) -> None:
    site.deliver(listed(1))
    (news,) = site.events
    with Outbox(None, SigningKey("mailbridge.other", bytes(32)), now=NOON) as outbox:
        lost = Site(outbox, Path("/nowhere"))
        outbox.begin_epoch(prev=None, known=[news.uuid], ancestors=[], now=NOON)

        # Perhaps it went out with just this proof.
        assert codes(lost.deliver(HOP + upload(1))) == ["duplicate same-news"]


# -- the whole way ---------------------------------------------------------------------------------


def test_a_reader_hears_of_the_list_s_copy_and_then_that_it_is_true(tmp_path: Path) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    toml = tmp_path / "mailbridge.toml"
    toml.write_text(f"""
state = "{tmp_path}/state"
entity = "mailbridge.lists.example.org"
[[source]]
name = "changes"
maildir = "{maildir}"
existing = "emit"
hops = ["{HOST}"]
""")
    with Daemon("-c", toml, "run", *LOOPBACK) as bridge:
        read = bridge.ready()["read"]
        put(maildir, listed(1), "by-the-list")
        (first,) = read_events(read, tmp_path / "state", 1)
        put(maildir, HOP + upload(1), "by-the-archive")
        news, confirmed = read_events(read, tmp_path / "state", 2)

        assert bridge.stop() == 0
    assert first.uuid == news.uuid
    assert (news.tag, confirmed.tag) == (ACCEPTED, CONFIRMED)
    assert confirmed.data["confirms"] == news.uuid
    assert confirmed.data["provenance"]["sent_by"] == {"how": "hop", "who": HOST}
