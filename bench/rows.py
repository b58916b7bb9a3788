"""Fills the benchmarks' database with endpoints, planned as the product would plan them, in one statement."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction

from accounts.models import User
from cronicorn.runtime.clock import database_now
from jobs.models import Job
from jobs.replan import WAKE_CHANNEL
from scheduling.plan.facts import EndpointFacts
from scheduling.plan.governor import plan_next_run

HOSTS = 200
OWNERS = 10


def clock() -> datetime:
    """The database's time."""
    with connection.cursor() as cursor:
        return database_now(cursor)


def fill(
    count: int, *, port: int, interval: timedelta, first_due_at: datetime, step: timedelta, scheme: str = "http"
) -> None:
    """Adds `count` endpoints and wakes the schedulers.

    Number n, from 0, calls scheme://127.0.0.(1 + n mod 200):port/e/n every `interval`, for the first time at
    `first_due_at + n * step`. They belong to ten owners in turn and are an interval old.
    """
    jobs = [_job(number) for number in range(OWNERS)]
    created_at = first_due_at - interval
    interval_ms = interval // timedelta(milliseconds=1)
    facts = EndpointFacts(created_at=created_at, anchor_at=created_at, interval_ms=interval_ms)
    decision = json.dumps(plan_next_run(facts, created_at).to_json())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(
            """
            INSERT INTO job_endpoints (job_id, owner_id, name, description, status, created_at, updated_at, url, host,
                method, headers, timeout_ms, max_response_bytes, baseline_interval_ms, timezone, jitter_ms, retry_limit,
                on_worker_loss, planner_mode, rules, anchor_at, next_run_at, next_slot_at, next_source, next_decision)
            SELECT (%(jobs)s::uuid[])[1 + n %% %(owners)s], (%(people)s::uuid[])[1 + n %% %(owners)s],
                'Endpoint ' || n, '', 'active', created, now(),
                %(scheme)s || '://127.0.0.' || 1 + n %% %(hosts)s || ':' || %(port)s || '/e/' || n,
                '127.0.0.' || 1 + n %% %(hosts)s, 'GET', '[]', 10000, 102400, %(interval_ms)s, 'UTC', 0, 0, 'retry',
                'auto', '[]', created, due, due,
                'baseline-interval', %(decision)s
            FROM (
                SELECT n, %(created)s + n * %(step)s::interval AS created, %(first)s + n * %(step)s::interval AS due
                FROM generate_series(0, %(count)s - 1) AS n
            ) AS numbered
            """,
            {
                "jobs": [job.id for job in jobs],
                "people": [job.owner_id for job in jobs],
                "owners": OWNERS,
                "hosts": HOSTS,
                "scheme": scheme,
                "port": port,
                "created": created_at,
                "step": f"{step.total_seconds()} seconds",
                "first": first_due_at,
                "interval_ms": interval_ms,
                "decision": decision,
                "count": count,
            },
        )
        cursor.execute("SELECT pg_notify(%s, '')", [WAKE_CHANNEL])


def analyze() -> None:
    """Takes statistics, so that plans do not depend on whether autovacuum came by."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("VACUUM ANALYZE job_endpoints, runs")
        cursor.execute("RESET statement_timeout")


def endpoint_ids() -> list[UUID]:
    """All endpoints by their number."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM job_endpoints ORDER BY next_run_at")
        return [row[0] for row in cursor.fetchall()]


def _job(number: int) -> Job:
    owner, _ = User.objects.get_or_create(email=f"bench{number}@example.com")
    return Job.objects.get_or_create(owner=owner, name=f"Benchmark {number}")[0]
