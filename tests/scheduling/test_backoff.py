"""Waits: before a retry, by Retry-After, and by jitter."""

from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.plan.backoff import parse_retry_after, retry_delay_ms, stable_jitter
from tests.support.schedules import NOON, from_noon


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
    ("value", "until"),
    [
        ("0", NOON),
        ("120", from_noon(minutes=2)),
        (" 120\t", from_noon(minutes=2)),
        ("0120", from_noon(minutes=2)),
        ("86400", from_noon(hours=24)),
        ("86401", from_noon(hours=24)),
        ("31622400", from_noon(hours=24)),
        ("Mon, 02 Mar 2026 12:02:00 GMT", from_noon(minutes=2)),
        ("Monday, 02-Mar-26 12:02:00 GMT", from_noon(minutes=2)),
        ("Mon Mar  2 12:02:00 2026", from_noon(minutes=2)),
        ("Mon, 02 Mar 2026 12:00:00 GMT", NOON),
        ("Wed, 04 Mar 2026 12:00:00 GMT", from_noon(hours=24)),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(value: str, until: datetime) -> None:
    assert parse_retry_after(value, NOON) == until


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "-1",
        "+5",
        "1.5",
        "1e3",
        "1_000",
        "5 seconds",
        "\u0661\u0662",
        "31622401",
        "99999999999",
        "9" * 10_000,
        "Mon, 02 Mar 2026 11:59:59 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Thu, 02 Mar 2028 12:00:00 GMT",
        "Mon, 31 Feb 2026 12:00:00 GMT",
        "Mon, 02 Mar 2026 25:00:00 GMT",
        "Mon, 02 Foo 2026 12:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "2026-03-02T12:02:00Z",
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_retry_after_that_means_nothing_is_ignored(value: str) -> None:
    assert parse_retry_after(value, NOON) is None


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{1,9} [-+A-Z0-9]{1,6}"))
def test_no_header_breaks_the_parser_or_leaves_its_bounds(value: str) -> None:
    until = parse_retry_after(value, NOON)
    assert until is None or NOON <= until <= from_noon(hours=24)


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
