"""Reads for people. Each starts from the owner: what belongs to somebody else does not exist here."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import Now

from accounts.models import ApiKey, User
from cronicorn.runtime.clock import database_now
from jobs.models import Endpoint, EndpointStatus, Job, JobStatus, Run, WorkerHeartbeat
from jobs.slots import Slot, upcoming_slots
from scheduling.plan.interval import anchor_of

COUNT_CAP = 10_000
LIVE_FOR = timedelta(seconds=60)


def jobs_of(owner: User) -> QuerySet[Job]:
    """All jobs of an owner, newest first."""
    return Job.objects.filter(owner=owner)


def find_job(owner: User, job_id: UUID) -> Job:
    """One job, with its counts. Raises Job.DoesNotExist."""
    (job,) = with_counts([jobs_of(owner).get(pk=job_id)])
    return job


def search_jobs(owner: User, *, status: str | None = None, search: str | None = None) -> QuerySet[Job]:
    """Jobs of a status (None: all but archived) whose name or description contains the text, newest first."""
    jobs = jobs_of(owner)
    jobs = jobs.filter(status=status) if status is not None else jobs.exclude(status=JobStatus.ARCHIVED)
    return jobs.filter(Q(name__icontains=search) | Q(description__icontains=search)) if search else jobs


def endpoints_of(owner: User) -> QuerySet[Endpoint]:
    """All endpoints of an owner with their jobs, newest first."""
    return Endpoint.objects.filter(owner=owner).select_related("job")


def find_endpoint(owner: User, endpoint_id: UUID, *, job_id: UUID | None = None) -> Endpoint:
    """One endpoint, of that job where one is named. Raises Endpoint.DoesNotExist."""
    endpoints = endpoints_of(owner).filter(pk=endpoint_id)
    return (endpoints.filter(job_id=job_id) if job_id is not None else endpoints).get()


def list_endpoints(owner: User, job_id: UUID, *, status: str | None = None) -> QuerySet[Endpoint]:
    """The endpoints of a job by status (None: all but archived). Raises Job.DoesNotExist."""
    job = jobs_of(owner).only("pk").get(pk=job_id)
    endpoints = endpoints_of(owner).filter(job=job)
    return endpoints.filter(status=status) if status else endpoints.exclude(status=EndpointStatus.ARCHIVED)


def list_runs(endpoint: Endpoint, *, status: str | None = None, source: str | None = None) -> QuerySet[Run]:
    """The runs of an endpoint, the latest due first, without their decisions."""
    runs = Run.objects.filter(endpoint=endpoint, owner=endpoint.owner_id).order_by("-due_at", "-id").defer("decision")
    runs = runs.filter(status=status) if status else runs
    return runs.filter(source=source) if source else runs


def find_run(owner: User, run_id: UUID) -> Run:
    """One run with its response, if it still has one. Raises Run.DoesNotExist."""
    return Run.objects.select_related("response").get(owner=owner, pk=run_id)


def api_keys_of(owner: User) -> QuerySet[ApiKey]:
    """All keys of an owner, revoked ones too, newest first."""
    return ApiKey.objects.filter(owner=owner).order_by("-created_at", "-id")


def capped_count(rows: QuerySet[Any, Any]) -> tuple[int, bool]:
    """How many rows there are, counted up to 10 000; and whether there are more."""
    count = rows.order_by().values("pk")[: COUNT_CAP + 1].count()
    return min(count, COUNT_CAP), count > COUNT_CAP


def with_counts(jobs: list[Job]) -> list[Job]:
    """Jobs of one page with `endpoint_count` and `active_endpoint_count`, by one query; a stopped job has no active."""
    rows = (
        Endpoint.objects.filter(job__in=jobs)
        .exclude(status=EndpointStatus.ARCHIVED)
        .values("job_id")
        .annotate(all=Count("pk"), active=Count("pk", filter=Q(status=EndpointStatus.ACTIVE)))
    )
    counts = {row["job_id"]: (row["all"], row["active"]) for row in rows}
    for job in jobs:
        count, active = counts.get(job.pk, (0, 0))
        job.endpoint_count = count  # type: ignore[attr-defined]
        job.active_endpoint_count = active if job.status == JobStatus.ACTIVE else 0  # type: ignore[attr-defined]
    return jobs


def endpoint_slots(endpoint: Endpoint) -> list[Slot]:
    """The next ten slots of an endpoint's baseline; none while nothing is planned."""
    if endpoint.next_run_at is None:
        return []
    now = current_time()
    return upcoming_slots(
        interval_ms=endpoint.baseline_interval_ms,
        cron=endpoint.baseline_cron,
        run_once_at=endpoint.run_once_at,
        timezone=endpoint.timezone,
        starts_at=endpoint.starts_at,
        ends_at=endpoint.ends_at,
        anchor_at=endpoint.anchor_at,
        after=max(now, endpoint.last_slot_at) if endpoint.last_slot_at is not None else now,
    )


def schedule_slots(schedule: Mapping[str, Any], *, now: datetime, current: Endpoint | None = None) -> list[Slot]:
    """The first ten slots of a schedule that `jobs.validation.clean_schedule` has passed, if it were saved at `now`.

    `current` is the endpoint that it is for, None for a new one: what an edit leaves alone does not move the grid.
    """
    anchor_at, after = anchor_of(schedule["starts_at"], now), now
    if current is not None:
        if all(schedule[name] == getattr(current, name) for name in ("baseline_interval_ms", "starts_at")):
            anchor_at = current.anchor_at
        after = max(now, current.last_slot_at or now)
    return upcoming_slots(
        interval_ms=schedule["baseline_interval_ms"],
        cron=schedule["baseline_cron"],
        run_once_at=schedule["run_once_at"],
        timezone=schedule["timezone"],
        starts_at=schedule["starts_at"],
        ends_at=schedule["ends_at"],
        anchor_at=anchor_at,
        after=after,
    )


def endpoint_health(endpoint: Endpoint, *, since_hours: int) -> dict[str, Any]:
    """Counts, rates and percentiles of the runs that were due in the last hours."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), count(*) FILTER (WHERE status = 'success'), count(*) FILTER (WHERE status = 'failed'),
                   count(*) FILTER (WHERE status = 'abandoned'), count(*) FILTER (WHERE status = 'missed'),
                   count(*) FILTER (WHERE status = 'running'),
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms),
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms),
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - due_at) * 1000),
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - due_at) * 1000)
              FROM runs WHERE endpoint_id = %s AND due_at > now() - make_interval(hours => %s)
            """,
            [endpoint.pk, since_hours],
        )
        total, success, failed, abandoned, missed, running, *percentiles = cursor.fetchone()
    finished = success + failed + abandoned
    return {
        "since_hours": since_hours,
        "total": total,
        "success": success,
        "failed": failed,
        "abandoned": abandoned,
        "missed": missed,
        "running": running,
        "success_rate": success / finished if finished else None,
        "failure_streak": endpoint.failure_count,
        "duration_p50_ms": percentiles[0],
        "duration_p95_ms": percentiles[1],
        "lateness_p50_ms": percentiles[2],
        "lateness_p95_ms": percentiles[3],
        "last_run_at": endpoint.last_run_at,
    }


def worker_states() -> dict[str, dict[str, Any]]:
    """By kind: how many workers gave a sign of life within a minute and have not stopped, and what they told.

    `last_seen_at` counts all workers; `last_claim_at`, `last_settled_at` and `problems` those that live. A worker with
    a problem lives, but its work does not go on.
    """
    live = Q(stopped_at__isnull=True, seen_at__gt=Now() - LIVE_FOR)
    rows = WorkerHeartbeat.objects.values("kind").annotate(live=Count("pk", filter=live), last_seen_at=Max("seen_at"))
    states: dict[str, dict[str, Any]] = {
        row["kind"]: {
            "live": row["live"],
            "last_seen_at": row["last_seen_at"],
            "last_claim_at": None,
            "last_settled_at": None,
            "problems": [],
        }
        for row in rows
    }
    for kind, seen_at, facts in WorkerHeartbeat.objects.filter(live).values_list("kind", "seen_at", "facts"):
        state = states[kind]
        for told, name in (("claimed_ago_s", "last_claim_at"), ("settled_ago_s", "last_settled_at")):
            if (ago := facts.get(told)) is not None:
                at = seen_at - timedelta(seconds=ago)
                state[name] = max(state[name] or at, at)
        if facts.get("problem"):
            state["problems"].append(facts["problem"])
    return states


def current_time() -> datetime:
    """The database's clock."""
    with connection.cursor() as cursor:
        return database_now(cursor)
