"""The bench of the whole loop, run in small: so it works on the day when it is run in large."""

from __future__ import annotations

import pytest

from mailbridge.traffic import News
from tests.bench import loop


def test_what_is_delivered_at_a_rate_comes_out_of_the_reader_as_the_story_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real processes, every kind of mail, every fault, signatures and all."""
    words = ["--minutes", "0.02", "--rate", "200", "--mix", "all", "--sign"]
    status = loop.main(words)
    told = capsys.readouterr().out

    assert status == 0
    assert "sets equal                yes" in told
    assert "240, " in told


def test_an_event_that_lacks_or_is_too_much_or_came_twice_is_told() -> None:
    news = [News("bug-closed", {"bug": n, "title": "x"}, str(n)) for n in (1, 2)]
    tag = news[0].tag
    first, second, third = (
        (tag, str(n), {"bug": n, "title": "x", "via": "mail"}) for n in (1, 2, 3)
    )

    assert loop._differences([first, second], news) == []
    assert loop._differences([first], news) == ["0 events instead of one: 2"]
    assert loop._differences([first, second, third], news) == [f"nobody expected {tag} {third[2]}"]
    assert loop._differences([first, first, second], news)[-1] == "1 events came twice"
