"""What becomes of a slot when its worker is killed at the worst moment, and of a result that the database refuses."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction

from cronicorn.runtime.stopping import Stop
from jobs.models import Endpoint, Run, RunStatus
from scheduling.dispatch import CurlDispatcher
from scheduling.egress.policy import EgressPolicy
from scheduling.ledger.claims import claim_due
from scheduling.ledger.leases import reap
from scheduling.ledger.settlement import settle
from scheduling.worker.worker import Worker, WorkerOptions
from tests.scheduling.conftest import move_due
from tests.scheduling.test_claims import lose_lease
from tests.scheduling.test_settlement import LEASE, outcome_of, result_of, settler_with
from tests.support.factories import make_endpoint
from tests.support.http_target import HttpTarget, Reply
from tests.support.processes import Command, eventually, start_scheduler

__all__ = ["start_scheduler"]

pytestmark = pytest.mark.django_db(transaction=True)
Start = Callable[..., Command]
MakeDue = Callable[..., Endpoint]
HOUR = 3_600_000


@contextmanager
def locked(statement: str, *parameters: object) -> Iterator[None]:
    """Another session holds what the statement locks for as long as the block lasts."""
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(statement, parameters)
        yield
        other.rollback()
    finally:
        other.close()


def somebody_waits_for_a_lock() -> bool:
    """Whether another session of this database waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND pid <> pg_backend_pid())"
        )
        return bool(cursor.fetchone()[0])


def kill(scheduler: Command) -> None:
    scheduler.send(signal.SIGKILL)
    scheduler.wait(10)


@pytest.mark.processes
def test_worker_killed_between_claim_and_send_costs_the_slot_one_attempt_and_no_call(
    start_scheduler: Start, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    endpoint = make_endpoint(url=target.route("/ok", Reply(200)), baseline_interval_ms=HOUR)
    victim = start_scheduler()
    move_due(endpoint, now() + timedelta(seconds=2))
    eventually(lambda: Run.objects.filter(status=RunStatus.RUNNING).exists())
    kill(victim)
    assert target.requests == []
    start_scheduler("--poll-interval", "0.5")
    eventually(lambda: Run.objects.filter(status=RunStatus.SUCCESS).exists())
    first, second = Run.objects.filter(endpoint=endpoint).order_by("attempt")
    assert (first.error_kind, second.attempt, second.scheduled_for) == ("worker_lost", 2, first.scheduled_for)
    assert [request.header("Cronicorn-Attempt") for request in target.requests] == ["2"]


@pytest.mark.processes
def test_worker_killed_between_answer_and_settling_repeats_the_slot_under_the_same_key(
    start_scheduler: Start, make_due: MakeDue, target: HttpTarget
) -> None:
    endpoint = make_due(target.route("/ok", Reply(200)), baseline_interval_ms=HOUR)
    other = make_due(target.route("/other", Reply(200)), baseline_interval_ms=HOUR)
    arrived, proceed = threading.Event(), threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        arrived.set()
        wire.wait(proceed)
        Reply(200)(request, wire)

    target.route("/ok", answer)
    victim = start_scheduler()
    assert arrived.wait(10)
    eventually(lambda: Run.objects.filter(endpoint=other, status=RunStatus.SUCCESS).exists())
    with locked("SELECT FROM runs WHERE endpoint_id = %s FOR UPDATE", endpoint.pk):
        proceed.set()
        eventually(somebody_waits_for_a_lock)
        kill(victim)
    lose_lease(endpoint)
    start_scheduler("--poll-interval", "0.5")
    eventually(lambda: Run.objects.filter(endpoint=endpoint, status=RunStatus.SUCCESS).exists())
    calls = [request for request in target.requests if request.path == "/ok"]
    assert [request.header("Cronicorn-Attempt") for request in calls] == ["1", "2"]
    assert len({request.header("Idempotency-Key") for request in calls}) == 1
    assert Run.objects.filter(endpoint=other).count() == 1


@pytest.mark.processes
def test_worker_killed_after_settling_repeats_nothing(
    start_scheduler: Start, make_due: MakeDue, target: HttpTarget
) -> None:
    endpoint = make_due(target.route("/ok", Reply(200)), baseline_interval_ms=HOUR)
    victim = start_scheduler()
    eventually(lambda: Run.objects.filter(status=RunStatus.SUCCESS).exists())
    kill(victim)
    make_endpoint(url=target.route("/beat", Reply(200)), baseline_interval_ms=1_000)
    start_scheduler("--poll-interval", "0.5")
    # The lease of the dead worker, had it kept one, would be over after five of these.
    eventually(lambda: Run.objects.exclude(endpoint=endpoint).filter(status=RunStatus.SUCCESS).count() >= 6)
    assert [request.path for request in target.requests].count("/ok") == 1
    assert Run.objects.filter(endpoint=endpoint).count() == 1


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_three_killed_workers_give_a_slot_up_and_six_pause_the_endpoint(
    start_scheduler: Start, make_due: MakeDue, target: HttpTarget, now: Callable[[], datetime]
) -> None:
    arrived = threading.Semaphore(0)

    def answer(_request, wire) -> None:  # type: ignore[no-untyped-def]
        arrived.release()
        wire.stopping.wait()

    poison = make_due(target.route("/poison", answer), baseline_interval_ms=HOUR)
    healthy = make_endpoint(url=target.route("/ok", Reply(200)), baseline_interval_ms=1_000)
    successes = Run.objects.filter(endpoint=healthy, status=RunStatus.SUCCESS)
    for loss in range(1, 7):
        victim = start_scheduler("--poll-interval", "0.3", LEASE_SECONDS="60")
        assert arrived.acquire(timeout=20)
        eventually(lambda reached=loss: successes.count() >= reached)  # type: ignore[misc]
        kill(victim)
        for endpoint in Endpoint.objects.filter(lease_owner__isnull=False):
            lose_lease(endpoint)
        if loss == 3:
            reaper = start_scheduler("--poll-interval", "0.3")
            reaper.wait_for_line('"consequence": "give up"')
            poison.refresh_from_db()
            assert (poison.retry_at, poison.lease_owner) == (None, None)
            kill(reaper)
            move_due(poison, now())
    last = start_scheduler("--poll-interval", "0.3")
    last.wait_for_line("endpoint_paused")
    poison.refresh_from_db()
    assert (poison.paused_by, poison.loss_count, poison.next_source) == ("system", 6, "paused")
    attempts = Run.objects.filter(endpoint=poison).order_by("claimed_at").values_list("attempt", "status")
    assert list(attempts) == [(number, "abandoned") for number in (1, 2, 3, 1, 2, 3)]
    before = successes.count()
    eventually(lambda: successes.count() > before)


def test_call_that_outlasts_the_drain_is_given_back_at_once(make_due: MakeDue, target: HttpTarget) -> None:
    endpoint = make_due(target.route("/long", lambda _request, wire: wire.stopping.wait()), timeout_ms=600_000)
    stop = Stop()
    dispatcher = CurlDispatcher(EgressPolicy.from_settings("127.0.0.0/8"), concurrency=5)
    worker = Worker(name="w1", dispatcher=dispatcher, options=WorkerOptions(drain=0.2), stop=stop)

    def run() -> None:
        worker.run()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    target.wait_for(1)
    stop.request()
    thread.join(20)
    assert not thread.is_alive()
    run_row = Run.objects.get(endpoint=endpoint)
    assert (run_row.status, run_row.error_kind) == (RunStatus.ABANDONED, "shutdown")
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.next_source, endpoint.next_attempt) == (None, "retry", 2)


def test_endpoint_that_somebody_keeps_locked_holds_up_no_other_result(make_due: MakeDue) -> None:
    stuck, other = make_due(), make_due()
    claims = claim_due(worker="w1", limit=10, lease=LEASE)
    settler = settler_with(claims, [outcome_of(item) for item in claims])
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
    with locked("SELECT FROM job_endpoints WHERE id = %s FOR NO KEY UPDATE", stuck.pk):
        assert settler.settle_ready(0).count == 1
        assert Run.objects.get(endpoint=other).status == RunStatus.SUCCESS
        assert Run.objects.get(endpoint=stuck).status == RunStatus.RUNNING
        assert settler.settle_ready(0).count == 0
    assert settler.settle_ready(0).count == 1
    assert Run.objects.get(endpoint=stuck).status == RunStatus.SUCCESS


def test_result_of_an_earlier_claim_by_the_same_worker_does_not_count(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=HOUR)
    (old,) = claim_due(worker="w1", limit=10, lease=LEASE)
    lose_lease(endpoint)
    reap()
    (new,) = claim_due(worker="w1", limit=10, lease=LEASE)
    assert settle(worker="w1", results=[result_of(old)]).fenced == {old.run_id}
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.fence) == ("w1", new.fence)
    assert settle(worker="w1", results=[result_of(new)]).accepted == {new.run_id}


class Refusals(logging.Handler):
    """Waits for the settler to say that the database refused."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "settle_failed":
            self.errors.append(record.facts["error"])  # type: ignore[attr-defined]
            self.came.set()


@pytest.fixture
def refusals() -> Iterator[Refusals]:
    """What the settler logs."""
    handler, logger = Refusals(), logging.getLogger("scheduling.worker.settler")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def settle_in_a_thread(make_due: MakeDue, *settings: str) -> tuple[Endpoint, threading.Thread]:
    """A settler of one result on a connection of its own with these settings; it starts when the thread does."""
    endpoint = make_due(baseline_interval_ms=HOUR)
    claims = claim_due(worker="w1", limit=10, lease=LEASE)
    settler = settler_with(claims, [outcome_of(item) for item in claims])

    def work() -> None:
        with connection.cursor() as cursor:
            for setting in settings:
                cursor.execute(f"SET {setting}")
        settler.settle_ready(0)
        connection.close()

    return endpoint, threading.Thread(target=work)


def assert_settled_once(endpoint: Endpoint) -> None:
    run = Run.objects.get(endpoint=endpoint)
    assert (run.status, run.attempt) == (RunStatus.SUCCESS, 1)
    endpoint.refresh_from_db()
    assert endpoint.lease_owner is None


@pytest.mark.parametrize(
    ("setting", "words"),
    [("lock_timeout = '200ms'", "lock timeout"), ("statement_timeout = '200ms'", "statement timeout")],
)
def test_result_is_settled_after_a_timeout(make_due: MakeDue, refusals: Refusals, setting: str, words: str) -> None:
    endpoint, thread = settle_in_a_thread(make_due, setting)
    with locked("SELECT FROM runs WHERE endpoint_id = %s FOR UPDATE", endpoint.pk):
        thread.start()
        assert refusals.came.wait(10)
    thread.join(15)
    assert words in refusals.errors[0]
    assert_settled_once(endpoint)


def test_result_is_settled_after_a_deadlock(make_due: MakeDue, refusals: Refusals) -> None:
    # The settler looks for a deadlock after 2 s, the other session after 30: the settler is the victim.
    endpoint, thread = settle_in_a_thread(make_due, "deadlock_timeout = '2s'")
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '30s'")
            cursor.execute("SELECT FROM runs WHERE endpoint_id = %s FOR UPDATE", [endpoint.pk])
            thread.start()
            eventually(somebody_waits_for_a_lock)
            cursor.execute("SELECT FROM job_endpoints WHERE id = %s FOR UPDATE", [endpoint.pk])
        other.commit()
    finally:
        other.close()
    thread.join(15)
    assert "deadlock detected" in refusals.errors[0]
    assert_settled_once(endpoint)


def test_result_is_settled_after_a_serialization_failure(make_due: MakeDue, refusals: Refusals) -> None:
    endpoint, thread = settle_in_a_thread(make_due, "default_transaction_isolation = 'repeatable read'")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE runs SET error_message = 'touched' WHERE endpoint_id = %s", [endpoint.pk])
        thread.start()
        other = connection.copy()

        def waits() -> bool:
            with other.cursor() as watching:
                watching.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                return bool(watching.fetchone()[0])

        eventually(waits)
        other.close()
    thread.join(15)
    assert "could not serialize" in refusals.errors[0]
    assert_settled_once(endpoint)


def test_deleted_endpoint_ends_its_call_quietly(make_due: MakeDue, refusals: Refusals) -> None:
    endpoint = make_due()
    claims = claim_due(worker="w1", limit=10, lease=LEASE)
    settler = settler_with(claims, [outcome_of(item) for item in claims])
    Endpoint.objects.filter(pk=endpoint.pk).delete()
    assert settler.settle_ready(0).count == 1
    assert refusals.errors == []
