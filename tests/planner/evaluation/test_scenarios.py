"""The shipped scenarios: with rules, and with a scripted model on the wire, comes about what a person would want."""

from dataclasses import replace
from typing import Any

import pytest

from cronicorn.env import PROJECT_DIR
from planner.evaluation import world
from planner.evaluation.model import ModelPlanner
from planner.evaluation.play import play
from planner.evaluation.rules import RulesPlanner
from planner.evaluation.scenarios import SCENARIOS
from planner.rules import advice
from scheduling.simulation.scenario import Event, RunNow
from tests.planner.evaluation.script import POLICIES, answering, asking
from tests.support.model_server import ModelServer

NAMES = ("cooldown", "degradation", "flashsale", "inverse", "oscillation", "pipeline", "ratelimit", "sibling", "volume")


def test_nine_scenarios_are_shipped_and_each_has_a_script() -> None:
    assert tuple(sorted(SCENARIOS)) == NAMES
    assert tuple(sorted(POLICIES)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_rules_do_what_a_person_would_want(name: str) -> None:
    assert play(SCENARIOS[name], RulesPlanner()).unmet() == []


@pytest.mark.parametrize("name", NAMES)
def test_scripted_model_does_what_a_person_would_want(name: str, model_server: ModelServer) -> None:
    model_server.decide(answering(POLICIES[name]))
    model, ask = asking(model_server)
    with model:
        planner = ModelPlanner(ask)
        played = play(SCENARIOS[name], planner)
    assert played.unmet() == []
    assert {session.status for session in planner.sessions} == {"completed"}
    assert len(model_server.received) >= len(planner.sessions)


@pytest.mark.parametrize("name", NAMES)
def test_rules_and_model_together_do_not_disturb_each_other(name: str, model_server: ModelServer) -> None:
    model_server.decide(answering(POLICIES[name]))
    model, ask = asking(model_server)
    with model:
        assert play(SCENARIOS[name], RulesPlanner(), ModelPlanner(ask)).unmet() == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ratelimit"])
def test_without_a_planner_a_person_would_want_more(name: str) -> None:
    played = play(SCENARIOS[name])
    assert played.unmet()
    assert not played.entries


@pytest.mark.parametrize("name", NAMES)
def test_same_world_plays_the_same_each_time(name: str) -> None:
    first, second = (play(SCENARIOS[name], RulesPlanner()) for _ in range(2))
    assert list(first.history) == list(second.history)
    assert [(entry.at, entry.endpoint, entry.wish) for entry in first.entries] == [
        (entry.at, entry.endpoint, entry.wish) for entry in second.entries
    ]


def test_steps_of_the_pipeline_refuse_to_run_too_early() -> None:
    given = SCENARIOS["pipeline"]
    early = tuple(Event(given.at(20), name, RunNow()) for name in ("transform", "load"))
    played = play(replace(given, events=early), RulesPlanner())
    assert [run.status_code for run in played.history if not run.ok] == [409, 409]
    assert "No step runs before the step before it is done." in played.unmet()


def test_rule_without_an_until_would_flap_if_nothing_damped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "MOST_TURNS", 99)
    played = play(SCENARIOS["oscillation"], RulesPlanner())
    assert played.unmet() == ["Without an until it changes at most seven times an hour."]
    assert played.changes_of_pace("plain") == 30


@pytest.mark.parametrize("mode", ["off", "shadow", "auto"])
def test_what_a_server_asks_for_needs_no_planner(mode: str) -> None:
    given = SCENARIOS["ratelimit"]
    members = tuple(replace(member, mode=mode) for member in given.members)
    for planners in ((), (RulesPlanner(),)):
        played = play(replace(given, members=members), *planners)
        assert played.unmet() == []
        assert not played.entries


def test_only_intervals_count_as_changes_of_pace() -> None:
    rules = [{"when": {"status": {"op": "==", "value": 429}}, "then": {"pause_minutes": 90}}]
    given = SCENARIOS["ratelimit"]
    played = play(replace(given, members=(replace(given.members[0], rules=rules),)), RulesPlanner())
    assert [entry.tool for entry in played.applied("quota")] == ["pause_until", "pause_until"]
    assert played.changes_of_pace("quota") == 0


def test_documented_scenario_can_be_played() -> None:
    code = (PROJECT_DIR / "docs" / "evaluation.md").read_text().split("```python")[1].split("```")[0]
    names: dict[str, Any] = dict(vars(world))
    exec(code, names)  # noqa: S102
    assert play(names["WORLD"], RulesPlanner()).unmet() == []
    assert play(names["WORLD"]).unmet() == ["It is watched."]


def test_every_scenario_is_documented() -> None:
    text = (PROJECT_DIR / "docs" / "evaluation.md").read_text()
    assert all(f"| `{name}` |" in text for name in SCENARIOS)
