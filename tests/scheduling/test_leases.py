"""What becomes of a one-shot hint whose claim is given back: it still causes one run, and no more."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from jobs import authoring, services
from jobs.models import Author, Endpoint, EndpointStatus, Run
from scheduling.ledger.claims import Claim
from scheduling.ledger.leases import release
from scheduling.ledger.settlement import settle
from tests.scheduling.test_claims import claim_ahead
from tests.scheduling.test_settlement import result_of
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
