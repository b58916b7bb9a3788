"""Edits of the schedule meet slots that are claimed, overdue or lost: only the new schedule is served, all of it."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from jobs import authoring, services
from jobs.models import Author, Endpoint, Run, RunStatus
from jobs.replan import replan
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.gate import recheck
from scheduling.ledger.leases import reap, release
from scheduling.ledger.settlement import settle
from scheduling.plan.backoff import stable_jitter
from tests.scheduling.test_claims import claim_ahead, lose_lease
from tests.scheduling.test_settlement import FAILURE, LEASE, result_of
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)
Now = Callable[[], datetime]
SECOND = timedelta(seconds=1)


def edit(endpoint: Endpoint, **changes: Any) -> Endpoint:
    return authoring.edit_endpoint(endpoint_id=endpoint.pk, changes=changes)


def gate(claim: Claim) -> list[Claim]:
    """What the start gate leaves of a claim that waits; what it takes away is given back."""
    assert claim.run_id is not None
    found = recheck(worker="w1", waiting={claim.run_id: claim})
    assert not found.lost
    if found.moved or found.stopped:
        release(worker="w1", claims=[claim])
        return []
    return found.edited or [claim]


def whole_minute(now: datetime) -> datetime:
    """A minute that is 30 to 90 s away, as cron expressions need it."""
    return (now + timedelta(seconds=90)).replace(second=0, microsecond=0)


def cron_at(instant: datetime) -> str:
    return f"{instant.minute} {instant.hour} * * *"


BASELINES: dict[str, Callable[[datetime], dict[str, Any]]] = {
    "once": lambda at: {"run_once_at": at},
    "interval": lambda at: {"baseline_interval_ms": 30_000},
    "cron": lambda at: {"baseline_cron": cron_at(at)},
}


def planned(kind: str, at: datetime, **fields: Any) -> Endpoint:
    """An endpoint whose next slot is at that time."""
    endpoint = make_endpoint(**BASELINES[kind](at), **fields)
    if kind == "interval":
        began_at = at - timedelta(seconds=30)
        nothing: dict[str, Any] = dict.fromkeys(("next_run_at", "next_slot_at", "next_source"))
        Endpoint.objects.filter(pk=endpoint.pk).update(created_at=began_at, anchor_at=began_at, **nothing)
        replan([endpoint.pk])
    endpoint.refresh_from_db()
    assert endpoint.next_slot_at == at
    return endpoint


# An edit of an endpoint that was claimed ahead for the slot `at`, and when it runs next, None for never.
TAKES_THE_SLOT_AWAY: dict[
    str, tuple[str, Callable[[datetime], dict[str, Any]], Callable[[datetime], datetime | None]]
] = {
    "run once, later": ("once", lambda at: {"run_once_at": at + 7 * SECOND}, lambda at: at + 7 * SECOND),
    "run once, sooner": ("once", lambda at: {"run_once_at": at - 5 * SECOND}, lambda at: at - 5 * SECOND),
    "interval": ("interval", lambda at: {"baseline_interval_ms": 200_000}, lambda at: None),
    "cron": (
        "cron",
        lambda at: {"baseline_cron": cron_at(at + timedelta(hours=2))},
        lambda at: at + timedelta(hours=2),
    ),
    "zone": ("cron", lambda at: {"timezone": "Asia/Tokyo"}, lambda at: at + timedelta(hours=15)),
    "startsAt after an interval's slot": ("interval", lambda at: {"starts_at": at + SECOND}, lambda at: None),
    "startsAt after a cron slot": ("cron", lambda at: {"starts_at": at + SECOND}, lambda at: at + timedelta(days=1)),
    "endsAt at an interval's slot": ("interval", lambda at: {"ends_at": at}, lambda at: None),
    "endsAt at a cron slot": ("cron", lambda at: {"ends_at": at}, lambda at: None),
    "cron in place of an interval": (
        "interval",
        lambda at: {"baseline_cron": cron_at(at + timedelta(hours=3))},
        lambda at: (at + timedelta(hours=3)).replace(second=0, microsecond=0),
    ),
    "run once in place of cron": ("cron", lambda at: {"run_once_at": at + 9 * SECOND}, lambda at: at + 9 * SECOND),
    "interval in place of run once": ("once", lambda at: {"baseline_interval_ms": 3_600_000}, lambda at: None),
}


@pytest.mark.parametrize("name", TAKES_THE_SLOT_AWAY)
def test_claimed_slot_that_the_new_schedule_does_not_have_is_given_back(name: str, now: Now) -> None:
    kind, changes, expected = TAKES_THE_SLOT_AWAY[name]
    at = whole_minute(now())
    endpoint = planned(kind, at)
    (claim,) = claim_ahead(100)
    assert claim.slot_at == at
    edit(endpoint, **changes(at))
    assert gate(claim) == []
    endpoint.refresh_from_db()
    assert not Run.objects.exists()
    assert (endpoint.lease_owner, endpoint.last_slot_at) == (None, None)
    assert endpoint.next_slot_at != at
    if (wanted := expected(at)) is not None:
        assert endpoint.next_run_at == wanted
    elif "ends_at" in changes(at):
        assert endpoint.next_run_at is None
    else:
        assert endpoint.next_run_at is not None
        assert endpoint.next_run_at > at


LEAVES_THE_SLOT: dict[str, tuple[str, Callable[[datetime], dict[str, Any]]]] = {
    "run once, window that begins with it": ("once", lambda at: {"starts_at": at}),
    "run once, zone": ("once", lambda at: {"timezone": "Asia/Tokyo"}),
    "cron, written otherwise": ("cron", lambda at: {"baseline_cron": f"{at.minute} {at.hour} * */1 *"}),
    "cron, more slots": ("cron", lambda at: {"baseline_cron": "* * * * *"}),
    "cron, zone of the same offset": ("cron", lambda at: {"timezone": "Africa/Abidjan"}),
    "cron, window that ends after it": ("cron", lambda at: {"ends_at": at + SECOND}),
    "run once in place of cron": ("cron", lambda at: {"run_once_at": at}),
    "cron in place of run once": ("once", lambda at: {"baseline_cron": cron_at(at)}),
    "interval, window": ("interval", lambda at: {"ends_at": at + timedelta(hours=1)}),
}


@pytest.mark.parametrize("name", LEAVES_THE_SLOT)
def test_claimed_slot_that_the_new_schedule_has_too_is_kept_and_called_once(name: str, now: Now) -> None:
    kind, changes = LEAVES_THE_SLOT[name]
    at = whole_minute(now())
    endpoint = planned(kind, at)
    (claim,) = claim_ahead(100)
    edit(endpoint, **changes(at))
    (kept,) = gate(claim)
    assert (kept.slot_at, kept.due_at) == (at, at)
    assert gate(kept) == [kept]
    assert claim_ahead(100) == []
    settle(worker="w1", results=[result_of(kept)])
    endpoint.refresh_from_db()
    assert endpoint.next_slot_at is None or endpoint.next_slot_at > at
    assert [run.scheduled_for for run in Run.objects.all()] == [at]


@pytest.mark.parametrize("kind", ["once", "interval", "cron"])
@pytest.mark.parametrize("jitter_ms", [0, 25_000])
def test_edit_of_the_jitter_moves_the_run_of_the_same_slot(kind: str, jitter_ms: int, now: Now) -> None:
    at = whole_minute(now())
    endpoint = planned(kind, at, jitter_ms=10_000)
    (claim,) = claim_ahead(120)
    edit(endpoint, jitter_ms=jitter_ms)
    assert gate(claim) == []
    (again,) = claim_ahead(130)
    assert (again.slot_at, again.due_at) == (at, at + stable_jitter(endpoint.pk, jitter_ms))
    settle(worker="w1", results=[result_of(again)])
    assert [run.scheduled_for for run in Run.objects.all()] == [at]


def test_slot_whose_jitter_was_taken_away_after_its_time_runs_at_once(now: Now) -> None:
    at = now() - SECOND
    endpoint = planned("interval", at, jitter_ms=86_000_000)
    (claim,) = claim_due(worker="w1", limit=1, lease=LEASE, horizon=timedelta(days=2))
    assert (claim.slot_at, claim.due_at > now()) == (at, True)
    edit(endpoint, jitter_ms=0)
    assert gate(claim) == []
    (again,) = claim_due(worker="w1", limit=1, lease=LEASE)
    assert (again.slot_at, again.due_at) == (at, at)


@pytest.mark.parametrize("kind", ["once", "interval", "cron"])
def test_edit_that_repeats_the_same_values_moves_nothing(kind: str, now: Now) -> None:
    at = whole_minute(now())
    endpoint = planned(kind, at, jitter_ms=10_000)
    (claim,) = claim_ahead(120)
    edit(endpoint, **BASELINES[kind](at), timezone="UTC", jitter_ms=10_000, starts_at=None, ends_at=None)
    (kept,) = gate(claim)
    assert (kept.slot_at, kept.due_at) == (claim.slot_at, claim.due_at)
    after = Endpoint.objects.get()
    assert (after.anchor_at, after.schedule_changed_at) == (endpoint.anchor_at, None)


@pytest.mark.parametrize("name", [name for name in TAKES_THE_SLOT_AWAY if name != "run once, sooner"])
def test_overdue_slot_of_the_old_schedule_does_not_run_after_the_edit(name: str, now: Now) -> None:
    kind, changes, expected = TAKES_THE_SLOT_AWAY[name]
    at = whole_minute(now())
    endpoint = planned(kind, at)
    overdue(endpoint)
    edit(endpoint, **changes(at))
    endpoint.refresh_from_db()
    assert endpoint.next_slot_at != at
    assert (wanted := expected(at)) is None or endpoint.next_run_at == wanted


def overdue(endpoint: Endpoint) -> None:
    """Lets the planned run wait since a second, without moving its slot."""
    Endpoint.objects.filter(pk=endpoint.pk).update(next_run_at=timezone.now() - SECOND)


def test_overdue_slots_of_an_old_grid_are_dropped_and_those_of_a_window_that_stays_are_kept(
    make_due: Callable[..., Endpoint], now: Now
) -> None:
    late = timedelta(minutes=10)
    gone, kept = (make_due(baseline_interval_ms=60_000, late=late) for _ in range(2))
    slot = kept.next_slot_at
    edit(gone, baseline_interval_ms=120_000)
    edit(kept, ends_at=now() + timedelta(days=1))
    (claim,) = claim_due(worker="w1", limit=10, lease=LEASE)
    assert (claim.endpoint_id, slot is not None and claim.due_at == slot) == (kept.pk, True)
    after = Endpoint.objects.get(pk=gone.pk)
    assert after.next_run_at == after.anchor_at + timedelta(minutes=2)


def test_overdue_run_at_the_end_of_a_pause_is_dropped_with_the_schedule_that_it_was_of(now: Now) -> None:
    endpoint = planned("cron", whole_minute(now()))
    services.pause(endpoint_id=endpoint.pk, until=now() + 10 * SECOND, reason="", author=Author.USER)
    overdue(endpoint)
    Endpoint.objects.update(next_source="paused", paused_until=now() - SECOND)
    edit(endpoint, baseline_cron="0 0 1 1 *")
    after = Endpoint.objects.get()
    assert after.next_run_at is not None
    assert after.next_run_at > now()


def test_end_of_a_pause_stays_the_next_run_of_an_edited_interval(now: Now) -> None:
    endpoint = make_endpoint(baseline_interval_ms=3_600_000)
    until = now() + 30 * SECOND
    services.pause(endpoint_id=endpoint.pk, until=until, reason="", author=Author.USER)
    (claim,) = claim_ahead()
    assert (claim.source, claim.slot_at) == ("paused", until)
    edit(endpoint, baseline_interval_ms=7_200_000)
    (kept,) = gate(claim)
    assert kept.slot_at == until
    edit(endpoint, ends_at=until)
    assert gate(kept) == []
    assert Endpoint.objects.get().next_run_at is None


def test_reset_of_the_grid_takes_its_claimed_and_its_overdue_slots_away(
    make_due: Callable[..., Endpoint], now: Now
) -> None:
    claimed, late = make_endpoint(baseline_interval_ms=30_000), make_due(baseline_interval_ms=60_000)
    services.reset_failures(endpoint_id=late.pk)
    (claim,) = claim_ahead(40)
    services.reset_failures(endpoint_id=claimed.pk)
    assert gate(claim) == []
    for endpoint in Endpoint.objects.all():
        assert endpoint.next_run_at == endpoint.anchor_at + timedelta(milliseconds=endpoint.baseline_interval_ms or 0)


@pytest.mark.parametrize("source", ["manual", "ai-oneshot", "ai-interval", "retry"])
def test_runs_that_the_schedule_did_not_ask_for_outlive_its_edit_inside_the_new_window(source: str, now: Now) -> None:
    endpoint = make_endpoint(baseline_interval_ms=3_600_000, retry_limit=2)
    hint = {"endpoint_id": endpoint.pk, "ttl_ms": 600_000, "reason": "", "author": Author.USER}
    if source == "manual":
        services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    elif source == "ai-oneshot":
        services.set_oneshot_hint(**hint, next_run_in_ms=20_000)
    elif source == "ai-interval":
        services.set_interval_hint(**hint, interval_ms=20_000)
    else:
        services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
        (first,) = claim_ahead(1)
        settle(worker="w1", results=[result_of(first, **FAILURE)])
    (claim,) = claim_ahead()
    assert claim.source == source
    edit(endpoint, baseline_interval_ms=7_200_000)
    (kept,) = gate(claim)
    edit(endpoint, ends_at=endpoint.created_at + timedelta(milliseconds=1))
    left = gate(kept)
    assert [item.slot_at for item in left] == ([claim.slot_at] if source == "manual" else [])


def test_edit_during_a_call_counts_for_the_next_plan_only(make_due: Callable[..., Endpoint], now: Now) -> None:
    endpoint = make_due(baseline_interval_ms=60_000)
    (claim,) = claim_due(worker="w1", limit=1, lease=LEASE)
    edit(endpoint, baseline_interval_ms=90_000)
    assert settle(worker="w1", results=[result_of(claim)]).accepted == {claim.run_id}
    after = Endpoint.objects.get()
    assert after.next_run_at == after.anchor_at + 90 * SECOND
    assert Run.objects.get().status == RunStatus.SUCCESS


@pytest.mark.parametrize("first", ["claim", "edit"])
def test_edit_and_claim_that_race_end_with_the_new_schedule(first: str, now: Now) -> None:
    """A claim passes over a row that is being edited; an edit waits for a claim, and the gate sees it."""
    soon = now() + 30 * SECOND
    endpoint = make_endpoint(run_once_at=soon)
    claims: list[Claim] = []
    if first == "claim":
        with transaction.atomic():
            claims += claim_ahead()
            thread = threading.Thread(target=in_thread, args=(lambda: edit(endpoint, run_once_at=soon + 7 * SECOND),))
            thread.start()
        thread.join(10)
    else:
        with transaction.atomic():
            edit(endpoint, run_once_at=soon + 7 * SECOND)
            thread = threading.Thread(target=in_thread, args=(lambda: claims.extend(claim_ahead(33)),))
            thread.start()
            thread.join(10)
        assert claims == []
    for claim in claims:
        assert gate(claim) == []
    (again,) = claim_ahead()
    assert (again.slot_at, again.attempt) == (soon + 7 * SECOND, 1)
    assert Run.objects.count() == 1


def in_thread(work: Callable[[], object]) -> None:
    try:
        work()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("changes", "repeated"),
    [
        ({"baseline_interval_ms": 50_000}, False),
        ({"timezone": "Asia/Tokyo"}, True),
        ({"url": "https://example.com/b"}, True),
    ],
    ids=["interval", "zone", "url"],
)
def test_slot_that_was_lost_before_its_time_is_repeated_only_if_the_new_schedule_has_it(
    changes: dict[str, Any], repeated: bool
) -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    (claim,) = claim_ahead()
    edit(endpoint, **changes)
    lose_lease(endpoint)
    (item,) = reap()
    assert item.consequence == ("repeat" if repeated else "skip")
    endpoint.refresh_from_db()
    assert (endpoint.next_source == "retry", endpoint.next_slot_at == claim.slot_at) == (repeated, repeated)


def test_slot_whose_worker_was_lost_during_the_call_is_repeated_after_an_edit(
    make_due: Callable[..., Endpoint],
) -> None:
    endpoint = make_due(baseline_interval_ms=60_000)
    claim_due(worker="w1", limit=1, lease=LEASE)
    edit(endpoint, baseline_interval_ms=90_000)
    lose_lease(endpoint)
    assert [item.consequence for item in reap()] == ["repeat"]


def test_edit_inside_the_grace_drops_the_old_slot_and_writes_no_missed_row(make_due: Callable[..., Endpoint]) -> None:
    endpoint = make_due(baseline_interval_ms=3_600_000, misfire_grace_ms=1_000, late=timedelta(minutes=5))
    edit(endpoint, baseline_interval_ms=1_800_000)
    assert claim_due(worker="w1", limit=1, lease=LEASE) == []
    assert not Run.objects.exists()


def test_wait_that_a_server_asked_for_brings_no_time_of_a_new_cron_expression_from_before_the_edit(now: Now) -> None:
    endpoint = make_endpoint(baseline_cron="* * * * *")
    services.run_now(endpoint_id=endpoint.pk, by=endpoint.owner_id)
    (claim,) = claim_due(worker="w1", limit=1, lease=LEASE)
    asked = {**FAILURE, "status_code": 503, "wait_headers": (("retry-after", "7200"),)}
    settle(worker="w1", results=[result_of(claim, **asked)])
    began_at = now() - timedelta(minutes=30)
    times = dict.fromkeys(("created_at", "last_slot_at", "server_wait_since"), began_at)
    Endpoint.objects.filter(pk=endpoint.pk).update(**times)
    at = now() - timedelta(minutes=10)
    endpoint = edit(endpoint, baseline_cron=cron_at(at))
    assert endpoint.next_slot_at is not None
    assert endpoint.next_slot_at > now() + timedelta(hours=23)
