"""A scenario: endpoints, how their targets behave, and what happens to them, over a span of virtual time. Pure.

Instants are aware UTC; durations carry their unit. `scenario_file` reads scenarios, `engine`
plays them.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from scheduling.plan.edits import SCHEDULE_COLUMNS, follow_new_schedule
from scheduling.plan.interval import anchor_of
from scheduling.plan.row import PlanRow, end_server_wait

BASELINES = ("baseline_interval_ms", "baseline_cron", "run_once_at")


@dataclass(frozen=True, slots=True)
class OutcomeModel:
    """How the target of an endpoint answers.

    The duration is drawn evenly from `duration_ms`, both ends included. Calls succeed or fail by `pattern`, call by
    call and over again; without one, each fails with `fail_probability`. A failed call answers with `status_code`, and
    with Retry-After where that is given; None means that it ran into its deadline.
    """

    duration_ms: tuple[int, int] = (100, 100)
    fail_probability: float = 0.0
    pattern: tuple[bool, ...] = ()
    status_code: int | None = 500
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """An endpoint as it is created at `created_at`; `columns` are its schedule, bounds and policies by column name.

    `misfire_grace_ms` None lets a late slot run however late it is.
    """

    name: str
    id: UUID
    created_at: datetime
    columns: Mapping[str, Any]
    outcome: OutcomeModel = field(default=OutcomeModel())
    misfire_grace_ms: int | None = None

    def new_row(self) -> PlanRow:
        """Its row before the first plan."""
        nothing: dict[str, Any] = dict.fromkeys(PlanRow.__dataclass_fields__)
        counters = dict.fromkeys(("jitter_ms", "retry_limit", "failure_count", "retries_used", "loss_count"), 0)
        state = {"id": self.id, "status": "active", "job_status": "active", "owner_active": True, "timezone": "UTC"}
        anchor_at = anchor_of(self.columns.get("starts_at"), self.created_at)
        times = {"created_at": self.created_at, "anchor_at": anchor_at}
        return PlanRow(**{**nothing, **counters, **state, **times, **self.columns})


class Change(Protocol):
    """What a person or a planner does to an endpoint; each changes the row as its service does."""

    def apply(self, row: PlanRow, now: datetime) -> None:
        """Changes the row; planning anew is the caller's."""


@dataclass(frozen=True, slots=True)
class SetIntervalHint:
    """Advice on the interval, in force for `ttl_ms`; `author` is `user` or `planner`, `author_words` who that was."""

    interval_ms: int
    ttl_ms: int
    reason: str = ""
    author: str = "planner"
    author_words: str | None = None

    def apply(self, row: PlanRow, now: datetime) -> None:
        row.ai_hint_interval_ms = self.interval_ms
        row.ai_hint_interval_expires_at = now + timedelta(milliseconds=self.ttl_ms)
        row.ai_hint_interval_reason, row.ai_hint_interval_set_by = self.reason, self.author
        row.ai_hint_interval_author = self.author_words


@dataclass(frozen=True, slots=True)
class SetOneShotHint:
    """Advice on one moment, `next_run_in_ms` from the change, in force for `ttl_ms`."""

    next_run_in_ms: int
    ttl_ms: int
    reason: str = ""
    author: str = "planner"
    author_words: str | None = None

    def apply(self, row: PlanRow, now: datetime) -> None:
        row.ai_hint_next_run_at = now + timedelta(milliseconds=self.next_run_in_ms)
        row.ai_hint_next_run_expires_at = now + timedelta(milliseconds=self.ttl_ms)
        row.ai_hint_next_run_reason, row.ai_hint_next_run_set_by = self.reason, self.author
        row.ai_hint_next_run_author = self.author_words


@dataclass(frozen=True, slots=True)
class ClearHints:
    """Back to the baseline; pauses stay. One kind of hint may be left alone."""

    interval: bool = True
    oneshot: bool = True

    def apply(self, row: PlanRow, now: datetime) -> None:
        if self.interval:
            row.ai_hint_interval_ms = row.ai_hint_interval_expires_at = None
            row.ai_hint_interval_reason = row.ai_hint_interval_set_by = None
        if self.oneshot:
            row.ai_hint_next_run_at = row.ai_hint_next_run_expires_at = row.ai_hint_next_run_reason = None
            row.ai_hint_next_run_set_by = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing but run-now starts before `until`."""

    until: datetime
    reason: str = ""
    author: str = "user"
    author_words: str | None = None

    def apply(self, row: PlanRow, now: datetime) -> None:
        row.paused_until, row.pause_reason = self.until, self.reason
        row.paused_by, row.pause_author = self.author, self.author_words


@dataclass(frozen=True, slots=True)
class Resume:
    """Ends a pause."""

    def apply(self, row: PlanRow, now: datetime) -> None:
        row.paused_until = row.pause_reason = row.paused_by = None


@dataclass(frozen=True, slots=True)
class RunNow:
    """One run at once."""

    def apply(self, row: PlanRow, now: datetime) -> None:
        row.manual_run_at = now


@dataclass(frozen=True, slots=True)
class ResetFailures:
    """Clears the streak of failures and what the server asked for; the grid begins anew, unless it is anchored."""

    def apply(self, row: PlanRow, now: datetime) -> None:
        old = copy(row)
        row.failure_count = row.loss_count = row.retries_used = 0
        row.failing_since = None
        end_server_wait(row, now)
        row.retry_at = row.retry_slot_at = row.retry_attempt = None
        if row.starts_at is None:
            row.anchor_at = now
        follow_new_schedule(row, old, now)


@dataclass(frozen=True, slots=True)
class Edit:
    """New values for some of the columns that an `EndpointSpec` has; a new baseline replaces the old one."""

    columns: Mapping[str, Any]

    def apply(self, row: PlanRow, now: datetime) -> None:
        old = copy(row)
        if any(name in self.columns for name in BASELINES):
            row.baseline_interval_ms = row.baseline_cron = row.run_once_at = None
        for name, value in self.columns.items():
            setattr(row, name, value)
        if (row.baseline_interval_ms, row.starts_at) != (old.baseline_interval_ms, old.starts_at):
            row.anchor_at = anchor_of(row.starts_at, now)
        if any(getattr(row, name) != getattr(old, name) for name in SCHEDULE_COLUMNS):
            follow_new_schedule(row, old, now)


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one endpoint at an instant."""

    at: datetime
    endpoint: str
    change: Change


@dataclass(frozen=True, slots=True)
class Outage:
    """A time [begin, end) in which no worker claims anything; calls under way end and are settled."""

    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is played: the time [start, end) with these endpoints and events, the same each time for the same seed."""

    name: str
    start: datetime
    end: datetime
    endpoints: tuple[EndpointSpec, ...]
    events: tuple[Event, ...] = ()
    outages: tuple[Outage, ...] = ()
    seed: int = 0
    hint_floor_ms: int = 10_000
