"""Creating, editing and stopping jobs and endpoints, below the API."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.vault import unseal
from jobs import authoring, services
from jobs.errors import ConflictError, InvalidInputError
from jobs.models import Endpoint, EndpointStatus, Job, JobStatus
from tests.support.factories import make_endpoint, make_job, make_operator, make_user

pytestmark = pytest.mark.django_db
GOOD: dict[str, Any] = {"name": "Ping", "url": "https://Example.com/", "baseline_interval_ms": 60_000}


def test_a_job_is_created_with_planned_endpoints_of_its_owner() -> None:
    owner = make_user()
    job = authoring.create_job(owner=owner, values={"name": "Shop"}, endpoints=[GOOD, {**GOOD, "name": "Pong"}])
    endpoints = list(job.endpoints.order_by("pk"))
    assert [endpoint.name for endpoint in endpoints] == ["Ping", "Pong"]
    assert {endpoint.owner_id for endpoint in endpoints} == {owner.pk}
    assert {endpoint.host for endpoint in endpoints} == {"example.com"}
    for endpoint in endpoints:
        assert endpoint.next_run_at == endpoint.anchor_at + timedelta(minutes=1)


def test_creating_many_endpoints_costs_no_more_statements_than_one() -> None:
    owner = make_user()

    def statements(count: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            authoring.create_job(owner=owner, values={"name": "Shop"}, endpoints=[GOOD] * count)
        return len(queries)

    assert statements(20) == statements(1)


def test_all_faults_of_a_job_are_told_at_once_and_nothing_is_written() -> None:
    with pytest.raises(InvalidInputError) as caught:
        authoring.create_job(owner=make_user(), values={}, endpoints=[{**GOOD, "rules": [1]}, {"nope": 1}])
    assert [fault.field for fault in caught.value.faults] == [
        "name",
        "endpoints[0].rules[0]",
        "endpoints[1].nope",
        "endpoints[1].name",
        "endpoints[1].url",
        "endpoints[1].baseline_interval_ms",
        "endpoints[1].baseline_cron",
    ]
    assert not Job.objects.exists()


def test_who_may_not_make_a_synthetic_job_is_told_so_first() -> None:
    for values in ({"name": "S", "is_synthetic": True}, {"is_synthetic": True}):
        with pytest.raises(authoring.OperatorsOnlyError):
            authoring.create_job(owner=make_user(), values=values)
    assert authoring.create_job(owner=make_operator(), values={"name": "S", "is_synthetic": True}).is_synthetic


def test_only_synthetic_jobs_reach_the_self_test_routes(settings: Any) -> None:
    settings.ENV = replace(settings.ENV, egress_allow="")
    target = {**GOOD, "url": f"{settings.ENV.synthetic_url}/api/synthetic/health"}
    synthetic, plain = make_job(is_synthetic=True), make_job()
    endpoint = authoring.create_endpoint(job_id=synthetic.pk, values=target)
    other = authoring.create_endpoint(job_id=plain.pk, values=GOOD)
    for refused in (
        lambda: authoring.create_endpoint(job_id=plain.pk, values=target),
        lambda: authoring.edit_endpoint(endpoint_id=other.pk, changes={"url": target["url"]}),
        lambda: authoring.edit_endpoint(
            endpoint_id=endpoint.pk, changes={"url": f"{settings.ENV.synthetic_url}/api/jobs"}
        ),
    ):
        with pytest.raises(InvalidInputError) as caught:
            refused()
        assert [fault.code for fault in caught.value.faults] == ["destination_not_allowed"]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [({"url": "https://example.net/"}, False), ({"name": "X"}, True), ({"timeout_ms": 9_000}, True)],
)
def test_what_a_server_asked_for_is_forgotten_with_its_address(changes: dict[str, Any], kept: bool) -> None:
    endpoint = make_endpoint()
    now = datetime.now(UTC)
    Endpoint.objects.update(
        server_wait_since=now, server_wait_until=now + timedelta(hours=5), server_wait_reason="busy"
    )
    edited = authoring.edit_endpoint(endpoint_id=endpoint.pk, changes=changes)
    assert (edited.server_wait_until is not None) is kept
    assert (edited.next_source == "server-asked") is kept


def test_pausing_a_job_stops_and_resuming_plans_all_its_endpoints_by_a_few_statements() -> None:
    job = make_job()
    for _ in range(5):
        make_endpoint(job)
    asleep = make_endpoint(job, status=EndpointStatus.PAUSED)
    Endpoint.objects.filter(pk=asleep.pk).update(updated_at=datetime(2026, 1, 1, tzinfo=UTC))
    with CaptureQueriesContext(connection) as queries:
        authoring.set_job_status(job_id=job.pk, status=JobStatus.PAUSED)
    assert len(queries) <= 14
    assert not job.endpoints.exclude(next_run_at=None).exists()
    authoring.set_job_status(job_id=job.pk, status=JobStatus.ACTIVE)
    assert job.endpoints.exclude(next_run_at=None).count() == 5


@pytest.mark.django_db(transaction=True)
def test_pausing_a_job_locks_its_endpoints_in_the_order_of_their_ids() -> None:
    job = make_job()
    first, second = sorted((make_endpoint(job) for _ in range(2)), key=lambda endpoint: endpoint.pk)
    # Written anew with another time, the first one lies behind the second in the table and in its indexes.
    Endpoint.objects.filter(pk=first.pk).update(next_run_at=datetime.now(UTC) + timedelta(hours=1))

    def pause() -> None:
        authoring.set_job_status(job_id=job.pk, status=JobStatus.PAUSED)
        connection.close()

    thread = threading.Thread(target=pause)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM job_endpoints WHERE id = %s FOR NO KEY UPDATE", [first.pk])
        thread.start()
        deadline = time.monotonic() + 10
        waiting = False
        while not waiting and time.monotonic() < deadline:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            waiting = cursor.fetchone() != (0,)
        cursor.execute("SELECT 1 FROM job_endpoints WHERE id = %s FOR NO KEY UPDATE SKIP LOCKED", [second.pk])
        free = cursor.fetchone() is not None
    thread.join()
    assert waiting
    assert free
    assert not job.endpoints.exclude(next_run_at=None).exists()


@pytest.mark.parametrize("what", ["job", "endpoint"])
def test_a_run_asked_for_before_a_pause_is_not_made_up_for_after_it(what: str) -> None:
    endpoint = make_endpoint()
    Endpoint.objects.update(manual_run_at=datetime.now(UTC), manual_run_by=uuid4())
    if what == "job":
        authoring.set_job_status(job_id=endpoint.job_id, status=JobStatus.PAUSED)
        authoring.set_job_status(job_id=endpoint.job_id, status=JobStatus.ACTIVE)
    else:
        authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.PAUSED)
        authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ACTIVE)
    endpoint.refresh_from_db()
    assert endpoint.manual_run_by is None
    assert endpoint.next_source == "baseline-interval"


def test_setting_the_status_that_is_changes_nothing() -> None:
    endpoint = make_endpoint()
    assert authoring.set_job_status(job_id=endpoint.job_id, status=JobStatus.ACTIVE).status == "active"
    again = authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ACTIVE)
    assert again.planner_hold_until is None


def test_archiving_is_final() -> None:
    endpoint = make_endpoint()
    authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ARCHIVED)
    authoring.set_job_status(job_id=endpoint.job_id, status=JobStatus.ARCHIVED)
    attempts = [
        lambda: authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ACTIVE),
        lambda: authoring.edit_endpoint(endpoint_id=endpoint.pk, changes={"name": "X"}),
        lambda: authoring.set_job_status(job_id=endpoint.job_id, status=JobStatus.ACTIVE),
        lambda: authoring.edit_job(job_id=endpoint.job_id, changes={"name": "X"}),
        lambda: authoring.create_endpoint(job_id=endpoint.job_id, values=GOOD),
    ]
    for attempt in attempts:
        with pytest.raises(ConflictError, match="archived"):
            attempt()


def test_an_edit_counts_the_version_and_only_a_new_interval_moves_the_grid() -> None:
    endpoint = make_endpoint(baseline_interval_ms=60_000)
    same = authoring.edit_endpoint(
        endpoint_id=endpoint.pk, changes={"baseline_interval_ms": 60_000, "timeout_ms": 2_000}
    )
    assert (same.anchor_at, same.config_version) == (endpoint.anchor_at, 2)
    moved = authoring.edit_endpoint(endpoint_id=endpoint.pk, changes={"baseline_interval_ms": 120_000})
    assert moved.anchor_at > endpoint.anchor_at
    assert moved.next_run_at == moved.anchor_at + timedelta(minutes=2)


def test_start_anchors_the_grid_of_an_interval_and_only_an_edit_of_it_moves_the_grid() -> None:
    job, soon = make_job(), datetime.now(UTC) + timedelta(hours=2)
    given = {**GOOD, "baseline_interval_ms": 5_400_000, "starts_at": soon}
    endpoint = authoring.create_endpoint(job_id=job.pk, values=given)
    assert (endpoint.anchor_at, endpoint.next_run_at) == (soon, soon)

    def edited(**changes: Any) -> Endpoint:
        return authoring.edit_endpoint(endpoint_id=endpoint.pk, changes=changes)

    past = soon - timedelta(days=30)
    assert edited(starts_at=past).anchor_at == past
    assert edited(starts_at=past).next_run_at == soon - timedelta(minutes=90)
    assert edited(name="Other", timeout_ms=2_000, starts_at=past, timezone="Europe/Berlin").anchor_at == past
    assert edited(baseline_interval_ms=3_600_000).next_run_at == soon - timedelta(hours=1)
    Endpoint.objects.filter(pk=endpoint.pk).update(failure_count=2)
    assert services.reset_failures(endpoint_id=endpoint.pk).anchor_at == past
    assert services.reset_failures(endpoint_id=endpoint.pk).next_run_at == soon - timedelta(hours=1)
    free = edited(starts_at=None)
    assert free.next_run_at == free.anchor_at + timedelta(hours=1)
    assert free.anchor_at > past
    assert edited(starts_at=past).anchor_at == past
    assert services.run_now(endpoint_id=endpoint.pk, by=job.owner_id).anchor_at == past


def test_start_that_was_given_before_it_anchored_keeps_its_grid_until_it_is_edited() -> None:
    made = datetime.now(UTC) - timedelta(hours=1)
    old = make_endpoint(baseline_interval_ms=86_400_000, starts_at=made - timedelta(days=3), anchor_at=made)
    Endpoint.objects.filter(pk=old.pk).update(timezone="Europe/Berlin")
    renamed = authoring.edit_endpoint(endpoint_id=old.pk, changes={"name": "Other"})
    assert renamed.next_run_at == made + timedelta(days=1)


@pytest.mark.parametrize("ends_at", [None, "2199-12-31T23:59:59+00:00"])
def test_start_at_the_end_of_the_calendar_is_planned(ends_at: str | None) -> None:
    far = datetime(2199, 12, 30, tzinfo=UTC)
    for baseline in ({"baseline_interval_ms": 31_536_000_000}, {"baseline_cron": "0 0 29 2 *"}, {"run_once_at": far}):
        values: dict[str, Any] = {**GOOD, "baseline_interval_ms": None, "timezone": "Europe/Berlin", **baseline}
        window = {"starts_at": far, "ends_at": datetime.fromisoformat(ends_at) if ends_at else None}
        endpoint = authoring.create_endpoint(job_id=make_job().pk, values={**values, **window})
        leap_day = None if ends_at else datetime(2204, 2, 28, 23, tzinfo=UTC)
        assert endpoint.next_run_at == (leap_day if "baseline_cron" in baseline else far)


def test_a_secret_made_plain_leaves_the_seal() -> None:
    job = make_job()
    headers = [{"name": "X-A", "value": "a"}, {"name": "X-B", "value": "b"}]
    endpoint = authoring.create_endpoint(job_id=job.pk, values={**GOOD, "headers": headers})
    changed = authoring.edit_endpoint(
        endpoint_id=endpoint.pk, changes={"headers": [{"name": "x-a"}, {"name": "X-B", "value": "b", "secret": False}]}
    )
    assert changed.headers_sealed is not None
    assert unseal(f"job_endpoints:{endpoint.pk}", changed.headers_sealed) == {"x-a": "a"}
    assert changed.headers[1] == {"name": "X-B", "secret": False, "value": "b"}


@pytest.mark.parametrize(
    "act",
    [
        lambda: authoring.edit_job(job_id=uuid4(), changes={}),
        lambda: authoring.set_job_status(job_id=uuid4(), status=JobStatus.PAUSED),
        lambda: authoring.create_endpoint(job_id=uuid4(), values=GOOD),
    ],
    ids=["edit", "status", "endpoint"],
)
def test_an_unknown_job_is_said_to_be_unknown(act: Any) -> None:
    with pytest.raises(Job.DoesNotExist):
        act()


def test_the_types_are_checked_for_callers_other_than_the_api() -> None:
    with pytest.raises(InvalidInputError) as caught:
        authoring.create_job(owner=make_user(), values={"name": "J", "is_synthetic": "yes"})
    assert caught.value.faults[0].code == "invalid_type"
    bad = {"starts_at": datetime(2030, 1, 1), "ends_at": "soon", "max_interval_ms": 1.5, "method": None, "body": 1}  # noqa: DTZ001
    with pytest.raises(InvalidInputError) as caught:
        authoring.create_endpoint(
            job_id=make_job().pk, values={**GOOD, **bad, "run_once_at": datetime(1999, 1, 1, tzinfo=UTC)}
        )
    assert {(fault.field, fault.code) for fault in caught.value.faults} >= {
        ("starts_at", "invalid_instant"),
        ("ends_at", "invalid_instant"),
        ("max_interval_ms", "invalid_type"),
        ("body", "invalid_type"),
        ("run_once_at", "out_of_range"),
    }
