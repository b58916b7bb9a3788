"""Claims: which worker calls which endpoint next. Set-based SQL; the only module that takes a lease.

A claim picks due rows, skipping those that another worker is just claiming, sets the lease with a new fence, and
inserts the runs, in one transaction. Only what it returned, after its commit, may be called.

Due rows wait in lanes. All start in the open one; what a claim meets there beyond the share of its owner or host, it
moves to the lane of that owner or host, from which nothing is taken while the share is used up. So a row that has to
wait is written once, and not read again by every claim that comes by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from cronicorn.postgres.cursors import hot_cursor
from jobs.models import RunStatus
from scheduling.ledger import lateslots
from scheduling.ledger.lateslots import Grid, LateSlot
from scheduling.ledger.shares import OPEN_LANE, Share
from scheduling.ledger.usedup import USED_UP_SELECT, UsedUp
from scheduling.plan.decision import Source


@dataclass(frozen=True, slots=True)
class Claim:
    """An endpoint that this worker holds, with its run and all that the call needs.

    `run_id` is None when the slot had a run already: then nothing may be called and the claim must be released.
    `headers` and `success_criteria` are JSON as text: reading them is left to whom a fault concerns alone.
    `signing_keys` are the owner's live ones, newest first, each as its id and its sealed secret.
    """

    run_id: UUID | None
    endpoint_id: UUID
    owner_id: UUID
    host: str
    fence: int
    slot_at: datetime
    due_at: datetime
    attempt: int
    source: str
    url: str
    method: str
    headers: str
    headers_sealed: str | None
    body: str | None
    timeout_ms: int
    max_response_bytes: int
    success_criteria: str | None
    synthetic: bool
    config_version: int
    claimed_at: datetime
    signing_keys: list[list[str]]
    schedule_changed_at: datetime | None
    uncalled: str | None
    used_up: UsedUp


SEARCH_WINDOW = 2_000

# The lanes in use: hops from one to the next along the index, whatever number of rows they hold.
LANES = """
lanes AS (
    (SELECT lane FROM job_endpoints WHERE lease_owner IS NULL AND next_run_at IS NOT NULL ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT e.lane FROM job_endpoints e
            WHERE e.lease_owner IS NULL AND e.next_run_at IS NOT NULL AND e.lane > lanes.lane
            ORDER BY e.lane LIMIT 1)
    FROM lanes WHERE lanes.lane IS NOT NULL
)
"""
_MANUAL = f"e.next_source = '{Source.MANUAL}'"
# Each subquery of the clock is one value for the statement, which an index can serve.
_WAITING = f"""
    SELECT id, lane, owner_id, host, next_run_at, {USED_UP_SELECT}
    FROM job_endpoints
    WHERE lease_owner IS NULL AND next_run_at IS NOT NULL AND next_run_at <= (SELECT until FROM clock)
"""
# The oldest of every lane that may still give something. What is picked is locked: the lanes beside the open one add no
# more than four windows together, if they are not more than that.
_OLDEST = f"""
oldest AS MATERIALIZED (
    SELECT waiting.* FROM lanes
    LEFT JOIN UNNEST(%(lanes)s::text[], %(left)s::integer[]) AS share(lane, remaining) ON share.lane = lanes.lane
    CROSS JOIN LATERAL (
        {_WAITING} AND lane = lanes.lane
        ORDER BY next_run_at LIMIT CASE
            WHEN lanes.lane = '{OPEN_LANE}' THEN %(window)s
            ELSE LEAST(share.remaining, %(window)s, GREATEST(4 * %(window)s / (SELECT count(*) FROM lanes), 1)) END
        FOR NO KEY UPDATE SKIP LOCKED
    ) waiting
    ORDER BY waiting.next_run_at LIMIT %(window)s
),
"""
# The oldest of whoever may still get something, however many rows stand in front in the open lane: these are read.
_BEHIND = f"""
behind AS MATERIALIZED (
    {_WAITING} AND lane = '{OPEN_LANE}' AND owner_id <> ALL(%(full_owners)s) AND host <> ALL(%(full_hosts)s)
    ORDER BY next_run_at LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
),
"""
# The first of each owner who may still get something, then the second of each, wherever they wait.
_FIRSTS = """
firsts AS MATERIALIZED (
    SELECT turns.id FROM (
        SELECT open.id, open.next_run_at, row_number() OVER (PARTITION BY owner_id ORDER BY open.next_run_at) AS turn
        FROM lanes
        LEFT JOIN UNNEST(%(lanes)s::text[], %(left)s::integer[]) AS share(lane, remaining) ON share.lane = lanes.lane
        CROSS JOIN LATERAL (
            SELECT id, owner_id, next_run_at FROM job_endpoints
            WHERE lane = lanes.lane AND lease_owner IS NULL AND next_run_at IS NOT NULL
                AND next_run_at <= (SELECT until FROM clock)
                AND owner_id <> ALL(%(full_owners)s) AND host <> ALL(%(full_hosts)s)
        ) open
        WHERE COALESCE(share.remaining, 1) > 0
    ) turns
    WHERE turn <= %(per_owner)s ORDER BY turn, next_run_at LIMIT %(limit)s
),
"""
_PICKED = {
    "oldest": f"{_OLDEST} picked AS (SELECT * FROM oldest)",
    "search": f"{_OLDEST} {_BEHIND} picked AS (SELECT * FROM oldest UNION SELECT * FROM behind)",
    "newcomers": f"{_FIRSTS} picked AS MATERIALIZED ("
    f"{_WAITING} AND id IN (SELECT id FROM firsts) FOR NO KEY UPDATE SKIP LOCKED)",
}
# Moves what is over the share of its owner or host to their lane.
_PARKED = """
parked AS (
    UPDATE job_endpoints e SET lane = over.lane
    FROM (SELECT id, CASE WHEN owner_free THEN 'host:' || host ELSE 'owner:' || owner_id END AS lane
          FROM judged WHERE NOT (owner_free AND host_free)) over
    WHERE e.id = over.id AND e.lane <> over.lane
),
"""


def _statement(picked: str, *, park: bool) -> str:
    return f"""
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT now, now + make_interval(secs => %(horizon)s) AS until FROM (SELECT clock_timestamp() AS now) read
),
{LANES},
{_PICKED[picked]},
-- Owners first: a row that waits for its owner takes no place of its host.
judged AS MATERIALIZED (
    SELECT by_owner.*, COALESCE(h.held, 0)
           + row_number() OVER (PARTITION BY by_owner.host, owner_free ORDER BY next_run_at)
           <= %(per_host)s AS host_free
    FROM (
        SELECT picked.*, COALESCE(o.held, 0)
               + row_number() OVER (PARTITION BY owner_id ORDER BY next_run_at) <= %(per_owner)s AS owner_free
        FROM picked
        LEFT JOIN UNNEST(%(owners)s::uuid[], %(owner_counts)s::integer[]) AS o(id, held) ON o.id = picked.owner_id
    ) by_owner
    LEFT JOIN UNNEST(%(hosts)s::text[], %(host_counts)s::integer[]) AS h(host, held) ON h.host = by_owner.host
),
{_PARKED if park else ""}
due AS MATERIALIZED (
    SELECT id, uses_oneshot, started_before, slot_before, retries_before, consumed
    FROM judged WHERE owner_free AND host_free ORDER BY next_run_at LIMIT %(limit)s
),
claimed AS (
    UPDATE job_endpoints e SET
        lease_owner = %(worker)s,
        lease_until = clock.now + make_interval(secs => %(lease)s),
        fence = e.fence + 1,
        lane = '{OPEN_LANE}',
        last_slot_at = GREATEST(e.last_slot_at, e.next_slot_at),
        last_started_at = GREATEST(clock.now, e.next_run_at),
        manual_run_at = CASE WHEN NOT {_MANUAL} THEN e.manual_run_at END,
        manual_run_by = CASE WHEN NOT {_MANUAL} THEN e.manual_run_by END,
        ai_hint_next_run_at = CASE WHEN NOT due.uses_oneshot THEN e.ai_hint_next_run_at END,
        ai_hint_next_run_expires_at = CASE WHEN NOT due.uses_oneshot THEN e.ai_hint_next_run_expires_at END,
        ai_hint_next_run_reason = CASE WHEN NOT due.uses_oneshot THEN e.ai_hint_next_run_reason END,
        ai_hint_next_run_set_by = CASE WHEN NOT due.uses_oneshot THEN e.ai_hint_next_run_set_by END,
        ai_hint_next_run_proposal_id = CASE WHEN NOT due.uses_oneshot THEN e.ai_hint_next_run_proposal_id END,
        retries_used = CASE WHEN e.next_source IN ('{Source.RETRY}', '{Source.MANUAL}') THEN e.retries_used ELSE 0 END,
        retry_at = CASE WHEN {_MANUAL} THEN e.retry_at END,
        retry_slot_at = CASE WHEN {_MANUAL} THEN e.retry_slot_at END,
        retry_attempt = CASE WHEN {_MANUAL} THEN e.retry_attempt END
    FROM due, clock
    WHERE e.id = due.id
    RETURNING e.*, clock.now AS claimed_at, due.started_before, due.slot_before, due.retries_before, due.consumed
),
started AS (
    INSERT INTO runs (endpoint_id, owner_id, scheduled_for, due_at, attempt, source, status, claimed_at, worker, fence,
                      decision, coalesced_slots, coalesced_until, coalesced_cause)
    SELECT id, owner_id, next_slot_at, next_run_at, next_attempt, next_source, '{RunStatus.RUNNING}', claimed_at,
           lease_owner, fence, next_decision, COALESCE((next_decision #>> '{{uncalled,slots}}')::integer, 0),
           CASE WHEN next_decision #> '{{uncalled,slots}}' IS NOT NULL THEN next_slot_at END,
           next_decision #>> '{{uncalled,cause}}'
    FROM claimed
    ON CONFLICT DO NOTHING
    RETURNING id, endpoint_id
)
SELECT s.id, c.id, c.owner_id, c.host, c.fence, c.next_slot_at, c.next_run_at, c.next_attempt, c.next_source, c.url,
       c.method, c.headers::text, c.headers_sealed, c.body, c.timeout_ms, c.max_response_bytes,
       c.success_criteria::text, j.is_synthetic, c.config_version, c.claimed_at,
       ARRAY(SELECT ARRAY[k.id::text, k.sealed] FROM signing_keys k
             WHERE k.owner_id = c.owner_id AND (k.retires_at IS NULL OR k.retires_at > c.claimed_at)
             ORDER BY k.created_at DESC, k.id DESC),
       c.schedule_changed_at, (c.next_decision -> 'uncalled')::text, c.started_before, c.slot_before,
       c.retries_before, c.consumed,
       c.baseline_interval_ms, c.anchor_at, c.baseline_cron, c.timezone, c.ends_at, c.misfire_grace_ms,
       c.starts_at
FROM claimed c JOIN jobs j ON j.id = c.job_id LEFT JOIN started s ON s.endpoint_id = c.id
ORDER BY c.next_run_at
"""


class Reach(Enum):
    """How far a claim looks: at the OLDEST due rows, or also at what stands behind any number that have to wait.

    A SEARCH moves SEARCH_WINDOW of those in front out of the way. One for NEWCOMERS goes by owners, a call for each
    before a second for anybody, and moves nothing: those in front wait only until a regular claim comes by.
    """

    OLDEST = _statement("oldest", park=True)
    SEARCH = _statement("search", park=True)
    NEWCOMERS = _statement("newcomers", park=False)


class Claimed(list[Claim]):
    """The claims, oldest first; `written_off` counts slots that are missed instead."""

    written_off = 0


def claim_due(
    *,
    worker: str,
    limit: int,
    lease: timedelta,
    horizon: timedelta = timedelta(0),
    share: Share | None = None,
    reach: Reach = Reach.OLDEST,
) -> Claimed:
    """Claims up to `limit` endpoints that are due within `horizon`, oldest first, each owner and host within its share.

    Slots that passed while nobody could claim are folded into one run, or written off as missed where the owner set a
    grace. Atomic; what it returns is committed. An exception means that nothing may be called,
    although the claim may stand: its lease then runs out.
    """
    share = share or Share()
    left = share.left
    with transaction.atomic(), hot_cursor() as cursor:
        cursor.execute(
            reach.value,
            {
                "limit": limit,
                "window": max(limit, SEARCH_WINDOW) if reach is Reach.SEARCH else limit,
                "worker": worker,
                "lease": lease.total_seconds(),
                "horizon": horizon.total_seconds(),
                "per_owner": share.per_owner,
                "per_host": share.per_host,
                "owners": list(share.owners),
                "owner_counts": list(share.owners.values()),
                "hosts": list(share.hosts),
                "host_counts": list(share.hosts.values()),
                "full_owners": share.full_owners,
                "full_hosts": share.full_hosts,
                "lanes": list(left),
                "left": list(left.values()),
            },
        )
        rows = [(_claim(values[:27]), Grid(*values[27:])) for values in cursor.fetchall()]
        late = {slot.run_id: slot for claim, grid in rows if (slot := _late(claim, grid)) is not None}
        if late:
            lateslots.write(cursor, list(late.values()), rows[0][0].claimed_at)
    claims = Claimed()
    for claim, _ in rows:
        slot = late.get(claim.run_id) if claim.run_id is not None else None
        if slot is None:
            claims.append(claim)
        elif not slot.tardy.missed:
            claims.append(replace(claim, slot_at=slot.tardy.latest_at))
    claims.written_off = len(rows) - len(claims)
    return claims


def _late(claim: Claim, grid: Grid) -> LateSlot | None:
    if claim.run_id is None:
        return None
    return lateslots.judge(
        run_id=claim.run_id,
        endpoint_id=claim.endpoint_id,
        source=claim.source,
        slot_at=claim.slot_at,
        due_at=claim.due_at,
        now=claim.claimed_at,
        grid=grid,
        used_up=claim.used_up,
        uncalled=claim.uncalled,
    )


def _claim(found: Sequence[Any]) -> Claim:
    return Claim(*[*found[:-4], UsedUp(*found[-4:])])


@dataclass(frozen=True, slots=True)
class Horizon:
    """What the database holds next for a worker with nothing to do; None where there is nothing."""

    now: datetime
    next_due_at: datetime | None
    next_lease_end: datetime | None


def look_ahead(*, full_lanes: Sequence[str] = ()) -> Horizon:
    """When the next endpoint outside the full lanes falls due, and the next lease ends, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH RECURSIVE {LANES}
            SELECT clock_timestamp(),
                   (SELECT min(first.next_run_at) FROM lanes CROSS JOIN LATERAL (
                        SELECT next_run_at FROM job_endpoints
                        WHERE lane = lanes.lane AND lease_owner IS NULL AND next_run_at IS NOT NULL
                        ORDER BY next_run_at LIMIT 1
                    ) first WHERE lanes.lane <> ALL(%s)),
                   (SELECT min(lease_until) FROM job_endpoints WHERE lease_owner IS NOT NULL)
            """,
            [list(full_lanes)],
        )
        return Horizon(*cursor.fetchone())
