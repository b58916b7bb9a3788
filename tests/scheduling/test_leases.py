"""What becomes of claims that are given back: all that they used up is there again, and causes one run, no more."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db.models import F

from jobs import authoring, services
from jobs.models import Author, Endpoint, EndpointStatus, Run
from jobs.replan import replan
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.leases import release
from scheduling.ledger.settlement import settle
from tests.scheduling.test_claims import claim_ahead
from tests.scheduling.test_settlement import FAILURE, LEASE, result_of
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def oneshot(now: Callable[[], datetime]) -> Claim:
    """A claim of a one-shot hint that falls due in 30 s, on an hourly endpoint."""
    soon = now() + timedelta(seconds=30)
    endpoint = make_endpoint(baseline_interval_ms=3_600_000, min_interval_ms=600_000)
    services.set_oneshot_hint(
        endpoint_id=endpoint.pk, next_run_at=soon, ttl_ms=300_000, reason="look again", author=Author.PLANNER
    )
    (found,) = claim_ahead()
    assert (found.source, found.due_at) == ("ai-oneshot", soon)
    return found


def pause(item: Claim, until: datetime) -> None:
    """Pauses the endpoint of a claim that is not called yet, and gives the claim back."""
    services.pause(endpoint_id=item.endpoint_id, until=until, reason="", author=Author.USER)
    release(worker="w1", claims=[item])


def settled_source() -> str:
    """Claims the one run that comes next, settles it, and returns what made it due."""
    (item,) = claim_ahead()
    assert settle(worker="w1", results=[result_of(item)]).accepted == {item.run_id}
    return item.source


def test_one_shot_that_a_pause_stopped_is_served_once_by_the_run_at_its_end(oneshot: Claim) -> None:
    pause(oneshot, oneshot.due_at + timedelta(seconds=10))
    assert settled_source() == "paused"
    endpoint = Endpoint.objects.get()
    assert (endpoint.ai_hint_next_run_at, endpoint.retry_at) == (None, None)
    assert Run.objects.count() == 1


def test_one_shot_that_a_pause_stopped_runs_once_after_an_early_resume(oneshot: Claim) -> None:
    pause(oneshot, oneshot.due_at + timedelta(hours=2))
    services.resume(endpoint_id=oneshot.endpoint_id, author=Author.USER)
    assert settled_source() == "ai-oneshot"
    assert (Endpoint.objects.get().next_source, Run.objects.count()) == ("baseline-interval", 1)


def test_one_shot_that_ends_while_its_endpoint_is_stopped_does_not_run(oneshot: Claim) -> None:
    authoring.set_endpoint_status(endpoint_id=oneshot.endpoint_id, status=EndpointStatus.PAUSED)
    release(worker="w1", claims=[oneshot])
    ended = oneshot.claimed_at - timedelta(seconds=1)
    Endpoint.objects.update(ai_hint_next_run_at=ended, ai_hint_next_run_expires_at=ended)
    authoring.set_endpoint_status(endpoint_id=oneshot.endpoint_id, status=EndpointStatus.ACTIVE)
    assert Endpoint.objects.get().next_source == "baseline-interval"


def test_one_shot_that_a_longer_pause_holds_back_again_stays_in_force(oneshot: Claim) -> None:
    pause(oneshot, oneshot.due_at + timedelta(seconds=10))
    (held_back,) = claim_ahead()
    pause(held_back, oneshot.due_at + timedelta(seconds=20))
    endpoint = Endpoint.objects.get()
    assert endpoint.ai_hint_next_run_at == oneshot.due_at
    assert (endpoint.ai_hint_next_run_set_by, endpoint.ai_hint_next_run_reason) == ("planner", "look again")
    assert settled_source() == "paused"
    assert Endpoint.objects.get().ai_hint_next_run_at is None


def test_newer_one_shot_outlives_the_one_that_is_given_back(oneshot: Claim) -> None:
    newer = oneshot.due_at + timedelta(minutes=2)
    services.set_oneshot_hint(
        endpoint_id=oneshot.endpoint_id, next_run_at=newer, ttl_ms=600_000, reason="", author=Author.USER
    )
    pause(oneshot, oneshot.due_at + timedelta(seconds=10))
    assert Endpoint.objects.get().ai_hint_next_run_at == newer


def test_claim_that_is_given_back_was_no_start(oneshot: Claim) -> None:
    assert Endpoint.objects.get().last_started_at == oneshot.due_at
    pause(oneshot, oneshot.due_at + timedelta(seconds=10))
    assert Endpoint.objects.get().last_started_at is None


@pytest.mark.parametrize("pause_before", [False, True])
@pytest.mark.parametrize("resumed", ["before it is given back", "after it is given back"])
def test_run_once_slot_that_a_stop_gave_back_runs_when_the_endpoint_goes_on(
    now: Callable[[], datetime], pause_before: bool, resumed: str
) -> None:
    """Planned under a pause that ends before the slot, what comes next is called `paused`; it is the one slot still."""
    soon = now() + timedelta(seconds=30)
    endpoint = make_endpoint(baseline_interval_ms=None, run_once_at=soon)
    if pause_before:
        until = soon - timedelta(seconds=20)
        services.pause(endpoint_id=endpoint.pk, until=until, reason="", author=Author.USER)
    (item,) = claim_ahead()
    assert item.slot_at == soon
    authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.PAUSED)
    for step in sorted(("give back", "go on"), reverse=resumed == "before it is given back"):
        if step == "give back":
            release(worker="w1", claims=[item])
        else:
            authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ACTIVE)
    (again,) = claim_ahead()
    assert (again.slot_at, again.attempt) == (soon, 1)
    settle(worker="w1", results=[result_of(again)])
    assert Endpoint.objects.get().next_run_at is None


def test_slot_of_the_grid_that_was_given_back_before_its_time_still_runs(now: Callable[[], datetime]) -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    (item,) = claim_ahead()
    authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.PAUSED)
    release(worker="w1", claims=[item])
    authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ACTIVE)
    assert Endpoint.objects.get().next_slot_at == item.slot_at


@pytest.mark.parametrize("late", [timedelta(0), timedelta(hours=3)])
@pytest.mark.parametrize("planned_anew", [False, True])
@pytest.mark.parametrize("baseline", [{"baseline_interval_ms": 3_600_000}, {"baseline_interval_ms": 60_000}])
def test_due_slot_that_a_stopping_worker_gives_back_goes_to_the_next_one(
    make_due: Callable[..., Endpoint], late: timedelta, planned_anew: bool, baseline: dict[str, int]
) -> None:
    endpoint = make_due(**baseline)
    Endpoint.objects.filter(pk=endpoint.pk).update(
        anchor_at=endpoint.anchor_at - late, next_run_at=F("next_run_at") - late, next_slot_at=F("next_slot_at") - late
    )
    (item,) = claim_due(worker="w1", limit=1, lease=LEASE)
    if planned_anew:
        replan([endpoint.pk])
    release(worker="w1", claims=[item])
    (again,) = claim_due(worker="w2", limit=1, lease=LEASE)
    assert (again.slot_at, again.attempt, again.source) == (item.slot_at, 1, "baseline-interval")
    if not planned_anew:
        run = Run.objects.get()
        assert run.coalesced_slots == late // timedelta(milliseconds=baseline["baseline_interval_ms"])


def test_press_of_run_now_that_is_given_back_runs_with_the_next_worker() -> None:
    endpoint = make_endpoint(baseline_interval_ms=3_600_000)
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    (item,) = claim_due(worker="w1", limit=1, lease=LEASE)
    release(worker="w1", claims=[item])
    (again,) = claim_due(worker="w2", limit=1, lease=LEASE)
    assert (again.source, again.slot_at) == ("manual", item.slot_at)
    assert settle(worker="w2", results=[result_of(again)]).accepted == {again.run_id}
    assert Endpoint.objects.get().manual_run_by is None


def test_stop_withdraws_a_press_that_is_given_back() -> None:
    endpoint = make_endpoint(baseline_interval_ms=3_600_000)
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    (item,) = claim_due(worker="w1", limit=1, lease=LEASE)
    authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.PAUSED)
    release(worker="w1", claims=[item])
    authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ACTIVE)
    assert Endpoint.objects.get().next_source == "baseline-interval"


def test_retry_that_is_given_back_keeps_its_slot_attempt_and_count(make_due: Callable[..., Endpoint]) -> None:
    endpoint = make_due(baseline_interval_ms=3_600_000, retry_limit=2)
    (first,) = claim_due(worker="w1", limit=1, lease=LEASE)
    settle(worker="w1", results=[result_of(first, **FAILURE)])
    (item,) = claim_ahead()
    assert (item.source, item.attempt) == ("retry", 2)
    release(worker="w1", claims=[item])
    (again,) = claim_ahead()
    assert (again.source, again.slot_at, again.attempt) == ("retry", first.slot_at, 2)
    assert Endpoint.objects.get(pk=endpoint.pk).retries_used == 1
