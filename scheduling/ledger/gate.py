"""The start gate: whether claims that wait may still be called, and with which request. Set-based SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import connection

from scheduling.ledger.claims import Claim
from scheduling.plan.decision import Source

# What must be true of a claimed call at the moment when it starts; rows come back only where it no longer is.
_RECHECK = f"""
SELECT h.run_id, e.url, e.host, e.method, e.headers::text, e.headers_sealed, e.body, e.timeout_ms, e.max_response_bytes,
       e.success_criteria::text, e.config_version,
       (e.id IS NULL OR e.fence <> h.fence OR e.lease_owner IS DISTINCT FROM %(worker)s) AS lost,
       (e.status <> 'active' OR j.status <> 'active' OR NOT e.owner_active
        OR (e.paused_until > h.due_at AND h.source <> '{Source.MANUAL}')) IS TRUE AS stopped
FROM UNNEST(%(runs)s::uuid[], %(endpoints)s::uuid[], %(fences)s::bigint[], %(versions)s::integer[],
            %(dues)s::timestamptz[], %(sources)s::text[]) AS h(run_id, endpoint_id, fence, version, due_at, source)
LEFT JOIN job_endpoints e ON e.id = h.endpoint_id
LEFT JOIN jobs j ON j.id = e.job_id
WHERE e.id IS NULL OR e.fence <> h.fence OR e.lease_owner IS DISTINCT FROM %(worker)s
   OR e.status <> 'active' OR j.status <> 'active' OR NOT e.owner_active OR e.config_version <> h.version
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
    )
