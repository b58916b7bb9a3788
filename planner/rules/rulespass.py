"""The rules pass: looks at endpoints with new runs and files what their rules and the heuristics advise.

What it files on one endpoint belongs to one session, so that every proposal says where it came from; a pass that files
nothing leaves no trace.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import Error, OperationalError, transaction
from psycopg.errors import LockNotAvailable

from cronicorn.logging import Event, log_event
from cronicorn.postgres.sqlstate import Remedy, remedy_of
from jobs.models import Endpoint, PlannerMode
from planner.models import AnalysisSession, Backend, Proposal, ProposalStatus, SessionStatus
from planner.proposals.filing import WITHDRAWN, Filed, file_proposal, file_refusal, locked_endpoint, withdraw_run
from planner.rules.advice import Advice, Watched, advise, why_deaf
from planner.rules.memory import Memory, Standing
from planner.rules.snapshots import NO_ID, endpoints_with_recent_runs, mark_seen, now, sibling_named, watched

logger = logging.getLogger(__name__)

BATCH = 100
TRIGGER = "new_runs"
# Reaches back beyond the last pass: a run is seen only when its transaction has ended, later than the time it names.
# Runs that were written later still, as after an outage of the database, wait for a pass that looks back without end.
OVERLAP = timedelta(seconds=15)
UNHEARD = (ProposalStatus.REFUSED, ProposalStatus.HELD)


@dataclass(frozen=True, slots=True)
class Passed:
    """What a pass did: how many endpoints it looked at, how many proposals it stored, and when it began."""

    began_at: datetime
    looked_at: int
    stored: int


def rules_pass(*, last_pass_at: datetime | None, heuristics: bool) -> Passed:
    """Looks once at every endpoint with runs that were not looked at; `last_pass_at` None looks back without end.

    A fault in one endpoint is logged and does not disturb the others; one whose row somebody keeps locked is looked at
    again later. Raises django.db.Error when the database is away.
    """
    began_at = now()
    place = None if last_pass_at is None else (last_pass_at - OVERLAP, NO_ID)
    looked_at = stored = 0
    while batch := endpoints_with_recent_runs(place, heuristics=heuristics, limit=BATCH):
        found, unreadable = watched([endpoint_id for _, endpoint_id in batch], began_at)
        for endpoint_id, error in unreadable.items():
            log_event(logger, Event.PASS_FAILED, logging.ERROR, endpoint=endpoint_id, error=str(error))
        locked: set[UUID] = set()
        memories: dict[UUID, Memory] = {}
        for item in found:
            try:
                stored += _file_all(item, began_at, heuristics=heuristics)
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise
                locked.add(item.endpoint_id)
                facts = {"endpoint": item.endpoint_id, "error": str(error).strip()}
                log_event(logger, Event.PASS_FAILED, logging.WARNING, **facts)
            else:
                if item.endpoint_id not in unreadable:
                    memories[item.endpoint_id] = item.remembered()
        mark_seen([seen for seen in batch if seen[1] not in locked], memories)
        looked_at += len(batch)
        if len(batch) < BATCH:
            break
        place = batch[-1]
    return Passed(began_at, looked_at, stored)


def _file_all(item: Watched, at: datetime, *, heuristics: bool) -> int:
    """Files all advice on one endpoint, each in a transaction of its own; returns how much was stored.

    Raises django.db.Error where nothing can be stored now: the database is away or refuses, or a row is locked.
    """
    session: AnalysisSession | None = None
    stored = 0
    try:
        for ended in item.remembered().ended:
            _withdraw(item, ended)
        for advice in advise(item, at, heuristics=heuristics):
            with transaction.atomic():
                filed = _file(item, advice, at)
                if filed is not None and filed.proposal_id is not None and not filed.renewed:
                    session = _noted(session, item, advice, filed, at)
                    stored += 1
    except Exception as error:
        if isinstance(error, Error) and remedy_of(error) is not Remedy.ROW:
            raise
        logger.exception(Event.PASS_FAILED.value, extra={"facts": {"endpoint": item.endpoint_id}})
    return stored


def _withdraw(item: Watched, ended: Standing) -> None:
    """Drops the run of a sibling that a rule asked for and that still waits, now that the rule's reason is gone."""
    sibling = sibling_named(item.endpoint_id, ended.sibling or "")
    if sibling is not None:
        why = f'the rule "{ended.key}" of endpoint "{item.name}" no longer matches'
        withdraw_run(endpoint_id=sibling, key=f"{item.endpoint_id}:{ended.key}"[:255], why=why)


def _file(item: Watched, advice: Advice, at: datetime) -> Filed | None:
    """Files one piece of advice; None where a sibling was asked already."""
    target, key = item.endpoint_id, advice.key
    if advice.wish.endpoint is not None:
        sibling = sibling_named(item.endpoint_id, advice.wish.endpoint)
        is_off = sibling is not None and Endpoint.objects.filter(pk=sibling, planner_mode=PlannerMode.OFF).exists()
        deaf = why_deaf(advice.wish.endpoint, known=sibling is not None, is_off=is_off)
        if sibling is None or deaf is not None:
            return file_refusal(
                endpoint_id=item.endpoint_id, wish=advice.wish, speaker=advice.speaker, key=key, why=deaf or ""
            )
        target = sibling
        key = f"{item.endpoint_id}:{advice.key}"[:255]
        # Two planners may see the same run: the one that waited for the row finds what the other has filed.
        locked_endpoint(target)
        if _asked_already(target, key, advice, at):
            return None
    return file_proposal(
        endpoint_id=target, wish=advice.wish, speaker=advice.speaker, key=key, own_only=advice.own_only
    )


def _noted(
    session: AnalysisSession | None, item: Watched, advice: Advice, filed: Filed, at: datetime
) -> AnalysisSession:
    """The pass's session on this endpoint with one more proposal in it; the first one makes the session."""
    call = {
        "name": advice.wish.tool,
        "arguments": advice.wish.model_dump_json(exclude_none=True),
        "result": f"{filed.status}. {filed.note}".strip(),
    }
    reason = f"{advice.key}: {advice.wish.reason}" if advice.key else advice.wish.reason
    if session is None:
        endpoint = Endpoint.objects.only("owner_id", "failure_count").get(pk=item.endpoint_id)
        session = AnalysisSession(
            endpoint=endpoint,
            owner_id=endpoint.owner_id,
            trigger=TRIGGER,
            analyzed_at=at,
            backend=Backend.RULES,
            status=SessionStatus.COMPLETED,
            endpoint_failure_count=endpoint.failure_count,
        )
    session.tool_calls = [*session.tool_calls, call]
    session.reasoning = f"{session.reasoning}\n{reason}".strip()
    session.save()
    assert filed.proposal_id is not None
    Proposal.objects.filter(pk=filed.proposal_id).update(session=session)
    return session


def _asked_already(target: UUID, key: str, advice: Advice, at: datetime) -> bool:
    """Whether this rule has asked the sibling already, or another one has, and was heard: one run serves them all.

    A run that was withdrawn, or that never came in the life of its hint, served nobody.
    """
    asked = Proposal.objects.filter(endpoint_id=target, cause=advice.speaker.value, tool=advice.wish.tool)
    if advice.since is None:
        asked = asked.filter(cause_key=key)
    last = asked.exclude(status__in=UNHEARD).order_by("-created_at").first()
    if last is None or last.ended_by == WITHDRAWN:
        return False
    if last.status == ProposalStatus.EXPIRED and last.applied_at is not None:
        return False
    return advice.asked_already(last.created_at, at)
