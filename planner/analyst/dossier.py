"""Reads what the model is told of one endpoint, in its briefing and when it asks for more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from accounts.vault import SecretUnavailableError, unseal
from jobs.models import BaselineKind, Endpoint, EndpointStatus, PlannerMode, Run, RunResponse, RunStatus
from planner.analyst.briefing import (
    LONG_BODY_LENGTH,
    MOST_ACTIONS,
    MOST_RUNS,
    SHORT_BODY_LENGTH,
    ActionLine,
    Briefing,
    HealthLine,
    RunLine,
    SiblingLine,
    as_data,
    body_as_data,
)
from planner.analyst.pricing import Prices
from planner.models import Proposal
from planner.proposals.inforce import advised_on
from scheduling.exchange.masking import Masker
from scheduling.exchange.public_headers import is_public
from scheduling.plan.wording import duration_words, instant_words

HEALTH_HOURS = (1, 4, 24)
MOST_ENDPOINTS = 30
MOST_SEALED = 200
TOLD_ARGUMENTS = ("interval_ms", "ttl_minutes", "next_run_at", "until")
_FINISHED = (RunStatus.SUCCESS, RunStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Subject:
    """The endpoint under analysis, with the secrets that must not leave: its own and those of the rest of its job.

    `bodies_withheld` tells that not all of them are known, or there are more than can be masked: then no body leaves.
    """

    endpoint: Endpoint
    siblings: tuple[Endpoint, ...]
    secrets: Masker
    bodies_withheld: bool = False


def subject_of(endpoint_id: UUID) -> Subject:
    """The endpoint and the others of its job and owner, but archived ones and those that the planner is off for.

    Raises Endpoint.DoesNotExist.
    """
    endpoint = Endpoint.objects.get(pk=endpoint_id)
    others = Endpoint.objects.filter(job_id=endpoint.job_id, owner_id=endpoint.owner_id).exclude(pk=endpoint_id)
    shown = others.exclude(status=EndpointStatus.ARCHIVED).exclude(planner_mode=PlannerMode.OFF)
    siblings = tuple(shown.order_by("created_at", "id")[:MOST_ENDPOINTS])
    sealed = list(others.filter(headers_sealed__isnull=False).only("headers_sealed").order_by("-id")[: MOST_SEALED + 1])
    opened = [_secrets(each) for each in (endpoint, *sealed[:MOST_SEALED])]
    secrets = Masker(secret for values in opened if values is not None for secret in values)
    return Subject(endpoint, siblings, secrets, bodies_withheld=len(sealed) > MOST_SEALED or None in opened)


def _secrets(endpoint: Endpoint) -> list[str] | None:
    """The values of the endpoint's secret headers that are secret by nature; None where they cannot be read."""
    if endpoint.headers_sealed is None:
        return []
    try:
        values = unseal(f"job_endpoints:{endpoint.pk}", endpoint.headers_sealed)
    except SecretUnavailableError:
        return None
    if not isinstance(values, dict):
        return None
    return [str(value) for name, value in values.items() if not is_public(name)]


def briefing_of(subject: Subject, *, trigger: str, limits_ms: tuple[int, int], now: datetime) -> Briefing:
    """The facts of the endpoint as they stand; `limits_ms` are the fastest and the slowest interval of a hint."""
    endpoint = subject.endpoint
    latest = _latest_response(endpoint.pk)
    return Briefing(
        now=now,
        trigger=trigger.replace("_", " "),
        name=endpoint.name,
        description=endpoint.description,
        method=endpoint.method,
        baseline=_baseline(endpoint, now),
        limits_ms=limits_ms,
        failure_count=endpoint.failure_count,
        next_run_at=endpoint.next_run_at,
        next_source=endpoint.next_source,
        in_force=_in_force(endpoint, now),
        health=_health(endpoint.pk, now),
        runs=[_line(run) for run in _runs(endpoint.pk, 0, MOST_RUNS)],
        body=latest.body if latest is not None else None,
        actions=_actions(endpoint.pk),
        siblings=_sibling_lines(subject.siblings),
        secrets=subject.secrets,
        bodies_withheld=subject.bodies_withheld,
    )


def latest_response(subject: Subject) -> dict[str, Any]:
    """What `get_latest_response` answers."""
    response = _latest_response(subject.endpoint.pk)
    if response is None:
        return {"response": None}
    return {
        "received_at": response.received_at.isoformat(),
        "content_type": as_data(response.content_type or "", subject.secrets, 100),
        "untrusted_body": _told_body(response.body, subject, LONG_BODY_LENGTH),
    }


def response_history(subject: Subject, *, limit: int, offset: int, include_bodies: bool) -> dict[str, Any]:
    """What `get_response_history` answers."""
    runs = _runs(subject.endpoint.pk, offset, limit)
    bodies = _bodies(runs) if include_bodies else {}
    return {"runs": [_entry(run, bodies.get(run.pk), subject) for run in runs]}


def sibling_responses(subject: Subject, *, include_responses: bool) -> dict[str, Any]:
    """What `get_sibling_latest_responses` answers."""
    latest = _latest_runs([sibling.pk for sibling in subject.siblings])
    bodies = _bodies(list(latest.values())) if include_responses else {}
    return {
        "siblings": [
            {"name": as_data(sibling.name, subject.secrets, 100), "failures_in_a_row": sibling.failure_count}
            | (_entry(run, bodies.get(run.pk), subject) if (run := latest.get(sibling.pk)) else {})
            for sibling in subject.siblings
        ]
    }


def _entry(run: Run, body: str | None, subject: Subject) -> dict[str, Any]:
    entry = {
        "at": run.due_at.isoformat(timespec="seconds"),
        "status": run.status,
        "status_code": run.status_code,
        "duration_ms": round(run.duration_ms) if run.duration_ms is not None else None,
        "error_kind": run.error_kind,
    }
    if body is not None:
        entry["untrusted_body"] = _told_body(body, subject, SHORT_BODY_LENGTH)
    return entry


def _told_body(body: str, subject: Subject, limit: int) -> str:
    return body_as_data(body, subject.secrets, limit, withheld=subject.bodies_withheld)


def _baseline(endpoint: Endpoint, now: datetime) -> str:
    if endpoint.baseline_kind is BaselineKind.INTERVAL:
        return f"baseline every {duration_words(endpoint.baseline_interval_ms or 0)}"
    if endpoint.baseline_kind is BaselineKind.CRON:
        return f"baseline cron {endpoint.baseline_cron} in {endpoint.timezone}"
    return f"once at {instant_words(endpoint.run_once_at, now)}" if endpoint.run_once_at else "once"


def _in_force(endpoint: Endpoint, now: datetime) -> list[str]:
    advised = advised_on(endpoint, now)
    words = []
    if advised.interval is not None and advised.interval.interval_ms is not None:
        pace, until = duration_words(advised.interval.interval_ms), instant_words(advised.interval.expires_at, now)
        words.append(f"every {pace} until {until} by {advised.interval.speaker.value}")
    if advised.oneshot is not None and endpoint.ai_hint_next_run_at is not None:
        at = instant_words(endpoint.ai_hint_next_run_at, now)
        words.append(f"one run at {at} by {advised.oneshot.speaker.value}")
    if advised.pause is not None:
        words.append(f"paused until {instant_words(advised.pause.expires_at, now)} by {advised.pause.speaker.value}")
    return words


def _health(endpoint_id: UUID, now: datetime) -> list[HealthLine]:
    columns = ", ".join(
        f"count(*) FILTER (WHERE due_at > %(h{hours})s), "
        f"count(*) FILTER (WHERE due_at > %(h{hours})s AND status = 'success'), "
        f"percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE due_at > %(h{hours})s)"
        for hours in HEALTH_HOURS
    )
    since = {f"h{hours}": now - timedelta(hours=hours) for hours in HEALTH_HOURS}
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns} FROM runs WHERE endpoint_id = %(id)s"  # noqa: S608  columns are made of constants
            f" AND status IN ('success', 'failed') AND due_at > %(h{max(HEALTH_HOURS)})s",
            {"id": endpoint_id, **since},
        )
        row = cursor.fetchone()
    lines = []
    for number, hours in enumerate(HEALTH_HOURS):
        runs, succeeded, percentiles = row[3 * number : 3 * number + 3]
        p50, p95 = percentiles or (None, None)
        lines.append(HealthLine(hours, runs, succeeded, p50, p95))
    return lines


def _runs(endpoint_id: UUID, offset: int, limit: int) -> list[Run]:
    runs = Run.objects.filter(endpoint_id=endpoint_id, status__in=_FINISHED).defer("decision")
    return list(runs.order_by("-due_at")[offset : offset + limit])


def _latest_runs(endpoint_ids: Sequence[UUID]) -> dict[UUID, Run]:
    """The latest finished run of each endpoint, one index probe each in one query."""
    if not endpoint_ids:
        return {}
    found = Run.objects.raw(
        """
        SELECT r.* FROM UNNEST(%s::uuid[]) AS w(id) CROSS JOIN LATERAL (
            SELECT * FROM runs WHERE endpoint_id = w.id AND status IN ('success', 'failed')
            ORDER BY due_at DESC LIMIT 1
        ) r
        """,
        [list(endpoint_ids)],
    )
    return {run.endpoint_id: run for run in found}


def _bodies(runs: Sequence[Run]) -> dict[UUID, str]:
    return dict(RunResponse.objects.filter(run_id__in=[run.pk for run in runs]).values_list("run_id", "body"))


def _latest_response(endpoint_id: UUID) -> RunResponse | None:
    return RunResponse.objects.filter(endpoint_id=endpoint_id).order_by("-received_at").first()


def _line(run: Run) -> RunLine:
    return RunLine(run.due_at, run.status, run.status_code, run.duration_ms, run.error_kind, run.source)


def _actions(endpoint_id: UUID) -> list[ActionLine]:
    latest = Proposal.objects.filter(endpoint_id=endpoint_id).order_by("-created_at", "-id")[:MOST_ACTIONS]
    return [
        ActionLine(
            at=proposal.created_at,
            tool=proposal.tool,
            values={key: proposal.arguments[key] for key in TOLD_ARGUMENTS if proposal.arguments.get(key) is not None},
            status=f"{proposal.cause}, {proposal.status}",
        )
        for proposal in latest
    ]


def _sibling_lines(siblings: Sequence[Endpoint]) -> list[SiblingLine]:
    latest = _latest_runs([sibling.pk for sibling in siblings])
    return [
        SiblingLine(
            name=sibling.name,
            description=sibling.description,
            status=latest[sibling.pk].status if sibling.pk in latest else None,
            failure_count=sibling.failure_count,
            mode=sibling.planner_mode,
        )
        for sibling in siblings
    ]


def prices() -> Prices:
    """The operator's price table."""
    env = settings.ENV
    return Prices((env.ai_price_input, env.ai_price_output), env.ai_prices)
