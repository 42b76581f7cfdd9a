"""What goes wrong with made-up mail, each fault for itself, and what the bridge makes of it."""

from __future__ import annotations

from email import message_from_bytes

import pytest

from mailbridge.config import Source
from mailbridge.traffic import FAULTS, WORDS, Post
from tests.madeup import MAX_MAIL, examined, matched, posts


def _hit(fault: str, count: int = 300) -> list[Post]:
    """Return the mails among *count* that *fault* happened to."""
    found = [p for p in posts(count, faults=[fault]) if p.what.endswith(f" {fault}")]
    assert found
    return found


def test_a_mail_that_was_cut_off_goes_to_quarantine() -> None:
    for post in _hit("truncated"):
        told = examined(post)

        assert (told.outcome, told.events) == ("quarantined", ()), post.what


@pytest.mark.edge(13)
def test_a_mail_that_its_list_wrapped_is_unwrapped_and_says_what_was_inside() -> None:
    for post in _hit("wrapped"):
        told = examined(post)

        assert message_from_bytes(post.raw).get_content_type() == "message/rfc822"
        assert matched(told.emitted, post.news) is not None, post.what
        assert told.list_id == "demo-mirror.lists.example.org"


def test_what_was_tampered_with_is_told_as_it_came_by_who_cannot_check_it() -> None:
    for post in _hit("tampered"):
        told = examined(post)

        assert matched(told.emitted, post.news) is not None
        assert [event.data["provenance"]["signed_by"] for event in told.emitted] == [
            {"how": "none", "status": "none"}
        ]


def test_what_was_tampered_with_is_another_upload_than_what_was_sent() -> None:
    story = posts(400, faults=["tampered"])
    told = {n.key: {e.uuid for e in examined(p).emitted} for p in story for n in p.news}
    both = [key for key in told if f"tampered {key}" in told]

    assert len(both) > 5
    assert [key for key in both if told[key] & told[f"tampered {key}"]] == []


def test_what_was_tampered_with_is_kept_from_who_requires_the_archives_signature() -> None:
    wary = Source(name="wary", maildir="unused", require="archive-signature")
    for post in _hit("tampered"):
        told = examined(post, wary)

        assert (told.outcome, told.code, told.emitted) == ("quarantined", "unproved", ())


def test_a_mail_that_is_too_large_is_quarantined_unread() -> None:
    post = _hit("oversize")[0]
    assert len(post.raw) > MAX_MAIL
    told = examined(post)

    assert (told.outcome, told.events, post.news) == ("quarantined", (), ())
    assert f"{len(post.raw)} bytes, more than the {MAX_MAIL} allowed" in (told.reason or "")
    assert examined(post, max_mail=4 * MAX_MAIL).emitted


@pytest.mark.fault(73)
def test_other_news_under_an_old_message_id_is_not_suppressed() -> None:
    """Both orders: whoever comes first cannot silence who comes second."""
    story = posts(300, faults=["resent"])
    ids = [message_from_bytes(post.raw)["Message-ID"] for post in story]
    reused = [
        (story[ids.index(own)], post)
        for n, (post, own) in enumerate(zip(story, ids, strict=True))
        if own in ids[:n] and b"\nResent-Message-ID" not in post.raw.partition(b"\n\n")[0]
    ]
    news = {n.key for post in story for n in post.news}

    # (Both mails about a closed bug are one piece of news.)
    other = [(a, b) for a, b in reused if {n.key for n in a.news}.isdisjoint(n.key for n in b.news)]

    assert len(other) > 3
    for first, second in other:
        assert {e.uuid for e in examined(first).events}.isdisjoint(
            e.uuid for e in examined(second).events
        )
    assert all(n.key in news for _, second in other for n in second.news)


def test_old_news_that_somebody_sent_on_is_the_same_event_whatever_its_message_id() -> None:
    story = posts(500, faults=["resent"])
    firsts = {n.key: p for p in reversed(story) for n in p.news}
    anew = 0
    for post in story:
        if post.what.endswith(" resent") and b"\nResent-Date: " in post.raw:
            for news in post.news:
                first = firsts[news.key]
                anew += _id(first) != _id(post)
                assert {e.uuid for e in examined(first).emitted} == {
                    e.uuid for e in examined(post).emitted
                }

    assert anew


def _id(post: Post) -> str | None:
    return message_from_bytes(post.raw)["Message-ID"]


def test_whatever_happened_to_it_no_bridge_believes_made_up_mail_unasked() -> None:
    for post in posts(600, faults=FAULTS, mix=dict.fromkeys(WORDS, 1)):
        told = examined(post, everything=True, accept_test=False)

        assert told.events == (), post.what
        assert told.code in {"generated", "malformed"}, post.what
