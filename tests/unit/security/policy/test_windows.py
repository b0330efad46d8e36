"""Claims about time windows and rates."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from qedge.security.policy.model import Window
from qedge.security.policy.rates import RateBook
from qedge.security.policy.windows import Windows, spans

S = 1_000_000_000


def minute(text: str, zone: str = "UTC") -> int:
    """Return the minute since 1970 at which clocks of a zone show a time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) // 60


def test_a_window_past_midnight_belongs_to_the_day_it_begins_on() -> None:
    night = Windows((Window(("fri",), "22:00", "06:00"),), "UTC")
    assert not night.is_open(minute("2027-01-01T21:59"))
    assert night.is_open(minute("2027-01-01T22:00"))
    assert night.is_open(minute("2027-01-02T05:59"))
    assert not night.is_open(minute("2027-01-02T06:00"))
    assert not night.is_open(minute("2027-01-02T23:00"))


def test_the_week_is_round() -> None:
    assert spans((Window(("sun",), "23:00", "01:00"),)) == ((0, 60), (6 * 1440 + 1380, 7 * 1440))


def test_whole_days_are_open_to_their_last_minute() -> None:
    days = Windows((Window(("sat", "sun")),), "UTC")
    assert days.is_open(minute("2027-01-02T00:00"))
    assert days.is_open(minute("2027-01-03T23:59"))
    assert not days.is_open(minute("2027-01-04T00:00"))


@pytest.mark.parametrize("day", ["2027-03-26", "2027-03-29", "2027-10-29", "2027-11-01"])
def test_a_zone_opens_by_its_own_clocks_in_summer_and_in_winter(day: str) -> None:
    shift = Windows((Window(begin="06:00", until="14:00"),), "Europe/Vienna")
    assert not shift.is_open(minute(f"{day}T05:59", "Europe/Vienna"))
    assert shift.is_open(minute(f"{day}T06:00", "Europe/Vienna"))
    assert not shift.is_open(minute(f"{day}T14:00", "Europe/Vienna"))


def test_the_hour_that_comes_twice_is_open_both_times() -> None:
    hour = Windows((Window(begin="02:00", until="03:00"),), "Europe/Vienna")
    first = int(datetime(2027, 10, 31, 0, 30, tzinfo=UTC).timestamp()) // 60
    assert [hour.is_open(first + 60 * hours) for hours in (-1, 0, 1, 2)] == [False, True, True, False]


def test_a_window_answers_anew_when_the_minute_goes_back() -> None:
    noon = Windows((Window(begin="12:00", until="12:01"),), "UTC")
    at = minute("2027-01-04T12:00")
    assert [noon.is_open(at + step) for step in (0, 1, 0, -1)] == [True, False, True, False]


# Rates

KEY = ("rule", "device", "d1")


def test_in_the_long_run_a_subject_gets_its_rate_and_never_more() -> None:
    book = RateBook()
    taken = sum(book.take(KEY, S // 10, 5 * (S // 10), now) for now in range(0, 10 * S, S // 100))
    assert taken == 5 + 99


def test_rates_of_subjects_are_forgotten_generation_by_generation_never_beyond_the_bound() -> None:
    book = RateBook(max_kept=100)
    for number in range(10_000):
        book.take(("rule", "device", f"d{number}"), S, S, 0)
    assert len(book) <= 200


def test_a_subject_that_keeps_asking_is_not_forgotten_whoever_else_asks() -> None:
    book = RateBook(max_kept=100)
    assert book.take(KEY, S, S, 0)
    for number in range(1000):
        book.take(("rule", "device", f"d{number}"), S, S, 0)
        assert not book.take(KEY, S, S, 0)


def test_a_rule_that_got_slower_makes_nobody_wait_longer_than_from_empty() -> None:
    book = RateBook()
    for _ in range(100):
        assert book.take(KEY, 100 * S, 100 * 100 * S, 0)
    assert not book.take(KEY, S, S, 0)
    assert book.take(KEY, S, S, S)
