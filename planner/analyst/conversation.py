"""The conversation of an analysis: rounds, tool calls, corrections, limits. Pure: asking and doing are arguments."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from planner.analyst.briefing import estimated_tokens
from planner.proposals.wishes import Arguments, BadArgumentsError, SubmitAnalysis, Wish, read_arguments

RETRY_PAUSE = 1.0
# How a model ends that answers and is of no use. Answers are paid for, so these count like answers that never came.
USELESS = {
    "refused": "The model declined to answer.",
    "no_tool_call": "The model did not use the tools.",
    "bad_arguments": "The model used the tools wrongly.",
    "too_many_rounds": "The model came to no verdict.",
}


class ModelError(Exception):
    """The model gave no usable answer. `kind` names why; `hopeless` means that asking again will not help soon.

    `passing` means that the same question may be answered a moment later. `retry_after` is how many seconds the
    service asked to wait, at most ten minutes, None where it did not say.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        hopeless: bool = False,
        passing: bool = False,
        retry_after: float | None = None,
    ) -> None:
        self.kind = kind
        self.hopeless = hopeless
        self.passing = passing
        self.retry_after = retry_after
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model called; the arguments are the text as it came."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. Tokens are None where the service did not count them.

    `cut` says that it ended at the token limit, `refused` that the model or its service declined to answer.
    """

    text: str
    calls: tuple[ToolCall, ...]
    cut: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    refused: bool = False


Ask = Callable[[list[dict[str, Any]], list[dict[str, Any]], float], Answer]
Use = Callable[[Arguments], str]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where an analysis is cut; `tokens` counts questions and answers, `repairs` is how often it may be corrected.

    A question is not asked where it and an answer of `answer_tokens` might pass the tokens.
    """

    tokens: int
    answer_tokens: int = 1_000
    rounds: int = 8
    calls: int = 15
    writes: int = 3
    repairs: int = 2
    retries: int = 1
    seconds: float = 60.0


class EndStatus(StrEnum):
    """How a conversation ended; the values are those of `planner.models.SessionStatus`."""

    COMPLETED = "completed"
    FAILED = "failed"
    BUDGET_EXCEEDED = "budget_exceeded"


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: `kind` says why when not completed, `error` is what is held against the model's side.

    `verdict` is what was submitted, also where a limit cut the rest of that answer off.
    """

    status: EndStatus
    kind: str | None
    verdict: SubmitAnalysis | None
    warnings: tuple[str, ...]
    error: ModelError | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """One tool call and what the model was told of it; `fault` where it could not be carried out."""

    name: str
    arguments: str
    result: str
    fault: bool


class _CutError(Exception):
    def __init__(self, status: EndStatus, kind: str) -> None:
        self.status = status
        self.kind = kind
        super().__init__(kind)


def converse(
    said: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    *,
    ask: Ask,
    use: Use,
    limits: Limits,
    seconds_used: Callable[[], float],
    on_answer: Callable[[int, int], None],
    on_call: Callable[[Carried], None],
    wait: Callable[[float], object] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Ended:
    """Asks and carries out until the model submits or a limit cuts it off; `said` grows by what is said.

    `ask` may raise ModelError, which ends the conversation; where the error may pass, the question is asked again
    after `wait` (None: never). `use` may raise BadArgumentsError, which corrects the model. `on_answer` gets the prompt
    and completion tokens of each answer, estimated where the service does not count them; `on_call` each tool call.
    What else these raise is not caught. Once it is `stopped`, nothing new is asked or done.
    """
    talk = _Talk(said, tools, ask, use, limits, seconds_used, on_answer, on_call, wait, stopped)
    try:
        talk.run()
    except _CutError as cut:
        error = ModelError(cut.kind, USELESS[cut.kind]) if cut.kind in USELESS else None
        return Ended(cut.status, cut.kind, talk.verdict, tuple(talk.warnings), error)
    except ModelError as error:
        talk.warn(str(error))
        return Ended(EndStatus.FAILED, error.kind, talk.verdict, tuple(talk.warnings), error)
    return Ended(EndStatus.COMPLETED, None, talk.verdict, tuple(talk.warnings))


class _Talk:
    def __init__(
        self,
        said: list[dict[str, Any]],
        tools: list[dict[str, Any]],
        ask: Ask,
        use: Use,
        limits: Limits,
        seconds_used: Callable[[], float],
        on_answer: Callable[[int, int], None],
        on_call: Callable[[Carried], None],
        wait: Callable[[float], object] | None,
        stopped: Callable[[], bool],
    ) -> None:
        self._said = said
        self._tools = tools
        self._ask = ask
        self._use = use
        self._limits = limits
        self._seconds_used = seconds_used
        self._on_answer = on_answer
        self._on_call = on_call
        self._wait = wait
        self._stopped = stopped
        self._tokens = self._calls = self._writes = self._repairs = self._retries = 0
        self.verdict: SubmitAnalysis | None = None
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Adds a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def run(self) -> None:
        """Returns when the model has submitted. Raises _CutError and ModelError."""
        for _ in range(self._limits.rounds):
            answer = self._question()
            if answer.refused:
                raise _CutError(EndStatus.FAILED, "refused")
            self._said.append(as_message(answer))
            if not answer.calls and self.verdict is not None:
                return
            if not answer.calls:
                self._repair("no_tool_call")
                self._said.append({"role": "user", "content": "Use the tools; end with submit_analysis."})
                continue
            repairs = self._repairs
            for call in answer.calls:
                content = self._carry_out(call)
                self._said.append({"role": "tool", "tool_call_id": call.id, "content": content})
            # A call beside the verdict that could not be carried out is told, to be mended.
            if self.verdict is not None and self._repairs == repairs:
                return
        raise _CutError(EndStatus.FAILED, "too_many_rounds")

    def _question(self) -> Answer:
        """One answer, with its tokens counted; an error that may pass is tried again while retries and time last."""
        estimate = estimated_tokens(self._said, self._tools)
        if self._tokens + estimate + self._limits.answer_tokens > self._limits.tokens:
            raise _CutError(EndStatus.BUDGET_EXCEEDED, "token_limit")
        while True:
            try:
                answer = self._ask(self._said, self._tools, self._seconds_left())
                break
            except ModelError as error:
                used_up = self._retries >= self._limits.retries or self._seconds_left() <= RETRY_PAUSE
                if self._wait is None or used_up or not error.passing:
                    raise
                self._retries += 1
                self.warn(f"Asked again: {error}")
                self._wait(RETRY_PAUSE)
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            self.warn("The service did not count tokens; they are estimated.")
        if answer.cut:
            self.warn("An answer was cut at the token limit.")
        prompt = estimate if answer.prompt_tokens is None else answer.prompt_tokens
        completion = answer.completion_tokens
        if completion is None:
            completion = estimated_tokens([answer.text, *(call.arguments for call in answer.calls)])
        self._tokens += prompt + completion
        self._on_answer(prompt, completion)
        return answer

    def _seconds_left(self) -> float:
        if self._stopped():
            raise _CutError(EndStatus.FAILED, "stopped")
        left = self._limits.seconds - self._seconds_used()
        if left <= 0:
            raise _CutError(EndStatus.FAILED, "too_slow")
        return left

    def _carry_out(self, call: ToolCall) -> str:
        self._calls += 1
        if self._calls > self._limits.calls:
            raise _CutError(EndStatus.BUDGET_EXCEEDED, "too_many_calls")
        self._seconds_left()
        fault = False
        try:
            result = self._result(read_arguments(call.name, call.arguments))
        except BadArgumentsError as refusal:
            result, fault = str(refusal), True
        self._on_call(Carried(call.name, call.arguments, result, fault))
        if fault:
            self._repair("bad_arguments")
        return result

    def _result(self, arguments: Arguments) -> str:
        if isinstance(arguments, SubmitAnalysis):
            self.verdict = self.verdict or arguments
            return "Noted."
        if not isinstance(arguments, Wish):
            return self._use(arguments)
        if self._writes >= self._limits.writes:
            self.warn(f"More than {self._limits.writes} proposals; the others were not carried out.")
            return f"Not done: at most {self._limits.writes} proposals in an analysis."
        result = self._use(arguments)
        self._writes += 1
        return result

    def _repair(self, kind: str) -> None:
        self._repairs += 1
        self.warn(f"The model had to be corrected: {kind}.")
        if self._repairs > self._limits.repairs:
            raise _CutError(EndStatus.FAILED, kind)


def as_message(answer: Answer) -> dict[str, Any]:
    """The answer as part of the conversation; arguments that are not a JSON object are left out of it."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _object_or_empty(call)}}
        for call in answer.calls
    ]
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    return message | ({"tool_calls": calls} if calls else {"content": answer.text or "-"})


def _object_or_empty(call: ToolCall) -> str:
    try:
        return call.arguments if isinstance(json.loads(call.arguments), dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"
