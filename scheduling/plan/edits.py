"""What a change of the schedule means for a run that is planned or claimed already. Pure.

After a change only the new schedule is served. A slot that it has too is kept, at the time at which its run is due by
now. Retries, presses of run-now and hints are no slots of the schedule: they stay, where the new window covers them.
"""

from dataclasses import replace
from datetime import datetime

from scheduling.cron.cadence import CronError
from scheduling.plan.decision import Source
from scheduling.plan.facts import EndpointFacts
from scheduling.plan.governor import TICK, baseline_slot_after
from scheduling.plan.row import OVERDUE_SOURCES, PlanRow, facts_of
from scheduling.plan.uncalled import IDLE, carried, in_call

# The columns that say when an endpoint runs; a reset of failures moves `anchor_at`, and so counts as a change too.
SCHEDULE_COLUMNS = (
    "baseline_interval_ms",
    "baseline_cron",
    "run_once_at",
    "timezone",
    "starts_at",
    "ends_at",
    "jitter_ms",
)
_BASELINE_SOURCES = frozenset({Source.BASELINE_INTERVAL, Source.BASELINE_CRON, Source.RUN_ONCE})


def due_by_schedule(row: PlanRow, *, slot_at: datetime, source: str, due_at: datetime) -> datetime | None:
    """When the run of a slot is due under the schedule as the row has it; None where that has no such slot.

    `source` and `due_at` are those of the plan that was made under the old schedule. A schedule that cannot be read has
    no slots.
    """
    if source == Source.MANUAL:
        return due_at
    try:
        facts = facts_of(row, due_at, unclaimed=False, hint_floor_ms=0)
        if not facts.covers(slot_at):
            return None
        if source in OVERDUE_SOURCES and (found := _baseline_due(facts, slot_at)) is not None:
            # The wait that the server asked for goes on; it is no part of the schedule.
            return due_at if source == Source.SERVER_ASKED else found
    except (CronError, OverflowError):
        return None
    if source in _BASELINE_SOURCES:
        return None
    return due_at if source == Source.RETRY or _outlives(facts, slot_at, source) else None


def _baseline_due(facts: EndpointFacts, slot_at: datetime) -> datetime | None:
    """When a slot of the baseline is due, None where it is none; back-off and earlier slots do not matter."""
    alone = replace(facts, last_slot_at=None, failure_count=0, interval_hint=None, oneshot_hint=None)
    found = baseline_slot_after(alone, slot_at - TICK)
    return found[1] if found is not None and found[0] == slot_at else None


def _outlives(facts: EndpointFacts, slot_at: datetime, source: str) -> bool:
    """Whether a run that no slot of the baseline asked for is still wanted: by a hint, or by the end of a pause."""
    if source == Source.AI_ONESHOT:
        return True
    hint = facts.interval_hint
    hinted = hint is not None and hint.expires_at is not None and slot_at < hint.expires_at
    ends_a_pause = source == Source.PAUSED and facts.interval_ms is not None and facts.paused_until == slot_at
    held_oneshot = source == Source.SERVER_ASKED and facts.oneshot_hint is not None
    return facts.run_once_at is None and (hinted or ends_a_pause or held_oneshot)


def follow_new_schedule(row: PlanRow, old: PlanRow, now: datetime) -> None:
    """Changes a row whose schedule was just that of `old`: what that had planned is gone, or moved to its new time.

    Slots of the old schedule that passed uncalled are counted. Planning anew is the caller's. A claim that waits for
    its slot is the start gate's to judge.
    """
    row.schedule_changed_at = now
    kept = False
    if row.next_slot_at is not None and row.next_run_at is not None and row.next_source is not None:
        due_at = due_by_schedule(row, slot_at=row.next_slot_at, source=row.next_source, due_at=row.next_run_at)
        kept = due_at is not None
        if due_at is None:
            row.next_run_at = row.next_slot_at = row.next_source = None
        else:
            row.next_run_at = due_at
    if row.server_wait_until is not None and not (kept and row.next_source == Source.SERVER_ASKED):
        # The wait goes on, and what it puts off is looked for in the new schedule from now on.
        row.server_wait_since = min(now, row.server_wait_until)
    try:
        free = old.lease_owner is None
        facts = facts_of(old, now, unclaimed=free and kept, hint_floor_ms=0)
        spans = IDLE if free else in_call(old.last_started_at)
        waiting = row.next_slot_at if free and kept else None
        row.uncalled = carried(facts, now, old.uncalled, spans, waiting=waiting)
    except (CronError, OverflowError):
        return


def plan_given_back(row: PlanRow, *, slot_at: datetime, source: str, due_at: datetime, now: datetime) -> None:
    """Changes a row whose claim is given back, and whose schedule changed since, to what the new schedule has due.

    The row stands as before its claim. The claimed slot comes again if the new schedule has it, else the first slot
    after the change that has come meanwhile.
    """
    assert row.schedule_changed_at is not None
    row.next_run_at = row.next_slot_at = row.next_source = None
    due = due_by_schedule(row, slot_at=slot_at, source=source, due_at=due_at)
    unused = source == Source.RETRY or row.last_slot_at is None or slot_at > row.last_slot_at
    if due is not None and unused:
        row.next_run_at, row.next_slot_at, row.next_source = due, slot_at, source
        return
    try:
        facts = facts_of(row, now, unclaimed=False, hint_floor_ms=0)
        found = baseline_slot_after(facts, row.schedule_changed_at - facts.jitter)
    except (CronError, OverflowError):
        return
    if found is not None and found[1] <= now:
        row.next_slot_at, row.next_run_at = found
        row.next_source = (
            Source.RUN_ONCE
            if row.run_once_at is not None
            else Source.BASELINE_CRON
            if row.baseline_cron is not None
            else Source.BASELINE_INTERVAL
        ).value
