"""How kinds are asked, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailbridge import kinds
from mailbridge.errors import MalformedMail
from mailbridge.family import Family, NoEvent
from mailbridge.kinds import Answer, Kind, Site, recognise
from mailbridge.mail import Mail, read_mail
from mailbridge.payloads import Event, PackageUploadQueuedNew

NEWS = Event(
    payload=PackageUploadQueuedNew(repo="x", upload_name="y", is_new=True), identity={"n": 1}
)


def kind(name: str, answer: Callable[[], Answer], family: Family = Family.DAK) -> Kind:
    def recognise_it(_mail: Mail, _site: Site, _archive: str) -> Answer:
        return answer()

    return Kind(
        name=name,
        summary="A kind.",
        family=family,
        payloads=(PackageUploadQueuedNew,),
        attested="real mails",
        recognise=recognise_it,
    )


def broken() -> Answer:
    raise MalformedMail("it lacks\nsomething")


def buggy() -> Answer:
    raise KeyError("\x1b[31mnobody thought of it")


@pytest.fixture
def mail() -> Mail:
    return read_mail(b"X-DAK: dak process-upload\n\nx\n")


def test_the_one_kind_that_claims_a_mail_says_what_it_is(mail: Mail) -> None:
    known = [kind("one", lambda: None), kind("two", lambda: [NEWS])]

    found = recognise(mail, Site(archive="Example"), known=known)

    assert (found.outcome, found.family, found.kind) == ("events", "dak", "two")
    assert (found.archive, found.events) == ("Example", (NEWS,))


def test_a_mail_that_is_nobodys_is_ignored_and_counted(mail: Mail) -> None:
    found = recognise(mail, Site(), known=[kind("one", lambda: None)])

    assert (found.outcome, found.family, found.code) == ("ignored", "dak", "no-kind")


def test_a_kind_is_asked_about_mail_of_its_family_alone(mail: Mail) -> None:
    found = recognise(mail, Site(), known=[kind("one", buggy, Family.DEBBUGS)])

    assert found.code == "no-kind"


def test_a_kind_may_say_that_nothing_comes_of_its_mail(mail: Mail) -> None:
    found = recognise(mail, Site(), known=[kind("one", lambda: NoEvent("embargoed", "hush"))])

    assert (found.outcome, found.kind, found.code, found.reason) == (
        "ignored",
        "one",
        "embargoed",
        "hush",
    )


def test_what_its_kind_cannot_read_is_quarantined(mail: Mail) -> None:
    found = recognise(mail, Site(), known=[kind("one", broken)])

    assert (found.outcome, found.kind, found.code) == ("quarantined", "one", "malformed")
    assert found.reason == "it lacks something"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([buggy], "KeyError"),
        ([lambda: [NEWS], lambda: [NEWS]], "kind0 and kind1 claim one mail"),
        ([lambda: [NEWS], broken], "kind0 and kind1 claim one mail"),
        ([list], "kind0 claims a mail, and says nothing of it"),
    ],
)
def test_a_bug_of_ours_costs_one_mail_its_event_and_is_told_in_one_line(
    mail: Mail, answers: list[Callable[[], Answer]], reason: str
) -> None:
    known = [kind(f"kind{n}", answer) for n, answer in enumerate(answers)]

    found = recognise(mail, Site(), known=known)

    assert (found.outcome, found.family, found.code) == ("quarantined", "dak", "bug")
    assert found.reason is not None
    assert reason in found.reason
    assert found.reason.isprintable()


def test_kinds_are_found_by_themselves_and_each_event_has_one_payload() -> None:
    names = [known.name for known in kinds.kinds()]
    payloads = {payload for known in kinds.kinds() for payload in known.payloads}

    assert names == sorted(names)
    assert len(kinds.payloads()) == len({payload.NAME for payload in payloads}) == len(payloads)


def test_a_kind_is_called_after_its_family_and_so_found_without_loading_others() -> None:
    found = [kind for family in Family for kind in kinds.of_family(family)]

    assert sorted(found, key=lambda kind: kind.name) == list(kinds.kinds())
    assert all(kind in kinds.of_family(kind.family) for kind in kinds.kinds())
