"""The row of an endpoint as far as a plan rests on it, and what plans, claims and results mean for it. Pure.

Settling and reaping change a `PlanRow` and plan from it; nothing here reads or writes the database. `apply_plan` and
`apply_claim` say what the SQL of `jobs.replan` and `scheduling.ledger.claims` does to these columns.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from scheduling.cron.cadence import parse_cadence
from scheduling.exchange.outcome import Blame, Outcome
from scheduling.exchange.server_wait import ServerWait, asked_wait
from scheduling.plan.backoff import retry_delay_ms, stable_jitter
from scheduling.plan.decision import HOLDING_SOURCES, Decision, Source
from scheduling.plan.facts import PERSON, PLANNER, AskedWait, EndpointFacts, IntervalHint, OneShotHint, Overdue, Retry
from scheduling.plan.governor import plan_next_run
from scheduling.plan.interval import Interval
from scheduling.plan.tardiness import Tardy, judge_tardiness
from scheduling.plan.uncalled import IDLE, NO_PLAN, Spans, with_uncalled

OVERDUE_SOURCES = frozenset(
    {
        *(Source.BASELINE_INTERVAL, Source.BASELINE_CRON, Source.RUN_ONCE, Source.CLAMPED_MAX),
        *(Source.PAUSED, Source.SERVER_ASKED),
    }
)


LOSSES_THAT_GIVE_UP_A_SLOT = 3
LOSSES_THAT_PAUSE = 6
SYSTEM_PAUSE = timedelta(days=1)
RETRYABLE_STATUS = frozenset({408, 425, 429, *range(500, 600)})
RETRYABLE_WHERE_ASKED = frozenset({403, 413})


@dataclass(slots=True)
class PlanRow:
    """The columns that a plan rests on, as they stand in the locked row. Settling changes it, then plans from it."""

    id: UUID
    status: str
    job_status: str
    created_at: datetime
    anchor_at: datetime
    baseline_interval_ms: int | None
    baseline_cron: str | None
    run_once_at: datetime | None
    timezone: str
    starts_at: datetime | None
    ends_at: datetime | None
    jitter_ms: int
    min_interval_ms: int | None
    max_interval_ms: int | None
    recovery_check_ms: int | None
    retry_limit: int
    ai_hint_interval_ms: int | None
    ai_hint_interval_expires_at: datetime | None
    ai_hint_interval_reason: str | None
    ai_hint_interval_set_by: str | None
    ai_hint_interval_author: str | None
    ai_hint_next_run_at: datetime | None
    ai_hint_next_run_expires_at: datetime | None
    ai_hint_next_run_reason: str | None
    ai_hint_next_run_set_by: str | None
    ai_hint_next_run_author: str | None
    paused_until: datetime | None
    pause_reason: str | None
    paused_by: str | None
    pause_author: str | None
    last_slot_at: datetime | None
    last_started_at: datetime | None
    failure_count: int
    failing_since: datetime | None
    server_wait_since: datetime | None
    server_wait_until: datetime | None
    server_wait_reason: str | None
    retry_at: datetime | None
    retry_slot_at: datetime | None
    retry_attempt: int | None
    retries_used: int
    loss_count: int
    manual_run_at: datetime | None
    lease_owner: str | None
    next_run_at: datetime | None
    next_slot_at: datetime | None
    next_source: str | None
    owner_active: bool = True
    schedule_changed_at: datetime | None = None
    uncalled: Any = None

    def __post_init__(self) -> None:
        # The database gives it as text.
        if isinstance(self.uncalled, str):
            self.uncalled = json.loads(self.uncalled)


def facts_of(row: PlanRow, now: datetime, *, unclaimed: bool, hint_floor_ms: int) -> EndpointFacts:
    """What the governor needs of a row. `unclaimed` tells that a planned slot, if its time has come, still waits."""
    overdue = None
    if unclaimed and row.next_run_at is not None and row.next_run_at <= now and row.next_source in OVERDUE_SOURCES:
        assert row.next_slot_at is not None
        overdue = Overdue(row.next_slot_at, Source(row.next_source), row.next_run_at)
    interval_hint = oneshot_hint = retry = server_wait = None
    if row.ai_hint_interval_ms is not None:
        interval_hint = IntervalHint(
            interval_ms=row.ai_hint_interval_ms,
            expires_at=row.ai_hint_interval_expires_at,
            reason=row.ai_hint_interval_reason or "",
            by_person=row.ai_hint_interval_set_by == "user",
            author=row.ai_hint_interval_author or PLANNER,
        )
    if row.ai_hint_next_run_at is not None:
        oneshot_hint = OneShotHint(
            at=row.ai_hint_next_run_at,
            expires_at=row.ai_hint_next_run_expires_at,
            reason=row.ai_hint_next_run_reason or "",
            author=PERSON if row.ai_hint_next_run_set_by == "user" else row.ai_hint_next_run_author or PLANNER,
        )
    if row.retry_at is not None and row.retry_slot_at is not None and row.retry_attempt is not None:
        retry = Retry(
            row.retry_at,
            row.retry_slot_at,
            attempt=row.retry_attempt,
            limit=row.retry_limit,
            after_loss=row.loss_count > 0,
        )
    if row.server_wait_since is not None and row.server_wait_until is not None:
        server_wait = AskedWait(row.server_wait_since, row.server_wait_until, row.server_wait_reason or "")
    return EndpointFacts(
        created_at=row.created_at,
        anchor_at=row.anchor_at,
        interval_ms=row.baseline_interval_ms,
        timezone=row.timezone,
        cadence=parse_cadence(row.baseline_cron, row.timezone) if row.baseline_cron is not None else None,
        run_once_at=row.run_once_at,
        blocked=_blocked(row),
        paused_without_end=row.owner_active and "paused" in (row.status, row.job_status),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        jitter=stable_jitter(row.id, row.jitter_ms) if row.jitter_ms else timedelta(0),
        min_interval_ms=row.min_interval_ms,
        max_interval_ms=row.max_interval_ms,
        hint_floor_ms=hint_floor_ms,
        last_slot_at=row.last_slot_at,
        last_started_at=row.last_started_at,
        failure_count=row.failure_count,
        failing_since=row.failing_since,
        recovery_check_ms=row.recovery_check_ms,
        interval_hint=interval_hint,
        oneshot_hint=oneshot_hint,
        paused_until=row.paused_until,
        pause_reason=row.pause_reason or "",
        server_wait=server_wait,
        pause_author=_pause_author(row),
        retry=retry,
        manual_run_at=row.manual_run_at,
        overdue=overdue,
        schedule_changed_at=row.schedule_changed_at,
    )


def plan_row(row: PlanRow, now: datetime, *, unclaimed: bool, hint_floor_ms: int, spans: Spans = IDLE) -> Decision:
    """The governor's decision on a row as it stands, with the count of slots that passed uncalled.

    `spans` tells why slots may have passed since the plan in force until now.
    """
    facts = facts_of(row, now, unclaimed=unclaimed, hint_floor_ms=hint_floor_ms)
    return with_uncalled(plan_next_run(facts, now), facts, now, row.uncalled, spans)


def _pause_author(row: PlanRow) -> str:
    """Who paused, in words; "" is the scheduler itself, and nobody."""
    if row.paused_by == "user":
        return PERSON
    return row.pause_author or PLANNER if row.paused_by == "planner" else ""


def _blocked(row: PlanRow) -> str | None:
    if not row.owner_active:
        return "its owner is deactivated"
    if row.status != "active":
        return f"the endpoint is {row.status}"
    if row.job_status != "active":
        return f"its job is {row.job_status}"
    return None


def apply_plan(row: PlanRow, decision: Decision) -> None:
    """Changes the row to what is planned; a decision that dropped the retry clears it."""
    row.next_run_at, row.next_slot_at = decision.run_at, decision.slot_at
    row.next_source = decision.source.value if decision.source is not None else None
    row.uncalled = decision.uncalled or (NO_PLAN if decision.run_at is None else None)
    if decision.drop_retry:
        row.retry_at = row.retry_slot_at = row.retry_attempt = None


def apply_claim(row: PlanRow, now: datetime, *, worker: str, grace_ms: int | None = None) -> Tardy | None:
    """Changes the row to what it is once `worker` has claimed its next run: what made the run due is used up.

    A claim may come ahead of its run, which then counts as started when it is due. Returns what became of slots that
    passed unclaimed, None where there are none; if they are missed, nothing is to be called, only the slots are used
    up, and the row is to be planned past them. Raises ValueError where nothing is planned.
    """
    if row.next_run_at is None or row.next_slot_at is None or row.next_source is None:
        raise ValueError("Nothing is planned on this row; only a planned run can be claimed.")
    source, slot_at, due_at = row.next_source, row.next_slot_at, row.next_run_at
    tardy = _tardiness(row, now, grace_ms=grace_ms) if source in OVERDUE_SOURCES else None
    row.lease_owner = worker
    last_slot_at = slot_at if tardy is None else tardy.latest_at
    row.last_slot_at = last_slot_at if row.last_slot_at is None else max(row.last_slot_at, last_slot_at)
    if source == Source.MANUAL:
        row.manual_run_at = None
    else:
        row.retry_at = row.retry_slot_at = row.retry_attempt = None
        if source != Source.RETRY:
            row.retries_used = 0
    if tardy is not None and tardy.missed:
        return tardy
    row.last_started_at = max(now, due_at)
    if source == Source.AI_ONESHOT or (
        source in HOLDING_SOURCES and row.ai_hint_next_run_at is not None and row.ai_hint_next_run_at <= due_at
    ):
        row.ai_hint_next_run_at = row.ai_hint_next_run_expires_at = row.ai_hint_next_run_reason = None
        row.ai_hint_next_run_set_by = None
    return tardy


def _tardiness(row: PlanRow, now: datetime, *, grace_ms: int | None) -> Tardy | None:
    assert row.next_run_at is not None
    assert row.next_slot_at is not None
    return judge_tardiness(
        slot_at=row.next_slot_at,
        now=now - (row.next_run_at - row.next_slot_at),
        interval=(
            Interval.of(row.baseline_interval_ms, row.anchor_at, row.starts_at, row.timezone)
            if row.baseline_interval_ms is not None
            else None
        ),
        cadence=parse_cadence(row.baseline_cron, row.timezone) if row.baseline_cron is not None else None,
        ends_at=row.ends_at,
        grace_ms=grace_ms,
    )


class Consequence(StrEnum):
    """What the loss of a worker means for the slot that it held."""

    REPEAT = "repeat"
    SKIP = "skip"
    GIVE_UP = "give up"
    PAUSE = "pause"


def apply_outcome(
    row: PlanRow, outcome: Outcome, *, slot_at: datetime, attempt: int, finished_at: datetime, now: datetime
) -> None:
    """Changes the row to what a call that ended at `finished_at` means for it.

    That is the streak of failures, what the server asked for, and a retry where the owner asked for one. A run that a
    person asked for may end while another slot's retry still waits: that one stays as it is.
    """
    row.loss_count = 0
    asked = asked_wait(outcome.status_code, outcome.wait_headers, finished_at)
    _apply_wait(row, asked, answered=outcome.ok, now=now)
    another_waits = row.retry_slot_at is not None and row.retry_slot_at != slot_at
    if outcome.ok:
        row.failure_count, row.failing_since = 0, None
        if not another_waits:
            row.retries_used = 0
        return
    # Faults of our own machine do not count against an endpoint.
    if outcome.blame is not Blame.LOCAL:
        if row.failure_count == 0 or row.failing_since is None:
            row.failing_since = slot_at
        row.failure_count += 1
    if not another_waits and row.retries_used < row.retry_limit and worth_a_retry(outcome, asked):
        row.retries_used += 1
        delay_ms = retry_delay_ms(row.retries_used, seed=f"{row.id}{slot_at.isoformat()}")
        row.retry_at = now + timedelta(milliseconds=delay_ms)
        row.retry_slot_at, row.retry_attempt = slot_at, attempt + 1


def _apply_wait(row: PlanRow, asked: ServerWait | None, *, answered: bool, now: datetime) -> None:
    """Changes what the server asked for: a success has the last word, a failure leaves a wait that ends later."""
    if asked is not None and (answered or row.server_wait_until is None or asked.until > row.server_wait_until):
        row.server_wait_since, row.server_wait_until, row.server_wait_reason = now, asked.until, asked.reason
    if row.server_wait_until is not None and (row.server_wait_until <= now or (answered and asked is None)):
        clear_server_wait(row)


def end_server_wait(row: PlanRow, now: datetime) -> None:
    """Forgets what the server asked for, by somebody's word; a slot that has come and was put off is due at once."""
    put_off = row.lease_owner is None and row.next_source == Source.SERVER_ASKED
    if put_off and row.next_slot_at is not None and row.next_slot_at <= now:
        row.next_run_at = now
    clear_server_wait(row)


def clear_server_wait(row: PlanRow) -> None:
    """Forgets what the server asked for."""
    row.server_wait_since = row.server_wait_until = row.server_wait_reason = None


def apply_giving_up(row: PlanRow, *, slot_at: datetime, attempt: int, now: datetime) -> None:
    """Changes the row to what it means that a worker gave a call up to stop: the slot is repeated at once."""
    row.loss_count = 0
    row.retry_at, row.retry_slot_at, row.retry_attempt = now, slot_at, attempt + 1


def apply_loss(row: PlanRow, *, slot_at: datetime | None, attempt: int, skip: bool, now: datetime) -> Consequence:
    """Changes the row to what the loss of its worker means; `slot_at` None where no run was under way.

    The slot is repeated with the next attempt, unless the owner wants at most one; after three losses it is given up,
    six in a row pause the endpoint.
    """
    row.loss_count += 1
    if row.loss_count >= LOSSES_THAT_PAUSE:
        row.paused_until = max(now + SYSTEM_PAUSE, row.paused_until or now)
        row.pause_reason = f"its worker was lost {row.loss_count} times in a row"
        row.paused_by = "system"
        return Consequence.PAUSE
    if slot_at is None or skip:
        return Consequence.SKIP
    if row.loss_count % LOSSES_THAT_GIVE_UP_A_SLOT == 0:
        return Consequence.GIVE_UP
    row.retry_at, row.retry_slot_at, row.retry_attempt = now, slot_at, attempt + 1
    return Consequence.REPEAT


def worth_a_retry(outcome: Outcome, asked: ServerWait | None) -> bool:
    """Whether the same request may succeed later; one that is refused by policy will not.

    403 and 413 are worth one only where the server says how long that lasts.
    """
    if outcome.blame is Blame.POLICY:
        return False
    status = outcome.status_code
    if status is None or status < 400 or status in RETRYABLE_STATUS:
        return True
    return status in RETRYABLE_WHERE_ASKED and asked is not None
