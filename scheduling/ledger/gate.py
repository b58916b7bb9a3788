"""The start gate: whether claims that wait may still be called, and with which request. Set-based SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from jobs.replan import PLAN_ROW_COLUMNS
from scheduling.ledger.claims import Claim
from scheduling.plan.decision import Source
from scheduling.plan.edits import due_by_schedule
from scheduling.plan.row import PlanRow

# What must be true of a claimed call at the moment when it starts; rows come back only where it no longer is.
_RECHECK = f"""
SELECT h.run_id, e.url, e.host, e.method, e.headers::text, e.headers_sealed, e.body, e.timeout_ms, e.max_response_bytes,
       e.success_criteria::text, e.config_version, {PLAN_ROW_COLUMNS},
       (e.id IS NULL OR e.fence <> h.fence OR e.lease_owner IS DISTINCT FROM %(worker)s) AS lost,
       (e.status <> 'active' OR j.status <> 'active' OR NOT e.owner_active
        OR (e.paused_until > h.due_at AND h.source <> '{Source.MANUAL}')) IS TRUE AS stopped
FROM UNNEST(%(runs)s::uuid[], %(endpoints)s::uuid[], %(fences)s::bigint[], %(versions)s::integer[],
            %(changes)s::timestamptz[], %(dues)s::timestamptz[], %(sources)s::text[])
    AS h(run_id, endpoint_id, fence, version, changed_at, due_at, source)
LEFT JOIN job_endpoints e ON e.id = h.endpoint_id
LEFT JOIN jobs j ON j.id = e.job_id
WHERE e.id IS NULL OR e.fence <> h.fence OR e.lease_owner IS DISTINCT FROM %(worker)s
   OR e.status <> 'active' OR j.status <> 'active' OR NOT e.owner_active OR e.config_version <> h.version
   OR e.schedule_changed_at IS DISTINCT FROM h.changed_at
   OR (e.paused_until > h.due_at AND h.source <> '{Source.MANUAL}')
"""
_REQUEST_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What changed under claims that wait: lost leases, stopped endpoints, and claims with an edited request.

    `moved` are those whose slot a new schedule does not have, or has at another time.
    """

    lost: list[UUID]
    stopped: list[UUID]
    moved: list[UUID]
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
                "changes": [claim.schedule_changed_at for claim in claims],
                "dues": [claim.due_at for claim in claims],
                "sources": [claim.source for claim in claims],
            },
        )
        rows = cursor.fetchall()
    found = Rechecked([], [], [], [])
    for run_id, *values, gone, stop in rows:
        if gone:
            found.lost.append(run_id)
            continue
        row, claim = PlanRow(*values[_REQUEST_COLUMNS:]), waiting[run_id]
        if stop:
            found.stopped.append(run_id)
        elif not _has_slot(row, claim):
            found.moved.append(run_id)
        else:
            found.edited.append(_edited(claim, values[:_REQUEST_COLUMNS], row.schedule_changed_at))
    return found


def _has_slot(row: PlanRow, claim: Claim) -> bool:
    """Whether the schedule, if it changed since the claim, still has its slot at the same time."""
    if row.schedule_changed_at == claim.schedule_changed_at:
        return True
    due_at = due_by_schedule(row, slot_at=claim.slot_at, source=claim.source, due_at=claim.due_at)
    return due_at == claim.due_at


def _edited(claim: Claim, values: list[Any], schedule_changed_at: datetime | None) -> Claim:
    url, host, method, headers, sealed, body, timeout_ms, max_bytes, criteria, version = values
    return replace(
        claim,
        url=url,
        host=host,
        method=method,
        headers=headers,
        headers_sealed=sealed,
        body=body,
        timeout_ms=timeout_ms,
        max_response_bytes=max_bytes,
        success_criteria=criteria,
        config_version=version,
        schedule_changed_at=schedule_changed_at,
    )
