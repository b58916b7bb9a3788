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
from jobs.models import Author, Endpoint, Run, RunResponse
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
BUSY = {**FAILURE, "status_code": 503, "wait_headers": (("retry-after", "60"),)}


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


def test_retry_waits_for_the_servers_retry_after(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=600_000, retry_limit=2)
    result = result_of(claim()[0], **BUSY)
    settle(worker="w1", results=[result])
    endpoint.refresh_from_db()
    assert endpoint.next_run_at == result.finished_at + timedelta(seconds=60)


@pytest.mark.parametrize("mode", ["off", "shadow", "approve", "auto"])
def test_what_the_server_asks_for_puts_the_next_run_off_with_no_retries_and_no_planner(
    make_due: MakeDue, now: Callable[[], datetime], mode: str
) -> None:
    endpoint = make_due(baseline_interval_ms=10_000, retry_limit=0, planner_mode=mode)
    (claimed,) = claim()
    result = result_of(claimed, **BUSY)
    settle(worker="w1", results=[result])
    endpoint.refresh_from_db()
    assert (endpoint.next_source, endpoint.next_run_at) == ("server-asked", result.finished_at + timedelta(seconds=60))
    assert endpoint.server_wait_until == endpoint.next_run_at
    assert endpoint.server_wait_reason == "it answered 503 with Retry-After"
    assert endpoint.next_decision["candidates"][1]["verdict"] == "put off by the server"


def test_hint_does_not_get_past_what_the_server_asked_for_and_run_now_does(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=600_000)
    settle(worker="w1", results=[result_of(claim()[0], **BUSY)])
    hint = {"interval_ms": 1_000, "ttl_ms": 600_000, "reason": "", "author": Author.USER}
    hinted = services.set_interval_hint(endpoint_id=endpoint.pk, **hint)
    assert (hinted.next_source, hinted.next_run_at) == ("server-asked", hinted.server_wait_until)
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    (manual,) = claim()
    assert manual.source == "manual"


def test_success_ends_what_the_server_asked_for_and_a_failure_does_not(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=10_000)
    settle(worker="w1", results=[result_of(claim()[0], **BUSY)])
    waits = []
    for outcome in (FAILURE, {**FAILURE, "status_code": None}, {}):
        services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
        settle(worker="w1", results=[result_of(claim()[0], **outcome)])
        endpoint.refresh_from_db()
        waits.append(endpoint.server_wait_until is not None)
    assert waits == [True, True, False]
    assert (endpoint.server_wait_since, endpoint.server_wait_reason) == (None, None)
    assert endpoint.next_source == "baseline-interval"


def test_rate_limit_that_a_success_used_up_puts_the_next_run_off(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=10_000)
    (claimed,) = claim()
    result = result_of(claimed, wait_headers=(("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "90")))
    settle(worker="w1", results=[result])
    endpoint.refresh_from_db()
    assert (endpoint.next_run_at, endpoint.failure_count) == (result.finished_at + timedelta(seconds=90), 0)


def test_wait_counts_from_the_answer_where_its_result_was_kept_for_long(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=600_000)
    (claimed,) = claim()
    result = replace(result_of(claimed, **BUSY), finished_at=claimed.claimed_at - timedelta(minutes=5))
    settle(worker="w1", results=[result])
    endpoint.refresh_from_db()
    assert (endpoint.next_source, endpoint.server_wait_until) == ("baseline-interval", None)


def test_streak_of_failures_is_dated_by_the_slot_of_its_first_run(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=600_000)
    first = endpoint.next_slot_at
    seen = []
    for outcome in ({**FAILURE, "blame": Blame.LOCAL}, FAILURE, FAILURE, {}):
        services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
        (claimed,) = claim()
        settle(worker="w1", results=[result_of(claimed, **outcome)])
        endpoint.refresh_from_db()
        seen.append((claimed.slot_at, endpoint.failing_since))
    assert first is not None
    assert [since for _, since in seen] == [None, seen[1][0], seen[1][0], None]


@pytest.mark.parametrize(
    ("fields", "retried"),
    [
        ({"status_code": None, "error_kind": ErrorKind.TIMEOUT}, True),
        ({"status_code": None, "error_kind": ErrorKind.CONNECT_FAILED}, True),
        ({"status_code": None, "error_kind": ErrorKind.TLS_FAILED}, True),
        ({"status_code": None, "error_kind": ErrorKind.DNS_FAILED, "blame": Blame.LOCAL}, True),
        ({"status_code": None, "error_kind": ErrorKind.RESPONSE_TOO_LARGE}, True),
        ({"status_code": 200, "error_kind": ErrorKind.ASSERTION_FAILED}, True),
        ({"status_code": 302}, True),
        *(({"status_code": status}, True) for status in (408, 425, 429, 500, 501, 502, 503, 504, 599)),
        *(({"status_code": status}, False) for status in (400, 401, 403, 404, 409, 410, 413, 422, 600)),
        ({"status_code": 403, "wait_headers": (("retry-after", "9"),)}, True),
        ({"status_code": 413, "wait_headers": (("retry-after", "9"),)}, True),
        ({"status_code": 403, "wait_headers": (("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9"))}, True),
        ({"status_code": 404, "wait_headers": (("retry-after", "9"),)}, False),
        ({"status_code": None, "error_kind": ErrorKind.DESTINATION_NOT_ALLOWED, "blame": Blame.POLICY}, False),
        ({"status_code": None, "error_kind": ErrorKind.SECRET_UNAVAILABLE, "blame": Blame.POLICY}, False),
    ],
    ids=str,
)
def test_failures_are_retried_as_the_table_in_the_documents_says(
    make_due: MakeDue, fields: dict[str, Any], retried: bool
) -> None:
    endpoint = make_due(baseline_interval_ms=600_000, retry_limit=2)
    settle(worker="w1", results=[result_of(claim()[0], **{**FAILURE, **fields})])
    endpoint.refresh_from_db()
    assert (endpoint.next_source == "retry") is retried


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
