"""How times, durations and reasons read."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.plan.wording import because, duration_words, instant_words
from tests.support.schedules import DAY, HOUR, MINUTE, NOON, from_noon


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1 s"),
        (1_500, "1.5 s"),
        (59_999, "59.999 s"),
        (MINUTE, "1 min"),
        (90_000, "1 min 30 s"),
        (90_900, "1 min 30 s"),
        (HOUR, "1 h"),
        (HOUR + 30 * MINUTE, "1 h 30 min"),
        (HOUR + 30_000, "1 h 30 s"),
        (HOUR + MINUTE + 1_000, "1 h 1 min"),
        (DAY + 6 * HOUR, "1 d 6 h"),
        (366 * DAY, "366 d"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(milliseconds=250, microseconds=900), "250 ms"),
    ],
)
def test_duration_reads_in_at_most_two_units(duration: int | timedelta, words: str) -> None:
    assert duration_words(duration) == words


@given(st.integers(1, 366 * DAY))
def test_duration_is_never_empty_and_never_has_a_zero_part(milliseconds: int) -> None:
    parts = duration_words(milliseconds).split(" ")
    assert len(parts) in (2, 4)
    assert all(float(number) > 0 for number in parts[::2])


def test_instant_of_the_same_day_reads_without_its_date() -> None:
    assert instant_words(from_noon(minutes=5), NOON) == "12:05 UTC"


def test_instant_reads_with_seconds_where_it_has_some() -> None:
    assert instant_words(from_noon(seconds=2, milliseconds=400), NOON) == "12:00:02 UTC"


def test_instant_of_another_day_reads_with_its_date() -> None:
    assert instant_words(from_noon(hours=12), NOON) == "2026-03-03 00:00 UTC"
    assert instant_words(from_noon(days=-1, seconds=1), NOON) == "2026-03-01 12:00:01 UTC"


@pytest.mark.parametrize(
    ("reason", "clause"),
    [
        ("queue_depth is 412", " because queue_depth is 412"),
        ("queue_depth is 412. ", " because queue_depth is 412"),
        ("two\n lines!", " because two lines"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_reason_ends_a_clause(reason: str, clause: str) -> None:
    assert because(reason) == clause
