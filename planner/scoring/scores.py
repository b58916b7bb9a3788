"""Reads what ended hints did and stores their scorecards, a batch in a few statements; reads what they add up to."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from cronicorn.logging import Event, log_event
from planner.models import Cause
from planner.scoring.scorecard import Baseline, Change, HintKind, HintLife, Stretch, score
from scheduling.cron.cadence import parse_cadence
from scheduling.plan.interval import Interval

logger = logging.getLogger(__name__)

# Kept in step with the index `proposals_unscored`. A shadow has the life that it would have had. A card waits for the
# first run after the end, for an hour at most: that run shows what was missed. A one-shot waits only for its own run,
# which may be under way still.
_ENDED = """
SELECT p.id, p.endpoint_id, p.tool, p.status = 'shadow' AS shadow, p.arguments, life.began_at, life.ended_at,
       COALESCE(p.ended_by, 'expired') AS ended_by,
       e.anchor_at, e.baseline_interval_ms, e.baseline_cron, e.timezone, e.run_once_at, e.ends_at, e.starts_at
FROM proposals p
JOIN job_endpoints e ON e.id = p.endpoint_id
CROSS JOIN LATERAL (
    SELECT COALESCE(p.applied_at, p.created_at) AS began_at, LEAST(p.ended_at, p.hint_expires_at) AS ended_at
) life
WHERE p.scorecard IS NULL AND p.ttl_ms IS NOT NULL
  AND (p.status = 'shadow' OR (p.applied_at IS NOT NULL AND p.ended_at IS NOT NULL))
  AND life.ended_at <= now()
  AND (life.ended_at <= now() - interval '1 hour'
       OR CASE WHEN p.tool = 'propose_next_time' THEN e.lease_owner IS NULL ELSE e.last_run_at >= life.ended_at END)
ORDER BY p.created_at LIMIT %s
FOR NO KEY UPDATE OF p SKIP LOCKED
"""

# First attempts only. `place` tells the last run before the life (0), those in it (1) and the first after it (2); a
# change is met by the first run that sees it, and counts for the hint only where that run is its own.
_RUNS = """
SELECT w.id, found.*
FROM UNNEST(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::text[], %s::boolean[])
     AS w(id, endpoint_id, began_at, ended_at, tool, shadow)
CROSS JOIN LATERAL (
    SELECT min(scheduled_for) AS at FROM runs
    WHERE w.tool = 'propose_next_time' AND endpoint_id = w.endpoint_id AND attempt = 1 AND source = 'ai-oneshot'
      AND started_at IS NOT NULL AND scheduled_for >= w.began_at AND scheduled_for < w.ended_at
) once
CROSS JOIN LATERAL (
    SELECT max(slot_at) FILTER (WHERE place = 0) AS last_start_at,
           count(*) FILTER (WHERE own) AS calls,
           count(*) FILTER (WHERE own AND status = 'failed') AS failures,
           min(slot_at) FILTER (WHERE own) AS first_at,
           min(slot_at) FILTER (WHERE sees AND status = 'failed' AND was <> 'failed') AS failure_at,
           min(was_at) FILTER (WHERE sees AND status = 'failed' AND was <> 'failed') AS failure_after,
           min(slot_at) FILTER (WHERE sees AND status = 'success' AND was = 'failed') AS recovery_at,
           min(was_at) FILTER (WHERE sees AND status = 'success' AND was = 'failed') AS recovery_after
    FROM (
        SELECT r.*, mine.own, mine.own OR (place = 2 AND NOT w.shadow AND w.tool <> 'propose_next_time') AS sees,
               COALESCE(lag(slot_at) OVER seen, w.began_at) AS was_at,
               COALESCE(lag(status) OVER seen, 'unknown') AS was
        FROM (
            (SELECT 0 AS place, scheduled_for AS slot_at, status, source FROM runs
             WHERE endpoint_id = w.endpoint_id AND attempt = 1 AND status IN ('success', 'failed')
               AND scheduled_for < w.began_at ORDER BY scheduled_for DESC LIMIT 1)
            UNION ALL
            (SELECT 1, scheduled_for, status, source FROM runs
             WHERE endpoint_id = w.endpoint_id AND attempt = 1 AND started_at IS NOT NULL
               AND scheduled_for >= w.began_at AND scheduled_for < w.ended_at)
            UNION ALL
            (SELECT 2, scheduled_for, status, source FROM runs
             WHERE endpoint_id = w.endpoint_id AND attempt = 1 AND status IN ('success', 'failed')
               AND scheduled_for >= w.ended_at ORDER BY scheduled_for LIMIT 1)
        ) r
        CROSS JOIN LATERAL (
            SELECT place = 1 AND CASE WHEN w.shadow THEN true WHEN w.tool = 'propose_next_time' THEN slot_at = once.at
                                      ELSE source NOT IN ('manual', 'ai-oneshot') END AS own
        ) mine
        WINDOW seen AS (PARTITION BY status IN ('success', 'failed') ORDER BY slot_at)
    ) judged
) found
"""

# An offer may wait a day, and a hint lasts a day at most.
_EARLIER = """
SELECT w.id, found.*
FROM UNNEST(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::boolean[]) AS w(id, endpoint_id, began_at, shadow)
CROSS JOIN LATERAL (
    SELECT o.tool, o.began_at, o.ended_at, o.interval_ms
    FROM (SELECT p.tool, p.created_at,
                 CASE WHEN p.tool = 'propose_interval' THEN (p.arguments ->> 'interval_ms')::bigint END AS interval_ms,
                 COALESCE(p.applied_at, p.created_at) AS began_at,
                 LEAST(p.ended_at, p.hint_expires_at) AS ended_at
          FROM proposals p
          WHERE p.endpoint_id = w.endpoint_id AND p.id <> w.id AND p.ttl_ms IS NOT NULL
            AND p.tool IN ('propose_interval', 'pause_until')
            AND CASE WHEN w.shadow THEN p.status = 'shadow' ELSE p.applied_at IS NOT NULL END
            AND p.created_at <= w.began_at AND p.created_at > w.began_at - interval '49 hours') o
    WHERE o.began_at <= w.began_at AND o.ended_at > w.began_at - interval '1 hour'
    ORDER BY o.began_at DESC LIMIT 100
) found
ORDER BY w.id, found.began_at
"""

_STORE = """
UPDATE proposals p SET scorecard = d.scorecard
FROM UNNEST(%s::uuid[], %s::jsonb[]) AS d(id, scorecard) WHERE p.id = d.id
"""

_TOTALS = """
SELECT cause, (scorecard ->> 'shadow')::boolean, count(*),
       sum((scorecard ->> 'in_force_ms')::bigint)::bigint, sum((scorecard ->> 'calls_made')::bigint)::bigint,
       sum((scorecard ->> 'calls_baseline')::bigint)::bigint, sum((scorecard ->> 'calls_added')::bigint)::bigint,
       sum((scorecard ->> 'calls_saved')::bigint)::bigint, sum((scorecard ->> 'failures')::bigint)::bigint,
       count(scorecard #>> '{first_failure,least_ms}'),
       COALESCE(sum((scorecard #>> '{first_failure,least_ms}')::bigint), 0)::bigint,
       COALESCE(sum((scorecard #>> '{first_failure,most_ms}')::bigint), 0)::bigint,
       count(scorecard #>> '{first_recovery,least_ms}'),
       COALESCE(sum((scorecard #>> '{first_recovery,least_ms}')::bigint), 0)::bigint,
       COALESCE(sum((scorecard #>> '{first_recovery,most_ms}')::bigint), 0)::bigint,
       sum((scorecard ->> 'flaps')::bigint)::bigint
FROM proposals
WHERE created_at >= %(since)s AND scorecard ->> 'kind' IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class CauseScore:
    """What the ended hints of one speaker add up to; with `shadow` those that were never in force.

    The fields are sums of those of `Scorecard`. The `..._least_ms` and `..._most_ms` add up by how much sooner than the
    baseline the `failures_met` and `recoveries_met` were met (negative: later); met changes that the other schedule
    would never have seen are left out.
    """

    cause: Cause
    shadow: bool
    hints: int
    in_force_ms: int
    calls_made: int
    calls_baseline: int
    calls_added: int
    calls_saved: int
    failures: int
    failures_met: int
    failures_least_ms: int
    failures_most_ms: int
    recoveries_met: int
    recoveries_least_ms: int
    recoveries_most_ms: int
    flaps: int


def score_the_ended(limit: int) -> int:
    """Scores up to `limit` hints that have ended and have no scorecard yet, the oldest first; returns how many.

    Atomic; several planners share the work. A hint that cannot be judged is stored as `{"unscored": why}` and logged.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ENDED, [limit])
        ended = [_Ended(*row) for row in cursor.fetchall()]
        if not ended:
            return 0
        began = {item.id: item.began_at for item in ended}
        ids, endpoint_ids = list(began), [item.endpoint_id for item in ended]
        shadow = [item.shadow for item in ended]
        ends, tools = [item.end for item in ended], [item.tool for item in ended]
        cursor.execute(_RUNS, [ids, endpoint_ids, list(began.values()), ends, tools, shadow])
        runs = {row[0]: _Runs(*row[1:]) for row in cursor.fetchall()}
        cursor.execute(_EARLIER, [ids, endpoint_ids, list(began.values()), shadow])
        earlier = {
            proposal_id: _without_overlap(Stretch(HintKind(tool), *rest) for _, tool, *rest in rows)
            for proposal_id, rows in groupby(cursor.fetchall(), key=lambda row: row[0])
        }
        cards = [_card(item, runs[item.id], earlier.get(item.id, ())) for item in ended]
        cursor.execute(_STORE, [ids, [json.dumps(card) for card in cards]])
        stored: int = cursor.rowcount
        return stored


def scorecard_of_endpoint(endpoint_id: UUID, since: datetime) -> list[CauseScore]:
    """What the ended hints of an endpoint that were asked for since then add up to, by cause; one query."""
    return _totals("AND endpoint_id = %(endpoint_id)s", {"endpoint_id": endpoint_id, "since": since})


def scorecard_of_planner(owner_id: UUID | None, since: datetime) -> list[CauseScore]:
    """What the ended hints of an owner (None: of everybody) since then add up to, by cause; one query."""
    if owner_id is None:
        return _totals("", {"since": since})
    return _totals("AND owner_id = %(owner_id)s", {"owner_id": owner_id, "since": since})


def _totals(which: str, values: dict[str, Any]) -> list[CauseScore]:
    with connection.cursor() as cursor:
        cursor.execute(f"{_TOTALS} {which} GROUP BY 1, 2 ORDER BY 1, 2", values)
        return [CauseScore(Cause(cause), *rest) for cause, *rest in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class _Ended:
    """A row of _ENDED."""

    id: UUID
    endpoint_id: UUID
    tool: str
    shadow: bool
    arguments: str
    began_at: datetime
    ended_at: datetime
    ended_by: str
    anchor_at: datetime
    interval_ms: int | None
    cron: str | None
    timezone: str
    run_once_at: datetime | None
    ends_at: datetime | None
    starts_at: datetime | None

    @property
    def end(self) -> datetime:
        """When it ended, not after the endpoint's own schedule did, and not before it began."""
        end = self.ended_at if self.ends_at is None else min(self.ended_at, self.ends_at)
        return max(end, self.began_at)


@dataclass(frozen=True, slots=True)
class _Runs:
    """A row of _RUNS."""

    last_start_at: datetime | None
    calls: int
    failures: int
    first_at: datetime | None
    failure_at: datetime | None
    failure_after: datetime | None
    recovery_at: datetime | None
    recovery_after: datetime | None


def _card(item: _Ended, runs: _Runs, earlier: Sequence[Stretch]) -> dict[str, Any]:
    try:
        return score(_life(item, runs, earlier)).to_json()
    except (ValueError, KeyError, TypeError) as error:
        log_event(logger, Event.PASS_FAILED, logging.ERROR, proposal=item.id, error=repr(error))
        return {"unscored": repr(error)}


def _life(item: _Ended, runs: _Runs, earlier: Sequence[Stretch]) -> HintLife:
    """Raises ValueError, KeyError or TypeError where the stored arguments or the cron expression cannot be read."""
    arguments = json.loads(item.arguments)
    kind = HintKind(item.tool)
    run_at = None
    if kind is HintKind.ONE_SHOT:
        run_at = runs.first_at
        if item.shadow:
            wanted = datetime.fromisoformat(arguments["next_run_at"])
            run_at = wanted if wanted < item.end else None
    return HintLife(
        own=Stretch(
            kind, item.began_at, item.end, int(arguments["interval_ms"]) if kind is HintKind.INTERVAL else None
        ),
        ended_by=item.ended_by,
        baseline=Baseline(
            interval=(
                None
                if item.interval_ms is None
                else Interval.of(item.interval_ms, item.anchor_at, item.starts_at, item.timezone)
            ),
            cadence=None if item.cron is None else parse_cadence(item.cron, item.timezone),
            run_once_at=item.run_once_at,
        ),
        shadow=item.shadow,
        calls=runs.calls,
        failures=runs.failures,
        failure=_change(runs.failure_at, runs.failure_after),
        recovery=_change(runs.recovery_at, runs.recovery_after),
        run_at=run_at,
        last_start_at=runs.last_start_at,
        earlier=earlier,
    )


def _change(at: datetime | None, previous_at: datetime | None) -> Change | None:
    return None if at is None or previous_at is None else Change(at, previous_at)


def _without_overlap(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """The same in order of their beginnings, each ended by the next of its kind: shadows do not end one another."""
    kept: list[Stretch] = []
    next_began: dict[HintKind, datetime] = {}
    for stretch in reversed(list(stretches)):
        end = min(stretch.ended_at, next_began.get(stretch.kind, stretch.ended_at))
        kept.append(replace(stretch, ended_at=end))
        next_began[stretch.kind] = stretch.began_at
    return tuple(reversed(kept))
