"""One worker against a real database and a real server: what is due is called once, recorded and planned anew."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection

from accounts.vault import seal
from cronicorn.runtime.stopping import Stop
from jobs import services
from jobs.models import Author, Endpoint, Job, JobStatus, Run, RunResponse, RunStatus
from jobs.replan import replan
from scheduling.dispatch import CurlDispatcher
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.masking import MASK
from scheduling.ledger.leases import reap
from scheduling.worker.worker import Worker, WorkerOptions
from tests.scheduling.conftest import move_due
from tests.support.factories import make_endpoint, make_job
from tests.support.fleet import fill
from tests.support.http_target import HttpTarget, Reply, in_turn, reset
from tests.support.processes import eventually

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]


def test_due_endpoint_is_called_once_and_planned_on_its_grid(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    endpoint = make_due(target.route("/ok", Reply(200, body=b"fine")), baseline_interval_ms=60_000)
    slot = endpoint.next_slot_at

    assert worker.run_once() == 1
    assert worker.run_once() == 0

    run = Run.objects.get(endpoint=endpoint)
    assert (run.status, run.scheduled_for, run.attempt, run.source) == ("success", slot, 1, "baseline-interval")
    assert run.status_code == 200
    assert run.lateness_ms is not None
    assert 0 <= run.lateness_ms < 5_000
    assert run.decision["sentence"] == endpoint.next_decision["sentence"]
    assert RunResponse.objects.get(run=run).body == "fine"
    endpoint.refresh_from_db()
    assert slot is not None
    assert endpoint.next_slot_at == slot + timedelta(minutes=1)
    assert endpoint.lease_owner is None
    assert len(target.requests) == 1


def test_endpoint_that_is_not_due_is_left_alone(worker: Worker, target: HttpTarget) -> None:
    make_endpoint(url=target.url("/later"), baseline_interval_ms=60_000)
    assert worker.run_once() == 0
    assert target.requests == []


def test_request_carries_the_identity_of_its_delivery(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    answers = in_turn(Reply(503), Reply(200))
    endpoint = make_due(target.route("/hook", answers), method="POST", body='{"a": 1}', retry_limit=1)
    slot = endpoint.next_slot_at
    worker.run_once()
    Endpoint.objects.filter(pk=endpoint.pk).update(retry_at=slot)
    replan([endpoint.pk])
    worker.run_once()

    first, second = target.requests
    assert first.body == b'{"a": 1}'
    assert first.header("Idempotency-Key") == first.header("webhook-id") == second.header("Idempotency-Key")
    assert (first.header("Cronicorn-Attempt"), second.header("Cronicorn-Attempt")) == ("1", "2")
    assert slot is not None
    assert first.header("Cronicorn-Scheduled-For") == slot.isoformat().replace("+00:00", "Z")
    runs = Run.objects.filter(endpoint=endpoint).order_by("attempt")
    assert [(run.status, run.source, run.scheduled_for) for run in runs] == [
        ("failed", "baseline-interval", slot),
        ("success", "retry", slot),
    ]


def test_failures_leave_the_interval_alone_and_success_ends_the_streak(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    endpoint = make_due(target.route("/flaky", in_turn(Reply(500), Reply(200))), baseline_interval_ms=60_000)
    slot = endpoint.next_slot_at
    assert slot is not None
    worker.run_once()
    endpoint.refresh_from_db()
    assert (endpoint.failure_count, endpoint.failing_since) == (1, slot)
    assert endpoint.next_slot_at == slot + timedelta(minutes=1)

    move_due(endpoint, slot + timedelta(milliseconds=1))
    worker.run_once()
    endpoint.refresh_from_db()
    assert (endpoint.failure_count, endpoint.failing_since) == (0, None)


def test_failures_back_off_where_the_owner_lets_recovery_wait(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    endpoint = make_due(
        target.route("/flaky", Reply(500)), baseline_interval_ms=60_000, recovery_check_ms=3_600_000, retry_limit=0
    )
    slot = endpoint.next_slot_at
    assert slot is not None
    since = slot - timedelta(minutes=3)
    Endpoint.objects.update(failure_count=90, failing_since=since)
    worker.run_once()
    endpoint.refresh_from_db()
    assert (endpoint.failing_since, endpoint.next_slot_at) == (since, slot + timedelta(minutes=4))
    assert endpoint.next_decision["candidates"][0]["note"] == "backed off to every 4 min"


def test_private_target_is_refused_without_dialling(make_due: MakeDue, worker: Worker) -> None:
    endpoint = make_due("http://10.1.2.3/", baseline_interval_ms=60_000)
    worker.run_once()
    run = Run.objects.get(endpoint=endpoint)
    assert (run.status, run.error_kind) == ("failed", "destination_not_allowed")
    assert "10.1.2.3" not in (run.error_message or "")
    endpoint.refresh_from_db()
    assert endpoint.failure_count == 1


def test_secret_header_is_sent_and_masked_where_it_is_echoed(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    kind = {"Content-Type": "text/plain; said=s3cr3t-value"}
    endpoint = make_due(target.route("/echo", Reply(200, body=b"you said s3cr3t-value", headers=kind)))
    Endpoint.objects.filter(pk=endpoint.pk).update(
        headers=[{"name": "Authorization", "secret": True, "value": None}],
        headers_sealed=seal(f"job_endpoints:{endpoint.pk}", {"Authorization": "s3cr3t-value"}),
    )
    worker.run_once()
    assert target.requests[0].header("Authorization") == "s3cr3t-value"
    stored = RunResponse.objects.get()
    assert "s3cr3t-value" not in stored.body
    assert stored.content_type == f"text/plain; said={MASK}"
    assert "s3cr3t-value" not in str(stored.headers)


def test_secret_that_cannot_be_opened_is_not_sent_and_disturbs_nobody(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    url = target.route("/ok", Reply(200))
    broken, whole = make_due(url), make_due(url)
    Endpoint.objects.filter(pk=broken.pk).update(
        headers=[{"name": "Authorization", "secret": True, "value": None}],
        headers_sealed=seal(f"job_endpoints:{whole.pk}", {"Authorization": "moved from another row"}),
    )
    worker.run_once()
    assert Run.objects.get(endpoint=broken).error_kind == "secret_unavailable"
    assert Run.objects.get(endpoint=whole).status == "success"
    assert len(target.requests) == 1


def test_hostile_bodies_end_their_own_runs_and_no_other(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    bodies = [b"a\x00b", b'"\xed\xa0\x80"', b"[" * 100_000, b"\xff\xfe\x00", b"x" * 2_000_000]
    for number, body in enumerate(bodies):
        make_due(target.route(f"/hostile{number}", Reply(200, body=body)))
    broken = make_due(target.route("/reset", reset(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")))
    plain = make_due(target.route("/plain", Reply(200, body=b"plain")))

    assert worker.run_once() == len(bodies) + 2
    assert Run.objects.filter(status=RunStatus.SUCCESS).count() == len(bodies) + 1
    assert Run.objects.get(endpoint=broken).status == "failed"
    assert Run.objects.get(endpoint=plain).status == "success"
    assert not any("\x00" in response.body for response in RunResponse.objects.all())


def test_hint_written_during_the_call_counts(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    arrived, proceed = threading.Event(), threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        arrived.set()
        wire.wait(proceed)
        Reply(200)(request, wire)

    endpoint = make_due(target.route("/slow", answer), baseline_interval_ms=3_600_000)
    thread = threading.Thread(target=lambda: (worker.run_once(), connection.close()))
    thread.start()
    assert arrived.wait(10)
    services.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=30_000, ttl_ms=3_600_000, reason="busy", author=Author.PLANNER
    )
    proceed.set()
    thread.join(10)
    endpoint.refresh_from_db()
    run = Run.objects.get(endpoint=endpoint)
    assert endpoint.next_source == "ai-interval"
    assert endpoint.next_run_at == run.started_at + timedelta(seconds=30)  # type: ignore[operator]


def test_pause_during_the_call_holds(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    arrived, proceed = threading.Event(), threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        arrived.set()
        wire.wait(proceed)
        Reply(200)(request, wire)

    endpoint = make_due(target.route("/slow", answer), baseline_interval_ms=60_000)
    thread = threading.Thread(target=lambda: (worker.run_once(), connection.close()))
    thread.start()
    assert arrived.wait(10)
    Job.objects.filter(pk=endpoint.job_id).update(status=JobStatus.PAUSED)
    proceed.set()
    thread.join(10)
    endpoint.refresh_from_db()
    assert endpoint.next_run_at is None
    assert "paused" in endpoint.next_decision["sentence"]
    assert Run.objects.get(endpoint=endpoint).status == "success"


def test_endpoint_deleted_during_the_call_does_not_stop_the_worker(
    make_due: MakeDue, worker: Worker, target: HttpTarget
) -> None:
    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        Endpoint.objects.filter(pk=doomed.pk).delete()
        connection.close()
        Reply(200)(request, wire)

    doomed = make_due(target.route("/doomed", answer))
    other = make_due(target.route("/other", Reply(200)))
    worker.run_once()
    assert Run.objects.get(endpoint=other).status == "success"


def test_run_now_runs_once_beside_the_grid(worker: Worker, target: HttpTarget) -> None:
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), baseline_interval_ms=3_600_000)
    slot = endpoint.next_slot_at
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    assert worker.run_once() == 1
    assert Run.objects.get(endpoint=endpoint).source == "manual"
    endpoint.refresh_from_db()
    assert (endpoint.manual_run_at, endpoint.next_slot_at) == (None, slot)


def test_oneshot_hint_is_consumed_by_its_run(worker: Worker, target: HttpTarget) -> None:
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), baseline_interval_ms=3_600_000)
    slot = endpoint.next_slot_at
    services.set_oneshot_hint(
        endpoint_id=endpoint.pk, next_run_in_ms=0, ttl_ms=60_000, reason="a sibling failed", author=Author.PLANNER
    )
    assert worker.run_once() == 1
    assert worker.run_once() == 0
    run = Run.objects.get(endpoint=endpoint)
    assert run.source == "ai-oneshot"
    assert "a sibling failed" in run.decision["sentence"]
    endpoint.refresh_from_db()
    assert (endpoint.ai_hint_next_run_at, endpoint.next_slot_at) == (None, slot)


def test_one_shot_endpoint_runs_once(worker: Worker, target: HttpTarget, now: Callable[[], object]) -> None:
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), run_once_at=now())
    assert worker.run_once() == 1
    assert worker.run_once() == 0
    endpoint.refresh_from_db()
    assert endpoint.next_run_at is None
    assert "done" in endpoint.next_decision["sentence"]


def test_batch_larger_than_the_free_slots_is_worked_off(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    url = target.route("/ok", Reply(200))
    for _ in range(130):
        make_due(url)
    assert worker.run_once() == 130
    assert Run.objects.filter(status=RunStatus.SUCCESS).count() == 130


def test_json_decision_of_the_run_is_the_one_planned(make_due: MakeDue, worker: Worker, target: HttpTarget) -> None:
    endpoint = make_due(target.route("/ok", Reply(200)))
    planned = json.dumps(endpoint.next_decision, sort_keys=True)
    worker.run_once()
    assert json.dumps(Run.objects.get().decision, sort_keys=True) == planned


def test_single_pass_renews_the_leases_of_calls_that_outlast_them(make_due: MakeDue, target: HttpTarget) -> None:
    gate = threading.Event()
    endpoint = make_due(target.route("/slow", Reply(200, hold=gate)))
    dispatcher = CurlDispatcher(EgressPolicy.from_settings("127.0.0.0/8"), concurrency=5)
    options = WorkerOptions(lease=1.5)
    worker = Worker(name="scheduler-once", dispatcher=dispatcher, options=options, stop=Stop())
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(in_own_connection(worker.run_once)))
    thread.start()
    target.wait_for(1)
    eventually(lambda: Endpoint.objects.get(pk=endpoint.pk).lease_until is not None)
    claimed_until = Endpoint.objects.get(pk=endpoint.pk).lease_until
    assert claimed_until is not None
    eventually(lambda: (Endpoint.objects.get(pk=endpoint.pk).lease_until or claimed_until) > claimed_until)
    assert reap() == []
    gate.set()
    thread.join(20)
    dispatcher.close()
    assert ended == [1]
    assert Run.objects.get().status == RunStatus.SUCCESS


def test_single_pass_goes_on_behind_slots_that_are_written_off(make_due: MakeDue, target: HttpTarget) -> None:
    fill(make_job(), 150, due="- interval '2 hours'")
    Endpoint.objects.update(misfire_grace_ms=1_000)
    late = make_due(target.route("/late", Reply(200)), late=timedelta(hours=1))
    dispatcher = CurlDispatcher(EgressPolicy.from_settings("127.0.0.0/8"), concurrency=5)
    worker = Worker(name="scheduler-once", dispatcher=dispatcher, options=WorkerOptions(), stop=Stop())
    assert worker.run_once() == 1
    dispatcher.close()
    assert Run.objects.get(endpoint=late).status == RunStatus.SUCCESS
    assert Run.objects.filter(status=RunStatus.MISSED).count() == 150


@pytest.mark.parametrize(
    "columns",
    [
        {"headers": "[" * 3_000 + "]" * 3_000},
        {"headers": '[{"name": "x", "secret": false, "value": ' + "9" * 6_000 + "}]"},
        {"headers": '{"not": "a list"}'},
        {"success_criteria": "[" * 3_000 + "]" * 3_000},
    ],
    ids=["deep headers", "endless number", "no list", "deep criteria"],
)
def test_row_that_cannot_be_read_fails_alone(
    make_due: MakeDue, worker: Worker, target: HttpTarget, columns: dict[str, str]
) -> None:
    broken, sound = make_due(target.route("/ok", Reply(200))), make_due(target.route("/ok", Reply(200)))
    ((column, text),) = columns.items()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE job_endpoints SET {column} = %s::jsonb WHERE id = %s", [text, broken.pk])  # noqa: S608
    assert worker.run_once() == 2
    assert Run.objects.get(endpoint_id=sound.pk).status == RunStatus.SUCCESS
    run = Run.objects.get(endpoint_id=broken.pk)
    assert (run.status, run.error_kind) == (RunStatus.FAILED, "internal_error")


@pytest.mark.parametrize("column", ["created_at", "anchor_at", "ends_at", "next_run_at", "last_slot_at", "last_run_at"])
@pytest.mark.parametrize("instant", ["infinity", "-infinity", "9999-12-31T23:59:59Z", "0044-03-15T12:00:00Z BC"])
def test_instant_that_no_worker_could_reckon_with_is_refused_by_the_database(column: str, instant: str) -> None:
    endpoint = make_endpoint()
    with connection.cursor() as cursor, pytest.raises(IntegrityError, match="in_calendar"):
        cursor.execute(f"UPDATE job_endpoints SET {column} = %s WHERE id = %s", [instant, endpoint.pk])  # noqa: S608


def in_own_connection(work: Callable[[], int]) -> int:
    """Closes the connection that the calling thread opened for the work."""
    try:
        return work()
    finally:
        connection.close()
