"""The settler against a database that refuses: batches shrink until they pass, and no result waits for another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from cronicorn.runtime.clock import DatabaseClock, monotonic_ns
from cronicorn.runtime.stopping import Stop
from jobs.models import Endpoint, Run, RunResponse
from scheduling.exchange.outcome import Blame, ErrorKind, Outcome
from scheduling.ledger.claims import Claim, claim_due
from scheduling.worker import settler as settler_module
from scheduling.worker.book import Book, InHand
from scheduling.worker.requests import bare_call
from scheduling.worker.settler import Settler
from tests.scheduling.test_settlement import LEASE, Answers, outcome_of

pytestmark = pytest.mark.django_db(transaction=True)
MakeDue = Callable[..., Endpoint]


class Desk:
    """A settler with its book; `come_back` has calls answered."""

    def __init__(self) -> None:
        self.book, self.clock, self.abandon = Book(), DatabaseClock(), Stop()
        self.answers = Answers([])
        self.settler = Settler(
            worker="w1", dispatcher=self.answers, book=self.book, clock=self.clock, abandon=self.abandon
        )

    def claim(self) -> list[Claim]:
        """Takes everything due in hand."""
        sent_ns = monotonic_ns()
        claims = claim_due(worker="w1", limit=100, lease=LEASE)
        self.clock.observe(claims[0].claimed_at, sent_ns, monotonic_ns())
        for claim in claims:
            assert claim.run_id is not None
            self.book.add(claim.run_id, InHand(claim, secured_at=0.0))
        return claims

    def come_back(self, outcomes: list[Outcome]) -> None:
        self.answers._outcomes = outcomes


@pytest.fixture
def desk() -> Desk:
    """A settler with nothing in hand."""
    return Desk()


@contextmanager
def refusing(condition: str, state: str) -> Iterator[None]:
    """The database refuses updates of runs for whose rows, `fresh`, the condition holds, with this SQLSTATE."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {condition} THEN"
            f" RAISE EXCEPTION 'refused by a test' USING ERRCODE = '{state}'; END IF; RETURN NULL; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER refuse AFTER UPDATE ON runs REFERENCING NEW TABLE AS fresh"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse CASCADE")


def statements() -> int:
    """How many transactions wrote the runs as they stand."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text) FROM runs WHERE status <> 'running'")
        count: int = cursor.fetchone()[0]
        return count


@pytest.mark.parametrize("state", ["53200", "57014", "55P03"])
def test_batch_that_is_too_much_for_the_database_is_halved_until_it_passes(
    make_due: MakeDue, desk: Desk, state: str
) -> None:
    for _ in range(10):
        make_due()
    desk.come_back([outcome_of(item) for item in desk.claim()])
    with refusing("(SELECT count(*) FROM fresh) > 3", state):
        assert desk.settler.settle_ready(0).count == 10
    assert Run.objects.filter(status="success").count() == 10
    assert len(desk.book) == 0


def test_result_that_is_refused_by_itself_stops_no_other_and_is_settled_when_it_can_be(
    make_due: MakeDue, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = make_due()
    for _ in range(6):
        make_due()
    desk.come_back([outcome_of(item) for item in desk.claim()])
    with refusing(f"EXISTS (SELECT FROM fresh WHERE endpoint_id = '{stuck.pk}')", "57014"):
        assert desk.settler.settle_ready(0).count == 6
        make_due()
        desk.come_back([outcome_of(item) for item in desk.claim()])
        refused = len(caplog.records)
        assert desk.settler.settle_ready(0).count == 1
        # Not at each round: every try costs the others its time.
        assert len(caplog.records) == refused
        assert [entry.claim.endpoint_id for entry in desk.book.entries().values()] == [stuck.pk]
    later_ns = monotonic_ns() + 10**10
    monkeypatch.setattr(settler_module, "monotonic_ns", lambda: later_ns)
    assert desk.settler.settle_ready(0).count == 1
    assert Run.objects.get(endpoint=stuck).status == "success"


def test_limit_of_postgresql_itself_is_a_fault_of_the_row(make_due: MakeDue, desk: Desk) -> None:
    broken, whole = make_due(), make_due()
    desk.come_back([outcome_of(item) for item in desk.claim()])
    with refusing(f"EXISTS (SELECT FROM fresh WHERE endpoint_id = '{broken.pk}' AND status = 'success')", "54000"):
        assert desk.settler.settle_ready(0).count == 2
    assert Run.objects.get(endpoint=broken).error_kind == "internal_error"
    assert Run.objects.get(endpoint=whole).status == "success"


@pytest.mark.parametrize(("limits", "batches"), [({"BATCH": 4}, 3), ({"BATCH_BYTES": 2_500}, 5)])
def test_batches_are_bounded_by_results_and_by_bytes(
    make_due: MakeDue, desk: Desk, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], batches: int
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(settler_module, name, value)
    for _ in range(10):
        make_due()
    desk.come_back([outcome_of(item, body="x" * 1_000) for item in desk.claim()])
    assert desk.settler.settle_ready(0).count == 10
    assert statements() == batches


@pytest.mark.parametrize("state", ["53100", "25006", "57P01"])
def test_results_that_were_not_settled_at_the_end_are_still_counted(make_due: MakeDue, desk: Desk, state: str) -> None:
    for _ in range(3):
        make_due()
    desk.come_back([outcome_of(item) for item in desk.claim()])
    desk.abandon.request()
    with refusing("true", state):
        assert desk.settler.settle_ready(0).count == 0
    assert len(desk.book) == 3
    assert Run.objects.filter(status="running").count() == 3


@pytest.mark.parametrize(
    "state",
    # column, table and function that are missing, rights, syntax; another schema; read-only, disk, memory; a pooler's
    [
        "42703",
        "42P01",
        "42883",
        "42501",
        "42601",
        "23502",
        "0A000",
        "3D000",
        "25006",
        "53100",
        "53300",
        "57P03",
        "26000",
    ],
)
def test_results_are_kept_whole_while_the_database_refuses_for_reasons_of_its_own(
    make_due: MakeDue, desk: Desk, state: str
) -> None:
    for _ in range(3):
        make_due()
    desk.come_back([outcome_of(item, body="kept") for item in desk.claim()])
    desk.abandon.request()  # so that a round ends although nothing could be written
    with refusing("true", state):
        assert desk.settler.settle_ready(0).count == 0
        assert len(desk.book) == 3
        assert desk.settler.progress.standing().failing_for is not None
    assert desk.settler.settle_ready(0).count == 3
    assert desk.settler.progress.standing().failing_for is None
    assert list(Run.objects.values_list("status", "error_kind").distinct()) == [("success", None)]
    assert set(RunResponse.objects.values_list("body", flat=True)) == {"kept"}


def test_result_that_is_refused_without_its_contents_too_waits_for_the_fault_to_be_mended(
    make_due: MakeDue, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_due()
    desk.come_back([outcome_of(item) for item in desk.claim()])
    with refusing("true", "23514"):
        assert desk.settler.settle_ready(0).count == 0
    later_ns = monotonic_ns() + 10**10
    monkeypatch.setattr(settler_module, "monotonic_ns", lambda: later_ns)
    assert desk.settler.settle_ready(0).count == 1


def test_keeper_is_told_that_a_call_is_over_while_its_result_waits(make_due: MakeDue, desk: Desk) -> None:
    make_due()
    desk.come_back([outcome_of(item) for item in desk.claim()])
    (entry,) = desk.book.entries().values()
    assert not entry.ended
    desk.settler.settle_ready(0)
    assert entry.ended


def test_call_that_was_never_begun_has_no_start_and_no_lateness(make_due: MakeDue, desk: Desk) -> None:
    unsent, sent = make_due(), make_due()
    claims = {item.endpoint_id: item for item in desk.claim()}
    call, at_ns = bare_call(claims[unsent.pk]), monotonic_ns()
    desk.book.hand_in(Outcome.unsent(call, ErrorKind.SECRET_UNAVAILABLE, "sealed", Blame.POLICY, at_ns))
    desk.come_back([outcome_of(claims[sent.pk])])
    assert desk.settler.settle_ready(0).count == 2
    run = Run.objects.get(endpoint=unsent)
    assert (run.status, run.started_at, run.lateness_ms) == ("failed", None, None)
    assert run.finished_at is not None
    unsent.refresh_from_db()
    # The next hinted interval counts from when the call should have started.
    assert unsent.last_started_at == claims[unsent.pk].claimed_at
    assert Run.objects.get(endpoint=sent).started_at is not None
