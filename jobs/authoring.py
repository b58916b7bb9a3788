"""The writers of jobs and endpoints: what people create, edit, pause and archive, through the API and the console.

Each is one transaction that also plans anew, so that it takes effect at once. They raise InvalidInputError with every
fault, ConflictError where the state forbids the change, and the model's DoesNotExist for an unknown id. Whether the
caller may touch the row is for the caller to ask; see `jobs.selectors`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from accounts.ids import new_ids
from accounts.models import User
from cronicorn.runtime.clock import database_now
from jobs.errors import ConflictError, Fault, InvalidInputError, Unreadable
from jobs.headers import keep_headers
from jobs.models import Author, Endpoint, EndpointStatus, Job, JobStatus
from jobs.replan import replan, row_of
from jobs.services import changing, drop_server_wait, follow_change, resume
from jobs.validation import Clean, Values, clean_endpoint, clean_job
from scheduling.egress.policy import EgressPolicy, installation_policy
from scheduling.plan.edits import SCHEDULE_COLUMNS
from scheduling.plan.interval import anchor_of

MAX_ENDPOINTS_AT_ONCE = 200


class OperatorsOnlyError(InvalidInputError):
    """The input asks for what only operators may have."""


def egress_policy() -> EgressPolicy:
    """The judge of URLs, from the settings."""
    return installation_policy(settings.ENV)


def create_job(*, owner: User, values: Values, endpoints: Sequence[Values | Unreadable] | Unreadable = ()) -> Job:
    """A job with its endpoints, planned; all or nothing. Only an operator may make a synthetic one.

    Values that could not be read come as Unreadable, as does a whole endpoint or the list of them.
    """
    cleaned, faults = _attempt_job(values)
    if cleaned.get("is_synthetic") and not owner.is_superuser:
        raise OperatorsOnlyError(Fault("is_synthetic", "operators_only", "Only operators may create synthetic jobs."))
    if isinstance(endpoints, Unreadable):
        faults += endpoints.faults
        endpoints = ()
    if len(endpoints) > MAX_ENDPOINTS_AT_ONCE:
        faults.append(Fault("endpoints", "too_many", f"At most {MAX_ENDPOINTS_AT_ONCE} endpoints at once."))
        endpoints = ()
    now = _now()
    rows = []
    ids = sorted(new_ids(len(endpoints)))  # so that the order of the endpoints is that of their ids
    for number, (endpoint_id, given) in enumerate(zip(ids, endpoints, strict=True)):
        try:
            if isinstance(given, Unreadable):
                raise InvalidInputError(*given.faults)
            rows.append(_columns(endpoint_id, given, synthetic=cleaned.get("is_synthetic", False), now=now))
        except InvalidInputError as error:
            faults += [_below(f"endpoints[{number}]", fault) for fault in error.faults]
    if faults:
        raise InvalidInputError(*faults)
    with transaction.atomic():
        job = Job.objects.create(owner=owner, **cleaned)
        Endpoint.objects.bulk_create([Endpoint(job=job, owner=owner, **row) for row in rows])
        replan(ids)
        job.refresh_from_db()
    return job


def edit_job(*, job_id: UUID, changes: Values) -> Job:
    """Changes name and description; an archived job stays as it is."""
    cleaned = clean_job(changes, creating=False)
    with transaction.atomic():
        job = _lock_job(job_id)
        for name, value in cleaned.items():
            setattr(job, name, value)
        job.save()
    return job


def set_job_status(*, job_id: UUID, status: JobStatus) -> Job:
    """Pauses, resumes or archives a job with all its endpoints; archiving is final."""
    with transaction.atomic():
        job = Job.objects.select_for_update(no_key=True).get(pk=job_id)
        if job.status == status:
            return job
        if job.status == JobStatus.ARCHIVED:
            raise ConflictError("archived", "The job is archived.")
        job.status = status
        job.archived_at = _now() if status == JobStatus.ARCHIVED else None
        job.save()
        endpoints = Endpoint.objects.filter(job=job, status=EndpointStatus.ACTIVE).order_by("pk")
        # An update alone locks in the order of the table: a deadlock with whoever locks two of them in id order.
        ids = list(endpoints.select_for_update(no_key=True).values_list("pk", flat=True))
        if status != JobStatus.ACTIVE:
            Endpoint.objects.filter(pk__in=ids).update(manual_run_at=None, manual_run_by=None)
        replan(ids)
    return job


def create_endpoint(*, job_id: UUID, values: Values) -> Endpoint:
    """A planned endpoint; the first run of an interval is at `starts_at`, or one interval from now."""
    with transaction.atomic():
        job = _lock_job(job_id)
        (endpoint_id,) = new_ids(1)
        row = _columns(endpoint_id, values, synthetic=job.is_synthetic, now=_now())
        endpoint = Endpoint.objects.create(job=job, owner_id=job.owner_id, **row)
        replan([endpoint_id])
        endpoint.refresh_from_db()
    return endpoint


def edit_endpoint(*, endpoint_id: UUID, changes: Values) -> Endpoint:
    """Changes what is given; a new baseline replaces the old one.

    A new interval or start moves the grid: it begins at `starts_at`, or now where there is none. A change of the
    schedule takes what the old one had planned away; values that are there already change nothing.
    """
    with changing(endpoint_id) as (endpoint, now):
        _refuse_archived(endpoint)
        cleaned = clean_endpoint(
            changes, current=endpoint, synthetic=endpoint.job.is_synthetic, egress=egress_policy(), now=now
        )
        if "headers" in cleaned:
            cleaned["headers"], cleaned["headers_sealed"] = keep_headers(
                endpoint.pk, cleaned["headers"], endpoint.headers_sealed
            )
        old = row_of(endpoint)
        if cleaned.get("url", endpoint.url) != endpoint.url:
            # Another place never asked to be left alone.
            drop_server_wait(endpoint, now)
        for name, value in cleaned.items():
            setattr(endpoint, name, value)
        if (endpoint.baseline_interval_ms, endpoint.starts_at) != (old.baseline_interval_ms, old.starts_at):
            endpoint.anchor_at = anchor_of(endpoint.starts_at, now)
        if any(getattr(endpoint, name) != getattr(old, name) for name in SCHEDULE_COLUMNS):
            follow_change(endpoint, old, now)
        endpoint.config_version += 1
    return endpoint


def set_endpoint_status(*, endpoint_id: UUID, status: EndpointStatus) -> Endpoint:
    """Pauses without end, resumes or archives an endpoint; archiving is final. Resuming holds the planner back."""
    with changing(endpoint_id) as (endpoint, now):
        if status != EndpointStatus.ARCHIVED:
            _refuse_archived(endpoint)
        if endpoint.status != status:
            endpoint.status = status
            if status == EndpointStatus.ACTIVE:
                hold = now + timedelta(milliseconds=settings.ENV.planner_hold_ms)
                endpoint.planner_hold_until = max(hold, endpoint.planner_hold_until or hold)
            else:
                # A stopped endpoint has no plan; the re-plan that follows writes the reason.
                endpoint.next_run_at = endpoint.next_slot_at = endpoint.next_source = None
                endpoint.manual_run_at = endpoint.manual_run_by = None
                endpoint.archived_at = now if status == EndpointStatus.ARCHIVED else None
    return endpoint


def resume_endpoint(*, endpoint_id: UUID) -> Endpoint:
    """Ends both kinds of pause by a person's word, the one without end and the one with a time; a job's pause stays."""
    with transaction.atomic():
        endpoint = set_endpoint_status(endpoint_id=endpoint_id, status=EndpointStatus.ACTIVE)
        if endpoint.paused_until is not None:
            endpoint = resume(endpoint_id=endpoint_id, author=Author.USER)
    return endpoint


def _attempt_job(values: Values) -> tuple[Clean, list[Fault]]:
    try:
        return clean_job(values, creating=True), []
    except InvalidInputError as error:
        return {"is_synthetic": values.get("is_synthetic") is True}, list(error.faults)


def _columns(endpoint_id: UUID, values: Values, *, synthetic: bool, now: datetime) -> dict[str, Any]:
    """All columns of a new endpoint."""
    cleaned = clean_endpoint(values, current=None, synthetic=synthetic, egress=egress_policy(), now=now)
    cleaned["headers"], cleaned["headers_sealed"] = keep_headers(endpoint_id, cleaned.get("headers", ()))
    return {"id": endpoint_id, "anchor_at": anchor_of(cleaned.get("starts_at"), now), **cleaned}


def _below(path: str, fault: Fault) -> Fault:
    return replace(fault, field=f"{path}.{fault.field}" if fault.field else path)


def _lock_job(job_id: UUID) -> Job:
    job = Job.objects.select_for_update(no_key=True).get(pk=job_id)
    if job.status == JobStatus.ARCHIVED:
        raise ConflictError("archived", "The job is archived.")
    return job


def _refuse_archived(endpoint: Endpoint) -> None:
    if endpoint.status == EndpointStatus.ARCHIVED or endpoint.job.status == JobStatus.ARCHIVED:
        raise ConflictError("archived", "The endpoint or its job is archived.")


def _now() -> datetime:
    with connection.cursor() as cursor:
        return database_now(cursor)
