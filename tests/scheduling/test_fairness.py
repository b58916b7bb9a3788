"""Slots are shared: no owner and no host takes them all, and waiting for one costs the others nothing."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Endpoint, Job
from scheduling.ledger.claims import Share, claim_due
from tests.support.factories import make_job, make_user

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
LEASE = timedelta(seconds=60)


def fill(job: Job, count: int, *, host: str = "example.com", due: str = "- interval '1 hour'", lease: str = "") -> None:
    """Inserts many endpoints of a job with one statement, due at `now() + due`."""
    leased = "'w9', now() + interval '1 hour'" if lease else "NULL, NULL"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO job_endpoints (id, job_id, owner_id, name, description, status, created_at, updated_at, url,
                host, method, headers, timeout_ms, max_response_bytes, timezone, jitter_ms, retry_limit,
                on_worker_loss, planner_mode, rules, anchor_at, baseline_interval_ms, next_run_at, next_slot_at,
                next_source, next_decision, lease_owner, lease_until)
            SELECT uuid_v7(), %s, %s, 'n', '', 'active', now(), now(), 'https://' || %s || '/', %s, 'GET', '[]',
                1000, 1000, 'UTC', 0, 0, 'retry', 'auto', '[]', at, 86400000, at, at, 'baseline-interval', '{{}}',
                {leased}
            FROM (SELECT now() {due} + n * interval '1 ms' AS at FROM generate_series(1, %s) n) slots
            """,  # noqa: S608
            [job.pk, job.owner_id, host, host, count],
        )
        cursor.execute("ANALYZE job_endpoints")


def claim(limit: int = 100, **share: object) -> Counter[UUID]:
    claims = claim_due(worker="w1", limit=limit, lease=LEASE, share=Share(**share))  # type: ignore[arg-type]
    return Counter(item.owner_id for item in claims)


def test_owner_gets_no_more_than_the_share(make_due: MakeDue) -> None:
    greedy, modest = make_job(make_user()), make_job(make_user())
    fill(greedy, 50)
    fill(modest, 5, due="- interval '1 minute'")
    first = claim(limit=60, per_owner=20)
    assert first == {greedy.owner_id: 20, modest.owner_id: 5}
    assert claim(limit=60, per_owner=20, owners=dict(first)) == {}


def test_host_gets_no_more_than_the_share() -> None:
    job = make_job()
    fill(job, 50, host="slow.example.com")
    fill(job, 5, host="fast.example.com", due="- interval '1 minute'")
    claims = claim_due(worker="w1", limit=60, lease=LEASE, share=Share(per_host=20))
    assert Counter(item.host for item in claims) == {"slow.example.com": 20, "fast.example.com": 5}
    held = Share(per_host=20, hosts={"slow.example.com": 20})
    assert claim_due(worker="w1", limit=60, lease=LEASE, share=held) == []


def test_rows_of_a_full_owner_are_not_read() -> None:
    greedy, modest = make_job(make_user()), make_job(make_user())
    fill(greedy, 100_000)
    fill(modest, 3, due="- interval '1 minute'")
    full = {"per_owner": 100, "owners": {greedy.owner_id: 100}}
    assert claim(**full) == {modest.owner_id: 3}
    with CaptureQueriesContext(connection) as captured:
        assert claim(**full) == {}
    (statement,) = [query["sql"] for query in captured.captured_queries if "WITH RECURSIVE" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.replace("%", "%%"))
        plan = cursor.fetchone()[0][0]["Plan"]
    # The rows in front fill more than ten thousand pages.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500


def test_claim_costs_the_same_with_thousands_of_calls_in_flight() -> None:
    job = make_job()
    fill(job, 20_000, due="+ interval '1 day'")
    fill(job, 400)

    def cost() -> float:
        started = time.perf_counter()
        assert len(claim_due(worker="w1", limit=100, lease=LEASE)) == 100
        return time.perf_counter() - started

    cost()
    empty = cost()
    fill(job, 5_000, lease="held")
    full = min(cost(), cost())
    assert full < empty * 3 + 0.02
