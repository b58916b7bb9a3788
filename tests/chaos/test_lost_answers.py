"""A database that did what was asked and could not say so, and a network that swallows everything."""

import threading
from collections.abc import Callable

import pytest

from jobs.models import Endpoint, Run, RunStatus
from tests.chaos.proxy import Proxy, claimed, settled
from tests.scheduling.test_claims import lose_lease
from tests.support.http_target import HttpTarget, Reply
from tests.support.processes import Command, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]
Start = Callable[..., Command]
MakeDue = Callable[..., Endpoint]


def test_nothing_is_sent_for_a_claim_whose_commit_is_unknown(
    start_scheduler: Start, make_due: MakeDue, target: HttpTarget, proxy: Proxy
) -> None:
    proxy.lose_the_answer_to(claimed)
    scheduler = start_scheduler("--poll-interval", "0.5", DATABASE_URL=proxy.url)
    endpoint = make_due(target.route("/ok", Reply(200)), baseline_interval_ms=3_600_000)
    scheduler.wait_for_line("claim_failed")
    assert proxy.lost.is_set()
    run = Run.objects.get()
    assert (run.status, run.attempt) == (RunStatus.RUNNING, 1)

    scheduler.wait_for_line("run_reaped")
    eventually(lambda: Run.objects.filter(status=RunStatus.SUCCESS).exists())
    first, second = Run.objects.filter(endpoint=endpoint).order_by("attempt")
    assert (first.status, first.started_at, second.attempt) == (RunStatus.ABANDONED, None, 2)
    assert [request.header("Cronicorn-Attempt") for request in target.requests] == ["2"]
    # The lease of the unknown claim is not renewed: the slot waits for its end and no longer.
    assert (second.claimed_at - first.claimed_at).total_seconds() < 7  # type: ignore[operator]


def test_result_whose_commit_is_unknown_is_not_written_twice(
    start_scheduler: Start, make_due: MakeDue, target: HttpTarget, proxy: Proxy
) -> None:
    proxy.lose_the_answer_to(settled)
    scheduler = start_scheduler("--poll-interval", "0.5", DATABASE_URL=proxy.url)
    endpoint = make_due(target.route("/ok", Reply(500)), baseline_interval_ms=3_600_000)
    scheduler.wait_for_line("settle_failed")
    assert proxy.lost.is_set()
    # Another endpoint's run ends after it: the settler is done with the first.
    other = make_due(target.route("/other", Reply(200)), baseline_interval_ms=3_600_000)
    eventually(lambda: Run.objects.filter(endpoint=other, status=RunStatus.SUCCESS).exists())
    run = Run.objects.get(endpoint=endpoint)
    assert (run.status, run.late_result) == (RunStatus.FAILED, None)
    endpoint.refresh_from_db()
    assert (endpoint.failure_count, endpoint.lease_owner) == (1, None)
    assert len(target.requests) == 2


def test_worker_that_cannot_reach_the_database_cancels_its_calls_before_their_lease_ends(
    start_scheduler: Start, make_due: MakeDue, target: HttpTarget, proxy: Proxy
) -> None:
    gone = threading.Event()

    def answer(request, wire) -> None:  # type: ignore[no-untyped-def]
        wire.connection.settimeout(20)
        if wire.connection.recv(1) == b"":
            gone.set()

    endpoint = make_due(target.route("/slow", answer), baseline_interval_ms=3_600_000)
    start_scheduler("--poll-interval", "0.5", DATABASE_URL=proxy.url)
    target.wait_for(1)
    proxy.swallow()
    eventually(gone.is_set, 10)
    endpoint.refresh_from_db()
    assert endpoint.lease_until is not None
    with_time_left = Endpoint.objects.extra(where=["lease_until > clock_timestamp()"])
    assert with_time_left.filter(pk=endpoint.pk).exists()
    proxy.pass_on()
    lose_lease(endpoint)
