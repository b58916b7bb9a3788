"""The writers of hints, pauses and run-now: each locks the endpoint, changes it and re-plans, in one transaction.

People and the planner come through the same functions; `author` says who speaks, and a person outranks the planner.
Creating and editing jobs and endpoints is `jobs.authoring`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from cronicorn.runtime.clock import database_now
from jobs.errors import ConflictError, Fault, InvalidInputError
from jobs.models import Author, Endpoint, EndpointStatus, JobStatus
from jobs.models.endpoint import MAX_INTERVAL_MS, MIN_INTERVAL_MS
from jobs.replan import replan, row_of
from scheduling.plan.edits import follow_new_schedule
from scheduling.plan.row import PlanRow, end_server_wait

MAX_HINT_TTL_MS = 24 * 3_600_000
MAX_PAUSE = timedelta(days=366)
REASON_LIMIT = 1000


@contextmanager
def changing(endpoint_id: UUID) -> Iterator[tuple[Endpoint, datetime]]:
    """The endpoint under its row lock, with the database's time; saved and re-planned when the block ends well.

    Raises Endpoint.DoesNotExist for an unknown id. Atomic: an exception leaves the row as it was.
    """
    with transaction.atomic():
        endpoint = (
            Endpoint.objects.select_related("job").select_for_update(of=("self",), no_key=True).get(pk=endpoint_id)
        )
        with connection.cursor() as cursor:
            now = database_now(cursor)
        yield endpoint, now
        endpoint.save()
        replan([endpoint.pk])
        endpoint.refresh_from_db()


def set_interval_hint(
    *,
    endpoint_id: UUID,
    interval_ms: int,
    ttl_ms: int,
    reason: str,
    author: Author,
    author_words: str | None = None,
    proposal_id: UUID | None = None,
) -> Endpoint:
    """Runs the endpoint every `interval_ms` for `ttl_ms`; the governor keeps it inside the endpoint's bounds.

    `author_words` names the planner's part that speaks, as in `the rule "busy"`.
    """
    _raise_if(
        [
            *_range_faults("interval_ms", interval_ms, MIN_INTERVAL_MS, MAX_INTERVAL_MS),
            *_range_faults("ttl_ms", ttl_ms, 1, MAX_HINT_TTL_MS),
            *_reason_faults(reason),
        ]
    )
    with changing(endpoint_id) as (endpoint, now):
        _refuse_archived(endpoint)
        endpoint.ai_hint_interval_ms = interval_ms
        endpoint.ai_hint_interval_expires_at = now + timedelta(milliseconds=ttl_ms)
        endpoint.ai_hint_interval_reason = reason
        endpoint.ai_hint_interval_set_by = author
        endpoint.ai_hint_interval_author = author_words
        endpoint.ai_hint_interval_proposal_id = proposal_id
        if author == Author.USER:
            _hold_planner(endpoint, now)
    return endpoint


def set_oneshot_hint(
    *,
    endpoint_id: UUID,
    next_run_at: datetime | None = None,
    next_run_in_ms: int | None = None,
    ttl_ms: int,
    reason: str,
    author: Author,
    author_words: str | None = None,
    proposal_id: UUID | None = None,
) -> Endpoint:
    """Runs the endpoint once at `next_run_at`, or `next_run_in_ms` from now; a time in the past means at once."""
    faults = [*_range_faults("ttl_ms", ttl_ms, 1, MAX_HINT_TTL_MS), *_reason_faults(reason)]
    if (next_run_at is None) == (next_run_in_ms is None):
        faults.append(Fault("next_run_at", "required", "Give either nextRunAt or nextRunInMs, not both."))
    if next_run_in_ms is not None:
        faults += _range_faults("next_run_in_ms", next_run_in_ms, 0, MAX_HINT_TTL_MS)
    _raise_if(faults)
    with changing(endpoint_id) as (endpoint, now):
        _refuse_archived(endpoint)
        at = next_run_at if next_run_at is not None else now + timedelta(milliseconds=next_run_in_ms or 0)
        expires_at = now + timedelta(milliseconds=ttl_ms)
        _raise_if(oneshot_faults(at, expires_at))
        endpoint.ai_hint_next_run_at = at
        endpoint.ai_hint_next_run_expires_at = expires_at
        endpoint.ai_hint_next_run_reason = reason
        endpoint.ai_hint_next_run_set_by = author
        endpoint.ai_hint_next_run_author = author_words
        endpoint.ai_hint_next_run_proposal_id = proposal_id
        if author == Author.USER:
            _hold_planner(endpoint, now)
    return endpoint


def clear_hints(*, endpoint_id: UUID, author: Author) -> Endpoint:
    """Drops both hints, back to the baseline at once; pauses stay. A person's word holds the planner back."""
    with changing(endpoint_id) as (endpoint, now):
        drop_interval_hint(endpoint)
        drop_oneshot_hint(endpoint)
        if author == Author.USER:
            _hold_planner(endpoint, now, after_a_word=True)
    return endpoint


def drop_interval_hint(endpoint: Endpoint) -> None:
    """Empties the columns of the interval hint on an endpoint that is being changed."""
    endpoint.ai_hint_interval_ms = endpoint.ai_hint_interval_expires_at = None
    endpoint.ai_hint_interval_reason = endpoint.ai_hint_interval_set_by = endpoint.ai_hint_interval_proposal_id = None


def drop_oneshot_hint(endpoint: Endpoint) -> None:
    """Empties the columns of the one-shot hint on an endpoint that is being changed."""
    endpoint.ai_hint_next_run_at = endpoint.ai_hint_next_run_expires_at = None
    endpoint.ai_hint_next_run_reason = endpoint.ai_hint_next_run_set_by = endpoint.ai_hint_next_run_proposal_id = None


def drop_server_wait(endpoint: Endpoint, now: datetime) -> None:
    """Forgets what the server asked for on an endpoint that is being changed; what was put off is due at once."""
    row = row_of(endpoint)
    end_server_wait(row, now)
    endpoint.next_run_at = row.next_run_at
    endpoint.server_wait_since = endpoint.server_wait_until = endpoint.server_wait_reason = None


def pause(
    *,
    endpoint_id: UUID,
    until: datetime,
    reason: str,
    author: Author,
    author_words: str | None = None,
    proposal_id: UUID | None = None,
) -> Endpoint:
    """Lets nothing but run-now start before `until`.

    Raises ConflictError where the planner would touch a person's pause.
    """
    with changing(endpoint_id) as (endpoint, now):
        _refuse_archived(endpoint)
        _raise_if([*pause_faults(until, now), *_reason_faults(reason)])
        if author != Author.USER and endpoint.paused_by == Author.USER and _in_force(endpoint.paused_until, now):
            raise ConflictError("paused_by_a_person", "A person paused this endpoint; only a person may change that.")
        endpoint.paused_until, endpoint.pause_reason = until, reason
        endpoint.paused_by, endpoint.pause_proposal_id = author, proposal_id
        endpoint.pause_author = author_words
        if author == Author.USER:
            _hold_planner(endpoint, now)
    return endpoint


def resume(*, endpoint_id: UUID, author: Author) -> Endpoint:
    """Ends a pause that has a time; the endpoint's own status is `jobs.authoring`'s."""
    with changing(endpoint_id) as (endpoint, now):
        _refuse_archived(endpoint)
        if author != Author.USER and endpoint.paused_by == Author.USER and _in_force(endpoint.paused_until, now):
            raise ConflictError("paused_by_a_person", "A person paused this endpoint; only a person may resume it.")
        endpoint.paused_until = endpoint.pause_reason = endpoint.paused_by = endpoint.pause_proposal_id = None
        if author == Author.USER:
            _hold_planner(endpoint, now, after_a_word=True)
    return endpoint


def run_now(*, endpoint_id: UUID, by: UUID) -> Endpoint:
    """Asks the scheduler for one run at once. Raises ConflictError where nothing may start."""
    with changing(endpoint_id) as (endpoint, now):
        if endpoint.status != EndpointStatus.ACTIVE:
            raise ConflictError("endpoint_not_active", f"The endpoint is {endpoint.status}; resume it first.")
        if endpoint.job.status != JobStatus.ACTIVE:
            raise ConflictError("job_not_active", f"The job is {endpoint.job.status}; resume it first.")
        if not endpoint.owner_active:
            raise ConflictError("owner_not_active", "The owner is deactivated; an operator has to activate them first.")
        if endpoint.paused_by == Author.USER and _in_force(endpoint.paused_until, now):
            raise ConflictError("paused_by_a_person", "A person paused this endpoint; resume it first.")
        endpoint.manual_run_at, endpoint.manual_run_by = now, by
    return endpoint


def reset_failures(*, endpoint_id: UUID) -> Endpoint:
    """Clears the streak of failures and what the server asked for.

    The interval's grid begins anew from now, unless `starts_at` anchors it.
    """
    with changing(endpoint_id) as (endpoint, now):
        _refuse_archived(endpoint)
        old = row_of(endpoint)
        endpoint.failure_count = endpoint.loss_count = endpoint.retries_used = 0
        endpoint.failing_since = None
        drop_server_wait(endpoint, now)
        endpoint.retry_at = endpoint.retry_slot_at = endpoint.retry_attempt = None
        if endpoint.starts_at is None:
            endpoint.anchor_at = now
        follow_change(endpoint, old, now)
    return endpoint


def follow_change(endpoint: Endpoint, old: PlanRow, now: datetime) -> None:
    """Makes the plan of a locked endpoint, whose schedule or grid was `old` until now, follow the change."""
    row = row_of(endpoint)
    follow_new_schedule(row, old, now)
    endpoint.next_decision = {**(endpoint.next_decision or {}), "uncalled": row.uncalled}
    endpoint.schedule_changed_at = row.schedule_changed_at
    endpoint.next_run_at, endpoint.next_slot_at = row.next_run_at, row.next_slot_at
    endpoint.next_source = row.next_source
    endpoint.server_wait_since = row.server_wait_since


def _in_force(until: datetime | None, now: datetime) -> bool:
    return until is not None and until > now


def _hold_planner(endpoint: Endpoint, now: datetime, *, after_a_word: bool = False) -> None:
    """Holds the planner back for as long as the person's own hints and pause last, and for a while after a word.

    What is left of an earlier hold counts for no more than that while: the hint or pause behind it may be gone.
    """
    after = now + timedelta(milliseconds=settings.ENV.planner_hold_ms)
    left = endpoint.planner_hold_until or now
    own = (
        (endpoint.ai_hint_interval_set_by, endpoint.ai_hint_interval_expires_at),
        (endpoint.ai_hint_next_run_set_by, endpoint.ai_hint_next_run_at),
        (endpoint.paused_by, endpoint.paused_until),
    )
    lasting = [until for author, until in own if author == Author.USER and until is not None]
    endpoint.planner_hold_until = max([after if after_a_word else min(left, after), *lasting])


def _refuse_archived(endpoint: Endpoint) -> None:
    if endpoint.status == EndpointStatus.ARCHIVED or endpoint.job.status == JobStatus.ARCHIVED:
        raise ConflictError("archived", "The endpoint or its job is archived.")


def oneshot_faults(at: datetime, expires_at: datetime) -> list[Fault]:
    """What is wrong with a one-shot hint for `at` that ends at `expires_at`."""
    if at < expires_at:
        return []
    return [Fault("ttl_ms", "hint_ends_first", "The hint would end before its run. Give a longer time to live.")]


def pause_faults(until: datetime, now: datetime) -> list[Fault]:
    """What is wrong with the end of a pause that begins now."""
    if now < until <= now + MAX_PAUSE:
        return []
    message = "Give a time in the future, at most 366 days away, or null to resume."
    return [Fault("paused_until", "out_of_range", message)]


def _range_faults(field: str, value: int, low: int, high: int) -> list[Fault]:
    if low <= value <= high:
        return []
    return [Fault(field, "out_of_range", f"Give a number of milliseconds from {low} to {high}.")]


def _reason_faults(reason: str) -> list[Fault]:
    return [] if len(reason) <= REASON_LIMIT else [Fault("reason", "too_long", f"At most {REASON_LIMIT} characters.")]


def _raise_if(faults: Sequence[Fault]) -> None:
    if faults:
        raise InvalidInputError(*faults)
