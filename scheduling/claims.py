"""Claims and leases: which worker may call which endpoint. Set-based SQL; the only module that takes or renews a lease.

A claim is one statement: it picks due rows, skipping those that another worker is just claiming, sets the lease with
a new fence, and inserts the runs. Only what it returned after its commit may be called.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from cronicorn.runtime.clock import database_now
from jobs.models import RunStatus, WorkerLossPolicy
from jobs.replan import PLAN_ARRAYS, PLAN_ASSIGNMENTS, PLAN_COLUMNS, PLAN_ROW_SELECT, PlanRow, facts_of, plan_arrays
from scheduling.decision import Source
from scheduling.governor import plan_next_run

LOSSES_THAT_GIVE_UP_A_SLOT = 3
LOSSES_THAT_PAUSE = 6
SYSTEM_PAUSE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Claim:
    """An endpoint that this worker holds, with its run and all that the call needs.

    `run_id` is None when the slot had a run already: then nothing may be called and the claim must be released.
    """

    run_id: UUID | None
    endpoint_id: UUID
    owner_id: UUID
    fence: int
    slot_at: datetime
    due_at: datetime
    attempt: int
    url: str
    method: str
    headers: list[dict[str, Any]]
    headers_sealed: str | None
    body: str | None
    timeout_ms: int
    max_response_bytes: int
    success_criteria: object
    synthetic: bool
    claimed_at: datetime


# The subquery around clock_timestamp() makes it one value for the statement, which an index can serve.
_CLAIM = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
due AS MATERIALIZED (
    SELECT id FROM job_endpoints
    WHERE lease_owner IS NULL AND next_run_at IS NOT NULL AND next_run_at <= (SELECT now FROM clock)
    ORDER BY next_run_at LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE job_endpoints e SET
        lease_owner = %(worker)s,
        lease_until = clock.now + make_interval(secs => %(lease)s),
        fence = e.fence + 1,
        last_slot_at = GREATEST(e.last_slot_at, e.next_slot_at),
        last_started_at = clock.now,
        manual_run_at = CASE WHEN e.next_source <> '{Source.MANUAL}' THEN e.manual_run_at END,
        manual_run_by = CASE WHEN e.next_source <> '{Source.MANUAL}' THEN e.manual_run_by END,
        ai_hint_next_run_at = CASE WHEN e.next_source <> '{Source.AI_ONESHOT}' THEN e.ai_hint_next_run_at END,
        ai_hint_next_run_expires_at =
            CASE WHEN e.next_source <> '{Source.AI_ONESHOT}' THEN e.ai_hint_next_run_expires_at END,
        ai_hint_next_run_reason = CASE WHEN e.next_source <> '{Source.AI_ONESHOT}' THEN e.ai_hint_next_run_reason END,
        ai_hint_next_run_set_by = CASE WHEN e.next_source <> '{Source.AI_ONESHOT}' THEN e.ai_hint_next_run_set_by END,
        ai_hint_next_run_proposal_id =
            CASE WHEN e.next_source <> '{Source.AI_ONESHOT}' THEN e.ai_hint_next_run_proposal_id END,
        retries_used = CASE WHEN e.next_source = '{Source.RETRY}' THEN e.retries_used ELSE 0 END,
        retry_at = NULL, retry_slot_at = NULL, retry_attempt = NULL
    FROM due, clock
    WHERE e.id = due.id
    RETURNING e.*, clock.now AS claimed_at
),
started AS (
    INSERT INTO runs (endpoint_id, owner_id, scheduled_for, due_at, attempt, source, status, claimed_at, worker, fence,
                      decision)
    SELECT id, owner_id, next_slot_at, next_run_at, next_attempt, next_source, '{RunStatus.RUNNING}', claimed_at,
           lease_owner, fence, next_decision
    FROM claimed
    ON CONFLICT DO NOTHING
    RETURNING id, endpoint_id
)
SELECT s.id, c.id, c.owner_id, c.fence, c.next_slot_at, c.next_run_at, c.next_attempt, c.url, c.method, c.headers::text,
       c.headers_sealed, c.body, c.timeout_ms, c.max_response_bytes, c.success_criteria::text, j.is_synthetic,
       c.claimed_at
FROM claimed c JOIN jobs j ON j.id = c.job_id LEFT JOIN started s ON s.endpoint_id = c.id
ORDER BY c.next_run_at
"""


def claim_due(*, worker: str, limit: int, lease: timedelta) -> list[Claim]:
    """Claims up to `limit` due endpoints for the worker, oldest first. Atomic; what it returns is committed.

    An exception means that nothing may be called, although the claim may stand: its lease then runs out.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"limit": limit, "worker": worker, "lease": lease.total_seconds()})
        return [_claim(row) for row in cursor.fetchall()]


def _claim(row: tuple[Any, ...]) -> Claim:
    values = list(row)
    for index in (9, 14):
        values[index] = json.loads(values[index]) if values[index] is not None else None
    return Claim(*values)


@dataclass(frozen=True, slots=True)
class Horizon:
    """What the database holds next for a worker with nothing to do; None where there is nothing."""

    now: datetime
    next_due_at: datetime | None
    next_lease_end: datetime | None


def look_ahead() -> Horizon:
    """When the next endpoint falls due and when the next lease runs out, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT clock_timestamp(),
                   (SELECT min(next_run_at) FROM job_endpoints WHERE lease_owner IS NULL AND next_run_at IS NOT NULL),
                   (SELECT min(lease_until) FROM job_endpoints WHERE lease_owner IS NOT NULL)
            """
        )
        return Horizon(*cursor.fetchone())


def renew(*, worker: str, held: Sequence[tuple[UUID, int]], lease: timedelta) -> set[UUID]:
    """Prolongs the leases of (endpoint, fence) pairs; returns the endpoints that are still this worker's."""
    if not held:
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE job_endpoints e SET lease_until = clock_timestamp() + make_interval(secs => %s)
            FROM UNNEST(%s::uuid[], %s::bigint[]) AS h(id, fence)
            WHERE e.id = h.id AND e.fence = h.fence AND e.lease_owner = %s
            RETURNING e.id
            """,
            [lease.total_seconds(), [endpoint for endpoint, _ in held], [fence for _, fence in held], worker],
        )
        return {row[0] for row in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Reaped:
    """A call whose worker was lost, and what follows: `repeat`, `skip`, `give up` or `pause`."""

    endpoint_id: UUID
    run_id: UUID | None
    slot_at: datetime | None
    worker: str
    losses: int
    consequence: str


def reap(*, limit: int = 100) -> list[Reaped]:
    """Takes endpoints back whose lease ran out, abandons their runs and plans them anew.

    The slot is repeated with the next attempt, skipped where the endpoint says so, given up after three losses; six
    in a row pause the endpoint. Atomic; rows that another worker is reaping are passed over.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"{PLAN_ROW_SELECT}, e.lease_owner, e.on_worker_loss"
            " FROM job_endpoints e JOIN jobs j ON j.id = e.job_id"
            " WHERE e.lease_owner IS NOT NULL AND e.lease_until < (SELECT clock_timestamp())"
            " ORDER BY e.id LIMIT %s FOR NO KEY UPDATE OF e SKIP LOCKED",
            [limit],
        )
        found = [(PlanRow(*values), owner, policy) for *values, owner, policy in cursor.fetchall()]
        if not found:
            return []
        abandoned = _abandon_running(cursor, [row.id for row, *_ in found])
        now = database_now(cursor)
        reaped = []
        for row, owner, policy in found:
            run_id, slot_at, attempt = abandoned.get(row.id, (None, None, 0))
            consequence = _apply_loss(row, slot_at, attempt, policy, now)
            reaped.append(Reaped(row.id, run_id, slot_at, owner, row.loss_count, consequence))
        rows = [row for row, *_ in found]
        decisions = [plan_next_run(facts_of(row, now, unclaimed=False), now) for row in rows]
        cursor.execute(
            f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL,"
            " fence = e.fence + 1, loss_count = p.loss_count, paused_until = p.paused_until,"
            " pause_reason = p.pause_reason,"
            " paused_by = CASE WHEN p.paused_by_system THEN 'system' ELSE e.paused_by END,"
            " pause_proposal_id = CASE WHEN p.paused_by_system THEN NULL ELSE e.pause_proposal_id END"
            f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}, %s::smallint[], %s::timestamptz[], %s::text[], %s::boolean[])"
            f" AS p(id, {PLAN_COLUMNS}, loss_count, paused_until, pause_reason, paused_by_system)"
            " WHERE e.id = p.id",
            [
                [row.id for row in rows],
                *plan_arrays(rows, decisions),
                [row.loss_count for row in rows],
                [row.paused_until for row in rows],
                [row.pause_reason for row in rows],
                [item.consequence == "pause" for item in reaped],
            ],
        )
    return reaped


def _abandon_running(cursor: Any, endpoint_ids: list[UUID]) -> dict[UUID, tuple[UUID, datetime, int]]:
    cursor.execute(
        f"""
        UPDATE runs SET status = '{RunStatus.ABANDONED}', finished_at = clock_timestamp(), error_kind = 'worker_lost',
            error_message = 'The worker that held this call was lost; the call may or may not have been made.'
        WHERE endpoint_id = ANY(%s) AND status = '{RunStatus.RUNNING}'
        RETURNING endpoint_id, id, scheduled_for, attempt
        """,
        [endpoint_ids],
    )
    return {endpoint: (run, slot, attempt) for endpoint, run, slot, attempt in cursor.fetchall()}


def _apply_loss(row: PlanRow, slot_at: datetime | None, attempt: int, policy: str, now: datetime) -> str:
    """Changes the row to what a lost worker means for it, and names the consequence."""
    row.loss_count += 1
    if row.loss_count >= LOSSES_THAT_PAUSE:
        row.paused_until = now + SYSTEM_PAUSE
        row.pause_reason = f"its worker was lost {row.loss_count} times in a row"
        return "pause"
    if slot_at is None or policy == WorkerLossPolicy.SKIP:
        return "skip"
    if row.loss_count % LOSSES_THAT_GIVE_UP_A_SLOT == 0:
        return "give up"
    row.retry_at, row.retry_slot_at, row.retry_attempt = now, slot_at, attempt + 1
    return "repeat"


def release_collided(*, worker: str, endpoint_ids: Sequence[UUID]) -> None:
    """Gives back endpoints whose slot had a run already: ends what still counts as running and plans the next slot."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id"
            " WHERE e.id = ANY(%s) AND e.lease_owner = %s ORDER BY e.id FOR NO KEY UPDATE OF e",
            [list(endpoint_ids), worker],
        )
        rows = [PlanRow(*values) for values in cursor.fetchall()]
        _abandon_running(cursor, [row.id for row in rows])
        now = database_now(cursor)
        decisions = [plan_next_run(facts_of(row, now, unclaimed=False), now) for row in rows]
        cursor.execute(
            f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL"
            f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}) AS p(id, {PLAN_COLUMNS}) WHERE e.id = p.id",
            [[row.id for row in rows], *plan_arrays(rows, decisions)],
        )
