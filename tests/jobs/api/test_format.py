"""One way of writing in all answers: names in camelCase, instants in one format."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from jobs.api.stored import shown_form
from jobs.models import Endpoint, WorkerHeartbeat, WorkerKind
from planner.models import AnalysisSession, Backend, Proposal, ProposalStatus, SessionStatus, Tool
from tests.support.api import Api
from tests.support.factories import Cast, make_endpoint, make_job, make_run

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
LOOKS_LIKE_AN_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
NAME = re.compile(r"[a-z][A-Za-z0-9]*")
# What the user or the model wrote, and the names of headers.
FOREIGN = {"headers", "body", "rules", "successCriteria", "toolCalls"}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            assert NAME.fullmatch(name), f"{path}.{name}"
            if name not in FOREIGN:
                yield from leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def make_everything(owner: Any) -> Endpoint:
    """An endpoint on which every instant and every stored document is set."""
    now = datetime.now(UTC)
    whole = now.replace(microsecond=0)
    endpoint = make_endpoint(
        make_job(owner),
        starts_at=whole - timedelta(days=1),
        ends_at=whole + timedelta(days=30),
        min_interval_ms=30_000,
        max_interval_ms=900_000,
        jitter_ms=5_000,
        ai_hint_interval_ms=60_000,
        ai_hint_interval_expires_at=whole + timedelta(hours=1),
        ai_hint_interval_set_by="planner",
        ai_hint_next_run_at=now + timedelta(minutes=20),
        ai_hint_next_run_expires_at=now + timedelta(hours=1),
        ai_hint_next_run_set_by="planner",
        paused_until=whole + timedelta(minutes=1),
        paused_by="user",
        last_slot_at=whole - timedelta(minutes=5),
        last_started_at=whole - timedelta(minutes=5),
        retry_at=whole + timedelta(seconds=20),
        retry_slot_at=whole - timedelta(minutes=5),
        retry_attempt=2,
        failure_count=1,
        failing_since=whole - timedelta(minutes=5),
        server_wait_since=whole - timedelta(minutes=4),
        server_wait_until=whole + timedelta(minutes=2),
        server_wait_reason="it answered 503 with Retry-After",
    )
    session = AnalysisSession.objects.create(
        endpoint=endpoint,
        owner=owner,
        trigger="first_look",
        backend=Backend.OPENAI,
        status=SessionStatus.COMPLETED,
        next_analysis_at=whole,
    )
    Proposal.objects.create(
        endpoint=endpoint,
        owner=owner,
        session=session,
        cause="model",
        tool=Tool.PROPOSE_NEXT_TIME,
        mode="auto",
        status=ProposalStatus.APPLIED,
        arguments_asked={"next_run_at": whole.isoformat(), "ttl_minutes": 30},
        arguments={"next_run_at": now.isoformat(), "ttl_minutes": 30},
        replaced_hint={"next_run_at": whole.isoformat(), "proposal_id": None},
        applied_at=whole,
        hint_expires_at=now,
    )
    make_run(
        endpoint,
        due_at=whole,
        decision=endpoint.next_decision,
        late_result={"status_code": 200, "finished_at": whole.isoformat(), "total_ms": 5.0},
    )
    WorkerHeartbeat.objects.create(worker="w", kind=WorkerKind.SCHEDULER, started_at=whole, seen_at=now)
    return endpoint


@pytest.mark.django_db
def test_names_are_in_camel_case_and_instants_in_one_format_in_every_answer(api: Api, cast: Cast) -> None:
    endpoint = make_everything(cast.alice)
    run, session = endpoint.runs.get(), endpoint.sessions.get()  # type: ignore[attr-defined]
    paths = [
        "/api/jobs",
        f"/api/jobs/{endpoint.job_id}",
        f"/api/jobs/{endpoint.job_id}/endpoints",
        f"/api/jobs/{endpoint.job_id}/endpoints/{endpoint.pk}",
        f"/api/endpoints/{endpoint.pk}/schedule",
        f"/api/endpoints/{endpoint.pk}/runs",
        f"/api/endpoints/{endpoint.pk}/health",
        f"/api/endpoints/{endpoint.pk}/sessions",
        f"/api/runs/{run.pk}",
        f"/api/sessions/{session.pk}",
        "/api/proposals",
        "/api/api-keys",
    ]
    answers = [api.get(path) for path in paths]
    answers.append(api.post("/api/schedule/preview", {"baselineIntervalMs": 60_000}))
    answers.append(Client().get("/api/health").json())
    found = [(path, value) for answer in answers for path, value in leaves(answer)]
    instants = [
        (path, value)
        for path, value in found
        if isinstance(value, str) and LOOKS_LIKE_AN_INSTANT.match(value) and not path.endswith(".local")
    ]
    assert len(instants) > 60
    assert [entry for entry in instants if not INSTANT.fullmatch(entry[1])] == []
    shown = api.get(f"/api/endpoints/{endpoint.pk}/schedule")["decision"]["inputs"]
    expected = {"minIntervalMs", "hintIntervalExpiresAt", "retrySlotAt", "failingSince", "serverWaitSince", "now"}
    assert expected <= shown.keys()


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ({"next_run_at": "2030-01-31T10:00:00+01:00"}, {"nextRunAt": "2030-01-31T09:00:00.000000Z"}),
        ({"until": "2030-01-31T09:00:00.5+00:00"}, {"until": "2030-01-31T09:00:00.500000Z"}),
        ({"failing_since": "2030-01-31T10:00:00+01:00"}, {"failingSince": "2030-01-31T09:00:00.000000Z"}),
        ({"next_run_at": "soon", "until": None, "at": 5}, {"nextRunAt": "soon", "until": None, "at": 5}),
        ({"next_run_at": "2030-01-31T09:00:00"}, {"nextRunAt": "2030-01-31T09:00:00"}),
        ({"next_run_at": "0001-01-01T00:00:00+05:00"}, {"nextRunAt": "0001-01-01T00:00:00+05:00"}),
        ({"reason": "2030-01-31T10:00:00+01:00"}, {"reason": "2030-01-31T10:00:00+01:00"}),
        ([{"a_b": [{"c_d": 1}]}, "x_y"], [{"aB": [{"cD": 1}]}, "x_y"]),
        ({"_private": 1, "ttl_2_minutes": 2}, {"_private": 1, "ttl2Minutes": 2}),
        (None, None),
    ],
)
def test_stored_documents_are_shown_with_our_names_and_instants(stored: Any, shown: Any) -> None:
    assert shown_form(stored) == shown
