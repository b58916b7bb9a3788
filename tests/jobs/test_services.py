"""Hints, pauses, run now and resets: each takes effect at once, and a person outranks the planner."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from jobs import authoring, services
from jobs.errors import ConflictError, InvalidInputError
from jobs.models import Author, Endpoint, EndpointStatus, Job, JobStatus
from tests.support.factories import make_endpoint, make_job

pytestmark = pytest.mark.django_db
HOUR_MS = 3_600_000


@pytest.fixture
def endpoint() -> Endpoint:
    return make_endpoint(baseline_interval_ms=HOUR_MS)


def ahead(endpoint: Endpoint) -> float:
    """Seconds until the next run, from the row as it stands in the database."""
    endpoint.refresh_from_db()
    assert endpoint.next_run_at is not None
    return (endpoint.next_run_at - datetime.now(UTC)).total_seconds()


def in_minutes(minutes: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes)


def hint(endpoint: Endpoint, author: Author = Author.USER, interval_ms: int = 30_000) -> Endpoint:
    return services.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=interval_ms, ttl_ms=600_000, reason="busy", author=author
    )


def test_an_interval_hint_moves_the_next_run_at_once(endpoint: Endpoint) -> None:
    proposal = uuid4()
    services.set_interval_hint(
        endpoint_id=endpoint.pk,
        interval_ms=30_000,
        ttl_ms=600_000,
        reason="busy",
        author=Author.PLANNER,
        proposal_id=proposal,
    )
    assert 25 < ahead(endpoint) <= 30
    assert endpoint.next_source == "ai-interval"
    assert endpoint.next_decision is not None
    assert "busy" in endpoint.next_decision["sentence"]
    assert endpoint.ai_hint_interval_proposal_id == proposal
    assert endpoint.planner_hold_until is None


def test_a_persons_hint_holds_the_planner_for_as_long_as_it_lasts(endpoint: Endpoint) -> None:
    changed = hint(endpoint)
    assert changed.planner_hold_until == changed.ai_hint_interval_expires_at


def test_a_person_may_go_below_the_planners_floor(endpoint: Endpoint) -> None:
    hint(endpoint, Author.PLANNER, 2_000)
    assert ahead(endpoint) > 5
    assert endpoint.next_source == "clamped-min"
    hint(endpoint, Author.USER, 2_000)
    assert ahead(endpoint) <= 2


def test_a_hint_stays_inside_the_endpoints_bounds() -> None:
    endpoint = make_endpoint(baseline_interval_ms=HOUR_MS, min_interval_ms=60_000)
    hint(endpoint)
    assert 55 < ahead(endpoint) <= 60
    assert endpoint.next_source == "clamped-min"


def test_a_one_shot_hint_competes_and_the_earliest_wins(endpoint: Endpoint) -> None:
    def shoot(minutes: float) -> None:
        services.set_oneshot_hint(
            endpoint_id=endpoint.pk,
            next_run_at=in_minutes(minutes),
            ttl_ms=3 * HOUR_MS,
            reason="",
            author=Author.PLANNER,
        )

    shoot(2)
    assert 115 < ahead(endpoint) <= 120
    assert endpoint.next_source == "ai-oneshot"
    shoot(90)
    assert endpoint.next_source is not None
    assert ahead(endpoint) > 3_500
    shoot(-5)
    assert ahead(endpoint) <= 0


def test_a_one_shot_hint_from_now_is_counted_on_the_databases_clock(endpoint: Endpoint) -> None:
    changed = services.set_oneshot_hint(
        endpoint_id=endpoint.pk, next_run_in_ms=60_000, ttl_ms=600_000, reason="", author=Author.USER
    )
    assert 55 < ahead(endpoint) <= 60
    assert changed.planner_hold_until == changed.ai_hint_next_run_at


def test_one_hint_leaves_the_others_time_to_live_alone(endpoint: Endpoint) -> None:
    first = hint(endpoint).ai_hint_interval_expires_at
    changed = services.set_oneshot_hint(
        endpoint_id=endpoint.pk, next_run_in_ms=1, ttl_ms=HOUR_MS, reason="", author=Author.USER
    )
    assert changed.ai_hint_interval_expires_at == first
    assert changed.ai_hint_next_run_expires_at != first


def test_clearing_hints_returns_to_the_baseline_and_leaves_the_pause(endpoint: Endpoint) -> None:
    baseline = endpoint.next_run_at
    hint(endpoint, Author.PLANNER)
    services.set_oneshot_hint(
        endpoint_id=endpoint.pk, next_run_in_ms=1, ttl_ms=HOUR_MS, reason="", author=Author.PLANNER
    )
    changed = services.clear_hints(endpoint_id=endpoint.pk, author=Author.USER)
    assert changed.next_run_at == baseline
    assert (changed.ai_hint_interval_ms, changed.ai_hint_next_run_at) == (None, None)
    assert changed.planner_hold_until is not None
    until = in_minutes(120)
    services.pause(endpoint_id=endpoint.pk, until=until, reason="", author=Author.PLANNER)
    assert services.clear_hints(endpoint_id=endpoint.pk, author=Author.PLANNER).paused_until == until


def test_a_pause_moves_the_next_run_to_its_end_and_a_resume_moves_it_back(endpoint: Endpoint) -> None:
    baseline, until = endpoint.next_run_at, in_minutes(120)
    paused = services.pause(endpoint_id=endpoint.pk, until=until, reason="moving", author=Author.USER)
    assert (paused.next_run_at, paused.next_source) == (until, "paused")
    assert paused.planner_hold_until == until
    resumed = services.resume(endpoint_id=endpoint.pk, author=Author.USER)
    assert (resumed.next_run_at, resumed.paused_by, resumed.pause_reason) == (baseline, None, None)


def test_the_planner_may_not_touch_a_persons_pause(endpoint: Endpoint) -> None:
    until = in_minutes(120)
    services.pause(endpoint_id=endpoint.pk, until=until, reason="", author=Author.USER)
    for author in (Author.PLANNER, Author.SYSTEM):
        with pytest.raises(ConflictError, match="person"):
            services.pause(endpoint_id=endpoint.pk, until=in_minutes(1), reason="", author=author)
        with pytest.raises(ConflictError, match="person"):
            services.resume(endpoint_id=endpoint.pk, author=author)
    endpoint.refresh_from_db()
    assert (endpoint.paused_until, endpoint.paused_by) == (until, "user")


def test_a_persons_pause_that_is_over_binds_nobody(endpoint: Endpoint) -> None:
    Endpoint.objects.update(paused_until=in_minutes(-1), paused_by=Author.USER)
    changed = services.pause(endpoint_id=endpoint.pk, until=in_minutes(5), reason="", author=Author.PLANNER)
    assert changed.paused_by == "planner"


def test_a_person_takes_over_the_planners_pause(endpoint: Endpoint) -> None:
    services.pause(endpoint_id=endpoint.pk, until=in_minutes(60), reason="", author=Author.PLANNER, proposal_id=uuid4())
    changed = services.pause(endpoint_id=endpoint.pk, until=in_minutes(5), reason="", author=Author.USER)
    assert (changed.paused_by, changed.pause_proposal_id) == ("user", None)


def test_a_hold_lasts_no_longer_than_what_the_person_left_in_force_or_an_hour(endpoint: Endpoint) -> None:
    services.pause(endpoint_id=endpoint.pk, until=in_minutes(600), reason="", author=Author.USER)
    resumed = services.resume(endpoint_id=endpoint.pk, author=Author.USER)
    assert in_minutes(59) < resumed.planner_hold_until < in_minutes(61)
    hinted = hint(endpoint)
    services.pause(endpoint_id=endpoint.pk, until=in_minutes(600), reason="", author=Author.USER)
    resumed = services.resume(endpoint_id=endpoint.pk, author=Author.USER)
    assert resumed.planner_hold_until >= hinted.ai_hint_interval_expires_at
    assert resumed.planner_hold_until < in_minutes(61)


def test_a_short_hint_of_a_person_does_not_shorten_the_hold_after_a_word(endpoint: Endpoint) -> None:
    cleared = services.clear_hints(endpoint_id=endpoint.pk, author=Author.USER)
    services.set_interval_hint(
        endpoint_id=endpoint.pk, interval_ms=60_000, ttl_ms=120_000, reason="", author=Author.USER
    )
    endpoint.refresh_from_db()
    assert endpoint.planner_hold_until == cleared.planner_hold_until


def test_run_now_outranks_the_planners_pause_but_not_a_persons(endpoint: Endpoint) -> None:
    by = uuid4()
    services.pause(endpoint_id=endpoint.pk, until=in_minutes(60), reason="", author=Author.PLANNER)
    changed = services.run_now(endpoint_id=endpoint.pk, by=by)
    assert (changed.next_source, changed.manual_run_by) == ("manual", by)
    assert ahead(endpoint) <= 0
    services.pause(endpoint_id=endpoint.pk, until=in_minutes(60), reason="", author=Author.USER)
    with pytest.raises(ConflictError, match="person"):
        services.run_now(endpoint_id=endpoint.pk, by=by)


@pytest.mark.parametrize("status", [EndpointStatus.PAUSED, EndpointStatus.ARCHIVED])
def test_run_now_is_refused_where_the_endpoint_is_stopped(status: EndpointStatus) -> None:
    with pytest.raises(ConflictError, match=status.value):
        services.run_now(endpoint_id=make_endpoint(status=status).pk, by=uuid4())


def test_run_now_is_refused_where_the_job_is_stopped() -> None:
    endpoint = make_endpoint(make_job(status=JobStatus.PAUSED))
    with pytest.raises(ConflictError, match="job"):
        services.run_now(endpoint_id=endpoint.pk, by=uuid4())


def test_resetting_failures_starts_the_grid_anew(endpoint: Endpoint) -> None:
    retry = {"retry_at": in_minutes(1), "retry_slot_at": in_minutes(0), "retry_attempt": 2, "retries_used": 1}
    Endpoint.objects.update(failure_count=5, loss_count=1, anchor_at=in_minutes(-30), **retry)
    changed = services.reset_failures(endpoint_id=endpoint.pk)
    assert (changed.failure_count, changed.loss_count, changed.retry_at, changed.retries_used) == (0, 0, None, 0)
    assert 3_590 < ahead(endpoint) <= 3_600


def test_resetting_failures_forgets_the_streak_and_what_the_server_asked_for(endpoint: Endpoint) -> None:
    wait = {"server_wait_since": in_minutes(-1), "server_wait_until": in_minutes(300), "server_wait_reason": "busy"}
    Endpoint.objects.update(failure_count=5, failing_since=in_minutes(-30), **wait)
    services.clear_hints(endpoint_id=endpoint.pk, author=Author.USER)
    assert ahead(endpoint) > 3_600
    changed = services.reset_failures(endpoint_id=endpoint.pk)
    left = (changed.failing_since, changed.server_wait_since, changed.server_wait_until, changed.server_wait_reason)
    assert left == (None, None, None, None)
    assert 3_590 < ahead(endpoint) <= 3_600


ON_ARCHIVED: list[Callable[[Endpoint], object]] = [
    hint,
    lambda e: services.set_oneshot_hint(endpoint_id=e.pk, next_run_in_ms=1, ttl_ms=10, reason="", author=Author.USER),
    lambda e: services.pause(endpoint_id=e.pk, until=in_minutes(1), reason="", author=Author.USER),
    lambda e: services.resume(endpoint_id=e.pk, author=Author.USER),
    lambda e: services.reset_failures(endpoint_id=e.pk),
]


@pytest.mark.parametrize("act", ON_ARCHIVED, ids=["hint", "oneshot", "pause", "resume", "reset"])
@pytest.mark.parametrize("what", ["endpoint", "job"])
def test_nothing_steers_what_is_archived(act: Callable[[Endpoint], object], what: str) -> None:
    endpoint = make_endpoint()
    if what == "job":
        Job.objects.update(status=JobStatus.ARCHIVED, archived_at=in_minutes(0))
    else:
        authoring.set_endpoint_status(endpoint_id=endpoint.pk, status=EndpointStatus.ARCHIVED)
    with pytest.raises(ConflictError, match="archived"):
        act(endpoint)


BAD: list[tuple[Callable[[Endpoint], object], str]] = [
    (lambda e: hint(e, interval_ms=999), "interval_ms"),
    (lambda e: hint(e, interval_ms=10**15), "interval_ms"),
    (
        lambda e: services.set_interval_hint(
            endpoint_id=e.pk, interval_ms=1_000, ttl_ms=86_400_001, reason="", author=Author.USER
        ),
        "ttl_ms",
    ),
    (
        lambda e: services.set_interval_hint(
            endpoint_id=e.pk, interval_ms=1_000, ttl_ms=1_000, reason="x" * 1001, author=Author.USER
        ),
        "reason",
    ),
    (lambda e: services.set_oneshot_hint(endpoint_id=e.pk, ttl_ms=1, reason="", author=Author.USER), "next_run_at"),
    (
        lambda e: services.set_oneshot_hint(
            endpoint_id=e.pk, next_run_in_ms=5_000, ttl_ms=5_000, reason="", author=Author.USER
        ),
        "ttl_ms",
    ),
    (
        lambda e: services.pause(endpoint_id=e.pk, until=in_minutes(-1), reason="", author=Author.USER),
        "paused_until",
    ),
    (
        lambda e: services.pause(endpoint_id=e.pk, until=in_minutes(367 * 1440), reason="", author=Author.USER),
        "paused_until",
    ),
]


@pytest.mark.parametrize(("act", "field"), BAD, ids=[f"{number}-{field}" for number, (_, field) in enumerate(BAD)])
def test_what_is_out_of_range_changes_nothing(act: Callable[[Endpoint], object], field: str) -> None:
    endpoint = make_endpoint()
    before = Endpoint.objects.values().get()
    with pytest.raises(InvalidInputError) as caught:
        act(endpoint)
    assert [fault.field for fault in caught.value.faults] == [field]
    assert Endpoint.objects.values().get() == before


def test_an_unknown_endpoint_is_said_to_be_unknown() -> None:
    with pytest.raises(Endpoint.DoesNotExist):
        services.clear_hints(endpoint_id=uuid4(), author=Author.USER)
