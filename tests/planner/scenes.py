"""Endpoints with runs and responses as the planner meets them."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.models import Endpoint, PlannerMode, Run, RunResponse, RunStatus
from planner.models import Proposal, ProposalStatus
from planner.proposals.filing import file_proposal
from planner.proposals.wishes import ProposeInterval, Speaker
from tests.support.factories import make_endpoint, make_run

FASTER = ProposeInterval(interval_ms=30_000, reason="busy")
QUEUE_RULE = {"when": {"path": "$.queue_depth", "op": ">", "value": 100}, "then": {"interval_ms": 30_000}}


def utc_now() -> datetime:
    return datetime.now(UTC)


def ran(endpoint: Endpoint, body: Any = None, *, ago: float = 1.0, headers: Any = None, **fields: Any) -> Run:
    """A finished run that ended `ago` seconds ago, its response, and what settling writes on the endpoint."""
    finished_at = utc_now() - timedelta(seconds=ago)
    run = make_run(
        endpoint,
        due_at=finished_at - timedelta(milliseconds=60),
        started_at=finished_at - timedelta(milliseconds=50),
        finished_at=finished_at,
        **fields,
    )
    text = body if isinstance(body, str) else json.dumps(body)
    RunResponse.objects.create(
        run=run,
        endpoint=endpoint,
        received_at=finished_at,
        body=text,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        headers=headers or {},
    )
    failed = run.status == RunStatus.FAILED
    Endpoint.objects.filter(pk=endpoint.pk).update(
        last_run_at=finished_at,
        last_started_at=run.started_at,
        last_slot_at=run.scheduled_for,
        failure_count=endpoint.failure_count + 1 if failed else 0,
    )
    endpoint.refresh_from_db()
    return run


def busy_endpoint(**fields: Any) -> Endpoint:
    """An hourly endpoint whose queue is too long, with the owner's rule for that."""
    endpoint = make_endpoint(**{"baseline_interval_ms": 3_600_000, "rules": [QUEUE_RULE], **fields})
    ran(endpoint, {"queue_depth": 412})
    return endpoint


def file(endpoint: Endpoint, wish: Any = FASTER, speaker: Speaker = Speaker.MODEL, **options: Any) -> Proposal | None:
    """Files a wish; what was stored, if anything."""
    filed = file_proposal(endpoint_id=endpoint.pk, wish=wish, speaker=speaker, **options)
    return Proposal.objects.get(pk=filed.proposal_id) if filed.proposal_id is not None else None


def offered(wish: Any = FASTER, **fields: Any) -> tuple[Endpoint, Proposal]:
    """An endpoint whose owner wants to be asked, and what is offered."""
    endpoint = make_endpoint(planner_mode=PlannerMode.APPROVE, **fields)
    proposal = file(endpoint, wish)
    assert proposal is not None
    assert proposal.status == ProposalStatus.PENDING
    return endpoint, proposal
