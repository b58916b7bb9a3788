from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.cron.fields import CronError
from scheduling.plan.interval import Interval

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
DAY_MS = 86_400_000


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def grid(start: str, days: int = 1, zone: str = "Europe/Berlin") -> Interval:
    return Interval.of(days * DAY_MS, at(start), at(start), zone)


def slots(interval: Interval, after: str, count: int) -> list[str]:
    return [f"{slot:%Y-%m-%d %H:%M}" for slot in interval.slots_after(at(after), count)]


def test_elapsed_grid_has_its_anchor_and_every_step_from_there() -> None:
    interval = Interval(timedelta(minutes=90), at("2026-03-02 06:00"))
    assert slots(interval, "2026-03-02 05:59", 3) == ["2026-03-02 06:00", "2026-03-02 07:30", "2026-03-02 09:00"]
    assert slots(interval, "2026-03-01 23:00", 1) == ["2026-03-02 00:00"]
    assert interval.latest_at_or_before(at("2026-03-02 07:29")) == at("2026-03-02 06:00")
    assert interval.count_between(at("2026-03-02 06:00"), at("2026-03-02 09:00")) == 2
    assert interval.count_between(at("2026-03-02 09:00"), at("2026-03-02 06:00")) == 0


@pytest.mark.parametrize(
    ("interval", "after", "expected"),
    [
        # 09:00 in Berlin stays 09:00, over both changes of the clock
        (grid("2026-03-27 08:00"), "2026-03-27 12:00", ["2026-03-28 08:00", "2026-03-29 07:00", "2026-03-30 07:00"]),
        (grid("2026-10-24 07:00"), "2026-10-24 12:00", ["2026-10-25 08:00", "2026-10-26 08:00"]),
        (
            grid("2026-03-16 08:00", 14),
            "2026-03-16 07:00",
            ["2026-03-16 08:00", "2026-03-30 07:00", "2026-04-13 07:00"],
        ),
        # 02:30 is skipped on 29 March: the first instant after the gap; the grid stays at 02:30
        (grid("2026-03-28 01:30"), "2026-03-28 01:30", ["2026-03-29 01:00", "2026-03-30 00:30"]),
        # 02:30 comes twice on 25 October: the first
        (grid("2026-10-24 00:30"), "2026-10-24 00:30", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        # a start that is the second 02:30 stays where the owner put it
        (grid("2026-10-25 01:30"), "2026-10-25 00:00", ["2026-10-25 01:30", "2026-10-26 01:30"]),
        (grid("2026-10-25 01:30"), "2026-10-23 12:00", ["2026-10-24 00:30", "2026-10-25 01:30"]),
        # Lord Howe moves by half an hour
        (
            grid("2026-04-03 15:15", 1, "Australia/Lord_Howe"),
            "2026-04-04 00:00",
            ["2026-04-04 15:45", "2026-04-05 15:45"],
        ),
        # Apia had no 30 December 2011: its slot and that of the 31st are one
        (grid("2011-12-29 10:00", 1, "Pacific/Apia"), "2011-12-29 10:00", ["2011-12-30 10:00", "2011-12-31 10:00"]),
    ],
)
def test_whole_days_in_a_zone_keep_their_time_of_day(interval: Interval, after: str, expected: list[str]) -> None:
    assert slots(interval, after, len(expected)) == expected
    last = at(expected[-1])
    assert interval.count_between(at(after), last) == len(expected)
    assert interval.latest_at_or_before(last) == last
    assert interval.latest_at_or_before(last - MINUTE) == (at(expected[-2]) if len(expected) > 1 else at(after))


@pytest.mark.parametrize(
    ("interval_ms", "starts_at", "timezone"),
    [
        (DAY_MS, "2026-03-27 08:00", "UTC"),
        (12 * 3_600_000, "2026-03-27 08:00", "Europe/Berlin"),  # not whole days
        (DAY_MS + 1_000, "2026-03-27 08:00", "Europe/Berlin"),
        (DAY_MS, None, "Europe/Berlin"),  # not anchored
        (DAY_MS, "2026-03-01 08:00", "Europe/Berlin"),  # made before a start anchored the grid
        (3_600_000, None, "Mars/Olympus"),
    ],
)
def test_every_other_grid_is_elapsed_time(interval_ms: int, starts_at: str | None, timezone: str) -> None:
    anchor_at = at("2026-03-27 08:00")
    interval = Interval.of(interval_ms, anchor_at, at(starts_at) if starts_at else None, timezone)
    found = [anchor_at, *interval.slots_after(anchor_at, 20)]
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(milliseconds=interval_ms)}


def test_zone_that_is_not_known_is_refused_where_the_grid_needs_it() -> None:
    with pytest.raises(CronError):
        grid("2026-03-27 08:00", 1, "Mars/Olympus")


def test_later_counts_on_the_clock_of_the_zone() -> None:
    assert grid("2026-03-27 08:00").later(at("2026-03-28 08:00"), 2 * DAY) == at("2026-03-30 07:00")
    assert Interval(DAY, at("2026-03-27 08:00")).later(at("2026-03-28 08:00"), 2 * DAY) == at("2026-03-30 08:00")


def slots_by_looking(interval: Interval, first: datetime, until: datetime) -> list[datetime]:
    """The slots in (first, until]: of each day the first minute at which the clock has reached it."""
    zone = interval.zone
    assert zone is not None
    wall_anchor = interval.anchor_at.astimezone(zone).replace(tzinfo=None)
    found = {interval.anchor_at}
    for number in range(-40, 41):
        if number == 0:
            continue
        wall = wall_anchor + number * interval.step
        moment = (wall - timedelta(hours=30)).replace(tzinfo=UTC)
        if not first - 2 * DAY < moment < until + 2 * DAY:
            continue
        while moment.astimezone(zone).replace(tzinfo=None) < wall:
            moment += MINUTE
        found.add(moment)
    return sorted(slot for slot in found if first < slot <= until)


ANCHORS = st.sampled_from(
    [
        *((at("2026-03-29 00:00"), zone) for zone in ("Europe/Berlin", "Europe/Dublin")),
        *((at("2026-10-25 00:30"), zone) for zone in ("Europe/Berlin", "Antarctica/Troll")),
        (at("2026-04-04 15:00"), "Australia/Lord_Howe"),
        (at("2011-12-30 10:00"), "Pacific/Apia"),
        (at("2018-11-04 03:00"), "America/Sao_Paulo"),
        (at("2026-06-01 12:00"), "Asia/Kathmandu"),
    ]
)


@settings(max_examples=40, deadline=None)
@given(ANCHORS, st.integers(-4_000, 4_000), st.integers(1, 3))
def test_local_grid_agrees_with_a_look_at_the_clock(change: tuple[datetime, str], minutes: int, days: int) -> None:
    changes_at, zone = change
    anchor_at = changes_at + minutes * MINUTE
    interval = Interval.of(days * DAY_MS, anchor_at, anchor_at, zone)
    first, until = changes_at - 3 * DAY, changes_at + 3 * DAY
    expected = slots_by_looking(interval, first, until)
    found = interval.slots_after(first, len(expected) + 1)
    assert found[:-1] == expected
    assert found[-1] > until
    assert interval.count_between(first, until) == len(expected)
    for slot in expected:
        assert interval.latest_at_or_before(slot) == slot
        assert interval.next_after(slot - timedelta(microseconds=1)) == slot
    assert interval.zone == ZoneInfo(zone)
