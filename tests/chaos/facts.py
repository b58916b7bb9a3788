"""What the checker looks at: calls, rows, what people asked for, and what was done to the schedulers. Pure.

Instants are the database's, or those of the same machine's clock. A run's `fence` and a change's tell exactly which
came first: a claim raises the endpoint's fence, and a change reads it under the same row lock.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

LEASE = timedelta(seconds=5)
POLL = timedelta(seconds=1)
# The longest that a target takes to answer.
LONGEST_CALL = timedelta(seconds=2)
# By how much a shared machine may be late where no fault held it up.
SLACK = timedelta(seconds=5)
# Within this time of its commit a pause keeps claimed calls from starting (docs/architecture.md).
GATE = timedelta(milliseconds=500)
# How long a scheduler that is told to stop waits for its calls, and what it then has to end.
DRAIN, EXIT = timedelta(seconds=25), timedelta(seconds=5)

ChangeKind = Literal["hint", "oneshot", "clear", "pause", "resume", "stop", "start", "run", "edit", "reset"]


@dataclass(frozen=True)
class Call:
    """What the target saw; `finished_at` is None for a call that never ended, `ok` False for a planned failure."""

    label: str
    key: str
    slot: datetime
    attempt: int
    received_at: datetime
    finished_at: datetime | None
    answered: bool
    ok: bool = True


@dataclass(frozen=True)
class RunFacts:
    """A row of `runs`; `planned_at` is when the decision behind it was taken.

    That decision came after the slot `after_slot`, None for the first.
    """

    endpoint_id: UUID
    slot: datetime
    due_at: datetime
    attempt: int
    source: str
    status: str
    error_kind: str | None
    claimed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    fence: int
    worker: str
    coalesced_slots: int
    planned_at: datetime
    after_slot: datetime | None = None
    coalesced_cause: str | None = None

    @property
    def begun_at(self) -> datetime:
        """When its call started, as the row tells it, or the earliest moment at which it can have."""
        return self.started_at or max(self.claimed_at, self.due_at)


@dataclass(frozen=True)
class EndpointFacts:
    """A row of `job_endpoints` at the end. `steady` tells that nobody changed it, so that its grid is known.

    `once_at` is set for an endpoint that runs once. Retries are judged where `retry_limit` is above zero; nobody
    changes such an endpoint. `last_slot_at` is the last slot that a claim used up.
    """

    id: UUID
    label: str
    steady: bool
    repeats: bool
    interval: timedelta
    anchor_at: datetime
    next_run_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None
    once_at: datetime | None = None
    retry_limit: int = 0
    last_slot_at: datetime | None = None


@dataclass(frozen=True)
class Change:
    """What a person did, committed at some moment from `before` to `after`.

    `at` is the time that a one-shot hint or a press of run-now asks for, or where an edit or a reset lets the grid of
    the `interval` begin, `until` the end of a hint or a pause,
    `fence` that of the endpoint at the change: a claim under a higher fence came later, any other before.
    """

    endpoint_id: UUID
    kind: ChangeKind
    before: datetime
    after: datetime
    fence: int
    at: datetime | None = None
    interval: timedelta | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Window:
    """A span of time in which something kept schedulers from their work."""

    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class Freeze(Window):
    """A worker process that stood still."""

    pid: int


@dataclass(frozen=True)
class Term:
    """A worker process that was told to stop. This excuses nothing."""

    told_at: datetime
    pid: int


@dataclass(frozen=True)
class Faults:
    """What was done to the schedulers; `others` are outages, cut connections and times with no scheduler at all."""

    freezes: tuple[Freeze, ...] = ()
    others: tuple[Window, ...] = ()
    terms: tuple[Term, ...] = ()

    @property
    def windows(self) -> list[Window]:
        """All spans in which something excuses a scheduler."""
        return [*self.freezes, *self.others]
