"""Fixtures for tests of the scheduler against a real database and real local servers."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from cronicorn.runtime.clock import database_now
from cronicorn.runtime.stopping import Stop
from jobs.models import Endpoint
from jobs.replan import replan
from scheduling.dispatch import CurlDispatcher
from scheduling.egress.policy import EgressPolicy
from scheduling.worker.worker import Worker, WorkerOptions
from tests.support.factories import make_endpoint
from tests.support.http_target import HttpTarget, http_target

__all__ = ["http_target"]


@pytest.fixture
def now() -> Callable[[], datetime]:
    """Reads the database's clock."""

    def read() -> datetime:
        with connection.cursor() as cursor:
            return database_now(cursor)

    return read


@pytest.fixture
def make_due(now: Callable[[], datetime]) -> Callable[..., Endpoint]:
    """Makes an endpoint whose baseline slot fell due a moment ago."""

    def make(
        url: str = "https://example.com/", *, late: timedelta = timedelta(milliseconds=50), **fields: Any
    ) -> Endpoint:
        endpoint = make_endpoint(url=url, **fields)
        move_due(endpoint, now() - late)
        return endpoint

    return make


def move_due(endpoint: Endpoint, at: datetime) -> None:
    """Shifts an interval endpoint's grid so that its next slot is `at`, as if it had been created earlier."""
    assert endpoint.baseline_interval_ms is not None
    interval = timedelta(milliseconds=endpoint.baseline_interval_ms)
    # In one transaction: a scheduler of the test may be about to claim it.
    with transaction.atomic():
        Endpoint.objects.filter(pk=endpoint.pk).update(
            created_at=at - interval, anchor_at=at - interval, next_run_at=at, next_slot_at=at
        )
        replan([endpoint.pk])
        endpoint.refresh_from_db()
    assert endpoint.next_run_at == at


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker that may call this machine, for `run_once`."""
    dispatcher = CurlDispatcher(EgressPolicy.from_settings("127.0.0.0/8"), concurrency=50)
    yield Worker(name="scheduler-test", dispatcher=dispatcher, options=WorkerOptions(), stop=Stop())
    dispatcher.close()


@pytest.fixture
def target(http_target: HttpTarget) -> HttpTarget:
    """A real HTTP server on this machine."""
    return http_target
