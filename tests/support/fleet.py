"""Many endpoints at once, by one statement."""

from django.db import connection

from jobs.models import Job


def fill(
    job: Job,
    count: int,
    *,
    host: str = "example.com",
    url: str = "https://example.com/",
    due: str = "- interval '1 hour'",
    lease: str = "",
) -> None:
    """Inserts many endpoints of a job with one statement, due at `now() + due`."""
    leased = "'w9', now() + interval '1 hour'" if lease else "NULL, NULL"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO job_endpoints (id, job_id, owner_id, name, description, status, created_at, updated_at, url,
                host, method, headers, timeout_ms, max_response_bytes, timezone, jitter_ms, retry_limit,
                on_worker_loss, planner_mode, rules, anchor_at, baseline_interval_ms, next_run_at, next_slot_at,
                next_source, next_decision, lease_owner, lease_until)
            SELECT uuid_v7(), %s, %s, 'n', '', 'active', now(), now(), %s, %s, 'GET', '[]',
                60000, 1000, 'UTC', 0, 0, 'retry', 'auto', '[]', at, 86400000, at, at, 'baseline-interval', '{{}}',
                {leased}
            FROM (SELECT now() {due} + n * interval '1 ms' AS at FROM generate_series(1, %s) n) slots
            """,  # noqa: S608
            [job.pk, job.owner_id, url, host, count],
        )
        cursor.execute("ANALYZE job_endpoints")
