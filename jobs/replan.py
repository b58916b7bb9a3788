"""The one way in which a plan comes about: read the facts of locked rows, ask the governor, write the plan.

`replan` serves every writer but the settling of runs, which has its rows locked already and folds
`PLAN_ASSIGNMENTS` into its own statement, so that a run costs one new version of its row.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from cronicorn.postgres.arrays import JSONB_ARRAY, array, instant_array, json_array
from cronicorn.runtime.clock import database_now
from jobs.models import Endpoint
from scheduling.cron.cadence import CronError
from scheduling.plan.decision import Decision
from scheduling.plan.row import PlanRow, plan_row
from scheduling.plan.uncalled import IDLE, NO_PLAN, Spans, in_call

WAKE_CHANNEL = "cronicorn_schedule"

# An endpoint with nothing due has no slots that could pass.
UNCALLED_SELECT = (
    "COALESCE(e.next_decision -> 'uncalled', CASE WHEN e.next_decision ->> 'run_at' IS NULL"
    f" AND e.next_decision IS NOT NULL THEN '{json.dumps(NO_PLAN)}'::jsonb END)::text"
)
_EXPRESSIONS = {"job_status": "j.status", "uncalled": UNCALLED_SELECT}
PLAN_ROW_COLUMNS = ", ".join(_EXPRESSIONS.get(name, f"e.{name}") for name in PlanRow.__dataclass_fields__)
PLAN_ROW_SELECT = f"SELECT {PLAN_ROW_COLUMNS}"

# The plan, as assignments from a joined row `p`; the arrays that feed it come from `plan_arrays`. A row that is planned
# anew waits behind nobody.
PLAN_ASSIGNMENTS = """next_run_at = p.next_run_at, next_slot_at = p.next_slot_at, next_attempt = p.next_attempt,
    next_source = p.next_source, next_decision = p.next_decision, retry_at = p.retry_at,
    retry_slot_at = p.retry_slot_at, retry_attempt = p.retry_attempt, lane = ''"""
PLAN_COLUMNS = (
    "next_run_at, next_slot_at, next_attempt, next_source, next_decision, retry_at, retry_slot_at, retry_attempt"
)
PLAN_ARRAYS = (
    f"%s::timestamptz[], %s::timestamptz[], %s::smallint[], %s::text[], {JSONB_ARRAY},"
    " %s::timestamptz[], %s::timestamptz[], %s::smallint[]"
)


def row_of(endpoint: Endpoint) -> PlanRow:
    """The columns of an endpoint on which its plan rests, as they stand in memory."""
    names = [name for name in PlanRow.__dataclass_fields__ if name != "job_status"]
    return PlanRow(job_status=endpoint.job.status, **{name: getattr(endpoint, name) for name in names})


def plan(row: PlanRow, now: datetime, *, unclaimed: bool, spans: Spans = IDLE) -> Decision:
    """The governor's decision on a row as it stands. `unclaimed` tells that no worker holds it.

    `spans` tells why slots may have passed uncalled since the plan before.

    A schedule that cannot be read here, as with a zone that this machine does not know, or that leads out of the
    calendar has nothing due and says why: one such row must not fail the batch that it is in.
    """
    try:
        return plan_row(row, now, unclaimed=unclaimed, hint_floor_ms=settings.ENV.hint_floor_ms, spans=spans)
    except CronError as error:
        return Decision(None, None, None, f"Nothing is due: the schedule cannot be read. {error}")
    except OverflowError:
        return Decision(None, None, None, "Nothing is due: the schedule leads out of the calendar.")


def plan_arrays(rows: Sequence[PlanRow], decisions: Sequence[Decision]) -> list[str]:
    """The values of `PLAN_ARRAYS`, in its order. A decision that dropped a retry clears the retry's columns."""
    retries = [
        (None, None, None) if decision.drop_retry else (row.retry_at, row.retry_slot_at, row.retry_attempt)
        for row, decision in zip(rows, decisions, strict=True)
    ]
    return [
        instant_array(decision.run_at for decision in decisions),
        instant_array(decision.slot_at for decision in decisions),
        array(decision.attempt for decision in decisions),
        array(decision.source for decision in decisions),
        json_array(decision.to_json() for decision in decisions),
        instant_array(at for at, _, _ in retries),
        instant_array(slot_at for _, slot_at, _ in retries),
        array(attempt for _, _, attempt in retries),
    ]


def replan(endpoint_ids: Sequence[UUID]) -> dict[UUID, Decision]:
    """Plans the endpoints anew from their rows as they stand and wakes the schedulers; atomic, rows locked in id order.

    Ids without a row are passed over. Called inside the transaction of the change that made it necessary.
    """
    if not endpoint_ids:
        return {}
    with transaction.atomic(), connection.cursor() as cursor:
        rows = lock_plan_rows(cursor, endpoint_ids)
        return plan_rows(cursor, rows, database_now(cursor))


def lock_plan_rows(cursor: Any, endpoint_ids: Sequence[UUID]) -> list[PlanRow]:
    """The rows of endpoints, locked in id order; ids without a row are passed over."""
    cursor.execute(
        f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id"
        " WHERE e.id = ANY(%s) ORDER BY e.id FOR NO KEY UPDATE OF e",
        [list(endpoint_ids)],
    )
    return [PlanRow(*values) for values in cursor.fetchall()]


def plan_rows(cursor: Any, rows: Sequence[PlanRow], now: datetime) -> dict[UUID, Decision]:
    """Plans locked rows as they stand here, stores the plans and wakes the schedulers."""
    decisions = [
        plan(row, now, unclaimed=True)
        if row.lease_owner is None
        else plan(row, now, unclaimed=False, spans=in_call(row.last_started_at))
        for row in rows
    ]
    cursor.execute(
        f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}"
        f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}) AS p(id, {PLAN_COLUMNS}) WHERE e.id = p.id",
        [[row.id for row in rows], *plan_arrays(rows, decisions)],
    )
    cursor.execute("SELECT pg_notify(%s, '')", [WAKE_CHANNEL])
    return {row.id: decision for row, decision in zip(rows, decisions, strict=True)}
