"""Planning rows: the plan is what the governor says of them, written whole, and schedulers are woken."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Endpoint, EndpointStatus, JobStatus
from jobs.replan import WAKE_CHANNEL, replan
from tests.support.factories import make_endpoint, make_job

pytestmark = pytest.mark.django_db


def test_many_endpoints_are_planned_by_as_many_statements_as_one() -> None:
    job = make_job()
    ids = [make_endpoint(job).pk for _ in range(5)]
    with CaptureQueriesContext(connection) as one:
        replan(ids[:1])
    with CaptureQueriesContext(connection) as many:
        decisions = replan(ids)
    assert len(many) == len(one)
    assert set(decisions) == set(ids)


def test_the_row_keeps_what_the_governor_said() -> None:
    endpoint = make_endpoint(baseline_cron="0 9 * * *", timezone="Asia/Tokyo")
    decision = replan([endpoint.pk])[endpoint.pk]
    endpoint.refresh_from_db()
    assert endpoint.next_run_at == decision.run_at
    assert endpoint.next_slot_at == decision.slot_at
    assert endpoint.next_source == decision.source
    assert endpoint.next_decision == decision.to_json()


@pytest.mark.parametrize("stopped", ["endpoint", "job"])
def test_what_is_stopped_has_no_plan_but_a_reason(stopped: str) -> None:
    if stopped == "job":
        endpoint = make_endpoint(make_job(status=JobStatus.PAUSED))
    else:
        endpoint = make_endpoint(status=EndpointStatus.PAUSED)
    assert (endpoint.next_run_at, endpoint.next_slot_at, endpoint.next_source) == (None, None, None)
    assert endpoint.next_decision is not None
    assert "paused" in endpoint.next_decision["sentence"]


def test_a_slot_that_waits_for_a_worker_survives_a_new_plan() -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000)
    due = datetime.now(UTC) - timedelta(seconds=10)
    Endpoint.objects.update(next_run_at=due, next_slot_at=due)
    replan([endpoint.pk])
    endpoint.refresh_from_db()
    assert endpoint.next_slot_at == due


def test_a_slot_in_the_hands_of_a_worker_is_not_planned_twice() -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000)
    now = datetime.now(UTC)
    due = now - timedelta(seconds=10)
    Endpoint.objects.update(
        next_run_at=due, next_slot_at=due, last_slot_at=due, lease_owner="w", lease_until=now + timedelta(minutes=1)
    )
    replan([endpoint.pk])
    endpoint.refresh_from_db()
    assert endpoint.next_slot_at is not None
    assert endpoint.next_slot_at > due


def test_a_dropped_retry_leaves_no_trace() -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000, retry_limit=1)
    at = datetime.now(UTC) + timedelta(hours=1)
    Endpoint.objects.update(retry_at=at, retry_slot_at=at, retry_attempt=2)
    decision = replan([endpoint.pk])[endpoint.pk]
    assert decision.drop_retry
    endpoint.refresh_from_db()
    assert (endpoint.retry_at, endpoint.retry_slot_at, endpoint.retry_attempt) == (None, None, None)


def test_unknown_ids_and_no_ids_are_passed_over() -> None:
    assert replan([]) == {}
    assert replan([uuid4()]) == {}


@pytest.mark.django_db(transaction=True)
def test_schedulers_are_woken_when_the_plan_is_committed() -> None:
    endpoint = make_endpoint()
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as listener:
        listener.execute(f"LISTEN {WAKE_CHANNEL}")
        replan([endpoint.pk])
        (wake,) = listener.notifies(timeout=10, stop_after=1)
    assert wake.channel == WAKE_CHANNEL
