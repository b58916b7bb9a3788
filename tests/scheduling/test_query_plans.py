"""The statements of the hot path among a million endpoints: none reads a whole table, each touches few pages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from jobs.models import Endpoint, Job
from jobs.replan import replan
from scheduling.exchange.outcome import Outcome, Timings
from scheduling.ledger.claims import SEARCH_WINDOW, Claim, Reach, claim_due, look_ahead
from scheduling.ledger.gate import recheck
from scheduling.ledger.leases import reap, release, renew
from scheduling.ledger.settlement import Result, settle
from scheduling.ledger.shares import Share
from scheduling.worker.requests import bare_call
from tests.support.factories import make_job
from tests.support.fleet import fill

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

LEASE = timedelta(seconds=60)
ENDPOINTS = 1_000_000
OLD_RUNS = 300_000
IN_FLIGHT = 5_000
BATCH = 100
# Beyond a few pages of indexes and of the table for each of its rows, a statement has to look at nothing.
PAGES_PER_ROW = 100


@pytest.fixture
def million() -> Iterator[Job]:
    """A million endpoints, a few of them due, with a history of runs."""
    job = make_job()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
    fill(job, ENDPOINTS - 2_000, due="+ interval '1 day'")
    fill(job, 2_000)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO runs (endpoint_id, owner_id, scheduled_for, due_at, attempt, source, status, claimed_at,
                              started_at, finished_at, decision)
            SELECT id, owner_id, at, at, 1, 'baseline-interval', 'success', at, at, at, '{}'
            FROM (SELECT id, owner_id, now() - interval '2 days' AS at FROM job_endpoints LIMIT %s) e
            """,
            [OLD_RUNS],
        )
        cursor.execute("ANALYZE runs")
        cursor.execute("ANALYZE job_endpoints")
    yield job
    with connection.cursor() as cursor:
        cursor.execute("RESET statement_timeout")


@dataclass(slots=True)
class Plans:
    """The plans of the statements that some work sent."""

    pages: int = 0
    scanned: set[str] = field(default_factory=set)

    def take(self, plan: dict[str, Any]) -> None:
        """Adds the plan of a statement."""
        self.pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        waiting = [plan]
        while waiting:
            node = waiting.pop()
            # There is one job here, and its page is read at once.
            if node["Node Type"] == "Seq Scan" and node.get("Relation Name") != "jobs":
                self.scanned.add(node["Relation Name"])
            waiting += node.get("Plans", [])


@contextmanager
def watched() -> Iterator[Plans]:
    """Lets PostgreSQL explain each statement, with what it really touched, just before it is carried out for good."""
    plans = Plans()

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.split(maxsplit=1)[0] in {"WITH", "SELECT", "UPDATE", "INSERT", "DELETE"}:
            with transaction.atomic(), connection.connection.cursor() as cursor:
                cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, params)
                plans.take(cursor.fetchone()[0][0]["Plan"])
                transaction.set_rollback(True)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield plans


def results_of(claims: list[Claim]) -> list[Result]:
    return [
        Result(
            outcome=Outcome(
                call=bare_call(claim),
                ok=True,
                error_kind=None,
                error_message=None,
                blame=None,
                status_code=200,
                timings=Timings(total_ms=12.5),
                started_ns=0,
                finished_ns=12_500_000,
                body="fine",
            ),
            attempt=claim.attempt,
            slot_at=claim.slot_at,
            started_at=claim.claimed_at,
            finished_at=claim.claimed_at,
        )
        for claim in claims
    ]


def claim(**options: Any) -> list[Claim]:
    claims = claim_due(worker="w1", limit=BATCH, lease=LEASE, **options)
    assert len(claims) == BATCH
    return claims


def costs() -> dict[str, Plans]:
    """What each statement of the worker does with a hundred endpoints."""
    found: dict[str, Plans] = {}

    @contextmanager
    def cost_of(what: str) -> Iterator[None]:
        with watched() as plans:
            yield
        assert plans.pages, what
        found[what] = plans

    with cost_of("claim"):
        claims = claim()
    with cost_of("start gate"):
        recheck(worker="w1", waiting={item.run_id: item for item in claims if item.run_id is not None})
    with cost_of("renewal"):
        renew(worker="w1", held=[(item.endpoint_id, item.fence) for item in claims], lease=LEASE)
    with cost_of("settling"):
        settled = settle(worker="w1", results=results_of(claims))
    assert len(settled.accepted) == BATCH
    with cost_of("search"):
        claims = claim(reach=Reach.SEARCH, share=Share(per_host=500, hosts={"elsewhere.example.com": 500}))
    with cost_of("release"):
        release(worker="w1", claims=claims)
    lost = claim()
    Endpoint.objects.filter(pk__in=[item.endpoint_id for item in lost]).update(lease_until=Now() - timedelta(seconds=1))
    with cost_of("reaping"):
        assert len(reap()) == BATCH
    with cost_of("planning"):
        replan([item.endpoint_id for item in lost])
    # The first look removes from the index what the claims left there.
    look_ahead()
    with cost_of("look ahead"):
        look_ahead()
    return found


def test_no_statement_of_the_hot_path_depends_on_how_many_endpoints_there_are(million: Job) -> None:
    alone = costs()
    fill(million, IN_FLIGHT, lease="held")
    beside_calls_in_flight = costs()
    for found in (alone, beside_calls_in_flight):
        assert {what: plans.scanned for what, plans in found.items() if plans.scanned} == {}
    pages = {what: plans.pages for what, plans in alone.items()}
    rows = {what: BATCH + (SEARCH_WINDOW if what == "search" else 0) for what in pages}
    assert {what: count for what, count in pages.items() if count > PAGES_PER_ROW * rows[what]} == {}
    grown = {
        what: (pages[what], plans.pages)
        for what, plans in beside_calls_in_flight.items()
        if plans.pages > 1.5 * pages[what] + BATCH
    }
    assert grown == {}
