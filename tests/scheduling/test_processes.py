"""Real scheduler processes: shared work, signals, kills."""

import signal
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction

from jobs import authoring, services
from jobs.models import Author, Endpoint, Run, RunStatus, WorkerHeartbeat
from tests.scheduling.conftest import move_due
from tests.support.factories import make_endpoint, make_job, make_user
from tests.support.fleet import fill
from tests.support.http_target import HttpTarget, Reply
from tests.support.processes import Command, eventually, start_scheduler

__all__ = ["start_scheduler"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]
Start = Callable[..., Command]
MakeDue = Callable[..., Endpoint]


def ended(count: int) -> Callable[[], bool]:
    return lambda: Run.objects.exclude(status=RunStatus.RUNNING).count() >= count


def test_two_processes_share_the_work_and_never_call_a_slot_twice(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    url, job = target.route("/ok", Reply(200)), make_job()
    for _ in range(300):
        make_endpoint(job, url=url, baseline_interval_ms=3_600_000)
    for _ in range(2):
        start_scheduler("--batch-size", "5", "--poll-interval", "0.5")
    Endpoint.objects.update(next_run_at=now(), next_slot_at=now())
    eventually(ended(300))

    keys = Counter(request.header("Idempotency-Key") for request in target.requests)
    assert len(keys) == 300
    assert set(keys.values()) == {1}
    assert Run.objects.values("worker").distinct().count() == 2
    assert all(run.lateness_ms >= 0 for run in Run.objects.all())  # type: ignore[operator]


def test_endpoint_falls_due_while_the_worker_sleeps_and_starts_on_time(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    start_scheduler("--poll-interval", "60")
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), baseline_interval_ms=3_600_000)
    due = now() + timedelta(seconds=2)
    services.set_oneshot_hint(
        endpoint_id=endpoint.pk, next_run_at=due, ttl_ms=60_000, reason="test", author=Author.USER
    )
    eventually(ended(1))
    lateness = Run.objects.get().lateness_ms
    assert lateness is not None
    assert 0 <= lateness < 1_000


def test_sigterm_saves_the_calls_in_flight_and_claims_no_more(
    make_due: MakeDue, start_scheduler: Start, target: HttpTarget
) -> None:
    proceed = threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        wire.wait(proceed)
        Reply(200)(request, wire)

    for _ in range(10):
        make_due(target.route("/slow", answer), baseline_interval_ms=3_600_000)
    scheduler = start_scheduler()
    target.wait_for(10)
    scheduler.send(signal.SIGTERM)
    scheduler.wait_for_line("worker_draining")
    late = make_due(target.route("/late", Reply(200)))
    proceed.set()
    assert scheduler.wait(20) == 0
    assert Run.objects.filter(status=RunStatus.SUCCESS).count() == 10
    assert not Run.objects.filter(endpoint=late).exists()
    assert WorkerHeartbeat.objects.get().stopped_at is not None


def test_claim_that_comes_back_after_the_sigterm_is_given_back(
    make_due: MakeDue, start_scheduler: Start, target: HttpTarget
) -> None:
    scheduler = start_scheduler("--poll-interval", "0.2")
    with transaction.atomic(), connection.cursor() as cursor:
        # The claims of the scheduler wait for this, the plan of the endpoint does not.
        cursor.execute("LOCK TABLE job_endpoints IN SHARE ROW EXCLUSIVE MODE")
        endpoint = make_due(target.route("/ok", Reply(200)))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'job_endpoints'::regclass"
        eventually(lambda: bool(count_of(waiting)))
        scheduler.send(signal.SIGTERM)
        scheduler.wait_for_line("worker_draining")
    assert scheduler.wait(20) == 0
    slot = endpoint.next_slot_at
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.next_slot_at) == (None, slot)
    assert not Run.objects.exists()
    assert target.requests == []


def count_of(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        count: int = cursor.fetchone()[0]
    return count


def test_second_sigterm_ends_the_process_at_once(make_due: MakeDue, start_scheduler: Start, target: HttpTarget) -> None:
    proceed = threading.Event()

    def answer(_request, wire) -> None:  # type: ignore[no-untyped-def]
        wire.wait(proceed)

    make_due(target.route("/slow", answer))
    scheduler = start_scheduler()
    target.wait_for(1)
    scheduler.send(signal.SIGTERM)
    scheduler.wait_for_line("worker_draining")
    scheduler.send(signal.SIGTERM)
    assert scheduler.wait(5) == 128 + signal.SIGTERM


def test_killed_worker_loses_no_slot(make_due: MakeDue, start_scheduler: Start, target: HttpTarget) -> None:
    first_call = threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        if not first_call.is_set():
            first_call.set()
            wire.wait(threading.Event())
        Reply(200)(request, wire)

    endpoint = make_due(target.route("/slow", answer), baseline_interval_ms=3_600_000)
    victim = start_scheduler()
    assert first_call.wait(10)
    victim.send(signal.SIGKILL)
    victim.wait(5)
    start_scheduler()
    eventually(ended(2))

    first, second = Run.objects.filter(endpoint=endpoint).order_by("attempt")
    assert (first.status, first.error_kind, first.attempt) == ("abandoned", "worker_lost", 1)
    assert (second.status, second.attempt, second.scheduled_for) == ("success", 2, first.scheduled_for)
    keys = {request.header("Idempotency-Key") for request in target.requests}
    assert len(keys) == 1
    endpoint.refresh_from_db()
    assert (endpoint.loss_count, endpoint.failure_count) == (0, 0)


def test_stopped_worker_is_taken_over_and_its_late_result_changes_nothing(
    make_due: MakeDue, start_scheduler: Start, target: HttpTarget
) -> None:
    calls = []
    proceed = threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        calls.append(request)
        if len(calls) == 1:
            wire.wait(proceed)
        Reply(200)(request, wire)

    endpoint = make_due(target.route("/slow", answer), baseline_interval_ms=3_600_000)
    frozen = start_scheduler()
    target.wait_for(1)
    frozen.send(signal.SIGSTOP)
    start_scheduler()
    eventually(lambda: Run.objects.filter(status=RunStatus.SUCCESS).exists())
    planned = Endpoint.objects.get(pk=endpoint.pk).next_run_at
    proceed.set()
    frozen.send(signal.SIGCONT)
    eventually(lambda: Run.objects.filter(late_result__isnull=False).exists())

    first, second = Run.objects.filter(endpoint=endpoint).order_by("attempt")
    assert (first.status, second.status) == ("abandoned", "success")
    assert Endpoint.objects.get(pk=endpoint.pk).next_run_at == planned


def test_hint_of_two_seconds_on_an_hourly_endpoint_takes_effect_at_once(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), baseline_interval_ms=3_600_000)
    move_due(endpoint, now() + timedelta(hours=1))
    start_scheduler("--poll-interval", "60")
    written = now()
    services.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=2_000, ttl_ms=60_000, reason="a look", author=Author.USER
    )
    eventually(ended(2))
    started = [run.started_at for run in Run.objects.order_by("started_at")][:2]
    assert (started[0] - written).total_seconds() < 3
    assert 2.0 <= (started[1] - started[0]).total_seconds() < 3.0


def test_calls_start_at_their_slots_and_never_before(start_scheduler: Start, target: HttpTarget) -> None:
    url, job = target.route("/ok", Reply(200)), make_job()
    for _ in range(40):
        make_endpoint(job, url=url, baseline_interval_ms=1_000)
    start_scheduler()
    eventually(ended(200))
    runs = list(Run.objects.filter(status=RunStatus.SUCCESS))
    late = sorted(run.lateness_ms for run in runs)  # type: ignore[type-var]
    assert late[0] >= 0  # type: ignore[operator]
    # Claimed a second ahead, a call waits for its slot; polling would be late by hundreds of milliseconds.
    assert late[len(late) // 2] < 100  # type: ignore[operator]
    assert len({(run.endpoint_id, run.scheduled_for) for run in runs}) == len(runs)


def test_pause_between_the_claim_and_the_slot_keeps_the_call_from_starting(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), baseline_interval_ms=3_600_000)
    start_scheduler()
    move_due(endpoint, now() + timedelta(seconds=3))
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).exists())
    services.pause(endpoint_id=endpoint.pk, until=now() + timedelta(hours=2), reason="stop", author=Author.USER)
    eventually(lambda: not Run.objects.exists())
    endpoint.refresh_from_db()
    assert endpoint.next_source == "paused"
    assert target.requests == []


def test_edit_between_the_claim_and_the_slot_is_what_gets_called(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    endpoint = make_endpoint(url=target.route("/old", Reply(200)), baseline_interval_ms=3_600_000)
    start_scheduler()
    move_due(endpoint, now() + timedelta(seconds=3))
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).exists())
    authoring.edit_endpoint(endpoint_id=endpoint.pk, changes={"url": target.route("/new", Reply(200))})
    eventually(ended(1))
    assert [request.path for request in target.requests] == ["/new"]


def test_schedule_that_changes_between_the_claim_and_the_slot_is_called_at_its_new_slot_only(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    start_scheduler()
    old = now() + timedelta(seconds=4)
    new = old + timedelta(seconds=2)
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), run_once_at=old)
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).exists())
    authoring.edit_endpoint(endpoint_id=endpoint.pk, changes={"run_once_at": new})
    eventually(ended(1))
    run = Run.objects.get()
    assert (run.scheduled_for, run.attempt, len(target.requests)) == (new, 1, 1)
    assert run.lateness_ms is not None
    assert 0 <= run.lateness_ms < 2_000


def test_slow_endpoint_delays_none_of_a_thousand_fast_ones(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    proceed = threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        wire.wait(proceed)
        Reply(200)(request, wire)

    job = make_job()
    slow = make_endpoint(job, url=target.route("/slow", answer), baseline_interval_ms=3_600_000)
    fast = make_endpoint(job, url=target.route("/fast", Reply(200)), baseline_interval_ms=3_600_000)
    copies = [Endpoint(**{**endpoint_values(fast), "name": f"Fast {number}"}) for number in range(999)]
    Endpoint.objects.bulk_create(copies)
    start_scheduler("--per-host", "50", "--poll-interval", "0.5")
    due = now() + timedelta(seconds=1)
    Endpoint.objects.update(next_run_at=due, next_slot_at=due)
    eventually(lambda: Run.objects.filter(status=RunStatus.SUCCESS).count() == 1_000, seconds=50)
    assert Run.objects.get(endpoint=slow).status == RunStatus.RUNNING
    proceed.set()
    eventually(ended(1_001))


def endpoint_values(endpoint: Endpoint) -> dict[str, object]:
    """The columns of an endpoint that a copy of it needs."""
    own = ("id", "created_at", "updated_at")
    return {field.attname: getattr(endpoint, field.attname) for field in Endpoint._meta.fields if field.name not in own}


def held_by_owners(target: HttpTarget, now: Callable[[], datetime], owners: int) -> threading.Event:
    """Owners with more endless calls due than there are slots, due for an hour; they end when the event is set."""
    gate = threading.Event()
    endless = target.route("/endless", Reply(200, hold=gate))
    for _ in range(owners):
        job = make_job(make_user())
        for _ in range(60):
            make_endpoint(job, url=endless, baseline_interval_ms=3_600_000, timeout_ms=60_000)
    Endpoint.objects.update(next_run_at=now() - timedelta(hours=1), next_slot_at=now() - timedelta(hours=1))
    return gate


def assert_starts_soon(endpoint: Endpoint) -> None:
    """Presses run-now and expects the call within five seconds."""
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    eventually(lambda: Run.objects.filter(endpoint=endpoint, status=RunStatus.SUCCESS).exists())
    lateness = Run.objects.get(endpoint=endpoint).lateness_ms
    assert lateness is not None
    assert lateness < 5_000


def test_single_endpoint_finds_a_slot_beside_three_owners_with_endless_calls(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    gate = held_by_owners(target, now, 3)
    start_scheduler("--concurrency", "40", "--per-host", "1000", "--poll-interval", "0.5")
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).count() >= 36)
    shares = Counter(Run.objects.values_list("owner_id", flat=True))
    modest = make_endpoint(make_job(make_user()), url=target.route("/ok", Reply(200)), baseline_interval_ms=3_600_000)
    assert_starts_soon(modest)
    gate.set()
    # Each found the others' work in time to leave them half of the slots.
    assert len(shares) >= 2
    assert max(shares.values()) <= 20


def test_single_endpoint_is_served_in_turn_with_another_newcomers_backlog(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    gate = held_by_owners(target, now, 3)
    start_scheduler("--concurrency", "40", "--per-host", "1000", "--poll-interval", "0.5")
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).count() >= 36)
    fast = target.route("/ok", Reply(200))
    fill(make_job(make_user()), 2_000, host="127.0.0.1", url=fast)
    assert_starts_soon(make_endpoint(make_job(make_user()), url=fast, baseline_interval_ms=3_600_000))
    gate.set()


def test_owner_alone_gets_all_slots_but_the_reserve(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    gate = held_by_owners(target, now, 1)
    start_scheduler("--concurrency", "40", "--per-host", "1000", "--poll-interval", "0.5")
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).count() == 36)
    gate.set()


def test_single_endpoint_is_found_behind_a_backlog_of_a_slow_host(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    gate = threading.Event()
    fill(make_job(make_user()), 100_000, host="127.0.0.1", url=target.route("/endless", Reply(200, hold=gate)))
    start_scheduler("--concurrency", "40", "--per-host", "10", "--poll-interval", "0.5")
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).count() == 10)
    target.route("/ok", Reply(200))
    url = target.url("/ok", host="localhost")
    modest = make_endpoint(make_job(make_user()), url=url, baseline_interval_ms=3_600_000)
    assert_starts_soon(modest)
    gate.set()
