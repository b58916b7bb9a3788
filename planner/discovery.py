"""Finds the endpoints that the model may look at, with what is left of the budgets, and leases one for an analysis."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from accounts.models import User
from planner.models import AnalysisSession
from planner.policy import PAUSE_ENDS_SOON, Candidate, LastSession

# Longer than an analysis may take, so that a live one is never doubled.
LEASE_SECONDS = 120
LOOK_BACK = timedelta(days=1)
MOST_CANDIDATES = 1_000
LONGEST_BODY = 65_536


def candidates(now: datetime) -> list[Candidate]:
    """Active endpoints that ran since their last analysis, or whose pause by the planner ends soon; not leased ones."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.id, e.owner_id, e.failure_count, e.next_analysis_at,
                   CASE WHEN e.paused_by = 'planner' THEN e.paused_until END,
                   s.analyzed_at, s.endpoint_failure_count, s.body_shape, b.body
            FROM job_endpoints e
            JOIN jobs j ON j.id = e.job_id
            LEFT JOIN LATERAL (
                SELECT analyzed_at, endpoint_failure_count, body_shape FROM sessions
                WHERE endpoint_id = e.id ORDER BY analyzed_at DESC LIMIT 1
            ) s ON true
            LEFT JOIN LATERAL (
                SELECT CASE WHEN NOT truncated AND length(body) <= %(longest)s THEN body END AS body
                FROM run_responses WHERE endpoint_id = e.id ORDER BY received_at DESC LIMIT 1
            ) b ON true
            WHERE e.planner_mode <> 'off' AND e.status = 'active' AND j.status = 'active'
              AND (e.paused_by IS NULL OR e.paused_by = 'planner' OR e.paused_until <= %(now)s)
              AND (e.analysis_lease_until IS NULL OR e.analysis_lease_until <= %(now)s)
              AND e.last_run_at > %(since)s
              AND (s.analyzed_at IS NULL OR e.last_run_at > s.analyzed_at
                   OR (e.paused_by = 'planner' AND e.paused_until BETWEEN %(now)s AND %(soon)s))
            ORDER BY e.next_analysis_at NULLS FIRST, e.last_run_at
            LIMIT %(limit)s
            """,
            {
                "now": now,
                "since": now - LOOK_BACK,
                "soon": now + PAUSE_ENDS_SOON,
                "limit": MOST_CANDIDATES,
                "longest": LONGEST_BODY,
            },
        )
        rows = cursor.fetchall()
    left = tokens_left({row[1] for row in rows}, now)
    return [
        Candidate(
            endpoint_id=endpoint_id,
            owner_id=owner_id,
            failure_count=failure_count,
            next_analysis_at=next_analysis_at,
            last=LastSession(analyzed_at, last_failures, shape) if analyzed_at is not None else None,
            body=body,
            pause_ends_at=pause_ends_at,
            tokens_left=left[owner_id],
        )
        for (
            endpoint_id,
            owner_id,
            failure_count,
            next_analysis_at,
            pause_ends_at,
            analyzed_at,
            last_failures,
            shape,
            body,
        ) in rows
    ]


def tokens_left(owners: Sequence[UUID] | set[UUID], now: datetime) -> dict[UUID, int]:
    """What each owner may still spend today (UTC), within what the whole service may; below zero when overdrawn."""
    if not owners:
        return {}
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    spent = dict(
        AnalysisSession.objects.filter(analyzed_at__gte=midnight)
        .order_by()
        .values_list("owner_id")
        .annotate(tokens=Sum("prompt_tokens") + Sum("completion_tokens"))
    )
    service_left = settings.ENV.ai_daily_token_limit - sum(spent.values())
    limits = dict(User.objects.filter(pk__in=owners).values_list("pk", "ai_daily_token_limit"))
    usual = settings.ENV.ai_owner_daily_token_limit

    def left(owner: UUID) -> int:
        limit = limits.get(owner)
        return int(usual if limit is None else limit) - int(spent.get(owner, 0))

    return {owner: min(left(owner), service_left) for owner in owners}


def lease(*, worker: str, candidate: Candidate) -> bool:
    """Takes the endpoint for one analysis; False where another planner holds it or has analysed it meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE job_endpoints SET analysis_lease_owner = %s,
                analysis_lease_until = clock_timestamp() + %s * interval '1 second'
            WHERE id = (
                SELECT id FROM job_endpoints
                WHERE id = %s AND (analysis_lease_until IS NULL OR analysis_lease_until <= clock_timestamp())
                  AND next_analysis_at IS NOT DISTINCT FROM %s AND planner_mode <> 'off' AND status = 'active'
                FOR NO KEY UPDATE SKIP LOCKED
            )
            """,
            [worker, LEASE_SECONDS, candidate.endpoint_id, candidate.next_analysis_at],
        )
        return bool(cursor.rowcount)


def release(*, worker: str, endpoint_id: UUID, next_analysis_at: datetime) -> None:
    """Gives the endpoint back and sets when it is due again, unless the lease has passed to another planner."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE job_endpoints SET analysis_lease_owner = NULL, analysis_lease_until = NULL, next_analysis_at = %s
            WHERE id = %s AND analysis_lease_owner = %s
            """,
            [next_analysis_at, endpoint_id, worker],
        )
