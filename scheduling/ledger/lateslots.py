"""Slots that passed before their claim: folded into one run, or written off. Set-based SQL inside the claim."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.models import RunStatus
from jobs.replan import PLAN_ARRAYS, PLAN_ASSIGNMENTS, PLAN_COLUMNS, PLAN_ROW_SELECT, plan, plan_arrays
from scheduling.cron.cadence import Cadence, CronError, parse_cadence
from scheduling.ledger.usedup import UsedUp, put_back
from scheduling.plan.interval import Interval
from scheduling.plan.row import OVERDUE_SOURCES, PlanRow
from scheduling.plan.tardiness import Tardy, judge_tardiness
from scheduling.plan.uncalled import Cause, Uncalled, main_cause


@dataclass(frozen=True, slots=True)
class Grid:
    """What tells which slots an endpoint has: its baseline, its end, and how late a slot may still run."""

    interval_ms: int | None
    anchor_at: datetime
    cron: str | None
    timezone: str
    ends_at: datetime | None
    grace_ms: int | None
    starts_at: datetime | None

    @property
    def interval(self) -> Interval | None:
        """The grid of the interval, None where there is none. Raises CronError where its zone cannot be read here."""
        if self.interval_ms is None:
            return None
        return Interval.of(self.interval_ms, self.anchor_at, self.starts_at, self.timezone)

    @property
    def cadence(self) -> Cadence | None:
        """The cadence, None where there is none or it cannot be read here: then only the claimed slot is known."""
        try:
            return parse_cadence(self.cron, self.timezone) if self.cron is not None else None
        except CronError:
            return None


@dataclass(frozen=True, slots=True)
class LateSlot:
    """A claimed run whose slot was not the latest one, or is beyond its grace."""

    run_id: UUID
    endpoint_id: UUID
    tardy: Tardy
    used_up: UsedUp
    uncalled: str | None

    @property
    def cause(self) -> str | None:
        """The main cause of all that the run stands for."""
        causes = Uncalled.from_json(json.loads(self.uncalled)).causes if self.uncalled is not None else {}
        # A missed slot itself passed for this cause too.
        causes[Cause.NO_WORKER] = causes.get(Cause.NO_WORKER, 0) + self.tardy.folded + self.tardy.missed
        return main_cause(causes).value


def judge(
    *,
    run_id: UUID,
    endpoint_id: UUID,
    source: str,
    slot_at: datetime,
    due_at: datetime,
    now: datetime,
    grid: Grid,
    used_up: UsedUp,
    uncalled: str | None,
) -> LateSlot | None:
    """Looks at a run that is claimed at `now`; None when it is in time, or stands for no slot of the grid."""
    if source not in OVERDUE_SOURCES:
        return None
    try:
        tardy = judge_tardiness(
            slot_at=slot_at,
            # What jitter or a pause adds to a slot is not lateness.
            now=now - (due_at - slot_at),
            interval=grid.interval,
            cadence=grid.cadence,
            ends_at=grid.ends_at,
            grace_ms=grid.grace_ms,
        )
    except (ArithmeticError, ValueError):
        # A row whose times no calendar holds, or whose zone is not known here, must not fail the batch that it is in.
        return None
    return LateSlot(run_id, endpoint_id, tardy, used_up, uncalled) if tardy is not None else None


def write(cursor: Any, late: Sequence[LateSlot], now: datetime) -> None:
    """Moves late runs to the latest slot; those beyond their grace end as missed, their endpoints are planned on."""
    cursor.execute(
        f"""
        UPDATE runs r SET scheduled_for = p.scheduled_for, coalesced_slots = r.coalesced_slots + p.folded,
            coalesced_until = p.latest, coalesced_cause = p.cause,
            status = CASE WHEN p.missed THEN '{RunStatus.MISSED}' ELSE r.status END,
            decision = r.decision || jsonb_build_object('sentence', concat(r.decision ->> 'sentence', ' ', p.words))
        FROM UNNEST(%s::uuid[], %s::timestamptz[], %s::integer[], %s::timestamptz[], %s::boolean[], %s::text[],
                    %s::text[])
            AS p(id, scheduled_for, folded, latest, missed, cause, words)
        WHERE r.id = p.id
        """,
        [
            [slot.run_id for slot in late],
            [slot.tardy.scheduled_for for slot in late],
            [slot.tardy.folded for slot in late],
            [slot.tardy.latest_at for slot in late],
            [slot.tardy.missed for slot in late],
            [slot.cause for slot in late],
            [slot.tardy.words for slot in late],
        ],
    )
    cursor.execute(
        """
        UPDATE job_endpoints e SET last_slot_at = GREATEST(e.last_slot_at, p.latest)
        FROM UNNEST(%s::uuid[], %s::timestamptz[]) AS p(id, latest) WHERE e.id = p.id
        """,
        [[slot.endpoint_id for slot in late], [slot.tardy.latest_at for slot in late]],
    )
    missed = [slot for slot in late if slot.tardy.missed]
    if missed:
        _plan_past(cursor, missed, now)


def _plan_past(cursor: Any, missed: Sequence[LateSlot], now: datetime) -> None:
    """Gives endpoints back whose slot was written off, planned past it.

    Nothing was called: the last start stays what it was, a one-shot hint waits on, failures are not touched.
    """
    put_back(cursor, {slot.endpoint_id: slot.used_up for slot in missed}, slots=False)
    cursor.execute(
        f"{PLAN_ROW_SELECT} FROM job_endpoints e JOIN jobs j ON j.id = e.job_id WHERE e.id = ANY(%s)",
        [[slot.endpoint_id for slot in missed]],
    )
    rows = [PlanRow(*values) for values in cursor.fetchall()]
    decisions = [plan(row, now, unclaimed=False) for row in rows]
    cursor.execute(
        f"UPDATE job_endpoints e SET {PLAN_ASSIGNMENTS}, lease_owner = NULL, lease_until = NULL"
        f" FROM UNNEST(%s::uuid[], {PLAN_ARRAYS}) AS p(id, {PLAN_COLUMNS}) WHERE e.id = p.id",
        [[row.id for row in rows], *plan_arrays(rows, decisions)],
    )
