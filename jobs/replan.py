"""The one way in which a plan comes about: read the facts of locked rows, ask the governor, write the plan.

`replan` serves every writer but the settling of runs, which has its rows locked already and folds
`PLAN_ASSIGNMENTS` into its own statement, so that a run costs one new version of its row.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from cronicorn.runtime.clock import database_now
from jobs.models.endpoint import Author, EndpointStatus
from jobs.models.job import JobStatus
from scheduling.backoff import stable_jitter
from scheduling.cadence import parse_cadence
from scheduling.decision import Decision, Source
from scheduling.governor import EndpointFacts, IntervalHint, OneShotHint, Overdue, Retry, plan_next_run

WAKE_CHANNEL = "cronicorn_schedule"
OVERDUE_SOURCES = frozenset(
    {Source.BASELINE_INTERVAL, Source.BASELINE_CRON, Source.RUN_ONCE, Source.CLAMPED_MAX, Source.PAUSED}
)


@dataclass(slots=True)
class PlanRow:
    """The columns that a plan rests on, as they stand in the locked row. Settling changes it, then plans from it."""

    id: UUID
    status: str
    job_status: str
    created_at: datetime
    anchor_at: datetime
    baseline_interval_ms: int | None
    baseline_cron: str | None
    run_once_at: datetime | None
    timezone: str
    starts_at: datetime | None
    ends_at: datetime | None
    jitter_ms: int
    min_interval_ms: int | None
    max_interval_ms: int | None
    retry_limit: int
    ai_hint_interval_ms: int | None
    ai_hint_interval_expires_at: datetime | None
    ai_hint_interval_reason: str | None
    ai_hint_interval_set_by: str | None
    ai_hint_next_run_at: datetime | None
    ai_hint_next_run_expires_at: datetime | None
    ai_hint_next_run_reason: str | None
    paused_until: datetime | None
    pause_reason: str | None
    last_slot_at: datetime | None
    last_started_at: datetime | None
    failure_count: int
    retry_at: datetime | None
    retry_slot_at: datetime | None
    retry_attempt: int | None
    retries_used: int
    loss_count: int
    manual_run_at: datetime | None
    lease_owner: str | None
    next_run_at: datetime | None
    next_slot_at: datetime | None
    next_source: str | None


PLAN_ROW_SELECT = "SELECT " + ", ".join(
    "j.status" if name == "job_status" else f"e.{name}" for name in PlanRow.__dataclass_fields__
)

# The plan, as assignments from a joined row `p`; the arrays that feed it come from `plan_arrays`.
PLAN_ASSIGNMENTS = """next_run_at = p.next_run_at, next_slot_at = p.next_slot_at, next_attempt = p.next_attempt,
    next_source = p.next_source, next_decision = p.next_decision, retry_at = p.retry_at,
    retry_slot_at = p.retry_slot_at, retry_attempt = p.retry_attempt"""
PLAN_COLUMNS = (
    "next_run_at, next_slot_at, next_attempt, next_source, next_decision, retry_at, retry_slot_at, retry_attempt"
)
PLAN_ARRAYS = (
    "%s::timestamptz[], %s::timestamptz[], %s::smallint[], %s::text[], %s::jsonb[],"
    " %s::timestamptz[], %s::timestamptz[], %s::smallint[]"
)


def facts_of(row: PlanRow, now: datetime, *, unclaimed: bool) -> EndpointFacts:
    """What the governor needs of a row. `unclaimed` tells that a planned slot, if its time has come, still waits."""
    overdue = None
    if unclaimed and row.next_run_at is not None and row.next_run_at <= now and row.next_source in OVERDUE_SOURCES:
        assert row.next_slot_at is not None
        overdue = Overdue(row.next_slot_at, Source(row.next_source), row.next_run_at)
    interval_hint = oneshot_hint = retry = None
    if row.ai_hint_interval_ms is not None:
        interval_hint = IntervalHint(
            interval_ms=row.ai_hint_interval_ms,
            expires_at=row.ai_hint_interval_expires_at,
            reason=row.ai_hint_interval_reason or "",
            by_person=row.ai_hint_interval_set_by == Author.USER,
        )
    if row.ai_hint_next_run_at is not None:
        oneshot_hint = OneShotHint(
            at=row.ai_hint_next_run_at,
            expires_at=row.ai_hint_next_run_expires_at,
            reason=row.ai_hint_next_run_reason or "",
        )
    if row.retry_at is not None and row.retry_slot_at is not None and row.retry_attempt is not None:
        retry = Retry(
            row.retry_at,
            row.retry_slot_at,
            attempt=row.retry_attempt,
            limit=row.retry_limit,
            after_loss=row.loss_count > 0,
        )
    return EndpointFacts(
        created_at=row.created_at,
        anchor_at=row.anchor_at,
        interval_ms=row.baseline_interval_ms,
        cadence=parse_cadence(row.baseline_cron, row.timezone) if row.baseline_cron is not None else None,
        run_once_at=row.run_once_at,
        blocked=_blocked(row),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        jitter=stable_jitter(row.id, row.jitter_ms) if row.jitter_ms else timedelta(0),
        min_interval_ms=row.min_interval_ms,
        max_interval_ms=row.max_interval_ms,
        hint_floor_ms=settings.ENV.hint_floor_ms,
        last_slot_at=row.last_slot_at,
        last_started_at=row.last_started_at,
        failure_count=row.failure_count,
        interval_hint=interval_hint,
        oneshot_hint=oneshot_hint,
        paused_until=row.paused_until,
        pause_reason=row.pause_reason or "",
        retry=retry,
        manual_run_at=row.manual_run_at,
        overdue=overdue,
    )


def _blocked(row: PlanRow) -> str | None:
    if row.status != EndpointStatus.ACTIVE:
        return f"the endpoint is {row.status}"
    if row.job_status != JobStatus.ACTIVE:
        return f"its job is {row.job_status}"
    return None


def plan_arrays(rows: Sequence[PlanRow], decisions: Sequence[Decision]) -> list[list[Any]]:
    """The values of `PLAN_ARRAYS`, in its order. A decision that dropped a retry clears the retry's columns."""
    retries = [
        (None, None, None) if decision.drop_retry else (row.retry_at, row.retry_slot_at, row.retry_attempt)
        for row, decision in zip(rows, decisions, strict=True)
    ]
    return [
        [decision.run_at for decision in decisions],
        [decision.slot_at for decision in decisions],
        [decision.attempt for decision in decisions],
        [decision.source.value if decision.source else None for decision in decisions],
        [json.dumps(decision.to_json()) for decision in decisions],
        *([retry[part] for retry in retries] for part in range(3)),
    ]


def replan(endpoint_ids: Sequence[UUID]) -> dict[UUID, Decision]:
    """Plans the endpoints anew from their rows as they stand and wakes the schedulers; atomic, rows locked in id order.

    Ids without a row are passed over. Called inside the transaction of the change that made it necessary.
    """
    if not endpoint_ids:
        return {}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id"
            " WHERE e.id = ANY(%s) ORDER BY e.id FOR NO KEY UPDATE OF e",
            [list(endpoint_ids)],
        )
        rows = [PlanRow(*values) for values in cursor.fetchall()]
        now = database_now(cursor)
        decisions = [plan_next_run(facts_of(row, now, unclaimed=row.lease_owner is None), now) for row in rows]
        cursor.execute(
            f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}"
            f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}) AS p(id, {PLAN_COLUMNS}) WHERE e.id = p.id",
            [[row.id for row in rows], *plan_arrays(rows, decisions)],
        )
        cursor.execute("SELECT pg_notify(%s, '')", [WAKE_CHANNEL])
    return {row.id: decision for row, decision in zip(rows, decisions, strict=True)}
