"""Claims and leases against a real database: atomic, fenced, never two at once, and none lost with its worker."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction

from jobs import authoring, services
from jobs.models import Author, Endpoint, EndpointStatus, JobStatus, Run, RunStatus, WorkerLossPolicy
from jobs.replan import replan
from scheduling.ledger.claims import Claim, claim_due, look_ahead
from scheduling.ledger.gate import recheck
from scheduling.ledger.leases import Released, Renewal, hold_of, reap, release, renew
from tests.support.factories import make_endpoint, make_run

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
LEASE = timedelta(seconds=60)


def claim(worker: str = "w1", limit: int = 100) -> list[Claim]:
    return claim_due(worker=worker, limit=limit, lease=LEASE)


def lose_lease(endpoint: Endpoint) -> None:
    """Lets the lease of an endpoint run out, as it does when its worker is dead."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE job_endpoints SET lease_until = clock_timestamp() - interval '1 ms' WHERE id = %s", [endpoint.pk]
        )


def test_claim_takes_the_lease_and_inserts_the_run_at_once(make_due: MakeDue) -> None:
    endpoint = make_due()
    (claimed,) = claim()
    endpoint.refresh_from_db()
    run = Run.objects.get()
    assert (endpoint.lease_owner, endpoint.fence) == ("w1", 1)
    assert claimed.run_id == run.pk
    assert (run.status, run.worker, run.fence, run.scheduled_for) == ("running", "w1", 1, endpoint.next_slot_at)
    assert endpoint.last_slot_at == run.scheduled_for
    assert run.decision == endpoint.next_decision
    assert claim("w2") == []


def test_oldest_slots_are_claimed_first(make_due: MakeDue) -> None:
    young = make_due(late=timedelta(seconds=1))
    old = make_due(late=timedelta(seconds=30))
    assert [claimed.endpoint_id for claimed in claim(limit=1)] == [old.pk]
    assert [claimed.endpoint_id for claimed in claim(limit=1)] == [young.pk]


def test_nothing_is_claimed_before_its_time() -> None:
    make_endpoint(baseline_interval_ms=60_000)
    assert claim() == []


def test_many_claimers_at_once_never_share_an_endpoint(make_due: MakeDue) -> None:
    endpoints = {make_due().pk for _ in range(60)}
    start, taken, lock = threading.Barrier(6), [], threading.Lock()

    def work(name: str) -> None:
        start.wait()
        while batch := claim(name, limit=3):
            with lock:
                taken.extend((item.endpoint_id, item.run_id) for item in batch)
        connection.close()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(taken) == 60
    assert {endpoint for endpoint, _ in taken} == endpoints
    assert Run.objects.filter(status=RunStatus.RUNNING).count() == 60


def test_claim_passes_over_a_row_that_is_being_edited(make_due: MakeDue) -> None:
    edited, free = make_due(), make_due()
    locked, release = threading.Event(), threading.Event()

    def edit() -> None:
        with transaction.atomic():
            Endpoint.objects.select_for_update(no_key=True).get(pk=edited.pk)
            locked.set()
            release.wait(10)
        connection.close()

    thread = threading.Thread(target=edit)
    thread.start()
    assert locked.wait(10)
    assert [item.endpoint_id for item in claim()] == [free.pk]
    release.set()
    thread.join(10)
    assert [item.endpoint_id for item in claim()] == [edited.pk]


def test_slot_that_has_a_run_already_is_not_called_and_planned_past(make_due: MakeDue) -> None:
    endpoint, other = make_due(), make_due()
    make_run(endpoint, scheduled_for=endpoint.next_slot_at, due_at=endpoint.next_slot_at)
    claims = claim()
    runs = {item.endpoint_id: item.run_id for item in claims}
    assert runs[endpoint.pk] is None
    assert runs[other.pk] is not None

    release(worker="w1", claims=[item for item in claims if item.run_id is None])
    endpoint.refresh_from_db()
    assert endpoint.lease_owner is None
    assert endpoint.next_slot_at > endpoint.last_slot_at  # type: ignore[operator]


def test_claims_given_back_while_their_job_resumes_are_planned_for_the_resumed_job(make_due: MakeDue) -> None:
    endpoint = make_due()
    claims = claim()
    authoring.set_job_status(job_id=endpoint.job_id, status=JobStatus.PAUSED)
    meanwhile: list[Released] = []

    def give_back() -> None:
        meanwhile.append(release(worker="w1", claims=claims))
        connection.close()

    thread = threading.Thread(target=give_back)
    with transaction.atomic():
        authoring.set_job_status(job_id=endpoint.job_id, status=JobStatus.ACTIVE)
        thread.start()
        thread.join(5)
    assert meanwhile == [Released(done=frozenset(), locked=frozenset({hold_of(claims[0])}))]
    assert release(worker="w1", claims=claims).done == {hold_of(claims[0])}
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.next_source) == (None, "baseline-interval")
    assert endpoint.next_run_at is not None


@pytest.mark.parametrize("row", ["endpoint", "run"])
def test_giving_back_waits_for_no_row(make_due: MakeDue, row: str) -> None:
    make_due(), make_due(), make_due()
    stuck, free, lost = claim()
    Endpoint.objects.filter(pk=lost.endpoint_id).update(fence=99)
    statements = {
        "endpoint": "SELECT FROM job_endpoints WHERE id = %s FOR NO KEY UPDATE",
        "run": "SELECT FROM runs WHERE endpoint_id = %s FOR UPDATE",
    }
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(statements[row], [stuck.endpoint_id])
        released = release(worker="w1", claims=[stuck, free, lost])
    finally:
        other.close()
    assert released == Released(done=frozenset({hold_of(free)}), locked=frozenset({hold_of(stuck)}))
    assert set(Run.objects.values_list("endpoint_id", flat=True)) == {stuck.endpoint_id, lost.endpoint_id}
    assert set(Endpoint.objects.filter(lease_owner="w1").values_list("pk", flat=True)) == {
        stuck.endpoint_id,
        lost.endpoint_id,
    }


def test_renewal_prolongs_only_what_is_still_held(make_due: MakeDue) -> None:
    kept, lost = make_due(), make_due()
    claims = claim()
    Endpoint.objects.filter(pk=lost.pk).update(fence=99)
    before = Endpoint.objects.get(pk=kept.pk).lease_until
    held = [hold_of(item) for item in claims]
    assert renew(worker="w1", held=held, lease=LEASE) == Renewal(
        kept=frozenset(hold for hold in held if hold[0] == kept.pk), locked=frozenset()
    )
    assert renew(worker="w2", held=held, lease=LEASE) == Renewal(kept=frozenset(), locked=frozenset())
    after = Endpoint.objects.get(pk=kept.pk).lease_until
    assert before is not None
    assert after is not None
    assert after > before


def test_lost_call_is_abandoned_and_its_slot_repeated_with_the_next_attempt(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=3_600_000)
    slot = endpoint.next_slot_at
    claim()
    assert reap() == []
    lose_lease(endpoint)
    (item,) = reap()
    assert (item.endpoint_id, item.consequence, item.losses) == (endpoint.pk, "repeat", 1)

    (again,) = claim("w2")
    assert (again.slot_at, again.attempt, again.fence) == (slot, 2, 3)
    first, second = Run.objects.order_by("attempt")
    assert (first.status, first.error_kind) == ("abandoned", "worker_lost")
    assert (second.status, second.source, second.scheduled_for) == ("running", "retry", slot)
    assert "lost" in second.decision["sentence"]


def test_endpoint_that_wants_at_most_once_is_not_repeated(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=3_600_000, on_worker_loss=WorkerLossPolicy.SKIP)
    slot = endpoint.next_slot_at
    claim()
    lose_lease(endpoint)
    assert [item.consequence for item in reap()] == ["skip"]
    endpoint.refresh_from_db()
    assert slot is not None
    assert endpoint.next_slot_at == slot + timedelta(hours=1)


def test_three_losses_give_the_slot_up_and_six_pause_the_endpoint(make_due: MakeDue) -> None:
    endpoint, other = make_due(), make_due()
    consequences = []
    for _ in range(6):
        Endpoint.objects.filter(pk=endpoint.pk, next_source="baseline-interval").update(
            next_run_at=endpoint.next_run_at
        )
        claim()
        lose_lease(endpoint)
        consequences += [item.consequence for item in reap()]
    assert consequences == ["repeat", "repeat", "give up", "repeat", "repeat", "pause"]
    endpoint.refresh_from_db()
    assert endpoint.paused_by == "system"
    assert "lost 6 times" in (endpoint.pause_reason or "")
    assert "Paused until" in endpoint.next_decision["sentence"]
    assert claim() == []
    assert Endpoint.objects.get(pk=other.pk).lease_owner == "w1"


def test_hint_written_during_a_call_does_not_cost_the_lost_slot(make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=3_600_000)
    slot = endpoint.next_slot_at
    claim()
    replan([endpoint.pk])
    lose_lease(endpoint)
    reap()
    (again,) = claim()
    assert (again.slot_at, again.attempt) == (slot, 2)


def test_look_ahead_names_the_next_slot_and_the_next_end_of_a_lease(make_due: MakeDue) -> None:
    assert look_ahead().next_due_at is None
    waiting = make_endpoint(baseline_interval_ms=60_000)
    held = make_due()
    claim()
    horizon = look_ahead()
    held.refresh_from_db()
    assert (horizon.next_due_at, horizon.next_lease_end) == (waiting.next_run_at, held.lease_until)


def test_replan_of_a_due_slot_that_nobody_claimed_yet_keeps_it(make_due: MakeDue) -> None:
    endpoint = make_due(late=timedelta(seconds=5))
    replan([endpoint.pk])
    (claimed,) = claim()
    assert claimed.slot_at == endpoint.next_slot_at


def test_expired_lease_is_not_reaped_before_its_end(make_due: MakeDue, now: Callable[[], datetime]) -> None:
    endpoint = make_due()
    claim()
    endpoint.refresh_from_db()
    assert endpoint.lease_until is not None
    assert endpoint.lease_until > now() + timedelta(seconds=50)
    assert reap() == []


def claim_ahead(seconds: float = 60) -> list[Claim]:
    return claim_due(worker="w1", limit=100, lease=LEASE, horizon=timedelta(seconds=seconds))


def test_claim_ahead_keeps_the_time_of_the_slot() -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    assert claim_ahead(1) == []
    (claimed,) = claim_ahead()
    assert claimed.due_at == endpoint.next_run_at
    assert claimed.due_at > claimed.claimed_at


def test_waiting_claims_are_checked_for_whatever_forbids_or_changes_the_call() -> None:
    fields = {"baseline_interval_ms": 30_000, "planner_mode": "off"}
    kept, paused, edited, fenced, deleted, hinted = (make_endpoint(**fields) for _ in range(6))
    stopped = make_endpoint(**fields)
    claims = {item.endpoint_id: item for item in claim_ahead()}
    services.pause(
        endpoint_id=paused.pk, until=claims[paused.pk].due_at + timedelta(hours=1), reason="", author=Author.USER
    )
    services.set_interval_hint(
        endpoint_id=hinted.pk, interval_ms=20_000, ttl_ms=60_000, reason="", author=Author.PLANNER
    )
    Endpoint.objects.filter(pk=edited.pk).update(url="https://example.com/new", config_version=2)
    Endpoint.objects.filter(pk=fenced.pk).update(fence=99)
    authoring.set_endpoint_status(endpoint_id=stopped.pk, status=EndpointStatus.ARCHIVED)
    deleted_id = deleted.pk
    deleted.delete()

    waiting = {item.run_id: item for item in claims.values() if item.run_id is not None}
    found = recheck(worker="w1", waiting=waiting)
    assert set(found.stopped) == {claims[paused.pk].run_id, claims[stopped.pk].run_id}
    assert set(found.lost) == {claims[fenced.pk].run_id, claims[deleted_id].run_id}
    assert [(item.endpoint_id, item.url) for item in found.edited] == [(edited.pk, "https://example.com/new")]
    assert kept.pk not in {item.endpoint_id for item in found.edited}


def test_released_claim_leaves_no_run_and_is_planned_anew() -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    claims = claim_ahead()
    services.pause(endpoint_id=endpoint.pk, until=claims[0].due_at + timedelta(hours=1), reason="", author=Author.USER)
    release(worker="w1", claims=claims)
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.next_source) == (None, "paused")
    assert not Run.objects.exists()


def test_release_under_an_old_fence_changes_nothing(make_due: MakeDue) -> None:
    endpoint = make_due()
    old = claim("w1")
    lose_lease(endpoint)
    reap()
    claim("w1")
    release(worker="w1", claims=old)
    assert Run.objects.filter(status=RunStatus.RUNNING).count() == 1
    assert Endpoint.objects.get(pk=endpoint.pk).lease_owner == "w1"


@pytest.mark.parametrize("source", ["run-once", "retry"])
def test_slot_that_comes_only_once_survives_a_pause_between_claim_and_start(
    source: str, now: Callable[[], datetime]
) -> None:
    soon = now() + timedelta(seconds=30)
    baseline = {"run_once_at": soon} if source == "run-once" else {"baseline_cron": "0 0 1 1 *"}
    endpoint = make_endpoint(**baseline)
    if source == "retry":
        Endpoint.objects.filter(pk=endpoint.pk).update(
            retry_at=soon, retry_slot_at=endpoint.created_at, retry_attempt=2, retry_limit=3
        )
        replan([endpoint.pk])
    claims = claim_ahead()
    assert [item.source for item in claims] == [source]
    services.pause(endpoint_id=endpoint.pk, until=soon + timedelta(minutes=1), reason="", author=Author.USER)
    release(worker="w1", claims=claims)
    services.resume(endpoint_id=endpoint.pk, author=Author.USER)

    (again,) = claim_ahead()
    assert (again.slot_at, again.attempt, again.due_at) == (claims[0].slot_at, claims[0].attempt, soon)


def test_worker_does_not_reap_what_it_has_in_hand_itself(make_due: MakeDue) -> None:
    endpoint, lost = make_due(), make_due()
    claim()
    lose_lease(endpoint)
    lose_lease(lost)
    assert [item.endpoint_id for item in reap(in_hand=[endpoint.pk])] == [lost.pk]


def test_schedule_that_cannot_be_read_fails_no_batch(make_due: MakeDue) -> None:
    strange, other = make_due(), make_due()
    Endpoint.objects.filter(pk=strange.pk).update(
        baseline_interval_ms=None, baseline_cron="0 9 * * *", timezone="Mars/Olympus", next_source="baseline-cron"
    )
    assert {item.endpoint_id for item in claim()} == {strange.pk, other.pk}
    lose_lease(strange)
    lose_lease(other)
    assert len(reap()) == 2
    Endpoint.objects.filter(pk=strange.pk).update(retry_at=None, retry_slot_at=None, retry_attempt=None)
    replan([strange.pk])
    strange.refresh_from_db()
    assert strange.next_run_at is None
    assert "Mars/Olympus" in strange.next_decision["sentence"]
