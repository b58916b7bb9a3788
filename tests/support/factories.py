"""Rows with sensible defaults, for the tests of every app."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from accounts.keys import make_key
from accounts.models import ApiKey, Scope, User
from jobs.models import Endpoint, EndpointStatus, Job, Run, RunStatus
from jobs.replan import replan

PASSWORD = "correct-horse-battery"
_numbers = count(1)


@dataclass(frozen=True)
class Cast:
    """Two owners who must not see each other, and an operator."""

    alice: User
    bob: User
    operator: User


def make_user(email: str | None = None, **fields: Any) -> User:
    """An active user with `PASSWORD`."""
    return User.objects.create_user(email or f"user{next(_numbers)}@example.com", PASSWORD, **fields)


def make_operator(email: str | None = None) -> User:
    """A superuser."""
    return make_user(email, is_superuser=True)


def make_cast() -> Cast:
    """Two owners and an operator."""
    number = next(_numbers)
    return Cast(
        make_user(f"alice{number}@example.com"),
        make_user(f"bob{number}@example.com"),
        make_operator(f"operator{number}@example.com"),
    )


def make_job(owner: User | None = None, **values: Any) -> Job:
    """An active job."""
    return Job.objects.create(**{"owner": owner or make_user(), "name": f"Job {next(_numbers)}", **values})


def make_endpoint(job: Job | None = None, **fields: Any) -> Endpoint:
    """A planned endpoint: every five minutes unless another baseline is given."""
    job = job or make_job()
    values: dict[str, Any] = {"name": f"Endpoint {next(_numbers)}", "url": "https://example.com/health", **fields}
    if not {"baseline_interval_ms", "baseline_cron", "run_once_at"} & values.keys():
        values["baseline_interval_ms"] = 300_000
    values.setdefault("host", urlsplit(values["url"]).hostname)
    if values.get("status") == EndpointStatus.ARCHIVED:
        values.setdefault("archived_at", datetime.now(UTC))
    endpoint = Endpoint.objects.create(job=job, owner_id=job.owner_id, **values)
    replan([endpoint.pk])
    endpoint.refresh_from_db()
    return endpoint


def make_run(endpoint: Endpoint, **fields: Any) -> Run:
    """A successful run that was due a minute ago, later ones later; any field may be given."""
    due_at = fields.pop("due_at", None) or datetime.now(UTC) - timedelta(minutes=1) + timedelta(
        microseconds=next(_numbers)
    )
    status = fields.get("status", RunStatus.SUCCESS)
    values: dict[str, Any] = {
        "owner_id": endpoint.owner_id,
        "scheduled_for": due_at,
        "due_at": due_at,
        "source": "baseline-interval",
        "status": status,
    }
    if status != RunStatus.MISSED:
        values |= {"claimed_at": due_at, "started_at": due_at + timedelta(milliseconds=2)}
    if status not in (RunStatus.RUNNING, RunStatus.MISSED):
        values |= {"finished_at": due_at + timedelta(milliseconds=52), "duration_ms": 50.0, "status_code": 200}
    return Run.objects.create(endpoint=endpoint, **{**values, **fields})


def make_api_key(owner: User, scopes: tuple[str, ...] = (Scope.READ, Scope.WRITE), **fields: Any) -> tuple[ApiKey, str]:
    """A key and its secret text, as sent in `x-api-key`."""
    text, parts = make_key()
    values = {
        "name": "Test",
        "prefix": parts.prefix,
        "secret_hash": parts.secret_hash,
        "scopes": list(scopes),
        **fields,
    }
    return ApiKey.objects.create(owner=owner, **values), text
