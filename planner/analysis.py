"""One analysis of one endpoint by the model: a briefing, a few rounds of tool calls, a session on record.

The session's row is written before the model is asked, as failed (`interrupted`), and completed at the end: a planner
that is killed leaves its record and the tokens it spent. Each proposal is one transaction with its hint.
"""

import json
import logging
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import monotonic_ns
from jobs.conditions import visible
from planner.briefing import PROMPT_VERSION, estimated_tokens, messages
from planner.discovery import release
from planner.dossier import (
    Subject,
    briefing_of,
    latest_response,
    price_of,
    response_history,
    sibling_responses,
    subject_of,
)
from planner.inforce import advised_on
from planner.llm import Answer, Model, ModelAccess, ModelError, ToolCall
from planner.models import AnalysisSession, Backend, SessionStatus
from planner.policy import AFTER_FAILED_SESSION, Trigger, body_shape, next_look
from planner.proposals import (
    Arguments,
    BadArgumentsError,
    GetLatestResponse,
    GetResponseHistory,
    Speaker,
    SubmitAnalysis,
    Wish,
    read_arguments,
    tool_schemas,
)
from planner.services import bounds_of, file_proposal
from planner.snapshots import now, sibling_named

logger = logging.getLogger(__name__)

MOST_ROUNDS = 8
MOST_CALLS = 15
MOST_WRITES = 3
MOST_REPAIRS = 2
MOST_SECONDS = 60.0
SHOWN_LENGTH = 1_000


@dataclass(frozen=True, slots=True)
class Task:
    """An endpoint to analyse and why; `token_cap` is where the analysis is cut, `worker` holds the lease."""

    endpoint_id: UUID
    trigger: Trigger
    token_cap: int
    worker: str


class _EndedError(Exception):
    """Ends an analysis early: how it is stored, and why."""

    def __init__(self, status: SessionStatus, kind: str) -> None:
        self.status = status
        self.kind = kind
        super().__init__(kind)


@dataclass(slots=True)
class _Progress:
    """What an analysis has used up and found out."""

    began_ns: int
    calls: int = 0
    writes: int = 0
    repairs: int = 0
    verdict: SubmitAnalysis | None = None
    warnings: list[str] = field(default_factory=list)

    def seconds_left(self) -> float:
        return MOST_SECONDS - (monotonic_ns() - self.began_ns) / 1e9

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def analyse(task: Task, access: ModelAccess) -> ModelError | None:
    """Analyses the endpoint, stores the session and gives the lease back; returns the model's error if it had one.

    Whatever the model does ends in a stored session. Raises django.db.Error when the database is away.
    """
    subject = subject_of(task.endpoint_id)
    progress = _Progress(monotonic_ns())
    at = now()
    briefing = briefing_of(
        subject, trigger=task.trigger.value, floor_ms=bounds_of(subject.endpoint, at).floor_ms, now=at
    )
    session = AnalysisSession.objects.create(
        endpoint=subject.endpoint,
        owner_id=subject.endpoint.owner_id,
        trigger=task.trigger.value,
        analyzed_at=at,
        backend=Backend.OPENAI,
        model=access.model,
        prompt_version=PROMPT_VERSION,
        status=SessionStatus.FAILED,
        error_kind="interrupted",
        endpoint_failure_count=subject.endpoint.failure_count,
        body_shape=body_shape(briefing.body) if briefing.body is not None else None,
        next_analysis_at=at + AFTER_FAILED_SESSION,
    )
    model_error: ModelError | None = None
    try:
        _converse(task, subject, session, progress, access, messages(briefing))
        session.status, session.error_kind = SessionStatus.COMPLETED, None
    except _EndedError as ended:
        session.status, session.error_kind = ended.status, ended.kind
    except ModelError as error:
        session.error_kind, model_error = error.kind, error
        progress.warn(str(error))
    _finish(task, session, progress)
    return model_error


def _converse(
    task: Task,
    subject: Subject,
    session: AnalysisSession,
    progress: _Progress,
    access: ModelAccess,
    said: list[dict[str, Any]],
) -> None:
    """Asks and answers until the model submits. Raises _EndedError and ModelError."""
    tools = tool_schemas(siblings=bool(subject.siblings))
    with Model(access) as model:
        for _ in range(MOST_ROUNDS):
            seconds = progress.seconds_left()
            if seconds <= 0:
                raise _EndedError(SessionStatus.FAILED, "too_slow")
            estimate = estimated_tokens(said, tools)
            if session.prompt_tokens + session.completion_tokens + estimate > task.token_cap:
                raise _EndedError(SessionStatus.BUDGET_EXCEEDED, "token_limit")
            answer = model.ask(said, tools, seconds=seconds)
            _count(session, progress, answer, estimate)
            if answer.cut:
                progress.warn("An answer was cut at the token limit.")
            said.append(_as_message(answer))
            if not answer.calls:
                _repair(progress, "no_tool_call")
                said.append({"role": "user", "content": "Use the tools; end with submit_analysis."})
                continue
            for call in answer.calls:
                result = _carry_out(call, subject, session, progress)
                said.append({"role": "tool", "tool_call_id": call.id, "content": result})
            if progress.verdict is not None:
                return
    raise _EndedError(SessionStatus.FAILED, "too_many_rounds")


def _count(session: AnalysisSession, progress: _Progress, answer: Answer, estimate: int) -> None:
    """Books the tokens of an answer at once, so that a killed planner does not forget them."""
    if answer.prompt_tokens is None or answer.completion_tokens is None:
        progress.warn("The service did not count tokens; they are estimated.")
    prompt = estimate if answer.prompt_tokens is None else answer.prompt_tokens
    said = [answer.text, *(call.arguments for call in answer.calls)]
    completion = estimated_tokens(said) if answer.completion_tokens is None else answer.completion_tokens
    session.prompt_tokens += prompt
    session.completion_tokens += completion
    session.estimated_cost_usd = Decimal(str(round(price_of(session.prompt_tokens, session.completion_tokens), 6)))
    session.save(update_fields=["prompt_tokens", "completion_tokens", "estimated_cost_usd"])


def _as_message(answer: Answer) -> dict[str, Any]:
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


def _carry_out(call: ToolCall, subject: Subject, session: AnalysisSession, progress: _Progress) -> str:
    """Carries out one tool call and returns what the model is told; the call is noted in the session."""
    progress.calls += 1
    if progress.calls > MOST_CALLS:
        raise _EndedError(SessionStatus.BUDGET_EXCEEDED, "too_many_calls")
    if progress.seconds_left() <= 0:
        raise _EndedError(SessionStatus.FAILED, "too_slow")
    fault = False
    try:
        result = _use(read_arguments(call.name, call.arguments), subject, session, progress)
    except BadArgumentsError as refusal:
        result, fault = str(refusal), True
    noted = {"name": visible(call.name)[:64], "arguments": visible(call.arguments)[:SHOWN_LENGTH]}
    session.tool_calls.append(noted | {"error" if fault else "result": visible(result)[:SHOWN_LENGTH]})
    if fault:
        _repair(progress, "bad_arguments")
    return result


def _repair(progress: _Progress, kind: str) -> None:
    progress.repairs += 1
    progress.warn(f"The model had to be corrected: {kind}.")
    if progress.repairs > MOST_REPAIRS:
        raise _EndedError(SessionStatus.FAILED, kind)


def _use(arguments: Arguments, subject: Subject, session: AnalysisSession, progress: _Progress) -> str:
    """Raises BadArgumentsError where a named sibling does not exist."""
    if isinstance(arguments, SubmitAnalysis):
        progress.verdict = progress.verdict or arguments
        return "Noted."
    if isinstance(arguments, Wish):
        return _propose(arguments, subject, session, progress)
    if isinstance(arguments, GetLatestResponse):
        return json.dumps(latest_response(subject), ensure_ascii=False)
    if isinstance(arguments, GetResponseHistory):
        asked = {"limit": arguments.limit, "offset": arguments.offset}
        history = response_history(subject, **asked, include_bodies=arguments.include_bodies)
        return json.dumps(history, ensure_ascii=False)
    include = bool(getattr(arguments, "include_responses", False))
    return json.dumps(sibling_responses(subject, include_responses=include), ensure_ascii=False)


def _propose(wish: Wish, subject: Subject, session: AnalysisSession, progress: _Progress) -> str:
    if progress.writes >= MOST_WRITES:
        progress.warn(f"More than {MOST_WRITES} proposals; the others were not carried out.")
        return f"Not done: at most {MOST_WRITES} proposals in an analysis."
    target: UUID | None = subject.endpoint.pk
    if wish.endpoint is not None and wish.endpoint != subject.endpoint.name:
        target = sibling_named(subject.endpoint.pk, wish.endpoint)
    if target is None:
        raise BadArgumentsError("Refused: there is no endpoint of that name in this job.")
    progress.writes += 1
    filed = file_proposal(endpoint_id=target, wish=wish, speaker=Speaker.MODEL, session_id=session.pk)
    return f"{filed.status or 'Not done'}. {filed.note}".strip()


def _finish(task: Task, session: AnalysisSession, progress: _Progress) -> None:
    """Completes the record and gives the endpoint back, in one transaction."""
    with transaction.atomic():
        at = now()
        verdict = progress.verdict
        if verdict is not None:
            session.reasoning, session.confidence = visible(verdict.reasoning), verdict.confidence
        session.next_analysis_at = _due_again(session, verdict, at)
        session.warnings = progress.warnings
        session.duration_ms = (monotonic_ns() - progress.began_ns) / 1e6
        session.save()
        release(worker=task.worker, endpoint_id=task.endpoint_id, next_analysis_at=session.next_analysis_at)
    if session.status != SessionStatus.COMPLETED:
        facts = {"endpoint": task.endpoint_id, "session": session.pk, "kind": session.error_kind}
        log_event(logger, Event.ANALYSIS_FAILED, logging.WARNING, **facts)


def _due_again(session: AnalysisSession, verdict: SubmitAnalysis | None, at: datetime) -> datetime:
    if verdict is None:
        return at + AFTER_FAILED_SESSION
    endpoint = session.endpoint
    endpoint.refresh_from_db()
    advised = advised_on(endpoint, at)
    return next_look(
        at,
        failure_count=endpoint.failure_count,
        advised=advised.interval is not None or advised.pause is not None,
        asked_in_ms=verdict.next_analysis_in_ms,
    )
