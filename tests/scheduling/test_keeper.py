"""The keeper against a real database: whatever fails around it, no lease is kept for nothing, none lost with others."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.db import connection

from cronicorn.runtime.clock import DatabaseClock, boot_seconds
from jobs import services
from jobs.models import Author, Endpoint, Run, RunStatus
from scheduling.dispatch import CurlDispatcher
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import ErrorKind
from scheduling.ledger.claims import Claim, claim_due
from scheduling.ledger.leases import reap
from scheduling.worker import keeper as keeper_module
from scheduling.worker.book import Book, InHand
from scheduling.worker.keeper import Keeper
from scheduling.worker.starter import Starter, prepare
from tests.scheduling.test_claims import lose_lease
from tests.support.factories import make_endpoint, make_run
from tests.support.http_target import HttpTarget

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
LEASE = 60.0


class Hands:
    """One worker's keeper with its book and starter, and a dispatcher that is given nothing to call."""

    def __init__(self) -> None:
        self.dispatcher = CurlDispatcher(EgressPolicy.from_settings("127.0.0.0/8"), concurrency=1)
        self.book, self.clock = Book(), DatabaseClock()
        self.freed: list[int] = []
        self.starter = Starter(dispatcher=self.dispatcher, book=self.book, clock=self.clock, usable_for=LEASE * 0.75)
        self.keeper = Keeper(
            worker="w1",
            dispatcher=self.dispatcher,
            book=self.book,
            starter=self.starter,
            lease=LEASE,
            usable_for=LEASE * 0.75,
            concurrency=10,
            on_freed=lambda: self.freed.append(len(self.book)),
        )

    def claim(self, *, secured_ago: float = 0.0) -> None:
        """Takes everything due within a minute in hand."""
        sent = time.monotonic_ns()
        claims = claim_due(worker="w1", limit=10, lease=timedelta(seconds=LEASE), horizon=timedelta(minutes=1))
        self.clock.observe(claims[0].claimed_at, sent, time.monotonic_ns())
        for claim in claims:
            self.starter.add(InHand(claim, boot_seconds() - secured_ago))


@pytest.fixture
def hands() -> Iterator[Hands]:
    """A worker's hands, empty."""
    found = Hands()
    yield found
    found.dispatcher.close()


def cut_connection() -> None:
    """Ends this connection's server process, so that its next statement fails."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    other.close()


def test_claim_of_a_paused_endpoint_is_given_back_although_the_database_failed_meanwhile(
    hands: Hands, now: Callable[[], datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    hands.claim()
    hands.keeper.tick()
    services.pause(endpoint_id=endpoint.pk, until=now() + timedelta(hours=1), reason="stop", author=Author.USER)
    withdraw = hands.starter.withdraw

    def withdraw_and_lose_the_connection(run_id) -> bool:  # type: ignore[no-untyped-def]
        cut_connection()
        return withdraw(run_id)

    monkeypatch.setattr(hands.starter, "withdraw", withdraw_and_lose_the_connection)
    hands.keeper.tick()
    assert len(hands.book) == 1
    hands.keeper.tick()
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.next_source) == (None, "paused")
    assert (len(hands.book), Run.objects.count()) == (0, 0)
    assert hands.freed == [0]


@contextmanager
def locked(endpoint: Endpoint) -> Iterator[None]:
    """Another session holds the endpoint's row for as long as the block lasts; waits here give up soon."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM job_endpoints WHERE id = %s FOR NO KEY UPDATE", [endpoint.pk])
        yield
    finally:
        # The server sees the end of a session later than the end of a transaction.
        other.rollback()
        other.close()


def test_row_that_somebody_keeps_locked_costs_no_other_lease(hands: Hands) -> None:
    stuck, other = make_endpoint(baseline_interval_ms=30_000), make_endpoint(baseline_interval_ms=30_000)
    hands.claim(secured_ago=40.0)
    before = boot_seconds()
    with locked(stuck):
        hands.keeper.tick()
    entries = {entry.claim.endpoint_id: entry for entry in hands.book.entries().values()}
    assert entries[other.pk].secured_at >= before
    assert entries[stuck.pk].secured_at < before
    assert not any(entry.given_up for entry in entries.values())


def test_paused_claim_whose_row_somebody_keeps_locked_holds_up_neither_renewals_nor_other_pauses(
    hands: Hands, now: Callable[[], datetime], caplog: pytest.LogCaptureFixture
) -> None:
    stuck, other, third = (make_endpoint(baseline_interval_ms=30_000) for _ in range(3))
    hands.claim(secured_ago=40.0)
    later = now() + timedelta(hours=1)
    services.pause(endpoint_id=stuck.pk, until=later, reason="stop", author=Author.USER)
    before = boot_seconds()
    with locked(stuck):
        hands.keeper.tick()
        services.pause(endpoint_id=other.pk, until=later, reason="stop", author=Author.USER)
        hands.keeper.tick()
        entries = {entry.claim.endpoint_id: entry for entry in hands.book.entries().values()}
        assert set(entries) == {stuck.pk, third.pk}
        assert entries[third.pk].secured_at >= before
        assert set(Endpoint.objects.filter(lease_owner="w1").values_list("pk", flat=True)) == {stuck.pk, third.pk}
        assert hands.starter.waiting().keys() == {entries[third.pk].claim.run_id}
    hands.keeper.tick()
    assert [entry.claim.endpoint_id for entry in hands.book.entries().values()] == [third.pk]
    assert [run.endpoint_id for run in Run.objects.all()] == [third.pk]
    assert caplog.records == []


def test_claim_without_a_run_is_given_back_by_the_next_tick(hands: Hands, make_due: MakeDue) -> None:
    endpoint = make_due()
    make_run(endpoint, scheduled_for=endpoint.next_slot_at, due_at=endpoint.next_slot_at)
    claims = claim_due(worker="w1", limit=10, lease=timedelta(seconds=LEASE))
    assert [claim.run_id for claim in claims] == [None]
    hands.keeper.give_back(claims)
    with locked(endpoint):
        hands.keeper.tick()
    assert Endpoint.objects.get().lease_owner == "w1"
    hands.keeper.tick()
    assert Endpoint.objects.get().lease_owner is None


def test_lease_that_was_taken_over_is_given_up(hands: Hands) -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    hands.claim()
    Endpoint.objects.filter(pk=endpoint.pk).update(lease_owner="w2", fence=7)
    run_id, entry = next(iter(hands.book.entries().items()))
    hands.starter.withdraw(run_id)
    hands.keeper.tick()
    assert entry.given_up


def test_call_that_starts_just_after_its_lease_was_lost_is_cancelled_by_the_next_look(
    hands: Hands, make_due: MakeDue, target: HttpTarget
) -> None:
    endpoint = make_due(target.route("/slow", lambda _request, wire: wire.stopping.wait()))
    hands.claim()
    ((run_id, entry),) = hands.book.entries().items()
    hands.starter.withdraw(run_id)
    Endpoint.objects.filter(pk=endpoint.pk).update(lease_owner="w2", fence=7)
    hands.keeper.tick()
    call = prepare(entry.claim, entry, hands.book)
    assert call is not None
    hands.dispatcher.start(call)
    target.wait_for(1)
    hands.keeper.fence_overdue()
    assert [outcome.error_kind for outcome in hands.dispatcher.completed(10)] == [ErrorKind.CANCELED]


def test_lost_claim_is_not_prolonged_by_the_next_one_of_the_same_endpoint(hands: Hands, make_due: MakeDue) -> None:
    endpoint = make_due()
    hands.claim()
    lose_lease(endpoint)
    reap()
    hands.claim()
    old, new = sorted(hands.book.entries().values(), key=lambda entry: entry.claim.fence)
    for run_id in hands.book.entries():
        hands.starter.withdraw(run_id)
    hands.keeper.tick()
    assert (old.given_up, new.given_up) == (True, False)


def test_result_that_was_just_settled_is_no_lost_lease(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    hands.claim()
    ((run_id, entry),) = hands.book.entries().items()
    hands.starter.withdraw(run_id)
    entry.ended = True
    Endpoint.objects.filter(pk=endpoint.pk).update(lease_owner=None, lease_until=None)
    hands.keeper.tick()
    assert not entry.given_up
    assert caplog.records == []


@pytest.mark.parametrize(("secured_ago", "again"), [(1.0, False), (40.0, True)])
def test_lease_that_a_lock_kept_from_its_renewal_is_tried_again_soon_only_if_it_is_old_and_alone(
    hands: Hands, monkeypatch: pytest.MonkeyPatch, secured_ago: float, again: bool
) -> None:
    monkeypatch.setattr(keeper_module, "AGAIN_AFTER", 0.0)
    stuck, other = make_endpoint(baseline_interval_ms=30_000), make_endpoint(baseline_interval_ms=30_000)
    hands.claim(secured_ago=secured_ago)
    entries = {entry.claim.endpoint_id: entry for entry in hands.book.entries().values()}
    with locked(stuck):
        hands.keeper.tick()
    renewed_at = entries[other.pk].secured_at
    hands.keeper.tick()
    assert entries[other.pk].secured_at == renewed_at
    assert (entries[stuck.pk].secured_at > renewed_at) is again


def test_waiting_claim_that_was_taken_over_frees_its_slot(hands: Hands) -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    hands.claim()
    Endpoint.objects.filter(pk=endpoint.pk).update(lease_owner="w2", fence=7)
    hands.keeper.tick()
    hands.keeper.tick()
    assert hands.freed == [0]


def test_call_that_falls_due_after_the_last_is_refused_and_stops_no_thread(hands: Hands, make_due: MakeDue) -> None:
    make_due()
    hands.claim()
    hands.dispatcher.close()
    hands.starter.start_due()
    assert [outcome.error_kind for outcome in hands.book.take_unsent()] == [ErrorKind.CANCELED]
    assert len(hands.book) == 1


def test_call_that_waits_when_its_lease_is_lost_does_not_start(hands: Hands, make_due: MakeDue) -> None:
    make_due()
    hands.claim()
    (entry,) = hands.book.entries().values()
    entry.given_up = True
    hands.starter.start_due()
    assert hands.dispatcher.in_flight() == 0
    assert [outcome.error_kind for outcome in hands.book.take_unsent()] == [ErrorKind.CANCELED]


def test_lease_that_was_not_renewed_is_given_up_before_its_end(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    make_endpoint(baseline_interval_ms=30_000)
    hands.claim(secured_ago=LEASE * 0.75 + 0.1)
    hands.keeper.fence_overdue()
    hands.keeper.fence_overdue()
    (entry,) = hands.book.entries().values()
    assert entry.given_up
    assert [record.message for record in caplog.records] == ["lease_lost"]


def claim_all() -> list[Claim]:
    return claim_due(worker="w1", limit=10, lease=timedelta(seconds=LEASE), horizon=timedelta(minutes=1))


def test_lease_in_its_own_name_that_the_worker_does_not_know_is_given_up_at_once(
    hands: Hands, make_due: MakeDue, caplog: pytest.LogCaptureFixture
) -> None:
    """A claim whose answer was lost, or one that is back because the database lost its last commits."""
    forgotten, foreign = make_due(baseline_interval_ms=3_600_000), make_due()
    (slot_at, *_) = {item.slot_at for item in claim_all() if item.endpoint_id == forgotten.pk}
    Endpoint.objects.filter(pk=foreign.pk).update(lease_owner="w2")
    hands.keeper.tick()
    hands.keeper.tick()
    forgotten.refresh_from_db()
    assert (forgotten.lease_owner, forgotten.next_slot_at, forgotten.next_attempt) == (None, slot_at, 2)
    assert Run.objects.get(endpoint=forgotten).status == RunStatus.ABANDONED
    assert Endpoint.objects.get(pk=foreign.pk).lease_owner == "w2"
    assert [record.getMessage() for record in caplog.records] == ["run_reaped"]
    assert hands.freed


def test_claim_that_is_still_being_made_is_not_taken_for_a_forgotten_one(hands: Hands, make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=3_600_000)
    with hands.book.claiming():
        (claim,) = claim_all()
        for _ in range(3):
            hands.keeper.look_for_forgotten()
            hands.keeper.tick()
        hands.clock.observe(claim.claimed_at, time.monotonic_ns(), time.monotonic_ns())
        hands.starter.add(InHand(claim, boot_seconds()))
    for _ in range(3):
        hands.keeper.look_for_forgotten()
        hands.keeper.tick()
    assert Endpoint.objects.get().lease_owner == "w1"
    assert Run.objects.get(endpoint=endpoint).status == RunStatus.RUNNING


def test_claim_that_failed_although_it_stands_is_given_up_when_it_has_ended(hands: Hands, make_due: MakeDue) -> None:
    make_due(baseline_interval_ms=3_600_000)
    hands.keeper.tick()
    with hands.book.claiming():
        claim_all()
        hands.keeper.look_for_forgotten()
        hands.keeper.tick()
        hands.keeper.tick()
        assert Endpoint.objects.get().lease_owner == "w1"
    hands.keeper.tick()
    assert Endpoint.objects.get().lease_owner is None


def test_claim_that_waits_to_be_given_back_is_not_forgotten(hands: Hands, make_due: MakeDue) -> None:
    endpoint = make_due(baseline_interval_ms=3_600_000)
    hands.keeper.give_back(claim_all())
    with locked(endpoint):
        for _ in range(3):
            hands.keeper.look_for_forgotten()
            hands.keeper.tick()
    hands.keeper.tick()
    endpoint.refresh_from_db()
    assert (endpoint.lease_owner, endpoint.next_attempt, Run.objects.count()) == (None, 1, 0)
