"""What the dashboard shows: a fixed number of set-based reads, owner by owner; operators see all.

Runs of self-tests are left out of every figure but their own row, unless their job is chosen or there is nothing else.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.urls import reverse

from accounts.models import User
from cronicorn.runtime.clock import monotonic_ns
from jobs.admin.words import ms_words, rate_words, tone_of
from jobs.models import Endpoint, EndpointStatus, Job, JobStatus, Run, WorkerHeartbeat
from jobs.selectors import LIVE_FOR
from jobs.standing import next_note
from jobs.zonerules import rules_of_plans
from planner.analyst.budgets import budgets_of
from planner.analyst.state import model_state
from planner.models import AnalysisSession, Backend, Proposal, ProposalStatus
from planner.selectors import has_status
from planner.templatetags.provenance import advice_words, speaker
from scheduling.cron.zones import rules_version

HOURS = 24
LATENESS_SAMPLE = 20_000
SHOWN = 8
CHART_HEIGHT = 140
OUTCOMES = ("success", "failed", "abandoned", "missed", "canceled")
_KEEP_FACTOR = 10
_KEEP_AT_MOST_SECONDS = 60
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows, and of which job. `owner_id` None means everybody's, `job_id` None every job.

    Self-tests are never mixed with people's own endpoints: `synthetic` says which of the two are meant.
    """

    owner_id: UUID | None
    job_id: UUID | None = None
    synthetic: bool = False

    @classmethod
    def of(cls, user: User, job_id: UUID | None = None) -> "Scope":
        """What the person may see: the self-tests where their job is chosen, or as long as there is nothing else."""
        plain = cls(None if user.is_superuser else user.pk, job_id)
        tests = replace(plain, synthetic=True)
        return tests if not plain.endpoints().exists() and tests.endpoints().exists() else plain

    def owned(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Rows with an owner."""
        return rows if self.owner_id is None else rows.filter(owner=self.owner_id)

    def endpoints(self) -> QuerySet[Endpoint]:
        """The endpoints that count: nothing archived."""
        rows: QuerySet[Endpoint] = self.owned(Endpoint.objects.exclude(status=EndpointStatus.ARCHIVED))
        rows = rows.filter(job__is_synthetic=self.synthetic)
        return rows if self.job_id is None else rows.filter(job=self.job_id)

    def of_endpoints(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Rows that hang on an endpoint that counts, archived ones too."""
        rows = self.owned(rows).filter(endpoint__job__is_synthetic=self.synthetic)
        return rows if self.job_id is None else rows.filter(endpoint__job=self.job_id)


@dataclass(slots=True)
class Traffic:
    """The runs of the last 24 hours, counted by hour and outcome, and by source."""

    hours: dict[datetime, dict[str, int]] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)

    def since(self, instant: datetime) -> tuple[int, int]:
        """Runs that ended well, and all that ended, from the hour of an instant on."""
        chosen = [counts for hour, counts in self.hours.items() if hour >= instant]
        good = sum(counts.get("success", 0) for counts in chosen)
        return good, sum(sum(counts.values()) for counts in chosen) - sum(c.get("running", 0) for c in chosen)


def dashboard_context(user: User, now: datetime, job_id: UUID | None = None) -> dict[str, Any]:
    """Everything that the dashboard's parts need."""
    scope = Scope.of(user, job_id)
    traffic = kept(f"traffic:{scope}", lambda: _traffic(scope, now))
    lateness_ms = kept(f"lateness:{scope}", lambda: _lateness_p95_ms(scope, now))
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    good, ended = traffic.since(midnight)
    spent = scope.of_endpoints(AnalysisSession.objects.filter(analyzed_at__gte=midnight)).aggregate(
        sessions=Count("pk", filter=Q(backend=Backend.OPENAI)),
        prompt=Sum("prompt_tokens"),
        completion=Sum("completion_tokens"),
        cost=Sum("estimated_cost_usd"),
    )
    state = _endpoint_state(scope, now)
    return {
        "now": now,
        "runs_today": ended,
        "success_today": rate_words(good, ended),
        "lateness_p95_ms": lateness_ms,
        "active_hints": state["hinted"],
        "failing": state["failing"],
        "endpoints": state["endpoints"],
        "next_run_at": state["next_run_at"],
        "tokens_today": (spent["prompt"] or 0) + (spent["completion"] or 0),
        "cost_today": spent["cost"] or 0,
        "sessions_today": spent["sessions"],
        "chart": _chart(traffic, now),
        "sources": _shares(traffic.sources),
        "attention": _attention(scope, now),
        "pending": scope.of_endpoints(Proposal.objects.filter(has_status(ProposalStatus.PENDING, now))).count(),
        "activity": _activity(scope, now),
        "workers": _workers(now),
        "model": model_state(),
        "budgets": budgets_of(user.pk, now.astimezone(UTC)),
        "self_test": _self_test(scope, now),
        "shows_self_tests": scope.synthetic,
        "egress_allow": settings.ENV.egress_allow,
        "zone_rules": {"version": rules_version(), "of_plans": rules_of_plans()} if user.is_superuser else None,
        "jobs": list(scope.owned(Job.objects.exclude(status=JobStatus.ARCHIVED)).values_list("pk", "name")[:100]),
        "job_id": job_id,
    }


def kept(name: str, read: Callable[[], _Read]) -> _Read:
    """The answer of a read, kept for ten times as long as the read took, so that many open dashboards cost little.

    A fast read is as good as never kept; a slow one is kept for at most a minute.
    """
    key = f"dashboard:{hashlib.sha256(name.encode()).hexdigest()}"
    answer = cache.get(key)
    if answer is None:
        begin_ns = monotonic_ns()
        answer = (read(),)
        seconds = _KEEP_FACTOR * (monotonic_ns() - begin_ns) / 1e9
        if seconds >= 1:
            cache.set(key, answer, min(int(seconds), _KEEP_AT_MOST_SECONDS))
    value: _Read = answer[0]
    return value


def _runs_condition(scope: Scope, since: datetime) -> tuple[str, list[Any]]:
    """The condition on `runs r`, by an index: the owner's by due time, everybody's by the time-ordered id."""
    condition = (
        "EXISTS (SELECT 1 FROM job_endpoints e JOIN jobs j ON j.id = e.job_id"
        " WHERE e.id = r.endpoint_id AND j.is_synthetic) = %s AND r.due_at >= %s"
    )
    parameters: list[Any] = [scope.synthetic, since]
    if scope.owner_id is not None:
        condition, parameters = f"{condition} AND r.owner_id = %s", [*parameters, scope.owner_id]
    else:
        # A run's id is drawn when it is claimed, a moment before it is due.
        condition, parameters = f"{condition} AND r.id >= %s", [*parameters, first_id_of(since - timedelta(hours=1))]
    if scope.job_id is not None:
        condition += " AND r.endpoint_id IN (SELECT id FROM job_endpoints WHERE job_id = %s)"
        parameters = [*parameters, scope.job_id]
    return condition, parameters


def first_id_of(instant: datetime) -> UUID:
    """The smallest time-ordered id (UUID version 7, RFC 9562) of a millisecond."""
    return UUID(int=(int(instant.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))


def _traffic(scope: Scope, now: datetime) -> Traffic:
    condition, parameters = _runs_condition(scope, now - timedelta(hours=HOURS))
    traffic = Traffic()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT date_trunc('hour', r.due_at, 'UTC'), r.status, r.source, count(*)"  # noqa: S608  our own texts
            f" FROM runs r WHERE {condition} GROUP BY 1, 2, 3",
            parameters,
        )
        for hour, status, source, count in cursor.fetchall():
            counts = traffic.hours.setdefault(hour, {})
            counts[status] = counts.get(status, 0) + count
            traffic.sources[source] = traffic.sources.get(source, 0) + count
    return traffic


def _lateness_p95_ms(scope: Scope, now: datetime) -> float | None:
    """Of the last hour, at most the newest `LATENESS_SAMPLE` runs."""
    condition, parameters = _runs_condition(scope, now - timedelta(hours=1))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY late) FROM ("  # noqa: S608  our own texts
            " SELECT extract(epoch FROM r.started_at - r.due_at)::float8 * 1000 AS late FROM runs r"
            f" WHERE {condition} AND r.started_at IS NOT NULL ORDER BY r.due_at DESC LIMIT %s) sample",
            [*parameters, LATENESS_SAMPLE],
        )
        value: float | None = cursor.fetchone()[0]
    return value


def _endpoint_state(scope: Scope, now: datetime) -> dict[str, Any]:
    hinted = Q(ai_hint_interval_expires_at__gt=now) | Q(ai_hint_next_run_expires_at__gt=now)
    active = Q(status=EndpointStatus.ACTIVE, job__status=JobStatus.ACTIVE)
    return scope.endpoints().aggregate(
        endpoints=Count("pk"),
        hinted=Count("pk", filter=active & hinted),
        failing=Count("pk", filter=active & Q(failure_count__gt=0)),
        next_run_at=Min("next_run_at"),
    )


def _chart(traffic: Traffic, now: datetime) -> dict[str, Any]:
    """Stacked bars of the last 24 hours; heights and places in the units of the picture, 24 bars of 40 each."""
    last = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=back) for back in reversed(range(HOURS))]
    totals = [sum(traffic.hours.get(hour, {}).get(name, 0) for name in OUTCOMES) for hour in hours]
    top = max(totals, default=0)
    columns = []
    for number, hour in enumerate(hours):
        counts, bottom, parts = traffic.hours.get(hour, {}), float(CHART_HEIGHT), []
        for name in OUTCOMES:
            if counts.get(name):
                height = max(2.0, CHART_HEIGHT * counts[name] / top)
                bottom -= height
                parts.append({"y": round(bottom, 1), "height": round(height, 1), "tone": tone_of(name)})
        said = ", ".join(f"{counts[name]:,} {name}" for name in OUTCOMES if counts.get(name)) or "no runs"
        columns.append(
            {
                "x": number * 40,
                "hour": f"{hour:%H:%M}",
                "labelled": number % 4 == 3,
                "parts": parts,
                "title": f"{hour:%H:%M} UTC: {said}",
            }
        )
    return {
        "columns": columns,
        "top": top,
        "total": sum(totals),
        "used": [n for n in OUTCOMES if any(c.get(n) for c in traffic.hours.values())],
    }


def _shares(sources: dict[str, int]) -> list[dict[str, Any]]:
    """What made runs due, the most frequent first, with their share in percent."""
    total = sum(sources.values())
    return [
        {"source": source, "count": count, "share": round(100 * count / total, 1), "words": rate_words(count, total)}
        for source, count in sorted(sources.items(), key=lambda item: -item[1])
    ]


def _attention(scope: Scope, now: datetime) -> list[dict[str, Any]]:
    """Endpoints that fail, that a planner paused or a server put off, or whose run is overdue; the worst first."""
    late = Q(next_run_at__lt=now - timedelta(seconds=30), lease_owner__isnull=True)
    paused = Q(paused_until__gt=now) & ~Q(paused_by="user")
    rows = (
        scope.endpoints()
        .filter(status=EndpointStatus.ACTIVE, job__status=JobStatus.ACTIVE)
        .filter(Q(failure_count__gt=0) | late | paused | Q(server_wait_until__gt=now))
        .select_related("job")
        .order_by("-failure_count", "next_run_at")[:SHOWN]
    )
    return [{"endpoint": row, "why": _why(row, now)} for row in rows]


def _why(endpoint: Endpoint, now: datetime) -> str:
    if endpoint.failure_count:
        failures = "1 failure" if endpoint.failure_count == 1 else f"{endpoint.failure_count} failures in a row"
        note = next_note(endpoint)
        return f"{failures}, {note}" if note else failures
    if endpoint.paused_until is not None and endpoint.paused_until > now:
        return f"paused by {(endpoint.paused_by == 'planner' and endpoint.pause_author) or f'the {endpoint.paused_by}'}"
    if endpoint.server_wait_until is not None and endpoint.server_wait_until > now:
        return "put off, for the server asked to wait"
    return "overdue: no worker has taken it"


def _activity(scope: Scope, now: datetime) -> list[dict[str, Any]]:
    """The latest runs, planner sessions and proposals in one list, newest first."""
    by_id = scope.owner_id is None
    runs = scope.of_endpoints(Run.objects.defer("decision")).select_related("endpoint")
    sessions = scope.of_endpoints(AnalysisSession.objects.defer("tool_calls")).select_related("endpoint")
    proposals = scope.of_endpoints(Proposal.objects.all()).select_related("endpoint")
    entries = [
        {
            "at": run.started_at or run.due_at,
            "kind": "run",
            "icon": "bolt",
            "endpoint": run.endpoint,
            "word": run.status,
            "text": _run_words(run),
            "url": reverse("admin:jobs_run_page", args=[run.pk]),
        }
        for run in runs.order_by("-id" if by_id else "-due_at")[:12]
    ]
    entries += [
        {
            "at": session.analyzed_at,
            "kind": "planner session",
            "icon": "psychology",
            "endpoint": session.endpoint,
            "word": session.status,
            "text": (session.reasoning or (session.error_kind or "").replace("_", " "))[:160],
            "url": reverse("admin:planner_analysissession_page", args=[session.pk]),
        }
        for session in sessions.order_by("-id" if by_id else "-analyzed_at")[:SHOWN]
    ]
    entries += [
        {
            "at": proposal.created_at,
            "kind": "proposal",
            "icon": "lightbulb",
            "endpoint": proposal.endpoint,
            "word": proposal.status_at(now),
            "text": f"{advice_words(proposal)} by {speaker(proposal)}: {proposal.reason}"[:160],
            "url": reverse("admin:planner_proposal_page", args=[proposal.pk]),
        }
        for proposal in proposals.order_by("-id" if by_id else "-created_at")[:SHOWN]
    ]
    return sorted(entries, key=lambda entry: entry["at"], reverse=True)[:16]


def _run_words(run: Run) -> str:
    """What a run came to: its answer, duration and lateness."""
    parts = [str(run.status_code or run.error_kind or "").replace("_", " ")]
    parts += [f"in {ms_words(run.duration_ms)}"] if run.duration_ms is not None else []
    parts += [f"{ms_words(run.lateness_ms)} late"] if run.lateness_ms is not None else []
    return ", ".join(part for part in parts if part)


def _workers(now: datetime) -> list[dict[str, Any]]:
    """Both kinds of worker: how many live, and when one was last seen."""
    live = Q(stopped_at__isnull=True, seen_at__gt=now - LIVE_FOR)
    rows = (
        WorkerHeartbeat.objects.order_by()
        .values("kind")
        .annotate(live=Count("pk", filter=live), seen_at=Max("seen_at"))
    )
    known: dict[str, Any] = {row["kind"]: row for row in rows}
    return [
        {"kind": kind, "live": known.get(kind, {}).get("live", 0), "seen_at": known.get(kind, {}).get("seen_at")}
        for kind in ("scheduler", "planner")
    ]


def _self_test(scope: Scope, now: datetime) -> dict[str, Any] | None:
    """The runs of the self-test jobs in the last hour; None where the person has none."""
    endpoints = scope.owned(Endpoint.objects.filter(job__is_synthetic=True)).exclude(status=EndpointStatus.ARCHIVED)
    ids = list(endpoints.values_list("pk", flat=True)[:50])
    if not ids:
        return None
    runs = Run.objects.filter(endpoint__in=ids, due_at__gte=now - timedelta(hours=1)).order_by()
    figures = runs.aggregate(
        ended=Count("pk", filter=~Q(status="running")),
        good=Count("pk", filter=Q(status="success")),
        last=Max("started_at"),
    )
    return {**figures, "success": rate_words(figures["good"], figures["ended"])}
