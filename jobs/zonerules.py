"""Makes plans anew that were made by other zone rules than those of this process: in batches, by one process at a time.

The newest rules win: a process with older ones leaves plans alone, and what it plans itself meanwhile, as in a rolling
upgrade, is found by a later search. Each plan tells its rules in its decision's inputs, so that nothing is made anew
without need.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import database_now
from jobs.models import ZoneRules
from jobs.replan import lock_plan_rows, plan_rows
from scheduling.cron.cadence import CronError
from scheduling.cron.zones import rules_version
from scheduling.plan.carryover import carry_over
from scheduling.plan.row import PlanRow

logger = logging.getLogger(__name__)

WINDOW = 500
SEARCH_EVERY = timedelta(hours=1)

# Those of the window whose slots depend on a zone, and whose plan is not by these rules.
_STALE = """
WITH seen AS MATERIALIZED (
    SELECT id, status, timezone, baseline_cron, baseline_interval_ms, anchor_at, starts_at, next_decision
    FROM job_endpoints WHERE id > %(through)s ORDER BY id LIMIT %(window)s
)
SELECT (SELECT id FROM seen ORDER BY id DESC LIMIT 1), (SELECT count(*) FROM seen), ARRAY(
    SELECT id FROM seen
    WHERE status = 'active' AND timezone <> 'UTC'
      AND (baseline_cron IS NOT NULL OR (baseline_interval_ms %% 86400000 = 0 AND starts_at = anchor_at))
      AND next_decision -> 'inputs' ->> 'tzdata' IS DISTINCT FROM %(version)s
    ORDER BY id
)
"""
# The last slot was one of the baseline as it stands, planned by other rules.
_LAST_BY_OTHER_RULES = """
SELECT e.id FROM job_endpoints e JOIN runs r ON r.endpoint_id = e.id AND r.scheduled_for = e.last_slot_at
WHERE e.id = ANY(%(ids)s) AND r.attempt = 1 AND r.source IN ('baseline-cron', 'baseline-interval')
  AND r.decision -> 'inputs' ->> 'cron' IS NOT DISTINCT FROM e.baseline_cron
  AND r.decision -> 'inputs' ->> 'interval_ms' IS NOT DISTINCT FROM e.baseline_interval_ms::text
  AND r.decision -> 'inputs' ->> 'timezone' = e.timezone
  AND r.decision -> 'inputs' ->> 'tzdata' IS DISTINCT FROM %(version)s
"""


class Search(Enum):
    """How the search for plans by other rules stands."""

    UNDER_WAY = "under way"
    ELSEWHERE = "elsewhere"  # another process does the next batch
    DONE = "done"


def search_batch() -> Search:
    """Looks at the next endpoints, and makes plans by other rules anew; atomic. Safe from several processes at once."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO zone_rules (id) VALUES (1) ON CONFLICT DO NOTHING")
        state = ZoneRules.objects.select_for_update(skip_locked=True).filter(pk=1).first()
        if state is None:
            return Search.ELSEWHERE
        version, now = rules_version(), database_now(cursor)
        if state.version > version or (
            state.version == version and state.swept_at is not None and now - state.swept_at < SEARCH_EVERY
        ):
            return Search.DONE
        if state.version != version or state.swept_at is not None:
            state = ZoneRules(pk=1, version=version, replanned=0, moved=0, unreadable=0)
        cursor.execute(_STALE, {"through": state.through or UUID(int=0), "window": WINDOW, "version": version})
        last_id, looked_at, stale = cursor.fetchone()
        if stale:
            made = _plan_anew(cursor, stale, version, now)
            state.replanned += made.replanned
            state.moved += made.moved
            state.unreadable += made.unreadable
        state.through = last_id
        if looked_at < WINDOW:
            state.through, state.swept_at = None, now
        state.save()
    if state.swept_at is None:
        return Search.UNDER_WAY
    if state.replanned:
        facts = {"replanned": state.replanned, "moved": state.moved, "unreadable": state.unreadable}
        level = logging.WARNING if state.unreadable else logging.INFO
        log_event(logger, Event.ZONE_RULES_APPLIED, level, version=version, **facts)
    return Search.DONE


def rules_of_plans() -> str | None:
    """The newest rules by which plans were made; None before the first search."""
    state = ZoneRules.objects.filter(pk=1).only("version").first()
    return state.version or None if state is not None else None


@dataclass(slots=True)
class _Made:
    replanned: int = 0
    moved: int = 0
    unreadable: int = 0


def _plan_anew(cursor: Any, ids: list[UUID], version: str, now: datetime) -> _Made:
    rows = lock_plan_rows(cursor, ids)
    cursor.execute(_LAST_BY_OTHER_RULES, {"ids": [row.id for row in rows], "version": version})
    by_other_rules = {endpoint_id for (endpoint_id,) in cursor.fetchall()}
    before = {row.id: (row.next_run_at, row.last_slot_at) for row in rows}
    made = _Made(replanned=len(rows))
    for row in rows:
        made.unreadable += not _carry_over(row, now, last_was_baseline=row.id in by_other_rules)
    decisions = plan_rows(cursor, rows, now)
    made.moved = sum(decisions[row.id].run_at != before[row.id][0] for row in rows)
    served = [(row.id, row.last_slot_at) for row in rows if row.last_slot_at != before[row.id][1]]
    if served:
        cursor.execute(
            "UPDATE job_endpoints e SET last_slot_at = p.slot_at"
            " FROM UNNEST(%s::uuid[], %s::timestamptz[]) AS p(id, slot_at) WHERE e.id = p.id",
            [[endpoint_id for endpoint_id, _ in served], [slot_at for _, slot_at in served]],
        )
    return made


def _carry_over(row: PlanRow, now: datetime, *, last_was_baseline: bool) -> bool:
    """Whether the schedule can be read by these rules; a zone that is gone stops nothing but its own endpoint."""
    try:
        carry_over(row, now, last_was_baseline=last_was_baseline)
    except CronError:
        return False
    except (ArithmeticError, ValueError):
        # A row whose times no calendar holds must not fail the batch that it is in.
        return True
    return True
