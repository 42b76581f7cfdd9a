"""The numbers that lists give their mails, and what is told of those that never came."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge.bridge.gaps import AGREE, GRACE, QUIET, Gap, Series, came, due, filled
from mailbridge.mail import Mail, read_mail
from mailbridge.numbering import ListNumber, numbered

LIST: Final = "changes.lists.example.org"


def _mail(*headers: str, list_id: str = f"List-Id: <{LIST}>") -> Mail:
    lines = [line for line in (*headers, list_id) if line]
    return read_mail("\n".join((*lines, "Subject: x", "", "x", "")).encode())


# -- reading them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        ("X-Mailing-List: <changes@lists.example.org> archive/latest/417",),
        ("X-Mailing-List: <Changes@Lists.example.org> archive/latest/417",),
        ("X-Sequence: 417", "X-Loop: changes@lists.example.org"),
        ("X-Mail-Count: 00417", "X-ML-Name: changes"),
        ("Return-Path: <changes-return-417-reader=example.net@lists.example.org>",),
    ],
    ids=["smartlist", "case", "sympa", "fml", "ezmlm"],
)
def test_a_list_s_software_tells_the_number_of_a_mail(headers: tuple[str, ...]) -> None:
    assert numbered(_mail(*headers)) == ListNumber(LIST, 417)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("X-Mailing-List: changes@lists.example.org",),
        ("X-Mailing-List: <other@lists.example.org> archive/latest/417",),
        ("X-Mailing-List: <changes@lists.example.org> archive/latest/4170000000",),
        ("X-Mailing-List: <changes@lists.example.org> archive/latest/-1",),
        ("X-Mailing-List: <changes@lists.example.org> archive/latest/\uff11",),
        (
            "X-Mailing-List: <changes@lists.example.org> archive/latest/417",
            "X-Mailing-List: <changes@lists.example.org> archive/latest/9",
        ),
        ("X-Sequence: 417",),
        ("X-Sequence: 417", "X-Loop: other@lists.example.org"),
        ("X-Mail-Count: 417", "X-ML-Name: chang"),
        ("Return-Path: <changes-return-x-y@lists.example.org>",),
    ],
)
def test_what_is_no_number_of_this_very_list_counts_for_nothing(headers: tuple[str, ...]) -> None:
    assert numbered(_mail(*headers)) is None


def test_a_number_without_a_list_counts_for_nothing() -> None:
    told = "X-Mailing-List: <changes@lists.example.org> archive/latest/417"

    assert numbered(_mail(told, list_id="")) is None


# -- what is missing -------------------------------------------------------------------------------


def _after(*numbers: int, now: int = 0, series: Series | None = None) -> Series:
    for number in numbers:
        series = came(series, number, now)
    assert series
    return series


def _told(series: Series, now: int) -> Gap | None:
    return due(series, now)[1]


def test_the_first_number_that_is_seen_begins_and_nothing_is_missing() -> None:
    assert _told(_after(301_320), GRACE) is None


def test_a_number_that_never_comes_is_told_when_its_time_is_over_and_once() -> None:
    series = _after(1, 2, 4)

    assert _told(series, GRACE - 1) is None
    series, gap = due(series, GRACE)
    assert gap == Gap(3, 3, 1)
    assert series.told == 1
    assert _told(series, 10 * GRACE) is None


def test_mails_that_overtake_each_other_are_no_gap() -> None:
    series = _after(1, 5, 3, 2, 4, 6)

    assert (series.missing, series.high) == ((), 6)


def test_what_came_late_is_not_told_with_what_did_not_come() -> None:
    series = _after(1, 9, 4)

    assert _told(series, GRACE) == Gap(2, 8, 6)


def test_a_list_tells_one_gap_an_hour_however_many_there_are() -> None:
    series = _after(1, 3, 5, 7)
    series, gap = due(series, GRACE)
    assert gap == Gap(2, 6, 3)
    for number in range(9, 100, 2):
        series = came(series, number, GRACE)
    later = GRACE + GRACE
    series, gap = due(series, later)
    assert gap == Gap(8, 98, 46)
    series = came(series, 101, later - GRACE)
    assert _told(series, later + QUIET - 1) is None
    assert _told(series, later + QUIET) == Gap(100, 100, 1)


def test_one_huge_number_by_a_stranger_changes_nothing() -> None:
    series = _after(10, 11, 999_999_999, 12, 13)

    assert (series.high, series.missing) == (13, ())


def test_strangers_with_huge_numbers_that_do_not_agree_change_nothing() -> None:
    series = _after(10, *range(10_000_000, 20_000_000, 100_000), 11)

    assert (series.high, series.missing) == (11, ())


def test_strangers_whose_numbers_do_agree_are_forgotten_when_the_list_goes_on() -> None:
    series = _after(10, 900_000, 900_001, 900_002, 900_003)
    assert series.high == 900_003
    series = _after(11, 12, 13, 14, series=series)

    assert (series.high, series.missing) == (14, ())


def test_a_mailbox_that_was_away_for_weeks_is_told_all_that_it_missed() -> None:
    there = range(10_000, 10_000 + AGREE)
    series = _after(10, *there)

    assert _told(series, GRACE) == Gap(11, 9_999, 9_989)


@pytest.mark.parametrize("high", [50, 301_320])
def test_a_list_that_begins_to_count_anew_is_no_gap(high: int) -> None:
    series = _after(high, 1, 2, 3, 4, 5)

    assert (series.high, series.missing) == (5, ())
    assert _told(_after(7, series=series), GRACE) == Gap(6, 6, 1)


def test_two_subscriptions_to_one_list_are_no_gap_though_one_lags_behind() -> None:
    leading, series = range(1, 200), None
    for number in leading:
        series = came(series, number, 0)
        if number > 30:
            series = came(series, number - 30, 0)

    assert series == Series(high=199, odd=(169,))


def test_what_is_brought_in_by_hand_is_not_missing_any_more() -> None:
    series = filled(filled(_after(1, 5), 3), 99)

    assert series.missing == ((2, 2, 0), (4, 4, 0))


@given(st.lists(st.integers(0, 10**9), max_size=400), st.integers(0, 10**6))
def test_whatever_numbers_come_what_is_remembered_stays_small(numbers: list[int], n: int) -> None:
    series: Series | None = None
    told = 0
    for at, number in enumerate(numbers):
        series = came(series, number, at * n)
        series, gap = due(series, at * n)
        told += gap is not None
        assert len(series.missing) <= 200
        assert len(series.odd) < AGREE
        assert all(first <= last <= series.high for first, last, _ in series.missing)
    assert told <= 1 + len(numbers) * n // QUIET


@given(st.permutations(range(1, 60)))
def test_in_whatever_order_they_come_nothing_of_all_is_missing(numbers: list[int]) -> None:
    assert _after(0, *numbers) == Series(high=59)


def test_numbers_of_a_feed_of_years_cost_nothing() -> None:
    series = _after(*range(1, 20_000))

    assert series == Series(high=19_999)
