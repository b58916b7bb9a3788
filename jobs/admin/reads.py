"""Reads for lists and pages of the console: set-based, so that their number does not grow with the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q

from jobs.models import Endpoint, Run
from jobs.selectors import current_time
from scheduling.cron.cadence import CronError, parse_cadence
from scheduling.plan.interval import Interval

RECENT_RUNS = 20
MAX_SLOTS = 200
HINT_SOURCES = frozenset({"ai-interval", "ai-oneshot", "clamped-min", "clamped-max"})


@dataclass(frozen=True, slots=True)
class Recent:
    """The last runs of an endpoint: outcomes from old to new, and figures of those that ended."""

    statuses: tuple[str, ...] = ()
    good: int = 0
    ended: int = 0
    lateness_ms: float | None = None
    duration_ms: float | None = None

    @property
    def last_status(self) -> str | None:
        """How the newest run stands; None before the first."""
        return self.statuses[-1] if self.statuses else None


def recent_runs(endpoint_ids: Sequence[UUID]) -> dict[UUID, Recent]:
    """The last `RECENT_RUNS` runs of each endpoint in one query; p95 of lateness and the median duration, in ms."""
    if not endpoint_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT e.id, r.* FROM UNNEST(%s::uuid[]) AS e(id) CROSS JOIN LATERAL (
                SELECT array_agg(status ORDER BY due_at),
                       count(*) FILTER (WHERE status = 'success'),
                       count(*) FILTER (WHERE status <> 'running'),
                       percentile_cont(0.95) WITHIN GROUP (
                           ORDER BY extract(epoch FROM started_at - due_at)::float8 * 1000),
                       percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms)
                FROM (SELECT status, due_at, started_at, duration_ms FROM runs
                      WHERE endpoint_id = e.id ORDER BY due_at DESC LIMIT %s) recent
            ) r
            """,
            [list(endpoint_ids), RECENT_RUNS],
        )
        return {row[0]: Recent(tuple(row[1]), row[2], row[3], row[4], row[5]) for row in cursor.fetchall() if row[1]}


@dataclass(frozen=True, slots=True)
class Band:
    """Advice or a pause in force from one instant to another, with who set it and why. `kind` is `hint` or `pause`."""

    kind: str
    begins_at: datetime
    ends_at: datetime
    label: str
    title: str


def bands_of(endpoint: Endpoint, runs: Sequence[Run], since: datetime, until: datetime) -> list[Band]:
    """Hints and pauses that touch the window, from the history of proposals and from what is in force now.

    `runs` come newest first; they tell since when a hint without a proposal has been in force.
    """
    bands = []
    known = set()
    history: Any = endpoint.proposals
    applied = history.filter(
        Q(ended_at__isnull=True) | Q(ended_at__gte=since), applied_at__lt=until, applied_at__isnull=False
    )
    for proposal in applied.order_by("-applied_at")[:50]:
        ends_at = proposal.ended_at or proposal.hint_expires_at
        if ends_at is None or ends_at <= max(since, proposal.applied_at) or proposal.tool == "clear_hints":
            continue
        known.add(proposal.pk)
        kind = "pause" if proposal.tool == "pause_until" else "hint"
        bands.append(Band(kind, proposal.applied_at, ends_at, _proposal_label(proposal), proposal.reason))
    now = current_time()
    if endpoint.ai_hint_interval_ms and endpoint.ai_hint_interval_proposal_id not in known:
        begins_at = now
        for run in runs:
            if run.source not in HINT_SOURCES:
                break
            begins_at = run.due_at
        expires_at = endpoint.ai_hint_interval_expires_at
        if expires_at is not None and expires_at > now:
            label = f"every {endpoint.ai_hint_interval_ms / 1000:g} s"
            bands.append(Band("hint", begins_at, expires_at, label, endpoint.ai_hint_interval_reason or ""))
    if endpoint.paused_until and endpoint.paused_until > now and endpoint.pause_proposal_id not in known:
        bands.append(Band("pause", now, endpoint.paused_until, "paused", endpoint.pause_reason or ""))
    if endpoint.server_wait_until and endpoint.server_wait_until > now:
        bands.append(
            Band(
                "pause",
                endpoint.server_wait_since or now,
                endpoint.server_wait_until,
                "asked to wait",
                endpoint.server_wait_reason or "",
            )
        )
    return sorted(bands, key=lambda band: band.begins_at)


def _proposal_label(proposal: Any) -> str:
    if proposal.tool == "propose_interval" and isinstance(proposal.arguments.get("interval_ms"), int):
        return f"every {proposal.arguments['interval_ms'] / 1000:g} s"
    return {"pause_until": "paused", "propose_next_time": "one run"}.get(proposal.tool, "hint")


def baseline_slots(endpoint: Endpoint, since: datetime, until: datetime) -> list[datetime]:
    """The slots of the user's own schedule in [since, until); the first `MAX_SLOTS` of them."""
    if endpoint.run_once_at is not None:
        return [endpoint.run_once_at] if since <= endpoint.run_once_at < until else []
    before = since - timedelta(microseconds=1)
    try:
        if endpoint.baseline_interval_ms is not None:
            grid = Interval.of(endpoint.baseline_interval_ms, endpoint.anchor_at, endpoint.starts_at, endpoint.timezone)
            slots = grid.slots_after(before, min(MAX_SLOTS, max(0, -((since - until) // grid.step)) + 1))
        else:
            slots = parse_cadence(endpoint.baseline_cron or "", endpoint.timezone).slots_after(before, MAX_SLOTS)
    except CronError:
        return []
    begin = endpoint.starts_at or since
    return [slot for slot in slots if begin <= slot < until and slot > endpoint.created_at]
