"""The conversation with a plain asker: no database, no network, no clock."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from planner.analyst.conversation import (
    RETRY_PAUSE,
    Answer,
    Carried,
    Ended,
    EndStatus,
    Limits,
    ModelError,
    ToolCall,
    as_message,
    converse,
)
from planner.proposals.wishes import Arguments, BadArgumentsError, tool_schemas

PACE = json.dumps({"interval_ms": 30_000, "reason": "the queue is long"})
LIMITS = Limits(tokens=100_000)


def call(name: str, arguments: Any = "{}") -> ToolCall:
    return ToolCall("c1", name, arguments if isinstance(arguments, str) else json.dumps(arguments))


def answer(*calls: ToolCall, **fields: Any) -> Answer:
    return Answer(**{"text": "", "calls": calls, "prompt_tokens": 900, "completion_tokens": 60, **fields})


SUBMIT = call("submit_analysis", {"reasoning": "fine", "confidence": 0.5})
LOOK = call("get_latest_response")


@dataclass
class Scene:
    """A conversation with scripted answers, the last one again and again, and what became of it."""

    answers: list[Answer | ModelError]
    seconds_a_question: float = 0.0
    stops_after: int = 1_000
    asked: int = 0
    seconds: float = 0.0
    said: list[dict[str, Any]] = field(default_factory=lambda: [{"role": "user", "content": "Look."}])
    used: list[Arguments] = field(default_factory=list)
    booked: list[tuple[int, int]] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    given: list[float] = field(default_factory=list)

    def ask(self, said: list[dict[str, Any]], tools: list[dict[str, Any]], seconds: float) -> Answer:
        self.given.append(seconds)
        self.seconds += self.seconds_a_question
        chosen = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(chosen, ModelError):
            raise chosen
        return chosen

    def use(self, arguments: Arguments) -> str:
        self.used.append(arguments)
        return f"used {arguments.tool}"

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def play(
        self, limits: Limits = LIMITS, use: Callable[[Arguments], str] | None = None, patient: bool = True
    ) -> Ended:
        return converse(
            self.said,
            tool_schemas(siblings=True),
            ask=self.ask,
            use=use or self.use,
            limits=limits,
            seconds_used=lambda: self.seconds,
            on_answer=lambda prompt, completion: self.booked.append((prompt, completion)),
            on_call=self.carried.append,
            wait=self.wait if patient else None,
            stopped=lambda: self.asked >= self.stops_after,
        )


def test_a_verdict_in_the_first_answer_ends_it_after_all_calls_of_that_answer() -> None:
    scene = Scene([answer(call("propose_interval", PACE), SUBMIT, LOOK)])
    ended = scene.play()
    assert (ended.status, ended.kind, ended.warnings, ended.error) == (EndStatus.COMPLETED, None, (), None)
    assert ended.verdict is not None
    assert ended.verdict.confidence == 0.5
    assert [used.tool for used in scene.used] == ["propose_interval", "get_latest_response"]
    assert [(noted.name, noted.result) for noted in scene.carried] == [
        ("propose_interval", "used propose_interval"),
        ("submit_analysis", "Noted."),
        ("get_latest_response", "used get_latest_response"),
    ]
    assert scene.booked == [(900, 60)]


def test_the_first_verdict_counts() -> None:
    second = call("submit_analysis", {"reasoning": "no, bad", "confidence": 0.9})
    ended = Scene([answer(SUBMIT, second)]).play()
    assert ended.verdict is not None
    assert ended.verdict.reasoning == "fine"


def test_the_answers_and_results_are_said_again_in_the_next_round() -> None:
    scene = Scene([answer(LOOK), answer(SUBMIT)])
    scene.play()
    assert [message["role"] for message in scene.said] == ["user", "assistant", "tool", "assistant", "tool"]
    assert scene.said[2] == {"role": "tool", "tool_call_id": "c1", "content": "used get_latest_response"}


@pytest.mark.parametrize(
    ("answers", "limits", "status", "kind", "asked"),
    [
        ([answer(LOOK)], LIMITS, EndStatus.FAILED, "too_many_rounds", 8),
        ([answer(*[LOOK] * 20)], LIMITS, EndStatus.BUDGET_EXCEEDED, "too_many_calls", 1),
        ([answer(LOOK)], Limits(tokens=3_400), EndStatus.BUDGET_EXCEEDED, "token_limit", 2),
        ([answer(LOOK)], Limits(tokens=1_500), EndStatus.BUDGET_EXCEEDED, "token_limit", 0),
        ([answer(text="Well.")], LIMITS, EndStatus.FAILED, "no_tool_call", 3),
        ([answer(call("rm_rf"))], LIMITS, EndStatus.FAILED, "bad_arguments", 3),
        ([answer(call("propose_interval", "{"))], LIMITS, EndStatus.FAILED, "bad_arguments", 3),
        (
            [answer(text="Well."), answer(call("rm_rf")), answer(LOOK, call("rm_rf"))],
            LIMITS,
            EndStatus.FAILED,
            "bad_arguments",
            3,
        ),
        ([answer(text="I will not.", refused=True)], LIMITS, EndStatus.FAILED, "refused", 1),
    ],
)
def test_it_is_cut_at_its_limits(
    answers: list[Answer | ModelError], limits: Limits, status: EndStatus, kind: str, asked: int
) -> None:
    scene = Scene(answers)
    ended = scene.play(limits)
    assert (ended.status, ended.kind, ended.verdict, scene.asked) == (status, kind, None, asked)


@pytest.mark.parametrize("mended", [answer(call("propose_interval", PACE)), answer(text="Then not.")])
def test_a_proposal_that_came_unfit_beside_the_verdict_may_be_mended(mended: Answer) -> None:
    scene = Scene([answer(call("propose_interval", {"interval_ms": 30_000}), SUBMIT), mended])
    ended = scene.play()
    assert (ended.status, ended.kind, scene.asked) == (EndStatus.COMPLETED, None, 2)
    assert ended.verdict is not None
    assert [used.tool for used in scene.used] == [call.name for call in mended.calls]
    assert "reason: Field required" in scene.said[2]["content"]


def test_two_corrections_are_allowed_and_named() -> None:
    scene = Scene([answer(text="Well."), answer(call("rm_rf")), answer(SUBMIT)])
    ended = scene.play()
    assert ended.status is EndStatus.COMPLETED
    assert ended.warnings == (
        "The model had to be corrected: no_tool_call.",
        "The model had to be corrected: bad_arguments.",
    )
    assert scene.said[2] == {"role": "user", "content": "Use the tools; end with submit_analysis."}
    assert scene.carried[0].fault


def test_what_the_tool_refuses_is_a_correction_and_no_proposal() -> None:
    refusals = iter([BadArgumentsError("There is no such sibling.")])

    def use(arguments: Arguments) -> str:
        for refusal in refusals:
            raise refusal
        return "applied"

    scene = Scene([answer(*[call("propose_interval", PACE)] * 5, SUBMIT)])
    ended = scene.play(use=use)
    told = [noted.result for noted in scene.carried]
    assert told[:4] == ["There is no such sibling.", "applied", "applied", "applied"]
    assert told[4] == "Not done: at most 3 proposals in an analysis."
    assert "More than 3 proposals; the others were not carried out." in ended.warnings


def test_a_verdict_before_the_cut_is_kept() -> None:
    ended = Scene([answer(SUBMIT, *[LOOK] * 20)]).play()
    assert ended.status is EndStatus.BUDGET_EXCEEDED
    assert ended.verdict is not None


def test_time_runs_over_questions_and_calls() -> None:
    scene = Scene([answer(LOOK)], seconds_a_question=25.0)
    ended = scene.play()
    assert (ended.kind, scene.given, len(scene.used)) == ("too_slow", [60.0, 35.0, 10.0], 2)


def test_once_it_is_stopped_nothing_is_asked_or_done() -> None:
    scene = Scene([answer(LOOK)], stops_after=1)
    ended = scene.play()
    assert (ended.status, ended.kind, scene.asked, scene.used) == (EndStatus.FAILED, "stopped", 1, [])


def test_a_passing_error_is_asked_again_once_after_a_pause() -> None:
    away = ModelError("server_error", "The service answered 500.", passing=True)
    scene = Scene([away, answer(LOOK), answer(SUBMIT)])
    ended = scene.play()
    assert (ended.status, scene.waits) == (EndStatus.COMPLETED, [RETRY_PAUSE])
    assert ended.warnings == ("Asked again: The service answered 500.",)
    assert scene.given[1] == 60.0 - RETRY_PAUSE
    scene = Scene([away, answer(LOOK), away])
    ended = scene.play()
    assert (ended.status, ended.kind, ended.error, scene.asked) == (EndStatus.FAILED, "server_error", away, 3)


@pytest.mark.parametrize(
    ("error", "patient", "seconds_a_question"),
    [
        (ModelError("unauthorized", "401", hopeless=True), True, 0.0),
        (ModelError("timeout", "late", passing=True), False, 0.0),
        (ModelError("timeout", "late", passing=True), True, 59.5),
    ],
)
def test_what_cannot_pass_or_has_no_time_left_is_not_asked_again(
    error: ModelError, patient: bool, seconds_a_question: float
) -> None:
    scene = Scene([error], seconds_a_question)
    ended = scene.play(patient=patient)
    assert (ended.error, ended.kind, scene.asked, scene.waits) == (error, error.kind, 1, [])
    assert ended.warnings == (str(error),)


def test_tokens_that_were_not_counted_are_estimated_and_a_cut_answer_is_noted() -> None:
    scene = Scene([answer(SUBMIT, prompt_tokens=None, completion_tokens=None, cut=True)])
    ended = scene.play()
    assert ended.warnings == (
        "The service did not count tokens; they are estimated.",
        "An answer was cut at the token limit.",
    )
    ((prompt, completion),) = scene.booked
    assert prompt > 500
    assert completion > 10


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (answer(text="All is well."), "no_tool_call"),
        (answer(text="I will not.", refused=True), "refused"),
        (answer(call("propose_interval", {"interval_ms": 1})), "bad_arguments"),
        (answer(LOOK), "too_many_rounds"),
        (answer(*[LOOK] * 99), None),
        (answer(SUBMIT), None),
    ],
)
def test_answers_of_no_use_are_held_against_the_model(said: Answer, kind: str | None) -> None:
    ended = Scene([said]).play()
    assert (ended.error.kind if ended.error else None) == kind
    assert ended.error is None or not ended.error.hopeless


@pytest.mark.parametrize("arguments", ["[1]", "{", "[" * 100_000])
def test_arguments_that_are_no_object_are_not_said_again(arguments: str) -> None:
    message = as_message(answer(call("submit_analysis", arguments), text="so"))
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"
    assert as_message(answer())["content"] == "-"
