"""Finds the endpoints that deserve a look by the model, fairly between owners, and leases one for an analysis.

One statement chooses all that can be chosen without a body. It reads endpoints, one session each by index, and no runs.
Bodies are read only of endpoints whose one reason could be a change in them, and only of so many.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from planner.attention.numbers import BODIES_REMEMBERED, from_json, to_json, usual_numbers
from planner.attention.policy import (
    HEALTHY_AGAIN_IN,
    MOST_IN_A_PASS,
    MOST_LOOKS_AN_HOUR,
    MOST_OF_A_JOB,
    MOST_OF_AN_OWNER,
    PAUSE_ENDS_SOON,
    SHARE_OF_AN_ENDPOINT,
    SHORTEST_GAP,
    USUAL_TOKENS,
    Candidate,
    LastSession,
    trigger_of,
    with_places,
)

# Longer than an analysis may take, so that a live one is never doubled.
LEASE_SECONDS = 120
MOST_BODIES = 5_000
BODIES_AT_ONCE = 250
LONGEST_BODY = 65_536

# What the planner may look at, of an endpoint `e` and its job `j`.
_OPEN = """
    e.planner_mode <> 'off' AND e.status = 'active' AND e.owner_active AND j.status = 'active'
    AND (e.paused_by IS NULL OR e.paused_by = 'planner' OR e.paused_until <= %(now)s)
    AND (e.analysis_lease_until IS NULL OR e.analysis_lease_until <= %(now)s)
"""

# Reasons as in `policy.trigger_of`: 0 failures, recovery or a pause's end; 1 never analysed or due; 2 perhaps the body.
# The turns of a job go to the reasons 0 and 1 alternately, those of an owner to the jobs in turn, those of a pass to
# the owners in turn: no storm takes the place of somebody else's endpoint.
_CANDIDATES = f"""
WITH spent_on AS MATERIALIZED (
    SELECT owner_id, endpoint_id, sum(prompt_tokens + completion_tokens) AS tokens
    FROM sessions WHERE backend = 'openai' AND analyzed_at >= %(midnight)s GROUP BY owner_id, endpoint_id
),
spent AS MATERIALIZED (
    SELECT owner_id, sum(tokens) AS tokens FROM spent_on GROUP BY owner_id
),
payers AS MATERIALIZED (
    SELECT u.id, LEAST(
        coalesce(u.ai_daily_token_limit, %(owner_limit)s) - coalesce(s.tokens, 0),
        %(service_limit)s - (SELECT coalesce(sum(tokens), 0) FROM spent)
    )::bigint AS tokens_left,
    GREATEST(coalesce(u.ai_daily_token_limit, %(owner_limit)s) / %(share)s, %(session_limit)s) AS most_of_one
    FROM users u LEFT JOIN spent s ON s.owner_id = u.id
),
met AS (
    SELECT e.id, e.job_id, e.owner_id, e.failure_count, e.next_analysis_at, e.last_run_at, p.tokens_left,
           s.session_id, s.analyzed_at, s.failures, s.noted, coalesce(s.looks, 0) AS looks,
           CASE WHEN e.paused_by = 'planner' THEN e.paused_until END AS pause_ends_at,
           e.last_run_at > coalesce(s.analyzed_at, '-infinity') AS ran_since
    FROM job_endpoints e
    JOIN jobs j ON j.id = e.job_id
    JOIN payers p ON p.id = e.owner_id
    LEFT JOIN spent_on o ON o.endpoint_id = e.id
    LEFT JOIN LATERAL (
        SELECT l.*, CASE WHEN l.analyzed_at > %(hour_ago)s THEN
            (SELECT count(*) FROM sessions
             WHERE endpoint_id = e.id AND backend = 'openai' AND analyzed_at > %(hour_ago)s)
            ELSE 0 END AS looks
        FROM (
            SELECT id AS session_id, analyzed_at, endpoint_failure_count AS failures, next_analysis_at AS noted
            FROM sessions WHERE endpoint_id = e.id AND backend = 'openai' ORDER BY analyzed_at DESC LIMIT 1
        ) l
    ) s ON true
    WHERE {_OPEN} AND p.tokens_left > 0 AND coalesce(o.tokens, 0) < p.most_of_one
      AND (e.planner_hold_until IS NULL OR e.planner_hold_until <= %(long_hold)s)
      AND (e.last_run_at IS NOT NULL OR e.paused_by = 'planner')
      AND (s.analyzed_at IS NULL OR s.analyzed_at <= %(gap_ago)s)
),
reasoned AS MATERIALIZED (
    SELECT *, CASE
        WHEN looks < %(most_looks)s AND failure_count > 0
             AND (failure_count >= 2 * failures OR failure_count < failures) THEN 0
        WHEN looks < %(most_looks)s AND failures > 0 AND failure_count = 0 THEN 0
        WHEN analyzed_at IS NOT NULL AND pause_ends_at > %(now)s AND pause_ends_at <= %(soon)s
             AND analyzed_at < pause_ends_at - %(pause_gap)s THEN 0
        WHEN analyzed_at IS NULL
             AND (last_run_at IS NOT NULL OR (pause_ends_at > %(now)s AND pause_ends_at <= %(soon)s)) THEN 1
        WHEN ran_since AND (next_analysis_at IS NULL OR LEAST(next_analysis_at, noted) <= %(now)s) THEN 1
        WHEN ran_since AND looks < %(most_looks)s THEN 2
    END AS reason
    FROM met
),
turns AS (
    SELECT *, row_number() OVER (PARTITION BY owner_id ORDER BY job_turn, reason, analyzed_at NULLS FIRST, id)
              AS owner_turn
    FROM (
        SELECT *, row_number() OVER (PARTITION BY job_id ORDER BY lane_turn, reason) AS job_turn
        FROM (
            SELECT *, row_number() OVER (PARTITION BY job_id, reason ORDER BY analyzed_at NULLS FIRST, id) AS lane_turn
            FROM reasoned WHERE reason < 2
        ) AS lanes
        WHERE lane_turn <= %(of_a_job)s
    ) AS jobs
    WHERE job_turn <= %(of_a_job)s
),
chosen AS (
    SELECT * FROM turns
    WHERE owner_turn <= %(of_an_owner)s AND (owner_turn - 1) * %(usual_tokens)s < tokens_left
    ORDER BY owner_turn, analyzed_at NULLS FIRST, id LIMIT %(in_a_pass)s
),
quiet AS (
    SELECT id FROM reasoned WHERE reason = 2 ORDER BY uuid_hash_extended(id, %(lot)s) LIMIT %(bodies)s
)
SELECT r.id, r.job_id, r.owner_id, r.failure_count, r.next_analysis_at, r.tokens_left, r.session_id, r.analyzed_at,
       r.failures, r.noted, r.looks, r.pause_ends_at, r.ran_since, r.reason = 2
FROM reasoned r
JOIN (SELECT id, owner_turn FROM chosen UNION ALL SELECT id, NULL FROM quiet) AS found USING (id)
ORDER BY found.owner_turn, r.analyzed_at NULLS FIRST, r.id
"""  # noqa: S608  a constant of this module


def candidates(now: datetime) -> list[Candidate]:
    """The endpoints that deserve a look, in the order in which they are to have it; not leased ones.

    Active ones with a run since their last analysis, however long ago, or whose failures rose or ended, or whose pause
    by the planner ends soon. Bounded by job, owner and pass; what finds no place keeps its turn. An endpoint that has
    spent its share of its owner's tokens has no more turns before midnight UTC, and one that a person holds has none
    before the last hour of the hold: what it would come to could not be done.
    """
    chosen: list[Candidate] = []
    quiet: list[tuple[Candidate, UUID]] = []
    with connection.cursor() as cursor:
        cursor.execute(*statement(now))
        for *facts, session_id, analyzed_at, failures, noted, looks, pause_ends_at, ran_since, by_body in cursor:
            endpoint_id, job_id, owner_id, failure_count, next_analysis_at, tokens_left = facts
            candidate = Candidate(
                endpoint_id=endpoint_id,
                job_id=job_id,
                owner_id=owner_id,
                failure_count=failure_count,
                next_analysis_at=next_analysis_at,
                last=None if analyzed_at is None else LastSession(analyzed_at, failures, None, {}, noted),
                body=None,
                pause_ends_at=pause_ends_at,
                tokens_left=tokens_left,
                ran_since=bool(ran_since),
                looks_this_hour=looks,
            )
            if by_body:
                quiet.append((candidate, session_id))
            else:
                chosen.append(candidate)
    return list(with_places(chosen, _changed(quiet, now)))


def statement(now: datetime) -> tuple[str, dict[str, Any]]:
    """The statement that a look at `now` sends, and its parameters."""
    return _CANDIDATES, {
        "now": now,
        "midnight": now.replace(hour=0, minute=0, second=0, microsecond=0),
        "hour_ago": now - timedelta(hours=1),
        "gap_ago": now - SHORTEST_GAP,
        "soon": now + PAUSE_ENDS_SOON,
        "pause_gap": PAUSE_ENDS_SOON,
        "long_hold": now + HEALTHY_AGAIN_IN,
        "most_looks": MOST_LOOKS_AN_HOUR,
        "of_a_job": MOST_OF_A_JOB,
        "of_an_owner": MOST_OF_AN_OWNER,
        "in_a_pass": MOST_IN_A_PASS,
        "usual_tokens": USUAL_TOKENS,
        "owner_limit": settings.ENV.ai_owner_daily_token_limit,
        "service_limit": settings.ENV.ai_daily_token_limit,
        "session_limit": settings.ENV.ai_session_token_limit,
        "share": SHARE_OF_AN_ENDPOINT,
        "bodies": MOST_BODIES,
        "lot": int(now.timestamp()),
    }


def _changed(quiet: Sequence[tuple[Candidate, UUID]], now: datetime) -> Iterator[Candidate]:
    """Those whose latest body deserves a look; bodies are read as far as the caller asks, some hundred at once."""
    waiting = iter(quiet)
    while batch := list(islice(waiting, BODIES_AT_ONCE)):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT w.id, s.body_shape, s.body_numbers, b.body
                FROM UNNEST(%s::uuid[], %s::uuid[]) AS w(id, session_id)
                JOIN sessions s ON s.id = w.session_id
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN NOT truncated AND length(body) <= %s THEN body END AS body
                    FROM run_responses WHERE endpoint_id = w.id ORDER BY received_at DESC LIMIT 1
                ) b
                WHERE b.body IS NOT NULL
                """,
                [[item.endpoint_id for item, _ in batch], [session for _, session in batch], LONGEST_BODY],
            )
            bodies = {row[0]: row[1:] for row in cursor.fetchall()}
        for candidate, _ in batch:
            if candidate.endpoint_id not in bodies:
                continue
            shape, numbers, body = bodies[candidate.endpoint_id]
            assert candidate.last is not None
            last = replace(candidate.last, shape=shape, numbers=from_json(json.loads(numbers) if numbers else None))
            whole = replace(candidate, last=last, body=body)
            if trigger_of(whole, now) is not None:
                yield whole


def remembered_numbers(endpoint_id: UUID) -> dict[str, Any] | None:
    """What the endpoint's latest bodies show of their numbers, to be stored with a session; None without any."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT body FROM (
                SELECT body, truncated, received_at FROM run_responses
                WHERE endpoint_id = %s ORDER BY received_at DESC LIMIT %s
            ) AS latest
            WHERE NOT truncated AND length(body) <= %s ORDER BY received_at DESC
            """,
            [endpoint_id, BODIES_REMEMBERED, LONGEST_BODY],
        )
        return to_json(usual_numbers([row[0] for row in cursor.fetchall()])) or None


def lease(*, worker: str, candidate: Candidate) -> bool:
    """Takes the endpoint for one analysis; False where another planner holds it or has analysed it meanwhile.

    Also False where it was switched off, paused or archived since, or its job was.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE job_endpoints SET analysis_lease_owner = %(worker)s,
                analysis_lease_until = clock_timestamp() + %(seconds)s * interval '1 second'
            WHERE id = (
                SELECT e.id FROM job_endpoints e JOIN jobs j ON j.id = e.job_id, clock_timestamp() AS now
                WHERE e.id = %(id)s AND {_OPEN.replace("%(now)s", "now")}
                  AND e.next_analysis_at IS NOT DISTINCT FROM %(due)s
                FOR NO KEY UPDATE OF e SKIP LOCKED
            )
            """,  # noqa: S608  a constant of this module
            {
                "worker": worker,
                "seconds": LEASE_SECONDS,
                "id": candidate.endpoint_id,
                "due": candidate.next_analysis_at,
            },
        )
        return bool(cursor.rowcount)


def release(*, worker: str, endpoint_id: UUID, next_analysis_at: datetime | None) -> None:
    """Gives the endpoint back and sets when it is due again, unless the lease has passed to another planner."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE job_endpoints SET analysis_lease_owner = NULL, analysis_lease_until = NULL, next_analysis_at = %s
            WHERE id = %s AND analysis_lease_owner = %s
            """,
            [next_analysis_at, endpoint_id, worker],
        )
