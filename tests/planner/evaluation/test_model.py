"""The model's side of a play: who is looked at, what the tools tell, when it gives up."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from planner.analyst.conversation import Answer, ModelError, ToolCall
from planner.evaluation.desk import Desk
from planner.evaluation.history import PlayedRun
from planner.evaluation.model import ModelPlanner
from planner.evaluation.play import play
from planner.evaluation.scenarios import SCENARIOS
from planner.evaluation.world import Member, Moment, Reply, World
from scheduling.exchange.masking import Masker
from scheduling.simulation import scenario

SUBMIT = ("submit_analysis", {"reasoning": "well", "confidence": 0.5})


def world(**fields: Any) -> World:
    def well(at: Moment) -> Reply:
        return Reply({"n": 1})

    columns = {"baseline_interval_ms": 120_000}
    members = (Member("a", columns), Member("b", columns))
    return World("w", "", 60, members, lambda: {"a": well, "b": well}, **fields)


class Says:
    """Answers with these calls, one list for each question and the last one again, and notes what it was told."""

    def __init__(self, *answers: list[tuple[str, dict[str, Any]]]) -> None:
        self._answers = list(answers)
        self.told: list[str] = []
        self.questions = 0

    def __call__(self, said: list[dict[str, Any]], tools: list[dict[str, Any]], seconds: float) -> Answer:
        self.told += [message["content"] for message in said if message["role"] == "tool"]
        calls = self._answers[min(self.questions, len(self._answers) - 1)]
        self.questions += 1
        return Answer("", tuple(ToolCall(str(n), name, json.dumps(args)) for n, (name, args) in enumerate(calls)))


def looked_at(planner: ModelPlanner, given: World) -> list[tuple[str, float]]:
    return [(session.endpoint, given.minute_of(session.at)) for session in planner.sessions]


def test_endpoint_is_looked_at_once_and_then_when_it_is_due() -> None:
    given = replace(world(), minutes=80)
    planner = ModelPlanner(Says([SUBMIT]))
    play(given, planner)
    assert looked_at(planner, given) == [("a", 5), ("b", 5), ("a", 65), ("b", 65)]
    assert [session.trigger.value for session in planner.sessions] == ["never_analysed"] * 2 + ["due"] * 2
    assert all(session.prompt_tokens > 500 for session in planner.sessions)


def test_endpoint_that_is_off_or_was_paused_by_a_person_is_not_looked_at() -> None:
    given = world()
    off = replace(given.members[0], mode="off")
    rest = scenario.Pause(given.at(40), "mine")
    given = replace(given, members=(off, given.members[1]), events=(scenario.Event(given.at(3), "b", rest),))
    planner = ModelPlanner(Says([SUBMIT]))
    play(given, planner)
    assert looked_at(planner, given) == [("b", 40)]


def test_tools_tell_of_the_virtual_history() -> None:
    asked = [("get_latest_response", {}), ("get_response_history", {"limit": 2}), ("get_sibling_latest_responses", {})]
    says = Says(asked, [SUBMIT])
    play(replace(world(), minutes=6), ModelPlanner(says))
    latest, history, siblings = (json.loads(told) for told in says.told[:3])
    assert latest["untrusted_body"] == '"{\\"n\\": 1}"'
    assert [entry["status"] for entry in history["runs"]] == ["success", "success"]
    assert siblings["siblings"][0]["name"] == '"b"'


def test_sibling_of_another_job_cannot_be_named() -> None:
    given = world()
    stranger = replace(given.members[1], job="other")
    wish = ("propose_interval", {"interval_ms": 60_000, "reason": "r", "endpoint": "b"})
    says = Says([wish], [SUBMIT])
    planner = ModelPlanner(says)
    played = play(replace(given, members=(given.members[0], stranger), minutes=6), planner)
    assert not played.entries
    assert "no endpoint of that name" in says.told[0]


def test_what_is_in_force_already_is_not_done() -> None:
    wish = ("propose_interval", {"interval_ms": 60_000, "reason": "r"})
    says = Says([wish, wish], [SUBMIT])
    played = play(replace(world(), minutes=6, members=world().members[:1]), ModelPlanner(says))
    assert [entry.session for entry in played.entries] == [1]
    assert says.told[:2] == ["applied.", "Not done. This is in force already."]


def test_service_that_refuses_is_not_asked_again() -> None:
    def refuses(said: object, tools: object, seconds: float) -> Answer:
        raise ModelError("unauthorized", "The service answered 401.", hopeless=True)

    planner = ModelPlanner(refuses)
    play(world(), planner)
    assert planner.gave_up == "The service answered 401."
    assert [session.kind for session in planner.sessions] == ["unauthorized"]


def test_failed_analysis_is_repeated_ten_minutes_later() -> None:
    def stumbles(said: object, tools: object, seconds: float) -> Answer:
        raise ModelError("timeout", "The model did not answer in time.")

    given = replace(world(), minutes=28, members=world().members[:1])
    planner = ModelPlanner(stumbles)
    play(given, planner)
    assert looked_at(planner, given) == [("a", 5), ("a", 15), ("a", 25)]
    assert planner.sessions[0].to_json()["kind"] == "timeout"


def test_secrets_of_the_record_are_masked() -> None:
    said: list[str] = []

    def listens(messages: list[dict[str, Any]], tools: object, seconds: float) -> Answer:
        said.append(messages[1]["content"])
        return Answer("", (ToolCall("1", SUBMIT[0], json.dumps(SUBMIT[1])),))

    given = world(secrets=Masker(["hunter2-hunter2"]))
    given = replace(given, targets=lambda: dict.fromkeys("ab", lambda at: Reply({"echo": "hunter2-hunter2"})))
    play(replace(given, minutes=6), ModelPlanner(listens))
    assert "Latest body" in said[0]
    assert "hunter2-hunter2" not in said[0]


class Counts:
    """Counts the passes of others."""

    def __init__(self) -> None:
        self.woken_at: list[float] = []

    def begin(self, desk: Desk) -> None:
        self.desk = desk
        desk.stage.wake(desk.world.start + timedelta(minutes=7))

    def settled(self, run: PlayedRun) -> None:
        pass

    def woken(self) -> None:
        self.woken_at.append(self.desk.world.minute_of(self.desk.now))


def test_planners_do_not_disturb_each_others_passes() -> None:
    planner, counts = ModelPlanner(Says([SUBMIT])), Counts()
    play(replace(world(), minutes=11), planner, counts)
    assert counts.woken_at == [5, 7, 10]
    assert len(planner.sessions) == 2


@pytest.mark.parametrize("name", ["volume", "sibling"])
def test_one_shot_hint_that_waits_is_told_to_the_model(name: str) -> None:
    told: list[str] = []

    def plans_ahead(messages: list[dict[str, Any]], tools: object, seconds: float) -> Answer:
        told.append(messages[1]["content"])
        at = (SCENARIOS[name].at(59) if len(told) == 1 else SCENARIOS[name].at(61)).isoformat()
        wish = {"next_run_at": at, "ttl_minutes": 120, "reason": "look"}
        submit = {**SUBMIT[1], "next_analysis_in_ms": 300_000}
        calls = (("propose_next_time", wish), (SUBMIT[0], submit))
        return Answer("", tuple(ToolCall(str(n), tool, json.dumps(args)) for n, (tool, args) in enumerate(calls)))

    given = SCENARIOS[name]
    play(replace(given, minutes=28), ModelPlanner(plans_ahead))
    assert "In force: nothing." in told[0]
    assert "one run at 12:59 UTC by model" in told[1]
