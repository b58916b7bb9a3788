"""Waits: before a retry, after failures, and by jitter."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.plan.backoff import backoff_gap, retry_delay_ms, stable_jitter


@pytest.mark.parametrize(
    ("attempt", "delay_ms"),
    [(1, 2_000), (2, 4_000), (3, 8_000), (7, 128_000), (8, 256_000), (9, 300_000), (10, 300_000), (10**9, 300_000)],
)
def test_delay_doubles_up_to_five_minutes(attempt: int, delay_ms: int) -> None:
    assert retry_delay_ms(attempt, seed="") == delay_ms


@given(st.integers(1, 30), st.text(min_size=1))
def test_delay_is_spread_by_at_most_a_tenth_and_never_shortened(attempt: int, seed: str) -> None:
    base = retry_delay_ms(attempt, seed="")
    assert base <= retry_delay_ms(attempt, seed=seed) <= base * 1.1
    assert retry_delay_ms(attempt, seed=seed) == retry_delay_ms(attempt, seed=seed)


def test_endpoints_that_failed_together_come_back_apart() -> None:
    delays = {retry_delay_ms(9, seed=str(number)) for number in range(1_000)}
    assert len(delays) > 900
    assert max(delays) - min(delays) > 25_000


def test_delays_of_one_slot_are_not_spread_alike() -> None:
    shares = {retry_delay_ms(attempt, seed="a slot") - retry_delay_ms(attempt, seed="") for attempt in (9, 10, 11)}
    assert len(shares) == 3


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="count from 1"):
        retry_delay_ms(attempt, seed="")


@pytest.mark.parametrize(
    ("failing_for_s", "gap_s"),
    [(-5, 60), (0, 60), (59, 60), (60, 120), (179, 120), (180, 240), (420, 480), (900, 960), (1_860, 1_920)],
)
def test_back_off_doubles_with_the_time_failing_measured_in_intervals(failing_for_s: int, gap_s: int) -> None:
    assert backoff_gap(timedelta(minutes=1), timedelta(seconds=failing_for_s)) == timedelta(seconds=gap_s)


@given(st.integers(1, 366 * 86_400), st.integers(0, 10**9))
def test_back_off_is_about_as_long_as_the_endpoint_has_been_failing(interval_s: int, failing_s: int) -> None:
    interval, failing_for = timedelta(seconds=interval_s), timedelta(seconds=failing_s)
    assert interval <= backoff_gap(interval, failing_for) <= failing_for + interval


@given(st.uuids(), st.integers(0, 86_400_000))
def test_jitter_stays_inside_its_bound_and_never_changes(endpoint_id: UUID, jitter_ms: int) -> None:
    jitter = stable_jitter(endpoint_id, jitter_ms)
    assert timedelta(0) <= jitter <= timedelta(milliseconds=jitter_ms)
    assert jitter == stable_jitter(UUID(str(endpoint_id)), jitter_ms)


def test_jitter_is_spread_evenly_over_ids() -> None:
    # Time-ordered ids, as the database makes them: they share their leading bits.
    ids = [UUID(int=(0x0198C0DE << 96) | (7 << 76) | number) for number in range(4_000)]
    counts = Counter(stable_jitter(endpoint_id, 3) // timedelta(milliseconds=1) for endpoint_id in ids)
    assert sorted(counts) == [0, 1, 2, 3]
    assert all(850 < count < 1_150 for count in counts.values())
