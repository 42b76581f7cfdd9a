"""The story that made-up mail tells makes sense: versions rise, what is stuck never comes."""

from __future__ import annotations

from collections import defaultdict

import pytest
from debian.debian_support import Version

from mailbridge.traffic import News
from tests.madeup import posts

MIX = {"uploads": 5, "bugs": 4, "migrations": 2, "control": 1}
COUNT = 2000


@pytest.fixture(scope="module")
def told() -> list[News]:
    """What two thousand mails tell, each piece of news once, in the order in which it comes."""
    found: dict[str, News] = {}
    for post in posts(COUNT, seed=11, mix=MIX):
        for news in (*post.news, *post.off):
            found.setdefault(news.key, news)
    return list(found.values())


def _accepted(told: list[News]) -> list[News]:
    return [news for news in told if news.name == "package-upload-accepted"]


def _upload(news: News) -> tuple[str, str]:
    # (A list of files tells no version; what makes it that news does.)
    return news.data["source_name"], news.data.get("source_version") or news.key.split()[-2]


def test_versions_rise_in_every_suite(told: list[News]) -> None:
    newest: dict[tuple[str, str], Version] = {}
    raised = 0
    for news in _accepted(told):
        if news.data.get("is_binnmu"):
            continue
        name, upstream = _upload(news)
        # (A list of files tells no suite.)
        place, version = (name, news.data.get("suite", "unstable")), Version(upstream)
        raised += place in newest
        assert place not in newest or newest[place] < version, news.key
        newest[place] = version

    assert raised > 300


def test_what_is_rebuilt_was_there_before(told: list[News]) -> None:
    """Or when the story began, and then nobody uploads it any more."""
    accepted = _accepted(told)
    binaries = [(n, news) for n, news in enumerate(accepted) if news.data.get("is_binnmu")]
    sources: dict[tuple[str, str], int] = {}
    for n, news in enumerate(accepted):
        if not news.data.get("is_binnmu"):
            sources.setdefault(_upload(news), n)

    assert len(binaries) > 10
    assert [news.key for n, news in binaries if sources.get(_upload(news), -1) > n] == []


def test_an_upload_closes_bugs_that_were_reported_before_and_each_once(told: list[News]) -> None:
    reported: set[int] = set()
    accepted: set[tuple[str, str]] = set()
    promised: set[int] = set()
    closed: set[int] = set()
    for news in told:
        if news.name == "bug-reported":
            reported.add(news.data["bug"])
        elif news.name == "package-upload-accepted":
            closes = set(news.data.get("closes", ()))
            assert closes <= reported, news.key
            assert not closes & promised, news.key
            promised |= closes
            accepted.add(_upload(news))
        elif news.name == "bug-closed":
            bug = news.data["bug"]
            assert bug in reported
            assert bug not in closed
            closed.add(bug)
            if news.data["via"] == "upload":
                assert bug in promised
                assert (news.data["fixed_source"], news.data["fixed_version"]) in accepted

    assert len(closed) > 200


def test_what_waits_comes_after_it_waited_and_some_never(told: list[News]) -> None:
    waiting: dict[str, str] = {}
    came: set[str] = set()
    for news in told:
        if news.name in {"package-upload-queued-new", "package-upload-held"}:
            waiting[news.data["upload_name"]] = news.data["source_name"]
        elif news.name == "package-upload-accepted":
            name = news.data.get("upload_name") or news.key.split()[-1]
            if name in waiting:
                came.add(name)
    stuck = set(waiting) - came
    accepted = {news.data.get("upload_name") or news.key.split()[-1] for news in _accepted(told)}

    assert len(came) > 20
    assert len(stuck) > 10
    assert not stuck & accepted


def test_what_is_stuck_fixes_no_bug_and_others_pass_it_by(told: list[News]) -> None:
    waited = {
        _upload(news)
        for news in told
        if news.name == "package-upload-queued-new" and "source_version" in news.data
    }
    accepted = {_upload(news) for news in _accepted(told)}
    stuck = waited - accepted
    fixed = {
        (news.data["fixed_source"], news.data["fixed_version"])
        for news in told
        if news.name == "bug-closed" and news.data["via"] == "upload"
    }
    versions: dict[str, list[Version]] = defaultdict(list)
    for name, version in accepted:
        versions[name].append(Version(version))
    passed = [name for name, version in stuck if max(versions[name]) > Version(version)]

    assert not stuck & fixed
    assert passed


def test_nothing_migrates_that_was_not_accepted_before(told: list[News]) -> None:
    accepted: set[tuple[str, str]] = set()
    testing: dict[str, str] = {}
    migrated = 0
    for news in told:
        if news.name == "package-upload-accepted":
            accepted.add(_upload(news))
        elif news.name in {"package-migrated", "package-migrated-away"}:
            name, new = news.data["source_name"], news.data["version_new"]
            old = news.data["version_old"]
            assert testing.get(name, old) == old, news.key
            assert new == "-" or name in testing or (name, new) in accepted, news.key
            assert new == "-" or old == "-" or Version(old) < Version(new), news.key
            testing[name] = new
            migrated += new != "-"

    assert migrated > 50
