"""The planner worker's loop: it lives on whatever a pass raises, shows signs of life, and stops when asked."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from cronicorn.runtime.stopping import Stop
from jobs.models import Endpoint, WorkerHeartbeat
from planner.worker import WHOLE_PASS_EVERY, Planner, PlannerOptions
from tests.planner.scenes import busy_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


class BrokenModel:
    """A model's side that always raises, and tells how often it was asked."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)

    def run(self, stop: Stop) -> int:
        self.asked.release()
        raise RuntimeError("broken")

    def facts(self) -> dict[str, Any]:
        return {"model": "broken", "breaker": None}


@pytest.fixture
def run() -> Iterator[Callable[..., Stop]]:
    """Starts planners in threads and stops them at the end."""
    started: list[tuple[Stop, threading.Thread]] = []

    def start(model: Any = None) -> Stop:
        stop = Stop()
        options = PlannerOptions(rules_interval=0.02, analysis_interval=0.02)
        thread = threading.Thread(target=Planner(name="planner-t", options=options, stop=stop, model=model).run)
        started.append((stop, thread))
        thread.start()
        return stop

    yield start
    for stop, thread in started:
        stop.request()
        thread.join(20)
        assert not thread.is_alive()


def eventually(check: Callable[[], object], seconds: float = 15) -> None:
    """Waits until `check` is true."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if check():
            return
        pause.wait(0.02)
    raise AssertionError("It did not come to be.")


def hinted(endpoint: Endpoint) -> bool:
    return Endpoint.objects.filter(pk=endpoint.pk, ai_hint_interval_ms=30_000).exists()


def test_a_failing_model_pass_is_tried_again_and_the_rules_go_on(run: Callable[..., Stop]) -> None:
    model = BrokenModel()
    run(model)
    assert model.asked.acquire(timeout=10)
    assert model.asked.acquire(timeout=10)
    endpoint = busy_endpoint()
    eventually(lambda: hinted(endpoint))


def test_the_worker_comes_back_after_its_connections_were_cut(run: Callable[..., Stop]) -> None:
    run()
    first = busy_endpoint()
    eventually(lambda: hinted(first))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    second = busy_endpoint()
    eventually(lambda: hinted(second))


def test_the_worker_shows_that_it_lives_and_says_goodbye(run: Callable[..., Stop]) -> None:
    stop = run()
    eventually(lambda: WorkerHeartbeat.objects.filter(worker="planner-t", kind="planner", stopped_at=None).exists())
    assert set(WorkerHeartbeat.objects.get().facts) >= {"model", "rules_passes", "proposals", "scored", "failed_passes"}
    stop.request()
    eventually(lambda: WorkerHeartbeat.objects.filter(worker="planner-t", stopped_at__isnull=False).exists())


def test_runs_that_were_written_late_are_looked_at_by_a_whole_pass_now_and_then() -> None:
    planner = Planner(name="planner-t", options=PlannerOptions(), stop=Stop())
    planner.rules_pass()
    late = busy_endpoint()
    Endpoint.objects.filter(pk=late.pk).update(last_run_at=F("last_run_at") - timedelta(minutes=1))
    assert planner.rules_pass().looked_at == 0
    planner._whole_pass_at = planner._last_pass_at - WHOLE_PASS_EVERY
    assert planner.rules_pass().looked_at == 1
    assert planner._whole_pass_at == planner._last_pass_at
