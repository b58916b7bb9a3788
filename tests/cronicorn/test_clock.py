"""The database's clock as a worker knows it: never ahead, and late by no more than its fastest statement took."""

import itertools
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronicorn.runtime.clock import DatabaseClock

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MS = 1_000_000
# Since the last statement, to the database, and back again; in milliseconds.
statements = st.lists(
    st.tuples(st.integers(0, 60_000), st.integers(0, 30_000), st.integers(0, 30_000)), min_size=1, max_size=30
)


def real_at(monotonic_ns: int) -> datetime:
    """The database's time at a monotonic time."""
    return NOON + timedelta(microseconds=monotonic_ns // 1000)


def play(clock: DatabaseClock, trips: list[tuple[int, int, int]]) -> int:
    """Has the clock observe statements one after another; returns the monotonic time of the last answer."""
    at_ns = 0
    for pause, there, back in trips:
        sent_ns = at_ns + pause * MS
        read_ns = sent_ns + there * MS
        at_ns = read_ns + back * MS
        clock.observe(real_at(read_ns), sent_ns, at_ns)
    return at_ns


@given(statements)
def test_clock_is_never_ahead_and_late_by_no_more_than_the_fastest_round_trip(
    trips: list[tuple[int, int, int]],
) -> None:
    clock = DatabaseClock()
    end_ns = play(clock, trips)
    behind = real_at(end_ns) - clock.instant_at(end_ns)
    assert timedelta(0) <= behind <= timedelta(milliseconds=min(there + back for _, there, back in trips))


@given(statements)
def test_slow_statements_do_not_undo_what_a_fast_one_told(trips: list[tuple[int, int, int]]) -> None:
    clock = DatabaseClock()
    end_ns = play(clock, [(0, 1, 1), *trips])
    assert real_at(end_ns) - clock.instant_at(end_ns) <= timedelta(milliseconds=2)


@given(statements, st.integers(0, 10**9))
def test_call_that_waits_for_its_moment_is_never_early(trips: list[tuple[int, int, int]], ahead_us: int) -> None:
    clock = DatabaseClock()
    due_at = real_at(play(clock, trips)) + timedelta(microseconds=ahead_us)
    assert real_at(clock.monotonic_at(due_at)) >= due_at


@pytest.mark.parametrize("step", [timedelta(hours=1), -timedelta(hours=1)])
def test_step_of_the_databases_clock_is_told_and_followed(step: timedelta) -> None:
    clock = DatabaseClock()
    end_ns = play(clock, [(0, 2, 2), (100, 2, 2)])
    moved = clock.observe(real_at(end_ns + 2 * MS) + step, end_ns, end_ns + 4 * MS)
    assert abs(moved - step) <= timedelta(milliseconds=8)
    assert clock.instant_at(end_ns + 4 * MS) == real_at(end_ns + 2 * MS) + step


def test_clock_that_was_never_read_says_so() -> None:
    with pytest.raises(RuntimeError, match="not been read"):
        DatabaseClock().instant_at(0)
    with pytest.raises(RuntimeError, match="not been read"):
        DatabaseClock().monotonic_at(NOON)


def interrupted(call: Callable[[], Any], other: Callable[[], Any], after: int) -> tuple[Any, bool]:
    """What `call` returns if another thread does `other` after so many of its instructions, and whether it had more."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        if event == "opcode":
            if count == after:
                other()
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        answer = call()
    finally:
        sys.settrace(before)
    return answer, count > after


def test_no_thread_ever_sees_half_a_reading() -> None:
    # Each a day after the last and a millisecond faster, so that each replaces the one before.
    days = itertools.count(1)
    clock = DatabaseClock()

    def observe() -> None:
        day = next(days)
        at_ns = day * 86_400 * 1_000 * MS
        clock.observe(real_at(at_ns) + timedelta(milliseconds=day), at_ns - MS, at_ns)

    def read() -> timedelta:
        return max(abs(clock.instant_at(0) - NOON), timedelta(microseconds=abs(clock.monotonic_at(NOON)) // 1000))

    observe()
    seen: list[timedelta] = []
    after, more = 0, True
    while more:
        answer, read_on = interrupted(read, observe, after)
        _, observed_on = interrupted(observe, lambda: seen.append(read()), after)
        seen.append(answer)
        after, more = after + 1, read_on or observed_on
    assert len(seen) > 50
    assert max(seen) < timedelta(seconds=1)
