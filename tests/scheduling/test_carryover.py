"""A daily call over a change of the zone rules at any hour: each day once."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from scheduling.plan.carryover import carry_over
from scheduling.plan.governor import plan_next_run
from scheduling.plan.row import PlanRow, apply_claim, apply_plan, facts_of
from scheduling.simulation.scenario import EndpointSpec
from tests.support.zones import TOWN, ApplyRules, apply_rules

__all__ = ["apply_rules"]

START = datetime(2030, 5, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SCHEDULES: dict[str, dict[str, Any]] = {
    "daily": {"baseline_cron": "0 12 * * *"},
    "daily, with jitter": {"baseline_cron": "0 12 * * *", "jitter_ms": 1_800_000},
    "weekdays, twice a day": {"baseline_cron": "0 6,18 * * MON-FRI"},
}


def plan(row: PlanRow, now: datetime) -> None:
    facts = facts_of(row, now, unclaimed=row.lease_owner is None, hint_floor_ms=10_000)
    apply_plan(row, plan_next_run(facts, now))


def serve_until(row: PlanRow, end: datetime, hours: int, served: list[tuple[date, int]]) -> None:
    """Serves each slot as it comes due, and notes its day and hour on the clock of the town."""
    while row.next_run_at is not None and row.next_run_at <= end:
        assert row.next_slot_at is not None
        wall = row.next_slot_at + hours * HOUR
        served.append((wall.date(), wall.hour))
        now = row.next_run_at
        apply_claim(row, now, worker="w")
        plan(row, now)
        row.lease_owner = None


@pytest.mark.parametrize("columns", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (0, 2), (3, 0)])
def test_each_time_of_each_day_is_served_once_whenever_the_rules_change(
    before: int, after: int, columns: dict[str, Any], apply_rules: ApplyRules
) -> None:
    spec = EndpointSpec("a", UUID(int=7), START, {"timezone": TOWN, **columns})
    for hour in range(24):
        row, served = spec.new_row(), list[tuple[date, int]]()
        changes_at = START + 3 * DAY + hour * HOUR + timedelta(minutes=1)
        apply_rules("2030a", before)
        plan(row, START)
        serve_until(row, changes_at, before, served)
        apply_rules("2030b", after)
        carry_over(row, changes_at, last_was_baseline=True)
        plan(row, changes_at)
        if row.next_run_at is not None and row.next_run_at < changes_at:
            row.next_run_at = changes_at
        serve_until(row, START + 7 * DAY, after, served)
        assert len(served) == len(set(served)), f"twice, at hour {hour}"
        hours = (6, 18) if "6,18" in columns["baseline_cron"] else (12,)
        days = [START.date() + number * DAY for number in range(1, 6)]
        wanted = {(day, each) for day in days for each in hours if len(hours) == 1 or day.isoweekday() <= 5}
        assert wanted <= set(served), f"never, at hour {hour}"
