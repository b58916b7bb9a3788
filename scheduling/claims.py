"""Claims and leases: which worker may call which endpoint. Set-based SQL; the only module that takes or renews a lease.

A claim is one statement: it picks due rows, skipping those that another worker is just claiming, sets the lease with
a new fence, and inserts the runs. Only what it returned after its commit may be called.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from cronicorn.runtime.clock import database_now
from jobs.models import RunStatus, WorkerLossPolicy
from jobs.replan import PLAN_ARRAYS, PLAN_ASSIGNMENTS, PLAN_COLUMNS, PLAN_ROW_SELECT, plan, plan_arrays
from scheduling.decision import Source
from scheduling.plan_row import Consequence, PlanRow, apply_loss


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
    source: str
    url: str
    method: str
    headers: list[dict[str, Any]]
    headers_sealed: str | None
    body: str | None
    timeout_ms: int
    max_response_bytes: int
    success_criteria: object
    synthetic: bool
    config_version: int
    claimed_at: datetime


# The subquery around clock_timestamp() makes it one value for the statement, which an index can serve.
_CLAIM = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
due AS MATERIALIZED (
    SELECT id FROM job_endpoints
    WHERE lease_owner IS NULL AND next_run_at IS NOT NULL
        AND next_run_at <= (SELECT now + make_interval(secs => %(horizon)s) FROM clock)
    ORDER BY next_run_at LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
),
claimed AS (
    UPDATE job_endpoints e SET
        lease_owner = %(worker)s,
        lease_until = clock.now + make_interval(secs => %(lease)s),
        fence = e.fence + 1,
        last_slot_at = GREATEST(e.last_slot_at, e.next_slot_at),
        last_started_at = GREATEST(clock.now, e.next_run_at),
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
SELECT s.id, c.id, c.owner_id, c.fence, c.next_slot_at, c.next_run_at, c.next_attempt, c.next_source, c.url,
       c.method, c.headers::text, c.headers_sealed, c.body, c.timeout_ms, c.max_response_bytes,
       c.success_criteria::text, j.is_synthetic, c.config_version, c.claimed_at
FROM claimed c JOIN jobs j ON j.id = c.job_id LEFT JOIN started s ON s.endpoint_id = c.id
ORDER BY c.next_run_at
"""


def claim_due(*, worker: str, limit: int, lease: timedelta, horizon: timedelta = timedelta(0)) -> list[Claim]:
    """Claims up to `limit` endpoints that are due within `horizon`, oldest first. What it returns is committed.

    An exception means that nothing may be called, although the claim may stand: its lease then runs out.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM,
            {
                "limit": limit,
                "worker": worker,
                "lease": lease.total_seconds(),
                "horizon": horizon.total_seconds(),
            },
        )
        return [_claim(row) for row in cursor.fetchall()]


def _claim(row: tuple[Any, ...]) -> Claim:
    values = list(row)
    for index in (10, 15):
        values[index] = json.loads(values[index]) if values[index] is not None else None
    return Claim(*values)


# What must be true of a claimed call at the moment when it starts; rows come back only where it no longer is.
_RECHECK = f"""
SELECT h.run_id, e.url, e.method, e.headers::text, e.headers_sealed, e.body, e.timeout_ms, e.max_response_bytes,
       e.success_criteria::text, e.config_version,
       (e.id IS NULL OR e.fence <> h.fence OR e.lease_owner IS DISTINCT FROM %(worker)s) AS lost,
       (e.status <> 'active' OR j.status <> 'active'
        OR (e.paused_until > h.due_at AND h.source <> '{Source.MANUAL}')) IS TRUE AS stopped
FROM UNNEST(%(runs)s::uuid[], %(endpoints)s::uuid[], %(fences)s::bigint[], %(versions)s::integer[],
            %(dues)s::timestamptz[], %(sources)s::text[]) AS h(run_id, endpoint_id, fence, version, due_at, source)
LEFT JOIN job_endpoints e ON e.id = h.endpoint_id
LEFT JOIN jobs j ON j.id = e.job_id
WHERE e.id IS NULL OR e.fence <> h.fence OR e.lease_owner IS DISTINCT FROM %(worker)s
   OR e.status <> 'active' OR j.status <> 'active' OR e.config_version <> h.version
   OR (e.paused_until > h.due_at AND h.source <> '{Source.MANUAL}')
"""


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What changed under claims that wait: lost leases, stopped endpoints, and claims with an edited request."""

    lost: list[UUID]
    stopped: list[UUID]
    edited: list[Claim]


def recheck(*, worker: str, waiting: Mapping[UUID, Claim]) -> Rechecked:
    """Looks at the rows of waiting claims again, in one statement. A hint does not revoke a claimed slot."""
    claims = list(waiting.values())
    with connection.cursor() as cursor:
        cursor.execute(
            _RECHECK,
            {
                "worker": worker,
                "runs": list(waiting),
                "endpoints": [claim.endpoint_id for claim in claims],
                "fences": [claim.fence for claim in claims],
                "versions": [claim.config_version for claim in claims],
                "dues": [claim.due_at for claim in claims],
                "sources": [claim.source for claim in claims],
            },
        )
        rows = cursor.fetchall()
    lost = [run_id for run_id, *_, gone, _ in rows if gone]
    stopped = [run_id for run_id, *_, gone, stop in rows if stop and not gone]
    edited = [_edited(waiting[run_id], values) for run_id, *values, gone, stop in rows if not gone and not stop]
    return Rechecked(lost, stopped, edited)


def _edited(claim: Claim, values: list[Any]) -> Claim:
    url, method, headers, sealed, body, timeout_ms, max_bytes, criteria, version = values
    return replace(
        claim,
        url=url,
        method=method,
        headers=json.loads(headers),
        headers_sealed=sealed,
        body=body,
        timeout_ms=timeout_ms,
        max_response_bytes=max_bytes,
        success_criteria=json.loads(criteria) if criteria is not None else None,
        config_version=version,
    )


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
    """A call whose worker was lost, and what follows."""

    endpoint_id: UUID
    run_id: UUID | None
    slot_at: datetime | None
    worker: str
    losses: int
    consequence: Consequence


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
            skip = policy == WorkerLossPolicy.SKIP
            consequence = apply_loss(row, slot_at=slot_at, attempt=attempt, skip=skip, now=now)
            reaped.append(Reaped(row.id, run_id, slot_at, owner, row.loss_count, consequence))
        rows = [row for row, *_ in found]
        decisions = [plan(row, now, unclaimed=False) for row in rows]
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
                [item.consequence is Consequence.PAUSE for item in reaped],
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


def release(*, worker: str, claims: Sequence[Claim]) -> None:
    """Gives back claims that were not called, and plans their endpoints anew; their runs are removed.

    A claim without a run met a slot that had one already: what still counts as running there is ended.
    """
    endpoint_ids = [claim.endpoint_id for claim in claims]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id"
            " JOIN UNNEST(%s::uuid[], %s::bigint[]) AS h(id, fence) ON h.id = e.id AND h.fence = e.fence"
            " WHERE e.lease_owner = %s ORDER BY e.id FOR NO KEY UPDATE OF e",
            [endpoint_ids, [claim.fence for claim in claims], worker],
        )
        rows = [PlanRow(*values) for values in cursor.fetchall()]
        held = {row.id for row in rows}
        cursor.execute(
            f"DELETE FROM runs WHERE id = ANY(%s) AND status = '{RunStatus.RUNNING}'",
            [[claim.run_id for claim in claims if claim.run_id is not None and claim.endpoint_id in held]],
        )
        _abandon_running(cursor, [claim.endpoint_id for claim in claims if claim.run_id is None])
        now = database_now(cursor)
        decisions = [plan(row, now, unclaimed=False) for row in rows]
        cursor.execute(
            f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL"
            f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}) AS p(id, {PLAN_COLUMNS}) WHERE e.id = p.id",
            [[row.id for row in rows], *plan_arrays(rows, decisions)],
        )
