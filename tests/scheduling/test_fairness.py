"""Slots are shared: no owner and no host takes them all, and waiting for one costs the others nothing."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import Endpoint
from jobs.replan import replan
from scheduling.ledger.claims import SEARCH_WINDOW, Reach, claim_due, look_ahead
from scheduling.ledger.shares import Share, host_lane, owner_lane
from tests.support.factories import make_job, make_user
from tests.support.fleet import fill

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
LEASE = timedelta(seconds=60)


def claim(limit: int = 100, reach: Reach = Reach.OLDEST, **share: Any) -> Counter[UUID]:
    own = Share(**share)
    claims = claim_due(worker="w1", limit=limit, lease=LEASE, share=own, reach=reach)
    return Counter(item.owner_id for item in claims)


def test_owner_gets_no_more_than_the_share(make_due: MakeDue) -> None:
    greedy, modest = make_job(make_user()), make_job(make_user())
    fill(greedy, 50)
    fill(modest, 5, due="- interval '1 minute'")
    first = claim(limit=60, per_owner=20)
    assert first == {greedy.owner_id: 20, modest.owner_id: 5}
    assert claim(limit=60, per_owner=20, owners=dict(first)) == {}


def test_host_gets_no_more_than_the_share() -> None:
    job = make_job()
    fill(job, 50, host="slow.example.com")
    fill(job, 5, host="fast.example.com", due="- interval '1 minute'")
    claims = claim_due(worker="w1", limit=60, lease=LEASE, share=Share(per_host=20))
    assert Counter(item.host for item in claims) == {"slow.example.com": 20, "fast.example.com": 5}
    held = Share(per_host=20, hosts={"slow.example.com": 20})
    assert claim_due(worker="w1", limit=60, lease=LEASE, share=held) == []


def pages_of_a_claim(**share: Any) -> int:
    """How many pages a claim of nothing touches."""
    with CaptureQueriesContext(connection) as captured:
        assert claim(**share) == {}
    (statement,) = [query["sql"] for query in captured.captured_queries if "WITH RECURSIVE" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.replace("%", "%%"))
        plan = cursor.fetchone()[0][0]["Plan"]
    pages: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return pages


@pytest.mark.parametrize("full", ["owner", "host"])
def test_rows_that_wait_for_their_owner_or_host_are_not_read_again(full: str) -> None:
    greedy, modest = make_job(make_user()), make_job(make_user())
    fill(greedy, 100_000, host="slow.example.com")
    fill(modest, 3, due="- interval '1 minute'")
    share: dict[str, Any] = (
        {"per_owner": 100, "owners": {greedy.owner_id: 100}}
        if full == "owner"
        else {"per_host": 100, "hosts": {"slow.example.com": 100}}
    )
    # A hundred thousand rows stand in front.
    assert claim(reach=Reach.SEARCH, **share) == {modest.owner_id: 3}
    searches = 1
    while Endpoint.objects.filter(job=greedy, lane="").exists():
        assert claim(reach=Reach.SEARCH, **share) == {}
        searches += 1
    assert searches <= 100_000 // SEARCH_WINDOW + 1
    # The old index entries of the moved rows are not what is measured: a snapshot of another process, such as a running
    # ANALYZE, keeps them until the next clean-up.
    with connection.cursor() as cursor:
        cursor.execute("VACUUM job_endpoints")
    # Those that wait fill more than ten thousand pages.
    assert pages_of_a_claim(**share) < 500
    # As soon as there is room, the oldest of them go on.
    assert claim(limit=40, per_owner=50, per_host=50) == {greedy.owner_id: 40}


def test_newcomer_is_found_without_moving_those_in_front() -> None:
    busy, waiting, newcomer = make_job(make_user()), make_job(make_user()), make_job(make_user())
    fill(busy, 2_000)
    fill(waiting, 50, host="slow.example.com", due="- interval '2 hours'")
    # Those wait in the lane of their host, which is free again by now.
    assert claim(limit=50, per_host=9, hosts={"slow.example.com": 9}) == {}
    fill(newcomer, 3, due="- interval '1 minute'")
    share = {"per_owner": 1, "owners": {busy.owner_id: 50}}
    assert claim(reach=Reach.NEWCOMERS, **share) == {waiting.owner_id: 1, newcomer.owner_id: 1}
    assert not Endpoint.objects.filter(job__in=[busy, newcomer]).exclude(lane="").exists()


def test_row_leaves_the_lane_where_it_waits_when_it_is_planned_anew() -> None:
    job = make_job()
    fill(job, 2)
    full = Share(per_owner=1, owners={job.owner_id: 1})
    assert claim_due(worker="w1", limit=10, lease=LEASE, share=full) == []
    waiting = Endpoint.objects.filter(job=job)
    assert {endpoint.lane for endpoint in waiting} == {owner_lane(job.owner_id)}
    assert look_ahead(full_lanes=full.full_lanes).next_due_at is None
    assert look_ahead().next_due_at == min(endpoint.next_run_at for endpoint in waiting if endpoint.next_run_at)
    replan([endpoint.pk for endpoint in waiting])
    assert {endpoint.lane for endpoint in Endpoint.objects.filter(job=job)} == {""}


def test_claim_of_a_waiting_row_opens_its_lane_again() -> None:
    job = make_job()
    fill(job, 1)
    claim_due(worker="w1", limit=10, lease=LEASE, share=Share(per_host=1, hosts={"example.com": 1}))
    (endpoint,) = Endpoint.objects.filter(job=job)
    assert endpoint.lane == host_lane("example.com")
    assert len(claim_due(worker="w2", limit=10, lease=LEASE)) == 1
    endpoint.refresh_from_db()
    assert endpoint.lane == ""


def test_oldest_goes_first_from_whatever_lane() -> None:
    old, young = make_job(make_user()), make_job(make_user())
    fill(old, 5, due="- interval '2 hours'")
    assert claim(limit=5, per_owner=1, owners={old.owner_id: 1}) == {}
    fill(young, 5)
    assert claim(limit=5) == {old.owner_id: 5}


def test_claim_costs_the_same_with_thousands_of_calls_in_flight() -> None:
    job = make_job()
    fill(job, 20_000, due="+ interval '1 day'")
    fill(job, 400)

    def cost() -> float:
        started = time.perf_counter()
        assert len(claim_due(worker="w1", limit=100, lease=LEASE)) == 100
        return time.perf_counter() - started

    cost()
    empty = cost()
    fill(job, 5_000, lease="held")
    full = min(cost(), cost())
    assert full < empty * 3 + 0.02
