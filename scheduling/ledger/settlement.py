"""Settles results: writes runs, responses and the next plan of each endpoint from its fresh row, a batch at a time.

One transaction locks the endpoints in id order, checks that the worker still holds each of them under the fence of
its claim, and writes with set-based SQL. A result of a lease that was lost changes nothing but the run's late_result.
Settling again what is settled already is harmless.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from cronicorn.postgres.arrays import JSONB_ARRAY, array, instant_array, json_array, text_array, uuid_array
from cronicorn.postgres.cursors import hot_cursor
from cronicorn.runtime.clock import database_now
from jobs.errors import InvalidInputError
from jobs.models import RunStatus, WorkerLossPolicy
from jobs.replan import PLAN_ARRAYS, PLAN_ASSIGNMENTS, PLAN_COLUMNS, PLAN_ROW_SELECT, plan, plan_arrays
from jobs.rules import differing_verdicts, parse_rules
from scheduling.exchange.outcome import ErrorKind, Outcome
from scheduling.plan.decision import Decision
from scheduling.plan.row import PlanRow, apply_giving_up, apply_outcome
from scheduling.plan.uncalled import in_call


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome with its times by the database's clock; `started_at` is None where nothing was sent.

    `stopping` tells that this worker canceled the call in order to stop, not for want of a lease; `last` that the
    owner wants at most one call and this one may have been made. `plain_body` is the whole body before it was masked,
    for the owner's rules alone and never stored; None where nothing was masked.
    """

    outcome: Outcome
    attempt: int
    slot_at: datetime
    started_at: datetime | None
    finished_at: datetime
    stopping: bool = False
    last: bool = False
    plain_body: str | None = field(default=None, repr=False)

    @property
    def status(self) -> RunStatus:
        """How the run ends."""
        if self.outcome.error_kind is ErrorKind.CANCELED:
            return RunStatus.ABANDONED
        return RunStatus.SUCCESS if self.outcome.ok else RunStatus.FAILED


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a batch: the runs that count, those whose lease was lost, and the earliest of the new plans.

    `locked` are runs whose endpoints somebody else is changing; they are to be settled again.
    """

    accepted: frozenset[UUID]
    fenced: frozenset[UUID]
    locked: frozenset[UUID]
    next_due_at: datetime | None


def settle(*, worker: str, results: Sequence[Result]) -> Settled:
    """Writes the results and plans what comes next. Atomic: all of the batch or nothing.

    Waits for no endpoint: one that somebody keeps locked must not hold up the others.
    """
    # An endpoint that was lost and claimed again may stand in one batch twice; only the higher fence can be held.
    by_endpoint = {
        result.outcome.call.endpoint_id: result
        for result in sorted(results, key=lambda result: result.outcome.call.fence)
    }
    with transaction.atomic(), hot_cursor() as cursor:
        # Locked first and read by a later statement, which also sees a job that was resumed just before the lock.
        cursor.execute(
            "SELECT id FROM job_endpoints WHERE id = ANY(%s::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
            [uuid_array(by_endpoint)],
        )
        unlocked = {row[0] for row in cursor.fetchall()}
        cursor.execute(
            f"{PLAN_ROW_SELECT}, e.on_worker_loss, e.fence,"
            " CASE WHEN e.id = ANY(%s::uuid[]) AND e.rules <> '[]'::jsonb THEN e.rules::text END"
            " FROM job_endpoints e JOIN jobs j ON j.id = e.job_id WHERE e.id = ANY(%s::uuid[])",
            [
                uuid_array(key for key, result in by_endpoint.items() if result.plain_body is not None),
                uuid_array(unlocked),
            ],
        )
        held: list[tuple[PlanRow, Result]] = []
        verdicts: dict[UUID, str] = {}
        for *values, on_loss, fence, rules in cursor.fetchall():
            row = PlanRow(*values)
            result = by_endpoint[row.id]
            if on_loss == WorkerLossPolicy.SKIP and result.started_at is not None:
                result = replace(result, last=True)
            if row.lease_owner == worker and fence == result.outcome.call.fence:
                held.append((row, result))
                if rules is not None and (found := _verdicts(rules, result)):
                    verdicts[result.outcome.call.run_id] = json.dumps(found)
        accepted = frozenset(result.outcome.call.run_id for _, result in held)
        locked = _still_held(cursor, worker, [by_endpoint[key] for key in by_endpoint.keys() - unlocked])
        now = database_now(cursor)
        _write_runs(cursor, [result for _, result in held])
        _write_responses(cursor, [result for _, result in held], verdicts)
        plans = _write_endpoints(cursor, held, now)
        known = accepted | locked
        fenced = _write_late_results(cursor, [result for result in results if result.outcome.call.run_id not in known])
    return Settled(
        accepted, fenced, locked, min((plan.run_at for plan in plans if plan.run_at is not None), default=None)
    )


def _still_held(cursor: Any, worker: str, results: Sequence[Result]) -> frozenset[UUID]:
    """The runs among these whose endpoints are still the worker's; not the deleted ones and those taken over."""
    if not results:
        return frozenset()
    calls = {result.outcome.call.endpoint_id: result.outcome.call for result in results}
    cursor.execute(
        "SELECT id, fence FROM job_endpoints WHERE id = ANY(%s::uuid[]) AND lease_owner = %s",
        [list(calls), worker],
    )
    return frozenset(calls[endpoint].run_id for endpoint, fence in cursor.fetchall() if calls[endpoint].fence == fence)


def _write_runs(cursor: Any, results: Sequence[Result]) -> None:
    if not results:
        return
    outcomes = [result.outcome for result in results]
    cursor.execute(
        """
        UPDATE runs r SET status = p.status, started_at = p.started_at, finished_at = p.finished_at,
            duration_ms = p.total_ms, dns_ms = p.dns_ms, connect_ms = p.connect_ms, tls_ms = p.tls_ms,
            first_byte_ms = p.first_byte_ms, total_ms = p.total_ms, status_code = p.status_code,
            error_kind = p.error_kind, error_message = p.error_message
        FROM UNNEST(%s::uuid[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::float8[], %s::float8[],
                    %s::float8[], %s::float8[], %s::float8[], %s::smallint[], %s::text[], %s::text[])
            AS p(id, status, started_at, finished_at, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, status_code,
                 error_kind, error_message)
        WHERE r.id = p.id
        """,
        [
            uuid_array(outcome.call.run_id for outcome in outcomes),
            array(result.status.value for result in results),
            instant_array(result.started_at for result in results),
            instant_array(result.finished_at for result in results),
            array(outcome.timings.dns_ms for outcome in outcomes),
            array(outcome.timings.connect_ms for outcome in outcomes),
            array(outcome.timings.tls_ms for outcome in outcomes),
            array(outcome.timings.first_byte_ms for outcome in outcomes),
            array(outcome.timings.total_ms for outcome in outcomes),
            array(outcome.status_code for outcome in outcomes),
            array(_error_kind(result) for result in results),
            text_array(_error_message(result) for result in results),
        ],
    )


def _error_kind(result: Result) -> str | None:
    if result.status is RunStatus.ABANDONED:
        return "shutdown" if result.stopping else "lease_lost"
    return result.outcome.error_kind.value if result.outcome.error_kind else None


def _error_message(result: Result) -> str | None:
    if result.status is RunStatus.ABANDONED:
        follows = "not repeated, since at most one call is wanted" if result.last else "repeated"
        return f"The worker had to give the call up before it ended; the slot is {follows}."
    return result.outcome.error_message[:500] if result.outcome.error_message else None


def _verdicts(rules: str, result: Result) -> dict[str, bool]:
    """What the rules' conditions find in the plain body, where the masked one answers otherwise."""
    try:
        return differing_verdicts(parse_rules(json.loads(rules)), result.plain_body or "", result.outcome.body)
    except (InvalidInputError, ValueError):
        return {}


def _write_responses(cursor: Any, results: Sequence[Result], verdicts: Mapping[UUID, str]) -> None:
    answered = [result for result in results if result.outcome.status_code is not None]
    if not answered:
        return
    outcomes = [result.outcome for result in answered]
    cursor.execute(
        f"""
        INSERT INTO run_responses
            (run_id, endpoint_id, received_at, body, truncated, flags, content_type, sha256, headers, rule_verdicts)
        SELECT * FROM UNNEST(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::text[], %s::boolean[], {JSONB_ARRAY},
                             %s::text[], %s::text[], {JSONB_ARRAY}, %s::jsonb[])
        ON CONFLICT DO NOTHING
        """,
        [
            uuid_array(outcome.call.run_id for outcome in outcomes),
            uuid_array(outcome.call.endpoint_id for outcome in outcomes),
            instant_array(result.finished_at for result in answered),
            text_array(outcome.body for outcome in outcomes),
            array(outcome.truncated for outcome in outcomes),
            json_array(outcome.body_flags for outcome in outcomes),
            text_array(outcome.content_type[:255] if outcome.content_type else None for outcome in outcomes),
            array(outcome.sha256 for outcome in outcomes),
            json_array(dict(outcome.headers) for outcome in outcomes),
            text_array(verdicts.get(outcome.call.run_id) for outcome in outcomes),
        ],
    )


def _write_endpoints(cursor: Any, held: Sequence[tuple[PlanRow, Result]], now: datetime) -> list[Decision]:
    if not held:
        return []
    for row, result in held:
        _apply_result(row, result, now)
    rows = [row for row, _ in held]
    decisions = [
        plan(row, now, unclaimed=False, spans=in_call(result.started_at or result.finished_at, result.finished_at))
        for row, result in held
    ]
    cursor.execute(
        f"""
        UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL,
            last_started_at = p.last_started_at, last_run_at = p.last_run_at, failure_count = p.failure_count,
            retries_used = p.retries_used, loss_count = 0, failing_since = p.failing_since,
            server_wait_since = p.server_wait_since, server_wait_until = p.server_wait_until,
            server_wait_reason = p.server_wait_reason
        FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}, %s::timestamptz[], %s::timestamptz[], %s::integer[], %s::smallint[],
                    %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::text[])
            AS p(id, {PLAN_COLUMNS}, last_started_at, last_run_at, failure_count, retries_used, failing_since,
                 server_wait_since, server_wait_until, server_wait_reason)
        WHERE e.id = p.id
        """,
        [
            uuid_array(row.id for row in rows),
            *plan_arrays(rows, decisions),
            instant_array(row.last_started_at for row in rows),
            instant_array(result.finished_at for _, result in held),
            array(row.failure_count for row in rows),
            array(row.retries_used for row in rows),
            instant_array(row.failing_since for row in rows),
            instant_array(row.server_wait_since for row in rows),
            instant_array(row.server_wait_until for row in rows),
            text_array(row.server_wait_reason for row in rows),
        ],
    )
    return decisions


def _apply_result(row: PlanRow, result: Result, now: datetime) -> None:
    if result.started_at is not None:
        row.last_started_at = result.started_at
    if result.status is RunStatus.ABANDONED and result.last:
        return
    if result.status is RunStatus.ABANDONED:
        apply_giving_up(row, slot_at=result.slot_at, attempt=result.attempt, now=now)
    else:
        apply_outcome(
            row,
            result.outcome,
            slot_at=result.slot_at,
            attempt=result.attempt,
            finished_at=result.finished_at,
            now=now,
        )


def _write_late_results(cursor: Any, results: Sequence[Result]) -> frozenset[UUID]:
    """Keeps results that came after their lease was lost, on their abandoned runs; they count for nothing else."""
    if not results:
        return frozenset()
    cursor.execute(
        f"""
        UPDATE runs r SET late_result = p.late_result
        FROM UNNEST(%s::uuid[], %s::jsonb[]) AS p(id, late_result)
        WHERE r.id = p.id AND r.status = '{RunStatus.ABANDONED}'
        RETURNING r.id
        """,
        [
            [result.outcome.call.run_id for result in results],
            [
                json.dumps(
                    {
                        "status": result.status.value,
                        "status_code": result.outcome.status_code,
                        "error_kind": _error_kind(result),
                        "finished_at": result.finished_at.isoformat(),
                        "total_ms": result.outcome.timings.total_ms,
                    }
                )
                for result in results
            ],
        ],
    )
    return frozenset(row[0] for row in cursor.fetchall())
