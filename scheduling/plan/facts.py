"""What the governor looks at when it plans: one endpoint's schedule, bounds, hints, pauses and state. Pure.

Instants are aware UTC; durations carry their unit; None means not set.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scheduling.cron.cadence import Cadence
from scheduling.cron.zones import rules_version
from scheduling.plan.decision import Source
from scheduling.plan.interval import Interval, is_local

_MILLISECOND = timedelta(milliseconds=1)
# The author of hints and pauses that give way to a failure back-off.
MODEL = "the model"
PLANNER = "the planner"
PERSON = "a person"


@dataclass(frozen=True, slots=True)
class IntervalHint:
    """Advice on the interval, in force until `expires_at` (exclusive); None there means not in force.

    `author` says in words who set it, where it was not a person.
    """

    interval_ms: int
    expires_at: datetime | None
    reason: str = ""
    by_person: bool = False
    author: str = PLANNER

    @property
    def set_by(self) -> str:
        """Who set it, in words."""
        return PERSON if self.by_person else self.author


@dataclass(frozen=True, slots=True)
class OneShotHint:
    """Advice on one moment, in force until `expires_at` (exclusive); None there means not in force.

    `author` says in words who set it.
    """

    at: datetime
    expires_at: datetime | None
    reason: str = ""
    author: str = PLANNER


@dataclass(frozen=True, slots=True)
class Retry:
    """A repeat of the slot `slot_at`, to start at `at` as the given attempt, of at most `limit` repeats.

    `after_loss` tells that the worker of the last attempt was lost; such a repeat is not one of the owner's.
    """

    at: datetime
    slot_at: datetime
    attempt: int
    limit: int
    after_loss: bool = False


@dataclass(frozen=True, slots=True)
class Overdue:
    """A planned slot whose time `run_at` has come and that no worker has claimed yet; a re-plan must not lose it."""

    slot_at: datetime
    source: Source
    run_at: datetime


@dataclass(frozen=True, slots=True)
class AskedWait:
    """What the server asked for in its last response, at `since`: no call before `until`."""

    since: datetime
    until: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """All that the governor looks at.

    Exactly one of `interval_ms`, `cadence` and `run_once_at` is set. `blocked` names what makes the endpoint not
    schedulable ("the endpoint is paused", "its job is archived"); `paused_without_end` tells that it is a pause, which
    somebody may lift. `jitter` is the endpoint's own stable delay, added
    to the slots of its baseline only. The schedule covers slots in [starts_at, ends_at). `timezone` is that of an
    interval; a cadence has its own. `failing_since` is the slot of the first run of the streak of failures;
    `recovery_check_ms` bounds the back-off, None is the interval.
    """

    created_at: datetime
    anchor_at: datetime
    interval_ms: int | None = None
    timezone: str = "UTC"
    cadence: Cadence | None = None
    run_once_at: datetime | None = None
    blocked: str | None = None
    paused_without_end: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    jitter: timedelta = timedelta(0)
    min_interval_ms: int | None = None
    max_interval_ms: int | None = None
    hint_floor_ms: int = 10_000
    last_slot_at: datetime | None = None
    last_started_at: datetime | None = None
    failure_count: int = 0
    failing_since: datetime | None = None
    recovery_check_ms: int | None = None
    interval_hint: IntervalHint | None = None
    oneshot_hint: OneShotHint | None = None
    paused_until: datetime | None = None
    pause_reason: str = ""
    server_wait: AskedWait | None = None
    pause_author: str = ""
    retry: Retry | None = None
    manual_run_at: datetime | None = None
    overdue: Overdue | None = None
    schedule_changed_at: datetime | None = None

    def grid(self, interval_ms: int) -> Interval:
        """The grid of the interval. Raises CronError where it needs a zone that is not known."""
        return Interval.of(interval_ms, self.anchor_at, self.starts_at, self.timezone)

    @property
    def is_done(self) -> bool:
        """Whether the one run of a run-once endpoint has been served."""
        return self.run_once_at is not None and self.last_slot_at is not None and self.last_slot_at >= self.run_once_at

    def covers(self, slot_at: datetime) -> bool:
        """Whether a slot lies inside [starts_at, ends_at)."""
        return (self.starts_at is None or slot_at >= self.starts_at) and (
            self.ends_at is None or slot_at < self.ends_at
        )

    def to_json(self, now: datetime) -> dict[str, Any]:
        """The facts as they are stored beside the decision taken at `now`; what is not set is left out."""
        values: dict[str, Any] = {"now": now.isoformat()}
        if self.cadence is not None:
            values["cron"], values["timezone"] = self.cadence.expression, self.cadence.timezone
            if self.cadence.timezone != "UTC":
                values["tzdata"] = rules_version()
        if self.interval_ms is not None:
            values["interval_ms"], values["anchor_at"] = self.interval_ms, self.anchor_at.isoformat()
            if is_local(self.interval_ms, self.anchor_at, self.starts_at, self.timezone):
                values["timezone"], values["tzdata"] = self.timezone, rules_version()
        if self.jitter:
            values["jitter_ms"] = self.jitter // _MILLISECOND
        if self.failure_count:
            values["failure_count"] = self.failure_count
            if self.failing_since is not None:
                values["failing_since"] = self.failing_since.isoformat()
        if self.interval_hint is not None:
            values["hint_interval_ms"] = self.interval_hint.interval_ms
            values["hint_interval_expires_at"] = _text(self.interval_hint.expires_at)
            values["hint_interval_by"] = "person" if self.interval_hint.by_person else "planner"
            values["hint_interval_author"] = self.interval_hint.set_by
        if self.oneshot_hint is not None:
            values["hint_next_run_at"] = _text(self.oneshot_hint.at)
            values["hint_next_run_expires_at"] = _text(self.oneshot_hint.expires_at)
            values["hint_next_run_author"] = self.oneshot_hint.author
        if self.retry is not None:
            values["retry_at"], values["retry_slot_at"] = _text(self.retry.at), _text(self.retry.slot_at)
        if self.overdue is not None:
            values["overdue_slot_at"] = _text(self.overdue.slot_at)
        if self.min_interval_ms is not None:
            values["min_interval_ms"] = self.min_interval_ms
        if self.max_interval_ms is not None:
            values["max_interval_ms"] = self.max_interval_ms
        if self.recovery_check_ms is not None:
            values["recovery_check_ms"] = self.recovery_check_ms
        if self.run_once_at is not None:
            values["run_once_at"] = self.run_once_at.isoformat()
        if self.starts_at is not None:
            values["starts_at"] = self.starts_at.isoformat()
        if self.ends_at is not None:
            values["ends_at"] = self.ends_at.isoformat()
        if self.last_slot_at is not None:
            values["last_slot_at"] = self.last_slot_at.isoformat()
        if self.last_started_at is not None:
            values["last_started_at"] = self.last_started_at.isoformat()
        if self.paused_until is not None:
            values["paused_until"] = self.paused_until.isoformat()
        if self.server_wait is not None:
            values["server_wait_since"] = self.server_wait.since.isoformat()
            values["server_wait_until"] = self.server_wait.until.isoformat()
        if self.manual_run_at is not None:
            values["manual_run_at"] = self.manual_run_at.isoformat()
        return values


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
