"""The host of the database vanishes in the middle of the work: packets are dropped, nobody says so."""

import time
from collections.abc import Callable

import pytest
from django.db import connection

from jobs.models import Endpoint
from tests.chaos.network import Host, unavailable
from tests.support.http_target import HttpTarget, Reply
from tests.support.processes import Command

WITHIN_S = 25.0
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.processes,
    pytest.mark.timeout(180),
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]


def place() -> tuple[str, str]:
    """The socket of the test's server, and the rest of a URL to its database."""
    parameters = connection.get_connection_params()
    path = f"{parameters['host']}/.s.PGSQL.{parameters.get('port') or 5432}"
    return path, f"{parameters['dbname']}?sslmode=disable&user={parameters['user']}"


def silence_of(target: HttpTarget, since: float) -> float:
    """Seconds from a moment until the next call."""
    seen = len(target.requests)
    target.wait_for(seen + 1, 90)
    return time.monotonic() - since


def test_calls_go_on_after_the_host_of_the_database_was_away_and_came_back(
    make_due: Callable[..., Endpoint], target: HttpTarget
) -> None:
    make_due(target.route("/ok", Reply(200)), baseline_interval_ms=1000)
    path, database = place()
    with Host(path) as host:
        url = f"postgresql://{host.address}:5432/{database}"
        with Command("run_scheduler", "--poll-interval", "1", DATABASE_URL=url) as scheduler:
            scheduler.wait_for_line("worker_started")
            target.wait_for(3, 60)
            host.vanish()
            gone = time.monotonic()
            # What was claimed before may still be called; then nothing can be known, and nothing is sent.
            scheduler.wait_for_line("failed")
            assert time.monotonic() - gone < WITHIN_S
            host.come_back()
            assert silence_of(target, time.monotonic()) < WITHIN_S


def test_calls_go_on_at_another_host_that_was_promoted(make_due: Callable[..., Endpoint], target: HttpTarget) -> None:
    make_due(target.route("/ok", Reply(200)), baseline_interval_ms=1000)
    path, database = place()
    with Host(path) as first, Host(path) as second:
        url = f"postgresql://{first.address}:5432,{second.address}:5432/{database}"
        with Command("run_scheduler", "--poll-interval", "1", DATABASE_URL=url) as scheduler:
            scheduler.wait_for_line("worker_started")
            target.wait_for(3, 60)
            first.vanish()
            gone = time.monotonic()
            scheduler.wait_for_line("failed")
            assert silence_of(target, gone) < WITHIN_S
