"""Settling against a real database: fenced, idempotent, from the fresh row, and one bad row breaks no batch."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from cronicorn.runtime.clock import DatabaseClock
from cronicorn.runtime.stopping import Stop
from jobs import services
from jobs.models import Endpoint, Run, RunResponse
from scheduling.exchange.outcome import Blame, ErrorKind, Outcome, Timings
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.leases import reap
from scheduling.ledger.settlement import Result, settle
from scheduling.worker.book import Book, InHand
from scheduling.worker.requests import bare_call
from scheduling.worker.settler import Settler
from tests.scheduling.test_claims import lose_lease

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
LEASE = timedelta(seconds=60)


def outcome_of(claim: Claim, **fields: Any) -> Outcome:
    values: dict[str, Any] = {
        "ok": True,
        "error_kind": None,
        "error_message": None,
        "blame": None,
        "status_code": 200,
        "timings": Timings(total_ms=12.5),
        "started_ns": 0,
        "finished_ns": 12_500_000,
        "body": "fine",
    }
    return Outcome(call=bare_call(claim), **{**values, **fields})


def result_of(claim: Claim, **fields: Any) -> Result:
    at = claim.claimed_at
    stopping = fields.pop("stopping", False)
    return Result(
        outcome=outcome_of(claim, **fields),
        attempt=claim.attempt,
        slot_at=claim.slot_at,
        started_at=at,
        finished_at=at + timedelta(milliseconds=12),
        stopping=stopping,
    )


FAILURE = {"ok": False, "error_kind": ErrorKind.HTTP_ERROR, "error_message": "500", "status_code": 500}


def claim() -> list[Claim]:
    return claim_due(worker="w1", limit=100, lease=LEASE)


def test_result_frees_the_endpoint_and_plans_the_next_slot(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=60_000)
    slot = endpoint.next_slot_at
    (claimed,) = claim()
    settled = settle(worker="w1", results=[result_of(claimed)])
    endpoint.refresh_from_db()
    assert settled.accepted == {claimed.run_id}
    assert settled.next_due_at == endpoint.next_run_at
    assert slot is not None
    assert (endpoint.lease_owner, endpoint.next_slot_at) == (None, slot + timedelta(minutes=1))
    assert endpoint.last_run_at is not None
    assert RunResponse.objects.get().body == "fine"


def test_settling_twice_changes_nothing(make_due: MakeDue) -> None:
    make_due()
    (claimed,) = claim()
    settle(worker="w1", results=[result_of(claimed)])
    before = list(Endpoint.objects.values()), list(Run.objects.values())
    settled = settle(worker="w1", results=[result_of(claimed, **FAILURE)])
    assert (settled.accepted, settled.fenced) == (frozenset(), frozenset())
    assert (list(Endpoint.objects.values()), list(Run.objects.values())) == before


def test_result_under_a_lost_lease_is_kept_aside_and_changes_nothing_else(make_due: MakeDue) -> None:
    endpoint = make_due()
    (claimed,) = claim()
    lose_lease(endpoint)
    reap()
    before = Endpoint.objects.values().get()
    settled = settle(worker="w1", results=[result_of(claimed)])
    assert settled.fenced == {claimed.run_id}
    assert Endpoint.objects.values().get() == before
    run = Run.objects.get(pk=claimed.run_id)
    assert (run.status, run.late_result["status_code"]) == ("abandoned", 200)


def test_two_results_of_one_endpoint_in_a_batch_count_once(make_due: MakeDue) -> None:
    endpoint = make_due()
    (old,) = claim()
    lose_lease(endpoint)
    reap()
    (new,) = claim()
    settled = settle(worker="w1", results=[result_of(new), result_of(old)])
    assert (settled.accepted, settled.fenced) == ({new.run_id}, {old.run_id})


@pytest.mark.parametrize(("blame", "failures"), [(Blame.REMOTE, 1), (Blame.POLICY, 1), (Blame.LOCAL, 0)])
def test_only_faults_that_are_not_our_own_count_against_the_endpoint(
    make_due: MakeDue, blame: Blame, failures: int
) -> None:
    endpoint = make_due()
    settle(worker="w1", results=[result_of(claim()[0], **FAILURE, blame=blame)])
    endpoint.refresh_from_db()
    assert endpoint.failure_count == failures


def test_retry_keeps_the_slot_and_raises_the_attempt(make_due: MakeDue, now: Callable[[], datetime]) -> None:
    endpoint = make_due(baseline_interval_ms=600_000, retry_limit=2)
    slot = endpoint.next_slot_at
    (claimed,) = claim()
    settle(worker="w1", results=[result_of(claimed, **FAILURE)])
    endpoint.refresh_from_db()
    assert (endpoint.next_source, endpoint.next_slot_at, endpoint.next_attempt) == ("retry", slot, 2)
    assert endpoint.next_run_at is not None
    assert 1 <= (endpoint.next_run_at - now()).total_seconds() <= 2.3


def test_retry_waits_for_the_servers_retry_after(make_due: MakeDue, now: Callable[[], datetime]) -> None:
    endpoint = make_due(baseline_interval_ms=600_000, retry_limit=2)
    settle(worker="w1", results=[result_of(claim()[0], **{**FAILURE, "status_code": 503}, retry_after="60")])
    endpoint.refresh_from_db()
    assert endpoint.next_run_at is not None
    assert 58 <= (endpoint.next_run_at - now()).total_seconds() <= 60


def test_answer_that_a_retry_cannot_change_is_not_retried(make_due: MakeDue) -> None:
    endpoint = make_due(retry_limit=2)
    settle(worker="w1", results=[result_of(claim()[0], **{**FAILURE, "status_code": 404})])
    endpoint.refresh_from_db()
    assert endpoint.next_source == "baseline-interval"


@pytest.mark.parametrize("outcome", [{}, FAILURE])
def test_run_now_leaves_the_retry_of_another_slot_as_it_is(make_due: MakeDue, outcome: dict[str, Any]) -> None:
    endpoint = make_due(baseline_interval_ms=600_000, retry_limit=1)
    slot = endpoint.next_slot_at
    settle(worker="w1", results=[result_of(claim()[0], **FAILURE)])
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    (manual,) = claim()
    assert manual.source == "manual"
    settle(worker="w1", results=[result_of(manual, **outcome)])
    endpoint.refresh_from_db()
    assert (endpoint.next_source, endpoint.next_slot_at, endpoint.next_attempt) == ("retry", slot, 2)
    assert endpoint.retries_used == 1


def test_slot_lost_with_its_worker_is_repeated_before_a_run_now(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=600_000)
    slot = endpoint.next_slot_at
    claim()
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    lose_lease(endpoint)
    reap()
    (repeat,) = claim()
    assert (repeat.source, repeat.slot_at, repeat.attempt) == ("retry", slot, 2)
    settle(worker="w1", results=[result_of(repeat)])
    assert [item.source for item in claim()] == ["manual"]


def test_retry_that_would_come_after_the_next_slot_is_dropped(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=1_000, retry_limit=3, max_interval_ms=1_000)
    settle(worker="w1", results=[result_of(claim()[0], **FAILURE)])
    endpoint.refresh_from_db()
    assert (endpoint.retry_at, endpoint.next_attempt) == (None, 1)
    assert "retry" in endpoint.next_decision["sentence"].lower()


@pytest.mark.parametrize(("sent", "attempt"), [(True, 1), (False, 2)])
def test_call_that_was_given_up_is_not_repeated_where_at_most_one_is_wanted(
    make_due: MakeDue, sent: bool, attempt: int
) -> None:
    """Unless it was never sent."""
    endpoint = make_due(baseline_interval_ms=600_000, on_worker_loss="skip")
    (claimed,) = claim()
    canceled = {"ok": False, "error_kind": ErrorKind.CANCELED, "status_code": None, "blame": Blame.LOCAL}
    result = result_of(claimed, **canceled)
    settle(worker="w1", results=[result if sent else replace(result, started_at=None)])
    endpoint.refresh_from_db()
    assert (endpoint.next_attempt, endpoint.retry_attempt) == (attempt, attempt if attempt > 1 else None)


def test_call_given_up_at_a_stop_is_repeated_at_once(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=600_000)
    (claimed,) = claim()
    canceled = {"ok": False, "error_kind": ErrorKind.CANCELED, "status_code": None, "blame": Blame.LOCAL}
    settle(worker="w1", results=[result_of(claimed, **canceled, stopping=True)])
    run = Run.objects.get()
    assert (run.status, run.error_kind) == ("abandoned", "shutdown")
    (again,) = claim_due(worker="w2", limit=10, lease=LEASE)
    assert (again.slot_at, again.attempt) == (claimed.slot_at, 2)
    endpoint.refresh_from_db()
    assert endpoint.failure_count == 0


class Answers:
    """A dispatcher whose calls have all come back."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self._outcomes = outcomes

    def start(self, call: object) -> None:
        raise AssertionError("nothing is started here")

    def completed(self, timeout: float) -> list[Outcome]:
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def cancel(self, run_id: object) -> None:
        raise AssertionError("nothing is canceled here")

    def in_flight(self) -> int:
        return len(self._outcomes)

    def close(self) -> None:
        self._outcomes = []


def settler_with(claims: list[Claim], outcomes: list[Outcome]) -> Settler:
    book, clock = Book(), DatabaseClock()
    for item in claims:
        assert item.run_id is not None
        book.add(item.run_id, InHand(item, secured_at=0.0))
    clock.observe(claims[0].claimed_at, time.monotonic_ns(), time.monotonic_ns())
    return Settler(worker="w1", dispatcher=Answers(outcomes), book=book, clock=clock, abandon=Stop())


def test_row_that_cannot_be_stored_ends_alone_as_an_internal_error(make_due: MakeDue) -> None:
    poisoned = make_due()
    for _ in range(9):
        make_due()
    claims = claim()
    outcomes = [outcome_of(item, body="\x00" if item.endpoint_id == poisoned.pk else "fine") for item in claims]
    assert settler_with(claims, outcomes).settle_ready(0).count == 10
    run = Run.objects.get(endpoint=poisoned)
    assert (run.status, run.error_kind) == ("failed", "internal_error")
    assert Run.objects.filter(status="success").count() == 9
    assert not Endpoint.objects.filter(lease_owner__isnull=False).exists()


def test_settling_goes_on_after_the_connection_was_cut(make_due: MakeDue) -> None:
    make_due()
    claims = claim()
    settler = settler_with(claims, [outcome_of(item) for item in claims])
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    other.close()
    assert settler.settle_ready(0).count == 1
    assert Run.objects.get().status == "success"
