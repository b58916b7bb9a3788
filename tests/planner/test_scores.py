"""Scorecards of ended hints in the database: what is read, when it is judged, and what it adds up to."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from cronicorn.runtime.stopping import Stop
from jobs.models import Endpoint, PlannerMode, Run, RunStatus
from planner.models import Cause, Proposal, ProposalStatus, Tool
from planner.proposals.verdicts import end_the_ended
from planner.scoring.scorecard import FLAPS_WITHIN
from planner.scoring.scores import _ENDED, CauseScore, score_the_ended, scorecard_of_endpoint, scorecard_of_planner
from planner.worker import Planner, PlannerOptions
from tests.support.factories import make_endpoint, make_run

pytestmark = pytest.mark.django_db

MINUTE_MS = 60_000
HOUR = timedelta(hours=1)
ARGUMENTS: dict[str, dict[str, Any]] = {
    Tool.PROPOSE_INTERVAL: {"interval_ms": MINUTE_MS},
    Tool.PROPOSE_NEXT_TIME: {},
    Tool.PAUSE_UNTIL: {},
    Tool.CLEAR_HINTS: {},
}


@pytest.fixture
def began() -> datetime:
    """When the hints of a test begin: a full minute, some hours ago."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - 4 * HOUR


@pytest.fixture
def endpoint(began: datetime) -> Endpoint:
    """Every five minutes, with a slot at `began`."""
    return make_endpoint(anchor_at=began - 24 * HOUR, created_at=began - 24 * HOUR)


def hint(endpoint: Endpoint, began: datetime, minutes: float = 60, **fields: Any) -> Proposal:
    """A hint that was in force for so long and then expired."""
    tool = fields.pop("tool", Tool.PROPOSE_INTERVAL)
    ended_at = began + timedelta(minutes=minutes)
    values: dict[str, Any] = {
        "cause": Cause.RULE,
        "mode": PlannerMode.AUTO,
        "status": ProposalStatus.EXPIRED,
        "ttl_ms": int(minutes * MINUTE_MS),
        "arguments": ARGUMENTS[tool],
        "created_at": began,
        "applied_at": began,
        "hint_expires_at": ended_at,
        "ended_at": ended_at,
        "ended_by": "expired",
        **fields,
    }
    return Proposal.objects.create(endpoint=endpoint, owner_id=endpoint.owner_id, tool=tool, **values)


def shadow(endpoint: Endpoint, began: datetime, minutes: float = 60, **fields: Any) -> Proposal:
    """A hint that would have been in force for so long, or until it would have ended otherwise."""
    never = dict.fromkeys(["applied_at", "ended_at", "ended_by"])
    values = {"mode": PlannerMode.SHADOW, "status": ProposalStatus.SHADOW, **never, **fields}
    return hint(endpoint, began, minutes, **values)


def runs(endpoint: Endpoint, began: datetime, *minutes: float, ok: bool = True, **fields: Any) -> list[Run]:
    """Runs whose slots are so many minutes after `began`."""
    status = RunStatus.SUCCESS if ok else RunStatus.FAILED
    return [
        make_run(
            endpoint, due_at=began + timedelta(minutes=at), **{"status": status, "source": "ai-interval", **fields}
        )
        for at in minutes
    ]


def card_of(proposal: Proposal) -> Any:
    proposal.refresh_from_db()
    return proposal.scorecard


def test_a_faster_hint_is_judged_by_its_own_runs(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began + timedelta(minutes=1), 10)
    runs(endpoint, began, 0, source="baseline-interval")
    runs(endpoint, began, 1, 2)
    runs(endpoint, began, 3, 4, ok=False)
    runs(endpoint, began, 3.5, source="manual")
    runs(endpoint, began, 4, ok=False, attempt=2, source="retry")
    runs(endpoint, began, 6, 7, 8, 9, 10)
    runs(endpoint, began, 6.5, source="ai-oneshot")
    runs(endpoint, began, 8.5, status=RunStatus.MISSED)
    runs(endpoint, began, 15, source="baseline-interval")
    assert score_the_ended(10) == 1
    card = card_of(proposal)
    assert (card["calls_made"], card["calls_baseline"], card["failures"]) == (9, 2, 2)
    assert (card["calls_added"], card["calls_saved"]) == (7, 0)
    assert card["first_failure"] == {"least_ms": 2 * MINUTE_MS, "most_ms": 2 * MINUTE_MS}
    assert (card["kind"], card["direction"], card["ended_by"]) == ("propose_interval", "faster", "expired")
    assert (card["in_force_ms"], card["shadow"], card["flaps"], card["earlier_ms"]) == (10 * MINUTE_MS, False, 0, None)


def test_a_change_that_anothers_run_saw_first_is_not_credited(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began, 10)
    runs(endpoint, began, 0, 1)
    runs(endpoint, began, 1.5, ok=False, source="manual")
    runs(endpoint, began, 2, ok=False)
    runs(endpoint, began, 3)
    score_the_ended(10)
    card = card_of(proposal)
    assert card["failures"] == 1
    assert card["first_failure"] is None
    assert card["first_recovery"] == {"least_ms": 2 * MINUTE_MS, "most_ms": 2 * MINUTE_MS}


def test_a_run_that_was_lost_tells_neither_of_failure_nor_of_recovery(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began, 10)
    runs(endpoint, began, 1, ok=False)
    runs(endpoint, began, 2, status=RunStatus.ABANDONED)
    runs(endpoint, began, 3)
    score_the_ended(10)
    card = card_of(proposal)
    assert (card["calls_made"], card["failures"]) == (3, 1)
    assert card["first_recovery"] == {"least_ms": 2 * MINUTE_MS, "most_ms": 2 * MINUTE_MS}


def test_a_failure_of_the_very_first_run_counts_from_the_hints_beginning(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began + timedelta(minutes=1), 20)
    runs(endpoint, began, 12, 13, ok=False)
    score_the_ended(10)
    assert card_of(proposal)["first_failure"] == {"least_ms": -7 * MINUTE_MS, "most_ms": 3 * MINUTE_MS}


def test_what_a_pause_missed_shows_in_the_run_after_it(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began + timedelta(minutes=1), 32, tool=Tool.PAUSE_UNTIL)
    runs(endpoint, began, 0, source="baseline-interval")
    runs(endpoint, began, 33, ok=False, source="paused")
    score_the_ended(10)
    card = card_of(proposal)
    assert (card["calls_made"], card["calls_baseline"], card["calls_saved"], card["failures"]) == (0, 6, 6, 0)
    assert card["first_failure"] == {"least_ms": -28 * MINUTE_MS, "most_ms": 2 * MINUTE_MS}


def test_a_one_shot_is_judged_by_the_run_that_it_caused(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began + timedelta(minutes=1), 4, tool=Tool.PROPOSE_NEXT_TIME, ended_by="used")
    runs(endpoint, began, 0, source="baseline-interval")
    runs(endpoint, began, 2, ok=False, source="ai-oneshot")
    runs(endpoint, began, 3, source="ai-oneshot")
    score_the_ended(10)
    card = card_of(proposal)
    assert (card["calls_made"], card["calls_baseline"], card["failures"]) == (1, 0, 1)
    assert card["earlier_ms"] == 3 * MINUTE_MS
    assert card["first_failure"] == {"least_ms": 3 * MINUTE_MS, "most_ms": 3 * MINUTE_MS}
    assert card["first_recovery"] is None
    assert card["ended_by"] == "used"


def test_a_hint_on_a_cron_expression_is_held_against_its_slots(began: datetime) -> None:
    endpoint = make_endpoint(baseline_cron="*/20 * * * *", timezone="Asia/Kathmandu")
    proposal = hint(endpoint, began, 60)
    runs(endpoint, began, *range(60))
    score_the_ended(10)
    assert (card_of(proposal)["calls_made"], card_of(proposal)["calls_baseline"]) == (60, 3)


def test_a_hint_ends_with_the_schedule_of_its_endpoint(endpoint: Endpoint, began: datetime) -> None:
    Endpoint.objects.filter(pk=endpoint.pk).update(ends_at=began + timedelta(minutes=20))
    proposal = hint(endpoint, began, 60, tool=Tool.PAUSE_UNTIL)
    score_the_ended(10)
    assert (card_of(proposal)["in_force_ms"], card_of(proposal)["calls_saved"]) == (20 * MINUTE_MS, 4)


def test_a_hint_that_was_closed_late_ended_when_it_expired(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began, 60, ended_at=began + 2 * HOUR)
    score_the_ended(10)
    assert card_of(proposal)["in_force_ms"] == 60 * MINUTE_MS


def test_a_shadow_is_judged_by_what_it_would_have_done(endpoint: Endpoint, began: datetime) -> None:
    proposal = shadow(endpoint, began + timedelta(minutes=1), 60)
    runs(endpoint, began, 0, source="baseline-interval")
    runs(endpoint, began, 5, ok=False, source="baseline-interval")
    runs(endpoint, began, *range(10, 61, 5), source="baseline-interval")
    assert score_the_ended(10) == 1
    card = card_of(proposal)
    assert (card["shadow"], card["ended_by"], card["calls_made"], card["calls_baseline"]) == (True, "expired", 60, 12)
    assert (card["failures"], card["first_failure"]) == (1, {"least_ms": 0, "most_ms": 4 * MINUTE_MS})


def test_a_shadow_ends_where_the_next_would_have_replaced_it(endpoint: Endpoint, began: datetime) -> None:
    first = shadow(endpoint, began, 120, ended_at=began + HOUR, ended_by="superseded")
    shadow(endpoint, began + timedelta(minutes=10), 30, tool=Tool.PAUSE_UNTIL)
    cleared = {"ended_at": began + HOUR + timedelta(minutes=30), "ended_by": "cleared"}
    second = shadow(endpoint, began + HOUR, 120, arguments={"interval_ms": 10 * MINUTE_MS}, **cleared)
    shadow(endpoint, began + HOUR + timedelta(minutes=30), tool=Tool.CLEAR_HINTS, ttl_ms=None, hint_expires_at=None)
    assert score_the_ended(10) == 3
    assert (card_of(first)["ended_by"], card_of(first)["in_force_ms"]) == ("superseded", 60 * MINUTE_MS)
    assert (card_of(second)["ended_by"], card_of(second)["in_force_ms"]) == ("cleared", 30 * MINUTE_MS)
    # Faster, paused, faster again until it was replaced, slower.
    assert card_of(second)["flaps"] == 3


def test_a_replaced_shadow_does_not_come_back_when_the_next_has_run_out(endpoint: Endpoint, began: datetime) -> None:
    shadow(endpoint, began - timedelta(minutes=50), 120)
    shadow(endpoint, began - timedelta(minutes=30), 10, arguments={"interval_ms": 10 * MINUTE_MS})
    last = shadow(endpoint, began)
    score_the_ended(10)
    # Faster, slower, none, faster.
    assert card_of(last)["flaps"] == 3


def test_a_one_shot_in_shadow_tells_how_much_earlier_it_would_have_run(endpoint: Endpoint, began: datetime) -> None:
    def asked(minutes: float) -> dict[str, str]:
        return {"next_run_at": (began + timedelta(minutes=minutes)).isoformat()}

    inside = shadow(endpoint, began, 30, tool=Tool.PROPOSE_NEXT_TIME, arguments=asked(2))
    replaced = shadow(
        endpoint,
        began - timedelta(minutes=9),
        30,
        tool=Tool.PROPOSE_NEXT_TIME,
        arguments=asked(2),
        cause=Cause.MODEL,
        ended_at=began,
        ended_by="superseded",
    )
    assert score_the_ended(10) == 2
    assert (card_of(inside)["calls_made"], card_of(inside)["earlier_ms"]) == (1, 3 * MINUTE_MS)
    assert (card_of(replaced)["calls_made"], card_of(replaced)["earlier_ms"]) == (0, None)


def test_flaps_are_counted_over_the_hints_of_the_endpoint(endpoint: Endpoint, began: datetime) -> None:
    hint(endpoint, began - timedelta(minutes=50), 10)
    hint(endpoint, began - timedelta(minutes=30), 10, cause=Cause.MODEL)
    hint(endpoint, began - timedelta(minutes=10), 5, status=ProposalStatus.REJECTED, applied_at=None)
    hint(make_endpoint(), began - timedelta(minutes=10), 5)
    shadow(endpoint, began - timedelta(minutes=10), 5)
    hint(endpoint, began - FLAPS_WITHIN - timedelta(minutes=10), 5)
    last = hint(endpoint, began)
    score_the_ended(20)
    assert card_of(last)["flaps"] == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"ended_at": None, "status": ProposalStatus.APPLIED},
        {"applied_at": None, "status": ProposalStatus.EXPIRED},
        {"applied_at": None, "ended_at": None, "status": ProposalStatus.HELD},
        {"tool": Tool.CLEAR_HINTS, "ttl_ms": None, "hint_expires_at": None},
    ],
)
def test_what_has_not_ended_or_was_never_in_force_is_not_judged(
    endpoint: Endpoint, began: datetime, fields: dict[str, Any]
) -> None:
    proposal = hint(endpoint, began, **fields)
    assert score_the_ended(10) == 0
    assert card_of(proposal) is None


@pytest.mark.parametrize("tool", [Tool.PROPOSE_INTERVAL, Tool.PROPOSE_NEXT_TIME, Tool.PAUSE_UNTIL])
def test_a_shadow_is_judged_only_when_it_would_have_ended(endpoint: Endpoint, began: datetime, tool: Tool) -> None:
    proposal = shadow(endpoint, began, 12 * 60, tool=tool)
    assert score_the_ended(10) == 0
    assert card_of(proposal) is None


def test_a_card_waits_for_the_first_run_after_the_end(endpoint: Endpoint) -> None:
    ended_at = datetime.now(UTC) - timedelta(minutes=10)
    proposal = hint(endpoint, ended_at - HOUR, 60)
    assert score_the_ended(10) == 0
    Endpoint.objects.filter(pk=endpoint.pk).update(last_run_at=ended_at - timedelta(seconds=1))
    assert score_the_ended(10) == 0
    Endpoint.objects.filter(pk=endpoint.pk).update(last_run_at=proposal.hint_expires_at)
    assert score_the_ended(10) == 1


def test_the_card_of_a_one_shot_waits_for_its_run(endpoint: Endpoint) -> None:
    hint(endpoint, datetime.now(UTC) - timedelta(minutes=10), 5, tool=Tool.PROPOSE_NEXT_TIME, ended_by="used")
    lease = {"lease_owner": "worker", "lease_until": datetime.now(UTC) + HOUR}
    Endpoint.objects.filter(pk=endpoint.pk).update(**lease)
    assert score_the_ended(10) == 0
    Endpoint.objects.filter(pk=endpoint.pk).update(lease_owner=None, lease_until=None)
    assert score_the_ended(10) == 1


def test_scores_are_written_once(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began)
    assert score_the_ended(10) == 1
    first = card_of(proposal)
    runs(endpoint, began, 1, 2, 3)
    assert score_the_ended(10) == 0
    assert card_of(proposal) == first


def test_the_oldest_are_judged_first_and_no_more_than_asked_for(endpoint: Endpoint, began: datetime) -> None:
    newest, oldest, middle = (hint(endpoint, began + timedelta(minutes=at), 1) for at in (9, 1, 5))
    assert score_the_ended(2) == 2
    assert card_of(newest) is None
    assert None not in (card_of(oldest), card_of(middle))
    assert score_the_ended(2) == 1


def test_a_hint_that_cannot_be_read_is_told_and_disturbs_no_other(endpoint: Endpoint, began: datetime) -> None:
    broken = hint(endpoint, began, arguments={})
    sound = hint(endpoint, began + HOUR, 10)
    assert score_the_ended(10) == 2
    assert set(card_of(broken)) == {"unscored"}
    assert card_of(sound)["calls_baseline"] == 2
    assert score_the_ended(10) == 0
    assert [total.hints for total in scorecard_of_endpoint(endpoint.pk, began)] == [1]


def test_a_batch_costs_as_many_statements_as_one(began: datetime) -> None:
    def statements(count: int) -> int:
        for _ in range(count):
            hint(make_endpoint(), began)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert score_the_ended(100) == count
        return len(asked)

    assert statements(1) == statements(20)


def test_nothing_to_judge_costs_one_read() -> None:
    with CaptureQueriesContext(connection) as asked:
        assert score_the_ended(100) == 0
    assert len([query for query in asked if "SAVEPOINT" not in query["sql"]]) == 1


def test_the_index_serves_what_is_still_to_be_judged(endpoint: Endpoint, began: datetime) -> None:
    hint(endpoint, began)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {_ENDED}", [10])
        assert "proposals_unscored" in "\n".join(line for (line,) in cursor.fetchall())


def test_the_cards_add_up_by_cause(endpoint: Endpoint, began: datetime) -> None:
    hint(endpoint, began, 10, cause=Cause.MODEL)
    runs(endpoint, began, *range(8))
    runs(endpoint, began, 8, 9, ok=False)
    hint(endpoint, began + HOUR, 30, cause=Cause.HEURISTIC, tool=Tool.PAUSE_UNTIL)
    hint(endpoint, began + 1.5 * HOUR, 30, cause=Cause.HEURISTIC, tool=Tool.PAUSE_UNTIL)
    shadow(endpoint, began + 2 * HOUR, 10, cause=Cause.MODEL)
    other = make_endpoint()
    hint(other, began, 10, cause=Cause.MODEL)
    score_the_ended(10)
    totals = scorecard_of_endpoint(endpoint.pk, began)
    assert [(total.cause, total.shadow, total.hints) for total in totals] == [
        (Cause.HEURISTIC, False, 2),
        (Cause.MODEL, False, 1),
        (Cause.MODEL, True, 1),
    ]
    assert (totals[0].calls_saved, totals[0].in_force_ms) == (12, 60 * MINUTE_MS)
    assert totals[1] == CauseScore(
        cause=Cause.MODEL,
        shadow=False,
        hints=1,
        in_force_ms=10 * MINUTE_MS,
        calls_made=10,
        calls_baseline=2,
        calls_added=8,
        calls_saved=0,
        failures=2,
        failures_met=1,
        failures_least_ms=2 * MINUTE_MS,
        failures_most_ms=2 * MINUTE_MS,
        recoveries_met=0,
        recoveries_least_ms=0,
        recoveries_most_ms=0,
        flaps=0,
    )
    assert scorecard_of_planner(endpoint.owner_id, began) == totals
    everybody = {(total.cause, total.shadow): total.hints for total in scorecard_of_planner(None, began)}
    assert everybody[Cause.MODEL, False] == 2
    assert scorecard_of_endpoint(endpoint.pk, began + 3 * HOUR) == []
    assert scorecard_of_planner(uuid4(), began) == []


def test_the_totals_are_one_query(endpoint: Endpoint, began: datetime) -> None:
    asks: list[Callable[[], object]] = [
        lambda: scorecard_of_endpoint(endpoint.pk, began),
        lambda: scorecard_of_planner(endpoint.owner_id, began),
        lambda: scorecard_of_planner(None, began),
    ]
    for ask in asks:
        with CaptureQueriesContext(connection) as asked:
            ask()
        assert len(asked) == 1


def test_the_planner_judges_what_it_has_closed(endpoint: Endpoint, began: datetime) -> None:
    proposal = hint(endpoint, began, ended_at=None, ended_by=None, status=ProposalStatus.APPLIED)
    planner = Planner(name="planner-t", options=PlannerOptions(), stop=Stop())
    planner.run_once()
    assert card_of(proposal)["ended_by"] == "expired"
    assert planner.sweep() == 0


def test_a_proposal_whose_endpoint_is_gone_is_gone_too(endpoint: Endpoint, began: datetime) -> None:
    hint(endpoint, began)
    Endpoint.objects.filter(pk=endpoint.pk).delete()
    end_the_ended(datetime.now(UTC))
    assert score_the_ended(10) == 0


@pytest.mark.django_db(transaction=True)
def test_what_another_planner_is_judging_is_passed_over(endpoint: Endpoint, began: datetime) -> None:
    mine, others = hint(endpoint, began), hint(endpoint, began + HOUR)
    locked, done = threading.Event(), threading.Event()

    def judge() -> None:
        try:
            with transaction.atomic():
                Proposal.objects.select_for_update(no_key=True).get(pk=others.pk)
                locked.set()
                done.wait(20)
        finally:
            connection.close()

    thread = threading.Thread(target=judge)
    thread.start()
    try:
        assert locked.wait(20)
        assert score_the_ended(10) == 1
        assert (card_of(mine) is None, card_of(others)) == (False, None)
    finally:
        done.set()
        thread.join(20)
    assert score_the_ended(10) == 1
