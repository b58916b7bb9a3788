"""The keeper against a real database: whatever fails around it, no lease is kept for nothing, none lost with others."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction

from cronicorn.runtime.clock import DatabaseClock, boot_seconds
from jobs import services
from jobs.models import Author, Endpoint, Run
from scheduling.dispatch import HttpxDispatcher
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import ErrorKind
from scheduling.ledger.claims import claim_due
from scheduling.worker.book import Book, InHand
from scheduling.worker.keeper import Keeper
from scheduling.worker.starter import Starter
from tests.support.factories import make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]
LEASE = 60.0


class Hands:
    """One worker's keeper with its book and starter, and a dispatcher that is given nothing to call."""

    def __init__(self) -> None:
        self.dispatcher = HttpxDispatcher(EgressPolicy.from_settings("127.0.0.0/8"), concurrency=1)
        self.book, self.clock = Book(), DatabaseClock()
        self.starter = Starter(dispatcher=self.dispatcher, book=self.book, clock=self.clock, usable_for=LEASE * 0.75)
        self.keeper = Keeper(
            worker="w1",
            dispatcher=self.dispatcher,
            book=self.book,
            starter=self.starter,
            lease=LEASE,
            usable_for=LEASE * 0.75,
            concurrency=10,
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


def test_row_that_somebody_keeps_locked_costs_no_other_lease(hands: Hands) -> None:
    locked, other = make_endpoint(baseline_interval_ms=30_000), make_endpoint(baseline_interval_ms=30_000)
    hands.claim(secured_ago=40.0)
    held, done = threading.Event(), threading.Event()

    def edit() -> None:
        with transaction.atomic():
            Endpoint.objects.select_for_update(no_key=True).get(pk=locked.pk)
            held.set()
            done.wait(20)
        connection.close()

    thread = threading.Thread(target=edit)
    thread.start()
    assert held.wait(10)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
    before = boot_seconds()
    hands.keeper.tick()
    secured = {entry.claim.endpoint_id: entry.secured_at for entry in hands.book.entries().values()}
    given_up = {entry.claim.endpoint_id: entry.given_up for entry in hands.book.entries().values()}
    done.set()
    thread.join(10)
    connection.close()
    assert secured[other.pk] >= before
    assert secured[locked.pk] < before
    assert given_up == {locked.pk: False, other.pk: False}


def test_lease_that_was_taken_over_is_given_up(hands: Hands) -> None:
    endpoint = make_endpoint(baseline_interval_ms=30_000)
    hands.claim()
    Endpoint.objects.filter(pk=endpoint.pk).update(lease_owner="w2", fence=7)
    run_id, entry = next(iter(hands.book.entries().items()))
    hands.starter.withdraw(run_id)
    hands.keeper.tick()
    assert entry.given_up


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
