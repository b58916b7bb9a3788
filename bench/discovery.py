"""What the planner's discovery costs: the pass of the model and the pass of the rules, at two sizes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from statistics import median
from typing import Any

from django.db import connection

from bench import rows
from bench.figures import Figure
from bench.place import empty
from planner.attention import discovery
from planner.attention.policy import body_shape
from planner.rules.rulespass import BATCH, OVERLAP
from planner.rules.snapshots import NO_ID, Place, endpoints_with_recent_runs

SIZES = (10_000, 100_000)
SESSIONS_EACH = 3
RUNS_EACH = 3
MOST_REPEATS = 10
HOUR = timedelta(hours=1)
BODY = json.dumps({"queue_depth": 12, "workers": [{"id": number, "state": "busy"} for number in range(8)]})
NUMBERS = json.dumps({"/queue_depth": {"low": 8, "high": 14, "last": 12, "seen": 20, "way": None}})


def measure(url: str, seconds: float, *, sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """Looks for what deserves a look among endpoints that all ran lately, half of which were never analysed."""
    figures: list[Figure] = []
    smallest: dict[str, float] = {}
    repeats = min(max(int(seconds / 2), 3), MOST_REPEATS)
    for size in sizes:
        _fill(size)
        now = rows.clock()
        plan = _plan(now)
        found = {
            "statement, time": (median(_plan(now)["Execution Time"] for _ in range(repeats)), "ms"),
            "whole look with bodies, time": (_milliseconds(partial(discovery.candidates, now), repeats), "ms"),
            "endpoints chosen": (float(len(discovery.candidates(now))), ""),
            "scans of runs": (float(_scans_of(plan, "runs")), ""),
            "rules, since the last pass": (_milliseconds(partial(_rules, (now - OVERLAP, NO_ID)), repeats), "ms"),
            "rules, look at all": (_milliseconds(partial(_rules, None), repeats), "ms"),
        }
        for what, (value, unit) in found.items():
            first = smallest.setdefault(what, value)
            figures.append(Figure(f"discovery among {size:,}", what, value, unit, f"among {sizes[0]:,}", first))
    return figures


def _fill(size: int) -> None:
    """All ran within the last five minutes; every second one has sessions and a response, and is due in an hour."""
    empty()
    first = rows.clock() + HOUR
    rows.fill(size, port=9, interval=HOUR, first_due_at=first, step=HOUR / size)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            """
            UPDATE job_endpoints SET last_run_at = now() - mod(n, 300) * interval '1 second',
                next_analysis_at = CASE WHEN mod(n, 2) = 0 THEN now() + interval '1 hour' END
            FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM job_endpoints) AS numbered
            WHERE numbered.id = job_endpoints.id
            """
        )
        cursor.execute(
            """
            INSERT INTO sessions (endpoint_id, owner_id, trigger, analyzed_at, backend, status, reasoning, tool_calls,
                prompt_tokens, completion_tokens, estimated_cost_usd, warnings, next_analysis_at,
                endpoint_failure_count, body_shape, body_numbers)
            SELECT id, owner_id, 'due', now() - n * interval '2 hours', 'openai', 'completed', repeat('because ', 40),
                '[]', 1500, 100, 0.001, '[]', now() + interval '1 hour', 0, %s, %s
            FROM job_endpoints, generate_series(12, 12 + %s - 1) AS n WHERE next_analysis_at IS NOT NULL
            """,
            [body_shape(BODY), NUMBERS, SESSIONS_EACH],
        )
        cursor.execute(
            """
            INSERT INTO runs (endpoint_id, owner_id, scheduled_for, due_at, source, status, finished_at, duration_ms,
                status_code)
            SELECT id, owner_id, at, at, 'baseline-interval', 'success', at + interval '50 ms', 50, 200
            FROM (
                SELECT id, owner_id, last_run_at - n * interval '1 hour' AS at
                FROM job_endpoints, generate_series(0, %s - 1) AS n
            ) AS slots
            """,
            [RUNS_EACH],
        )
        cursor.execute(
            """
            INSERT INTO run_responses (run_id, endpoint_id, received_at, body, truncated, flags, headers)
            SELECT r.id, r.endpoint_id, r.finished_at, %s, false, '[]', '{}'
            FROM runs r JOIN job_endpoints e ON e.id = r.endpoint_id
            WHERE e.next_analysis_at IS NOT NULL
            """,
            [BODY],
        )
        cursor.execute("VACUUM ANALYZE job_endpoints, runs, run_responses, sessions, users")
        cursor.execute("RESET statement_timeout")


def _rules(after: Place | None) -> list[Place]:
    return endpoints_with_recent_runs(after, heuristics=True, limit=BATCH)


def _plan(now: datetime) -> dict[str, Any]:
    with connection.cursor() as cursor:
        statement, parameters = discovery.statement(now)
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, parameters)
        (found,) = cursor.fetchone()
        plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]
        return plan


def _scans_of(plan: dict[str, Any], table: str) -> int:
    return sum(node.get("Relation Name") == table for node in _nodes(plan["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from _nodes(below)


def _milliseconds(look: Callable[[], object], repeats: int) -> float:
    """The median; the first look is left out."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        look()
        times.append((time.perf_counter() - begin) * 1000)
    return median(times[1:])
