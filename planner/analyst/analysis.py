"""One analysis of one endpoint by the model: a briefing, a few rounds of tool calls, a session on record.

The session's row is written before the model is asked, as failed (`interrupted`), and completed at the end: a planner
that is killed leaves its record and the tokens it spent. Each proposal is one transaction with its hint.
"""

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from cronicorn.logging import Event, log_event
from cronicorn.runtime.clock import monotonic_ns
from cronicorn.runtime.stopping import Stop
from jobs.conditions import visible
from jobs.models import Endpoint
from planner.analyst.briefing import PROMPT_VERSION, Briefing, messages
from planner.analyst.budgets import LEAST_TOKENS, budgets_of, locked_budgets_of
from planner.analyst.conversation import Carried, Ended, Limits, ModelError, converse
from planner.analyst.dossier import (
    Subject,
    briefing_of,
    latest_response,
    prices,
    response_history,
    sibling_responses,
    subject_of,
)
from planner.analyst.llm import MOST_COMPLETION_TOKENS, Model, ModelAccess
from planner.attention.discovery import LONGEST_BODY, release, remembered_numbers
from planner.attention.policy import AFTER_FAILED_SESSION, Trigger, body_shape, next_look
from planner.models import AnalysisSession, Backend, SessionStatus
from planner.proposals.filing import bounds_of, file_proposal
from planner.proposals.inforce import advised_on
from planner.proposals.wishes import (
    Arguments,
    BadArgumentsError,
    GetLatestResponse,
    GetResponseHistory,
    Speaker,
    SubmitAnalysis,
    Wish,
    tool_schemas,
)
from planner.rules.snapshots import now, sibling_named

logger = logging.getLogger(__name__)

SHOWN_LENGTH = 1_000


@dataclass(frozen=True, slots=True)
class Task:
    """An endpoint to analyse and why; `worker` holds its lease."""

    endpoint_id: UUID
    trigger: Trigger
    worker: str


@dataclass(frozen=True, slots=True)
class Analysed:
    """What became of a task. `error` is the model's, if it had one.

    `waits` says that nothing was begun because the tokens left today are set aside for analyses in flight, or used up.
    """

    stored: bool
    error: ModelError | None = None
    waits: bool = False


def analyse(task: Task, access: ModelAccess, stop: Stop) -> Analysed:
    """Analyses the endpoint, stores the session and gives the lease back.

    Whatever the model does ends in a stored session; of an endpoint that is deleted meanwhile nothing is left. A stop
    ends it after the answer that is waited for. Raises django.db.Error when the database is away.
    """
    began_ns = monotonic_ns()
    try:
        subject = subject_of(task.endpoint_id)
    except Endpoint.DoesNotExist:
        return Analysed(stored=False)
    at = now()
    limits_ms = bounds_of(subject.endpoint, at).limits_ms()
    briefing = briefing_of(subject, trigger=task.trigger.value, limits_ms=limits_ms, now=at)
    session, token_cap = _begun(task, subject, briefing, access)
    if session is None:
        release(worker=task.worker, endpoint_id=task.endpoint_id, next_analysis_at=subject.endpoint.next_analysis_at)
        return Analysed(stored=False, waits=True)

    def seconds_used() -> float:
        return (monotonic_ns() - began_ns) / 1e9

    tools = tool_schemas(siblings=bool(subject.siblings))
    try:
        with Model(access) as model:
            ended = converse(
                messages(briefing, tools),
                tools,
                ask=lambda said, tools, seconds: model.ask(said, tools, seconds=seconds),
                use=lambda arguments: _use(arguments, subject, session),
                limits=Limits(tokens=token_cap, answer_tokens=MOST_COMPLETION_TOKENS),
                seconds_used=seconds_used,
                on_answer=lambda prompt, completion: _book(session, prompt, completion),
                on_call=lambda carried: _note(session, carried),
                wait=stop.wait,
                stopped=stop.requested,
            )
        session.duration_ms = seconds_used() * 1e3
        _finish(task, session, ended)
    except Exception:
        if _given_up(task, session):
            raise
        log_event(logger, Event.ANALYSIS_FAILED, logging.WARNING, endpoint=task.endpoint_id, kind="endpoint_deleted")
        return Analysed(stored=False)
    return Analysed(stored=True, error=ended.error)


def _begun(task: Task, subject: Subject, briefing: Briefing, access: ModelAccess) -> tuple[AnalysisSession | None, int]:
    """Stores the session as interrupted, with its tokens set aside, and tells how many; None where too few are left."""
    endpoint, body = subject.endpoint, briefing.body
    with transaction.atomic():
        budgets = locked_budgets_of(endpoint.owner_id, briefing.now)
        token_cap = min(budgets.left, settings.ENV.ai_session_token_limit)
        if token_cap < LEAST_TOKENS:
            return None, 0
        session = AnalysisSession.objects.create(
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            trigger=task.trigger.value,
            analyzed_at=briefing.now,
            backend=Backend.OPENAI,
            model=access.model,
            prompt_version=PROMPT_VERSION,
            status=SessionStatus.FAILED,
            error_kind="interrupted",
            endpoint_failure_count=endpoint.failure_count,
            body_shape=body_shape(body) if body is not None and len(body) <= LONGEST_BODY else None,
            body_numbers=remembered_numbers(endpoint.pk),
            next_analysis_at=briefing.now + AFTER_FAILED_SESSION,
        )
    return session, token_cap


def _book(session: AnalysisSession, prompt: int, completion: int) -> None:
    """Books the tokens of an answer at once, so that a killed planner does not forget them."""
    session.prompt_tokens += prompt
    session.completion_tokens += completion
    session.estimated_cost_usd = prices().cost_of(session.model, session.prompt_tokens, session.completion_tokens)
    session.save(update_fields=["prompt_tokens", "completion_tokens", "estimated_cost_usd"])


def _note(session: AnalysisSession, carried: Carried) -> None:
    """Notes a tool call at once, for the same reason."""
    noted = {"name": visible(carried.name)[:64], "arguments": visible(carried.arguments)[:SHOWN_LENGTH]}
    session.tool_calls.append(noted | {"error" if carried.fault else "result": visible(carried.result)[:SHOWN_LENGTH]})
    session.save(update_fields=["tool_calls"])


def _use(arguments: Arguments, subject: Subject, session: AnalysisSession) -> str:
    """Carries out one tool call; returns what the model is told. Raises BadArgumentsError for an unknown sibling."""
    if isinstance(arguments, Wish):
        return _propose(arguments, subject, session)
    if isinstance(arguments, GetLatestResponse):
        return json.dumps(latest_response(subject), ensure_ascii=False)
    if isinstance(arguments, GetResponseHistory):
        asked = {"limit": arguments.limit, "offset": arguments.offset}
        history = response_history(subject, **asked, include_bodies=arguments.include_bodies)
        return json.dumps(history, ensure_ascii=False)
    include = bool(getattr(arguments, "include_responses", False))
    return json.dumps(sibling_responses(subject, include_responses=include), ensure_ascii=False)


def _propose(wish: Wish, subject: Subject, session: AnalysisSession) -> str:
    target: UUID | None = subject.endpoint.pk
    if wish.endpoint is not None and wish.endpoint != subject.endpoint.name:
        # The database takes no text with a zero byte, not even to look for.
        target = sibling_named(subject.endpoint.pk, wish.endpoint) if "\0" not in wish.endpoint else None
    if target is None:
        raise BadArgumentsError("Refused: there is no endpoint of that name in this job.")
    try:
        filed = file_proposal(
            endpoint_id=target,
            wish=wish,
            speaker=Speaker.MODEL,
            session_id=session.pk,
            from_sibling=subject.endpoint.name if target != subject.endpoint.pk else None,
        )
    except Endpoint.DoesNotExist:
        raise BadArgumentsError("Refused: this endpoint is gone.") from None
    return f"{filed.status or 'Not done'}. {filed.note}".strip()


def _finish(task: Task, session: AnalysisSession, ended: Ended) -> None:
    """Completes the record and gives the endpoint back, in one transaction."""
    with transaction.atomic():
        at = now()
        verdict = ended.verdict
        session.status, session.error_kind = SessionStatus(ended.status), ended.kind
        if verdict is not None:
            session.reasoning, session.confidence = visible(verdict.reasoning), verdict.confidence
        session.next_analysis_at = _due_again(session, verdict, at)
        session.warnings = list(ended.warnings)
        if budgets_of(session.owner_id, at).used_up:
            session.warnings.append("The day's tokens are used up: until midnight UTC only rules decide.")
        session.save(force_update=True)
        release(worker=task.worker, endpoint_id=task.endpoint_id, next_analysis_at=session.next_analysis_at)
    if session.status != SessionStatus.COMPLETED:
        facts = {"endpoint": task.endpoint_id, "session": session.pk, "kind": session.error_kind}
        log_event(logger, Event.ANALYSIS_FAILED, logging.WARNING, **facts)


def _given_up(task: Task, session: AnalysisSession) -> bool:
    """Ends the record of an analysis that met a fault of ours, and gives the endpoint back.

    False where the record is gone, with its endpoint.
    """
    with transaction.atomic():
        due = now() + AFTER_FAILED_SESSION
        found = AnalysisSession.objects.filter(pk=session.pk)
        given_up = found.update(status=SessionStatus.FAILED, error_kind="planner_fault", next_analysis_at=due)
        release(worker=task.worker, endpoint_id=task.endpoint_id, next_analysis_at=due)
    return bool(given_up)


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
