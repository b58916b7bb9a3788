"""Carries a plan over a change of the zone rules, so that no day is served twice or never. Pure.

Rules change what instant a time of day is. A slot that was planned or served by the old rules stands for the nearest
slot by the new ones: 09:00 stays 09:00. That is exact where slots are further apart than twice the change, which is an
hour as a rule; closer ones may be served once more or less at the moment of the change.
"""

from datetime import datetime, timedelta

from scheduling.cron.cadence import Cadence, parse_cadence
from scheduling.plan.decision import Source
from scheduling.plan.interval import Interval
from scheduling.plan.row import PlanRow

# No change of a zone moved its clock by more; two slots that far apart are two.
MOST_MOVED = timedelta(hours=26)
_BASELINES = (Source.BASELINE_CRON.value, Source.BASELINE_INTERVAL.value)


def carry_over(row: PlanRow, now: datetime, *, last_was_baseline: bool) -> None:
    """Changes last slot and planned slot of a row to what they stand for by the rules of this process.

    `last_was_baseline` tells that the last slot was one of the same baseline: only then it stands for another. Raises
    CronError where the schedule cannot be read by these rules.
    """
    grid = _grid(row)
    if grid is None:
        return
    if last_was_baseline and row.last_slot_at is not None:
        # Never back: a slot is used once.
        row.last_slot_at = max(row.last_slot_at, _nearest(grid, row.last_slot_at))
    if row.lease_owner is None and row.next_source in _BASELINES and row.next_slot_at and row.next_run_at:
        meant, delay = _nearest(grid, row.next_slot_at), row.next_run_at - row.next_slot_at
        if meant > now or (row.last_slot_at is not None and meant <= row.last_slot_at):
            row.next_run_at = row.next_slot_at = row.next_source = None
        else:
            # It has come by the new rules, and nobody served it: it is overdue.
            row.next_run_at, row.next_slot_at = meant + delay, meant


def _grid(row: PlanRow) -> Cadence | Interval | None:
    if row.baseline_cron is not None:
        return parse_cadence(row.baseline_cron, row.timezone)
    if row.baseline_interval_ms is not None:
        return Interval.of(row.baseline_interval_ms, row.anchor_at, row.starts_at, row.timezone)
    return None


def _nearest(grid: Cadence | Interval, slot_at: datetime) -> datetime:
    """The slot nearest to an instant, the later of two; the instant itself where none is near enough."""
    if isinstance(grid, Interval):
        before: datetime | None = grid.latest_at_or_before(slot_at)
    else:
        before = grid.latest_at_or_before(slot_at, not_before=slot_at - MOST_MOVED)
    if before == slot_at:
        return slot_at
    found = [slot for slot in (grid.next_after(slot_at), before) if slot and abs(slot - slot_at) <= MOST_MOVED]
    return min(found, key=lambda slot: abs(slot - slot_at), default=slot_at)
