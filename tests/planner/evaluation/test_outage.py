"""A watched endpoint fails for a while: its hint outlives that, and recovery is met within one baseline interval."""

from typing import Any

import pytest

from planner.evaluation.play import Played, play
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.world import Member, Moment, Reply, Respond, World

BASELINE_MINUTES = 5
BUSY = (10.0, 110.0)
BEGIN = 20.25
RULE = {"name": "busy", "when": {"path": "$.queue_depth", "op": ">", "value": 500}, "then": {"interval_ms": 30_000}}
REFUSED = Reply("<h1>503 Service Unavailable</h1>", status=503)


def world(refusal: Reply, end: float, rule: dict[str, Any], **columns: Any) -> World:
    def queue(at: Moment) -> Reply:
        if at.during(BEGIN, end):
            return refusal
        return Reply({"queue_depth": 900 if at.during(*BUSY) else 3})

    def targets() -> dict[str, Respond]:
        return {"queue": queue}

    member = Member("queue", {"baseline_interval_ms": BASELINE_MINUTES * 60_000, **columns}, rules=[rule])
    return World("outage", "A queue is busy, and its service is away for a while.", 180, (member,), targets)


def recovery(played: Played, end: float) -> float:
    """How many minutes after its end the recovery was met."""
    return next(minute for minute in played.minutes("queue") if minute >= end) - end


@pytest.mark.parametrize("minutes", [0.5, 2, 7, 20, 45])
@pytest.mark.parametrize(
    "refusal",
    [REFUSED, Reply({"error": "away"}, status=503), Reply(status=None), Reply("", status=500), Reply(["x"], ok=False)],
    ids=["a page", "JSON without the figure", "no response", "nothing", "a broken assertion"],
)
def test_outage_of_a_watched_endpoint_is_noticed_to_be_over_within_one_baseline(refusal: Reply, minutes: float) -> None:
    end = BEGIN + minutes
    played = play(world(refusal, end, RULE), RulesPlanner())
    assert recovery(played, end) <= BASELINE_MINUTES
    assert played.longest_gap("queue", 0, 180) <= BASELINE_MINUTES + 0.01
    # The hint was kept, so the pace is that of the rule again from the first answer on.
    again = end + recovery(played, end)
    assert played.longest_gap("queue", again, 100) <= 0.6
    assert [entry.tool for entry in played.applied("queue", 10.5, 100)] == []


def test_hint_ends_with_its_time_to_live_in_a_long_outage() -> None:
    played = play(world(REFUSED, 100, {**RULE, "then": {"interval_ms": 30_000, "ttl_minutes": 15}}), RulesPlanner())
    assert [entry.tool for entry in played.applied("queue", BEGIN, 99)] == []
    assert {run.source for run in played.runs("queue", 60, 99)} == {"baseline-interval"}
    assert recovery(played, 100) <= BASELINE_MINUTES


def test_owner_may_let_recovery_wait_longer_and_no_longer_than_that() -> None:
    rule = {**RULE, "then": {"interval_ms": 30_000, "ttl_minutes": 12}}
    played = play(world(REFUSED, 110, rule, recovery_check_ms=20 * 60_000), RulesPlanner())
    assert 15 <= played.longest_gap("queue", 22, 110) <= 20
    assert recovery(played, 110) <= 20


def test_failing_rule_of_the_owner_still_acts_in_an_outage() -> None:
    rule = {"when": {"all": [{"failing_for": 2}, {"status": {"op": ">=", "value": 500}}]}, "then": {"pause_minutes": 9}}
    played = play(world(REFUSED, 40, rule), RulesPlanner())
    assert [entry.tool for entry in played.applied("queue")][:1] == ["pause_until"]
