"""Claims: which worker calls which endpoint next. Set-based SQL; the only module that takes a lease.

A claim picks due rows, skipping those that another worker is just claiming, sets the lease with a new fence, and
inserts the runs, in one transaction. Only what it returned, after its commit, may be called.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from cronicorn.postgres.cursors import hot_cursor
from jobs.models import RunStatus
from jobs.replan import PLAN_ARRAYS, PLAN_ASSIGNMENTS, PLAN_COLUMNS, PLAN_ROW_SELECT, plan, plan_arrays
from scheduling.cron.cadence import Cadence, CronError, parse_cadence
from scheduling.plan.decision import Source
from scheduling.plan.row import OVERDUE_SOURCES, PlanRow
from scheduling.plan.tardiness import Tardy, judge_tardiness


@dataclass(frozen=True, slots=True)
class Claim:
    """An endpoint that this worker holds, with its run and all that the call needs.

    `run_id` is None when the slot had a run already: then nothing may be called and the claim must be released.
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
    headers: list[dict[str, Any]]
    headers_sealed: str | None
    body: str | None
    timeout_ms: int
    max_response_bytes: int
    success_criteria: object
    synthetic: bool
    config_version: int
    claimed_at: datetime
    signing_keys: list[list[str]]


@dataclass(frozen=True, slots=True)
class Share:
    """How many calls one owner and one host may have in hand, and how many each has; the default is no limit."""

    per_owner: int = 1_000_000
    per_host: int = 1_000_000
    owners: Mapping[UUID, int] = field(default_factory=dict)
    hosts: Mapping[str, int] = field(default_factory=dict)

    @property
    def full_owners(self) -> list[UUID]:
        """Owners that may get no more for now."""
        return [owner for owner, count in self.owners.items() if count >= self.per_owner]

    @property
    def full_hosts(self) -> list[str]:
        """Hosts that may get no more for now."""
        return [host for host, count in self.hosts.items() if count >= self.per_host]


# Due rows, oldest first. Each subquery of the clock is one value for the statement, which an index can serve.
_PICK_OLDEST = """
    SELECT id, owner_id, host, next_run_at FROM job_endpoints
    WHERE lease_owner IS NULL AND next_run_at IS NOT NULL AND next_run_at <= (SELECT until FROM clock)
        AND host <> ALL(%(full_hosts)s)
    ORDER BY next_run_at LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
"""

# The same with some owners at their limit: hops from owner to owner along an index, so that the waiting rows of a
# full owner, however many stand in front, are not read.
_PICK_IN_LANES = """
    SELECT picked.* FROM lanes CROSS JOIN LATERAL (
        SELECT id, owner_id, host, next_run_at FROM job_endpoints
        WHERE owner_id = lanes.owner_id AND lease_owner IS NULL AND next_run_at IS NOT NULL
            AND next_run_at <= (SELECT until FROM clock) AND host <> ALL(%(full_hosts)s)
        ORDER BY next_run_at LIMIT %(limit)s
        FOR NO KEY UPDATE SKIP LOCKED
    ) picked
    WHERE lanes.owner_id <> ALL(%(full_owners)s)
    ORDER BY picked.next_run_at LIMIT %(limit)s
"""
_LANES = """
lanes AS (
    (SELECT owner_id FROM job_endpoints WHERE lease_owner IS NULL AND next_run_at IS NOT NULL ORDER BY owner_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.owner_id FROM job_endpoints e
            WHERE e.lease_owner IS NULL AND e.next_run_at IS NOT NULL AND e.owner_id > lanes.owner_id
            ORDER BY e.owner_id LIMIT 1)
    FROM lanes WHERE lanes.owner_id IS NOT NULL
),
"""


def _statement(lanes: str, pick: str) -> str:
    manual = f"e.next_source = '{Source.MANUAL}'"
    # A one-shot hint that a pause held back is served by the run at the end of the pause.
    oneshot = (
        f"(e.next_source = '{Source.AI_ONESHOT}'"
        f" OR e.next_source = '{Source.PAUSED}' AND e.ai_hint_next_run_at <= e.next_run_at)"
    )
    return f"""
WITH RECURSIVE clock AS MATERIALIZED (
    SELECT now, now + make_interval(secs => %(horizon)s) AS until FROM (SELECT clock_timestamp() AS now) read
),
{lanes}
picked AS MATERIALIZED ({pick}),
due AS MATERIALIZED (
    SELECT ranked.id FROM (
        SELECT id, host, owner_id,
               row_number() OVER (PARTITION BY host ORDER BY next_run_at) AS nth_of_host,
               row_number() OVER (PARTITION BY owner_id ORDER BY next_run_at) AS nth_of_owner
        FROM picked
    ) ranked
    LEFT JOIN UNNEST(%(hosts)s::text[], %(host_counts)s::integer[]) AS h(host, held) ON h.host = ranked.host
    LEFT JOIN UNNEST(%(owners)s::uuid[], %(owner_counts)s::integer[]) AS o(id, held) ON o.id = ranked.owner_id
    WHERE nth_of_host + COALESCE(h.held, 0) <= %(per_host)s AND nth_of_owner + COALESCE(o.held, 0) <= %(per_owner)s
),
claimed AS (
    UPDATE job_endpoints e SET
        lease_owner = %(worker)s,
        lease_until = clock.now + make_interval(secs => %(lease)s),
        fence = e.fence + 1,
        last_slot_at = GREATEST(e.last_slot_at, e.next_slot_at),
        last_started_at = GREATEST(clock.now, e.next_run_at),
        manual_run_at = CASE WHEN NOT {manual} THEN e.manual_run_at END,
        manual_run_by = CASE WHEN NOT {manual} THEN e.manual_run_by END,
        ai_hint_next_run_at = CASE WHEN NOT {oneshot} THEN e.ai_hint_next_run_at END,
        ai_hint_next_run_expires_at = CASE WHEN NOT {oneshot} THEN e.ai_hint_next_run_expires_at END,
        ai_hint_next_run_reason = CASE WHEN NOT {oneshot} THEN e.ai_hint_next_run_reason END,
        ai_hint_next_run_set_by = CASE WHEN NOT {oneshot} THEN e.ai_hint_next_run_set_by END,
        ai_hint_next_run_proposal_id = CASE WHEN NOT {oneshot} THEN e.ai_hint_next_run_proposal_id END,
        retries_used = CASE WHEN e.next_source IN ('{Source.RETRY}', '{Source.MANUAL}') THEN e.retries_used ELSE 0 END,
        retry_at = CASE WHEN {manual} THEN e.retry_at END,
        retry_slot_at = CASE WHEN {manual} THEN e.retry_slot_at END,
        retry_attempt = CASE WHEN {manual} THEN e.retry_attempt END
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
SELECT s.id, c.id, c.owner_id, c.host, c.fence, c.next_slot_at, c.next_run_at, c.next_attempt, c.next_source, c.url,
       c.method, c.headers::text, c.headers_sealed, c.body, c.timeout_ms, c.max_response_bytes,
       c.success_criteria::text, j.is_synthetic, c.config_version, c.claimed_at,
       ARRAY(SELECT ARRAY[k.id::text, k.sealed] FROM signing_keys k
             WHERE k.owner_id = c.owner_id AND (k.retires_at IS NULL OR k.retires_at > c.claimed_at)
             ORDER BY k.created_at DESC, k.id DESC),
       c.baseline_interval_ms, c.anchor_at, c.baseline_cron, c.timezone, c.ends_at, c.misfire_grace_ms
FROM claimed c JOIN jobs j ON j.id = c.job_id LEFT JOIN started s ON s.endpoint_id = c.id
ORDER BY c.next_run_at
"""


_CLAIM_OLDEST = _statement("", _PICK_OLDEST)
_CLAIM_IN_LANES = _statement(_LANES, _PICK_IN_LANES)


def claim_due(
    *, worker: str, limit: int, lease: timedelta, horizon: timedelta = timedelta(0), share: Share | None = None
) -> list[Claim]:
    """Claims up to `limit` endpoints that are due within `horizon`, oldest first, each owner and host within its share.

    Slots that passed while nobody could claim are folded into one run, or written off as missed where the owner set
    a grace. Atomic; what it returns is committed. An exception means that nothing may be called, although the claim
    may stand: its lease then runs out.
    """
    share = share or Share()
    full_owners = share.full_owners
    with transaction.atomic(), hot_cursor() as cursor:
        cursor.execute(
            _CLAIM_IN_LANES if full_owners else _CLAIM_OLDEST,
            {
                "limit": limit,
                "worker": worker,
                "lease": lease.total_seconds(),
                "horizon": horizon.total_seconds(),
                "per_owner": share.per_owner,
                "per_host": share.per_host,
                "owners": list(share.owners),
                "owner_counts": list(share.owners.values()),
                "hosts": list(share.hosts),
                "host_counts": list(share.hosts.values()),
                "full_owners": full_owners,
                "full_hosts": share.full_hosts,
            },
        )
        claims, tardy = [], {}
        for *values, interval_ms, anchor_at, cron, zone, ends_at, grace_ms in cursor.fetchall():
            claim = _claim(values)
            claims.append(claim)
            if claim.run_id is not None and claim.source in OVERDUE_SOURCES:
                late = judge_tardiness(
                    slot_at=claim.slot_at,
                    # What jitter or a pause adds to a slot is not lateness.
                    now=claim.claimed_at - (claim.due_at - claim.slot_at),
                    interval_ms=interval_ms,
                    anchor_at=anchor_at,
                    cadence=_cadence(cron, zone),
                    ends_at=ends_at,
                    grace_ms=grace_ms,
                )
                if late is not None:
                    tardy[claim.run_id] = late
        if tardy:
            claims = _settle_tardy(cursor, claims, tardy)
    return claims


def _claim(values: list[Any]) -> Claim:
    for index in (11, 16):
        values[index] = json.loads(values[index]) if values[index] is not None else None
    return Claim(*values)


def _cadence(cron: str | None, zone: str) -> Cadence | None:
    """The cadence, None where there is none or it cannot be read here: then the claimed slot is all that is known."""
    try:
        return parse_cadence(cron, zone) if cron is not None else None
    except CronError:
        return None


def _settle_tardy(cursor: Any, claims: list[Claim], tardy: Mapping[UUID, Tardy]) -> list[Claim]:
    """Moves late runs to the latest slot, writes off those beyond their grace, and returns what is left to call."""
    kept: list[Claim] = []
    missed: list[Claim] = []
    late: list[tuple[Claim, Tardy]] = []
    for claim in claims:
        judged = tardy.get(claim.run_id) if claim.run_id is not None else None
        if judged is None:
            kept.append(claim)
            continue
        late.append((claim, judged))
        if judged.missed:
            missed.append(claim)
        else:
            kept.append(replace(claim, slot_at=judged.latest_at))
    cursor.execute(
        f"""
        UPDATE runs r SET scheduled_for = p.scheduled_for, coalesced_slots = p.folded, coalesced_until = p.latest,
            status = CASE WHEN p.missed THEN '{RunStatus.MISSED}' ELSE r.status END,
            decision = r.decision || jsonb_build_object('sentence', concat(r.decision ->> 'sentence', ' ', p.words))
        FROM UNNEST(%s::uuid[], %s::timestamptz[], %s::integer[], %s::timestamptz[], %s::boolean[], %s::text[])
            AS p(id, scheduled_for, folded, latest, missed, words)
        WHERE r.id = p.id
        """,
        [
            [claim.run_id for claim, _ in late],
            [judged.scheduled_for for _, judged in late],
            [judged.folded for _, judged in late],
            [judged.latest_at for _, judged in late],
            [judged.missed for _, judged in late],
            [judged.words for _, judged in late],
        ],
    )
    cursor.execute(
        """
        UPDATE job_endpoints e SET last_slot_at = GREATEST(e.last_slot_at, p.latest)
        FROM UNNEST(%s::uuid[], %s::timestamptz[]) AS p(id, latest) WHERE e.id = p.id
        """,
        [[claim.endpoint_id for claim, _ in late], [judged.latest_at for _, judged in late]],
    )
    if missed:
        _plan_past(cursor, missed)
    return kept


def _plan_past(cursor: Any, missed: list[Claim]) -> None:
    """Gives endpoints back whose slot was written off, planned past it; failures are not touched."""
    cursor.execute(
        f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id WHERE e.id = ANY(%s)",
        [[claim.endpoint_id for claim in missed]],
    )
    rows = [PlanRow(*values) for values in cursor.fetchall()]
    decisions = [plan(row, missed[0].claimed_at, unclaimed=False) for row in rows]
    cursor.execute(
        f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL"
        f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}) AS p(id, {PLAN_COLUMNS}) WHERE e.id = p.id",
        [[row.id for row in rows], *plan_arrays(rows, decisions)],
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
