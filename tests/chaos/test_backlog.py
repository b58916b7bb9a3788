"""Ten thousand endpoints are due after an outage of an hour: one run each, the oldest first, the rest counted."""

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from jobs.models import Endpoint, Run, RunStatus
from tests.chaos.target import recording_target
from tests.support.factories import make_job
from tests.support.processes import Command, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]
COUNT = 10_000


def fill(url: str) -> None:
    """Endpoints of ten owners that run every ten minutes: due first 65 minutes ago, and next in five."""
    for _ in range(10):
        job = make_job()
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO job_endpoints (id, job_id, owner_id, name, description, status, created_at, updated_at,
                    url, host, method, headers, timeout_ms, max_response_bytes, timezone, jitter_ms, retry_limit,
                    on_worker_loss, planner_mode, rules, anchor_at, baseline_interval_ms, next_run_at, next_slot_at,
                    next_source, next_decision)
                SELECT uuid_v7(), %s, %s, 'n', '', 'active', at, at, %s || n, '127.0.0.1', 'GET', '[]', 30000, 1000,
                    'UTC', 0, 0, 'retry', 'off', '[]', at - interval '10 minutes', 600000, at, at,
                    'baseline-interval', '{"sentence": "Due."}'
                FROM (SELECT n, now() - interval '65 minutes' + n * interval '7 ms' AS at
                      FROM generate_series(1, %s) n) slots
                """,
                [job.pk, job.owner_id, url, COUNT // 10],
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE job_endpoints")


@pytest.mark.timeout(240)
def test_backlog_is_worked_off_once_and_oldest_first(start_scheduler: Callable[..., Command]) -> None:
    with tempfile.TemporaryDirectory() as folder, recording_target(Path(folder) / "calls.log") as target:
        fill(target.url("").partition("?")[0])
        start_scheduler("--concurrency", "300", "--per-host", "300", LEASE_SECONDS="60")
        eventually(lambda: Run.objects.filter(status=RunStatus.SUCCESS).count() >= COUNT, 200)
        calls = target.calls()
    assert not Run.objects.exclude(status=RunStatus.SUCCESS).exists()
    assert Run.objects.count() == Run.objects.values("endpoint").distinct().count() == COUNT
    assert set(Counter(call.key for call in calls).values()) == {1}
    assert len(calls) == COUNT
    assert set(Run.objects.values_list("coalesced_slots", flat=True)) == {6}
    assert not Endpoint.objects.filter(lease_owner__isnull=False).exists()
    # What a claim takes is older than what a later claim takes, but for owners at their limit meanwhile.
    due = list(Run.objects.order_by("claimed_at").values_list("due_at", flat=True))
    halves = sorted(due[: COUNT // 2]), sorted(due[COUNT // 2 :])
    assert halves[0][COUNT // 4] < halves[1][COUNT // 4]
    assert halves[0][-1] < halves[1][COUNT // 4]
