"""Uploads under Laniakea's own tags: whole, harmless, by permission only, and never in a circle."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mailbridge import config
from mailbridge.bridge import standin
from mailbridge.bridge.compose import Composed, Examined, examine
from mailbridge.bridge.deliver import Delivery, Gateway, Outcome, Settings
from mailbridge.bridge.quarantine import Quarantine
from mailbridge.bridge.serve import bridge
from mailbridge.cli import main
from mailbridge.config import Config, Source
from mailbridge.errors import ConfigError, NotPermitted
from mailbridge.event import SignedEvent, canonical, read_event
from mailbridge.outbox import Outbox, Upload
from mailbridge.payloads import address
from mailbridge.relay.gate import Gate
from mailbridge.signing import SigningKey
from tests.conftest import NOON
from tests.daemons import LOOPBACK, Daemon, chat, make_maildir, put, read_events, upload
from tests.laniakea import FormattingFailedError, in_the_room, mailed

FIXTURES: Final = Path(__file__).parent.parent / "fixtures"
CASES: Final = sorted(p.parent for p in FIXTURES.glob("[!_]*/*/mail.eml"))

ARCHIVE: Final = "_lk.archive"
ACCEPTED: Final = f"{ARCHIVE}.package-upload-accepted"
OURS: Final = "_lk.mailbridge.package-upload-accepted"

CHANNEL: Final = Source(
    name="archive", maildir="/nowhere", require="channel", stand_in=True, archive="Example"
)
NO_STAND_IN: Final = msgspec.structs.replace(CHANNEL, stand_in=False)


def name_of(case: Path) -> str:
    return f"{case.parent.name}-{case.name}"


def fixture(name: str) -> bytes:
    return (FIXTURES / name / "mail.eml").read_bytes()


def examined(
    raw: bytes, source: Source = CHANNEL, *, accept_test: bool = False, backfill: bool = False
) -> Examined:
    return examine(
        raw, source, received=NOON, everything=True, accept_test=accept_test, backfill=backfill
    )


def became(
    raw: bytes, source: Source = CHANNEL, *, accept_test: bool = False, backfill: bool = False
) -> Composed:
    (event,) = examined(raw, source, accept_test=accept_test, backfill=backfill).events
    return event


def strings(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string in *value* with the name of the key that it stands under."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield path, key
            yield from strings(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, path)


def is_harmless(event: Composed) -> bool:
    """Say whether nothing in *event* is markup in a room or a new header in a mail."""
    told = [*strings(event.data), ("author", event.author or "")]
    assert not any(char in text for _, text in told for char in "<>&")
    assert not any(
        char in text
        for key, text in told
        for char in "\r\n\x85\u2028\u2029"
        if key not in ("changes", "reason")
    )
    assert "uploader_email" not in event.data or address(event.data["uploader_email"])
    return True


# -- over every fixture ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_room_shows_every_event_and_no_markup_of_a_stranger(case: Path) -> None:
    for event in examined((case / "mail.eml").read_bytes()).events:
        assert in_the_room(event.tag, event.data)
        assert "tag" not in event.data
        assert canonical(event.data)
        if event.tag.startswith(f"{ARCHIVE}."):
            assert is_harmless(event)


def test_the_fixtures_hold_something_for_each_of_laniakea_s_tags() -> None:
    seen = {e.tag for case in CASES for e in examined((case / "mail.eml").read_bytes()).events}

    assert {tag for tag in seen if tag.startswith(ARCHIVE)} == {
        f"{ARCHIVE}.{name}"
        for name in (
            "package-upload-accepted",
            "package-upload-rejected",
            "package-build-success",
            "package-build-failed",
            "package-src-removed",
        )
    }


@pytest.mark.edge(48)
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.parent.name.startswith("laniakea")], ids=name_of
)
def test_laniakea_s_own_mail_never_goes_out_under_laniakea_s_tags(case: Path) -> None:
    event = became((case / "mail.eml").read_bytes())

    assert event.tag == f"_lk.mailbridge.{event.name}"
    assert event.own is None


# -- what goes out, and as what --------------------------------------------------------------------

ANNOUNCED: Final = fixture("dak_accepted/announced")


def test_an_accepted_upload_has_all_that_laniakea_s_own_would_have() -> None:
    event = became(ANNOUNCED)

    types = {
        **dict.fromkeys(("repo", "suite", "upload_name", "changes", "uploader_name"), str),
        **dict.fromkeys(("source_name", "source_version", "source_maintainer"), str),
        "is_new": bool,
        "files": list,
        "source_uploaders": list,
    }
    assert event.tag == ACCEPTED
    assert {key: type(event.data[key]) for key in types} == types
    assert not event.data["upload_name"].endswith(".changes")
    assert event.data["is_new"] is False


def test_it_is_the_same_news_as_under_our_own_tag() -> None:
    event, plain = became(ANNOUNCED), became(ANNOUNCED, NO_STAND_IN)

    assert event.uuid == plain.uuid
    assert plain.tag == OURS
    assert event.own == plain


@pytest.mark.parametrize("case", ["told-to-the-uploader", "in-2010"])
def test_an_upload_in_new_is_accepted_with_is_new_as_in_laniakea(case: str) -> None:
    event = became(fixture(f"dak_new/{case}"))

    assert (event.tag, event.name) == (ACCEPTED, "package-upload-queued-new")
    assert event.data["is_new"] is True
    # Its mail does not tell these.
    assert (event.data["changes"], event.data["uploader_name"], event.data["files"]) == ("", "", [])
    assert in_the_room(event.tag, event.data)


def test_what_waits_in_a_policy_queue_is_not_accepted() -> None:
    event = became(fixture("dak_accepted/held-in-a-policy-queue"))

    assert event.tag == "_lk.mailbridge.package-upload-held"


def test_an_upload_of_binaries_is_not_taken_for_one_with_its_source() -> None:
    event = became(fixture("dak_accepted/rebuilt-without-its-source"))

    assert event.tag == ACCEPTED
    assert not [key for key in event.data if key.startswith("source_")]
    assert event.own
    assert event.own.data["source_name"]


def test_an_upload_of_which_too_little_is_told_keeps_our_tag() -> None:
    listed = became(fixture("dak_accepted/accepted-in-2011-with-a-list-of-files"))
    nobody = ANNOUNCED.replace(b"Changed-By:", b"Changed-Bi:").replace(
        b"Maintainer:", b"Maintained:"
    )

    assert listed.tag == OURS
    assert not any(event.tag == ACCEPTED for event in examined(nobody).events)
    with pytest.raises(FormattingFailedError):
        in_the_room(ACCEPTED, listed.data)


def test_builds_go_out_so_if_their_job_is_told() -> None:
    failed = fixture("launchpad_build/failed")
    state = b"X-Launchpad-Build-State: "
    before, _, rest = failed.partition(state)
    waits = before + state + b"MANUALDEPWAIT\n" + rest.partition(b"\n")[2]

    assert became(failed).tag == f"{ARCHIVE}.package-build-failed"
    assert became(waits).tag == f"{ARCHIVE}.package-build-depwait"
    assert became(fixture("buildd/failed")).tag == "_lk.mailbridge.package-build-failed"


REMOVED: Final = """\
X-DAK: dak rm
X-Debian: DAK
Subject: Bug#1234: Removed package(s) from unstable
Message-Id: <rm@archive.example.org>
Debian-Suite: unstable
Debian-Source: hello

We believe that the bug you reported is now fixed; the following
package(s) have been removed from unstable:

{rows}

------------------- Reason -------------------
RoM; <b>dead</b> & gone
----------------------------------------------
"""
HELLO: Final = "     hello |     2.10-3 | source"


def test_one_source_package_that_is_gone_goes_out_so() -> None:
    event = became(REMOVED.format(rows=HELLO).encode())

    assert event.tag == f"{ARCHIVE}.package-src-removed"
    told = [event.data[key] for key in ("pkg_name", "pkg_version", "repo")]
    assert told == ["hello", "2.10-3", "example"]
    assert is_harmless(event)


@pytest.mark.parametrize(
    "rows", [f"{HELLO}\n       bye |        1-1 | source", " hello-bin |     2.10-3 | amd64"]
)
def test_several_packages_or_binaries_that_are_gone_keep_our_tag(rows: str) -> None:
    assert became(REMOVED.format(rows=rows).encode()).tag == "_lk.mailbridge.package-removed"


def test_news_without_a_tag_of_laniakea_s_keep_ours() -> None:
    tags = {e.tag for e in examined(fixture("debbugs_closed/by-a-mail")).events}

    assert tags == {"_lk.mailbridge.bug-closed"}


# -- what never does -------------------------------------------------------------------------------


@pytest.mark.edge(48)
@pytest.mark.parametrize("mark", ["X-Laniakea-Event: x", "x-laniakea-EVENT:", "X-LANIAKEA-Event: "])
def test_the_mark_of_laniakea_is_enough_wherever_it_stands(mark: str) -> None:
    marked = ANNOUNCED.replace(b"X-DAK:", f"{mark}\nX-DAK:".encode(), 1)

    assert not any(e.tag.startswith(ARCHIVE) for e in examined(marked).events)


@pytest.mark.edge(13, 48)
def test_the_mark_counts_around_a_mail_that_a_list_wrapped() -> None:
    wrapped = fixture("dak_accepted/announced-in-a-dmarc-wrap")

    assert became(wrapped).tag == ACCEPTED
    assert became(b"X-Laniakea-Event: package-accepted\n" + wrapped).tag == OURS


def test_made_up_mail_and_old_mail_never_do() -> None:
    made_up = b"X-Mailbridge-Generated: 1\n" + ANNOUNCED

    assert became(made_up, accept_test=True).tag.startswith("_lk.mailbridge-test.")
    assert became(ANNOUNCED, backfill=True).tag == OURS


def test_what_nothing_backs_never_does() -> None:
    # (The configuration refuses such a source; here nobody asked it.)
    assert became(ANNOUNCED, msgspec.structs.replace(CHANNEL, require="none")).tag == OURS


def test_what_falls_short_of_what_is_required_is_quarantined() -> None:
    hop = msgspec.structs.replace(CHANNEL, require="hop", hops=("archive.example.org",))
    found = examine(ANNOUNCED, hop, received=NOON)

    assert (found.outcome, found.code) == ("quarantined", "unproved")


# -- hostile words ---------------------------------------------------------------------------------


@pytest.mark.edge(75)
def test_markup_becomes_look_alikes() -> None:
    hostile = ANNOUNCED.decode()
    for line in ("Maintainer", "Changed-By"):
        start = hostile.index(f"\n{line}: ") + 1
        end = hostile.index("\n", start)
        evil = f'{line}: "<b>Jane</b> & {{repo}}" <jane&doe@example.org>'
        hostile = hostile[:start] + evil + hostile[end:]
    hostile = hostile.replace("   * ", "   * <script>alert(1)</script> {0} {repo.__class__} ", 1)

    event = became(hostile.encode())

    assert event.tag == ACCEPTED
    assert is_harmless(event)
    assert "\u2039script\u203aalert(1)" in event.data["changes"]
    assert "uploader_email" not in event.data, "an address with a look-alike is another's"
    assert "<script>" not in in_the_room(event.tag, event.data)
    assert "{0} {repo.__class__}" in in_the_room(event.tag, event.data)


def test_a_repository_of_several_lines_in_the_configuration_is_one() -> None:
    event = became(ANNOUNCED, msgspec.structs.replace(CHANNEL, repo="a\nBcc: x@example.org"))

    assert event.data["repo"] == "a Bcc: x@example.org"


def test_an_address_of_the_web_is_whole_or_left_out() -> None:
    data = {"url": "https://x/?a=1&b=2", "repo": "r", "upload_name": "u", "reason": "a < b"}

    form = standin.form("package-upload-rejected", data, repo="")

    assert form
    assert form.data == {"repo": "r", "upload_name": "u", "reason": "a \u2039 b"}


@pytest.mark.parametrize("wrong", [{"suite": 5}, {"files": "x"}, {"is_new": "no"}, {"repo": None}])
def test_a_key_of_another_type_keeps_our_tag(wrong: dict[str, Any]) -> None:
    data = became(ANNOUNCED).own
    assert data

    assert standin.form("package-upload-accepted", data.data | wrong, repo="x") is None


# -- configuration and policy ----------------------------------------------------------------------

SOURCE: Final = '[[source]]\nname = "a"\nmaildir = "/x"\nstand_in = true\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SOURCE, "source 'a': stand_in: needs require above 'none'"),
        (f'{SOURCE}require = "channel"', "source 'a': stand_in: needs mailgun_absent = true"),
        (f"mailgun_absent = true\n{SOURCE}", "source 'a': stand_in: needs require above 'none'"),
    ],
)
def test_it_is_refused_without_proof_and_the_operator_s_word(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "mailbridge.toml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=told) as caught:
        config.load(path)
    assert caught.value.exit_status == 78


def test_with_both_it_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mailbridge.toml"
    path.write_text(f'mailgun_absent = true\n{SOURCE}require = "channel"\n')

    assert config.load(path).source[0].stand_in
    assert main(["-c", str(path), "sources"]) == 0
    assert "  stand-in:     uploads under _lk.archive.*" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("configured", "line", "outcome"),
    [
        ("no", "", "held"),
        ("yes", "", "taken"),
        ("no", '"mailbridge.lists.example.org" = ["_lk.archive.*"]', "taken"),
        ("no", '"mailbridge.lists.example.org" = ["org.example.*"]', "held"),
    ],
)
def test_the_relay_lets_its_own_bridge_stand_in_only_where_that_is_configured(
    tmp_path: Path, signer: SigningKey, configured: str, line: str, outcome: str
) -> None:
    (tmp_path / "policy.toml").write_text(line)
    own = {signer.entity: signer.verify_key}
    gate = Gate(tmp_path, "relay.example.org", own, stand_in=configured == "yes")
    with Outbox(None, signer, now=NOON) as outbox:
        with outbox.transaction():
            for tag in (ACCEPTED, OURS, "org.example.x"):
                fields = {"id": tag, "tag": tag, "format": "1.0", "time": NOON.isoformat()}
                uuid = f"00000000-0000-5000-8000-{len(tag):012}"
                outbox.emit({**fields, "uuid": uuid, "data": {}}, mail=None, backfill=False)
        uploads, *others = [read_event(stored.raw) for stored in outbox.all()]

    for event in others:
        gate.admit(event)
    if outcome == "taken":
        gate.admit(uploads)
    else:
        with pytest.raises(NotPermitted, match=f"may not emit {ACCEPTED}"):
            gate.admit(uploads)


# -- the loop --------------------------------------------------------------------------------------

CHANGES: Final = Source(name="pureos-changes", maildir="/elsewhere", archive="Example")


class Site:
    """An outbox and the gateway before it."""

    def __init__(self, outbox: Outbox, directory: Path) -> None:
        self.outbox: Final = outbox
        self.gateway: Final = Gateway(
            outbox,
            Quarantine(directory / "quarantine"),
            Settings(stand_in=True),
            clock=lambda: NOON,
        )

    def deliver(self, *mails: bytes, by: Source = CHANNEL) -> list[Outcome]:
        return self.gateway.deliver([Delivery(raw, (by,), NOON) for raw in mails])

    @property
    def events(self) -> list[SignedEvent]:
        return [read_event(stored.raw) for stored in self.outbox.all()]

    @property
    def tags(self) -> list[str]:
        return [event.tag for event in self.events]


def codes(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.verdict.verdict} {o.verdict.code}".strip() for o in outcomes]


@pytest.fixture
def site(signer: SigningKey, tmp_path: Path) -> Iterator[Site]:
    with Outbox(None, signer, now=NOON) as outbox:
        yield Site(outbox, tmp_path)


@pytest.mark.edge(48)
@pytest.mark.parametrize("by", [CHANNEL, CHANGES], ids=["there", "elsewhere"])
@pytest.mark.parametrize("n", [0, 1], ids=["private", "announced"])
def test_what_comes_back_as_laniakea_s_mail_is_no_news_and_ends_it(
    site: Site, caplog: pytest.LogCaptureFixture, by: Source, n: int
) -> None:
    site.deliver(upload(1))
    (sent,) = site.events
    with caplog.at_level(logging.ERROR):
        outcomes = site.deliver(mailed(sent.tag, sent.data)[n], by=by)
    site.deliver(upload(2), upload(3), chat(4))

    assert codes(outcomes) == ["ignored loop"]
    assert (by.name, "ignored", "loop", 1) in site.outbox.counts()
    assert "a mailgun listens to us" in caplog.text
    assert "nothing goes out under _lk.archive.*" in site.gateway.alarms()[0]
    # The source goes on, under our own tags.
    assert site.tags == [ACCEPTED, OURS, OURS]


@pytest.mark.edge(48)
@pytest.mark.parametrize(
    "case",
    [
        "dak_new/told-to-the-uploader",
        "dak_rejected/by-a-person",
        "dak_accepted/rebuilt-without-its-source",
        "dak_accepted/announced",
        "dak_accepted/into-a-suite-and-a-queue",
        "launchpad_upload/announced",
    ],
)
def test_whatever_mailgun_would_make_of_our_events_is_known_again(site: Site, case: str) -> None:
    site.deliver(fixture(case), by=msgspec.structs.replace(CHANNEL, emit=("package-upload-held",)))
    every = [mail for event in site.events for mail in mailed(event.tag, event.data)]
    if not every:
        # (By no list: off by default.)
        by_list = b"List-Id: <changes.example.org>\n" + fixture(case)
        site.deliver(by_list)
        every = [mail for event in site.events for mail in mailed(event.tag, event.data)]

    assert every
    assert codes(site.deliver(*every, by=CHANGES)) == ["ignored loop"] * len(every)


def test_a_loop_within_one_batch_is_seen(site: Site) -> None:
    event = became(upload(1))
    _, announced = mailed(event.tag, event.data)

    outcomes = site.deliver(upload(1), announced, upload(2))

    assert codes(outcomes) == ["events", "ignored loop", "events"]
    assert site.tags == [ACCEPTED, OURS]


@pytest.mark.parametrize(
    "other",
    [
        {"repo": "elsewhere"},
        {"suite": "stable"},
        {"upload_name": "package1_1.9-1_source", "source_version": "1.9-1"},
    ],
)
def test_laniakea_s_mail_of_another_upload_is_news(site: Site, other: dict[str, str]) -> None:
    site.deliver(upload(1))
    (sent,) = site.events

    outcomes = site.deliver(*mailed(sent.tag, {**sent.data, **other}), by=CHANGES)

    assert codes(outcomes)[0] == "events"
    assert not site.gateway.alarms()
    assert set(site.tags[1:]) == {OURS}


def test_its_own_word_for_the_repository_counts(site: Site) -> None:
    site.deliver(upload(1))
    (sent,) = site.events
    renamed = msgspec.structs.replace(CHANGES, repo="as-we-call-it")

    assert codes(site.deliver(*mailed(sent.tag, sent.data), by=renamed)) == ["ignored loop"] * 2


def test_mail_of_laniakea_alone_is_taken_as_ever(site: Site) -> None:
    outcomes = site.deliver(fixture("laniakea_accepted/announced"), by=CHANGES)

    assert codes(outcomes) == ["events"]
    assert site.tags == [OURS]


def test_a_loop_that_is_refused_for_want_of_proof_ends_it_all_the_same(site: Site) -> None:
    site.deliver(upload(1))
    (sent,) = site.events
    strict = msgspec.structs.replace(CHANGES, require="hop", hops=("archive.example.org",))

    outcomes = site.deliver(*mailed(sent.tag, sent.data), by=strict)

    assert codes(outcomes) == ["ignored loop"] * 2
    assert not site.outbox.quarantined()
    assert site.gateway.alarms()


def test_another_process_on_this_outbox_heeds_it_too(site: Site, tmp_path: Path) -> None:
    site.deliver(upload(1))
    (sent,) = site.events
    Site(site.outbox, tmp_path).deliver(*mailed(sent.tag, sent.data), by=CHANGES)

    site.deliver(upload(2))

    assert site.tags == [ACCEPTED, OURS]


def test_news_that_stood_in_are_confirmed_by_the_tag_that_they_had(site: Site) -> None:
    host = "archive.example.org"
    strict = msgspec.structs.replace(CHANNEL, hops=(host,))
    hop = f"Received: from {host} ({host} [192.0.2.1]) by mx (Postfix)\n".encode()

    site.deliver(upload(1), hop + upload(1), by=strict)

    _, confirmed = site.events
    assert confirmed.tag == "_lk.mailbridge.event-confirmed"
    assert confirmed.data["of"] == ACCEPTED


def test_what_went_out_is_remembered_through_a_new_epoch(site: Site) -> None:
    site.deliver(upload(1))
    (sent,) = site.events
    site.outbox.begin_epoch(prev=None, known=[sent.uuid], ancestors=[site.outbox.feed], now=NOON)

    assert codes(site.deliver(*mailed(sent.tag, sent.data))) == ["ignored loop"] * 2


KNOWN: Final = Upload("r", "u_1_source", "s", "u", "1")


@pytest.mark.parametrize(
    "seen",
    [
        Upload("r", "u_1_source", "s", "", ""),
        Upload("r", "u_1_source", "", "", ""),
        Upload("r", "other", "s", "u", "1"),
        Upload("r", "other", "", "u", "1"),
    ],
)
def test_an_upload_is_known_again_by_its_name_or_by_its_source(site: Site, seen: Upload) -> None:
    with site.outbox.transaction():
        site.outbox.stand_ins.note(KNOWN)

    assert site.outbox.stand_ins.knows(seen)


@pytest.mark.parametrize(
    "seen",
    [
        Upload("r", "", "s", "", ""),
        Upload("r", "other", "s", "u", "2"),
        Upload("r", "other", "s", "", "1"),
        Upload("r", "u_1_source", "t", "u", "1"),
        Upload("", "u_1_source", "s", "u", "1"),
    ],
)
def test_an_upload_is_not_taken_for_another(site: Site, seen: Upload) -> None:
    with site.outbox.transaction():
        site.outbox.stand_ins.note(KNOWN)

    assert not site.outbox.stand_ins.knows(seen)


# -- the whole way ---------------------------------------------------------------------------------


def settings(tmp_path: Path, maildir: Path) -> Path:
    path = tmp_path / "mailbridge.toml"
    path.write_text(f"""
state = "{tmp_path}/state"
entity = "mailbridge.lists.example.org"
mailgun_absent = true
[[source]]
name = "archive"
maildir = "{maildir}"
archive = "Example"
existing = "emit"
require = "channel"
stand_in = true
""")
    return path


@pytest.mark.edge(48)
def test_a_reader_gets_laniakea_s_tags_until_the_loop_closes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maildir = make_maildir(tmp_path / "Maildir")
    toml = settings(tmp_path, maildir)
    with Daemon("-c", toml, "run", *LOOPBACK) as service:
        read = service.ready()["read"]
        assert "uploads of 'archive' go out under _lk.archive.*" in service.said
        put(maildir, upload(1), "1")
        (sent,) = read_events(read, tmp_path / "state", 1)
        for n, mail in enumerate(mailed(sent.tag, sent.data)):
            put(maildir, mail, f"back-{n}")
        service.says("a mailgun listens to us")
        put(maildir, upload(2), "2")
        events = read_events(read, tmp_path / "state", 2)
        main(["-c", str(toml), "status", "--json"])
        main(["-c", str(toml), "status"])
        told, _, words = capsys.readouterr().out.partition("\n")
        assert service.stop() == 0
    with Daemon("-c", toml, "run", *LOOPBACK) as again:
        again.says("stand_in counts again")
        read = again.ready()["read"]
        put(maildir, upload(3), "3")
        events = read_events(read, tmp_path / "state", 3)
        assert again.stop() == 0

    assert [event.tag for event in events] == [ACCEPTED, OURS, ACCEPTED]
    assert "a mailgun listens" in json.loads(told)["outbox"]["stand_in_off"]
    assert "nothing goes out under _lk.archive.*: Laniakea mails what we said" in words


def test_a_bridge_whose_config_nobody_checked_refuses_it_too(tmp_path: Path) -> None:
    unchecked = Config(state=f"{tmp_path}/state", source=(CHANNEL,))

    with (
        pytest.raises(ConfigError, match="mailgun_absent"),
        bridge(unchecked, accept_test=False, sending=False),
    ):
        pass
