"""Leases after the claim: prolonged, given back, or taken from workers that were lost. Set-based SQL."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from cronicorn.postgres.arrays import uuid_array
from cronicorn.runtime.clock import database_now
from jobs.models import RunStatus, WorkerLossPolicy
from jobs.replan import PLAN_ARRAYS, PLAN_ASSIGNMENTS, PLAN_COLUMNS, PLAN_ROW_SELECT, plan, plan_arrays
from scheduling.ledger.claims import Claim
from scheduling.ledger.usedup import put_back
from scheduling.plan.edits import due_by_schedule, plan_given_back
from scheduling.plan.row import Consequence, PlanRow, apply_loss
from scheduling.plan.uncalled import LOST

# An endpoint under one fence: what a worker holds is still the same hold only while both are.
Hold = tuple[UUID, int]


def hold_of(claim: Claim) -> Hold:
    """What the worker of a claim holds."""
    return claim.endpoint_id, claim.fence


@dataclass(frozen=True, slots=True)
class Renewal:
    """Which holds were prolonged, and which are this worker's and could not be, for another holds their rows."""

    kept: frozenset[Hold]
    locked: frozenset[Hold]


def renew(*, worker: str, held: Sequence[Hold], lease: timedelta) -> Renewal:
    """Prolongs the leases of what a worker holds. What is in neither part of the answer is lost.

    Waits for no row: one that somebody keeps locked must not cost the others their leases.
    """
    if not held:
        return Renewal(frozenset(), frozenset())
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH held AS (SELECT * FROM UNNEST(%(endpoints)s::uuid[], %(fences)s::bigint[]) AS h(id, fence)),
            free AS MATERIALIZED (
                SELECT e.id FROM job_endpoints e JOIN held h ON e.id = h.id AND e.fence = h.fence
                WHERE e.lease_owner = %(worker)s
                FOR NO KEY UPDATE OF e SKIP LOCKED
            ),
            renewed AS (
                UPDATE job_endpoints e SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
                FROM free WHERE e.id = free.id
                RETURNING e.id
            )
            SELECT e.id, e.fence, renewed.id IS NOT NULL
            FROM held h JOIN job_endpoints e ON e.id = h.id AND e.fence = h.fence AND e.lease_owner = %(worker)s
            LEFT JOIN renewed ON renewed.id = e.id
            """,
            {
                "worker": worker,
                "lease": lease.total_seconds(),
                "endpoints": [endpoint for endpoint, _ in held],
                "fences": [fence for _, fence in held],
            },
        )
        rows = cursor.fetchall()
    return Renewal(
        kept=frozenset((endpoint, fence) for endpoint, fence, renewed in rows if renewed),
        locked=frozenset((endpoint, fence) for endpoint, fence, renewed in rows if not renewed),
    )


@dataclass(frozen=True, slots=True)
class Reaped:
    """A call whose worker was lost, and what follows."""

    endpoint_id: UUID
    run_id: UUID | None
    slot_at: datetime | None
    worker: str
    losses: int
    consequence: Consequence


def reap(*, in_hand: Sequence[UUID] = (), limit: int = 100) -> list[Reaped]:
    """Takes endpoints back whose lease ran out, abandons their runs and plans them anew.

    What the caller has in hand itself is left to it: when the database's clock jumps, its own calls still run. The
    slot is repeated with the next attempt, skipped where the endpoint says so, given up after three losses; six in a
    row pause the endpoint. Atomic; rows that another worker is reaping are passed over.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM job_endpoints"
            " WHERE lease_owner IS NOT NULL AND lease_until < (SELECT clock_timestamp()) AND id <> ALL(%s::uuid[])"
            " ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED",
            [uuid_array(in_hand), limit],
        )
        return _take_back(cursor, [row[0] for row in cursor.fetchall()])


def holds_of(worker: str) -> frozenset[Hold]:
    """Everything that is leased to a worker."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, fence FROM job_endpoints WHERE lease_owner = %s", [worker])
        return frozenset(cursor.fetchall())


def reap_own(*, worker: str, holds: Collection[Hold]) -> list[Reaped]:
    """Takes back what is leased to the caller without its knowledge, whose calls it does not make; as `reap` does.

    The call may have been made: by a claim that a database without its last commits has forgotten to be settled.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        free, _ = _lock_held(cursor, worker, holds)
        return _take_back(cursor, sorted(endpoint for endpoint, _ in free))


def _take_back(cursor: Any, locked: list[UUID]) -> list[Reaped]:
    """Ends the leases of locked endpoints and plans what follows."""
    if not locked:
        return []
    # By a later statement, which also sees a job that was resumed just before the lock.
    cursor.execute(
        f"{PLAN_ROW_SELECT}, e.lease_owner, e.on_worker_loss"
        " FROM job_endpoints e JOIN jobs j ON j.id = e.job_id WHERE e.id = ANY(%s)",
        [locked],
    )
    found = [(PlanRow(*values), owner, policy) for *values, owner, policy in cursor.fetchall()]
    abandoned = _abandon_running(cursor, [row.id for row, *_ in found])
    now = database_now(cursor)
    reaped = []
    for row, owner, policy in found:
        lost = abandoned.get(row.id)
        run_id, slot_at, attempt = (lost.run_id, lost.slot_at, lost.attempt) if lost else (None, None, 0)
        skip = policy == WorkerLossPolicy.SKIP or (lost is not None and _superseded(row, lost))
        consequence = apply_loss(row, slot_at=slot_at, attempt=attempt, skip=skip, now=now)
        reaped.append(Reaped(row.id, run_id, slot_at, owner, row.loss_count, consequence))
    rows = [row for row, *_ in found]
    decisions = [plan(row, now, unclaimed=False, spans=LOST) for row in rows]
    cursor.execute(
        f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL,"
        " fence = e.fence + 1, loss_count = p.loss_count, paused_until = p.paused_until,"
        " pause_reason = p.pause_reason,"
        " paused_by = CASE WHEN p.paused_by_system THEN 'system' ELSE e.paused_by END,"
        " pause_author = CASE WHEN NOT p.paused_by_system THEN e.pause_author END,"
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


@dataclass(frozen=True, slots=True)
class _Abandoned:
    """A run that was under way when its lease ended."""

    run_id: UUID
    slot_at: datetime
    attempt: int
    source: str
    claimed_at: datetime
    due_at: datetime


def _superseded(row: PlanRow, lost: _Abandoned) -> bool:
    """Whether the schedule changed between a claim and its slot, and has the slot no more: then nothing is repeated."""
    changed_at = row.schedule_changed_at
    if changed_at is None or not lost.claimed_at <= changed_at < lost.due_at:
        return False
    return due_by_schedule(row, slot_at=lost.slot_at, source=lost.source, due_at=lost.due_at) is None


def _abandon_running(cursor: Any, endpoint_ids: list[UUID]) -> dict[UUID, _Abandoned]:
    cursor.execute(
        f"""
        UPDATE runs SET status = '{RunStatus.ABANDONED}', finished_at = clock_timestamp(), error_kind = 'worker_lost',
            error_message = 'The worker that held this call was lost; the call may or may not have been made.'
        WHERE endpoint_id = ANY(%s) AND status = '{RunStatus.RUNNING}'
        RETURNING endpoint_id, id, scheduled_for, attempt, source, claimed_at, due_at
        """,
        [endpoint_ids],
    )
    return {endpoint: _Abandoned(*values) for endpoint, *values in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Released:
    """Which claims were given back, and which are this worker's and could not be, each as its endpoint and its fence.

    What is in neither is the worker's no longer.
    """

    done: frozenset[Hold]
    locked: frozenset[Hold]


def release(*, worker: str, claims: Sequence[Claim]) -> Released:
    """Gives back claims that were not called, and plans their endpoints anew; their runs are removed.

    All that the claims used up is there again: slots, retries, presses of run-now, one-shot hints. So a slot that is
    due goes to the next worker, and one that a pause or a stop withdrew is left to them. A claim without a run met a
    slot that had one already: what still counts as running there is ended. Atomic. Waits for no row: what somebody
    keeps locked is for a later call.
    """
    by_hold = {hold_of(claim): claim for claim in claims}
    with transaction.atomic(), connection.cursor() as cursor:
        free, locked = _lock_held(cursor, worker, by_hold.keys())
        if not free:
            return Released(free, locked)
        ours = {claim.endpoint_id: claim for hold, claim in by_hold.items() if hold in free}
        unused = {claim.endpoint_id: claim for claim in ours.values() if claim.run_id is not None}
        put_back(cursor, {endpoint_id: claim.used_up for endpoint_id, claim in unused.items()}, slots=True)
        # Read after the locking statement, which would bring the job's status of before it.
        cursor.execute(
            f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id WHERE e.id = ANY(%s)", [list(ours)]
        )
        rows = [PlanRow(*values) for values in cursor.fetchall()]
        cursor.execute(
            f"DELETE FROM runs WHERE id = ANY(%s) AND status = '{RunStatus.RUNNING}'",
            [[claim.run_id for claim in unused.values()]],
        )
        _abandon_running(cursor, [claim.endpoint_id for claim in ours.values() if claim.run_id is None])
        now = database_now(cursor)
        for row in rows:
            claim = unused.get(row.id)
            if claim is not None and claim.uncalled is not None:
                # What its run would have told of is there again, beside what a change of the schedule counted since.
                row.uncalled = json.loads(claim.uncalled)
            if claim is not None and row.schedule_changed_at != claim.schedule_changed_at:
                plan_given_back(row, slot_at=claim.slot_at, source=claim.source, due_at=claim.due_at, now=now)
            # A plan made during the claim looked past its slot, or past the latest of those that it folded into one.
            elif claim is not None and (row.next_run_at is None or row.next_run_at > claim.due_at):
                row.next_run_at = max(claim.due_at, claim.slot_at)
                row.next_slot_at, row.next_source = claim.slot_at, claim.source
        decisions = [plan(row, now, unclaimed=True) for row in rows]
        cursor.execute(
            f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL"
            f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}) AS p(id, {PLAN_COLUMNS}) WHERE e.id = p.id",
            [[row.id for row in rows], *plan_arrays(rows, decisions)],
        )
    return Released(free, locked)


def _lock_held(cursor: Any, worker: str, holds: Collection[Hold]) -> tuple[frozenset[Hold], frozenset[Hold]]:
    """Locks what the worker holds of these, rows of running runs included; returns what it got, and what is locked."""
    endpoints, fences = [endpoint for endpoint, _ in holds], [fence for _, fence in holds]
    held = (
        " FROM job_endpoints e JOIN UNNEST(%s::uuid[], %s::bigint[]) AS h(id, fence)"
        " ON h.id = e.id AND h.fence = e.fence WHERE e.lease_owner = %s"
    )
    cursor.execute(
        f"SELECT e.id, e.fence{held} ORDER BY e.id FOR NO KEY UPDATE OF e SKIP LOCKED", [endpoints, fences, worker]
    )
    free = frozenset(cursor.fetchall())
    cursor.execute(f"SELECT e.id, e.fence{held}", [endpoints, fences, worker])
    locked = frozenset(cursor.fetchall()) - free
    cursor.execute(
        f"""
        WITH running AS (
            SELECT id, endpoint_id FROM runs WHERE endpoint_id = ANY(%s) AND status = '{RunStatus.RUNNING}'
        ),
        free AS MATERIALIZED (SELECT id FROM runs WHERE id IN (SELECT id FROM running) FOR UPDATE SKIP LOCKED)
        SELECT endpoint_id FROM running WHERE id NOT IN (SELECT id FROM free)
        """,
        [[endpoint for endpoint, _ in free]],
    )
    stuck = {row[0] for row in cursor.fetchall()}
    blocked = frozenset(hold for hold in free if hold[0] in stuck)
    return free - blocked, locked | blocked
