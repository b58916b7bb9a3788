"""Reads what the planner looks at, set-based: a pass costs a few statements, not a few for each endpoint."""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q

from cronicorn.runtime.clock import database_now
from jobs.conditions import Observation
from jobs.errors import InvalidInputError
from jobs.models import Endpoint, EndpointStatus, RunResponse
from jobs.rules import Rule, body_needed, parse_rules, runs_needed
from planner.proposals.inforce import Turns, advised_on, proposals_behind, turns_of
from planner.rules.advice import MOST_UNSEEN, TURNS_WITHIN, SeenRun, Watched, unseen_of
from planner.rules.heuristics import RUNS_NEEDED
from planner.rules.memory import Memory
from scheduling.exchange.bodies import Unparsable, safe_json
from scheduling.exchange.jsonpath import MISSING

BODIES_READ = 2
# Parsed, a body takes up to some twenty times its bytes.
MOST_BODY_BYTES = 2_000_000
# An endpoint among those with new runs: when its last run ended, and its id.
Place = tuple[datetime, UUID]
NO_ID = UUID(int=0)


def now() -> datetime:
    """The database's time."""
    with connection.cursor() as cursor:
        return database_now(cursor)


def endpoints_with_recent_runs(after: Place | None, *, heuristics: bool, limit: int) -> list[Place]:
    """Endpoints with a run that the rules pass has not seen, each as the end of its last run and its id, in that order.

    `after` is a place in that order, such as the last one of the batch before: runs that ended at the same moment are
    neither skipped nor met twice. None begins with the oldest run of all. Left out: what is off, not active, or has
    neither rules nor anything for a heuristic to look at.
    """
    at, endpoint_id = after or (None, NO_ID)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.last_run_at, e.id
            FROM job_endpoints e
            WHERE e.last_run_at >= coalesce(%(at)s, '-infinity'::timestamptz)
              AND (e.last_run_at, e.id) > (coalesce(%(at)s, '-infinity'::timestamptz), %(id)s)
              AND (e.rules_through_run_at IS NULL OR e.rules_through_run_at < e.last_run_at)
              AND e.planner_mode <> 'off' AND e.status = 'active' AND e.owner_active
              -- No join and no comparison outside: PostgreSQL would expect few rows, and read and sort all for a batch.
              AND (SELECT j.status = 'active' FROM jobs j WHERE j.id = e.job_id)
              AND (e.rules <> '[]'::jsonb OR e.ai_hint_interval_proposal_id IS NOT NULL
                   OR (%(heuristics)s AND e.max_interval_ms > e.baseline_interval_ms))
            ORDER BY e.last_run_at, e.id
            LIMIT %(limit)s
            """,
            {"at": at, "id": endpoint_id, "heuristics": heuristics, "limit": limit},
        )
        found: list[Place] = cursor.fetchall()
        return found


def mark_seen(seen: Sequence[Place], memories: Mapping[UUID, Memory]) -> None:
    """Notes up to which run the rules pass has looked, never back, and what it remembers, where that is known.

    Rows locked elsewhere are looked at again later.
    """
    if not seen:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH seen AS (SELECT * FROM UNNEST(%s::timestamptz[], %s::uuid[], %s::jsonb[]) AS s(through, id, state)),
            free AS (SELECT e.id FROM job_endpoints e WHERE e.id IN (SELECT id FROM seen)
                     ORDER BY e.id FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE job_endpoints e SET rules_through_run_at = seen.through,
                rules_state = COALESCE(seen.state, e.rules_state)
            FROM seen JOIN free USING (id)
            WHERE e.id = seen.id AND (e.rules_through_run_at IS NULL OR e.rules_through_run_at < seen.through)
            """,
            [
                [through for through, _ in seen],
                [endpoint_id for _, endpoint_id in seen],
                [json.dumps(memories[each].to_json()) if each in memories else None for _, each in seen],
            ],
        )


def watched(endpoint_ids: Sequence[UUID], at: datetime) -> tuple[Iterator[Watched], dict[UUID, InvalidInputError]]:
    """The endpoints with their latest runs and what is in force, and those whose stored rules cannot be read.

    Bodies are read while the endpoints are taken, some megabytes at once.
    """
    endpoints = Endpoint.objects.in_bulk(endpoint_ids)
    rules: dict[UUID, tuple[Rule, ...]] = {}
    unreadable: dict[UUID, InvalidInputError] = {}
    for endpoint in endpoints.values():
        try:
            rules[endpoint.pk] = parse_rules(endpoint.rules)
        except InvalidInputError as error:
            unreadable[endpoint.pk], rules[endpoint.pk] = error, ()
    runs = _latest_runs(
        {
            endpoint.pk: MOST_UNSEEN
            - 1
            + max(runs_needed(rules[endpoint.pk]), RUNS_NEEDED if endpoint.max_interval_ms is not None else BODIES_READ)
            for endpoint in endpoints.values()
        },
        through={endpoint.pk: endpoint.rules_through_run_at for endpoint in endpoints.values()},
        by_body={endpoint_id for endpoint_id, its in rules.items() if body_needed(its)},
    )
    known = proposals_behind(endpoints.values(), at)
    turns = turns_of(endpoint_ids, at - TURNS_WITHIN)
    found = []
    for endpoint in endpoints.values():
        if not runs.get(endpoint.pk):
            continue
        advised, turned = advised_on(endpoint, at, known), turns.get(endpoint.pk, Turns())
        found.append(
            Watched(
                endpoint_id=endpoint.pk,
                name=endpoint.name,
                interval_ms=endpoint.baseline_interval_ms,
                max_interval_ms=endpoint.max_interval_ms,
                next_run_at=endpoint.next_run_at,
                rules=rules[endpoint.pk],
                interval_hint=advised.interval,
                oneshot_hint=advised.oneshot,
                pause=advised.pause,
                runs=[run.seen for run in runs[endpoint.pk]],
                turns=turned.eased,
                overruled=turned.overruled,
                unseen=unseen_of([run.seen for run in runs[endpoint.pk]], endpoint.rules_through_run_at),
                memory=Memory.from_json(endpoint.rules_state),
            )
        )
    return _with_bodies(found, runs), unreadable


@dataclass(frozen=True, slots=True)
class _Found:
    """A run without its body; `body_size` is in bytes, None where the body is not wanted."""

    run_id: UUID
    seen: SeenRun
    body_size: int | None


def _latest_runs(
    wanted: dict[UUID, int], by_body: Set[UUID], through: Mapping[UUID, datetime | None]
) -> dict[UUID, list[_Found]]:
    """The latest finished runs of each endpoint, newest first, as many as wanted.

    Where the endpoint is one of `by_body`, the bodies that are whole are wanted of the first two, and of those up to
    the last one that ended at `through`, where it was looked at last.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT w.id, r.id, r.finished_at, r.status, r.status_code, r.duration_ms, p.sha256,
                   CASE WHEN (r.position <= %s OR (r.position <= %s AND r.next_finished_at > w.through))
                         AND w.by_body AND NOT p.truncated THEN octet_length(p.body) END
            FROM UNNEST(%s::uuid[], %s::integer[], %s::boolean[], %s::timestamptz[]) AS w(id, wanted, by_body, through)
            CROSS JOIN LATERAL (
                SELECT l.*, row_number() OVER latest AS position, lag(finished_at) OVER latest AS next_finished_at
                FROM (SELECT id, due_at, finished_at, status, status_code, duration_ms FROM runs
                      WHERE endpoint_id = w.id AND status IN ('success', 'failed')
                      ORDER BY due_at DESC, finished_at DESC LIMIT w.wanted) l
                WINDOW latest AS (ORDER BY l.due_at DESC, l.finished_at DESC)
            ) r
            LEFT JOIN run_responses p ON p.run_id = r.id
            ORDER BY w.id, r.position
            """,
            [
                BODIES_READ,
                MOST_UNSEEN + 1,
                list(wanted),
                list(wanted.values()),
                [endpoint_id in by_body for endpoint_id in wanted],
                [through[endpoint_id] for endpoint_id in wanted],
            ],
        )
        found: dict[UUID, list[_Found]] = {}
        for endpoint_id, run_id, finished_at, status, status_code, duration_ms, digest, size in cursor:
            observation = Observation(
                failed=status == "failed", status_code=status_code, duration_ms=duration_ms, digest=digest
            )
            run = _Found(run_id, SeenRun(finished_at, observation), size)
            found.setdefault(endpoint_id, []).append(run)
        return found


def _with_bodies(found: Sequence[Watched], runs: Mapping[UUID, Sequence[_Found]]) -> Iterator[Watched]:
    """The same with the documents of their latest runs, of no more endpoints at a time than `MOST_BODY_BYTES` hold."""
    waiting = deque(found)
    while waiting:
        lot: list[Watched] = []
        size = 0
        while waiting:
            size += sum(run.body_size or 0 for run in runs[waiting[0].endpoint_id])
            if lot and size > MOST_BODY_BYTES:
                break
            lot.append(waiting.popleft())
        bodies = _bodies([run.run_id for item in lot for run in runs[item.endpoint_id] if run.body_size is not None])
        for item in lot:
            yield replace(item, runs=[_seen(run, bodies) for run in runs[item.endpoint_id]])


def _bodies(run_ids: Sequence[UUID]) -> dict[UUID, tuple[str, dict[str, bool]]]:
    """The stored bodies, and what rules found in them before they were masked."""
    if not run_ids:
        return {}
    found = RunResponse.objects.filter(run_id__in=run_ids).values_list("run_id", "body", "rule_verdicts")
    return {run_id: (body, verdicts or {}) for run_id, body, verdicts in found}


def _seen(run: _Found, bodies: Mapping[UUID, tuple[str, dict[str, bool]]]) -> SeenRun:
    body, verdicts = bodies.get(run.run_id, (None, {}))
    document = _document(body)
    if document is MISSING and not verdicts:
        return run.seen
    observation = replace(run.seen.observation, document=document, verdicts=verdicts)
    return replace(run.seen, observation=observation)


def _document(body: str | None) -> Any:
    value = safe_json(body) if body is not None else MISSING
    return MISSING if isinstance(value, Unparsable) else value


def sibling_named(endpoint_id: UUID, name: str) -> UUID | None:
    """The other endpoint of the same job and owner with this name; None where there is none.

    What is archived counts as gone; of several the oldest, but one that is active before one that is paused.
    """
    this = Endpoint.objects.only("job_id", "owner_id").get(pk=endpoint_id)
    others = Endpoint.objects.filter(job_id=this.job_id, owner_id=this.owner_id, name=name).exclude(pk=endpoint_id)
    alive = others.exclude(status=EndpointStatus.ARCHIVED).annotate(active=Q(status=EndpointStatus.ACTIVE))
    return alive.order_by("-active", "created_at", "id").values_list("pk", flat=True).first()
