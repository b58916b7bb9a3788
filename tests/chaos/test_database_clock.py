"""The database's clock leaps an hour under a real scheduler: each endpoint runs at most once, nothing repeats."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from jobs.models import Endpoint, Run, RunStatus
from tests.chaos.clock import ShiftedClock, everybodys_clock
from tests.support.factories import make_endpoint, make_job
from tests.support.http_target import HttpTarget, Reply
from tests.support.processes import Command, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]
Start = Callable[..., Command]
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(transactional_db: None) -> Iterator[ShiftedClock]:
    """The clock that every connection made from now on reads."""
    with everybodys_clock() as shifted:
        yield shifted


def test_leap_forward_folds_the_hour_into_one_run_and_a_leap_back_repeats_nothing(
    clock: ShiftedClock, start_scheduler: Start, target: HttpTarget
) -> None:
    url, job = target.route("/ok", Reply(200)), make_job()
    endpoints = [make_endpoint(job, url=url, baseline_interval_ms=2_000, planner_mode="off") for _ in range(20)]
    scheduler = start_scheduler("--poll-interval", "0.5")
    done = Run.objects.filter(status=RunStatus.SUCCESS)
    eventually(lambda: done.count() >= 20)

    clock.shift(HOUR)
    scheduler.wait_for_line("clock_jumped")
    eventually(lambda: done.filter(coalesced_slots__gt=1_700).values("endpoint").distinct().count() == 20)
    folded = done.filter(coalesced_slots__gt=1_000)
    assert folded.count() == 20
    eventually(lambda: done.filter(scheduled_for__gt=max(run.scheduled_for for run in folded)).count() >= 20)

    before = Run.objects.count()
    clock.shift(timedelta(0))
    scheduler.wait_for_line("clock_jumped")
    latest = {endpoint.pk: endpoint.last_slot_at for endpoint in Endpoint.objects.all()}
    # What was in hand when the clock went back ends; what comes next is an hour away.
    eventually(lambda: not Run.objects.filter(status=RunStatus.RUNNING).exists())
    assert Run.objects.count() <= before + 20
    keys = [request.header("Idempotency-Key") for request in target.requests]
    assert len(keys) == len(set(keys)) == done.count()
    assert {endpoint.pk for endpoint in endpoints} == latest.keys()
    assert not Run.objects.filter(attempt__gt=1).exists()
